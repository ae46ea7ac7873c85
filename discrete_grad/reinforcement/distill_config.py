"""Settings of distillation."""

from __future__ import annotations

from dataclasses import dataclass

from discrete_grad.training.config import LoopConfig

__all__ = ["DistillConfig"]


@dataclass(frozen=True, kw_only=True)
class DistillConfig(LoopConfig):
    """Settings of a distillation: Adam, whose learning rate falls to 0 from the first step on.

    Example:
        >>> DistillConfig(steps=50).samples
        32
    """

    samples: int = 32
    """Number of rows drawn for each context of a batch."""
    steps: int = 500
    batch_size: int = 64
    """Number of contexts of each step, drawn with replacement; each once if there are no more."""
    learning_rate: float = 5e-3
    validate_every: int = 1
    """Steps between two losses in the log and in the history."""
    patience: int = 0
    """Always 0: no contexts are held out."""
