"""What distillation refuses, and what it calls the place."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, LocalExpectation, ReinMax
from discrete_grad.policies import Generator
from discrete_grad.reinforcement import DistillConfig, distill
from discrete_grad.weighting import RewardWeighted, metropolis
from tests.reinforcement.test_distill import (
    QUICK,
    SPEC,
    additive,
    autoregressive,
    contexts,
    factorised,
    world,
)
from tests.weighting.worlds import SPACE


class Masked(torch.nn.Module):
    """A generator that never draws the first category of the first feature."""

    def __init__(self) -> None:
        super().__init__()
        self.space, self.inner = SPACE, factorised()

    def log_prob(self, codes: Tensor, context: Tensor) -> Tensor:
        return SPACE.log_prob(self._logits(context), codes)

    def sample(self, context, count=1, *, generator=None) -> Tensor:
        raise NotImplementedError

    def _logits(self, context: Tensor) -> Tensor:
        return self.inner(context).masked_fill(torch.arange(SPACE.width) == 0, -torch.inf)


def test_a_row_without_weight_may_be_one_that_the_policy_forbids():
    def strict(rows: Tensor, context: Tensor) -> Tensor:
        return additive()(rows, context).masked_fill(rows[..., 0] == 0, -torch.inf)

    target, context, policy = RewardWeighted(factorised(1), strict, 1.5), contexts(0, 1), Masked()
    for method in ("forward", "exact"):
        losses = distill(policy, target, context, method=method, config=QUICK)
        assert losses[-1] < losses[0]
    assert losses[-1] < 0.01


def without(table: int):
    """A reward that forbids every row of one context."""
    return lambda rows, context: additive()(rows, context % 2).masked_fill(
        context[..., 0] == table, -torch.inf
    )


FAULTS = {
    "method must be one of": {"method": "both"},
    "clip belongs to method 'forward'": {"method": "exact", "clip": 2.0},
    "direction belongs to method 'exact'": {"direction": "reverse"},
    "gradient_estimator belongs to": {"gradient_estimator": ReinMax(SPACE)},
    "clip must be at least 1": {"clip": 0.5},
    "proposal must be": {"proposal": "best"},
    "a sampler has its own": {"proposal": "policy", "sampler": metropolis},
    "direction must be": {"method": "exact", "direction": "up"},
    "at least 2 samples": {"method": "reverse", "config": DistillConfig(samples=1)},
    "samples must be at least 1": {"config": DistillConfig(samples=0)},
    "learning_rate must be": {"config": DistillConfig(learning_rate=-1.0)},
    "must be of the policy's": {"method": "reverse", "gradient_estimator": ReinMax()},
    "log ref of a TableReference has none": {
        "method": "reverse",
        "gradient_estimator": ReinMax(SPACE),
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_options_that_do_not_fit_are_named(fault: str):
    with pytest.raises(ValueError, match=fault):
        distill(factorised(), world(0), contexts(0, 1), **FAULTS[fault])


def test_gradient_estimators_that_do_not_apply_are_named():
    target, policy, run = world(0), autoregressive(), partial(distill, method="reverse")
    with pytest.raises(ValueError, match="logits of independent features"):
        run(policy, target, contexts(0), gradient_estimator=LocalExpectation(SPACE))
    with pytest.raises(ValueError, match="must have no space"):
        run(policy, target, contexts(0), gradient_estimator=ReinMax(SPACE))
    with pytest.raises(TypeError, match=r"ReinMax needs .* `relaxed\(.*; Masked has none"):
        run(Masked(), target, contexts(0), gradient_estimator=ReinMax())
    opaque = RewardWeighted(factorised(1), lambda rows, context: rows.detach().sum(-1), 1.0)
    with pytest.raises(ValueError, match="reward has no derivative"):
        run(factorised(), opaque, contexts(0), gradient_estimator=ReinMax(SPACE))


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("forward", "context 3: all 8 rows drawn are forbidden"),
        ("reverse", "context 3: the policy draws a row that the target forbids"),
    ],
)
@pytest.mark.parametrize("make", [factorised, autoregressive])
def test_a_context_without_an_allowed_row_is_named(method: str, fault: str, make):
    """By its place among all contexts, whichever batch it is met in."""
    target = RewardWeighted(factorised(1), without(3), 1.0)
    config = DistillConfig(batch_size=2, samples=8)
    with pytest.raises(ValueError, match=fault):
        distill(make(), target, contexts(0, 1, 2, 3, 4), method=method, config=config)


def test_a_policy_that_cannot_draw_what_is_wanted_is_named():
    target = RewardWeighted(factorised(1), additive(), 1.0)
    with pytest.raises(ValueError, match=r"context \d: the target draws row \[0, .*forbids"):
        distill(Masked(), target, contexts(0, 1), config=QUICK)
    with pytest.raises(ValueError, match="context 0: the policy forbids a row that the target"):
        distill(Masked(), target, contexts(0, 1), method="exact")
    narrow = RewardWeighted(factorised(1), lambda rows, context: -torch.inf * rows[..., 0], 1.0)
    narrow.reward = lambda rows, context: additive()(rows, context).masked_fill(
        rows[..., 0] == 1, -torch.inf
    )
    with pytest.raises(ValueError, match="context 0: the target forbids a row that the policy"):
        distill(factorised(), narrow, contexts(0), method="exact", direction="reverse")


def test_what_cannot_be_trained_is_named():
    target = world(0)
    with pytest.raises(
        TypeError, match=r"distill needs .* `parameters\(\)` .*; TableReference has none"
    ):
        distill(target.reference, target, contexts(0))
    frozen = factorised().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of Generator requires a gradient"):
        distill(frozen, target, contexts(0))
    with pytest.raises(ValueError, match="different spaces"):
        distill(Generator(CategoricalSpace.from_sizes((2, 2)), SPEC), target, contexts(0))
    with pytest.raises(ValueError, match=r"contexts must be \(N, C\)"):
        distill(factorised(), target, contexts(0)[0])
    with pytest.raises(ValueError, match=r"beta must be a number.*got \(2,\) for 3 contexts"):
        distill(factorised(), world(0, beta=torch.ones(2)), contexts(0, 1, 0))
