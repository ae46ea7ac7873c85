"""Answers of a scorer, and facts on it, in the folder of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from discrete_grad.runs.scorers._bound import BoundScorer
from discrete_grad.training.checkpoint import RunError, load_tensors

__all__ = ["ANSWERS", "FACTS", "compare_answers", "kept_answers", "kept_facts"]

ANSWERS = "scorer.safetensors"
"""Of each scorer, its answers to the rows of the table."""
FACTS = "scorer.json"
"""Calls by purpose, and of a scorer without derivative the comparison."""

_WAYS = ("distilled", "direct")
_SAME = 1e-3  # of the spread of the answers


def kept_answers(folder: Path, roles: Iterable[str], count: int) -> dict[Any, Tensor]:
    """Role -> answers to the rows of the table `(count,)`.

    Raises:
        RunError: if the file is missing, damaged, or of another table.
    """
    found, _ = load_tensors(path := folder / ANSWERS)
    for role in roles:
        answers = found.get(role)
        if answers is None or answers.shape != (count,) or answers.dtype != torch.float64:
            raise RunError(f"{path} does not fit the run's table")
        if not answers.isfinite().all():
            raise RunError(f"{path} is damaged: {role} holds NaN or infinity")
    return {role: found[role] for role in roles}


def kept_facts(folder: Path) -> dict[str, Any]:
    """Facts on the scorer; none where a fit has not come to write them.

    Raises:
        RunError: if the file is damaged.
    """
    path = folder / FACTS
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return _checked(found)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error!s:.300}") from error


def _checked(found: Any) -> dict[str, Any]:
    """The facts, in the form in which `Scorers.save_facts` writes them."""
    if not isinstance(found, dict) or not {*found} <= {"calls", "comparison"}:
        raise ValueError(f"it must be a table of calls and comparison, got {found!r:.80}")
    calls, compared = found.get("calls", {}), found.get("comparison")
    if not all(type(count) is int for count in calls.values()):
        raise ValueError(f"calls must be whole numbers, got {calls!r:.80}")
    if compared is not None:
        ways = [compared[way] for way in _WAYS]
        numbers = [way[name] for way in ways for name in ("mean", "error", "rows")]
        if compared["chosen"] not in _WAYS or not all(map(math.isfinite, numbers)):
            raise ValueError(f"a comparison of a wrong form: {compared!r:.80}")
    return found


def compare_answers(bound: BoundScorer, mine: Tensor, kept: Tensor) -> None:
    """Raise RunError where answers differ from those to the first of the kept rows."""
    allowed = _SAME * kept.std(correction=0).clamp_min(torch.finfo(torch.float32).eps)
    if len(differ := ((mine - kept[: len(mine)]).abs() > allowed).nonzero()):
        place = int(differ[0])
        raise RunError(
            f"{bound.role} is not that of the fit: to row {place + 1} of the table it answers "
            f"{mine[place].item():.6g}, and answered {kept[place].item():.6g}"
        )
