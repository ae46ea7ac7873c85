"""Words among the numbers of a column: for a missing cell, or by a slip."""

from __future__ import annotations

import warnings

from discrete_grad.data.arrow import ArrowColumn, ArrowTable, arrow
from discrete_grad.data.columns import is_declared, is_numeric_text, is_text
from discrete_grad.data.errors import TableWarning

__all__: list[str] = []

_WORDS = ("NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "?", ".", "-")
# text that is no number is a slip, and no category, among so many different numbers
_SOME_NUMBERS, _FEW_TEXTS = 10, 0.1


def with_gaps(table: ArrowTable) -> ArrowTable:
    """The table with `NA` and the like missing, in columns that otherwise hold numbers alone.

    Among text such a word stays a category: NA is a country, too.
    """
    compute, words = arrow("compute"), arrow().array(_WORDS)
    found: dict[str, int] = {}
    for place, name in enumerate(table.column_names):
        column = table.column(place)
        different = compute.unique(column)
        named = compute.is_in(different, value_set=words)
        others = different.filter(compute.invert(named)).drop_null()
        if not compute.any(named).as_py() or not len(others):
            continue
        if is_numeric_text(arrow().chunked_array([others])):
            gaps = compute.is_in(column, value_set=words)
            found[name] = compute.sum(gaps).as_py()
            missing = arrow().scalar(None, column.type)
            table = table.set_column(place, name, compute.if_else(gaps, missing, column))
    if found:
        counts = ", ".join(f"{count:,} in {name!r}" for name, count in [*found.items()][:6])
        more = f" and in {len(found) - 6:,} more columns" if len(found) > 6 else ""
        text = f"words such as NA among numbers are read as missing cells: {counts}{more}"
        warnings.warn(text, TableWarning, stacklevel=5)
    return table


def stray_text(column: ArrowColumn) -> tuple[int, str, int] | None:
    """The first text among numbers: its row, from 0, itself, and how many numbers there are.

    None where a column holds no text, numbers alone, or too few of them to be meant as numbers.
    """
    if is_declared(column) or not is_text(column):
        return None
    compute = arrow("compute")
    texts = [text for text in compute.unique(column).drop_null().to_pylist() if text.strip()]
    strange = [text for text in texts if not _is_number(text)]
    count = len(texts) - len(strange)
    if not strange or count < _SOME_NUMBERS or len(strange) > _FEW_TEXTS * len(texts):
        return None
    return compute.index(column, strange[0]).as_py(), strange[0], count


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
