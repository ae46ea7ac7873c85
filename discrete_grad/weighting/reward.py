"""The reward by which rows are reweighted, and its values checked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.weighting.tilt import check_reward

__all__ = ["Reward"]

Reward = Callable[[Tensor, Tensor | None], Tensor]
"""`(rows (..., *batch, F), context (*batch, C) or None) -> (..., *batch)`; an estimator is one.

Bools, integers and NumPy arrays count as rewards, too.
"""


def reward_tensor(values: object, rows: Tensor) -> Tensor:
    """Rewards of any type as a floating tensor, where the rows are.

    Example:
        >>> reward_tensor(torch.tensor([True, False]), torch.zeros(2, 1))
        tensor([1., 0.], dtype=torch.float64)
    """
    found = torch.as_tensor(values, device=rows.device)
    return found if found.is_floating_point() else found.double()


def rewards_of(reward: Reward, rows: Tensor, context: Tensor | None) -> Tensor:
    """Rewards `(S, *batch)` in float64 of rows `(S, *batch, ...)`; ValueError for another shape."""
    values = reward_tensor(reward(rows, context), rows)
    if values.shape != rows.shape[:-1]:
        got = f"{tuple(values.shape)} for rows {tuple(rows.shape)}"
        raise ValueError(f"a reward must be {tuple(rows.shape[:-1])}, got {got}")
    check_reward(values)
    return values.double()
