"""Twisted sequential Monte Carlo: unbiased, bounded from both sides, exact with the exact twist."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.policies import AutoregressiveGenerator, Generator, IndependentPolicy
from discrete_grad.sampling import isolated_seed, seeded, uniform
from discrete_grad.testing._goodness import g_test
from discrete_grad.weighting import (
    PrefixValue,
    RewardWeighted,
    TablePotential,
    fit_prefix_value,
    smc,
    twisted_smc,
)
from discrete_grad.weighting.draws import inverse_draw, systematic_draw
from discrete_grad.weighting.particles import _conditional_systematic_draw
from discrete_grad.weighting.prefix_value import PrefixValueConfig
from discrete_grad.weighting.smc import log_z_bounds, smc_log_z
from tests.goodness import FALSE_ALARM
from tests.weighting.worlds import ORDER, SPACE, TableReference, context, world

PROPOSALS = ("reference", "twisted")
THRESHOLDS = (0.0, 0.5, 1.0)


def wrong_twist(prefix, batch):
    """Some numbers that are no good twist."""
    return (prefix.double() * torch.arange(1, prefix.shape[-1] + 1)).sum(-1).sin() * 2


def exact_twist(target, batch):
    exact = target.exact(batch)
    weights = (exact.reward / exact.beta).flatten(1)
    base, order = exact.log_reference.flatten(1), target.reference.order
    return TablePotential(target.space, base, weights, order=order)


def log_psi(twist, prefix, batch):
    """Of prefixes `(M, B, t)`."""
    return twist.following(prefix[..., :-1], batch).gather(-1, prefix[..., -1:]).squeeze(-1)


def repeated(runs):
    return torch.zeros(runs, 1, dtype=torch.float64)


@pytest.mark.parametrize("order", [None, ORDER])
@given(seed=st.integers(0, 200), masked=st.booleans())
def test_the_exact_twist_leaves_no_variance(order, seed, masked):
    target, batch = world(seed, masked=masked, order=order), context(0, 1)
    twist = exact_twist(target, batch)
    samples = twisted_smc(target, batch, 5, twist=twist, threshold=1.0, generator=seeded(seed))
    assert_close(samples.log_z, target.exact(batch).log_z)
    assert_close(samples.weights, torch.full((5, 2), 0.2).double())
    assert not samples.diagnostics["resampled"].any()


@given(seed=st.integers(0, 200))
def test_the_exact_twist_is_the_conditional_expectation(seed):
    target, batch = world(seed, masked=True), context(0, 1)
    twist, exact = exact_twist(target, batch), target.exact(batch)
    weights = (exact.reward / target.beta).exp()
    for t in (1, 2, 3):
        known = exact.codes[:, list(ORDER[:t])]
        for prefix in known.unique(dim=0):
            fits = (known == prefix).all(-1).unsqueeze(-1)
            mass = (fits * exact.log_reference.exp()).sum(0)
            value = (fits * exact.log_reference.exp() * weights).sum(0) / mass
            got = log_psi(twist, prefix.expand(1, 2, t), batch)[0]
            assert_close(got.exp(), value.nan_to_num(0.0))


@pytest.mark.parametrize("seed", [41, 52])  # in the second, some runs find no allowed row
@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_its_estimate_of_z_is_unbiased_and_its_inverse_with_an_exact_row(seed, proposal, threshold):
    """A bad twist, forbidden rows, few particles: `E[Z^] = Z`, `E[1 / Z^] <= 1 / Z`."""
    target, runs = world(seed, masked=True, tables=1), 20_000
    batch, truth = repeated(runs), target.exact(repeated(1)).log_z
    settings = {"twist": wrong_twist, "proposal": proposal, "threshold": threshold}
    lower = smc_log_z(target, batch, 3, **settings, generator=seeded(1)) - truth
    ratio = lower.exp()
    # 5 standard errors: false alarm below 1e-6
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(runs)
    assert lower.mean() < -0.02
    rows = target.sample(batch, generator=seeded(2))[0]
    upper = smc_log_z(target, batch, 3, exact_rows=rows, **settings, generator=seeded(3)) - truth
    inverse, alive = (-upper).exp(), (lower > -math.inf).double()
    error = 5 * (inverse.std() + alive.std()) / math.sqrt(runs)
    assert abs(inverse.mean() - alive.mean()) < error
    assert upper.mean() > 0.02


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_a_run_with_an_exact_row_has_the_tilted_law_of_a_run_without(proposal):
    """The second moment: `E_exact[Z^ / Z] = E[(Z^ / Z)^2]`."""
    target, runs = world(52, tables=1), 40_000
    batch, truth = repeated(runs), target.exact(repeated(1)).log_z
    settings = {"twist": wrong_twist, "proposal": proposal, "threshold": 0.9}
    free = (smc_log_z(target, batch, 4, **settings, generator=seeded(1)) - truth).exp()
    rows = target.sample(batch, generator=seeded(2))[0]
    kept = smc_log_z(target, batch, 4, exact_rows=rows, **settings, generator=seeded(3)) - truth
    kept, square = kept.exp(), free.square()
    error = 5 * math.sqrt((kept.var() + square.var()) / runs)
    assert abs(kept.mean() - square.mean()) < error
    assert error < 0.2 * square.mean()


def test_many_resamplings_keep_the_exact_row_s_run_unbiased():
    """Three particles, uneven twists: a survivor that is merely put in place would show."""
    space, runs = CategoricalSpace.from_sizes((2,) * 6), 20_000

    class Even(IndependentPolicy):
        def logits(self, batch=None):
            return torch.zeros(len(batch), space.width)

    Even.space = space
    reference = Even()
    target = RewardWeighted(
        reference, lambda codes, _: codes.double() @ torch.ones(6).double(), 1.0
    )

    def twist(prefix, batch):
        return 1.2 * (prefix[..., -1] - prefix[..., 0]).double()

    batch = repeated(runs)
    rows = target.sample(batch[:1], runs, generator=seeded(1))[:, 0]
    settings = {"twist": twist, "proposal": "reference", "threshold": 1.0}
    log_z = smc_log_z(target, batch, 3, exact_rows=rows, **settings, generator=seeded(2))
    inverse = (target.exact(batch[:1]).log_z - log_z).exp()
    error = 5 * inverse.std() / math.sqrt(runs)
    assert abs(inverse.mean() - 1) < error
    assert error < 0.06


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_its_weighted_rows_stand_for_the_target(proposal):
    """`E[Z^ * weight of a row] = Z * its probability`, and a draw by weight for many particles."""
    target, runs = world(41, masked=True, tables=1), 5000
    batch, exact = repeated(runs), target.exact(repeated(1))
    samples = twisted_smc(
        target, batch, 8, twist=wrong_twist, proposal=proposal, generator=seeded(4)
    )
    assert_close(samples.weights.sum(0), torch.ones(runs).double())
    scale = (samples.log_z - exact.log_z).exp()
    for row in exact.codes:
        mass = scale * ((samples.codes == row).all(-1) * samples.weights).sum(0)
        wanted = exact.probs[SPACE.row_number(row), 0]
        assert abs(mass.mean() - wanted) < 5 * mass.std() / math.sqrt(runs) + 1e-12


def test_the_lower_end_of_one_run_holds():
    """Few particles, a bad twist: missed in at most 2.5 % of the runs."""
    target, runs = world(52, tables=1, beta=0.2), 20_000
    batch = repeated(runs)
    samples = twisted_smc(target, batch, 3, twist=wrong_twist, threshold=1.0, generator=seeded(6))
    low, high = samples.log_z_interval
    truth = target.exact(repeated(1)).log_z
    missed = (low > truth).double().mean()
    # 5 standard errors: false alarm below 1e-6
    assert missed < 0.025 + 5 * math.sqrt(0.025 / runs)
    assert_close(low, samples.log_z - math.log(40))
    assert (high == math.inf).all()


def test_the_law_with_the_exact_twist_is_the_target():
    target, batch = world(42, masked=True), context(0, 1)
    samples = twisted_smc(
        target, batch, 20_000, twist=exact_twist(target, batch), generator=seeded(5)
    )
    for i in range(2):
        counts = SPACE.row_number(samples.codes[:, i]).bincount(minlength=12)
        assert g_test(counts, target.exact(batch).probs[:, i]) > FALSE_ALARM


def test_each_context_is_a_run_of_its_own():
    """Contexts of any shape, and one a number of its own beta."""
    beta = torch.tensor([[0.5], [2.0]]).expand(2, 3)
    batch = context(0, 1, 0).expand(2, 3, 1)
    target = world(43, beta=beta)
    samples = twisted_smc(target, batch, 8, twist=exact_twist(target, batch), generator=seeded(0))
    assert samples.codes.shape == (8, 2, 3, 3)
    assert_close(samples.log_z, target.exact(batch).log_z)


def test_the_bounds_hold_log_z_and_close():
    target, batch = world(44), context(0, 1)
    rows = target.sample(batch, 30, generator=seeded(1))
    truth, widths = target.exact(batch).log_z, []
    for count in (2, 200):
        low, high = log_z_bounds(target, rows, batch, count, twist=wrong_twist, generator=seeded(2))
        assert (low < truth).all()
        assert (truth < high).all()
        widths.append(high - low)
    assert (widths[1] < widths[0] / 4).all()
    with pytest.raises(ValueError, match="at least 2"):
        log_z_bounds(target, rows[:1], batch)


def test_a_learned_twist_is_better_than_none_and_near_the_exact_one():
    space = CategoricalSpace.from_sizes((4, 4, 4, 4))
    with isolated_seed(0):
        reference = AutoregressiveGenerator(space, ContextSpec(numeric=["a"]), order=(3, 1, 0, 2))

    def reward(codes, batch):
        same = (codes[..., :-1] == codes[..., 1:]).sum(-1).double()
        return same * (1 + batch[..., 0])

    target, batch = RewardWeighted(reference, reward, 0.7), torch.tensor([[0.0], [0.5]])
    codes = reference.sample(batch, 1000, generator=seeded(1))
    with isolated_seed(1):
        twist = PrefixValue(space, reference.context_spec, order=reference.order, hidden=(32,))
    weights = target.rewards(codes, batch) / target.beta
    config = PrefixValueConfig(steps=200)
    fit_prefix_value(twist, codes, weights, context=batch, config=config, seed=1)
    prefix = torch.tensor([[2, 1]]).expand(1, 2, 2)
    truth, exact = target.exact(batch).log_z, exact_twist(target, batch)
    for p in (prefix, prefix[..., :1]):
        error = log_psi(twist, p, batch) - log_psi(exact, p, batch)
        assert error.abs().mean() < 0.35
    errors = []
    for each in ({}, {"twist": twist}):
        runs = torch.stack(
            [
                smc_log_z(target, batch, 16, proposal="reference", generator=seeded(s), **each)
                for s in range(20)
            ]
        )
        errors.append((runs - truth).square().mean())
    assert errors[1] < errors[0] / 2


def test_a_potential_is_asked_once_a_particle(monkeypatch):
    """It answers for all categories at once, and remembers; the last feature is the reward's."""
    target, batch, asked = world(45), context(0, 1), []
    potential, original = exact_twist(target, batch), TablePotential.advance

    def counted(self, state, previous):
        asked.append(tuple(state.prefix.shape))
        return original(self, state, previous)

    monkeypatch.setattr(TablePotential, "advance", counted)
    twisted_smc(target, batch, 8, twist=potential)
    assert asked == [(8, 2)] * 2  # for the first feature and the second


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_a_potential_and_the_same_function_make_the_same_run(proposal):
    target, batch = world(45), context(0, 1)
    potential = exact_twist(target, batch)
    runs = [
        twisted_smc(target, batch, 8, twist=twist, proposal=proposal, generator=seeded(1))
        for twist in (potential, lambda p, given: log_psi(potential, p, given))
    ]
    assert torch.equal(runs[0].codes, runs[1].codes)
    assert_close(runs[0].log_z, runs[1].log_z)
    assert runs[0].evaluations == runs[1].evaluations


def test_it_runs_without_a_context_on_independent_features():
    with isolated_seed(1):
        generator = Generator(SPACE)
        torch.nn.init.normal_(generator.free_logits, std=0.1)
    target = RewardWeighted(generator, lambda rows, _: rows.sum(-1).double(), 1.0)
    exact = target.exact()
    samples = twisted_smc(target, count=4000, generator=seeded(1))
    assert samples.codes.shape == (4000, 3)
    assert_close(samples.log_z, exact.log_z, atol=0.1, rtol=0)
    assert_close(samples.expectation(samples.codes.sum(-1)), exact.mean_reward, atol=0.1, rtol=0)
    rewards = {"twisted": 4000 * SPACE.sizes[-1], "reference": 4000}
    for proposal in PROPOSALS:
        again = twisted_smc(target, count=4000, proposal=proposal)
        assert again.evaluations == rewards[proposal]


# --- resampling in which one particle survives ----------------------------------------------------


def test_the_conditional_draw_is_the_plain_one_given_its_survivor():
    """With the survivor drawn by weight, indices have their plain law and the place is uniform."""
    draws, weights = 20_000, torch.tensor([0.45, 0.0, 0.2, 0.35]).double().log()
    log_weights = weights.unsqueeze(-1).expand(-1, draws)
    kept = inverse_draw(log_weights, uniform((1, draws), generator=seeded(1)))[0]
    index, place = _conditional_systematic_draw(
        log_weights, kept, uniform((draws,), generator=seeded(2))
    )
    assert torch.equal(index.gather(0, place.unsqueeze(0))[0], kept)
    grid = (torch.arange(20_000).double() + 0.5) / 20_000
    plain = systematic_draw(log_weights[:, :1].expand(-1, 20_000), grid)
    space = CategoricalSpace.from_sizes((4, 4, 4, 4))
    law = space.row_number(plain.T).bincount(minlength=256) / 20_000
    joint = (law.unsqueeze(-1) / 4).expand(-1, 4).flatten()  # of indices and place
    counts = (space.row_number(index.T) * 4 + place).bincount(minlength=1024)
    assert g_test(counts, joint) > FALSE_ALARM


@given(seed=st.integers(0, 2**31))
def test_the_survivor_survives_at_the_edges(seed):
    generator = seeded(seed)
    log_weights = 30 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    kept = torch.randint(6, (4,), generator=generator)
    for edge in (0.0, 1 - 2**-53):
        noise = torch.full((4,), edge, dtype=torch.float64)
        index, place = _conditional_systematic_draw(log_weights, kept, noise)
        assert torch.equal(index.gather(0, place.unsqueeze(0))[0], kept)


# --- refusals -------------------------------------------------------------------------------------


def test_what_it_refuses():
    target, batch = world(46, masked=True), context(0, 1)
    rows = target.sample(batch)[0]
    with pytest.raises(ValueError, match="exact rows must be"):
        smc_log_z(target, batch, exact_rows=rows[0])
    with pytest.raises(ValueError, match="proposal must be"):
        twisted_smc(target, batch, proposal="base")
    with pytest.raises(ValueError, match="share"):
        twisted_smc(target, batch, threshold=1.5)
    with pytest.raises(ValueError, match="a twist must be"):
        twisted_smc(target, batch, twist=lambda prefix, _: prefix.double())
    with pytest.raises(ValueError, match=r"nan for the prefix .* context 0"):
        twisted_smc(target, batch, twist=lambda p, _: torch.full(p.shape[:-1], math.nan))
    with pytest.raises(ValueError, match=r"same order, got .* \(0, 1, 2\) and .* \(2, 0, 1\)"):
        twisted_smc(target, batch, twist=PrefixValue(SPACE))
    broken = exact_twist(target, batch)
    broken._means[1][1, 0, 1] = math.nan
    with pytest.raises(ValueError, match=r"nan for the prefix \[1, 0\], context 1"):
        twisted_smc(target, batch, twist=broken)
    forbidden = target.exact(batch).probs[:, 1] == 0
    rows[1] = SPACE.enumerate()[forbidden][0]
    for proposal in PROPOSALS:
        with pytest.raises(ValueError, match=r"context \(1,\): the exact row is forbidden"):
            smc_log_z(target, batch, exact_rows=rows, proposal=proposal)


def test_particles_without_a_future_are_named():
    def reward(codes, batch):
        return torch.where(batch[..., 0] == 1, -math.inf, codes[..., 0].double())

    target = RewardWeighted(TableReference(SPACE, torch.zeros(12, 2)), reward, 1.0)
    for proposal in PROPOSALS:
        with pytest.raises(ValueError, match=r"context \(1,\): all 16 rows"):
            twisted_smc(target, context(0, 1), 16, proposal=proposal)
        log_z = smc_log_z(target, context(0, 1), 16, proposal=proposal)
        assert log_z[0].isfinite()
        assert log_z[1] == -math.inf


def test_a_reference_must_have_an_order():
    class Unordered:
        space = SPACE

        def log_prob(self, codes, context=None):
            return codes[..., 0].double()

        def sample(self, context=None, count=1, *, generator=None):
            return torch.zeros(count, 3).long()

    target = RewardWeighted(Unordered(), lambda rows, _: rows.sum(-1), 1.0)
    with pytest.raises(TypeError, match="Unordered"):
        twisted_smc(target)


def test_the_bounds_are_of_runs_as_they_are_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(smc, "smc_log_z", lambda *_, **named: asked.append(named) or torch.zeros(1))
    options = {
        "twist": wrong_twist,
        "proposal": "reference",
        "threshold": 0.9,
        "generator": seeded(0),
    }
    log_z_bounds(world(1), torch.zeros(2, 3, dtype=torch.long), **options)
    assert len(asked) == 4
    assert all(one == options | {"exact_rows": one["exact_rows"]} for one in asked)


def test_each_bound_of_log_z_lies_off_its_own_mean_by_its_own_spread(monkeypatch):
    """Two runs from below of 0 and 2, two from above that agree, and the other way round."""
    given = iter([0.0, 2.0, 5.0, 5.0, 1.0, 1.0, 4.0, 6.0])
    monkeypatch.setattr(smc, "smc_log_z", lambda *_, **__: torch.tensor(next(given)))
    # the standard error of 0 and 2 is 1, and Student's t of one degree of freedom 12.706
    rows = torch.zeros(2, 3, dtype=torch.long)
    assert torch.stack(log_z_bounds(world(1), rows)).tolist() == pytest.approx(
        [-11.706, 5], abs=1e-3
    )
    assert torch.stack(log_z_bounds(world(1), rows)).tolist() == pytest.approx(
        [1, 17.706], abs=1e-3
    )
