"""A generator fitted anew in the folder of its run: judge and estimators are kept."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discrete_grad.runs._stages import STAGES
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.settings import flatten

__all__ = ["RefitWarning", "changed_settings", "first_stage", "forget_stages"]

_ORDER = [stage.name for stage in STAGES]
# group of settings -> first stage that depends on it
_FIRST = {
    "reproduction": "reference",
    "aligner": "aligner",
    "preference": "preference",
    "generator": "independent",
    "polish": "independent",
}
# settings that change no model
_FREE = {"tensorboard"}
# settings whose being 0 or not decides more than their value
_SWITCHES = {"generator.alignment": "aligner", "generator.coverage": None}


class RefitWarning(UserWarning):
    """A fit was called for the folder of another one, of which it keeps judge and estimators.

    Example:
        >>> issubclass(RefitWarning, UserWarning)
        True
    """


def changed_settings(begun: Mapping[str, Any], config: FitConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from those a folder was begun with: name -> before and now.

    Example:
        >>> changed_settings({"config": FitConfig()}, FitConfig(seed=3))
        {'seed': (0, 3)}
    """
    before, now = flatten(begun["config"]), flatten(config)
    changed = {name: (before[name], now[name]) for name in now if before[name] != now[name]}
    return {name: pair for name, pair in changed.items() if name not in _FREE}


def first_stage(
    begun: Mapping[str, Any], settings: Mapping[str, Any], config: FitConfig
) -> str | None:
    """The first stage that a fit of the same table with other settings must do again.

    Args:
        begun: settings that the folder was begun with, from `read_settings`.
        settings: digests of the table, the preferences and the rules of the new fit.
        config: of the new fit.

    Returns:
        None where nothing differs, and where table, preferences, judge or estimators do,
        or a scorer was given in their place.

    Example:
        >>> begun = {"config": FitConfig(), "table": "a", "calibrated": True}
        >>> both = {"preferences": None, "rules": None}
        >>> first_stage(begun | both, {"table": "a", "rules": "b"}, FitConfig())
        'independent'
    """
    same = all(begun[name] == settings.get(name) for name in ("table", "preferences"))
    if not same or begun.get("scorers") or settings.get("scorers") or not begun["calibrated"]:
        return None
    stages = [_stage_of(name, *values) for name, values in changed_settings(begun, config).items()]
    stages += ["independent"] * (begun["rules"] != settings.get("rules"))
    if not stages or None in stages:
        return None
    return min((stage for stage in stages if stage is not None), key=_ORDER.index)


def _stage_of(name: str, before: Any, now: Any) -> str | None:
    """The first stage that a change of a setting touches; None for judge and estimators."""
    if name == "generator.hidden":  # of the data policy and the naive baseline, too
        return "reference"
    if name in _SWITCHES and bool(before) != bool(now):
        return _SWITCHES[name]
    return _FIRST.get(name.partition(".")[0])


def forget_stages(folder: Path, first: str) -> None:
    """Remove a stage and those after it, the last one first, and what was made by them.

    Killed at any moment, it leaves an unfinished fit of the settings that the folder names.
    """
    names = _ORDER[_ORDER.index(first) :]
    if first == "independent":
        text = "judge, estimators and data policy are kept, and the generator is fitted anew"
    else:
        text = f"judge and estimators are kept, and the stages from {first} on are fitted anew"
    warnings.warn(f"{folder} holds a fit with other settings: {text}", RefitWarning, stacklevel=6)
    for name in reversed(names):
        for part in ("weights", "state"):
            (folder / part / f"{name}.safetensors").unlink(missing_ok=True)
    for name in ("guidance.json", "report.html", "report.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "trail", ignore_errors=True)
