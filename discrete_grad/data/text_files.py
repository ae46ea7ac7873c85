"""What a path leads to, and texts of files and of pipes, read without waiting for nobody."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["kind_of_path", "read_text"]

_MOST = 2**26  # bytes of a text
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # Windows has neither it nor such pipes
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def kind_of_path(path: Path) -> str:
    """What there is in place of a file; empty for a file, and where there is nothing.

    Example:
        >>> kind_of_path(Path("/")), kind_of_path(Path("/dev/null"))
        ('a directory', 'a device')
    """
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "")
    except OSError:
        return ""


def read_text(path: Path) -> str:
    """Text of a file, or of a pipe that somebody writes to, such as `<(...)` of a shell.

    Raises:
        OSError: if it cannot be read, is too long, or is a pipe that nobody writes to.
        UnicodeDecodeError: if it is not UTF-8.

    Example:
        >>> read_text(Path("/dev/null"))
        ''
    """
    with os.fdopen(os.open(path, os.O_RDONLY | _NO_WAIT), "rb") as file:
        if _NO_WAIT:
            os.set_blocking(file.fileno(), True)  # whoever writes to a pipe may take a while
        data = file.read(_MOST + 1)
        pipe = stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
    if len(data) > _MOST:
        raise OSError(f"it holds more than {_MOST:,} bytes")
    if pipe and not data:
        raise OSError("it is a pipe that nobody writes to")
    return data.decode("utf-8-sig")
