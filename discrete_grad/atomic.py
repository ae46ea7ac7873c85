"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_atomic", "open_to_append"]

# without it, as on Windows, a link needs rights that few have
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


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
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    with _naming(path):
        # a name that nobody can foresee, and put a link there
        made = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666)
        try:
            with os.fdopen(made, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def open_to_append(path: Path) -> Iterator[BinaryIO]:
    """A file to write to at its end; a link is not followed.

    Raises:
        OSError: if it cannot be written, or is a link.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> for text in (b"one", b"two"):
        ...     with open_to_append(path) as file:
        ...         _ = file.write(text)
        >>> path.read_text()
        'onetwo'
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NO_LINK
    with _naming(path), os.fdopen(os.open(path, flags, 0o666), "ab") as file:
        yield file


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error of the system that names this file, as that of a full disk names none."""
    try:
        yield
    except OSError as error:
        other = error.filename is not None and not str(error.filename).endswith(".part")
        if error.errno is None or other:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
