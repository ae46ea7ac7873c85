"""Rows near enough to an observed one, where a fit gives `trust` a weight."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from discrete_grad.hamming import nearest_hamming
from discrete_grad.runs._parts import RunParts

__all__ = ["trusted", "trusted_starts"]

_STARTS = 256


def trusted(run: RunParts) -> Callable[[Tensor], Tensor] | None:
    """Whether rows `(n, F)` lie within `trust_radius` of an observed one; None without `trust`.

    What a run writes does: the weight decides how the generator is trained, not which rows it may
    write.
    """
    config = run.config.generator
    if not config.trust:
        return None
    known = run.rows.codes.unique(dim=0)

    def near(codes: Tensor) -> Tensor:
        return nearest_hamming(codes, known) <= config.trust_radius

    return near


def trusted_starts(run: RunParts) -> Tensor | None:
    """The best observed rows `(n, F)`, by which a search finds the trusted ones; None without."""
    if not run.config.generator.trust:
        return None
    best = run.rows.scores.argsort(descending=True, stable=True)
    return run.rows.codes[best[:_STARTS]].long()
