"""What a measured figure depends on besides the code."""

from __future__ import annotations

import os
import platform
import sys
from datetime import date

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
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
