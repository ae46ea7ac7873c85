"""`read_table` and `read_contexts`: kinds of columns, given vocabularies, schemas, subsets."""

import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from discrete_grad.data import (
    NumericColumn,
    TableError,
    Vocabulary,
    read_contexts,
    read_table,
)

ROWS: dict[str, Any] = {
    "cut": ["good", "fair", "good", "ideal"],
    "size": [2, 10, 2, 1],
    "shop": ["west", "east", "east", "west"],
    "price": [1.0, 2.0, 3.0, 4.0],
    "score": [4, 3, 2, 1],
}


def values_of(column: Any, **options: Any) -> tuple[Any, ...]:
    """The inferred vocabulary of one feature column."""
    scores = list(range(len(column)))
    return (
        read_table({"x": column, "score": scores}, score="score", **options)
        .schema.features[0]
        .values
    )


def test_parts_have_their_shapes_and_types() -> None:
    table = read_table(ROWS, score="score", context=["shop", "price"])
    assert table.schema.space.names == ("cut", "size")
    assert table.codes.dtype == torch.uint8
    assert table.codes.tolist() == [[1, 1], [0, 2], [1, 1], [2, 0]]
    assert table.scores.dtype == torch.float64
    assert table.scores.tolist() == [4, 3, 2, 1]
    assert table.context is not None
    assert table.context.dtype == torch.float32
    assert table.context[:, :2].tolist() == [[0, 1], [1, 0], [1, 0], [0, 1]]
    assert table.context[:, 2].mean().item() == pytest.approx(0, abs=1e-6)
    assert len(table) == 4


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["b", "B", "a10", "a2"], ("B", "a10", "a2", "b")),
        ([10, 9, -1], (-1, 9, 10)),
        ([0.5, -0.0, 0.0], (0.0, 0.5)),
        ([True, False], (False, True)),
        (np.array([0.3, 0.1], dtype=np.float32), (0.1, 0.3)),
        (np.array([0.5, 0.1, -0.0, 0.0], dtype=np.float16), (0.0, 0.1, 0.5)),
        (np.array([200, 3], dtype=np.uint8), (3, 200)),
        ([decimal.Decimal("1.50"), decimal.Decimal("1.25")], (1.25, 1.5)),
        (pa.array(["b", "a"], pa.string_view()), ("a", "b")),
        (pd.Series(pd.Categorical(["b", "a"], categories=["c", "b", "a"])), ("c", "b", "a")),
        (pl.Series(["b", "a"], dtype=pl.Enum(["c", "b", "a"])), ("c", "b", "a")),
        (pa.DictionaryArray.from_arrays([1, 0], [2.5, 0.5]), (2.5, 0.5)),
        # a null among the categories: the rest is sorted
        (pa.DictionaryArray.from_arrays([2, 0], ["y", None, "x"]), ("x", "y")),
        (pa.DictionaryArray.from_arrays([1, 0], pa.array([2, 1], pa.decimal128(3, 1))), (1.0, 2.0)),
    ],
    ids=str,
)
def test_categories_are_sorted_or_in_declared_order(column: Any, expected: Any) -> None:
    assert values_of(column) == expected


@pytest.mark.parametrize(
    ("context", "kinds"),
    [
        (["shop", "price", "size"], [Vocabulary, NumericColumn, NumericColumn]),
        (["size:categorical", "price:numeric"], [Vocabulary, NumericColumn]),
        ("size:categorical", [Vocabulary]),
        ("price", [NumericColumn]),
    ],
)
def test_context_kinds(tmp_path: Path, context: Any, kinds: list[type]) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False)
    for source in (ROWS, tmp_path / "rows.csv"):
        schema = read_table(source, score="score", context=context).schema
        assert [type(column) for column in schema.context] == kinds


def test_a_colon_may_be_part_of_a_name() -> None:
    rows = {"x": ["a", "b"], "size:numeric": [1, 2], "score": [1, 2]}
    schema = read_table(rows, score="score", context="size:numeric").schema
    assert schema.context == (NumericColumn("size:numeric", 1.5, 0.5),)


def test_boolean_and_declared_contexts_are_categorical() -> None:
    rows = {
        **ROWS,
        "shop": [True, False, True, False],
        "price": pd.Series([1, 2, 1, 2], dtype="category"),
    }
    schema = read_table(rows, score="score", context=["shop", "price"]).schema
    assert schema.context == (Vocabulary("shop", (False, True)), Vocabulary("price", (1, 2)))


def test_a_table_is_shown_in_one_line() -> None:
    names = [f"f{i}" for i in range(14)]
    columns: dict[str, list[Any]] = {name: ["a", "b", "b"] for name in names}
    columns |= {
        "shop": ["x", "y", "x"],
        "price": [1.0, 2.0, 3.0],
        "cost": [-0.5, 3e6, 0.0],
        "ok": [True, True, False],
    }
    table = read_table(columns, score="cost:min", context=["shop", "price:numeric"], feasible="ok")
    assert repr(table) == (
        f"<table; rows: 2, and 1 that failed; features: {' (2), '.join(names[:12])} (2) "
        "and 2 more; contexts: shop (2), price; scores: cost (-0.5 to 3e+06)>"
    )
    several = read_table({"cut": ["a", "b"], "u": [1, 2], "v": [0.25, 0]}, score=["u", "v:min"])
    assert repr(several) == "<table; rows: 2; features: cut (2); scores: u (1 to 2), v (0 to 0.25)>"
    assert repr(several.take([])) == "<table; rows: 0; features: cut (2); scores: u, v>"
    none = read_table({"cut": ["a", "b"]}, score=None)
    assert repr(none) == "<table; rows: 2; features: cut (2)>"


def test_a_constant_context_is_allowed() -> None:
    rows = {name: column[:3] for name, column in ROWS.items()}
    rows |= {"shop": ["east"] * 3, "price": [0.1] * 3}  # whose deviation rounds to 1e-17
    table = read_table(rows, score="score", context=["shop", "price"])
    assert table.context is not None
    assert table.context[:, 0].tolist() == [1] * 3
    assert table.context[:, 1].abs().max() < 1e-6
    assert isinstance(table.schema.context[1], NumericColumn)
    assert table.schema.context[1].scale == 1


def test_features_may_be_chosen_and_their_order_is_kept() -> None:
    assert read_table(ROWS, score="score", features=["size", "cut"]).schema.space.names == (
        "size",
        "cut",
    )
    assert read_table(ROWS, score="score", features="cut").schema.space.names == ("cut",)


def test_vocabularies_may_be_given() -> None:
    given: dict[str, Any] = {
        "size": [1, 2, 3, 10],
        "cut": Vocabulary("any", ("ideal", "good", "fair")),
    }
    table = read_table(ROWS, score="score", features=given)
    assert table.schema.features == (
        Vocabulary("size", (1, 2, 3, 10)),
        Vocabulary("cut", ("ideal", "good", "fair")),
    )
    assert table.codes.tolist() == [[1, 1], [3, 2], [1, 1], [0, 0]]


def test_given_vocabulary_must_cover_the_column() -> None:
    with pytest.raises(TableError, match="column 'size', row 2: 10 is not among the 2 known"):
        read_table(ROWS, score="score", features={"size": [1, 2]})


def test_a_schema_fixes_codes() -> None:
    schema = read_table(ROWS, score="score", context="shop", features=["cut", "size"]).schema
    one = {name: values[3:] for name, values in ROWS.items()}
    table = read_table(one, score="score", schema=schema)
    assert table.codes.tolist() == [[2, 0]]
    assert table.schema is schema
    with pytest.raises(ValueError, match="give neither beside it"):
        read_table(one, score="score", schema=schema, context="shop")


SEVERAL = {**ROWS, "weight": [1, 5, 2, 8], "depth": [0.5, -1.0, 2.0, 0.25]}


def test_of_several_scores_the_first_is_the_score_and_none_is_a_feature() -> None:
    table = read_table(SEVERAL, score=("depth", "score", "weight"), context="shop")
    assert table.schema.space.names == ("cut", "size", "price")
    assert (table.schema.score, table.schema.more_scores) == ("depth", ("score", "weight"))
    assert table.scores.tolist() == [0.5, -1.0, 2.0, 0.25]
    assert table.more_scores is not None
    assert table.more_scores.dtype == torch.float64
    assert table.more_scores.tolist() == [[4, 1], [3, 5], [2, 2], [1, 8]]
    assert table.all_scores.tolist() == [[0.5, 4, 1], [-1, 3, 5], [2, 2, 2], [0.25, 1, 8]]


def test_one_score_may_be_named_alone_or_in_a_list() -> None:
    alone, listed = (read_table(ROWS, score=score) for score in ("score", ["score"]))
    assert alone.schema == listed.schema
    assert alone.schema.more_scores == ()
    assert alone.more_scores is listed.more_scores is None
    assert torch.equal(alone.scores, listed.scores)
    assert torch.equal(alone.all_scores, alone.scores.unsqueeze(1))


def test_several_scores_of_a_csv_file_and_of_some_of_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    pd.DataFrame(SEVERAL).to_csv(path, index=False)
    table = read_table(path, score=["score", "weight", "depth"], context="price")
    assert table.more_scores is not None
    assert table.more_scores.tolist() == [[1, 0.5], [5, -1], [2, 2], [8, 0.25]]
    part = table.take([3, 0])
    assert part.more_scores is not None
    assert part.more_scores.tolist() == [[8, 0.25], [1, 0.5]]
    assert part.all_scores[:, 0].tolist() == part.scores.tolist() == [1, 4]


def test_the_scores_of_a_table_with_a_schema_are_those_that_are_named() -> None:
    several, alone = ["score", "weight"], "weight"
    schema = read_table(SEVERAL, score=several, features=["cut", "size"]).schema
    table = read_table(SEVERAL, score=several, schema=schema)
    assert table.schema is schema
    assert table.all_scores.tolist() == [[4, 1], [3, 5], [2, 2], [1, 8]]
    other = read_table(SEVERAL, score=alone, schema=schema)
    assert other.schema.features == schema.features
    assert (other.schema.score, other.schema.more_scores) == ("weight", ())
    assert (other.scores.tolist(), other.more_scores) == ([1, 5, 2, 8], None)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, 2.0, None, 4.0], "column 'depth', row 3: the value is missing"),
        ([1.0, float("nan"), 3.0, 4.0], "column 'depth', row 2: (nan is not|the value is missing)"),
        ([1.0, 2.0, 3.0, -float("inf")], "column 'depth', row 4: -inf is not a finite number"),
        (["1", "high", "3", "4"], "column 'depth', row 2: 'high' is not a number"),
        ([3, 3, 3, 3], "column 'depth': every row has the score 3, nothing can be learned"),
    ],
)
def test_a_bad_further_score_is_told_by_its_name(column: list[Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_table({**SEVERAL, "depth": column}, score=["score", "weight", "depth"])


@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        ([], {}, "no score is given"),
        (["score", "weight", "score"], {}, "score columns are given twice: 'score'"),
        (["score", "weigth"], {}, "no score column 'weigth'.*did you mean 'weight'"),
        (
            ["score", "weight"],
            {"context": ["weight"]},
            "column 'weight' cannot be both score and context",
        ),
        (
            ["score", "weight"],
            {"context": "weight:categorical"},
            "column 'weight' cannot be both score and context",
        ),
        (
            ["score", "weight"],
            {"features": ["cut", "weight"]},
            "column 'weight' cannot be both score and feature",
        ),
    ],
)
def test_names_of_scores_that_cannot_be(score: Any, options: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_table(SEVERAL, score=score, **options)


@pytest.mark.parametrize(
    "indices", [[2, 0], torch.tensor([2, 0]), np.array([2, 0]), [], [False, True, False, True]]
)
def test_take(indices: Any) -> None:
    table = read_table(ROWS, score="score", context="shop")
    kept = [*map(int, indices)]
    rows = [1, 3] if kept == [0, 1, 0, 1] else kept
    part = table.take(indices)
    assert part.scores.tolist() == table.scores[rows].tolist()
    assert part.codes.tolist() == table.codes[rows].tolist()
    assert part.context is not None
    assert len(part.context) == len(part) == len(rows)
    assert read_table(ROWS, score="score").take(indices).context is None


def test_text_of_many_values_is_no_categorical_context() -> None:
    names = [f"x{i}" for i in range(3_000)]
    rows = {"x": names, "y": [0, 1, 2] * 1_000, "score": range(3_000)}
    with pytest.raises(
        TableError, match=r"column 'x' has 3,000 different values in 3,000 rows.* bin it"
    ):
        read_table(rows, score="score", context="x")


def test_a_numeric_context_may_be_too_large_to_standardise() -> None:
    rows = {**ROWS, "price": [1e308, -1e308, 1e308, 1e308]}
    with pytest.raises(TableError, match="column 'price' cannot be standardised"):
        read_table(rows, score="score", context="price")


def test_contexts_are_returned_as_given_and_encoded(tmp_path: Path) -> None:
    schema = read_table(ROWS, score="score", context=["price", "shop"]).schema
    path = tmp_path / "contexts.csv"
    path.write_text("extra,shop,price\n?,west,2.50\n?,east,1\n")
    columns, encoded = read_contexts(path, schema)
    assert columns == {"price": [2.5, 1.0], "shop": ["west", "east"]}
    assert encoded is not None
    assert encoded[:, :2].tolist() == [[0, 1], [1, 0]]
    assert encoded[0, 2] == 0
    typed, same = read_contexts({"price": [2.5, 1], "shop": ["west", "east"]}, schema)
    assert typed == {"price": [2.5, 1], "shop": ["west", "east"]}
    assert same is not None
    assert torch.equal(encoded, same)


def test_contexts_and_schema_must_agree_on_whether_there_are_any() -> None:
    without, with_context = (
        read_table(ROWS, score="score", context=c).schema for c in ((), "shop")
    )
    assert read_contexts(None, without) == ({}, None)
    with pytest.raises(TableError, match="the schema has no context columns"):
        read_contexts({"shop": ["east"]}, without)
    with pytest.raises(TableError, match="contexts are needed: a table with the columns 'shop'"):
        read_contexts(None, with_context)


@pytest.mark.parametrize(
    ("texts", "values"),
    [(["12", "-3"], [12, -3]), (["12", "1.5"], [12.0, 1.5]), (["1e3", "0"], [1000.0, 0.0])],
)
def test_numeric_contexts_read_as_text_are_given_as_numbers(
    tmp_path: Path, texts: list[str], values: list[float]
) -> None:
    columns = {"cut": ["a", "b"] * 2, "shop": ["1", "2"] * 2, "price": [1.5, 2.5, 3.0, 4.0]}
    context = ["price:numeric", "shop:categorical"]
    table = read_table(columns | {"score": [1.0, 2.0, 3.0, 4.0]}, score="score", context=context)
    path = tmp_path / "contexts.csv"
    path.write_text("price,shop\n" + "".join(f"{text},1\n" for text in texts))
    found = read_contexts(path, table.schema)[0]
    assert found == {"price": values, "shop": ["1", "1"]}
    assert [type(value) for value in found["price"]] == [type(value) for value in values]


def test_categories_that_no_row_has_may_be_left_out() -> None:
    cut = pd.Categorical(["fair", "best", "fair"], ["good", "fair", "ideal", "best"], ordered=True)
    table = pd.DataFrame({"cut": cut, "size": [0, 1, 2], "score": [1.0, 2.0, 3.0]})
    kept, left = (read_table(table, score="score", unseen=u) for u in ("keep", "drop"))
    assert kept.unseen == {"cut": ["good", "ideal"]}
    assert left.unseen == {}
    assert left.schema.features[0].values == ("fair", "best")
    assert left.schema.features[1] == kept.schema.features[1]
    assert left.schema.space.ordered == (True, True)
    assert left.codes.tolist() == [[0, 0], [1, 1], [0, 2]]
    assert left.codes.dtype == kept.codes.dtype
    for one, other in ((kept, left), (left, kept)):
        decoded = [t.schema.decode_features(t.codes)["cut"] for t in (one, other)]
        assert decoded[0] == decoded[1] == ["fair", "best", "fair"]
    again = read_table(table, score="score", schema=kept.schema, unseen="drop")
    assert again.schema == kept.schema
