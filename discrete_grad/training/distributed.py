"""Several processes started by torchrun, or just this one."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from discrete_grad.training.checkpoint import RunError

__all__ = ["agree", "barrier", "first", "processes", "quiet_backward", "rank", "world_size", "wrap"]


_PATIENCE = timedelta(minutes=30)  # as Gloo's own: the first process may write a report meanwhile


@contextmanager
def processes(device: torch.device | None = None) -> Iterator[None]:
    """Join the group that torchrun started; without one, do nothing.

    Args:
        device: where this process computes; the processes talk by NCCL if it is a CUDA device, and
            by Gloo if it is another, or None, which is the CPU.

    Example:
        >>> with processes():
        ...     print(rank(), world_size())
        0 1
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    if device is not None and device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL sends from there what has no device of its own
        dist.init_process_group("nccl", device_id=device, timeout=_PATIENCE)
    else:
        dist.init_process_group("gloo")
    try:
        yield
        dist.barrier()  # none may leave while another still talks to it
    finally:
        # what is left of wrapped models holds on to the group, whose threads must end before Python
        gc.collect()
        dist.destroy_process_group()


def rank() -> int:
    """This process among all, 0 alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for the other processes."""
    if dist.is_initialized():
        dist.barrier()


def first(action: Callable[[], object]) -> None:
    """Do something in the first process; what it raises is raised in all.

    Raises:
        RunError: in the others, with the message of the first.
    """
    caught: Exception | None = None
    if rank() == 0:
        try:
            action()
        except Exception as error:
            caught = error
    message = [None if caught is None else str(caught)]
    if dist.is_initialized():
        dist.broadcast_object_list(message, 0)
    if caught is not None:
        raise caught
    if message[0] is not None:
        raise RunError(message[0])


@contextmanager
def quiet_backward() -> Iterator[None]:
    """Without the warning on strides of gradients, which costs a copy and changes nothing."""
    if not dist.is_initialized():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Grad strides do not match")
        yield


def agree(value: Tensor) -> Tensor:
    """The first process's value, so that all take the same decision."""
    if dist.is_initialized():
        dist.broadcast(value, 0)
    return value


def wrap(objective: nn.Module) -> nn.Module:
    """The objective with its gradients averaged over the processes."""
    if not dist.is_initialized():
        return objective
    # a policy may have parts, as an embedding of attributes, that a stage leaves alone
    return DistributedDataParallel(_WithSpare(objective), find_unused_parameters=True)


class _WithSpare(nn.Module):
    """An objective beside a parameter that is never used: torch warns where none is unused."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective
        self.spare = nn.Parameter(next(objective.parameters()).new_zeros(()))

    def forward(self, *arguments: Any) -> Tensor:
        loss: Tensor = self.objective(*arguments)
        return loss
