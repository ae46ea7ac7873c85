"""Settings, batches of contexts and optimiser, shared by all distillations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from discrete_grad.policies import Generator
from discrete_grad.sampling import isolated_seed
from discrete_grad.training.loop import Step, trained_parameters
from discrete_grad.weighting import Factorised, Reference, RewardWeighted

__all__ = ["DistillConfig"]

Loss = Callable[[Step], Tensor]


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Settings of a distillation: Adam, whose learning rate falls to 0.

    Example:
        >>> DistillConfig(steps=50).samples
        32
    """

    steps: int = 500
    """Number of optimiser steps."""
    batch_size: int = 64
    """Number of contexts of each step, drawn with replacement; each once if there are no more."""
    samples: int = 32
    """Number of rows drawn for each context of a batch."""
    learning_rate: float = 5e-3
    """Peak learning rate; it falls along a cosine."""

    def check(self) -> None:
        """Raise ValueError for a number out of range; every distillation calls it first."""
        for name in ("steps", "batch_size", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


@dataclass(frozen=True)
class Batch:
    """Rows that a policy learns from in one step.

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


def module_of(policy: Reference | Generator) -> nn.Module:
    """The module whose parameters a policy has."""
    module = policy.generator if isinstance(policy, Factorised) else policy
    if not isinstance(module, nn.Module):
        raise TypeError(f"a policy that is trained must be a module, got {type(module).__name__}")
    return module


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
    """Name of the context at a place of a batch: its row among all contexts."""
    return f"context {int(index[place])}" if index is not None and place else "the distribution"


def descend(
    module: nn.Module, loss: Loss, config: DistillConfig, *, seed: int, stage: str
) -> list[float]:
    """Minimise a loss in the parameters of a module that require a gradient; each step's loss.

    No other parameter that the loss depends on receives a gradient.

    Raises:
        ValueError: if nothing is to be trained, or the loss is no longer finite.
    """
    config.check()
    parameters = trained_parameters(module)
    optimiser = torch.optim.Adam(parameters, config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    losses = []
    for index in range(config.steps):
        step = Step(seed, stage, index)
        with isolated_seed(step.noise_seed, parameters[0].device):
            value = loss(step)
        losses.append(float(value.detach()))
        if not math.isfinite(losses[-1]):
            raise ValueError(f"the loss of step {index} is {losses[-1]}; it must be finite")
        gradients = torch.autograd.grad(value, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        schedule.step()
    optimiser.zero_grad()
    return losses
