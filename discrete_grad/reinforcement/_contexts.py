"""Batches of contexts, and what messages call one of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.reinforcement.distill_config import DistillConfig
from discrete_grad.training.loop import Step
from discrete_grad.weighting import RewardWeighted

__all__: list[str] = []


@dataclass(frozen=True)
class Batch:
    """Contexts, target and noise of one step.

    Args:
        index: places `(B,)` of the contexts among all; None without contexts.
        context: `(B, C)`, or None.
        target: the distribution wanted, its beta that of these contexts.
        noise: source of the noise.
    """

    index: Tensor | None
    context: Tensor | None
    target: RewardWeighted
    noise: torch.Generator


def check_contexts(context: Tensor | None) -> None:
    """Raise unless the contexts are `(N, C)` or None."""
    if context is not None and (context.dim() != 2 or not len(context)):
        raise ValueError(f"contexts must be (N, C) with N >= 1, got {tuple(context.shape)}")


def batch_index(context: Tensor | None, step: Step, config: DistillConfig) -> Tensor | None:
    """Places `(B,)` of the step's contexts among `(N, C)`; None without contexts."""
    if context is None:
        return None
    if len(context) <= config.batch_size:
        return torch.arange(len(context), device=context.device)
    return step.batch(len(context), config.batch_size).to(context.device)


def taken(values: Tensor | None, index: Tensor | None) -> Tensor | None:
    """The values of a batch, `(B, ...)` of `(N, ...)`."""
    return values if values is None or index is None else values[index]


def context_name(index: Tensor | None, place: tuple[int, ...]) -> str:
    """The name in messages of the context at a place of a batch: by its row among all contexts."""
    return f"context {int(index[place])}" if index is not None and place else "the distribution"
