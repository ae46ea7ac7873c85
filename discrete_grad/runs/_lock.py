"""What only one process does at a time in the folder of a run, and links that lie in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from discrete_grad.atomic import open_to_append
from discrete_grad.data.text_files import kind_of_path
from discrete_grad.runs._parts import METRICS
from discrete_grad.training.checkpoint import RunError

__all__ = ["locked", "only_process", "refuse_links"]


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """A lock in the folder of a run, waited for; the system takes it from a process that ends.

    Args:
        folder: of the run.
        name: of what only one process does at a time.
    """
    refuse_links(folder)
    path = folder / "rounds" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_to_append(path) as file:
        _lock(file.fileno(), wait=True)
        yield


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """A lock on a folder itself, which leaves no file; a folder that is missing is made.

    Who fits in the folder holds it, and who writes a report of it.

    Raises:
        RunError: if another process has the lock.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            _lock(opened, wait=False)
        except BlockingIOError as error:
            raise RunError(
                f"another process fits in {folder}, or writes its report: wait for it, or end it"
            ) from error
        yield
    finally:
        os.close(opened)


def refuse_links(folder: Path) -> None:
    """Raise RunError for a link through which something would be written elsewhere, and for a pipe.

    These are links to folders and in place of the log; one in place of the folder is followed. Who
    reads a pipe or a device would wait, or never end.
    """
    for inside in (folder, folder / "rounds"):
        found = [path for path in inside.iterdir() if path.is_symlink()] if inside.is_dir() else []
        for path in sorted(found):
            if path.is_dir() or path.name == METRICS:
                raise RunError(f"{path} is a link, which a fit does not follow: put a copy there")
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in sorted(names)):
            if kind := kind_of_path(path):
                raise RunError(f"{path} is {kind}, not a file")


def _lock(opened: int, *, wait: bool) -> None:
    import fcntl

    fcntl.flock(opened, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
