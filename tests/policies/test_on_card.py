"""Every policy, and the values of reinforcement, on a pretended CUDA device."""

import pytest
import torch

from discrete_grad import CategoricalSpace
from discrete_grad.gradient import StraightThrough
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Conditioned,
    Generator,
    MixtureGenerator,
    conditioned,
    log_prob_by_steps,
)
from discrete_grad.reinforcement import ContextValue, StepValue
from discrete_grad.rules import AtMost, Forbid, Rules, When
from discrete_grad.sampling import isolated_seed, random_codes, seeded
from discrete_grad.space import ContextSpec
from tests.pretended_card import CARD, pretended_card

SPACE = CategoricalSpace.from_sizes((3, 2, 4))
SPEC = ContextSpec({"shop": 2}, ["price"])
CODES = random_codes(SPACE, 6, generator=seeded(0))
CONTEXT = torch.tensor([[1.0, 0.0, 0.3], [0.0, 1.0, -0.5]]).repeat(3, 1)


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
@pytest.mark.parametrize("shared", [False, True])
def test_an_autoregressive_generator_draws_rows_and_knows_their_probability(
    backbone: str, shared: bool
) -> None:
    space = CategoricalSpace.from_sizes((3, 3, 3)) if shared else SPACE
    with pretended_card(), isolated_seed(0):
        policy = AutoregressiveGenerator(
            space, SPEC, backbone=backbone, hidden=(16,), shared=shared
        ).to(CARD)
        context = CONTEXT.to(CARD)
        rows = policy.sample(context, 5, generator=seeded(0, CARD))
        assert rows.device == CARD
        log_p = policy.log_prob(rows, context)
        log_p.sum().backward()
        assert all(p.grad is None or p.grad.device == CARD for p in policy.parameters())


def test_a_generator_and_the_values_answer() -> None:
    with pretended_card():
        codes, context = CODES.to(CARD), CONTEXT.to(CARD)
        for spec, given in ((SPEC, context), (None, None)):
            assert Generator(SPACE, spec).to(CARD)(given).device == CARD
            assert ContextValue(spec).to(CARD)(codes, given).device == CARD
            assert StepValue(SPACE, spec).to(CARD)(codes, given).device == CARD


@pytest.mark.parametrize("kind", ["independent", "steps", "mixture"])
def test_policies_under_rules_stay_where_they_are(kind: str) -> None:
    rules = Rules(
        SPACE,
        [Forbid({"x0": 0, "x1": 1}), When({"shop": "1"}, [AtMost(1, {"x0": 1, "x2": 1})])],
        context=CategoricalSpace({"shop": 2}),
    )
    with pretended_card(), isolated_seed(0):
        gate = Generator(CategoricalSpace({"expert": 2}))
        plain = {
            "independent": Generator(SPACE, SPEC),
            "steps": AutoregressiveGenerator(SPACE, SPEC, hidden=(8,)),
            "mixture": MixtureGenerator([Generator(SPACE, SPEC), Generator(SPACE)], gate),
        }[kind]
        policy, context = conditioned(plain, rules).to(CARD), CONTEXT.to(CARD)
        rows = policy.sample(context, 5, generator=seeded(0, CARD))
        assert rows.device == policy.enumerate(device=CARD).device == CARD
        assert policy.allows(rows, context).all()
        assert policy.swaps_allowed(rows, context).device == CARD
        free = conditioned(Generator(SPACE), Rules(SPACE, [Forbid({"x0": 0, "x1": 1})]))
        assert free.swaps_allowed(rows).device == free.enumerate(device=CARD).device == CARD
        policy.log_prob(rows, context).sum().backward()
        if kind != "mixture":
            log_prob_by_steps(policy, rows, context).sum().backward()
            policy.relaxed(context, 2, StraightThrough(), generator=seeded(0, CARD)).sum()
        if isinstance(policy, Conditioned):
            again = policy.redrawn(rows, rows > 0, context, generator=seeded(0, CARD))
            assert policy.allows(again, context).all()
        assert all(p.grad is None or p.grad.device == CARD for p in policy.parameters())
