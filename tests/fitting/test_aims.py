"""Chances, trade-offs to train with, and generators at one."""

import pytest
import torch

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.aims import (
    WithoutTradeoff,
    at_tradeoff,
    fit_chance,
    simplex_draws,
    with_tradeoffs,
)
from discrete_grad.models.aimed import tradeoff_columns, tradeoff_spec, tradeoff_weights
from discrete_grad.policies import Generator
from discrete_grad.sampling import seeded, uniform
from discrete_grad.space import CategoricalSpace, ContextSpec

SPACE = CategoricalSpace.from_sizes((3, 4))
SPECS = [
    None,
    ContextSpec({"shop": 3}, ["price"]),
    ContextSpec(numeric=["price"]),
    ContextSpec({"plane": 40}, ["price"], embedded=True),
]


def test_a_chance_is_calibrated_whatever_the_scale_of_the_predictions() -> None:
    predicted = 10 + 5 * torch.randn(4000, generator=seeded(0))
    truth = torch.sigmoid(0.6 * (predicted - 13))
    met = (uniform((4000,), generator=seeded(1)) < truth).float()
    slope, offset = fit_chance(predicted, met)
    assert slope == pytest.approx(0.6, rel=0.1)
    assert -offset / slope == pytest.approx(13, abs=0.3)
    said = torch.sigmoid(slope * predicted + offset)
    assert said.mean() == pytest.approx(met.mean().item(), abs=1e-3)


def test_counts_are_so_many_observations() -> None:
    predicted, met = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0.0, 0.5, 0.25, 1.0])
    counts = torch.tensor([30, 20, 40, 10])
    again = torch.arange(4).repeat_interleave(counts)
    torch.testing.assert_close(
        fit_chance(predicted, met, counts),
        fit_chance(predicted[again], met[again]),
        rtol=0.03,
        atol=0.03,
    )


@pytest.mark.parametrize("met", [torch.zeros(50), torch.ones(50), (torch.arange(50) > 25).float()])
def test_a_chance_is_finite_where_the_sides_do_not_overlap(met: torch.Tensor) -> None:
    slope, offset = fit_chance(torch.linspace(-1, 1, 50), met)
    assert torch.isfinite(slope)
    assert torch.isfinite(offset)


@pytest.mark.parametrize(
    ("predicted", "met", "counts", "slope"),
    [
        ([6, 0, -20, 1, 0], [1, 1, 0, 0, 0], [1e5, 1, 1e3, 1e4, 1e4], 3.3),
        ([0, 1, 0, -11], [1, 0, 0, 1], [10, 1e4, 1e3, 10], 0),
        ([0, 0.1, -0.1, 10], [0, 1, 0, 1], [5e3, 4e4, 1e4, 3e3], 47.1),
    ],
    ids=["one far below", "the wrong way round", "steep beside one far above"],
)
def test_the_chances_add_up_to_what_was_met(
    predicted: list[float], met: list[float], counts: list[float], slope: float
) -> None:
    """Where steps that are not bounded overshoot the maximum, and stay where all is certain."""
    x, share, weight = (torch.tensor(part).double() for part in (predicted, met, counts))
    found = fit_chance(x, share, weight).double()
    assert found[0].item() == pytest.approx(slope, abs=0.1)
    x, weight = torch.cat([x, x.mean().expand(1)]), torch.cat([weight, weight.new_full((1,), 2)])
    share = torch.cat([share, share.new_full((1,), 0.5)])  # one more of each at the mean
    said = torch.sigmoid(found[0] * x + found[1])
    torch.testing.assert_close((weight * said).sum(), (weight * share).sum(), rtol=1e-4, atol=0)


def test_a_model_that_ranks_the_wrong_way_round_says_the_share() -> None:
    met = (torch.arange(100) < 30).float()
    slope, offset = fit_chance(torch.linspace(-1, 1, 100), met)
    assert slope == 0
    assert torch.sigmoid(offset) == pytest.approx(0.3, abs=0.02)
    assert torch.isfinite(fit_chance(torch.zeros(100), met)).all()


def test_a_single_row_says_the_share_with_one_more_success_and_failure() -> None:
    slope, offset = fit_chance(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([4.0]))
    assert slope == 0
    assert torch.sigmoid(offset).item() == pytest.approx(5 / 6)


def test_trade_offs_are_spread_over_the_simplex_beside_every_row() -> None:
    rows = ScoredRows(torch.zeros(5, 1).long(), torch.arange(5.0), torch.eye(5))
    more = with_tradeoffs(rows, 3, seed=0)
    assert len(more) >= 4096
    assert more.context is not None
    assert torch.equal(more.context[:, :5].argmax(1).float(), more.scores)
    weights = tradeoff_weights(more.context[:, 5:])
    torch.testing.assert_close(weights.sum(1), torch.ones(len(more)))
    assert (weights.amax(1) > 0.9).float().mean() == pytest.approx(0.03, abs=0.01)
    assert torch.equal(simplex_draws(9, 3, seed=1), simplex_draws(9, 3, seed=1))


@pytest.mark.parametrize("spec", SPECS)
def test_a_generator_at_a_trade_off_is_the_whole_one_asked_for_it(spec: ContextSpec | None) -> None:
    torch.manual_seed(0)
    whole = Generator(SPACE, tradeoff_spec(spec, ["a", "b", "c"]), hidden=(8, 6))
    weights = torch.tensor([0.2, 0.5, 0.3])
    made = at_tradeoff(whole, spec, weights)
    assert made.context_spec == spec
    columns = tradeoff_columns(weights)
    if spec is None:
        torch.testing.assert_close(made(), whole(columns))
        return
    context = torch.ones(7, spec.width)
    asked = torch.cat([context, columns.expand(7, -1)], 1)
    torch.testing.assert_close(made(context), whole(asked))
    assert not any(parameter.requires_grad for parameter in made.parameters())


@pytest.mark.parametrize("bare", [True, False])
def test_what_reads_no_trade_off_is_asked_without_it(bare: bool) -> None:
    torch.manual_seed(0)
    spec = None if bare else ContextSpec(numeric=["price"])
    policy, context = Generator(SPACE, spec), torch.randn(4, 2 if bare else 3)
    expected = policy.logits(None if bare else context[:, :1]).expand(4, -1)
    torch.testing.assert_close(WithoutTradeoff(policy, 2, bare=bare).logits(context), expected)
