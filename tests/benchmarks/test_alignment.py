"""The alignment benchmark: what is held out, and tables of incomplete results."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import alignment
from benchmarks.alignment import DEFAULT, LOSSES, METRICS, PAIRS
from discrete_grad.data import load_example


def faked() -> dict[str, Any]:
    """Every cell, the aligner .1 above the estimate; one failed, one is missing."""
    cells: dict[str, Any] = {}
    for cell in alignment.cells(alignment.Config()):
        _, scores, loss, seed = cell.key.split("/")
        level = 0.6 + 0.01 * int(seed) + 0.05 * (loss == "mined") + 0.1 * (scores == "several")
        shift = dict(zip(METRICS, (0.1, 0.0, -0.1, -0.4), strict=True))
        of = {name: {m: level + s for m in alignment.MEASURES} for name, s in shift.items()}
        cells[cell.key] = {pairs: dict(of) for pairs in PAIRS}
        cells[cell.key]["hamming 1"]["hamming"] = {"triplet": 0.5, "precision": 0.2}
    cells[f"hpolib/several/{DEFAULT}/4"] = {"failed": "ValueError: planted"}
    del cells[f"hpolib/several/{DEFAULT}/0"]
    settings = json.loads(json.dumps(asdict(alignment.Config()), default=str))
    return {"benchmark": "alignment", "settings": settings, "cells": cells}


def test_cells_are_unique_and_a_seed_comes_before_the_next() -> None:
    keys = [cell.key for cell in alignment.cells(alignment.Config())]
    assert len(set(keys)) == len(keys) == 2 * 2 * 5 + 2 * 4 * 3
    seeds = [int(key.rsplit("/", 1)[1]) for key in keys]
    assert seeds == sorted(seeds)


def test_each_loss_can_be_fitted() -> None:
    for loss in LOSSES:
        config = alignment.recipe(alignment.Config(), loss)
        config.aligner.check_losses()
        assert config.aligner.loss == loss
        assert config.estimator.steps == 800


@pytest.mark.parametrize("several", [False, True])
def test_rows_learnt_from_and_held_out_make_up_the_table(several: bool) -> None:
    example = load_example("nasbench201")
    space, rows, codes, behaviour = alignment.split("nasbench201", 1500, several=several, seed=3)
    assert len(torch.cat([rows.codes, codes]).unique(dim=0)) == len(rows) + len(codes)
    assert len(rows) + len(codes) == space.num_rows
    assert behaviour.shape == (len(codes), 3 if several else 1)
    assert (rows.behaviour is not None) == several
    for place in range(behaviour.shape[1]):  # scaled by a map that never falls
        true = example.true_score(codes, example.datasets[place])
        scaled = behaviour[true.argsort(), place]
        assert bool((scaled.diff() >= 0).all())


def test_differences_are_of_the_same_seeds(tmp_path: Path) -> None:
    results = faked()
    first, *others, last = alignment.tables(results)
    assert len(first.rows) <= 10
    for table in (first, *others):
        assert {len(row) for row in table.rows} == {len(table.header)}
        assert "nan" not in table.markdown()
    assert last.rows == [(f"`hpolib/several/{DEFAULT}/4`", "ValueError: planted")]
    shown = {tuple(row[:3]): row[3:] for row in first.rows}
    assert shown["NASBench201", "one", "hamming 1"][1] == "0.620; +0.100 [+0.100, +0.100]"
    assert shown["NASBench201", "one", "hamming 1"][3] == "-"
    assert shown["HPOLib", "several", "random"][0].startswith("0.820 [")  # seeds 1, 2 and 3
    losses = {tuple(row[:2]): row[2:] for row in others[3].rows}
    assert losses["HPOLib", "`mined`"][0] == "3"
    # all its three seeds, above the default by those of both
    assert losses["HPOLib", "`mined`"][1] == "0.860; +0.050 [+0.050, +0.050]"
    alignment.plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_tables_of_nothing_at_all() -> None:
    for table in alignment.tables(faked() | {"cells": {}}):
        assert {len(row) for row in table.rows} <= {len(table.header)}
