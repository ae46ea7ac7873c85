"""Versions and machine, on which a measured figure depends besides the code."""

from __future__ import annotations

import os
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np
import torch

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """Date, versions, machine and command, to be kept beside results.

    Example:
        >>> sorted(environment())
        ['command', 'date', 'machine', 'numpy', 'python', 'torch']
    """
    return {
        "date": date.today().isoformat(),
        "command": _command(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _command() -> str:
    """With -m the name of the module, not the place of its file."""
    asked = sys.orig_argv
    return " ".join(["python", *(asked[asked.index("-m") :] if "-m" in asked else sys.argv)])


def _processor() -> str:
    """The processor's name where the system tells it, else its kind."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
