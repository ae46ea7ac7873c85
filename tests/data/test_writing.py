"""`write_rows`: what it writes, what it refuses, and that a file is complete or absent."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from discrete_grad.data import TableError, output_format, read_table, write_rows

COLUMNS: dict[str, list[Any]] = {"a,b": ["x", 'q"', "new\nline", ""], "n": [1, 2.5, None, True]}


def test_the_suffix_decides() -> None:
    assert output_format("rows.CSV") == "csv"
    assert output_format("rows.parquet") == "parquet"


def test_csv_quotes_what_needs_it(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", COLUMNS)
    expected = '"a,b",n\nx,1\n"q""",2.5\n"new\nline",\n"",True\n'
    assert (tmp_path / "rows.csv").read_bytes().decode() == expected


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_formula_comes_back_as_the_text_it_was(tmp_path: Path, name: str) -> None:
    """Nothing is put before it: another category would be read."""
    cells = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "'=1", "ideal"]
    write_rows(tmp_path / name, {"cut": cells, "=score": list(range(7))})
    table = read_table(tmp_path / name, score="=score", features=["cut:categorical"])
    assert table.schema.decode_features(table.codes.long())["cut"] == cells


@pytest.mark.parametrize("mark", [",", '"', "\n", "\r", "\r\n"])
def test_cells_of_csv_come_back_with_what_separates_cells_and_rows(
    tmp_path: Path, mark: str
) -> None:
    cells = [f"a{mark}b", f"{mark}c", f"d{mark}"]
    write_rows(tmp_path / "rows.csv", {f"cut{mark}": cells, "score": [1, 2, 3]})
    table = read_table(tmp_path / "rows.csv", score="score")
    assert table.schema.decode_features(table.codes.long()) == {f"cut{mark}": cells}


def test_parquet_keeps_types(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"x": ["a", None], "y": [1.5, 2.5], "z": np.array([1, 2])}
    write_rows(tmp_path / "rows.parquet", columns)
    read = pq.read_table(tmp_path / "rows.parquet").to_pydict()
    assert read == {"x": ["a", None], "y": [1.5, 2.5], "z": [1, 2]}


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_no_rows_are_written_too(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / name, {"x": [], "y": []})
    assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_rows(path, {"x": ["old"]})
    before = path.read_bytes()

    class Unwritable:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(TableError, match="cannot be"):
        write_rows(path, {"x": ["fine", Unwritable()]})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    class Interrupting:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path / "rows.csv", {"x": ["fine", Interrupting()]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.xlsx", "must end in .csv or .parquet, got .xlsx"),
        ("rows", "must end in .csv or .parquet, got no suffix"),
        ("absent/rows.csv", "there is no folder"),
        ("folder.csv", "is a directory"),
    ],
)
def test_targets_that_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match=message):
        write_rows(tmp_path / name, {"x": [1]})


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_columns_of_different_lengths_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=r"different lengths: {'x': 1, 'y': 2}"):
        write_rows(tmp_path / name, {"x": [1], "y": [1, 2]})
