"""Numbers that a file keeps, and the comparison of those found now with them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

Case = Callable[[], list[Any]]
"""Gives tensors, or lists of numbers."""


def check_numbers(file: Path, name: str, case: Case) -> None:
    """Fail unless a case gives the numbers that the file keeps for it, but for rounding."""
    known, found = json.loads(file.read_text())[name], _numbers(case())
    assert [len(part) for part in found] == [len(part) for part in known]
    for place, (mine, wanted) in enumerate(zip(found, known, strict=True)):
        assert mine == pytest.approx(wanted, rel=3e-4, abs=1e-5, nan_ok=True), f"part {place}"


def cut_small(patch: pytest.MonkeyPatch, room: str, parts: Mapping[str, int]) -> None:
    """Let the modules of a room work off so few numbers at a time: module.constant -> count."""
    for place, size in parts.items():
        module, constant = place.split(".")
        patch.setattr(importlib.import_module(f"discrete_grad.{room}.{module}"), constant, size)


def keep_numbers(file: Path, cases: Mapping[str, Case]) -> None:
    """Write the numbers of all cases, a line for each, six digits each."""
    found = {name: _numbers(case()) for name, case in cases.items()}
    lines = [
        f"{json.dumps(name)}: {json.dumps([[float(f'{v:.6g}') for v in part] for part in parts])}"
        for name, parts in found.items()
    ]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _numbers(found: list[Any]) -> list[list[float]]:
    return [[float(v) for v in torch.as_tensor(part).detach().flatten()] for part in found]
