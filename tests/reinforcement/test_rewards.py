"""Rewards made from tables and models, against loops and direct calls."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.models import Aligner, Estimator
from discrete_grad.reinforcement import (
    RunningScale,
    adversarial_reward,
    aligner_reward,
    nearest_distance,
    table_reward,
    weighted_reward,
)
from discrete_grad.sampling import isolated_seed, normal, random_codes, seeded

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
CODES = random_codes(SPACE, 10, generator=seeded(0)).reshape(5, 2, 3)
CONTEXT = torch.tensor([[0.0, 1.0], [1.0, 0.0]])


def test_tables() -> None:
    scores = normal((12, 2), generator=seeded(1))
    every = SPACE.enumerate()
    assert_close(table_reward(SPACE, scores[:, 0])(every, None), scores[:, 0])
    both = table_reward(SPACE, scores)(every.unsqueeze(1).expand(-1, 2, -1), CONTEXT)
    assert_close(both, scores[:, [1, 0]])
    with pytest.raises(ValueError, match=r"must be \(12,\) or \(12, tables\), got \(11,\)"):
        table_reward(SPACE, scores[1:, 0])
    with pytest.raises(ValueError, match="2 tables need a context of that width, got none"):
        table_reward(SPACE, scores)(every, None)


def test_nearest_distance_by_loops() -> None:
    rows = random_codes(SPACE, 3, generator=seeded(2))
    found = nearest_distance(SPACE, rows)(CODES, CONTEXT)
    for place in range(10):
        code = CODES.reshape(-1, 3)[place].tolist()
        apart = [sum(a != b for a, b in zip(code, r, strict=True)) for r in rows.tolist()]
        assert found.flatten()[place] == min(apart)
    with pytest.raises(ValueError, match=r"rows must be \(N, 3\), got \(0, 3\)"):
        nearest_distance(SPACE, rows[:0])


def test_mixes_and_the_aligner() -> None:
    spec = ContextSpec(numeric=["a", "b"])
    with isolated_seed(0):
        estimator = Estimator(SPACE, context=spec)
        aligner = Aligner(estimator)
    target = torch.tensor([1, 2, 0])
    alike = aligner_reward(aligner, target)(CODES, CONTEXT)
    for g, c in ((0, 0), (3, 1)):
        assert_close(alike[g, c], aligner(CODES[g, c], target, CONTEXT[c]))
    mix = weighted_reward([(2.0, estimator), (-0.5, aligner_reward(aligner, target))])
    assert_close(mix(CODES, CONTEXT), 2 * estimator(CODES, CONTEXT) - 0.5 * alike)
    for parts in ([], [(math.nan, estimator)]):
        with pytest.raises(ValueError, match="needs rewards with finite weights"):
            weighted_reward(parts)


def test_an_adversary_lowers_the_mean_and_leaves_the_model() -> None:
    spec = ContextSpec(numeric=["a", "b"])
    with isolated_seed(0):
        model = Estimator(SPACE, context=spec).double()
    codes, context = CODES, CONTEXT.double()
    plain, before = model(codes, context).detach(), model.state_dict()
    before = {name: t.clone() for name, t in before.items()}
    for radii in ({"context_radius": 1e-3}, {"weight_radius": 1e-3}):
        worse = adversarial_reward(model, **radii)(codes, context)
        assert worse.shape == plain.shape
        assert not worse.requires_grad
        assert worse.mean() < plain.mean()
    # to first order, the context moves each number by the radius against its slope
    seen = context.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(codes, seen).mean(), seen)
    worse = adversarial_reward(model, context_radius=1e-3)(codes, context)
    assert_close(worse, model(codes, context - 1e-3 * slope.sign()))
    assert (plain - worse).mean().item() == pytest.approx(1e-3 * slope.abs().sum().item(), rel=0.01)
    # and the weights by a share of their norm along theirs
    slopes = torch.autograd.grad(model(codes, context).mean(), list(model.parameters()))
    promised = sum(
        1e-3 * p.norm() * s.norm() for p, s in zip(model.parameters(), slopes, strict=True)
    )
    worse = adversarial_reward(model, weight_radius=1e-3)(codes, context)
    assert (plain - worse).mean().item() == pytest.approx(promised.item(), rel=0.02)
    assert_close(adversarial_reward(model)(codes, context), plain)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    for radius, name in itertools.product((-1.0, math.inf), ("weight_radius", "context_radius")):
        told = rf"^{name} must be a finite number from 0 on, got {radius}$"
        with pytest.raises(ValueError, match=told):
            adversarial_reward(model, **{name: radius})


class Flat(torch.nn.Module):
    """A score that depends on one of two weights, and not on the context."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = (torch.nn.Parameter(torch.tensor([2.0, 1.0])) for _ in "ab")

    def forward(self, codes: Tensor, context: Tensor | None) -> Tensor:
        return self.used[0] * codes.sum(-1)


def test_what_the_score_does_not_depend_on_stays() -> None:
    worse = adversarial_reward(Flat(), context_radius=0.5, weight_radius=0.1)
    codes = torch.tensor([[1, 0], [1, 1]])
    # along (1, 0), by a tenth of the norm of (2, 1)
    expected = (2 - 0.1 * 5**0.5) * codes.sum(-1)
    for context in (None, torch.zeros(2, 1)):
        assert_close(worse(codes, context), expected)


def test_the_running_scale_is_that_of_all_numbers_together() -> None:
    scale, parts = (
        RunningScale(),
        [normal((n, 3), generator=seeded(n)) * n + 100 for n in (1, 5, 9)],
    )
    for part in parts:
        scale.update(part)
    whole = torch.cat(parts)
    expected = (whole - whole.mean()) / whole.std(correction=0)
    assert_close(scale(whole), expected)
    assert scale(whole.float()).dtype == torch.float32
    constant = RunningScale()
    constant.update(torch.full((4,), 3.0))
    assert constant(torch.tensor([3.0, 4.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [0.1, 16777.77, -1e-7])
def test_equal_numbers_have_no_deviation_however_their_mean_rounds(value: float) -> None:
    scale = RunningScale()
    for count in (6, 3, 7, 11):
        scale.update(torch.full((count,), value, dtype=torch.float64))
        assert scale(torch.tensor([value, value + 1], dtype=torch.float64)).tolist() == [
            0.0,
            value + 1 - value,
        ]


def test_an_adversary_needs_derivatives() -> None:
    reward = adversarial_reward(Estimator(SPACE))
    message = "^an adversarial reward needs derivatives, which torch.inference_mode"
    with torch.inference_mode(), pytest.raises(ValueError, match=message):
        reward(CODES, None)
