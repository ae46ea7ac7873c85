"""Frames out: columns as the kind of table that came in."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from discrete_grad.data.arrow import ArrowTable, from_mapping
from discrete_grad.data.sources import Source

__all__ = ["as_rows", "frame_like", "with_columns"]


def as_rows(source: Source) -> Source:
    """The source itself; a dict of single values as a table of one row.

    Example:
        >>> as_rows({"cut": "fair", "size": 2})
        {'cut': ['fair'], 'size': [2]}
    """
    if not isinstance(source, Mapping) or not source:
        return source
    if any(hasattr(value, "__len__") and not isinstance(value, str) for value in source.values()):
        return source
    return {name: [value] for name, value in source.items()}


def frame_like(source: object, columns: Mapping[str, Sequence[Any]]) -> Any:
    """Columns as a frame: polars or Arrow where the source is one, and pandas otherwise.

    Args:
        source: the table that came in, of any kind that `read_table` takes, or None.
        columns: name -> values.

    Raises:
        ImportError: if pandas is needed and not installed.

    Example:
        >>> frame_like({"cut": ["fair"]}, {"cut": ["good"], "score": [1.5]})
            cut  score
        0  good    1.5
    """
    kind = type(source).__module__.partition(".")[0]
    if kind == "pyarrow":
        return from_mapping(columns)
    if kind == "polars":
        return importlib.import_module("polars").DataFrame(dict(columns), strict=False)
    return _pandas().DataFrame(dict(columns))


def with_columns(source: Source, table: ArrowTable, columns: Mapping[str, Sequence[Any]]) -> Any:
    """The source's frame with further columns, in place of those of the same names.

    Args:
        source: as in `frame_like`; of a pandas frame the index is kept.
        table: the source as it was read.
        columns: name -> values, one a row of the source.

    Example:
        >>> import pyarrow as pa
        >>> with_columns({"cut": ["fair"]}, pa.table({"cut": ["fair"]}), {"score": [1.5]})
            cut  score
        0  fair    1.5
    """
    kind = type(source).__module__.partition(".")[0]
    if kind == "pandas":
        return source.assign(**columns)  # type: ignore[union-attr]
    if kind == "polars":
        polars = importlib.import_module("polars")
        further = [polars.Series(name, values) for name, values in columns.items()]
        return source.with_columns(further)  # type: ignore[union-attr]
    kept = {name: table.column(name) for name in table.column_names}
    if kind != "pyarrow":
        kept = {name: column.to_pylist() for name, column in kept.items()}
    return frame_like(source, kept | dict(columns))


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError(
            "rows come back as a pandas frame, and pandas is not installed: "
            "pip install 'discrete_grad[tables]'"
        ) from error
