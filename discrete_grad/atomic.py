"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_atomic"]


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which appears under its name when all is written.

    A crash leaves the old file or the new one, never a part; a process that is killed may leave a
    hidden file that ends in `.part` beside it.

    Args:
        path: of the file; an existing one is replaced.

    Raises:
        OSError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with open_atomic(path) as file:
        ...     _ = file.write(b"text")
        ...     path.exists()
        False
        >>> path.read_text()
        'text'
    """
    # in the same folder: a rename is atomic only within one file system
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
