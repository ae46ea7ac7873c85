"""Versions and machine beside measured figures."""

import datetime
import os
import platform
import sys
from pathlib import Path

import numpy
import pytest
import torch

from discrete_grad.reporting import environment

module = sys.modules["discrete_grad.reporting.environment"]


def test_every_part_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_processor", lambda: "a processor")
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "run.py", "--x"])
    monkeypatch.setattr(sys, "argv", ["run.py", "--x"])
    assert environment() == {
        "date": datetime.date.today().isoformat(),
        "command": "python run.py --x",
        "machine": f"a processor, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
    monkeypatch.setattr(sys, "orig_argv", ["python", "-W", "error", "-m", "bench.mark", "--x"])
    assert environment()["command"] == "python -m bench.mark --x"


def test_the_processor_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(module, "Path", {"/proc/cpuinfo": file}.__getitem__)
    assert module._processor() == platform.machine()
    file.write_text("processor : 0\nmodel name\t: Fast: 5™ \nmodel name\t: Slow\n", "utf-8")
    assert module._processor() == "Fast: 5™"
    file.write_text("processor : 0\n")
    assert module._processor() == platform.machine()
