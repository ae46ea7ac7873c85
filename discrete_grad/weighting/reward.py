"""The reward by which rows are reweighted, and its values checked."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from discrete_grad.weighting.tilt import check_reward

__all__ = ["Reward"]

Reward = Callable[[Tensor, Tensor | None], Tensor]
"""`(rows (..., *batch, F), context (*batch, C) or None) -> (..., *batch)`; an estimator is one."""


def rewards_of(reward: Reward, rows: Tensor, context: Tensor | None) -> Tensor:
    """Rewards `(S, *batch)` in float64 of rows `(S, *batch, ...)`; ValueError for another shape."""
    values = reward(rows, context)
    if values.shape != rows.shape[:-1]:
        got = f"{tuple(values.shape)} for rows {tuple(rows.shape)}"
        raise ValueError(f"a reward must be {tuple(rows.shape[:-1])}, got {got}")
    check_reward(values)
    return values.double()
