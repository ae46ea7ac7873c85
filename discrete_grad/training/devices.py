"""Device that a process computes on, chosen by a word."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from discrete_grad.training.checkpoint import RunError

__all__ = ["AskedFromCpu", "choose_device"]

_WORD = re.compile(r"auto|cpu|cuda(:\d+)?")


def choose_device(word: str | torch.device = "auto") -> torch.device:
    """The device of a word: auto, cpu, cuda or cuda:1.

    `auto` is the first CUDA device, or the CPU where there is none, or where there are fewer than
    the processes that torchrun started on this machine. Of several processes each takes a CUDA
    device of its own, by its place on its machine. An Apple GPU, `mps`, is refused: rows are drawn
    and kernels solved in float64, which it does not have.

    Args:
        word: one of the words; the device of another number is `cuda:` and the number. A device is
            one that was chosen already, and only looked for.

    Raises:
        RunError: for another word, or a device that this machine does not have.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
        >>> try:
        ...     choose_device("gpu")
        ... except RunError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        device must be auto, cpu, cuda or cuda:1 (or another number), got 'gpu'; torch sees ...
    """
    shared = not isinstance(word, torch.device)
    word = str(word)
    if word == "mps":
        raise RunError(
            "device mps has no float64, in which rows are drawn: device must be cpu, got mps"
        )
    if not _WORD.fullmatch(word):
        raise RunError(
            f"device must be auto, cpu, cuda or cuda:1 (or another number), got {word!r}; "
            f"torch sees {_seen()} here"
        )
    if word == "auto":
        word = "cuda" if _cuda_devices() >= _from_torchrun("LOCAL_WORLD_SIZE", 1) else "cpu"
    return _cuda(word, shared=shared) if word.startswith("cuda") else torch.device(word)


class AskedFromCpu:
    """A model that is given tensors of the CPU and answers there, wherever it computes.

    Args:
        model: a function of tensors.
        device: where it computes.

    Example:
        >>> AskedFromCpu(torch.square, torch.device("cpu"))(torch.tensor([3.0]))
        tensor([9.])
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model, self.device = model, device
        self.takes_codes = bool(getattr(model, "takes_codes", False))

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """The model's answer."""
        return self._answer(self.model, inputs)

    def std(self, *inputs: Tensor | None) -> Tensor:
        """Standard deviation of the answers of an ensemble's members."""
        return self._answer(self.model.std, inputs)

    def _answer(self, f: Callable[..., Tensor], inputs: Sequence[Tensor | None]) -> Tensor:
        return f(*(None if x is None else x.to(self.device) for x in inputs)).cpu()


def _cuda(word: str, *, shared: bool) -> torch.device:
    """The CUDA device of `cuda` or `cuda:1`, given to all processes or chosen for this one."""
    count, processes = _cuda_devices(), _from_torchrun("LOCAL_WORLD_SIZE", 1)
    if not count:
        raise RunError(f"device {word} is asked for, and torch sees {_seen()} here: use cpu")
    if shared and processes > 1 and word != "cuda":
        raise RunError(
            f"each of {processes} processes takes a CUDA device of its own: device must be cuda, "
            f"got {word}"
        )
    place = _from_torchrun("LOCAL_RANK", 0) if word == "cuda" else int(word.partition(":")[2])
    if place >= count:
        raise RunError(f"device cuda:{place} is asked for, and torch sees {_seen()} here")
    return torch.device("cuda", place)


def _cuda_devices() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _seen() -> str:
    """This machine's CUDA devices in words."""
    names = [f"cuda:{place}" for place in range(_cuda_devices())]
    return ", ".join(names) or "no CUDA device"


def _from_torchrun(name: str, alone: int) -> int:
    """A number that torchrun tells its processes, or that of a process alone."""
    return int(os.environ.get(name, alone))
