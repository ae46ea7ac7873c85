"""The pieces of `edits` that its figures rest on."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.edits import Config, cells, tables
from benchmarks.edits_methods import Worth, by_layer, by_swaps
from benchmarks.edits_problems import LOOKS, PRICE, STARTS, TASKS, Meter, Problem, graded
from discrete_grad import CategoricalSpace, StraightThrough
from discrete_grad.sampling import random_codes, seeded

SPACE = CategoricalSpace.from_sizes((4,) * 6)
WEIGHTS = torch.randn(SPACE.width, 2, generator=seeded(0))


def model(rows: Tensor) -> Tensor:
    return rows @ WEIGHTS


def small() -> Problem:
    return Problem(SPACE, model, random_codes(SPACE, STARTS, generator=seeded(1)), (1.0, -1.0))


def test_the_meter_counts_rows_and_gradients_and_keeps_the_least_loss() -> None:
    asked = small()
    meter = Meter(asked, asked.starts[0])
    codes = random_codes(SPACE, 5, generator=seeded(2))
    flat = SPACE.one_hot(codes)
    meter(flat[:2])
    meter(flat[2:].requires_grad_())
    assert meter.passes == 2 + 2 * 3
    error = (model(flat.detach()) - torch.tensor([1.0, -1.0])).square().mean(1)
    losses = error + PRICE * (codes != asked.starts[0]).sum(1)
    torch.testing.assert_close(meter.found.losses[-1], float(losses.min()))
    assert torch.equal(meter.found.best, codes[losses.argmin()])
    assert meter.found.after(2) == meter.found.after(7) == float(losses[:2].min())
    assert meter.found.after(8) == float(losses.min())
    start = SPACE.one_hot(asked.starts[:1])
    wanted = torch.tensor([1.0, -1.0])
    assert torch.equal(Worth(asked, meter)(start), -((model(start) - wanted) ** 2).mean(1))


def test_methods_keep_their_budgets_and_the_swap_search_is_the_best_here() -> None:
    asked = small()
    swaps = graded(asked, by_swaps(patience=None), 0)
    layer = graded(asked, by_layer(StraightThrough, rate=0.3, stay=5.0, budget=320), 0)
    assert layer["passes"] == 320
    assert swaps["loss"] <= layer["loss"] + 0.05
    every = SPACE.enumerate()
    outputs = model(SPACE.one_hot(every))
    best = [float(asked.loss(outputs, every, start).min()) for start in asked.starts]
    assert swaps["loss"] >= sum(best) / STARTS - 1e-6


def test_tables_hold_every_method_and_task() -> None:
    assert len(cells(Config(quick=True))) == 1
    figures = {"loss": 0.5, "passes": 10.0, "edits": 2.0, "cpu": 0.1, "curve": [1.0] * len(LOOKS)}
    made = {task: {"swap search": figures | {"together": 0.05}, "x": figures} for task in TASKS}
    found = tables({"cells": {"a": made, "b": made}})
    assert [len(table.rows) for table in found[:5]] == [2] * 5
    assert "0.05 in one batch" in found[1].rows[0][-1]
