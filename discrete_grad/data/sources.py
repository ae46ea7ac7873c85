"""Everything a table can come from: CSV and Parquet files, and tables in memory."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from discrete_grad.data._gaps import with_gaps
from discrete_grad.data.arrow import (
    ArrowStream,
    ArrowTable,
    arrow,
    as_table,
    check_names,
    check_table,
)
from discrete_grad.data.errors import TableError, as_table_error
from discrete_grad.data.text_files import kind_of_path

__all__: list[str] = []

Source: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | ArrowStream

_PARQUET_MAGIC = b"PAR1"
_OTHER_FORMATS = {
    b"\x1f\x8b": "compressed with gzip",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"ARROW1": "an Arrow IPC (Feather) file",
}
_BLOCK_BYTES = 1 << 24
_DELIMITERS = (",", ";", "\t", "|")


class Loaded(NamedTuple):
    """An Arrow table, and whether its columns are text because a CSV file knows nothing else."""

    table: ArrowTable
    is_text: bool


def load(source: Source) -> Loaded:
    """Arrow table of any source; what a file is, its content decides.

    Raises:
        TableError: for a file that cannot be read or is not what its name says, an unsupported
            source, no rows, or a column without a name or with another one's name.
    """
    if not isinstance(source, str | os.PathLike):
        return Loaded(as_table(source), is_text=False)
    path = Path(source)
    if _is_parquet(path):
        return Loaded(check_table(_read_parquet(path)), is_text=False)
    return Loaded(check_table(_read_csv(path)), is_text=True)


def _is_parquet(path: Path) -> bool:
    head = _head(path)
    suffix = path.suffix.lower()
    if head.startswith(_PARQUET_MAGIC):
        if suffix == ".csv":
            raise TableError(f"{path} is a Parquet file: rename it to .parquet")
        return True
    for magic, what in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise TableError(f"{path} is {what}: only CSV and Parquet are read")
    if suffix in (".parquet", ".pq"):
        raise TableError(f"{path} is not a Parquet file: if it is CSV, rename it to .csv")
    if b"\0" in head:
        raise TableError(f"{path} is neither Parquet nor CSV: it is not UTF-8 text")
    return False


def _head(path: Path) -> bytes:
    if kind := kind_of_path(path):  # a pipe cannot be read twice, as a table is
        raise TableError(f"{path} is {kind}, not a file")
    if not path.exists():
        raise TableError(f"there is no file {path}")
    with as_table_error(f"{path} cannot be read"), path.open("rb") as file:
        head = file.read(4096)
    if not head.strip():
        raise TableError(f"{path} is empty")
    return head


def _read_parquet(path: Path) -> ArrowTable:
    # ParquetFile and not read_table: a folder called "a=b" above the file would become a column
    with as_table_error(f"{path} is a damaged or truncated Parquet file"):
        with arrow("parquet").ParquetFile(str(path)) as file:
            table = file.read()
            # a damaged page may hold text that is not UTF-8 or codes beyond a dictionary
            table.validate(full=True)
            return as_table(table)


def _read_csv(path: Path) -> ArrowTable:
    header = _csv_header(path)
    try:
        table = arrow("csv").read_csv(_ended(path), **_csv_options(header))
        if table.column_names != header.names:
            raise TableError(f"{path} is not CSV: its header is quoted badly")
    # for a header that is not UTF-8 pyarrow has no exception of its own
    except (arrow().ArrowException, UnicodeDecodeError, OSError) as error:
        raise TableError(f"{path}{_csv_fault(path, header, error)}") from error
    _require_closed_quotes(path, table)
    if header.names[0] == "":  # the index of a pandas frame, or the names of rows in R
        table = table.drop_columns([""])
    return with_gaps(table)


def _ended(path: Path) -> Any:
    """A CSV file as pyarrow takes it, with the end of its last line.

    Without, pyarrow reads a missing cell after a quoted one at the end of the file as empty text.
    """
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        ended = file.read() in b"\r\n"
    return str(path) if ended else arrow().BufferReader(path.read_bytes() + b"\n")


class _Header(NamedTuple):
    names: list[str]
    delimiter: str


def _csv_header(path: Path) -> _Header:
    """Names of the columns, and what separates them: a comma, unless there is none between cells.

    A separator that would tear a quoted name apart, as the comma in `price;"cut, shade"`, is none.
    """
    found = [_Header(_first_row(path, delimiter), delimiter) for delimiter in _DELIMITERS]
    parted = [one for one in found if len(one.names) > 1]
    whole = [one for one in parted if not any(name.count('"') % 2 for name in one.names)]
    header = (whole or parted or found)[0]
    several = len(header.names) > 1
    check_names(header.names[1:] if several and header.names[0] == "" else header.names)
    return header


def _first_row(path: Path, delimiter: str) -> list[str]:
    with as_table_error(f"{path} is not CSV"):
        # an invalid byte is reported by the reader of the whole file
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return next(row for row in csv.reader(file, delimiter=delimiter) if row)


def _csv_options(header: _Header) -> dict[str, Any]:
    csv_module = arrow("csv")
    return {
        "read_options": csv_module.ReadOptions(block_size=_BLOCK_BYTES),
        "parse_options": csv_module.ParseOptions(
            delimiter=header.delimiter, newlines_in_values=True
        ),
        "convert_options": csv_module.ConvertOptions(
            column_types=dict.fromkeys(header.names, arrow().string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    }


def _csv_fault(path: Path, header: _Header, error: Exception) -> str:
    line = _line_that_is_not_utf8(path)
    if line is not None:
        return f" is not UTF-8 text: see line {line}"
    row = _first_ragged_row(path, header)
    if row is not None:
        quote = "; is a quote left open?" if row.text.count('"') % 2 else ""
        return (
            f": row {row.number - 1} has {row.actual_columns} "
            f"{'value' if row.actual_columns == 1 else 'values'}, "
            f"the header has {row.expected_columns}{quote}"
        )
    if "Empty CSV" in str(error):
        return " has no rows, only a header"
    return f" is not CSV: {' '.join(str(error).split())[:300]}"


def _first_ragged_row(path: Path, header: _Header) -> Any | None:
    """Found by a second reading, because rows are numbered only when one thread reads them."""
    found: list[Any] = []

    def stop(row: Any) -> str:
        found.append(row)
        return "error"

    options = _csv_options(header)
    options["read_options"].use_threads = False
    options["parse_options"].invalid_row_handler = stop
    with suppress(arrow().ArrowException):
        arrow("csv").read_csv(_ended(path), **options)
    return found[0] if found else None


def _line_that_is_not_utf8(path: Path) -> int | None:
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return None


def _require_closed_quotes(path: Path, table: ArrowTable) -> None:
    """An open quote swallows the rest of the file into the last cell, which pyarrow accepts."""
    last = table.column(table.num_columns - 1)
    cell = last[-1].as_py() if len(last) else None
    if cell and "\n" in cell and path.read_bytes().count(b'"') % 2:
        raise TableError(f"{path}: row {table.num_rows} has a quote that is left open")
