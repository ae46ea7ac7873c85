"""The tilt benchmark's laws: exact ones against simulation, pooled ones against exact ones."""

import math
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from benchmarks import tilt_tables
from benchmarks.tilt_laws import (
    TableReference,
    TableReward,
    TableTwist,
    chain_laws,
    divergence,
    pooled,
    prefix_number,
    total_variation,
    transition,
    untwisted_law,
)
from discrete_grad import CategoricalSpace
from discrete_grad.policies import chosen_log_probs, conditional_logits
from discrete_grad.sampling import normal, seeded
from discrete_grad.testing._goodness import g_test
from discrete_grad.weighting import RewardWeighted, TablePotential, metropolis, twisted_smc
from discrete_grad.weighting.best_of_n import soft_best_of_n_law
from discrete_grad.weighting.particles import Proposal

SPACE = CategoricalSpace.from_sizes((2, 3, 4))
PROPOSALS = ("uniform", "informed")
FALSE_ALARM = 1e-6


def world(beta: float = 0.7) -> RewardWeighted:
    table = normal((2, SPACE.num_rows), generator=seeded(0))
    return RewardWeighted(TableReference(SPACE, table[0]), TableReward(SPACE, table[1]), beta)


def test_a_table_is_a_reference() -> None:
    target, rows = world(), SPACE.enumerate()
    reference = target.reference
    assert isinstance(reference, TableReference)
    assert torch.equal(prefix_number(SPACE, rows), torch.arange(24))
    assert_close(reference.log_prob(rows).exp().sum(), torch.tensor(1.0).double())
    parts = chosen_log_probs(SPACE, conditional_logits(reference, rows), rows)
    assert_close(parts.sum(-1), reference.log_prob(rows))
    codes = reference.sample(torch.zeros(5, 1), 4000, generator=seeded(1))
    assert codes.shape == (4000, 5, 3)
    counts = SPACE.row_number(codes).flatten().bincount(minlength=24)
    assert g_test(counts, reference.log_probs.exp()) > FALSE_ALARM


def test_a_flat_row_is_worth_the_expectation() -> None:
    reward = world().reward
    flat = SPACE.softmax(normal((3, SPACE.width), generator=seeded(2)).double())
    laws = SPACE.log_prob(flat.log().unsqueeze(1), SPACE.enumerate()).exp()
    assert_close(reward(flat, None), laws @ reward(SPACE.enumerate(), None))
    one_hot = SPACE.one_hot(SPACE.enumerate())
    assert_close(reward(one_hot, None), reward(SPACE.enumerate(), None))


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_a_chain_s_exact_law(proposal: str) -> None:
    """Probabilities that sum to 1, the target at rest, and what the sampler itself does."""
    target = world()
    exact, step = target.exact(), transition(target, proposal)
    leaving = torch.zeros(24).double().index_add(0, step.others.flatten(), step.inflow.flatten())
    assert_close(leaving + step.stay, torch.ones(24).double())
    assert_close(step.step(exact.probs), exact.probs)
    laws = dict(chain_laws(step, exact.log_reference.exp(), 4))
    assert list(laws) == [0, 1, 2, 4]
    samples = metropolis(
        target,
        None,
        40_000,
        steps=4,
        proposal=proposal,  # type: ignore[arg-type]
        generator=seeded(3),
    )
    counts = SPACE.row_number(samples.codes).bincount(minlength=24)
    assert g_test(counts, laws[4]) > FALSE_ALARM
    assert g_test(counts, laws[0]) < FALSE_ALARM
    far = list(chain_laws(step, exact.log_reference.exp(), 2**10))[-1][1]
    assert total_variation(far, exact.probs) < 1e-9


def test_distances() -> None:
    law, truth = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.25, 0.25, 0.5]).double()
    assert total_variation(law, truth) == 0.5
    assert abs(divergence(law, truth.log()) - math.log(2)) < 1e-12


@pytest.mark.parametrize("proposal", ["reference", "twisted"])
def test_pooled_runs_find_the_exact_law(proposal: Proposal) -> None:
    """Without a twist, where the law of a row is known for any number of particles."""
    target, count = world(), 3
    exact, noise = target.exact(), seeded(4)
    smc = partial(twisted_smc, target, count=count, proposal=proposal, generator=noise)
    found = pooled(lambda batch: smc(context=batch), exact, SPACE, runs=20_000, blocks=2)
    law = untwisted_law(exact, SPACE, count, proposal)
    assert_close(law.sum(), torch.tensor(1.0).double())
    truth = total_variation(law, exact.probs)
    assert truth > 0.05
    # noise of about 1 / sqrt(80,000 runs)
    assert_close(exact.probs + found.gaps.mean(0), law, atol=0.01, rtol=0)
    assert_close(found.drawn, law, atol=0.01, rtol=0)
    figures = found.figures(exact)
    assert figures["tv_low"] <= figures["tv"]
    for name in ("tv", "tv_low", "plain"):
        assert abs(figures[name] - truth) < 0.015
    assert abs(figures["kl"] - divergence(law, exact.log_probs)) < 0.015
    assert figures["evaluations"] == (12 if proposal == "twisted" else 3)


def test_the_untwisted_law_with_the_reference_is_that_of_resampling() -> None:
    exact = world().exact()
    law = soft_best_of_n_law(exact.log_reference, exact.reward, 0.7, 5).exp()
    assert_close(untwisted_law(exact, SPACE, 5, "reference"), law)


def test_pooled_runs_with_the_exact_twist_are_the_target() -> None:
    """No distance at all, where counted rows would show one of chance."""
    target = world(0.3)
    exact, noise = target.exact(), seeded(5)
    potential = TablePotential(SPACE, exact.log_reference, exact.reward / 0.3)
    smc = partial(twisted_smc, target, count=8, twist=TableTwist(potential), generator=noise)
    figures = pooled(lambda batch: smc(context=batch), exact, SPACE, runs=50, blocks=1).figures(
        exact
    )
    assert figures["tv"] < 1e-12
    assert figures["plain"] > 0.01


def test_what_runs_without_bias_is_seen_as_such() -> None:
    """With few runs the high estimate is mere noise, and the low one is about 0."""
    target, noise = world(1.0), seeded(6)
    exact = target.exact()
    smc = partial(twisted_smc, target, count=512, proposal="reference", generator=noise)
    lows = []
    for _ in range(40):
        figures = pooled(lambda batch: smc(context=batch), exact, SPACE, runs=2, blocks=1).figures(
            exact
        )
        assert figures["tv"] > 0.0005
        lows.append(figures["tv_low"])
    truth = total_variation(untwisted_law(exact, SPACE, 512, "reference"), exact.probs)
    low = torch.tensor(lows)
    assert low.mean() < truth + 5 * low.std() / math.sqrt(len(lows))


def test_a_budget_is_where_a_line_stays_below() -> None:
    points = [
        {"evaluations": float(n), "tv": tv}
        for n, tv in [(1, 0.5), (2, 0.01), (4, 0.03), (8, 0.015), (16, 0.001)]
    ]
    assert tilt_tables.budget(points) == 8
    assert tilt_tables.budget(points[:3]) is None
    assert tilt_tables.nearest(points, 7)["evaluations"] == 8


def test_tables_of_few_results() -> None:
    point = {"evaluations": 64.0, "tv": 0.01, "kl": 0.001, "tv_low": 0.0, "plain": 0.1}
    held = {
        "runs": 10,
        "too high": 1,
        "too low": 0,
        "missed": 1,
        "width": 0.5,
        "finite": 5,
        "missed though finite": 1,
    }
    cells = {
        "t/r/1/draws": {
            "lines": {"soft best of n": [point]},
            "intervals": {"importance 64": held},
            "seconds": 1,
        },
        "t/r/1/particles": {
            "lines": {"smc learned twisted": [point]},
            "intervals": {},
            "floor": 0.2,
        },
    }
    budgets, _, held_by, bounds, sure, failed = tilt_tables.tables({"cells": cells})
    assert budgets.rows[0][:2] == ("t, r, 1", "64")
    assert held_by.rows[0][2:] == ("90.0%", "0.0%", "10.0%", "50.0%", "80.0%", "0.5")
    assert not bounds.rows
    assert sure.rows[0][-3:] == ("[0, 0.01]", "0.1", "0.2")
    assert failed.rows == [("none", "")]
