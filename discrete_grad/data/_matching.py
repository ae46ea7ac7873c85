"""The categories of a column that a written value means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from discrete_grad.data._bins import bin_codes
from discrete_grad.data._values import Value, parse
from discrete_grad.data.errors import TableError, closest, listing, shown

__all__: list[str] = []

_RANGE = ".."


def matching_codes(
    name: str,
    wanted: object,
    *,
    labels: Sequence[str],
    values: Sequence[Value],
    edges: Sequence[float],
) -> list[int]:
    """Codes of the categories that a value means; see `Vocabulary.matching`."""
    if str(wanted) in labels:
        return [labels.index(str(wanted))]
    found = _in_range(str(wanted), values, edges)
    if found is None:
        found = _of_number(wanted, values, edges)
    if not found:
        within = "lies wholly in" if _RANGE in str(wanted) else "is"
        text = "no category " + (f"{within} {wanted}" if edges else f"is {shown(wanted)}")
        raise TableError(
            f"feature {name!r}: {text}; there are {listing(labels, 6)}{closest(wanted, labels)}"
        )
    return found


def _of_number(wanted: object, values: Sequence[Value], edges: Sequence[float]) -> list[int]:
    """The category that is a number, or the interval that holds it."""
    number = _number(str(wanted))
    if edges:
        return [] if number is None else [c for c in bin_codes(np.array([number]), edges) if c >= 0]
    if number is not None and (numbers := _numbers(values)):
        return [code for code, one in enumerate(numbers) if one == number]
    value = parse(str(wanted), type(values[0]))  # true and false, in any case
    return [code for code, one in enumerate(values) if one is value and one is not None]


def _in_range(text: str, values: Sequence[Value], edges: Sequence[float]) -> list[int] | None:
    """The categories in a range, None for a text that is none or a column without numbers."""
    first, dots, last = text.partition(_RANGE)
    low = _number(first) if first.strip() else -math.inf
    high = _number(last) if last.strip() else math.inf
    if not dots or low is None or high is None:
        return None
    numbers = _numbers(values)
    spans = list(itertools.pairwise(edges)) if edges else list(zip(numbers, numbers, strict=True))
    return [code for code, (a, b) in enumerate(spans) if low <= a and b <= high] if spans else None


def _numbers(values: Sequence[Value]) -> list[float]:
    """The categories as numbers, missing cells aside; none where one is not a number."""
    known = values[:-1] if values[-1] is None else values
    numbers = [_number(str(value)) for value in known]
    return [] if None in numbers else numbers  # type: ignore[return-value]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
