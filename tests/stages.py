"""A fit logs under the name of its stage, and tells its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Fit = Callable[..., Any]


def logged(fit: Fit, **options: Any) -> tuple[set[str], list[int]]:
    """The names before the slash of what a fit of two steps logs, and the steps it is told."""
    names: list[str] = []
    steps: list[int] = []
    fit(
        log=lambda metrics, step: names.extend(metrics),
        callback=lambda model, step: steps.append(step),
        **options,
    )
    return {name.split("/")[0] for name in names}, steps
