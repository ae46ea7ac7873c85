"""Every policy, and the values of reinforcement, on a pretended CUDA device."""

import pytest
import torch

from discrete_grad import CategoricalSpace
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.reinforcement import ContextValue, StepValue
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
            assert Generator(spec, SPACE).to(CARD)(given).device == CARD
            assert ContextValue(spec).to(CARD)(codes, given).device == CARD
            assert StepValue(SPACE, spec).to(CARD)(codes, given).device == CARD
