"""Intervals of pandas as text, and text that says an interval in its order."""

from __future__ import annotations

import json
import re
from typing import Any

from discrete_grad.data._values import Value

__all__: list[str] = []

_NAME = "pandas.interval"
_NUMBER = r"[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf)"
_TEXT = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]", re.IGNORECASE)


def interval_ends(value: Value) -> tuple[float, float] | None:
    """Both ends of an interval of numbers that a text says; None for another text.

    Example:
        >>> interval_ends("(0, 5]"), interval_ends("[-inf, 1e3)"), interval_ends("a, b")
        ((0.0, 5.0), (-inf, 1000.0), None)
    """
    found = _TEXT.fullmatch(str(value).strip()) if isinstance(value, str) else None
    return None if found is None else (float(found[1]), float(found[2]))


def closed_ends(kind: Any, metadata: Any = None) -> str | None:
    """Closed ends of an Arrow type of pandas intervals, as pandas says it; None of another type.

    Args:
        kind: the type.
        metadata: of its field, where pandas is not imported and the type is not known to Arrow.
    """
    if getattr(kind, "extension_name", None) == _NAME:
        return str(kind.closed)
    if metadata and metadata.get(b"ARROW:extension:name") == _NAME.encode():
        return str(json.loads(metadata[b"ARROW:extension:metadata"])["closed"])
    return None


def interval_texts(values: Any, closed: str) -> list[str | None]:
    """The intervals of an Arrow array as pandas writes them, `(0, 5]`."""
    left, right = (
        "[" if closed in ("left", "both") else "(",
        "]" if closed in ("right", "both") else ")",
    )
    return [
        None if one is None else f"{left}{one['left']}, {one['right']}{right}"
        for one in _dicts(values)
    ]


def _dicts(values: Any) -> list[dict[str, Any] | None]:
    storage = getattr(values, "storage", values)
    found: list[dict[str, Any] | None] = storage.to_pylist()
    return found
