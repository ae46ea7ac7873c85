"""Weights after the fact: only those from scores prefer good rows."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.sampling import seeded
from discrete_grad.weighting import post_hoc_weights, weighted_vote
from discrete_grad.weighting.posthoc import (
    bootstrap_interval,
    exponential_tilt,
    order_decay,
    rank_decay,
    row_vote,
    score_softmax,
    weighted_average,
    weighted_marginals,
)
from discrete_grad.weighting.tilt import table_kl
from tests.weighting.worlds import numbers

SPACE = CategoricalSpace.from_sizes((2, 3))
BY_SCORE = {
    "rank": lambda scores: rank_decay(scores, rate=0.6),
    "softmax": lambda scores: score_softmax(scores, temperature=0.7),
    "tilt": lambda scores: exponential_tilt(
        scores, target=(scores.double().mean(0) + scores.double().amax(0)) / 2
    ),
}
ALL = {**BY_SCORE, "order": order_decay}


def scores_of(seed, rows=6, contexts=3):
    scores = numbers((rows, contexts), seed)
    scores[0], scores[1] = 2.25, -1.75  # never all equal
    return scores


@pytest.mark.parametrize("name", ALL)
@given(seed=st.integers(0, 2**31))
def test_weights_are_a_distribution_of_each_context(name, seed):
    scores = scores_of(seed)
    weights = post_hoc_weights(scores, ALL[name])
    assert_close(weights, ALL[name](scores))
    assert (weights >= 0).all()
    assert_close(weights.sum(0), torch.ones(3).double())
    assert_close(ALL[name](scores[:, 1]), weights[:, 1])


@pytest.mark.parametrize("name", BY_SCORE)
@given(seed=st.integers(0, 2**31))
def test_weights_from_scores_know_no_order_and_rise_with_the_score(name, seed):
    scores = scores_of(seed)
    weights, shuffle = BY_SCORE[name](scores), torch.randperm(6, generator=seeded(seed))
    assert_close(BY_SCORE[name](scores[shuffle]), weights[shuffle])
    better = scores.unsqueeze(0) > scores.unsqueeze(1)
    assert (weights.unsqueeze(0) >= weights.unsqueeze(1) - 1e-12)[better].all()
    equal = scores.unsqueeze(0) == scores.unsqueeze(1)
    assert_close(*(w.expand(6, 6, 3)[equal] for w in (weights.unsqueeze(0), weights.unsqueeze(1))))
    assert (weighted_average(scores, weights) > scores.mean(0)).all()


def test_order_decay_is_the_plain_mean_with_more_variance():
    """Over all orders in which the same rows may be generated; any score is as likely anywhere."""
    scores = torch.tensor([3.0, 1.0, 0.0, 2.0]).double()
    means = {
        name: torch.stack(
            [
                weighted_average(scores[list(order)], weighting(scores[list(order)]))
                for order in itertools.permutations(range(4))
            ]
        )
        for name, weighting in {**ALL, "order": lambda s: order_decay(s, rate=0.5)}.items()
    }
    assert_close(means["order"].mean(), scores.mean())
    assert means["order"].std() > 0.4
    for name in BY_SCORE:
        assert means[name].std() < 1e-9
        assert (means[name] > scores.mean()).all()
    weights = order_decay(scores, rate=0.5)
    assert 4 * weights.square().sum() > 1  # the factor of the variance for independent rows


@given(seed=st.integers(0, 2**31), share=st.floats(0.01, 0.99))
def test_the_exponential_tilt_meets_its_target_and_is_the_nearest(seed, share):
    scores = scores_of(seed)
    target = scores.amin(0) + share * (scores.amax(0) - scores.amin(0))
    weights = exponential_tilt(scores, target=target)
    assert_close(weighted_average(scores, weights), target)
    # log-weights are linear in the scores: the mark of the least divergence
    slope = (weights[0] / weights[1]).log() / (scores[0] - scores[1])
    assert_close(
        weights.log() - weights[0].log(), slope * (scores - scores[0]), atol=1e-6, rtol=1e-6
    )


def test_the_softmax_is_the_tilt_of_the_samples_and_forbids():
    weights = score_softmax(torch.tensor([0.0, -math.inf, 0.0]))
    assert weights.tolist() == [0.5, 0, 0.5]
    uniform = torch.full((3,), 1 / 3).double().log()
    assert table_kl(weights.log(), uniform) > 0
    with pytest.raises(ValueError, match=r"context \(1,\): every row is forbidden"):
        score_softmax(torch.tensor([[0.0, -math.inf]]))


def test_votes_and_marginals():
    codes = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 1]])
    weights = torch.tensor([0.4, 0.25, 0.2, 0.15]).double()
    marginals = weighted_marginals(SPACE, codes, weights)
    assert_close(marginals, torch.tensor([0.65, 0.35, 0.4, 0.6, 0.0]).double())
    assert weighted_vote(SPACE, codes, weights).tolist() == [0, 1]
    assert row_vote(codes, weights).tolist() == [0, 0]
    assert row_vote(codes, torch.tensor([0.3, 0.25, 0.2, 0.25])).tolist() == [1, 1]
    batch = torch.stack([codes, codes.flip(0)], 1)
    assert weighted_vote(SPACE, batch, torch.stack([weights, weights.flip(0)], 1)).tolist() == [
        [0, 1],
        [0, 1],
    ]
    assert row_vote(batch, torch.stack([weights, weights], 1)).tolist() == [[0, 0], [1, 1]]


def test_a_weight_of_nothing_hides_any_value():
    values = torch.tensor([[1.0, 2.0], [math.nan, math.inf]])
    assert weighted_average(values, torch.tensor([1.0, 0.0])).tolist() == [1, 2]


def test_the_bootstrap_covers_the_mean_it_estimates():
    """Softmax-weighted scores of normal rows: the mean of the tilt is the temperature's inverse."""
    truth, covered, runs = 0.5, 0, 100
    scores = torch.randn(200, runs, generator=seeded(1), dtype=torch.float64)
    low, high = bootstrap_interval(
        scores,
        scores,
        lambda s: score_softmax(s, temperature=2.0),
        level=0.9,
        resamples=200,
        generator=seeded(2),
    )
    covered = ((low < truth) & (truth < high)).sum()
    assert 80 <= covered <= 98
    assert low.shape == (runs,)


def test_the_bootstrap_is_repeatable_and_widens_with_its_level():
    scores = scores_of(1)
    values = torch.stack([scores, -scores], -1)
    ends = [
        bootstrap_interval(
            values, scores, rank_decay, level=level, resamples=50, generator=seeded(0)
        )
        for level in (0.5, 0.5, 0.99)
    ]
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][0].shape == (3, 2)
    assert (ends[2][0] <= ends[0][0]).all()
    assert (ends[2][1] >= ends[0][1]).all()


def test_what_is_left_out():
    scores = torch.tensor([0.0, 9.0])
    assert_close(order_decay(scores), torch.tensor([1.0, 0.9]).double() / 1.9)
    assert_close(rank_decay(scores), torch.tensor([0.9, 1.0]).double() / 1.9)
    few = scores_of(1)
    usual, stated = (
        bootstrap_interval(few, few, order_decay, generator=seeded(0), **options)
        for options in ({}, {"level": 0.95, "resamples": 1000})
    )
    assert torch.equal(torch.stack(usual), torch.stack(stated))


def test_the_bootstrap_weighs_every_resample_anew():
    scores, seen = torch.arange(5.0), []

    def weighting(drawn):
        seen.append(drawn)
        return score_softmax(drawn)

    bootstrap_interval(scores, scores, weighting, resamples=20, generator=seeded(0))
    assert len({tuple(drawn.tolist()) for drawn in seen}) > 10


def test_what_they_refuse():
    scores = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"context \(1,\): no weights"):
        exponential_tilt(scores, target=0.5)
    for rate in (0.0, 1.5):
        with pytest.raises(ValueError, match="rate"):
            rank_decay(scores, rate=rate)
    with pytest.raises(ValueError, match=r"row 1, context \(0,\)"):
        score_softmax(torch.tensor([[0.0], [math.nan]]))
    for bad, fault in (
        (lambda s: s - 0.5, r"context \(0,\): .* at least 0"),
        (lambda s: s * math.nan, "finite"),
        (lambda s: s, r"context \(1,\): every weight is 0"),
        (lambda s: s[:1], "shape"),
    ):
        with pytest.raises(ValueError, match=fault):
            post_hoc_weights(scores, bad)
    for weighting in ALL.values():
        with pytest.raises(ValueError, match="at least one sample"):
            post_hoc_weights(torch.zeros(0, 2), weighting)
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval(scores, scores, rank_decay, level=1.0)
