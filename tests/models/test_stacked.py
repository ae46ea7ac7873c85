"""Families of ensembles, weighted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, StraightThrough
from discrete_grad.models import (
    AnovaEnsemble,
    Estimator,
    EstimatorEnsemble,
    KernelEnsemble,
    StackedEnsemble,
)
from discrete_grad.sampling import isolated_seed, normal, seeded
from discrete_grad.space import ContextSpec

SPACE = CategoricalSpace.from_sizes((2, 3))
SPEC = ContextSpec({"shop": 2})
ROWS = SPACE.enumerate()
CONTEXT = torch.eye(2).repeat(3, 1)


def stacked(spec: ContextSpec | None = None) -> StackedEnsemble:
    with isolated_seed(0):
        networks = EstimatorEnsemble([Estimator(SPACE, context=spec, hidden=(4,)) for _ in "ab"])
    tables = AnovaEnsemble(SPACE, context=spec, groups=[(0,), (0, 1)], members=2)
    tables.cells = normal(tables.cells.shape, generator=seeded(0)).float()
    process = KernelEnsemble(SPACE, context=spec, members=2)
    process.offsets = torch.tensor([1.0, 2.0])
    model = StackedEnsemble({"networks": networks, "anova": tables, "kernel": process})
    model.weights, model.constant = torch.tensor([0.5, 2.0, 0.25]), torch.tensor(0.1)
    return model.eval()


@pytest.mark.parametrize("spec", [None, SPEC])
def test_a_member_is_the_weighted_sum_of_one_member_of_each_family(
    spec: ContextSpec | None,
) -> None:
    model, context = stacked(spec), CONTEXT if spec else None
    parts = [model.family(i).predictions(ROWS, context) for i in range(3)]
    expected = 0.1 + 0.5 * parts[0] + 2.0 * parts[1] + 0.25 * parts[2]
    assert model.names == ["networks", "anova", "kernel"]
    assert model.num_members == 2
    for rows in (ROWS, SPACE.one_hot(ROWS)):
        assert_close(model.predictions(rows, context), expected)
    assert_close(model(ROWS, context), expected.mean(0))
    own = torch.stack([ROWS, ROWS.flip(0)])
    shown = None if context is None else torch.stack([context, context.flip(0)])
    turned = torch.stack([expected[0], expected[1].flip(0)])
    assert_close(model.predictions(own, shown, own_rows=True), turned)
    latent = model.family(0).to_latent(ROWS, context)
    assert_close(model.to_latent(ROWS, context), latent)


class _Unasked(AnovaEnsemble):
    def predictions(self, row: Tensor, context: Tensor | None = None, **_: bool) -> Tensor:
        raise AssertionError("a family without weight was asked")


def test_a_family_without_weight_is_not_asked() -> None:
    silent, heard = _Unasked(SPACE, members=2), stacked().family(1)
    model = StackedEnsemble({"silent": silent, "heard": heard})
    model.weights = torch.tensor([0.0, 0.5])
    assert_close(model.predictions(ROWS), 0.5 * heard.predictions(ROWS))
    logits = 100 * SPACE.one_hot(ROWS)
    drawn = model.sample_predictions(logits, StraightThrough(SPACE), generator=seeded(0))
    assert_close(drawn, 0.5 * heard.predictions(ROWS))


def test_without_any_weight_it_is_the_constant() -> None:
    model = stacked()
    model.weights = torch.zeros(3)
    assert_close(model.predictions(ROWS), torch.full((2, 6), 0.1))


def test_a_relaxations_sample_is_one_row_for_all_families() -> None:
    model = stacked()
    logits = torch.zeros(50, 5, requires_grad=True)
    drawn = model.sample_predictions(logits, StraightThrough(SPACE), generator=seeded(3))
    row = StraightThrough(SPACE)(logits, generator=seeded(3))
    assert_close(drawn, model.predictions(row))
    (slope,) = torch.autograd.grad(drawn.sum(), logits)
    (expected,) = torch.autograd.grad(model.predictions(row).sum(), logits)
    assert_close(slope, expected)


def test_alone_a_family_may_draw_in_its_own_way() -> None:
    model = stacked()
    model.weights = torch.tensor([0.5, 0.0, 0.0])
    logits = torch.zeros(50, 5)
    drawn = model.sample_predictions(logits, StraightThrough(SPACE), generator=seeded(3))
    own = model.family(0).sample_predictions(logits, StraightThrough(SPACE), generator=seeded(3))
    assert_close(drawn, 0.1 + 0.5 * own)


def test_weights_are_saved() -> None:
    model, other = stacked(), stacked()
    other.weights, other.constant = torch.ones(3), torch.zeros(())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.predictions(ROWS), model.predictions(ROWS))


@pytest.mark.parametrize(
    ("family", "part"),
    [("anova", "cells"), ("anova", "offsets"), ("kernel", "weights"), ("kernel", "offsets")],
)
def test_weights_of_another_number_of_members_are_refused(family: str, part: str) -> None:
    model, state = stacked(), stacked().state_dict()
    name = f"families.{family}.{part}"
    state[name] = torch.cat([state[name]] * 2, -1)
    with pytest.raises(RuntimeError, match=f"{family}.* are not of this model's columns"):
        model.load_state_dict(state)
    assert torch.equal(model.predictions(ROWS), stacked().predictions(ROWS))


@pytest.mark.parametrize(("family", "part"), [("anova", "cells"), ("kernel", "weights")])
def test_a_family_of_other_members_than_the_rest_is_refused(family: str, part: str) -> None:
    model, state = stacked(), stacked().state_dict()
    for name in (f"families.{family}.{part}", f"families.{family}.offsets"):
        state[name] = torch.cat([state[name]] * 2, -1)
    with pytest.raises(RuntimeError, match="the families have different numbers of members"):
        model.load_state_dict(state)


def test_it_refuses_nothing_and_families_that_differ() -> None:
    with pytest.raises(ValueError, match="at least one family"):
        StackedEnsemble({})
    first = AnovaEnsemble(SPACE, members=2)
    other = AnovaEnsemble(CategoricalSpace.from_sizes((2, 2)), members=2)
    with pytest.raises(ValueError, match="'other' has another space"):
        StackedEnsemble({"first": first, "other": other})
    with pytest.raises(ValueError, match="'other' has another space or context spec"):
        StackedEnsemble({"first": first, "other": AnovaEnsemble(SPACE, context=SPEC, members=2)})
    with pytest.raises(ValueError, match="'other' has 3 members, not 2"):
        StackedEnsemble({"first": first, "other": AnovaEnsemble(SPACE, members=3)})
