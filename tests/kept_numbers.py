"""Numbers that a file keeps, and the comparison of those found now with them."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?")
Case = Callable[[], list[Any]]
"""Gives tensors, or lists of numbers."""


def check_numbers(file: Path, name: str, case: Case) -> None:
    """Fail unless a case gives the numbers that the file keeps for it, but for rounding."""
    known, found = json.loads(file.read_text())[name], _numbers(case())
    assert [len(part) for part in found] == [len(part) for part in known]
    for place, (mine, wanted) in enumerate(zip(found, known, strict=True)):
        assert mine == pytest.approx(wanted, rel=3e-4, abs=1e-5, nan_ok=True), f"part {place}"


def check_told(file: Path, name: str, found: dict[str, Any]) -> None:
    """Fail unless plain data is what the file keeps, but for the rounding of its numbers.

    Numbers in texts are numbers, too.
    """
    known = json.loads(file.read_text())[name]
    assert [*found] == [*known]
    for part, value in json.loads(json.dumps(found)).items():
        _compare(part, value, known[part])


def _compare(where: str, mine: Any, known: Any) -> None:
    if isinstance(mine, dict | list) and type(mine) is type(known):
        keys = mine.keys() if isinstance(mine, dict) else range(len(mine))
        assert [*keys] == [*(known if isinstance(known, dict) else range(len(known)))], where
        for key in keys:
            _compare(f"{where}/{key}", mine[key], known[key])
    elif isinstance(mine, str) and isinstance(known, str):
        assert _NUMBER.sub("0", mine) == _NUMBER.sub("0", known), where
        read = [[float(number) for number in _NUMBER.findall(text)] for text in (mine, known)]
        assert read[0] == pytest.approx(read[1], rel=2e-3, abs=1e-5), where
    elif isinstance(mine, float) and isinstance(known, float):
        assert mine == pytest.approx(known, rel=3e-4, abs=1e-5, nan_ok=True), where
    else:
        assert (mine, type(mine)) == (known, type(known)), where


def cut_small(patch: pytest.MonkeyPatch, room: str, parts: Mapping[str, int]) -> None:
    """Let the modules of a room work off so few numbers at a time: module.constant -> count."""
    for place, size in parts.items():
        module, constant = place.rsplit(".", 1)
        patch.setattr(importlib.import_module(f"discrete_grad.{room}.{module}"), constant, size)


def keep_numbers(file: Path, cases: Mapping[str, Case]) -> None:
    """Write the numbers of all cases, a line for each, six digits each."""
    found = {name: _numbers(case()) for name, case in cases.items()}
    lines = [
        f"{json.dumps(name)}: {json.dumps([[float(f'{v:.6g}') for v in part] for part in parts])}"
        for name, parts in found.items()
    ]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def keep_told(file: Path, cases: Mapping[str, dict[str, Any]]) -> None:
    """Write plain data of all cases, a line for each part, six digits of a number."""
    lines = [
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f" {json.dumps(part)}: {json.dumps(_short(v))}" for part, v in found.items())
        + "\n}"
        for name, found in cases.items()
    ]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _numbers(found: list[Any]) -> list[list[float]]:
    return [[float(v) for v in torch.as_tensor(part).detach().flatten()] for part in found]
