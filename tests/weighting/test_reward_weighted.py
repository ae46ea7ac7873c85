"""The exact tilt: what mathematics says of it, whatever the scale of the rewards."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.models import Estimator
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.testing._goodness import g_test
from discrete_grad.weighting import ExactTilt, RewardWeighted, beta_for_kl, beta_for_reward, tilt
from discrete_grad.weighting.tilt import (
    check_beta,
    coldest,
    log_partition,
    table_entropy,
    table_expectation,
    table_kl,
)
from tests.goodness import FALSE_ALARM
from tests.weighting.worlds import SPACE, context, numbers, world

ROWS = 6


BATCHES = st.sampled_from([(), (3,), (2, 2)])


@st.composite
def tables(draw, *, masked=True):
    """Log-probabilities and rewards `(R, *batch)`, of any scale, and a beta."""
    shape, seed = (ROWS, *draw(BATCHES)), draw(st.integers(0, 2**31))
    log_p = numbers(shape, seed, masked=masked and draw(st.booleans())).log_softmax(0)
    reward = numbers(shape, seed + 1, masked=masked and draw(st.booleans()))
    scale = draw(st.sampled_from([1.0, 1e-3, 1e3, 1e9]))
    return log_p, reward * scale, draw(st.sampled_from([1e-2, 0.7, 1.0, 50.0])) * scale


def test_the_published_examples():
    log_p = torch.tensor([0.6, 0.4], dtype=torch.float64).log()
    z = log_partition(log_p, torch.tensor([2.0, 1.0]), 1.0).exp()
    assert_close(z, torch.tensor(0.6 * math.e**2 + 0.4 * math.e, dtype=torch.float64))
    assert_close(log_partition(log_p, torch.zeros(2), 1.0).exp(), torch.ones(()).double())


@given(case=tables())
def test_it_is_the_textbook_formula(case):
    log_p, reward, beta = case
    best = reward.where(log_p > -math.inf, -math.inf).amax(0)
    weights = log_p.exp() * ((reward - best) / beta).clamp_max(0).exp()
    weights = weights.where(log_p > -math.inf, 0)
    probs = tilt(log_p, reward, beta).exp()
    assert_close(probs, weights / weights.sum(0))
    assert_close(probs.sum(0), torch.ones(log_p.shape[1:]).double())
    assert_close(log_partition(log_p, reward, beta), weights.sum(0).log() + best / beta)
    assert (probs[log_p == -math.inf] == 0).all()
    assert (probs[reward == -math.inf] == 0).all()


@given(case=tables(), shift=st.sampled_from([-8.0, 0.5, 64.0]))
def test_a_constant_added_to_the_reward_moves_log_z_alone(case, shift):
    log_p, reward, beta = case
    shift = shift * beta
    moved = reward + shift
    assert_close(tilt(log_p, moved, beta), tilt(log_p, reward, beta), rtol=1e-6, atol=1e-6)
    gain = log_partition(log_p, moved, beta) - log_partition(log_p, reward, beta)
    assert_close(gain, torch.full_like(gain, shift / beta), rtol=1e-6, atol=1e-6)


@given(case=tables(masked=False))
def test_a_higher_beta_means_less_of_everything(case):
    log_p, reward, beta = case
    near, far = tilt(log_p, reward, beta), tilt(log_p, reward, 3 * beta)
    slack = 1e-9 * float(reward.abs().max() + 1)
    assert (table_kl(near, log_p) >= table_kl(far, log_p) - 1e-9).all()
    assert (table_expectation(near, reward) >= table_expectation(far, reward) - slack).all()
    best = reward == reward.amax(0)
    assert (near.exp() * best).sum(0).ge((far.exp() * best).sum(0) - 1e-9).all()


@given(case=tables(masked=False))
def test_the_limits_are_the_reference_and_its_best_rows(case):
    log_p, reward, _ = case
    assert_close(tilt(log_p, reward, math.inf), log_p.double())
    assert_close(log_partition(log_p, reward, math.inf), torch.zeros(log_p.shape[1:]).double())
    cold = coldest(log_p, reward)
    for beta in (1e-9, 1e-300, 5e-324):
        assert_close(tilt(log_p, reward, beta).exp(), cold.exp())
    assert_close(cold.exp().sum(0), torch.ones(log_p.shape[1:]).double())
    assert (reward.where(cold > -math.inf, reward.amax(0)) == reward.amax(0)).all()


@given(case=tables())
def test_no_reward_brings_back_an_impossible_row(case):
    log_p, reward, beta = case
    impossible = log_p == -math.inf
    for wild in (1e300, math.inf):
        assert_close(
            tilt(log_p, reward.masked_fill(impossible, wild), beta), tilt(log_p, reward, beta)
        )


def test_a_forbidden_row_stays_forbidden_at_infinity():
    log_p, reward = torch.tensor([0.2, 0.8]).log(), torch.tensor([1.0, -torch.inf])
    assert tilt(log_p, reward, math.inf).exp().tolist() == [1, 0]
    assert_close(log_partition(log_p, reward, math.inf).exp(), torch.tensor(0.2).double())


def test_so_it_does_in_the_density_that_samplers_use():
    target = RewardWeighted(
        Generator(SPACE), lambda codes, _: codes[..., 0].double().log(), math.inf
    )
    log_p = target.log_density(torch.tensor([[0, 0, 0], [1, 0, 0]]))
    assert_close(log_p, torch.tensor([-math.inf, -math.log(12)], dtype=torch.float64))


def test_rewards_of_any_size_are_safe():
    log_p = torch.tensor([0.5, 0.5]).double().log()
    for size in (1e-300, 1.0, 1e200, 1e308):
        probs = tilt(log_p, torch.tensor([size, -size], dtype=torch.float64), size).exp()
        assert_close(probs, torch.tensor([1.0, -1.0]).double().softmax(0))


def test_the_table_measures():
    p, q = torch.tensor([0.5, 0.5, 0.0]).double().log(), torch.tensor([0.25, 0.5, 0.25]).log()
    assert_close(table_kl(p, q), torch.tensor(0.5 * math.log(2)).double(), atol=1e-7, rtol=0)
    assert table_kl(q, p) == math.inf
    assert_close(table_entropy(p), torch.tensor(math.log(2)).double())


@given(seed=st.integers(0, 2**31), share=st.floats(0.01, 0.99))
def test_beta_is_found_for_a_kl_and_for_a_reward(seed, share):
    log_p = numbers((ROWS, 3), seed, masked=True).log_softmax(0)
    reward = numbers((ROWS, 3), seed + 1, masked=True)
    reward[0], reward[1] = 1.25, 0.75  # not constant
    log_p[:2] = log_p[:2].clamp_min(-5)
    log_p = log_p.log_softmax(0)
    cold, hot = coldest(log_p, reward), tilt(log_p, reward, math.inf)
    most, least = table_kl(cold, log_p), table_kl(hot, log_p)
    target = least + share * (most - least)
    assert_close(table_kl(tilt(log_p, reward, beta_for_kl(log_p, reward, target)), log_p), target)
    most, least = table_expectation(cold, reward), table_expectation(hot, reward)
    target = least + share * (most - least)
    beta = beta_for_reward(log_p, reward, target)
    assert_close(table_expectation(tilt(log_p, reward, beta), reward), target)


@pytest.mark.parametrize("unit", [1e-300, 1e-20, 1e20, 1e300, 1e304])
def test_beta_grows_with_the_unit_of_the_rewards(unit):
    log_p, reward = (
        torch.tensor([0.2, 0.3, 0.5]).double().log(),
        torch.tensor([0, 1, 3]).double(),
    )
    for target in (1.81, 1.9, 2.9):
        beta = beta_for_reward(log_p, reward * unit, target * unit)
        assert_close(beta / unit, beta_for_reward(log_p, reward, target))
    for target in (1e-4, 0.1, 0.6):
        beta = beta_for_kl(log_p, reward * unit, target)
        assert_close(beta / unit, beta_for_kl(log_p, reward, target))


def test_a_nearly_tied_best_row_is_told_apart():
    log_p, reward = (
        torch.full((3,), 1 / 3).log(),
        torch.tensor([1, 1 - 1e-9, 0], dtype=torch.float64),
    )
    beta = beta_for_kl(log_p, reward, 1.0)
    assert_close(table_kl(tilt(log_p, reward, beta), log_p), torch.tensor(1.0).double())


def test_targets_out_of_reach_name_the_context():
    log_p = torch.full((2, 2), 0.5).log()
    reward = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match=r"context \(1,\) reaches a KL"):
        beta_for_kl(log_p[:, :1].expand(-1, 3), reward, 0.1)
    for target in (0.5, 1.0, 2.0):
        with pytest.raises(ValueError, match=r"context \(0,\) reaches a reward .* 0.5 and 1"):
            beta_for_reward(log_p[:, :1], reward[:, :1], target)


def test_a_beta_that_is_refused_is_told_with_its_context():
    with pytest.raises(ValueError, match=r"^beta must be above 0, got -1\.0$"):
        check_beta(-1.0)
    with pytest.raises(ValueError, match=r"^beta must be above 0, got 0\.0 in context \(1, 0\)$"):
        check_beta(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, torch.tensor([1.0, 0.0])])
def test_a_beta_not_above_0_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be above 0"):
        tilt(torch.zeros(2, 2), torch.zeros(2, 2), beta)
    with pytest.raises(ValueError, match="beta must be above 0"):
        RewardWeighted(Generator(SPACE), lambda rows, context: rows.sum(-1), beta)


def test_bad_rewards_name_the_context():
    log_p, reward = torch.zeros(2, 3), torch.zeros(2, 3)
    reward[1, 1:] = math.nan
    with pytest.raises(ValueError, match=r"nan in row 1, context \(1,\)"):
        tilt(log_p, reward, 1.0)
    reward[1, 1:] = math.inf
    with pytest.raises(ValueError, match=r"inf in row 1, context \(1,\)"):
        tilt(log_p, reward, 1.0)
    reward[:, 1:] = -math.inf
    with pytest.raises(ValueError, match=r"context \(1,\): every row is forbidden"):
        tilt(log_p, reward, 1.0)
    with pytest.raises(ValueError, match="at least one row"):
        tilt(log_p[:0], reward[:0], 1.0)


# --- the class ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 5, 2**16])
def test_the_enumeration_is_the_same_in_parts(chunk):
    target = world(3, masked=True)
    batch = context(0, 1, 0)
    whole = target.exact(batch)
    parts = RewardWeighted(target.reference, target.reward, target.beta, chunk=chunk).exact(batch)
    assert_close(parts.log_probs, whole.log_probs)
    assert_close(whole.log_z[0], target.exact(context(0)).log_z[0])
    assert_close(whole.log_reference.exp().sum(0), torch.ones(3).double())
    expected = (whole.log_reference.exp() * (whole.reward / target.beta).exp()).sum(0).log()
    assert_close(whole.log_z, expected)


def test_its_measures_are_those_of_the_table():
    exact = world(5).exact(context(0, 1))
    probs = exact.probs
    assert_close(exact.mean_reward, (probs * exact.reward).sum(0))
    assert_close(exact.entropy, -(probs * probs.log()).sum(0))
    assert_close(exact.kl, exact.mean_reward / exact.beta - exact.log_z)
    assert torch.equal(exact.mode, exact.codes[probs.argmax(0)])
    assert_close(exact.at(exact.beta_for_kl(0.2)).kl, torch.full((2,), 0.2).double())
    reward = exact.mean_reward + 0.01
    assert_close(exact.at(exact.beta_for_reward(reward)).mean_reward, reward)


def test_each_context_may_have_its_beta():
    both = world(6, beta=torch.tensor([0.5, 2.0])).exact(context(0, 1))
    for i, beta in enumerate((0.5, 2.0)):
        assert_close(both.log_z[i], world(6, beta=beta).exact(context(i)).log_z[0])


def test_its_rows_follow_its_law():
    target = world(7, masked=True)
    codes = target.sample(context(0, 1), 20_000, generator=seeded(0))
    law = target.exact(context(0, 1)).probs
    for i in range(2):
        counts = SPACE.row_number(codes[:, i]).bincount(minlength=SPACE.num_rows)
        assert g_test(counts, law[:, i]) > FALSE_ALARM


def test_a_tilt_is_a_reference_in_turn():
    target = world(8)
    twice = RewardWeighted(target, target.reward, 2.0).exact(context(1))
    once = RewardWeighted(target.reference, target.reward, 1 / (1 / 0.8 + 1 / 2)).exact(context(1))
    assert_close(twice.log_probs, once.log_probs)
    log_prob = target.log_prob(SPACE.enumerate().unsqueeze(1), context(1))
    assert_close(log_prob, target.exact(context(1)).log_probs)


def test_the_models_of_the_library_fit():
    spec = ContextSpec(numeric=["price"])
    with isolated_seed(0):
        reward = Estimator(SPACE, context=spec)
        models = [Generator(SPACE, spec), AutoregressiveGenerator(SPACE, spec, order=ORDER_NAMES)]
    batch = torch.tensor([[0.3], [-1.0]])
    for model in models:
        assert isinstance(model, nn.Module)
        exact = RewardWeighted(model, reward, 0.1).exact(batch)
        assert_close(exact.log_reference.exp().sum(0), torch.ones(2).double(), atol=1e-5, rtol=0)
        assert_close(exact.probs.sum(0), torch.ones(2).double())


ORDER_NAMES = ("x2", "x0", "x1")


def test_a_reference_needs_its_methods():
    with pytest.raises(TypeError, match="needs a policy with `space`; Linear has none"):
        RewardWeighted(nn.Linear(2, 2), lambda rows, context: rows.sum(-1), 1.0)
    big = CategoricalSpace.from_sizes((100, 100, 101))
    with pytest.raises(ValueError, match="max_rows"):
        RewardWeighted(Generator(big), lambda rows, context: rows.sum(-1), 1.0).exact()
    wrong = RewardWeighted(Generator(SPACE), lambda rows, context: rows, 1.0)
    with pytest.raises(ValueError, match="a reward must be"):
        wrong.rewards(SPACE.enumerate())


def test_a_table_is_read_only():
    exact = world(1).exact()
    assert isinstance(exact, ExactTilt)
    with pytest.raises(AttributeError):
        exact.beta = 2.0
