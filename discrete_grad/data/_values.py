"""Categories as plain Python values: what may be one, and text that stands for one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from discrete_grad.data.errors import TableError, listing, shown

__all__: list[str] = []

Value: TypeAlias = str | int | float | bool | None


def checked_values(name: str, given: object) -> tuple[Value, ...]:
    """The categories of one column as Python's own values, all of one kind but for a last None.

    Raises:
        TableError: for no category, one twice, or categories of different or other kinds.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TableError(f"feature {name!r} needs a sequence of categories, got {shown(given)}")
    # numpy and torch scalars become Python's own
    values = tuple(value.item() if hasattr(value, "item") else value for value in given)
    missing = values[-1:] == (None,)
    values = values[:-1] if missing else values
    kinds = {type(value) for value in values}
    if kinds == {int, float}:
        values, kinds = tuple(map(float, values)), {float}
    if len(kinds) != 1 or not kinds <= {str, int, float, bool}:
        raise TableError(
            f"feature {name!r} needs categories of one kind, text, integers, numbers or booleans, "
            f"got {listing(values, 6) or 'none'}"
        )
    _require_distinct_finite(name, values)
    return (*values, None) if missing else values


def _require_distinct_finite(name: str, values: Sequence[Value]) -> None:
    if len(set(values)) < len(values):
        raise TableError(f"feature {name!r} has a category twice: {listing(values)}")
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise TableError(f"feature {name!r}: {value} cannot be a category")


def parse(text: str, kind: type) -> Value:
    """The text as a value of that kind, or the text itself, which then matches nothing."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        # exact for integers beyond 2**53
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        return text
