"""One Arrow column: its distinct values, its numbers, and the first row that is wrong."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discrete_grad.data._values import Value
from discrete_grad.data.arrow import ArrowColumn, ArrowTable, arrow, decoded, from_halves
from discrete_grad.data.errors import RowError, TableError, as_table_error, closest, listing, shown

__all__: list[str] = []

# 2024-05-01, with or without a time, 1.5.2024 and 5/1/24
_DATE = (
    r"^\s*(\d{4}-\d{1,2}-\d{1,2}([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?"
    r"|\d{1,2}([./])\d{1,2}[./](\d{2}|\d{4}))\s*$"
)


def pick(table: ArrowTable, name: str, role: str) -> ArrowColumn:
    """The column of that name, or a `TableError` that says which columns there are."""
    # not by the list of names, which Arrow makes anew for every column picked
    index = table.schema.get_field_index(name)
    if index < 0:
        names = table.column_names
        raise TableError(
            f"the table has no {role} column {name!r}, only {listing(names)}{closest(name, names)}"
        )
    return table.column(index)


def is_declared(column: ArrowColumn) -> bool:
    """Whether the column brings its own categories, in an order of its own."""
    return bool(arrow().types.is_dictionary(column.type))


def is_numeric(column: ArrowColumn) -> bool:
    """Whether the column holds numbers; booleans are none."""
    types = arrow().types
    return any(
        is_kind(column.type) for is_kind in (types.is_integer, types.is_floating, types.is_decimal)
    )


def is_numeric_text(column: ArrowColumn) -> bool:
    """Whether every value of a text column, missing ones aside, parses as a number."""
    return not _fails(_different(column))


def is_ordered(column: ArrowColumn) -> bool:
    """Whether the column's own categories are declared to stand in order."""
    return is_declared(column) and bool(column.type.ordered)


def is_text(column: ArrowColumn) -> bool:
    """Whether the column holds text, with or without categories of its own."""
    return _is_text(_kind(column))


def holds_numbers(column: ArrowColumn) -> bool:
    """Whether all values, missing ones aside, are numbers or text that parses as some."""
    if is_declared(column):
        column = decoded(column)
    return is_numeric(column) or (_is_text(column.type) and is_numeric_text(column))


def holds_dates(column: ArrowColumn) -> bool:
    """Whether all values, missing ones aside, are dates, times or text that looks like dates."""
    if is_declared(column):
        column = decoded(column)
    if not _is_text(column.type):
        return _is_moment(column.type)
    known = _different(column)
    matches = arrow("compute").match_substring_regex(known, _DATE)
    return len(known) > 0 and bool(arrow("compute").all(matches).as_py())


def missing_cells(column: ArrowColumn) -> NDArray[np.bool_]:
    """Whether each cell `(N,)` is missing: empty, or of floating numbers NaN."""
    types = arrow().types
    if is_declared(column) and (_needs_decoding(column) or types.is_floating(_kind(column))):
        column = decoded(column)
    undefined = types.is_floating(column.type)
    cells = arrow("compute").is_null(_without_halves(column), nan_is_null=undefined)
    missing: NDArray[np.bool_] = cells.to_numpy()
    return missing


def distinct_count(column: ArrowColumn, name: str) -> int:
    """Number of different values that are not missing.

    Raises:
        TableError: as `factorize`.
    """
    values, codes = factorize(column, name, missing=True)
    return int((np.bincount(codes) > 0).sum()) - (values[-1:] == [None])


def _without_halves(column: ArrowColumn) -> ArrowColumn:
    """Half precision in float64: pyarrow before 26 tells neither its NaN nor its equal values."""
    halves = arrow().types.is_float16(column.type)
    return column.cast(arrow().float64()) if halves else column


def distinct_numbers(column: ArrowColumn, name: str) -> NDArray[np.float64]:
    """Different numbers `(M,)` of a column of numbers or of text that parses as some, sorted.

    Raises:
        TableError: for a number that is not finite.
    """
    text = _is_text(column.type)
    unique = arrow("compute").unique
    different = _different(column) if text else unique(_without_halves(column)).drop_null()
    cast = different.cast(arrow().float64(), safe=False)
    values: NDArray[np.float64] = np.unique(cast.to_numpy(zero_copy_only=False))
    if not np.isfinite(values[~np.isnan(values)]).all() or (text and np.isnan(values).any()):
        numbers(column, name, missing=True)  # says in which row
    return values[~np.isnan(values)]


def is_padded(column: ArrowColumn) -> bool:
    """Whether a text column has digits after a leading zero, as no number is written: `007`."""
    matches = arrow("compute").match_substring_regex(_different(column), r"^[+-]?0\d")
    return bool(arrow("compute").any(matches).as_py())


def factorize(
    column: ArrowColumn, name: str, *, missing: bool = False
) -> tuple[list[Value], NDArray[np.int64]]:
    """Distinct values, and for each row the position `(N,)` of its value among them.

    The values are in declared order where there is one, otherwise in order of appearance. Declared
    categories that no row has are among them. With `missing`, missing cells are None, the last.

    Raises:
        TableError: for a non-finite value, a type that cannot be a category, or, without `missing`,
            a missing value.
    """
    column = _encoded(column, name, missing)
    positions: dict[Value, int] = {}
    parts: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    seen, lookup = None, parts[0]
    for chunk in column.chunks:
        # chunks may have different dictionaries, but mostly share one
        if seen is None or not chunk.dictionary.equals(seen):
            seen = chunk.dictionary
            values = _plain(seen, name)
            places = [positions.setdefault(v, len(positions)) for v in values]
            lookup = np.array([*places, -1], dtype=np.int64)
        indices = chunk.indices.cast(arrow().int64()).fill_null(-1)
        parts.append(lookup[indices.to_numpy(zero_copy_only=False)])
    codes = np.concatenate(parts)
    if (codes < 0).any():
        codes[codes < 0] = positions.setdefault(None, len(positions))
    _require_categories(list(positions), codes, name)
    return list(positions), codes


def numbers(column: ArrowColumn, name: str, *, missing: bool = False) -> NDArray[np.float64]:
    """The column as finite numbers `(N,)`; text is parsed. With `missing`, missing cells are NaN.

    Raises:
        TableError: for a non-numeric or non-finite value, or, without `missing`, a missing one.
    """
    if not missing:
        require_complete(column, name)
    absent = missing_cells(column) if missing else np.zeros(len(column), dtype=bool)
    types = arrow().types
    if is_declared(column):
        column = decoded(column)
    if _is_text(column.type):
        column = _parsed(column, name)
    elif not is_numeric(column) and not types.is_boolean(column.type):
        raise TableError(f"column {name!r} holds {column.type}, but numbers are needed")
    values: NDArray[np.float64] = column.cast(arrow().float64(), safe=False).to_numpy()
    bad = np.flatnonzero(~np.isfinite(values) & ~absent)
    if bad.size:
        raise RowError(name, bad[0], f"{values[bad[0]]} is not a finite number")
    return values


def require_complete(column: ArrowColumn, name: str) -> None:
    """Raise `TableError` at the first missing value."""
    if column.null_count:
        compute = arrow("compute")
        row = compute.index(compute.is_null(column), value=True).as_py()
        raise RowError(name, row, "the value is missing")


def _encoded(column: ArrowColumn, name: str, missing: bool) -> ArrowColumn:
    pa = arrow()
    if is_declared(column) and _needs_decoding(column):
        column = decoded(column)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    elif pa.types.is_float16(column.type):
        column = from_halves(column)
    if not missing:
        require_complete(column, name)
    elif pa.types.is_null(column.type):
        column = column.cast(pa.large_string())
    elif pa.types.is_floating(column.type):
        undefined = arrow("compute").is_nan(column)
        column = arrow("compute").if_else(undefined, None, column)
    kind = _kind(column)
    if not _can_be_category(kind):
        raise TableError(f"column {name!r} holds {kind}, which cannot be categories")
    return column if is_declared(column) else column.dictionary_encode()


def _kind(column: ArrowColumn) -> Any:
    """Type of the values, of a dictionary column those of its dictionary."""
    return column.type.value_type if is_declared(column) else column.type


def _needs_decoding(column: ArrowColumn) -> bool:
    # a null among the categories hides missing values from null_count
    hidden = any(chunk.dictionary.null_count for chunk in column.chunks)
    return hidden or bool(arrow().types.is_decimal(column.type.value_type))


def _can_be_category(kind: Any) -> bool:
    types = arrow().types
    return (
        _is_text(kind)
        or _is_moment(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or bool(types.is_boolean(kind))
    )


def _is_text(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_moment(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind))


def _plain(dictionary: Any, name: str) -> list[Value]:
    """The dictionary's values as Python's own; dates and times as ISO text."""
    pa = arrow()
    kind = dictionary.type
    if _is_moment(kind):
        with as_table_error(f"column {name!r} cannot be written as text"):
            dictionary = dictionary.cast(pa.large_string())
    if pa.types.is_floating(kind) and kind != pa.float64():
        # the shortest decimal that is this float32: 0.3 and not 0.30000001192092896
        return [float(str(value)) + 0.0 for value in dictionary.to_numpy(zero_copy_only=False)]
    values: list[Any] = dictionary.to_pylist()
    # -0.0 + 0.0 is 0.0
    return [value + 0.0 for value in values] if kind == pa.float64() else values


def _require_categories(values: list[Value], codes: NDArray[np.int64], name: str) -> None:
    bad = [i for i, value in enumerate(values) if _no_category(value)]
    if bad:
        rows = np.flatnonzero(codes == bad[0])
        text = f"{shown(values[bad[0]])} cannot be a category"
        raise RowError(name, rows[0], text) if rows.size else TableError(f"column {name!r}: {text}")


def _different(column: ArrowColumn) -> Any:
    """Different texts of a text column, missing ones aside, without the space around them."""
    return arrow("compute").unique(_trimmed(arrow("compute").unique(column))).drop_null()


def _trimmed(column: ArrowColumn) -> ArrowColumn:
    # string views have no trim kernel
    return arrow("compute").utf8_trim_whitespace(column.cast(arrow().large_string()))


def _parsed(column: ArrowColumn, name: str) -> ArrowColumn:
    text = _trimmed(column)
    if _fails(text):
        # the shortest prefix that does not parse ends at the first bad row
        sizes = range(1, len(text) + 1)
        row = bisect.bisect_left(sizes, True, key=lambda size: _fails(text.slice(0, size)))
        raise RowError(name, row, f"{shown(column[row].as_py())} is not a number")
    return text.cast(arrow().float64())


def _fails(text: ArrowColumn) -> bool:
    try:
        text.cast(arrow().float64())
    except arrow().ArrowInvalid:
        return True
    return False


def _no_category(value: Value) -> bool:
    """Whether it is no number that is finite, or text that no CSV file can hold."""
    if isinstance(value, str):
        return "\0" in value
    return isinstance(value, float) and not np.isfinite(value)
