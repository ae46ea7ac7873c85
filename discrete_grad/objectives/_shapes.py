"""The check every loss begins with."""

from __future__ import annotations

from torch import Tensor

__all__ = ["check_same_shape"]


def check_same_shape(**tensors: Tensor) -> None:
    """Raise ValueError unless all tensors have one shape: a wrong one would broadcast silently."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} is {shape}" for name, shape in shapes.items())
        raise ValueError(f"expected one shape, but {got}")
