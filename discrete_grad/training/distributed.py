"""Several processes started by torchrun, or just this one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["agree", "barrier", "processes", "rank", "world_size", "wrap"]


@contextmanager
def processes() -> Iterator[None]:
    """Join the group that torchrun started; without one, do nothing.

    Example:
        >>> with processes():
        ...     print(rank(), world_size())
        0 1
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process among all, 0 alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for the other processes."""
    if dist.is_initialized():
        dist.barrier()


def agree(value: Tensor) -> Tensor:
    """The first process's value, so that all take the same decision."""
    if dist.is_initialized():
        dist.broadcast(value, 0)
    return value


def wrap(module: nn.Module) -> nn.Module:
    """The module with its gradients averaged over the processes."""
    return DistributedDataParallel(module) if dist.is_initialized() else module
