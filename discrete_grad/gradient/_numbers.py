"""Hyperparameters, in the forms in which numbers come."""

from __future__ import annotations

from numbers import Real

from torch import Tensor

__all__ = ["as_number"]


def as_number(value: object) -> float | None:
    """A hyperparameter as a float: of Python, NumPy or a tensor `()` that is not learned; or None.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> as_number(np.float32(0.5)), as_number(torch.tensor(2)), as_number("2")
        (0.5, 2.0, None)
    """
    if isinstance(value, Tensor) and not value.dim() and not value.requires_grad:
        value = value.item()
    # NumPy's numbers are real ones, too
    return float(value) if isinstance(value, Real) else None
