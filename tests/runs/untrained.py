"""A run whose models are as they were made, for all that is done with a run of any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from discrete_grad.data import Table
from discrete_grad.runs import FitConfig, Run
from discrete_grad.runs._aim_stages import further_aims
from discrete_grad.runs._folder import open_folder
from discrete_grad.runs._scorer_stages import kept_stages
from discrete_grad.runs._stages import Work
from discrete_grad.runs._table_rules import GivenRules, table_rules
from discrete_grad.runs.load import assemble, frozen
from discrete_grad.runs.run import run_of
from discrete_grad.training.checkpoint import save_tensors


def untrained(
    table: Table, folder: Path, config: FitConfig, *, rules: GivenRules = (), **given: Any
) -> Run:
    """A run of models that are random functions: made in a hundredth of the time of a fit."""
    made = table_rules(table.schema, rules)
    open_folder(folder, table, config, rules=made, resume=False, source={}, **given)
    preferences = given.get("preferences")
    work = Work(folder, config, table, {}, preferences, torch.device("cpu"), made)
    for stage in kept_stages(work):
        work.models[stage.name] = frozen(stage.model(work))
    for place in further_aims(table.schema):  # which say that nothing was calibrated
        save_tensors(work.weights(f"calibration-{place + 1}"), {}, {})
    (folder / "metrics.jsonl").touch()
    return run_of(assemble(work))
