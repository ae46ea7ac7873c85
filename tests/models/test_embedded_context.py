"""Contexts of many values travel as codes, and every model embeds them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad.models import (
    BaseEstimator,
    Estimator,
    EstimatorEnsemble,
    MixedEnsemble,
    MultilinearEstimator,
)
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.reinforcement import ContextValue, StepValue
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.weighting import SampleGate

SPACE = CategoricalSpace.from_sizes((3, 4))
SPEC = ContextSpec({"plane": 1000, "shop": 2}, ["price"], embedded=True)
CODES = torch.tensor([[0, 1], [2, 3], [1, 0], [2, 2]])
CONTEXT = torch.tensor([[0.0, 0, 0.5], [999, 1, 0.5], [7, 0, -1.0], [7, 1, 2.0]])


def estimators() -> list[BaseEstimator]:
    return [Estimator(SPACE, context=SPEC, hidden=(8,)) for _ in range(3)]


def test_an_ensemble_is_its_members() -> None:
    members = estimators()
    ensemble = EstimatorEnsemble(members)
    expected = torch.stack([member(CODES, CONTEXT) for member in members])
    assert_close(ensemble.predictions(CODES, CONTEXT), expected)
    assert_close(ensemble.predictions(SPACE.one_hot(CODES), CONTEXT), expected)
    samples = CODES.expand(2, 4, 2)
    assert_close(ensemble.predictions(samples, CONTEXT), expected.unsqueeze(1).expand(3, 2, 4))
    latents = torch.cat([member.to_latent(CODES, CONTEXT) for member in members], -1)
    assert_close(ensemble.to_latent(CODES, CONTEXT), latents)


def test_members_with_rows_of_their_own() -> None:
    members = estimators()
    order = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 2, 0]])
    own = EstimatorEnsemble(members).predictions(CODES[order], CONTEXT[order], own_rows=True)
    expected = [m(CODES[i], CONTEXT[i]) for m, i in zip(members, order, strict=True)]
    assert_close(own, torch.stack(expected))
    mixed = MixedEnsemble([EstimatorEnsemble(members[:2]), EstimatorEnsemble(members[2:])])
    assert_close(mixed.predictions(CODES[order], CONTEXT[order], own_rows=True), own)


MODELS: dict[str, Callable[[], tuple[nn.Module, Callable[[Tensor], Tensor]]]] = {
    "estimator": lambda: _with(Estimator(SPACE, context=SPEC), lambda m, c: m(CODES, c)),
    "multilinear": lambda: _with(
        MultilinearEstimator(SPACE, context=SPEC), lambda m, c: m(CODES, c)
    ),
    "generator": lambda: _with(Generator(SPACE, SPEC), lambda m, c: m(c)),
    "autoregressive": lambda: _with(
        AutoregressiveGenerator(SPACE, SPEC), lambda m, c: m.log_prob(CODES, c)
    ),
    "attributes": lambda: _with(
        AutoregressiveGenerator(SPACE, attributes=SPEC), lambda m, c: m.log_prob(CODES, None, c)
    ),
    "context value": lambda: _with(ContextValue(SPEC), lambda m, c: m(CODES, c)),
    "step value": lambda: _with(StepValue(SPACE, SPEC), lambda m, c: m(CODES, c)),
    "sample gate": lambda: _with(SampleGate(2, SPEC), lambda m, c: m(torch.ones(5, 4, 2), c)),
}


def _with(
    model: nn.Module, f: Callable[..., Tensor]
) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    with torch.no_grad():  # some heads begin at 0
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, lambda context: f(model, context)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_reads_every_column_and_trains_only_the_rows_it_met(name: str) -> None:
    model, values = MODELS[name]()
    for column in range(3):
        changed = CONTEXT.clone()
        changed[2, column] = 1.0
        rows = (values(changed) - values(CONTEXT)).movedim(-1, 0) if name == "sample gate" else None
        difference = values(changed) - values(CONTEXT) if rows is None else rows
        moved = difference.reshape(4, -1).abs().sum(-1) > 0
        assert moved.tolist() == [False, False, True, False]
    values(CONTEXT).square().sum().backward()
    (table,) = [p for n, p in model.named_parameters() if n.endswith("reading.weight")]
    met = table.grad.abs().sum(-1).nonzero().flatten().tolist()
    assert met == [0, 7, 999, 1000, 1001]


@pytest.mark.parametrize("name", MODELS)
def test_a_code_out_of_range_is_named(name: str) -> None:
    wrong = CONTEXT.clone()
    wrong[0, 0] = 1000.0
    with pytest.raises(ValueError, match="'plane' has code 1000; its codes are 0 to 999"):
        MODELS[name]()[1](wrong)


def test_one_hot_contexts_have_no_parameters() -> None:
    model = Estimator(SPACE, context=ContextSpec({"shop": 2}))
    assert not [name for name in model.state_dict() if "reading" in name]


def test_what_cannot_be_embedded_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 2\^24 categories, got none"):
        ContextSpec(numeric=["price"], embedded=True)
    with pytest.raises(ValueError, match=r"at most 2\^24 categories, got \(16777217,\)"):
        ContextSpec({"id": 2**24 + 1}, embedded=True)
