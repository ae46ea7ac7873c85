"""Optimiser of a stage and the course of its learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from discrete_grad.training.config import LoopConfig

__all__ = ["PLAIN", "WARM", "Optimiser"]


@dataclass(frozen=True)
class Optimiser:
    """AdamW whose learning rate rises along a line, then falls to 0 along half a cosine.

    Args:
        rise: steps of the rise; 1 for none.
        fused: whether one call updates all parameters; the rounding differs.

    Example:
        >>> [round(PLAIN.share(index, 4), 2) for index in range(4)]
        [1.0, 0.85, 0.5, 0.15]
    """

    rise: int
    fused: bool

    def share(self, index: int, steps: int) -> float:
        """Learning rate of one of so many steps, as a share of its peak, in [0, 1]."""
        return min(1.0, (index + 1) / self.rise) * (1 + math.cos(math.pi * index / steps)) / 2

    def new(self, model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
        """AdamW of the parameters that require a gradient; biases do not decay."""
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        biases = [p for name, p in named if name.endswith("bias")]
        weights = [p for name, p in named if not name.endswith("bias")]
        groups: list[dict[str, Any]] = [
            {"params": weights, "weight_decay": config.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ]
        # torch chooses by the device where fused is None, and never where it is False
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=self.fused or None)


WARM = Optimiser(rise=20, fused=True)
PLAIN = Optimiser(rise=1, fused=False)
"""Without weight decay this is Adam."""
