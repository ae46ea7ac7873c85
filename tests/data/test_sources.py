"""Where tables come from: files known by their content, and tables in memory."""

import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from discrete_grad.data import (
    TableError,
    read_table,
)


def test_the_source_is_not_changed() -> None:
    columns: dict[str, Any] = {
        "x": np.array([1.5, -0.0]),
        "y": torch.tensor([3, 1]),
        "score": np.array([1.0, 2.0]),
    }
    before = {name: values.tolist() for name, values in columns.items()}
    table = read_table(columns, score="score")
    table.scores.zero_()
    table.codes.zero_()
    assert {name: values.tolist() for name, values in columns.items()} == before


def test_declared_order_survives_parquet_and_chunks(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"x": pd.Categorical(["b", "a", "b"], ["c", "b", "a"]), "score": [1, 2, 3]}
    )
    path = tmp_path / "rows.parquet"
    frame.to_parquet(path, row_group_size=1)
    assert read_table(path, score="score").schema.features[0].values == ("c", "b", "a")
    pl.DataFrame(frame).with_columns(pl.col("x").cast(pl.Enum(["c", "b", "a"]))).write_parquet(path)
    assert read_table(path, score="score").schema.features[0].values == ("c", "b", "a")


def test_polars_categoricals_declare_no_order() -> None:
    frame = pl.DataFrame({"x": ["b", "a"], "score": [1, 2]}).with_columns(
        pl.col("x").cast(pl.Categorical)
    )
    assert read_table(frame, score="score").schema.features[0].values == ("a", "b")


def test_unnamed_pandas_index_is_no_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": ["c", "b", "a"], "score": [1, 2, 3]}).iloc[[2, 0]]
    frame.to_parquet(tmp_path / "rows.parquet")
    for source in (frame, tmp_path / "rows.parquet"):
        assert read_table(source, score="score").schema.space.names == ("x",)


def test_a_missing_cell_ends_a_file_without_a_line_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('score,cut,size\n1,"a","b"\n2,"",')
    table = read_table(path, score="score", missing="category")
    assert table.schema.decode_features(table.codes) == {"cut": ["a", ""], "size": ["b", None]}


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_a_comma_in_a_quoted_name_parts_no_cells(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "rows.csv"
    lines = [["score", '"cut, shade"', "size"], ["1.5", '"a,b"', "s"], ["2", "c", "t"]]
    path.write_text("\n".join(map(delimiter.join, lines)) + "\n")
    table = read_table(path, score="score")
    found = {"cut, shade": ["a,b", "c"], "size": ["s", "t"]}
    assert table.schema.decode_features(table.codes) == found


def test_csv_cells_are_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('x,y,score\n007,"",1\n7,NA,2\n07, a,3\n')
    features = read_table(path, score="score").schema.features
    assert [f.values for f in features] == [("007", "07", "7"), ("", " a", "NA")]


@pytest.mark.parametrize("name", ["rows.csv", "rows.txt", "rows", "rows.CSV"])
def test_csv_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x,score\na,1\nb,2\n")
    assert len(read_table(str(tmp_path / name), score="score")) == 2


@pytest.mark.parametrize("name", ["rows.parquet", "rows.pq", "rows", "a=b.data"])
def test_parquet_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "hive=1"
    folder.mkdir()
    pq.write_table(pa.table({"x": ["a", "b"], "score": [1, 2]}), folder / name)
    # a folder with an equals sign adds no column
    assert read_table(folder / name, score="score").schema.space.names == ("x",)


def test_csv_layout_does_not_matter(tmp_path: Path) -> None:
    plain = "x,y,score\na,1,1\nb,2,2\n"
    variants = {
        "crlf": plain.replace("\n", "\r\n"),
        "bom": f"\ufeff{plain}",
        "quoted": '"x","y","score"\n"a","1","1"\n"b","2","2"\n',
        "blank_lines": plain.replace("\n", "\n\n"),
        "no_final_newline": plain.rstrip(),
        "padded_numbers": plain.replace(",1\n", ", 1 \n"),
    }
    for name, text in variants.items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(text.encode())
        table = read_table(path, score="score")
        assert table.schema.space.categories == (("a", "b"), ("1", "2")), name
        assert table.scores.tolist() == [1, 2], name


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"x": ["a", "b"], "score": [1, 2, 3]}, "column 'score' has 3 values, column 'x' has 2"),
        ({"x": ["a", 1], "score": [1, 2]}, "column 'x' cannot be converted to Arrow"),
        ({"x": "ab", "score": [1, 2]}, "column 'x' must be a sequence, got str"),
        ({"x": 5, "score": [1, 2]}, "column 'x' cannot be converted to Arrow"),
        ({"x": np.ones((2, 2)), "score": [1, 2]}, r"one dimension, got shape \(2, 2\)"),
        ({"x": torch.ones(()), "score": [1, 2]}, r"one dimension, got shape \(\)"),
        ({1: [1, 2], "score": [1, 2]}, "column names are strings, got 1"),
        ({"x": [2**70, 1], "score": [1, 2]}, "column 'x' cannot be converted"),
        ({}, "no rows, only the columns"),
        ({"x": [], "score": []}, "no rows, only the columns 'x', 'score'"),
        (
            {"x": [[1], [2]], "score": [1, 2]},
            "column 'x' holds list<.*>, which cannot be categories",
        ),
        ({"x": [{"a": 1}] * 2, "score": [1, 2]}, "column 'x' holds struct<.*>, which cannot"),
        ({"x": [b"a", b"b"], "score": [1, 2]}, "column 'x' holds binary, which cannot"),
        ({"x": [None, None], "score": [1, 2]}, "no feature is left: column 'x' has only missing"),
        ({"x": [1.0, np.inf], "score": [1, 2]}, "column 'x', row 2: inf is not a finite number"),
        ({"x": [1, 2], "score": ["a", None]}, "column 'score', row 2: the value is missing"),
        ({"x": [1, 2], "score": [datetime.date.today()] * 2}, "holds date32.*, but numbers"),
        ({"x": ["a", "a"], "score": [1, 2]}, "column 'x' has one category, 'a'"),
        (pd.DataFrame({"x": ["a", 1], "score": [1, 2]}), "the table cannot be converted to Arrow"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column names found"),
        (pa.array([1, 2]), "the table|a table is a path"),
        (pl.Series([1, 2]), "the table cannot be converted"),
        (5, "a table is a path, a dict of columns, or a pandas, polars or Arrow table, got int"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_tables_in_memory_are_told(rows: Any, message: str) -> None:
    with pytest.raises(TableError, match=message) as raised:
        read_table(rows, score="score")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["a", "b"])])
def test_missing_polars_values_are_found(kind: Any) -> None:
    frame = pl.DataFrame({"x": ["a", None], "score": [1, 2]}).with_columns(pl.col("x").cast(kind))
    with pytest.raises(TableError, match="column 'x', row 2: the value is missing"):
        read_table(frame, score="score")


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["1.5", "2"])])
def test_polars_text_may_be_numbers(kind: Any) -> None:
    frame = pl.DataFrame({"x": ["a", "b"], "score": ["1.5", "2"]})
    table = read_table(frame.with_columns(pl.col("score").cast(kind)), score="score")
    assert table.scores.tolist() == [1.5, 2]


def test_missing_values_hidden_in_a_dictionary_are_found() -> None:
    column = pa.DictionaryArray.from_arrays([0, 1, 0], ["a", None])
    with pytest.raises(TableError, match="column 'x', row 2: the value is missing"):
        read_table({"x": column, "score": [1, 2, 3]}, score="score")


def test_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'discrete_grad\[tables\]'"):
        read_table({}, score="score")


def test_a_separator_tears_no_quoted_name_apart(tmp_path: Path) -> None:
    """A name may hold pairs of quotes, and other separators."""
    path = tmp_path / "rows.csv"
    path.write_text('price;"cut ""x""";"a, b"\n1;u;k\n2;v;l\n')
    table = read_table(path, score="price")
    assert table.schema.space.names == ('cut "x"', "a, b")
    for delimiter in (",", ";", "\t", "|"):
        path.write_text("\n".join(delimiter.join(row) for row in (["s", "a b"], "1x", "2y")))
        assert read_table(path, score="s").schema.space.names == ("a b",)
