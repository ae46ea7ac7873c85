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


def check_name(fit: Fit, name: str) -> None:
    """Fail unless a fit of two steps logs under its usual name, and under one that is given."""
    assert logged(fit) == ({name}, [0, 1, 2])
    assert logged(fit, stage="mine") == ({"mine"}, [0, 1, 2])


def check_noise(fit: Fit, name: str) -> None:
    """Fail unless a fit's losses follow from the name of its stage and its seed, 0 by default."""
    losses = [
        fit(**given).losses
        for given in ({}, {"stage": name, "seed": 0}, {"stage": "mine"}, {"seed": 1})
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert losses[0] != losses[3]
