"""Perturbed contexts: of the magnitude they say, and nothing else changed."""

import math

import pytest
import torch
from torch import Tensor

from discrete_grad import ContextSpec
from discrete_grad.evaluation import TrainingContexts
from discrete_grad.evaluation._perturbation import (
    ContextNoise,
    _Perturbation,
    perturb,
    perturbations,
)
from tests.evaluation.planted import MIXED, SHOPS, mixed_contexts


def noise_of(n: int, count: int, spec: ContextSpec) -> ContextNoise:
    generator = torch.Generator().manual_seed(0)
    kinds = spec.categorical.num_features if spec.categorical else 0
    normal = torch.randn(n, count, len(spec.numeric), generator=generator, dtype=torch.float64)
    chance, other = torch.rand(2, n, count, kinds, generator=generator, dtype=torch.float64)
    return ContextNoise(normal, chance, other)


def columns_of(contexts: Tensor) -> dict[str, Tensor]:
    shop, day, price, weight = contexts.split([3, 2, 1, 1], -1)
    return {"shop": shop, "day": day, "price": price, "weight": weight}


@pytest.mark.parametrize("size", [0.1, 0.3, 1.0])
def test_noise_is_of_so_many_deviations_and_leaves_the_rest(size: float) -> None:
    training = TrainingContexts(MIXED, mixed_contexts(500))
    shown, noise = training.values[:9], noise_of(4000, 9, MIXED)
    given = perturb(shown, _Perturbation("noise", size, ("weight",)), training, noise)
    assert given.shape == (4000, 9, 7)
    assert given.dtype == shown.dtype
    before, after = columns_of(shown.expand(4000, -1, -1)), columns_of(given)
    moved = (after["weight"] - before["weight"]).double()
    deviation = training.values[:, 6].double().std(correction=0)
    assert moved.std() / deviation == pytest.approx(size, rel=0.02)
    assert moved.mean() / deviation == pytest.approx(0, abs=0.02 * size)
    for name in ("shop", "day", "price"):
        assert torch.equal(after[name], before[name])


@pytest.mark.parametrize("rate", [0.1, 0.3, 1.0])
def test_categories_are_replaced_by_each_other_one_equally_often(rate: float) -> None:
    training = TrainingContexts(MIXED, mixed_contexts(50))
    shown, noise = training.values[:9], noise_of(4000, 9, MIXED)
    given = perturb(shown, _Perturbation("replaced", rate, ("shop", "day")), training, noise)
    before, after = columns_of(shown.expand(4000, -1, -1)), columns_of(given)
    for name, size in (("shop", 3), ("day", 2)):
        assert torch.equal(after[name].sum(-1), torch.ones(4000, 9))
        assert set(after[name].unique().tolist()) == {0, 1}
        step = (after[name].argmax(-1) - before[name].argmax(-1)) % size
        shares = step.flatten().bincount(minlength=size) / step.numel()
        expected = torch.tensor([1 - rate, *[rate / (size - 1)] * (size - 1)])
        torch.testing.assert_close(shares, expected, atol=0.012, rtol=0)
    for name in ("price", "weight"):
        assert torch.equal(after[name], before[name])


@pytest.mark.parametrize("size", [1.0, 3.0])
def test_beyond_is_so_many_deviations_from_the_range(size: float) -> None:
    training = TrainingContexts(MIXED, mixed_contexts(50))
    noise = noise_of(2, 9, MIXED)
    for kind, sign, edge in (("below", -1, torch.amin), ("above", 1, torch.amax)):
        change = _Perturbation(kind, size, ("price", "weight"))  # type: ignore[arg-type]
        given = perturb(training.values[:9], change, training, noise)
        numeric = training.values[:, 5:].double()
        wanted = edge(numeric, 0) + sign * size * numeric.std(0, correction=0)
        torch.testing.assert_close(given[..., 5:], wanted.float().expand(2, 9, 2))
        assert torch.equal(given[..., :5], training.values[:9, :5].expand(2, 9, 5))


def test_every_perturbation_is_listed_once() -> None:
    found = perturbations(TrainingContexts(MIXED, mixed_contexts(20)))
    both, kinds = ("price", "weight"), ("shop", "day")
    sides = ("below", "above")
    assert [(c.kind, c.size, c.columns) for c in found] == [
        *(("noise", size, both) for size in (0.1, 0.3, 1.0)),
        *(("replaced", size, kinds) for size in (0.1, 0.3, 1.0)),
        *((side, size, both) for size in (1.0, 3.0) for side in sides),
        *(("noise", 1.0, (name,)) for name in both),
        *(("replaced", 1.0, (name,)) for name in kinds),
        *((side, 3.0, (name,)) for name in both for side in sides),
    ]
    # a column that is the only one is also all of them
    one = TrainingContexts(ContextSpec(numeric=["price"]), torch.tensor([[0.0], [1.0]]))
    assert len(perturbations(one)) == 7


def test_columns_of_one_value_are_left_alone() -> None:
    spec = ContextSpec({"shop": 1, "day": 2}, ["price", "fixed"])
    values = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.1], [1.0, 1.0, 0.0, 1.0, 0.1]])
    values = values[[0, 1, 1]]
    named = {name for c in perturbations(TrainingContexts(spec, values)) for name in c.columns}
    assert named == {"day", "price"}


def test_deviations_are_those_of_the_rows() -> None:
    training = TrainingContexts(ContextSpec(numeric=["a"]), torch.tensor([[0.0]] * 3 + [[4.0]]))
    assert training.deviation == pytest.approx((math.sqrt(3),))
    assert (training.low, training.high) == ((0.0,), (4.0,))
    none = TrainingContexts(SHOPS, torch.eye(4))
    assert none.deviation == none.low == none.high == ()
