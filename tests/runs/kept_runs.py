"""A small run with every kind of file, written once by each version and kept in `fixtures`.

At a release: `python -m tests.runs.kept_runs tests/runs/fixtures/run_X_Y_Z`.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from discrete_grad.cli import main
from discrete_grad.preferences import random_pairs, synthetic_preferences
from discrete_grad.rules import Forbid
from discrete_grad.runs import FitConfig, fit
from tests.runs.small import small_config, small_table

OPTIONS = ["--rows", "3", "--seed", "1", "--no-new-only"]
"""Of `generate`, by which the rows beside a kept run were written."""

TOLD = {"cut": ["fair"], "shade": [1], "size": [True], "score": [2.5], "shop": ["east"]}


def config() -> FitConfig:
    """Few members, few steps, and a weight for everything that has models of its own."""
    made, loop = small_config(), {"steps": 10, "checkpoint_every": 100, "validate_every": 10}
    parts = {
        name: replace(getattr(made, name), **loop)
        for name in ("aligner", "reproduction", "generator")
    }
    few = {"members": 2, "hidden": (8,), "dim": 2, **loop}
    parts |= {name: replace(getattr(made, name), **few) for name in ("estimator", "judge")}
    preference = replace(made.preference, members=2, hidden=(8,), dim=2, steps=10)
    parts["generator"] = replace(parts["generator"], alignment=0.1, hidden=(8,))
    return replace(made, preference=preference, **parts)


def write(folder: Path) -> None:
    """Fit, propose and tell; and the rows of `generate` in `FOLDER.csv`."""
    table = small_table(80)
    noise = torch.Generator().manual_seed(0)
    pairs = random_pairs(table.codes, table.context, 20, generator=noise)
    answers = synthetic_preferences(lambda codes, _: codes.sum(-1), *pairs, generator=noise)
    rules = [Forbid({"cut": "fair", "size": "True"})]
    run = fit(table, folder, config(), rules=rules, preferences=answers)
    contexts = folder.with_name(f"{folder.name}_contexts.csv")
    contexts.write_text("shop,price\neast,0.5\nwest,0.25\n")
    run.propose(str(contexts), rows=2)
    run.tell({**TOLD, "price": [0.5]})
    words = ["generate", str(folder), "--contexts", str(contexts), *OPTIONS]
    assert main([*words, "--out", f"{folder}.csv"]) == 0


if __name__ == "__main__":
    write(Path(sys.argv[1]))
