"""The later relaxations do by default what their facts say."""

import pytest
import torch
from torch import Tensor

from discrete_grad import (
    IMLE,
    AdaptiveIMLE,
    Darn,
    DecoupledStraightThrough,
    Entmax,
    GappedStraightThrough,
    GumbelRao,
    ReinMaxRao,
    Relaxation,
)
from tests.gradient.cases import BY_NAME
from tests.gradient.contract import RAGGED, function
from tests.strategies import random_logits

BIAS = {"nothing": "biased", "multilinear": "exact on multilinear"}
DEFAULTS = {
    AdaptiveIMLE: "AdaptiveIMLE(beta=1.0)",
    Darn: "Darn",
    DecoupledStraightThrough: "DecoupledStraightThrough(tau_f=1.0, tau_b=1.0)",
    Entmax: "Entmax(alpha=1.5)",
    GappedStraightThrough: "GappedStraightThrough(gap=1.0, tau=1.0)",
    GumbelRao: "GumbelRao(tau=0.5, inner_samples=10)",
    IMLE: "IMLE(step=10.0)",
    ReinMaxRao: "ReinMaxRao(tau=1.0, inner_samples=10)",
}


@pytest.mark.parametrize("cls", DEFAULTS, ids=lambda cls: cls.__name__)
def test_the_facts_are_those_of_the_case_at_the_defaults(cls: type[Relaxation]) -> None:
    case, facts = BY_NAME[DEFAULTS[cls]], cls.facts
    assert repr(cls(RAGGED)) == repr(case.estimator(RAGGED))
    assert facts.forward == case.forward
    assert facts.bias == BIAS[case.exact_on]
    assert facts.needs_derivative == case.needs_derivative
    assert facts.experimental == (cls is ReinMaxRao)


@pytest.mark.parametrize("cls", DEFAULTS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("samples", [1, 3])
def test_the_cost_is_what_f_is_asked(cls: type[Relaxation], samples: int) -> None:
    estimator, f, asked = cls(RAGGED, samples=samples), function(RAGGED, "cubic"), [0, 0]

    def back(gradient: Tensor) -> None:
        asked[1] += len(gradient)

    def counted(rows: Tensor) -> Tensor:
        assert rows.dim() == 2  # one element of a batch: (samples, D)
        asked[0] += len(rows)
        rows.register_hook(back)
        return f(rows)

    logits = random_logits(RAGGED).requires_grad_()
    torch.autograd.grad(estimator.expectation(counted, logits), logits)
    cost = estimator.cost(RAGGED)
    assert asked == [cost.evaluations, cost.backward] == [samples, samples]
