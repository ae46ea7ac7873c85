"""Context columns as they were given, to be written beside the rows made for them."""

from __future__ import annotations

from typing import Any

from discrete_grad.data.arrow import ArrowColumn, arrow
from discrete_grad.data.columns import factorize, numbers
from discrete_grad.data.schema import NumericColumn
from discrete_grad.data.vocabulary import Vocabulary

__all__: list[str] = []


def given_values(kind: Vocabulary | NumericColumn, column: ArrowColumn) -> list[Any]:
    """A context column's values; those of a numeric one, which CSV has as text, as numbers."""
    values: list[Any] = column.to_pylist()
    if isinstance(kind, Vocabulary):
        return _shortest(kind, column) if _is_narrow(column.type) else values
    if not any(isinstance(value, str) for value in values):
        return values
    try:
        return [int(value) for value in values]
    except ValueError:
        parsed: list[Any] = numbers(column, kind.name).tolist()
        return parsed


def _is_narrow(kind: Any) -> bool:
    pa = arrow()
    return bool(pa.types.is_floating(kind)) and kind != pa.float64()


def _shortest(kind: Vocabulary, column: ArrowColumn) -> list[Any]:
    """Numbers of float32 as the categories are: 0.3, not 0.30000001192092896."""
    different, codes = factorize(column, kind.name, missing=True)
    return [different[code] for code in codes]
