"""Comparisons that the checks share: how close, how often, and what they say."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.testing import _comparing as comparing
from discrete_grad.testing.statistics import Plan
from discrete_grad.testing.subject import Scene, SkipCheck

SPACE = CategoricalSpace({"cut": ["fair", "good"], "colour": 3})
ROW = torch.arange(5).double()


def row(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize(
    ("expected", "got", "tolerance"),
    [
        (ROW, ROW + 3e-9, 1e-9),  # of the largest entry, 4
        (ROW / 8, ROW / 8 + 9e-10, 1e-9),  # and of 1 where all are smaller
        (ROW, ROW.float(), 1e-9),
        (ROW, ROW + 0.3, 0.1),
        (ROW[:0], ROW[:0], 1e-9),
    ],
)
def test_close(expected: Tensor, got: Tensor, tolerance: float) -> None:
    comparing.require_close(SPACE, "it", expected, got, tolerance=tolerance)


@pytest.mark.parametrize(
    ("expected", "got", "message"),
    [
        (ROW, ROW + 5e-9, "it: feature 'cut', category 'fair': expected 0, got 5e-09"),
        (ROW / 8, ROW / 8 + 2e-9, "it: feature 'cut', category 'fair': expected 0, got 2e-09"),
        (ROW, row(0, 1, 2, 4, 4), "it: feature 'colour', category '1': expected 3, got 4"),
        (
            torch.stack([ROW, ROW]),
            torch.stack([ROW, row(0, 1, torch.nan, 3, 5)]),
            "it: feature 'colour', category '0': expected 2, got nan",
        ),
    ],
)
def test_not_close(expected: Tensor, got: Tensor, message: str) -> None:
    with pytest.raises(AssertionError, match=f"^{re.escape(message)}$"):
        comparing.require_close(SPACE, "it", expected, got)


def subject(**parts: Any) -> Any:
    return SimpleNamespace(seed=3, **parts)


@pytest.mark.parametrize(("scale", "first"), [(2.0, 0.2), (0.0, 0.1)])
def test_where_the_spread_is_large_only_a_larger_discrepancy_is_sought(
    scale: float, first: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []

    def compared(sampler: object, expected: Tensor, plan: Plan) -> str:
        plans.append(plan)
        if len(plans) < 4:
            raise ValueError("too many")
        return "found"

    monkeypatch.setattr(comparing, "compare_mean", compared)
    found = comparing.mean_test(subject(), lambda n, s: ROW, ROW, scale)
    assert found == "found"
    assert [plan.detects for plan in plans] == pytest.approx([k * first for k in (1, 2, 4, 8)])
    assert {(plan.seed, plan.max_samples) for plan in plans} == {(3, 100_000)}
    plans.clear()
    monkeypatch.setattr(comparing, "replace", lambda plan, detects: plans.clear() or plan)
    why = "the gradient spreads too much for 100,000 samples to say anything"
    with pytest.raises(SkipCheck, match=f"^{why}$"):
        comparing.mean_test(subject(), lambda n, s: ROW, ROW, scale)


def test_what_is_too_large_to_enumerate(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Scene(CategoricalSpace.from_sizes((10,) * 5), torch.zeros(50))
    comparing.require_enumerable(whole)
    with pytest.raises(SkipCheck, match=r"^its space is too large to enumerate: give a factory$"):
        comparing.require_enumerable(
            Scene(CategoricalSpace.from_sizes((10, 10, 10, 101)), torch.zeros(131))
        )
    asked = []

    def enumerated(method: Any, f: Any, logits: Tensor, **options: Any) -> str:
        asked.append((method, f, logits, options))
        return "outcomes"

    monkeypatch.setattr(comparing, "outcomes", enumerated)
    most = Scene(CategoricalSpace.from_sizes((50_000,)), torch.zeros(50_000))
    found = comparing.outcomes_or_none(subject(method=lambda scene: "method"), most, max)
    assert found == "outcomes"
    options = {"space": most.space, "seed": 3, "max_draws": 50_000}
    assert asked == [("method", max, most.logits, options)]
    more = Scene(CategoricalSpace.from_sizes((50_001,)), torch.zeros(50_001))
    assert comparing.outcomes_or_none(subject(), more, max) is None


def test_a_method_that_never_calls_f() -> None:
    method = SimpleNamespace(expectation=lambda f, logits: logits.sum(-1))
    with pytest.raises(AssertionError, match=r"^f was not called$"):
        comparing.rows_seen(method, ROW, seed=0)
