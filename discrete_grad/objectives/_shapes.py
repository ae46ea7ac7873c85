"""The check every loss begins with, and rows of length 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["check_same_shape", "unit_rows"]

_SHORT = 1e-3


def check_same_shape(**tensors: Tensor) -> None:
    """Raise ValueError unless all tensors have one shape: a wrong one would broadcast silently."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} is {shape}" for name, shape in shapes.items())
        raise ValueError(f"expected one shape, but {got}")


def unit_rows(rows: Tensor) -> Tensor:
    """The rows `(..., P)` with length 1.

    In float16 one that is shorter than 0.001 gets a length below 1: its gradient would overflow.
    """
    if rows.dtype != torch.float16:
        return F.normalize(rows, dim=-1)
    return F.normalize(rows.float(), dim=-1, eps=_SHORT).to(rows.dtype)
