"""Masks of logits, as statements beside those of rules."""

from __future__ import annotations

import math

from torch import Tensor

from discrete_grad.rules._compile import Numbered
from discrete_grad.rules._parts import Counted
from discrete_grad.rules.scope import Scope
from discrete_grad.space import can_inspect

__all__ = ["has_masks", "masks_of"]


def has_masks(logits: Tensor) -> bool:
    """Whether a logit is `-inf`, as far as values may be looked at."""
    return can_inspect(logits) and bool((logits == -math.inf).any())


def masks_of(
    scope: Scope, logits: Tensor, context: Tensor | None, place: tuple[int, ...]
) -> list[Numbered]:
    """The categories that logits `(D,)` and a context leave, as statements of no rule."""
    allowed = [(part > -math.inf).tolist() for part in scope.row.split(logits)]
    if context is not None and scope.context is not None:
        pairs = zip(context[place].tolist(), scope.context.sizes, strict=True)
        allowed = [[k == code for k in range(size)] for code, size in pairs] + allowed
    return [
        Numbered(-1, Counted((feature,), (tuple(map(int, some)),), 1, None))
        for feature, some in enumerate(allowed)
    ]
