"""Settings of one stage of training."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

__all__ = ["LoopConfig", "require_config"]

_MOST = 2**31  # above it a count is a slip of the pen, and torch fails far from the setting


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
    """Number of rows (or contexts) in each step, over all processes together. A loss that is
    normalised within a batch (the aligner's, the alignment's) is normalised within each process's
    share."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Decoupled weight decay, at least 0, multiplied by the learning rate; biases are not
    decayed."""
    validate_every: int = 20
    """Number of steps between two validations on the held-out rows."""
    patience: int = 10
    """Number of validations without improvement after which training stops and takes the best
    weights so far. With 0 it takes all steps and the last weights."""
    checkpoint_every: int = 200
    """Number of steps between two checkpoints."""

    def check(self) -> None:
        """Raise ValueError for a number out of range; a fit calls it first."""
        for item in fields(self):
            value = getattr(self, item.name)
            value = _as_float(value) if item.type == "float" else value  # which may be given as 1
            counts = value if isinstance(value, tuple) else (value,) * isinstance(value, int)
            least = 0 if item.name in ("patience", "memory") else 1
            if value == () or any(
                isinstance(n, int) and not isinstance(n, bool) and n < least for n in counts
            ):
                raise ValueError(f"{item.name} must be at least {least}, got {value}")
            if any(isinstance(n, int) and n >= _MOST for n in counts):
                raise ValueError(f"{item.name} must be below {_MOST:,}, got {value}")
            bound = "above 0" if item.name in ("learning_rate", "tau") else "at least 0"
            wrong = isinstance(value, float) and not 0 <= value < math.inf
            if wrong or (value == 0 and bound == "above 0"):
                raise ValueError(f"{item.name} must be finite and {bound}, got {value}")


def require_config(owner: str, config: object, kind: type) -> None:
    """Raise TypeError, saying how to make one, unless a config is of a kind.

    Args:
        owner: what has the config, the subject of the message.
        config: any object.
        kind: class of a config.

    Example:
        >>> require_config("config of a fit", {"steps": 3}, LoopConfig)
        Traceback (most recent call last):
        TypeError: config of a fit must be of class LoopConfig, got dict: LoopConfig(**it) makes one
    """
    if not isinstance(config, kind):
        made = f": {kind.__name__}(**it) makes one" if isinstance(config, dict) else ""
        got = f"{type(config).__name__}{made}"
        raise TypeError(f"{owner} must be of class {kind.__name__}, got {got}")


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # of an integer
        return math.inf
