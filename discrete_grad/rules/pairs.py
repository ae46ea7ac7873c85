"""Pairs of context and row that rules allow."""

from __future__ import annotations

from torch import Tensor

from discrete_grad.rules.rules import Rules

__all__ = ["allowed_pairs"]


def allowed_pairs(rules: Rules, *, max_rows: int) -> Tensor | None:
    """Codes `(num_rows, C + F)` of every context with each row allowed; None for more of them.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> allowed_pairs(Rules(CategoricalSpace.from_sizes((2,))), max_rows=10).tolist()
        [[0], [1]]
    """
    return rules._terms.automaton.enumerate() if rules.num_rows <= max_rows else None
