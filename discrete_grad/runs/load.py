"""A finished fit, loaded from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from discrete_grad.fitting.aims import at_tradeoff
from discrete_grad.runs._aims import run_aims
from discrete_grad.runs._calibrate import calibrated_units
from discrete_grad.runs._folder import (
    load_preferences,
    load_rules,
    load_table,
    load_weights,
    read_settings,
)
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._room import RoomFor
from discrete_grad.runs._rounds_folder import newest_fit
from discrete_grad.runs._scorer_stages import begin, kept_stages
from discrete_grad.runs._stages import STAGES, Stage, Work
from discrete_grad.runs.scorers._facts import scorer_facts
from discrete_grad.runs.scorers._given import Role
from discrete_grad.runs.scorers._loaded import loaded_scorers
from discrete_grad.runs.scorers._reference import Given
from discrete_grad.runs.settings import flatten
from discrete_grad.training.checkpoint import RunError, told_as_damage
from discrete_grad.training.devices import choose_device

__all__ = ["assemble", "frozen", "load_parts"]

_SIZES = ("dim", "hidden", "members", "projection_dim")  # among the settings
_UNUSED = 2**16


def load_parts(
    folder: Path | str,
    *,
    device: str | torch.device = "cpu",
    scorer: Given | None = None,
    judge: Given | None = None,
) -> RunParts:
    """Load a finished fit, made on any device; from a folder with rounds the latest fit.

    Args:
        folder: of the fit.
        device: where its models go, see `choose_device`.
        scorer: that the run was fitted by, itself or its `package.module:name`; see `load_run`.
        judge: likewise.

    Raises:
        RunError: if there is none, it is unfinished or damaged, this machine does not have the
            device, or its scorer answers otherwise than in the fit.

    Example:
        >>> try:
        ...     load_parts(Path("no/such/run"))
        ... except RunError as error:
        ...     print(error)
        no/such/run holds no fit: config.json is missing
    """
    folder = newest_fit(Path(folder))
    device, settings = choose_device(device), read_settings(folder)
    table = load_table(folder, settings)
    given: dict[Role, Given | None] = {"estimator": scorer, "judge": judge}
    scorers = loaded_scorers(folder, settings["scorers"], table, device, given)
    table = table if scorers is None else scorers.table
    with told_as_damage(folder):
        preferences = load_preferences(folder, settings, table.schema)
        rules = load_rules(folder, settings, table)
    work = Work(
        folder=folder,
        config=settings["config"],
        table=table,
        source=settings["source"],
        preferences=preferences,
        device=device,
        rules=rules,
    )
    begin(work, scorers)
    stages = kept_stages(work)
    for stage in stages:
        if not work.weights(stage.name).is_file():
            raise RunError(
                f"{folder}: the fit is unfinished ({stage.name} is missing); use fit --resume"
            )
    calibration = work.weights("calibration")
    if settings["calibrated"] and not calibration.is_file():
        raise RunError(f"{calibration} is missing: the scores of the run cannot be told")
    with told_as_damage(folder):
        return _assembled(work, stages)


def _assembled(work: Work, stages: tuple[Stage, ...]) -> RunParts:
    """The run of weights that lie in the folder."""
    _check_sizes(stages, work)
    for stage in stages:
        path = work.weights(stage.name)
        with RoomFor(path):
            model = stage.model(work)
        load_weights(model.to(work.device), path)
        work.models[stage.name] = frozen(model)
    return assemble(work)


def _check_sizes(stages: tuple[Stage, ...], work: Work) -> None:
    """Raise RunError for a size in the settings that the weights have no room for.

    Each costs them a byte at least, but for those of models that a fit does not have.
    """
    held = _UNUSED + sum(work.weights(stage.name).stat().st_size for stage in stages)
    for name, value in flatten(work.config).items():
        if name.rpartition(".")[2] not in _SIZES:
            continue
        sizes = (len(value), *value) if isinstance(value, tuple) else (value,)
        if max(sizes) > held:
            raise RunError(
                f"{work.folder / 'weights'} does not fit the run's settings: a size of "
                f"{max(sizes):,} is too much, in {name}"
            )


def frozen(model: nn.Module) -> nn.Module:
    """The model as a finished stage leaves it."""
    return model.requires_grad_(False).eval()


def assemble(work: Work) -> RunParts:
    """The run of which all stages are done."""
    ready, models = work.prepared, work.models
    units, held_out = calibrated_units(
        work.weights("calibration"), work.table.schema, ready.scale, ready.standard
    )
    made: dict[str, Any] = {stage.name: models.get(stage.name) for stage in STAGES}
    made["judge"] = made["judge"] or made["estimator"]
    aims = run_aims(work, made["generator"])
    if aims is not None and aims.tradeoff is not None:
        spec = work.table.schema.context_spec
        made["generator"] = at_tradeoff(made["generator"], spec, aims.tradeoff)
    facts: dict[str, Any] = {}
    if work.scorers is not None:
        units |= work.scorers.units(ready.scale)
        facts = scorer_facts(work.scorers)
    return RunParts(
        folder=work.folder,
        config=work.config,
        table=work.table,
        source=work.source,
        scale=ready.scale,
        to_units=units["estimator"],
        judge_to_units=units["judge"],
        rows=ready.rows,
        judge_rows=ready.judge_rows,
        preferences=work.preferences,
        held_out=held_out,
        scorer_facts=facts,
        rules=work.rules,
        pessimism=work.guidance["pessimism"],
        reward_unit=work.guidance["reward_unit"],
        aims=aims,
        **made,
    )
