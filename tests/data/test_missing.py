"""Missing cells: refused, a category of their own, or their rows left out."""

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discrete_grad.data import (
    Schema,
    TableError,
    TableWarning,
    Vocabulary,
    read_contexts,
    read_table,
    write_rows,
)
from discrete_grad.data.columns import factorize, numbers

ROWS: dict[str, Any] = {
    "cut": ["good", None, "fair", "good"],
    "size": [1, 2, None, 2],
    "shop": ["west", "east", "east", None],
    "price": [1.0, 2.0, 3.0, 4.0],
    "score": [4.0, 3.0, 2.0, 1.0],
}
SOURCES = {
    "dict": lambda rows, _: rows,
    "pandas": lambda rows, _: pd.DataFrame(rows),
    "polars": lambda rows, _: pl.DataFrame(rows),
    "arrow": lambda rows, _: pa.table(rows),
    "csv": lambda rows, folder: _written(folder / "rows.csv", rows),
    "parquet": lambda rows, folder: _written(folder / "rows.parquet", rows),
}


def _written(path: Path, rows: dict[str, Any]) -> Path:
    write_rows(path, rows)
    return path


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.string()])
def test_a_null_is_missing_whatever_the_type(kind: Any) -> None:
    known, given = pa.array([1, 2, 1]).cast(pa.float32()), pa.array([True, False, True])
    column = pa.chunked_array([pa.compute.if_else(given, known.cast(kind), pa.scalar(None, kind))])
    with pytest.raises(TableError, match="column 'size', row 2: the value is missing"):
        factorize(column, "size")
    values, codes = factorize(column, "size", missing=True)
    assert values[1] is None
    assert codes.tolist() == [0, 1, 0]


@pytest.mark.parametrize("convert", SOURCES.values(), ids=SOURCES)
def test_a_missing_cell_is_a_category_of_its_own(convert: Any, tmp_path: Path) -> None:
    source = convert(ROWS, tmp_path)
    table = read_table(source, score="score", context=["shop", "price"], missing="category")
    cut, size = table.schema.features
    assert cut.values == ("fair", "good", None)
    assert size.values[-1] is None
    assert len(size) == 3
    assert table.codes.tolist() == [[1, 0], [2, 1], [0, 2], [1, 1]]
    assert table.schema.context[0].values == ("east", "west", None)
    assert table.context is not None
    assert table.context[:, :3].tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert table.schema.space.categories[0] == ("fair", "good", "(missing)")


@pytest.mark.parametrize("convert", SOURCES.values(), ids=SOURCES)
def test_rows_with_missing_cells_are_left_out_and_counted(convert: Any, tmp_path: Path) -> None:
    source = convert({**ROWS, "cut": ["good", None, "fair", "fair"]}, tmp_path)
    told = "2 of 4 rows have a missing cell and are left out: 1 in 'cut', 1 in 'size'"
    with pytest.warns(TableWarning) as caught:
        table = read_table(source, score="score", features=["cut", "size"], missing="drop")
    assert [str(warning.message) for warning in caught] == [told]
    assert caught[0].filename == __file__
    assert table.scores.tolist() == [4, 1]


def test_a_missing_cell_of_a_column_that_is_not_used_drops_nothing() -> None:
    table = read_table(ROWS, score="score", features="price", missing="drop")
    assert len(table) == 4
    assert len(read_table(ROWS, score="score", features="price")) == 4


@pytest.mark.parametrize("convert", SOURCES.values(), ids=SOURCES)
def test_by_default_a_missing_cell_is_an_error_that_says_how_to_go_on(
    convert: Any, tmp_path: Path
) -> None:
    options = (
        "with missing='category' (--missing category) it is a category, "
        "with missing='drop' (--missing drop) such rows are left out"
    )
    expected = (
        "the table has 2 problems:\n"
        f"column 'cut', row 2: the value is missing; {options}\n"
        f"column 'size', row 3: the value is missing; {options}"
    )
    with pytest.raises(TableError) as raised:
        read_table(convert(ROWS, tmp_path), score="score", features=["cut", "size"])
    assert str(raised.value) == expected


@pytest.mark.parametrize("column", [[1.5, None, 2.5, 3.0], np.array([1.5, np.nan, 2.5, 3.0])])
@pytest.mark.parametrize("missing", ["error", "category"])
def test_a_missing_score_is_no_category(column: Any, missing: Any) -> None:
    rows = {"cut": [*"abab"], "score": column}
    with pytest.raises(TableError, match=r"column 'score', row 2: the value is missing; with miss"):
        read_table(rows, score="score", missing=missing)
    with pytest.warns(TableWarning, match="1 of 4 rows has a missing cell and is left out"):
        assert read_table(rows, score="score", missing="drop").scores.tolist() == [1.5, 2.5, 3.0]


def test_nan_of_a_floating_column_is_missing_and_text_that_says_nan_is_not() -> None:
    rows = {"cut": np.array([0.5, np.nan, 1.5]), "text": ["nan", "a", "b"], "score": [1, 2, 3]}
    table = read_table(rows, score="score", missing="category")
    assert [f.values for f in table.schema.features] == [(0.5, 1.5, None), ("a", "b", "nan")]
    assert table.codes.tolist() == [[0, 2], [2, 0], [1, 1]]


def test_declared_order_is_kept_beside_the_missing_category() -> None:
    column = pd.Categorical(["b", None, "a"], categories=["c", "b", "a"])
    table = read_table(
        {"x": pd.Series(column), "score": [1, 2, 3]}, score="score", missing="category"
    )
    assert table.schema.features[0].values == ("c", "b", "a", None)
    assert table.codes[:, 0].tolist() == [1, 3, 2]
    assert table.unseen == {"x": ["c"]}


def test_given_categories_get_one_for_missing_cells_where_there_are_any() -> None:
    given = {"cut": ["ideal", "good", "fair"], "price": [1.0, 2.0, 3.0, 4.0]}
    table = read_table(ROWS, score="score", features=given, missing="category")
    assert table.schema.features[0].values == ("ideal", "good", "fair", None)
    assert table.schema.features[1].values == (1.0, 2.0, 3.0, 4.0)


def test_a_schema_with_the_category_takes_missing_cells_without_being_told() -> None:
    features = ["cut", "size"]
    schema = read_table(ROWS, score="score", features=features, missing="category").schema
    assert read_table(ROWS, score="score", schema=schema).codes.tolist() == [
        *([1, 0], [2, 1], [0, 2], [1, 1])
    ]
    known = read_table({**ROWS, "cut": [*"abab"]}, score="score", features="cut").schema
    with pytest.raises(TableError, match=r"row 2: the value is missing; with missing='drop'"):
        read_table(ROWS, score="score", schema=known, missing="category")


def test_contexts_to_generate_for_may_be_missing_where_they_were() -> None:
    schema = read_table(ROWS, score="score", context="shop", features="price", missing="category")
    columns, encoded = read_contexts({"shop": [None, "east"]}, schema.schema)
    assert columns == {"shop": [None, "east"]}
    assert encoded is not None
    assert encoded.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_contexts_of_narrow_numbers_are_given_back_as_their_categories() -> None:
    rows = {"depth": np.array([0.3, np.nan, 1.5], np.float32), "cut": [*"aba"], "score": [1, 2, 3]}
    table = read_table(rows, score="score", context="depth:categorical", missing="category")
    columns, _ = read_contexts({"depth": np.array([np.nan, 0.3], np.float32)}, table.schema)
    assert columns == {"depth": [None, 0.3]}
    wide = {"depth": np.array([0.3, 1.5])}
    assert read_contexts(wide, table.schema)[0] == {"depth": [0.3, 1.5]}


def test_contexts_that_are_text_are_given_back_as_numbers(tmp_path: Path) -> None:
    rows = {"size": [1.0, 2.0, 3.0], "cut": [*"aba"], "score": [1, 2, 3]}
    schema = read_table(rows, score="score", context="size").schema
    for cells, wanted in ((["2", "1"], [2, 1]), (["2", "1.5"], [2.0, 1.5])):
        path = tmp_path / "contexts.csv"
        path.write_text("\n".join(["size", *cells]))
        columns, _ = read_contexts(path, schema)
        assert repr(columns["size"]) == repr(wanted)
    assert read_contexts({"size": [2, 3]}, schema)[0] == {"size": [2, 3]}


def test_rows_are_counted_as_in_the_file_after_some_are_left_out() -> None:
    rows = {"cut": [None, "a", "b", "c"], "score": ["1", "2", "3", "high"]}
    rows = {name: [*cells, cells[-1]] for name, cells in rows.items()}
    with (
        pytest.warns(TableWarning, match="1 of 5 rows"),
        pytest.raises(TableError, match=r"column 'score', row 4: 'high' is not a number"),
    ):
        read_table(rows, score="score", missing="drop")


def test_the_label_of_the_missing_category_is_no_other_ones() -> None:
    assert Vocabulary("x", ("(missing)", "a", None)).labels == ("(missing)", "a", "((missing))")


@pytest.mark.parametrize(
    ("values", "in_order"),
    [
        ((1, 2), False),
        ((1, 2, None), False),  # two numbers are in no order, with a missing one or without
        ((1, 2, 3), True),
        ((0.5, 1.5, 2.5, None), True),
        ((True, False, None), False),
        (("a", "b", "c", None), False),
    ],
)
def test_the_missing_category_is_not_counted_among_the_numbers(values: Any, in_order: bool) -> None:
    vocabulary = Vocabulary("x", values)
    assert vocabulary.in_order == in_order
    assert Schema((vocabulary,), (), "score").space.ordered == (in_order,)
    assert Vocabulary("x", values, ordered=True).in_order


@pytest.mark.parametrize("values", [(None,), (None, "a"), ("a", None, None), ()])
def test_none_is_the_last_category_or_none_at_all(values: Any) -> None:
    with pytest.raises(TableError, match=r"feature 'x' needs categories of one kind"):
        Vocabulary("x", values)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
KINDS = (TEXT, st.integers(-(2**62), 2**62), st.booleans(), st.floats(-1e9, 1e9))


@st.composite
def gappy_columns(draw: st.DrawFn) -> list[Any]:
    """Two to nineteen values of one kind, at least one of them missing and one not."""
    kind = draw(st.sampled_from(KINDS))
    values = draw(st.lists(st.one_of(st.none(), kind), max_size=17))
    return [draw(kind), *values, None]


@given(gappy_columns())
def test_missing_cells_come_back_through_schema_codes_and_files(column: list[Any]) -> None:
    rows = {"x": column, "score": [float(i) for i in range(len(column))]}
    table = read_table(rows, score="score", missing="category", features="x:categorical")
    schema = Schema.from_json(table.schema.to_json())
    assert schema == table.schema
    decoded = schema.decode_features(table.codes)["x"]
    assert decoded == column
    assert schema.encode_features({"x": decoded}).tolist() == table.codes.tolist()
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("csv", "parquet"):
            path = Path(folder, f"rows.{suffix}")
            write_rows(path, {"x": decoded, "score": rows["score"]})
            again = read_table(path, score="score", schema=schema)
            assert again.codes.tolist() == table.codes.tolist(), suffix
        with path.with_suffix(".csv").open(newline="") as file:
            cells = [row["x"] for row in csv.DictReader(file)]
        assert [cell == "" for cell in cells] == [value in (None, "") for value in column]


def test_nan_is_a_missing_number_only_where_one_may_be() -> None:
    column = pa.chunked_array([[1.0, float("nan"), 2.0, float("nan")]])
    missing = np.isnan(numbers(column, "depth", missing=True)).tolist()
    assert missing == [False, True, False, True]
    with pytest.raises(TableError, match="column 'depth', row 2: nan is not a finite number"):
        numbers(column, "depth")
