"""The one adapter to pyarrow: loaded when first needed, and the way in for tables in memory."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from torch import Tensor

from discrete_grad.data._intervals import closed_ends, interval_texts
from discrete_grad.data.errors import TableError, as_table_error, listing, shown

__all__: list[str] = []

# pyarrow ships no type information
ArrowColumn: TypeAlias = Any
ArrowTable: TypeAlias = Any

# pandas gives this name to an index without one; such an index is no column of the user's
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


@runtime_checkable
class ArrowStream(Protocol):
    """Anything with the Arrow C stream interface: pandas, polars and Arrow tables among others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A capsule with the stream."""


def arrow(module: str = "") -> Any:
    """Import `pyarrow`, or one of its modules.

    Raises:
        ImportError: if pyarrow is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError as error:
        raise ImportError(
            "tables need pyarrow, which is not installed: pip install 'discrete_grad[tables]'"
        ) from error


def as_table(source: object) -> ArrowTable:
    """Arrow table of a table in memory, without a copy where the source is Arrow already.

    Raises:
        TableError: for an unsupported source, and as `check_table`.
    """
    if isinstance(source, Mapping):
        table = from_mapping(source)
    elif isinstance(source, ArrowStream):
        with as_table_error("the table cannot be converted to Arrow"):
            table = arrow().table(source)
    else:
        raise TableError(
            "a table is a path, a dict of columns, or a pandas, polars or Arrow table, "
            f"got {type(source).__name__}"
        )
    return check_table(_tidy(table))


def check_table(table: ArrowTable) -> ArrowTable:
    """The table itself.

    Raises:
        TableError: if it has no row, or a column without a name or with another one's name.
    """
    names = table.column_names
    check_names(names)
    if not table.num_rows:
        raise TableError(f"the table has no rows, only the columns {listing(names) or '(none)'}")
    return table


def check_names(names: list[str]) -> None:
    """Raise `TableError` for an empty or a repeated column name."""
    for position, name in enumerate(names, start=1):
        if not name:
            raise TableError(
                f"column {position} has no name; was an index written with the table? "
                "(pandas: to_csv(..., index=False))"
            )
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise TableError(f"the table has duplicate column names: {listing(repeated)}")


def as_column(values: object, name: str) -> ArrowColumn:
    """Chunked Arrow array of a list, array, tensor, Series or Arrow array.

    Raises:
        TableError: if it is not one-dimensional or its values have no common type.
    """
    pa = arrow()
    if isinstance(values, pa.ChunkedArray):
        return _without_intervals(values)
    if isinstance(values, Tensor):
        # numpy has no bfloat16
        values = (values.float() if values.is_floating_point() else values).detach().cpu().numpy()
    if isinstance(values, str | bytes | Mapping):
        raise TableError(f"column {name!r} must be a sequence, got {type(values).__name__}")
    shape = tuple(getattr(values, "shape", (0,)))
    if len(shape) != 1:
        raise TableError(f"column {name!r} must have one dimension, got shape {shape}")
    with as_table_error(f"column {name!r} cannot be converted to Arrow"):
        streams = isinstance(values, ArrowStream)
        column = pa.chunked_array(values) if streams else pa.chunked_array([pa.array(values)])
        return _without_intervals(column)


def decoded(column: ArrowColumn) -> ArrowColumn:
    """The values of a dictionary column, without the dictionary."""
    pa = arrow()
    kind = column.type.value_type
    if pa.types.is_string_view(kind):
        # pyarrow has no kernel that takes from string views
        kind = pa.large_string()
    chunks = [chunk.dictionary.cast(kind).take(chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(chunks, type=kind)


def from_halves(column: ArrowColumn) -> ArrowColumn:
    """Half precision as its shortest decimals in float64; pyarrow before 26 does not encode it."""
    halves = column.cast(arrow().float64()).to_numpy().astype(np.float16)
    decimals = halves.astype(str).astype(np.float64)
    return arrow().chunked_array([arrow().array(decimals, mask=column.is_null().to_numpy())])


def from_mapping(source: Mapping[Any, object]) -> ArrowTable:
    """Arrow table of a dict of columns, which may have no rows.

    Raises:
        TableError: for a name that is no string, columns of different lengths, or as `as_column`.
    """
    columns: dict[str, ArrowColumn] = {}
    for name, values in source.items():
        if not isinstance(name, str):
            raise TableError(f"column names are strings, got {shown(name)}")
        columns[name] = as_column(values, name)
        first = next(iter(columns))
        if len(columns[name]) != len(columns[first]):
            raise TableError(
                f"column {name!r} has {len(columns[name]):,} values, "
                f"column {first!r} has {len(columns[first]):,}"
            )
    return arrow().table(columns)


def _tidy(table: ArrowTable) -> ArrowTable:
    """Without unnamed pandas indices; polars Categoricals, whose order means nothing, as text.

    Intervals of pandas are text. String views are large strings, because most of pyarrow's kernels
    do not take views.
    """
    table = table.drop_columns([n for n in table.column_names if _UNNAMED_INDEX.fullmatch(n)])
    for i, field in enumerate(table.schema):
        if any(key.startswith(b"_PL_CATEGORICAL") for key in field.metadata or ()):
            table = table.set_column(i, field.name, decoded(table.column(i)))
        elif arrow().types.is_string_view(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(arrow().large_string()))
        elif closed_ends(_kind(field.type), field.metadata):
            plain = _without_intervals(table.column(i), field.metadata)
            table = table.set_column(i, field.name, plain)
    return table


def _kind(kind: Any) -> Any:
    """The type itself, of a dictionary that of its values."""
    return kind.value_type if arrow().types.is_dictionary(kind) else kind


def _without_intervals(column: ArrowColumn, metadata: Any = None) -> ArrowColumn:
    """The column, with intervals of pandas as their texts, in their declared order if any."""
    closed = closed_ends(_kind(column.type), metadata)
    if closed is None:
        return column
    pa = arrow()
    if not pa.types.is_dictionary(column.type):
        texts = [interval_texts(chunk, closed) for chunk in column.chunks]
        return pa.chunked_array([pa.array(t, pa.large_string()) for t in texts], pa.large_string())
    kind = pa.dictionary(column.type.index_type, pa.large_string(), column.type.ordered)
    chunks = [
        pa.DictionaryArray.from_arrays(
            chunk.indices,
            pa.array(interval_texts(chunk.dictionary, closed), pa.large_string()),
            ordered=column.type.ordered,
        )
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, type=kind)
