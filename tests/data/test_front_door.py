"""Real tables at the front door: scores as people write them, intervals, constants, many faults."""

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from discrete_grad.data import TableError, TableWarning, Vocabulary, read_table, write_rows

CUTS = ["fair", "good"] * 4


@pytest.mark.parametrize(
    "score",
    [
        [True, False] * 4,
        ["True", "False"] * 4,
        [" true", "FALSE "] * 4,
        pd.Categorical(["true", "false"] * 4),
        pa.array([True, False] * 4),
    ],
    ids=["bool", "text", "any case", "declared", "arrow"],
)
def test_true_and_false_are_scores(score: Any, tmp_path: Path) -> None:
    table = read_table({"cut": CUTS, "ok": score}, score="ok")
    assert table.scores.tolist() == [1, 0] * 4


def test_true_and_false_of_a_csv_file_are_scores(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", {"cut": CUTS, "ok": [True, False] * 4})
    assert read_table(tmp_path / "a.csv", score="ok:min").scores.tolist() == [-1, 0] * 4


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("yes", "'yes' is not a number; write a score of yes and no as 1 and 0, or as true and"),
        ("$1,200", "'$1,200' is not a number; write it without signs and separators, as 1200"),
        ("1,200.5 €", "write it without signs and separators, as 1200.5"),
        ("12 %", "write it without signs and separators, as 12"),
        ("12 EUR", "write it without signs and separators, as 12"),
        ("high", "'high' is not a number"),
        ("true", "'true' is not a number"),
    ],
)
def test_a_score_that_is_nearly_a_number_says_how_to_write_it(value: str, message: str) -> None:
    with pytest.raises(TableError) as raised:
        read_table({"cut": CUTS, "price": ["3"] * 4 + [value] * 4}, score="price")
    text = str(raised.value)
    assert text.startswith("column 'price', row 5: ")
    assert message in text
    assert text.endswith(message) or "write" in message


def test_a_constant_column_is_left_out_and_told() -> None:
    rows = {"cut": CUTS, "shop": ["east"] * 8, "note": [None] * 8, "price": range(8)}
    with pytest.warns(TableWarning) as caught:
        table = read_table(rows, score="price")
    assert [str(warning.message) for warning in caught] == [
        "column 'shop' has one category, 'east': there is nothing to choose, and is left out",
        "column 'note' has only missing cells: there is nothing to choose, and is left out",
    ]
    assert caught[0].filename == __file__
    assert [feature.name for feature in table.schema.features] == ["cut"]
    with pytest.raises(TableError, match="feature 'shop' has one category, 'east'"):
        read_table(rows, score="price", features=["cut", "shop"])


def test_all_faults_of_a_table_are_told_at_once() -> None:
    rows = {
        "cut": ["fair", None] * 15,
        "shade": [None, *"DE" * 14, "D"],
        "number": [f"u{i}" for i in range(30)],
        "shop": ["east", "west"] * 15,
        "price": ["high", *map(str, range(29))],
    }
    features = ["cut", "shade", "number", "size"]
    with pytest.raises(TableError) as raised:
        read_table(rows, score="price", context=["shop:numeric", "region"], features=features)
    first, *faults = str(raised.value).splitlines()
    assert first == "the table has 7 problems:"
    for fault, told in zip(
        faults,
        [
            "the table has no context column 'region'",
            "the table has no feature column 'size'",
            "column 'number' looks like an identifier, with 30 different values in 30 rows; "
            "'number:categorical' keeps it",
            "column 'cut', row 2: the value is missing (and in 14 more); with missing='category'",
            "column 'shade', row 1: the value is missing; with missing='category'",
            "column 'price', row 1: 'high' is not a number",
            "column 'shop', row 1: 'east' is not a number",
        ],
        strict=True,
    ):
        assert fault.startswith(told)


def test_many_faults_are_counted() -> None:
    rows = {f"c{i}": [None, 1, 2] for i in range(30)} | {"price": [1, 2, 3]}
    with pytest.raises(TableError) as raised:
        read_table(rows, score="price")
    lines = str(raised.value).splitlines()
    assert (lines[0], len(lines), lines[-1]) == ("the table has 30 problems:", 22, "and 10 more")


def test_rows_of_faults_are_counted_as_the_table_does_after_others_are_left_out() -> None:
    rows = {"cut": [None, *CUTS], "shop": [*"ababababa"], "price": ["1"] * 8 + ["high"]}
    rows["size"] = ["1"] * 8 + ["big"]
    with (
        pytest.warns(TableWarning, match="1 of 9 rows has a missing cell"),
        pytest.raises(TableError) as raised,
    ):
        read_table(rows, score=["price", "size"], missing="drop")
    assert str(raised.value).splitlines()[1:] == [
        "column 'price', row 9: 'high' is not a number",
        "column 'size', row 9: 'big' is not a number",
    ]


SIZES = [1.0, 4.0, 8.0, 12.0, 30.0, 5.0, 9.0, 15.0]
ENDS = [0, 5, 10, 100]


@pytest.mark.parametrize("kind", ["pandas", "plain", "text", "csv", "polars", "arrow"])
def test_intervals_keep_their_order_and_are_read_back(kind: str, tmp_path: Path) -> None:
    cut = pd.cut(pd.Series(SIZES), ENDS)
    labels = ["(0, 5]", "(5, 10]", "(10, 100]"]
    frame = pd.DataFrame({"size": cut, "price": range(8)})
    plain = frame.assign(size=[str(one) for one in cut])
    sources: dict[str, Any] = {
        "pandas": frame,
        "plain": frame.assign(size=pd.arrays.IntervalArray(list(cut))),
        "text": plain,
        "csv": tmp_path / "rows.csv",
        "polars": pl.DataFrame(plain),
        "arrow": pa.Table.from_pandas(frame),
    }
    plain.to_csv(tmp_path / "rows.csv", index=False)
    (feature,) = read_table(sources[kind], score="price").schema.features
    assert feature == Vocabulary("size", tuple(labels), ordered=True)
    for again in (cut, [str(one) for one in cut]):
        assert feature.encode(again).tolist() == [0, 0, 1, 2, 2, 0, 1, 2]


def test_intervals_of_every_kind_are_in_order() -> None:
    texts = ["[10.5, inf)", "(-inf, -2)", "[1e1, 10.5)", "[-2, 10)"]
    table = read_table({"size": texts * 2, "price": range(8)}, score="price")
    assert table.schema.features[0].values == tuple(texts[i] for i in (1, 3, 2, 0))
    assert table.schema.features[0].ordered
    rows = {"size": [*texts, "none"] * 2, "price": range(10)}
    assert not read_table(rows, score="price").schema.features[0].ordered


def test_intervals_with_missing_cells() -> None:
    frame = pd.DataFrame({"size": pd.cut(pd.Series([*SIZES, -1.0]), ENDS), "price": range(9)})
    (feature,) = read_table(frame, score="price", missing="category").schema.features
    assert feature.values == ("(0, 5]", "(5, 10]", "(10, 100]", None)
    with pytest.raises(TableError, match="column 'size', row 9: the value is missing"):
        read_table(frame, score="price")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_marks_between_columns_are_read(mark: str, tmp_path: Path) -> None:
    text = mark.join(["cut", "price"]) + "\n" + "".join(f'"a,{i % 2}"{mark}{i}\n' for i in range(8))
    (tmp_path / "rows.csv").write_text(text)
    table = read_table(tmp_path / "rows.csv", score="price")
    assert table.schema.features[0].values == ("a,0", "a,1")
    (tmp_path / "rows.csv").write_text(text + f"a{mark}1{mark}2\n")
    with pytest.raises(TableError, match="row 9 has 3 values, the header has 2"):
        read_table(tmp_path / "rows.csv", score="price")


@pytest.mark.parametrize("head", [",cut,price", '"",cut,price'])
def test_an_index_without_a_name_is_left_out(head: str, tmp_path: Path) -> None:
    lines = [head, *(f"{i},{CUTS[i]},{i}" for i in range(8))]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    assert [f.name for f in read_table(tmp_path / "rows.csv", score="price").schema.features] == [
        "cut"
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines).replace("cut", "", 1))
    with pytest.raises(TableError, match="column 1 has no name"):
        read_table(tmp_path / "rows.csv", score="price")


def test_words_for_missing_numbers_are_missing_and_stay_categories_among_text(
    tmp_path: Path,
) -> None:
    lines = ["country,size,price", "NA,1,2", "NA,NA,3", "DE,2,N/A", "FR,?,5", "FR,1,1"]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    told = r"read as missing cells: 2 in 'size', 1 in 'price'"
    with (
        pytest.warns(TableWarning, match=told),
        pytest.warns(TableWarning, match="1 of 5 rows has a missing cell"),
    ):
        table = read_table(
            tmp_path / "rows.csv", score="price", features=["country"], missing="drop"
        )
    assert table.schema.features[0].values == ("FR", "NA")
    with (
        pytest.warns(TableWarning, match=told),
        pytest.raises(TableError, match=r"'price', row 3: the value is missing; with missing='dr"),
    ):
        read_table(tmp_path / "rows.csv", score="price", missing="category")
