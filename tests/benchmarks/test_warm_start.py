"""The warm-start benchmark's problem, its path and its figures."""

import copy
import math
from typing import Any

import torch

from benchmarks import warm_start
from benchmarks.warm_start_tables import GROUP, came, saved, tables
from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.policies import AutoregressiveGenerator
from discrete_grad.sampling import isolated_seed
from discrete_grad.weighting import Guided, TablePolicy, exact_log_probs, tilt
from discrete_grad.weighting.tilt import table_kl


def _path(*shares: float) -> list[dict[str, float]]:
    return [
        {"rows": GROUP * i, "seconds": float(i), "share": share, "kl": 0.5}
        for i, share in enumerate(shares)
    ]


def _figures(scratch: list[dict[str, float]], warm: list[dict[str, float]]) -> dict[str, Any]:
    return {"beta": 0.1, "distill_seconds": 2.02, "scratch": scratch, "warm": warm}


def test_shares_run_from_the_base_to_the_tilt() -> None:
    base = torch.tensor([0.4, 0.3, 0.2, 0.1]).double().log()
    asked = warm_start.posed(base, torch.tensor([0.0, 0.2, 0.5, 1.0]).double(), 0.5)
    best = tilt(base, asked.reward, asked.beta)
    assert abs(float(table_kl(best, base)) - 0.5) < 1e-6
    assert abs(asked.grade(base)["share"]) < 1e-9
    assert abs(asked.grade(best)["share"] - 1) < 1e-9
    half = tilt(base, asked.reward, 2 * asked.beta)
    worse = tilt(base, asked.reward, asked.beta / 3)
    assert 0 < asked.grade(half)["share"] < 1
    assert asked.grade(worse)["share"] < 1


def test_a_share_counts_from_where_it_is_kept() -> None:
    path = _path(0.0, 0.96, 0.5, 0.9, 1.0)
    assert abs((came(path, 0.95) or 0) - 3.5 * GROUP) < 1e-9
    assert abs((came(path, 0.95, "seconds") or 0) - 3.5) < 1e-9
    assert came(path, 0.0) == 0
    assert came(_path(0.0, 1.0, 0.5), 0.95) is None
    assert saved(_figures(path, path), 0.95) == 0
    quick = saved(_figures(path, _path(1.0, 1.0)), 0.95)
    assert quick is not None
    assert abs(quick - math.log(3.5)) < 1e-9
    assert saved(_figures(path, _path(0.0, 0.5)), 0.95) is None


def test_the_copy_alone_is_distilled_and_both_runs_begin_where_they_should() -> None:
    space = CategoricalSpace.from_sizes((3, 3))
    with isolated_seed(0):
        spec = ContextSpec(numeric=["score"])
        model = AutoregressiveGenerator(space, attributes=spec, hidden=(32,)).requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    base = exact_log_probs(model).double()
    sums = space.enumerate().sum(-1).double()
    asked = warm_start.posed(base, sums / 4, 0.3)
    teacher = TablePolicy.from_rows(space, torch.zeros(9), sums.unsqueeze(-1))
    guided = Guided(teacher, teacher.support, teacher.support.vectors[:, 0])
    figures = warm_start.compared(warm_start.Config(quick=True), model, guided, asked, 0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    scratch, warm = figures["scratch"], figures["warm"]
    assert abs(scratch[0]["share"]) < 1e-6
    assert scratch[0]["rows"] == warm[0]["rows"] == 0
    # the distillation has brought the copy to what the guided model draws
    wanted = asked.grade(exact_log_probs(guided).double())
    assert wanted["kl"] > 0.1
    assert abs(warm[0]["kl"] / wanted["kl"] - 1) < 0.2
    assert [p["rows"] for p in scratch] == [p["rows"] for p in warm]
    assert scratch[-1]["rows"] == 20 * GROUP
    assert scratch[-1]["share"] > 0.15


def test_tables_of_few_results() -> None:
    slow, fast = _path(0.0, 0.5, 0.8, 0.9, 1.0), _path(0.8, 1.0, 1.0, 1.0, 1.0)
    cell = {"mean 1": _figures(slow, fast), "cell 1": _figures(slow, _path(0, 0, 0, 0, 0))}
    found = tables({"cells": {f"hpobench/{seed}": {**cell, "seconds": 1.0} for seed in range(2)}})
    rows = found[0].rows
    assert {len(row) for row in rows} == {len(found[0].header)}
    # half an update counts as one
    assert rows[0][5:7] == ["192 / 32", "3.00 [3.00, 3.00]"]
    assert rows[1][5:7] == ["192 / - (0 of 2)", "-"]
    assert rows[2][:2] == ["HPOBench", "together"]
    assert rows[2][5:7] == ["1 of 2 rewards", "3.00 [3.00, 3.00]"]
    assert found[1].rows[0][5:7] == ("3.5", "2.8")
