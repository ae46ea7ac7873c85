"""Objective of a stage that holds nothing out: any function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from discrete_grad.training.loop import Objective, Step
from discrete_grad.training.optimiser import PLAIN

__all__ = ["StepLoss"]


class StepLoss(Objective):
    """A function of the step as the loss; nothing is held out.

    Args:
        model: holds the parameters that are trained.
        loss: of a step, `()`.
        state: whatever else changes from step to step, to be kept in the checkpoints.
    """

    optimiser = PLAIN

    def __init__(
        self, model: nn.Module, loss: Callable[[Step], Tensor], state: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model, self.loss, self.state = model, loss, state

    def forward(self, step: Step) -> Tensor:
        """Loss of one step; ValueError, before any weight is changed, if it is not finite."""
        loss = self.loss(step)
        if not math.isfinite(value := float(loss.detach())):
            raise ValueError(f"the loss of step {step.index} is {value}; it must be finite")
        return loss

    def validate(self) -> None:
        """Nothing is held out."""
