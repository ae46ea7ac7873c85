"""What the modules of the room hand to the other rooms: each function, class and method asked.

An argument that is lost on the way, or another one in its place, is seen here, whether or not the
few rows of a small run tell of it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import runs
from discrete_grad.fitting.generator import FrozenModels
from discrete_grad.fitting.score_scale import ScoreScale
from discrete_grad.fitting.units import ScoreUnits
from discrete_grad.models import Aligner, AnovaEnsemble, KernelEnsemble, PreferenceModel
from discrete_grad.models.aimed import AimedEnsemble, Chance
from discrete_grad.policies import AutoregressiveGenerator, Conditioned, Generator
from discrete_grad.rules import Rules
from discrete_grad.training.devices import AskedFromCpu
from discrete_grad.training.snapshots import Snapshots

ROOMS = ("fitting", "models", "nn", "policies", "preferences", "evaluation", "training.loop")
_ROOMS = tuple(f"discrete_grad.{room}" for room in ROOMS)
# asked by searches, whose steps are as many as rounding lets them be
_ANY_NUMBER = ("guided_score", "row_keys")
_MADE: tuple[type, ...] = (Aligner, AimedEnsemble, AnovaEnsemble, AskedFromCpu, Chance, Snapshots)
_MADE += (AutoregressiveGenerator, FrozenModels, Generator, KernelEnsemble, PreferenceModel)
_MADE += (ScoreUnits,)
_ASKED: tuple[tuple[type, str], ...] = (
    *((ScoreScale, name) for name in ("apply", "groups")),
    *((ScoreUnits, name) for name in ("__call__", "outside")),
    *((Rules, name) for name in ("allows", "condition")),
    (AskedFromCpu, "__call__"),
    *((kind, "sample") for kind in (AutoregressiveGenerator, Conditioned, Generator)),
)
_SHOWN = 6
_LENGTH = re.compile(r"(?<=\d)\[\d+")


def handed_over(patch: pytest.MonkeyPatch) -> list[str]:
    """Different calls from the room to others in their order, which grow while a test runs."""
    calls: list[str] = []
    known: set[str] = set()

    def note(text: str) -> None:
        if text not in known:
            known.add(text)
            calls.append(text)

    for module in _modules():
        for name, value in vars(module).copy().items():
            if inspect.isfunction(value) and value.__module__.startswith(_ROOMS):
                patch.setattr(module, name, _noted(value, name, note))
    for kind in _MADE:
        patch.setattr(kind, "__init__", _noted(kind.__init__, kind.__name__, note, method=True))
    for kind, name in _ASKED:
        made = _noted(getattr(kind, name), f"{kind.__name__}.{name}", note, method=True)
        patch.setattr(kind, name, made)
    return calls


def _modules() -> list[ModuleType]:
    found = pkgutil.walk_packages(runs.__path__, "discrete_grad.runs.")
    return [importlib.import_module(one.name) for one in found]


def _noted(
    function: Callable[..., Any], name: str, note: Callable[[str], None], *, method: bool = False
) -> Callable[..., Any]:
    @functools.wraps(function)
    def noted(*given: Any, **options: Any) -> Any:
        if sys._getframe(1).f_globals["__name__"].startswith("discrete_grad.runs"):
            told = [_plain(one) for one in given[method:]]
            told += [f"{key}={_plain(value)}" for key, value in options.items()]
            text = f"{name}({', '.join(told)})"
            note(_LENGTH.sub("[n", text) if method or name in _ANY_NUMBER else text)
        return function(*given, **options)

    return noted


def _plain(given: Any) -> str:
    """An argument in a few words: of a tensor its type and shape, of a model its class."""
    match given:
        case Tensor():
            return f"{str(given.dtype)[6:]}{[*given.shape]}"
        case bool() | int() | str() | None | range():
            return repr(given)
        case float():
            return f"{given:.4g}"
        case Path():
            return given.name
        case torch.device():
            return str(given)
        case dict():
            return f"{{{_listed([f'{k}: {_plain(v)}' for k, v in given.items()])}}}"
        case list() | tuple():
            return f"[{_listed([_plain(one) for one in given])}]"
        case functools.partial():
            return _plain(given.func)
    if inspect.isfunction(given) or inspect.ismethod(given):
        return given.__name__
    if type(given).__name__ == "ScoredRows":
        kept = [item.name for item in fields(given) if getattr(given, item.name) is not None]
        return f"{len(given)} rows of {' '.join(kept)}"
    return type(given).__name__


def _listed(parts: list[str]) -> str:
    more = f", and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return ", ".join(parts[:_SHOWN]) + more
