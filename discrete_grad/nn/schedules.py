"""Temperature schedules: modules whose step is part of the state_dict."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["ConstantSchedule", "ExponentialSchedule", "LinearSchedule", "Schedule"]


class Schedule(nn.Module, ABC):
    """A temperature that changes with the training step: `schedule()` is its value now.

    Call `advance()` once an optimiser step. After `steps` steps the value stays at `end`.

    Args:
        start: value at step 0, above 0.
        end: value from step `steps` on, above 0.
        steps: length in steps, at least 1.

    Raises:
        ValueError: for a value that is not above 0 and finite, or fewer than 1 step.

    Example:
        >>> from discrete_grad.gradient import GumbelSoftmax
        >>> layer = GumbelSoftmax(tau=LinearSchedule(1.0, 0.1, 100))
        >>> layer.tau.advance()
        >>> layer.tau()
        tensor(0.9910)
    """

    step: Tensor

    def __init__(self, start: float, end: float, steps: int) -> None:
        super().__init__()
        if not (0 < start < math.inf and 0 < end < math.inf) or steps < 1:
            raise ValueError(
                "a schedule needs start and end above 0 and steps >= 1, "
                f"got start={start}, end={end}, steps={steps}"
            )
        self.start, self.end, self.steps = float(start), float(end), int(steps)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @abstractmethod
    def value(self, progress: Tensor) -> Tensor:
        """The temperature at a progress in [0, 1]."""

    def forward(self) -> Tensor:
        """The temperature now, a tensor without dimensions on the schedule's device."""
        return self.value((self.step / self.steps).clamp(max=1.0))

    def advance(self, steps: int = 1) -> None:
        """Go on by some steps."""
        self.step += steps

    def extra_repr(self) -> str:
        """Shown by `repr`."""
        return f"start={self.start}, end={self.end}, steps={self.steps}"


class ConstantSchedule(Schedule):
    """The same temperature at every step.

    Example:
        >>> ConstantSchedule(0.5)()
        tensor(0.5000)
    """

    def __init__(self, value: float) -> None:
        super().__init__(value, value, 1)

    def value(self, progress: Tensor) -> Tensor:
        """`start`."""
        return torch.full_like(progress, self.start)


class LinearSchedule(Schedule):
    """A straight line from `start` to `end`.

    Example:
        >>> schedule = LinearSchedule(1.0, 0.5, 10)
        >>> schedule.advance(5)
        >>> schedule()
        tensor(0.7500)
    """

    def value(self, progress: Tensor) -> Tensor:
        """`start + (end - start) progress`."""
        return self.start + (self.end - self.start) * progress


class ExponentialSchedule(Schedule):
    """A constant factor a step, from `start` to `end`.

    Example:
        >>> schedule = ExponentialSchedule(1.0, 0.01, 10)
        >>> schedule.advance(5)
        >>> schedule()
        tensor(0.1000)
    """

    def value(self, progress: Tensor) -> Tensor:
        """`start (end / start) ** progress`."""
        return self.start * (self.end / self.start) ** progress
