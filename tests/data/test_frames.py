"""Frames out: columns as the kind of table that came in."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from discrete_grad.data.arrow import as_table
from discrete_grad.data.frames import as_rows, frame_like, with_columns

ROWS: dict[str, Any] = {"cut": ["fair", "good"], "size": [1, 2]}
NEW: dict[str, Any] = {"size": [2, 1], "score": [0.5, None]}


def test_single_values_are_one_row_and_all_else_stays() -> None:
    assert as_rows({"cut": "fair", "size": None}) == {"cut": ["fair"], "size": [None]}
    for source in (ROWS, {"cut": "fair", "size": [2]}, {}, pd.DataFrame(ROWS), "rows.csv"):
        assert as_rows(source) is source
    mixed = {"cut": np.array(["fair"]), "size": 2}
    assert as_rows(mixed) is mixed


@pytest.mark.parametrize("source", [ROWS, None, "rows.csv", pd.DataFrame(ROWS)])
def test_most_sources_are_answered_by_pandas(source: Any) -> None:
    pd.testing.assert_frame_equal(frame_like(source, NEW), pd.DataFrame(NEW))


def test_polars_and_arrow_are_answered_in_kind() -> None:
    found = frame_like(pl.DataFrame(ROWS), {**NEW, "mixed": [1, "a"]})
    assert isinstance(found, pl.DataFrame)
    assert found.to_dict(as_series=False) == {**NEW, "mixed": ["1", "a"]}
    table = frame_like(pa.table(ROWS), NEW)
    assert isinstance(table, pa.Table)
    assert table.to_pydict() == NEW


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, dict])
def test_further_columns_come_behind_or_in_place(make: Any) -> None:
    source = make(ROWS)
    found = with_columns(source, as_table(source), NEW)
    assert isinstance(found, pd.DataFrame if make is dict else type(source))
    columns = list(found.column_names if make is pa.table else found.columns)
    assert columns == ["cut", "size", "score"]
    cells = found.to_pydict() if make is pa.table else {n: list(found[n]) for n in columns}
    assert (cells["cut"], cells["size"], cells["score"][0]) == (["fair", "good"], [2, 1], 0.5)
    assert make(ROWS)["size"][0] == source["size"][0]  # the source is as it was


def test_the_index_of_a_pandas_frame_is_kept() -> None:
    source = pd.DataFrame(ROWS, index=["a", "b"])
    found = with_columns(source, as_table(source), NEW)
    assert list(found.index) == ["a", "b"]


def test_a_path_is_answered_with_what_was_read() -> None:
    found = with_columns("rows.csv", pa.table(ROWS), {"score": [1, 2]})
    pd.testing.assert_frame_equal(found, pd.DataFrame({**ROWS, "score": [1, 2]}))


def test_without_pandas_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^rows come back as a pandas frame, and pandas is not"):
        frame_like(None, NEW)
