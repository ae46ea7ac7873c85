"""Settings of one stage of training."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

__all__ = ["LoopConfig"]


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """One stage of training: AdamW whose learning rate rises over 20 steps and falls to 0.

    Example:
        >>> LoopConfig(steps=100).learning_rate
        0.003
    """

    steps: int = 600
    """Largest number of optimiser steps."""
    batch_size: int = 128
    """Rows (or contexts) of each step, over all processes together. A loss that is normalised
    within a batch (the aligner's, the alignment's) is normalised within each process's share."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Decoupled weight decay, multiplied by the learning rate; biases are not decayed."""
    validate_every: int = 20
    """Steps between two validations on the held-out rows."""
    patience: int = 10
    """Validations without improvement after which training stops, with the best weights so far; 0
    for all steps and the last weights."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""

    def check(self) -> None:
        """Raise ValueError for a number out of range; a fit calls it first."""
        for item in fields(self):
            value = getattr(self, item.name)
            value = float(value) if item.type == "float" else value  # which may be given as 1
            counts = value if isinstance(value, tuple) else (value,) * isinstance(value, int)
            least = 0 if item.name in ("patience", "memory") else 1
            if value == () or any(
                isinstance(n, int) and not isinstance(n, bool) and n < least for n in counts
            ):
                raise ValueError(f"{item.name} must be at least {least}, got {value}")
            bound = "above 0" if item.name in ("learning_rate", "tau") else "at least 0"
            wrong = isinstance(value, float) and not 0 <= value < math.inf
            if wrong or (value == 0 and bound == "above 0"):
                raise ValueError(f"{item.name} must be finite and {bound}, got {value}")
