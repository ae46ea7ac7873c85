"""Tensors and their metadata in one file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from discrete_grad.atomic import open_atomic
from discrete_grad.training.logs import JsonLinesLog

__all__ = [
    "Checkpoint",
    "RunError",
    "load_tensors",
    "save_tensors",
    "told_as_damage",
    "write_atomically",
]

_MISFITS = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError)


class RunError(ValueError):
    """A run directory cannot be used; the message is one line.

    Example:
        >>> try:
        ...     load_tensors(Path("no/such/file.safetensors"))
        ... except RunError as error:
        ...     print(error)
        no/such/file.safetensors is missing
    """


@contextmanager
def told_as_damage(path: Path) -> Iterator[None]:
    """What does not fit together in a file or a folder, as a `RunError` that names it.

    Example:
        >>> try:
        ...     with told_as_damage(Path("a.safetensors")):
        ...         {}["step"]
        ... except RunError as error:
        ...     print(error)
        a.safetensors is damaged, or of another version: KeyError 'step'
    """
    try:
        yield
    except (RunError, torch.OutOfMemoryError):
        raise
    except _MISFITS as error:
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise RunError(f"{path} is damaged, or of another version: {reason[:300]}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and its folder where there is none.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> write_atomically(path, b"text")
        >>> path.read_text()
        'text'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        file.write(data)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors with JSON metadata as one safetensors file, atomically.

    Example:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> save_tensors(path, {"x": torch.ones(2)}, {"step": 3})
        >>> load_tensors(path)
        ({'x': tensor([1., 1.])}, {'step': 3})
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, _safetensors().save(whole, {"json": json.dumps(metadata)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file made by `save_tensors`.

    Raises:
        RunError: if the file is missing or damaged.
    """
    if not path.is_file():
        raise RunError(f"{path} is missing")
    try:
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tensors: dict[str, Tensor] = _safetensors().load(data)
        metadata: dict[str, Any] = json.loads(header["__metadata__"]["json"])
    except Exception as error:
        raise RunError(f"{path} is damaged: {error!s:.300}") from error
    return tensors, metadata


class Checkpoint:
    """The state of an unfinished stage, and the log that is cut back to it on resume.

    Args:
        path: the file; removed when the stage is finished.
        metrics: the log of metrics that belongs to it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> checkpoint = Checkpoint(folder / "a.safetensors", JsonLinesLog(folder / "a.jsonl"))
        >>> checkpoint.load() is None
        True
    """

    def __init__(self, path: Path, metrics: JsonLinesLog) -> None:
        self.path = path
        self.metrics = metrics

    def save(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Write the state."""
        save_tensors(self.path, tensors, {**metadata, "metrics": self.metrics.position()})

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state, or None if there is none; cuts the metrics back to that moment."""
        if not self.path.exists():
            return None
        tensors, metadata = load_tensors(self.path)
        with told_as_damage(self.path):
            self.metrics.rewind(metadata["metrics"])
        return tensors, metadata


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("runs need safetensors: pip install 'discrete_grad[cli]'") from error
    return safetensors.torch
