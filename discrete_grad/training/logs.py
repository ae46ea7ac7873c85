"""Logs of metrics: a file of JSON lines, TensorBoard, or none."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from discrete_grad.atomic import open_to_append

__all__ = ["JsonLinesLog", "Log", "TensorBoardLog", "no_log", "progress_bar", "quiet_bars"]


Log = Callable[[dict[str, float], int], None]
"""Called as `log(metrics, step)`."""


def no_log(metrics: dict[str, float], step: int) -> None:
    """Record nothing.

    Example:
        >>> no_log({"loss": 1.0}, 0)
    """


class JsonLinesLog:
    r"""One JSON object a line: `{"step": ..., "name": value, ...}`.

    Args:
        path: the file, appended to.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> JsonLinesLog(path)({"loss": 0.5}, 10)
        >>> path.read_text()
        '{"step": 10, "loss": 0.5}\n'
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        """Append a line."""
        with open_to_append(self.path) as file:
            file.write((json.dumps({"step": step, **metrics}) + "\n").encode())

    def position(self) -> int:
        """Length of the file in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def rewind(self, position: int) -> None:
        """Cut the file to a length it had before."""
        if self.position() > position:
            os.truncate(self.path, position)


class TensorBoardLog:
    """Scalars for TensorBoard (extra `tensorboard`).

    Args:
        folder: where the event files go.

    Raises:
        ImportError: without the extra.

    Example:
        >>> import tempfile
        >>> TensorBoardLog(Path(tempfile.mkdtemp()))({"loss": 0.5}, 10)
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard is missing: pip install 'discrete_grad[tensorboard]'"
            ) from error
        # made with the first metrics: nothing is written before a fit has accepted its folder
        self.new_writer = partial(SummaryWriter, str(folder))
        self.writer: Any = None

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        """Record every metric."""
        self.writer = self.writer or self.new_writer()
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


class _NoBar:
    def update(self) -> None:
        pass

    def close(self) -> None:
        pass


_QUIET = ContextVar("quiet", default=False)


@contextmanager
def quiet_bars(quiet: bool = True) -> Iterator[None]:
    """Within it no progress bar is shown, if so wanted.

    Example:
        >>> with quiet_bars():
        ...     progress_bar("generator", 10, 0).update()
    """
    token = _QUIET.set(quiet)
    try:
        yield
    finally:
        _QUIET.reset(token)


def progress_bar(stage: str, steps: int, done: int) -> Any:
    """A bar on a terminal or in a notebook; silent elsewhere and where tqdm is not installed."""
    try:
        from tqdm import auto, std
    except ImportError:
        return _NoBar()
    if _QUIET.get():
        return _NoBar()
    # a notebook is no terminal, and shows bars all the same
    bar, off = (auto.tqdm, False) if _in_notebook() else (std.tqdm, None)
    return bar(total=steps, initial=done, desc=stage, leave=False, disable=off)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs the program."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    return running is not None and "IPKernelApp" in getattr(running, "config", {})
