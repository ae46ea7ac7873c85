"""Everything a law says, against all rows of small spaces, for random rules of every kind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.rules import Law, Rule, Rules
from discrete_grad.testing import categorical_spaces, rule_lists, seeds
from tests.rules.meaning import obeys, row_of
from tests.strategies import random_logits


@st.composite
def spaces_and_rules(draw: st.DrawFn) -> tuple[CategoricalSpace, list[Rule]]:
    space = draw(categorical_spaces(max_features=5, max_size=3))
    return space, draw(rule_lists(space))


def truly_allowed(space: CategoricalSpace, rules: list[Rule]) -> Tensor:
    rows = [row_of(space, codes) for codes in space.enumerate().tolist()]
    return torch.tensor([all(obeys(rule, space, row) for rule in rules) for row in rows])


def assert_law_is(law: Law, rules: Rules, logits: Tensor, allowed: Tensor) -> None:
    """The law of logits `(B, D)` agrees with that of all rows allowed `(R, F)`."""
    joint = rules.space.log_prob(logits.unsqueeze(-2), allowed)  # (B, R)
    log_z = joint.logsumexp(-1)
    log_p = joint - log_z.unsqueeze(-1)
    p = log_p.exp()
    assert_close(law.log_z(), log_z)
    assert_close(law.log_prob(allowed.unsqueeze(1)).T, log_p)
    flat = rules.space.one_hot(allowed, dtype=p.dtype)
    assert_close(law.marginals(), p @ flat, rtol=1e-9, atol=1e-12)
    assert_close(law.entropy(), -(p * log_p.masked_fill(p == 0, 0)).sum(-1), atol=1e-9, rtol=1e-9)
    best, scores = law.best(min(rules.num_rows, 4))
    assert_close(scores.T, log_p.sort(-1, descending=True).values[:, : len(scores)])
    assert_close(law.log_prob(best), scores)
    assert_close(law.log_prob(law.mode()), log_p.amax(-1))
    for element in range(len(logits)):
        drawn = best[:, element][scores[:, element] > -torch.inf]
        assert len(drawn.unique(dim=0)) == len(drawn)
    sample = law.sample(20, generator=torch.Generator().manual_seed(0))
    assert (law.log_prob(sample) > -torch.inf).all()
    assert rules.allows(sample).all()


@pytest.mark.parametrize("examples", [200, pytest.param(2_000, marks=pytest.mark.slow)])
def test_a_law_is_that_of_the_rows_that_obey(examples: int) -> None:
    any_case = given(spaces_and_rules(), seeds(), st.sampled_from((1.0, 30.0, 1e4)), st.booleans())
    settings(max_examples=examples)(any_case(check_law))()


def check_law(
    pair: tuple[CategoricalSpace, list[Rule]], seed: int, scale: float, masked: bool
) -> None:
    """The rows allowed and the law of random logits under the rules, by enumeration."""
    space, rules = pair
    mask = truly_allowed(space, rules)
    rows = space.enumerate()
    if not mask.any():
        with pytest.raises(ValueError, match="no row"):
            Rules(space, rules)
        return
    compiled = Rules(space, rules)
    assert torch.equal(compiled.allows(rows), mask)
    assert compiled.num_rows == mask.sum()
    assert torch.equal(compiled.enumerate(), rows[mask])
    drawn = random_logits(space, (2,), scale=scale, masked=masked, generator=seed)
    possible = (space.log_prob(drawn.unsqueeze(-2), rows[mask]) > -torch.inf).any(-1)
    if possible.all():
        assert_law_is(compiled.condition(drawn), compiled, drawn, rows[mask])
        return
    first = int((~possible).nonzero()[0])
    with pytest.raises(ValueError, match=f"element {first} of the batch"):
        compiled.condition(drawn)
