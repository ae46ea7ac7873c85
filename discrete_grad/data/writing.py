"""Rows into a file: CSV or Parquet, complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from numpy.typing import NDArray

from discrete_grad.atomic import open_atomic
from discrete_grad.data.arrow import arrow, from_mapping
from discrete_grad.data.errors import TableError, as_table_error

__all__ = ["output_format", "write_rows"]

Columns: TypeAlias = Mapping[str, Sequence[Any] | NDArray[Any]]


def output_format(path: str | os.PathLike[str]) -> Literal["csv", "parquet"]:
    """The format that `write_rows` would write, for a check before a long computation.

    Raises:
        TableError: if the suffix is neither `.csv` nor `.parquet`, the folder does not exist, or
            the path is a folder.

    Example:
        >>> output_format("rows.csv")
        'csv'
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise TableError(f"{target} must end in .csv or .parquet, got {suffix or 'no suffix'}")
    if target.is_dir():
        raise TableError(f"{target} is a directory, not a file")
    if not target.parent.is_dir():
        raise TableError(f"there is no folder {target.parent} to write {target.name} to")
    return "csv" if suffix == ".csv" else "parquet"


def write_rows(path: str | os.PathLike[str], columns: Columns) -> None:
    """Write columns to a CSV or Parquet file, by the suffix, atomically.

    The file appears complete under its name or not at all: it is written beside it and renamed. An
    existing file is replaced. In CSV None is an empty cell and empty text a quoted one, so that
    `read_table` tells them apart.

    Raises:
        TableError: as `output_format`, for columns of different lengths, or if writing fails.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "rows.csv")
        ...     write_rows(path, {"cut": ["fair", "a,b"], "price": [1.5, None]})
        ...     print(path.read_text(), end="")
        cut,price
        fair,1.5
        "a,b",
    """
    target = Path(path)
    kind = output_format(target)
    _require_equal_lengths(columns)
    with as_table_error(f"{target} cannot be written"), open_atomic(target) as file:
        if kind == "csv":
            _write_csv(file, columns)
        else:
            arrow("parquet").write_table(from_mapping(columns), file)


def _write_csv(file: BinaryIO, columns: Columns) -> None:
    file.write((",".join(map(_cell, columns)) + "\n").encode())
    for row in zip(*columns.values(), strict=True):
        line = ",".join(map(_cell, row))
        if not line:  # which readers pass over
            raise TableError(
                "a CSV file of one column cannot hold a missing cell: write a .parquet file"
            )
        file.write((line + "\n").encode())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    # the csv module leaves empty text bare, which would read as missing
    if not text or any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _require_equal_lengths(columns: Columns) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise TableError(f"the columns have different lengths: {lengths}")
