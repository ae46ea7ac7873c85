"""Generators as they are taken, and the law of their rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace, ReinMax
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import FrozenModels, GeneratorConfig, fit_generator
from discrete_grad.fitting._row_law import as_generator, law_of
from discrete_grad.fitting._step_law import StepLaw
from discrete_grad.models import Estimator
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.sampling import seeded

SPACE = CategoricalSpace.from_sizes((2, 3))


def test_what_has_a_part_of_a_policy_is_taken_as_it_is() -> None:
    for part in ("logits", "begin", "space"):
        known: Any = nn.Module()
        setattr(known, part, lambda *given: None)
        assert as_generator(known, SPACE) is known
    network = nn.Linear(2, 5)
    assert as_generator(network, None) is network
    made: Any = as_generator(network, SPACE)
    assert made.space == SPACE
    assert torch.equal(made.logits(torch.ones(1, 2)), network(torch.ones(1, 2)))


def test_rows_written_step_by_step_are_known_by_two_draws_or_more() -> None:
    law = law_of(AutoregressiveGenerator(SPACE, hidden=(4,)), None, 3, noise=seeded(0))
    assert isinstance(law, StepLaw)
    assert law.codes.shape == (2, 3, 2)
    more = law_of(AutoregressiveGenerator(SPACE, hidden=(4,)), None, 3, samples=5)
    assert isinstance(more, StepLaw)
    assert more.codes.shape == (5, 3, 2)


def test_without_contexts_a_law_is_as_often_as_asked() -> None:
    assert law_of(Generator(SPACE), None, 4).likely().shape == (4, 2)


class Refusing(Estimator):
    """A model that nobody may ask."""

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        raise AssertionError("asked")


class RefusingPolicy(Generator):
    """A policy that nobody may ask."""

    def logits(self, context: Tensor | None = None) -> Tensor:
        raise AssertionError("asked")


def test_what_has_no_weight_is_not_asked() -> None:
    frozen = FrozenModels(
        Estimator(SPACE),
        Estimator(SPACE),
        aligner=Refusing(SPACE),
        reference=RefusingPolicy(SPACE),
        preference=Refusing(SPACE),
    )
    codes = SPACE.enumerate()
    fit_generator(
        Generator(SPACE),
        ScoredRows(codes, codes.sum(-1).float()),
        frozen=frozen,
        method=ReinMax(SPACE),
        config=GeneratorConfig(steps=2, preference=0.0),
        seed=0,
    )
