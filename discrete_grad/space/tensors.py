"""The forms that a row has as a tensor, and when its values may be looked at."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "can_inspect",
    "code_dtype",
    "in_backward",
    "is_codes",
    "is_wrapped",
    "require_derivatives",
]


def code_dtype(size: int) -> torch.dtype:
    """The smallest integer type of the codes of features of at most so many categories.

    It is for storage: models index with int64, and PyTorch takes an index of uint8 for a mask.

    Example:
        >>> code_dtype(256), code_dtype(257), code_dtype(40_000)
        (torch.uint8, torch.int16, torch.int32)
    """
    if size <= 2**8:
        return torch.uint8
    return torch.int16 if size <= 2**15 else torch.int32


def is_codes(row: Tensor) -> bool:
    """Whether a row is in its integer form."""
    return not row.is_floating_point() and not row.is_complex() and row.dtype != torch.bool


def can_inspect(tensor: Tensor) -> bool:
    """Whether Python may look at the values: on the CPU, outside compile, export, `torch.func`."""
    if tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not is_wrapped(tensor)


def in_backward() -> bool:
    """Whether a backward pass calls, as activation checkpointing does to recompute a layer."""
    running: int = torch._C._current_graph_task_id()
    return running != -1


def require_derivatives(what: str) -> None:
    """Raise ValueError under `torch.inference_mode()`, where nothing has a derivative."""
    if torch.is_inference_mode_enabled():
        fault = "which torch.inference_mode() does not keep; use torch.no_grad() instead"
        raise ValueError(f"{what} needs derivatives, {fault}")


def is_wrapped(tensor: Tensor) -> bool:
    """Whether `torch.func` follows the tensor."""
    if torch.compiler.is_compiling():  # the compiler cannot ask, and shows tensors of its own
        return False
    # of any kind: under vmap(grad(...)) the batched tensor lies beneath another
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return wrapped
