"""Markov chains: their transition matrix leaves the target exactly where it is."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.policies import Generator, IndependentPolicy, conditioned
from discrete_grad.rules import Forbid, Rules
from discrete_grad.sampling import seeded
from discrete_grad.testing._goodness import g_test
from discrete_grad.weighting import RewardWeighted, metropolis, proposals
from discrete_grad.weighting.metropolis import log_acceptance, swap_index, swap_row
from discrete_grad.weighting.proposals import informed_swaps, uniform_swaps
from tests.goodness import FALSE_ALARM
from tests.weighting.worlds import SPACE, TableReference, context, numbers, world

PROPOSALS = ("uniform", "informed")


def flat_world(seed, *, beta=0.8, space=SPACE, masked=False):
    """A reward of flat rows that is quadratic, so that its derivative promises wrongly."""
    reference = TableReference(space, numbers((space.num_rows, 2), seed, masked=masked))
    matrix = numbers((space.width, space.width), seed + 1) / 4

    def reward(rows, context):
        flat = rows if rows.is_floating_point() else space.one_hot(rows)
        return torch.einsum("...i,ij,...j->...", flat.double(), matrix, flat.double())

    return RewardWeighted(reference, reward, beta)


def transition_matrix(target, batch, proposal):
    """`P[x, y]` of one step, `(R, R)`, from the pure functions alone."""
    space, rows = target.space, target.space.enumerate()
    propose = {
        "uniform": lambda: uniform_swaps(space),
        "informed": lambda: informed_swaps(target, batch),
    }[proposal]()
    codes = rows.unsqueeze(1)  # (R, B=1, F)
    log_q, density = propose(codes)[:, 0], target.log_density(codes, batch)[:, 0]
    matrix = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for x in range(len(rows)):
        others = space.row_number(space.swaps(rows[x]))
        back = log_q[others].gather(-1, swap_index(space, rows[others], rows[x]).unsqueeze(-1))
        accept = log_acceptance(density[x], back.squeeze(-1), density[others], log_q[x])
        matrix[x, others] = (log_q[x] + accept).exp()
    return matrix + torch.diag(1 - matrix.sum(1))


@pytest.mark.parametrize("proposal", PROPOSALS)
@given(
    seed=st.integers(0, 2**31), masked=st.booleans(), beta=st.sampled_from([0.05, 0.8, math.inf])
)
def test_one_step_leaves_the_target_where_it_is(proposal, seed, masked, beta):
    target, batch = flat_world(seed, beta=beta, masked=masked), context(1)
    matrix, law = transition_matrix(target, batch, proposal), target.exact(batch).probs[:, 0]
    assert_close(matrix.sum(1), torch.ones(12).double())
    assert (matrix >= -1e-12).all()
    flow = law.unsqueeze(-1) * matrix  # detailed balance
    assert_close(flow, flow.T, atol=1e-12, rtol=1e-9)
    assert_close(law @ matrix, law)


@given(seed=st.integers(0, 2**31))
def test_chains_forget_where_they_came_from(seed):
    target, batch = flat_world(seed), context(0)
    for proposal in PROPOSALS:
        many = torch.linalg.matrix_power(transition_matrix(target, batch, proposal), 2**14)
        law = target.exact(batch).probs[:, 0]
        assert_close(many, law.expand(12, -1), atol=1e-6, rtol=0)


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 2**31))
def test_a_swap_finds_its_number(sizes, seed):
    space = CategoricalSpace.from_sizes(sizes)
    rows = space.enumerate()
    codes = rows[seed % len(rows)]
    swaps = space.swaps(codes)
    assert swap_index(space, codes.expand_as(swaps), swaps).tolist() == list(range(len(swaps)))


@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("steps", [1, 4])
def test_the_chains_are_those_of_the_matrix(proposal, steps):
    """From one row, and from the target's own law, in two contexts at once."""
    target, batch, chains = flat_world(31), context(0, 1), 20_000
    start = torch.zeros(chains, 2, 3, dtype=torch.long)
    start[:, 1] = target.sample(context(1), chains, generator=seeded(1))[:, 0]
    samples = metropolis(
        target, batch, chains, steps=steps, proposal=proposal, start=start, generator=seeded(2)
    )
    matrix = transition_matrix(target, context(0), proposal)
    laws = [torch.linalg.matrix_power(matrix, steps)[0], target.exact(context(1)).probs[:, 0]]
    for i, law in enumerate(laws):
        counts = SPACE.row_number(samples.codes[:, i]).bincount(minlength=12)
        assert g_test(counts, law.clamp_min(0)) > FALSE_ALARM
    assert_close(samples.weights.sum(0), torch.ones(2).double())
    assert not start[:, 0].any()
    assert samples.evaluations == chains * (steps + 1)
    assert (
        (samples.diagnostics["acceptance"] > 0) & (samples.diagnostics["acceptance"] <= 1)
    ).all()


def off_diagonal(matrix):
    return matrix - torch.diag(matrix.diagonal())


def spectral_gap(matrix, law):
    """1 less the second largest eigenvalue of a matrix in detailed balance with a positive law."""
    root = law.sqrt()
    symmetric = root.unsqueeze(-1) * matrix / root
    return 1 - torch.linalg.eigvalsh((symmetric + symmetric.T) / 2)[-2]


@given(seed=st.integers(0, 2**31), masked=st.booleans(), beta=st.sampled_from([0.003, 0.05, 0.8]))
def test_an_informed_chain_swaps_at_least_a_tenth_as_often_as_a_uniform_one(seed, masked, beta):
    """Whatever the derivative promises; then its spectral gap is at least a tenth as wide."""
    target, batch = flat_world(seed, beta=beta, masked=masked), context(1)
    plain, informed = (transition_matrix(target, batch, p) for p in PROPOSALS)
    possible = target.exact(batch).probs[:, 0] > 0
    least = 0.1 * off_diagonal(plain)[possible]
    assert (off_diagonal(informed)[possible] >= least * (1 - 1e-9) - 1e-15).all()
    if beta == 0.8 and not masked:
        law = target.exact(batch).probs[:, 0]
        assert spectral_gap(informed, law) > 0.1 * spectral_gap(plain, law) - 1e-9


def test_a_row_below_a_cliff_is_left(monkeypatch):
    """00 -> 01 gains 10 nats, but 01 -> 11 gains 30: the way back is proposed with e^-20."""

    def reward(rows, batch):
        first, second = rows[..., 1].double(), rows[..., 3].double()
        return 10 * second - 40 * first + 70 * first * second  # 0, 10, -40 and 40

    space = CategoricalSpace.from_sizes((2, 2))
    target = RewardWeighted(TableReference(space, torch.zeros(4, 1)), flat_only(reward, space), 1.0)
    law, distances = target.exact(context(0)).probs[:, 0], []
    for share in (1e-300, proposals._UNIFORM):
        monkeypatch.setattr(proposals, "_UNIFORM", share)
        matrix = transition_matrix(target, context(0), "informed")
        after = torch.full((4,), 0.25).double() @ torch.linalg.matrix_power(matrix, 64)
        distances.append(float((after - law).abs().sum() / 2))
    stuck = 0.25 * (1 - math.exp(-10)) ** 64
    assert abs(distances[0] - stuck) < 1e-3 * stuck
    assert distances[1] < 1e-6


def test_informed_swaps_need_derivatives():
    propose = informed_swaps(flat_world(0), context(0))
    codes = SPACE.enumerate().unsqueeze(1)
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match=r"^the proposal of informed swaps needs deriv"),
    ):
        propose(codes)
    counted = RewardWeighted(flat_world(0).reference, lambda x, _: x.detach().sum(-1).numpy(), 1.0)
    with pytest.raises(ValueError, match="a reward that is differentiable on flat rows"):
        informed_swaps(counted, context(0))(codes)


def flat_only(reward, space):
    """A reward of flat rows, for codes too."""
    return lambda rows, batch: reward(
        rows if rows.is_floating_point() else space.one_hot(rows), batch
    )


def test_gradients_raise_the_acceptance():
    """With a reward that is linear in the flat row the promise is kept."""
    space = CategoricalSpace.from_sizes((8, 8, 8))
    slope = 3 * torch.randn(24, generator=seeded(0))

    def reward(rows, context):
        return (rows if rows.is_floating_point() else space.one_hot(rows)) @ slope

    target = RewardWeighted(Generator(space), reward, 1.0)
    plain, informed = (
        metropolis(target, None, 200, steps=50, proposal=p, generator=seeded(3)) for p in PROPOSALS
    )
    assert informed.diagnostics["acceptance"] > 1.5 * plain.diagnostics["acceptance"]
    assert plain.codes.shape == (200, 3)


def test_chains_leave_forbidden_rows_and_stay_on_allowed_ones():
    def reward(codes, context):
        return torch.where(codes.sum(-1) == 2, 1.0, -math.inf)

    space = CategoricalSpace.from_sizes((2, 2, 2))
    target = RewardWeighted(Generator(space), reward, 1.0)
    start = torch.zeros(500, 3, dtype=torch.long)
    samples = metropolis(target, None, 500, steps=60, start=start, generator=seeded(4))
    assert (samples.codes[samples.weights > 0].sum(-1) == 2).all()
    assert (samples.weights > 0).double().mean() > 0.9
    with pytest.raises(ValueError, match=r"context \(\): all 500 rows"):
        metropolis(target, None, 500, steps=0, start=start)


def test_what_it_refuses():
    target = world(0)
    with pytest.raises(ValueError, match="proposal must be"):
        metropolis(target, context(0), proposal="clever")
    with pytest.raises(ValueError, match="steps"):
        metropolis(target, context(0), steps=-1)
    with pytest.raises(ValueError, match="start must be"):
        metropolis(target, context(0), 2, start=torch.zeros(2, 3).long())
    blind = RewardWeighted(Generator(SPACE), lambda rows, _: rows.detach().sum(-1), 1.0)
    with pytest.raises(ValueError, match="differentiable"):
        metropolis(blind, None, 2, proposal="informed")
    one = RewardWeighted(
        Generator(CategoricalSpace.from_sizes((1, 1))),
        lambda rows, _: 0.0 * rows[..., 0],
        1.0,
    )
    assert not metropolis(one, None, 2).codes.any()


def test_a_linear_reward_is_promised_exactly():
    target = flat_world(5)
    slope = torch.randn(SPACE.width, generator=seeded(1), dtype=torch.float64)

    def reward(rows, batch):
        flat = rows if rows.is_floating_point() else SPACE.one_hot(rows)
        return flat.double() @ slope

    target = RewardWeighted(target.reference, reward, 0.8)
    rows, batch = SPACE.enumerate().unsqueeze(1), context(1)
    gain = target.log_density(SPACE.swaps(rows).movedim(-2, 0), batch).movedim(0, -1)
    gain = gain - target.log_density(rows, batch).unsqueeze(-1)
    swaps = 0.9 * (gain / 2).softmax(-1) + 0.1 / gain.shape[-1]
    assert_close(informed_swaps(target, batch)(rows), swaps.log())


class Masked(IndependentPolicy):
    """Independent features of which some categories are masked, in two contexts."""

    space = CategoricalSpace.from_sizes((3, 1, 2, 4))

    def __init__(self, seed):
        self.table = numbers((2, self.space.width), seed, masked=True)
        for block in self.space.split(self.table):
            block[:, 0] = 0.5

    def logits(self, context=None):
        return self.table[context[..., 0].long()]


@given(seed=st.integers(0, 2**31))
def test_the_gain_of_independent_features_is_that_of_all_rows(seed):
    """Up to a constant of each row, impossible ones among them, and under rules."""
    reference, batch = Masked(seed), context(0, 1)
    space = reference.space
    rules = Rules(space, [Forbid({"x0": 1, "x3": [2, 3]})])
    codes = space.enumerate().unsqueeze(1).expand(-1, 2, -1)
    for policy in (reference, conditioned(reference, rules)):
        target = RewardWeighted(policy, lambda rows, _: 0.0 * rows[..., 0], 1.0)
        gain = proposals._reference_gain(target, batch, codes)
        there = policy.log_prob(space.swaps(codes).movedim(-2, 0), batch).movedim(0, -1)
        assert not gain.isnan().any()
        some = (there > -math.inf).any(-1)
        assert_close(gain[some].log_softmax(-1), there[some].log_softmax(-1))
        assert (gain[~some] == -math.inf).all()


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 2**31))
def test_the_row_of_a_number_is_that_swap(sizes, seed):
    space = CategoricalSpace.from_sizes(sizes)
    codes = space.enumerate()[seed % space.num_rows]
    swaps = space.swaps(codes)
    number = torch.arange(len(swaps))
    assert torch.equal(swap_row(space, codes.expand_as(swaps), number), swaps)


def test_no_step_builds_all_rows_one_swap_away():
    """20 features of 500 categories have 9,980 swaps, which would be 199,600 codes."""
    space, asked = CategoricalSpace.from_sizes((500,) * 20), []

    class Counting(Generator):
        def log_prob(self, codes, context=None):
            asked.append(codes.numel())
            return super().log_prob(codes, context)

    target = RewardWeighted(Counting(space), lambda rows, _: 1.0 * rows[..., 0], 1.0)
    for proposal in PROPOSALS:
        metropolis(target, None, 2, steps=3, proposal=proposal, generator=seeded(0))
    assert max(asked) == 2 * 20
