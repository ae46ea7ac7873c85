"""A limit to the memory that a model takes while it is made from anybody's settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from discrete_grad.training.checkpoint import RunError

__all__ = ["RoomFor"]

_TIMES, _SPARE = 16, 2**26  # of the size of the weights; bytes
_EACH, _NUMBER = 2**12, 4  # bytes of a tensor and of a number, roughly


class RoomFor(TorchDispatchMode):
    """A context in which new tensors may take little more than a file of weights holds.

    A product of sizes may exhaust the memory though none of them is large.

    Args:
        path: of the weights that the model is made for.

    Raises:
        RunError: as soon as more is asked for; the tensor is not made.

    Example:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> _ = path.write_bytes(bytes(100))
        >>> try:
        ...     with RoomFor(path):
        ...         torch.zeros(10**5, 10**5)
        ... except RunError as error:
        ...     print(str(error).partition("safetensors ")[2])
        does not fit the run's settings, which make a far larger model
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.left = _TIMES * path.stat().st_size + _SPARE

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count what is made by its size, such as zeros, before it is made."""
        call: Callable[..., Any] = func
        size = args[0] if args else None
        if isinstance(size, list | tuple) and all(type(part) is int for part in size):
            self.left -= _EACH + _NUMBER * math.prod(size)
        if self.left < 0:
            raise RunError(
                f"{self.path} does not fit the run's settings, which make a far larger model"
            )
        return call(*args, **(kwargs or {}))
