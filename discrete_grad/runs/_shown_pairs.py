"""Pairs that somebody is asked about at this moment, which nobody else is shown."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from discrete_grad.data import TableError

__all__ = ["shown_alone"]

_BUSY = (errno.EACCES, errno.EAGAIN)


@contextmanager
def shown_alone(path: Path, key: object) -> Iterator[bool]:
    """Whether no other process shows a pair; while this lasts, none can begin to.

    Each pair has a byte of `.NAME.shown` beside the answers, which stays empty, and who shows the
    pair locks that byte. The system takes the lock from a process that ends in any way, so none is
    ever left behind. Threads of one process are not told apart.

    Args:
        path: file of the answers.
        key: of the pair, with the same `repr` in every process.

    Raises:
        TableError: if the file of the locks cannot be opened, or is a link.

    Example:
        >>> import tempfile
        >>> with shown_alone(Path(tempfile.mkdtemp()) / "a.parquet", (1, 2)) as alone:
        ...     print(alone)
        True
    """
    opened = _open(path.with_name(f".{path.name}.shown"))
    try:
        yield _locks(opened, int.from_bytes(blake2b(repr(key).encode(), digest_size=7).digest()))
    finally:
        os.close(opened)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        why = "is a link" if error.errno == errno.ELOOP else f"cannot be opened: {error.strerror}"
        raise TableError(f"{path}, by which pairs are shown once, {why}") from error


def _locks(opened: int, byte: int) -> bool:
    import fcntl

    try:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True
