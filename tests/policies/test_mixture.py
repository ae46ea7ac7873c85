"""Mixtures of generators, and learned weights of samples, against enumeration."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad import (
    CategoricalSpace,
    ContextSpec,
    Enumerate,
    GumbelSoftmax,
    LeaveOneOut,
    LocalExpectation,
    ReinMax,
    StraightThrough,
)
from discrete_grad.models import Estimator
from discrete_grad.policies import Generator, MixtureGenerator, Policy
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.testing._goodness import g_test, joint_counts
from discrete_grad.weighting import RewardWeighted, SampleGate, weighted_vote
from discrete_grad.weighting.posthoc import weighted_marginals
from discrete_grad.weighting.segments import segment_softmax
from tests.goodness import FALSE_ALARM

SPACE = CategoricalSpace({"cut": 2, "colour": 3})
ROWS = SPACE.enumerate()
SPEC = ContextSpec(numeric=["price"])
CONTEXT = torch.tensor([[-1.0], [2.0]], dtype=torch.float64)


def number_of(experts: int) -> CategoricalSpace:
    return CategoricalSpace({"expert": experts})


def generator_of(spec, space, seed, *, mask=()):
    """A generator in float64 with large random parameters; `mask` names forbidden columns."""
    with isolated_seed(seed):
        made = Generator(space, spec, hidden=(4,)).double()
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.15 if spec is None else 1.0)
    with torch.no_grad():
        for column in mask:
            (made.free_logits if spec is None else made.heads.linear.bias)[column] = -math.inf
    return made


def mixture_of(seed=0, *, experts=3, spec=SPEC, masked=False):
    """The first expert is the same in every context; with masks, no expert draws (0, 2)."""
    masks = [(4,), (0,), (0, 3)] if masked else [()] * experts
    made = [
        generator_of(None if m == 0 else spec, SPACE, seed + m, mask=masks[m])
        for m in range(experts)
    ]
    return MixtureGenerator(made, generator_of(spec, number_of(experts), seed + 99))


def law_by_hand(mixture, context):
    """`(R, *batch)` from probabilities, one expert after the other."""
    total = 0
    for m, expert in enumerate(mixture.experts):
        logits = expert(context if expert.context_spec else None)
        blocks = [part.softmax(-1) for part in SPACE.split(logits)]
        rows = torch.stack([blocks[0][..., a] * blocks[1][..., b] for a, b in ROWS.tolist()])
        gate = mixture.gate(context).softmax(-1)[..., m]
        total = total + gate * (rows if rows.dim() > 1 else rows.unsqueeze(-1))
    return total


def rows_for(context):
    return ROWS.unsqueeze(1).expand(-1, len(context), -1)


VALUES = torch.tensor([[0.3, -1.0, 2.0, 0.7, 0.1, -0.4], [1.0, 0.0, -2.0, 0.5, 0.9, 0.2]]).double()


def f(rows):
    """A table of its own for each context: rows `(samples, 2, D)`."""
    row = (rows[..., :2].unsqueeze(-1) * rows[..., 2:].unsqueeze(-2)).flatten(-2)
    return (row * VALUES).sum(-1)


def gradients(mixture, value, *others):
    return torch.autograd.grad(value, [*mixture.parameters(), *others])


# --- the law --------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@given(seed=st.integers(0, 1000))
def test_the_law_is_the_mixture(masked, seed):
    mixture = mixture_of(seed, masked=masked)
    law = law_by_hand(mixture, CONTEXT)
    log_p = mixture.log_prob(rows_for(CONTEXT), CONTEXT)
    assert log_p.dtype == torch.float64
    assert_close(log_p.exp(), law)
    assert_close(law.sum(0), torch.ones(2).double())
    assert_close(
        mixture.marginals(CONTEXT),
        torch.einsum("rb,rd->bd", law, SPACE.one_hot(ROWS, dtype=torch.float64)),
    )
    assert_close(mixture.weights(CONTEXT), mixture.gate(CONTEXT).softmax(-1))


@pytest.mark.parametrize("masked", [False, True])
def test_a_row_belongs_to_the_experts_that_draw_it(masked):
    mixture = mixture_of(3, masked=masked)
    got = mixture.responsibilities(rows_for(CONTEXT), CONTEXT)
    law, weights = law_by_hand(mixture, CONTEXT), mixture.weights(CONTEXT)
    for m, expert in enumerate(mixture.experts):
        logits = expert(CONTEXT if expert.context_spec else None)
        share = weights[..., m] * SPACE.log_prob(logits, rows_for(CONTEXT)).exp()
        wanted = torch.where(law > 0, share / law, weights[..., m])
        assert_close(got[..., m], wanted)
    assert ((law == 0).any(), (got == 0).any()) == (masked, masked)


def test_a_row_that_no_expert_draws_has_no_nan():
    mixture = mixture_of(4, masked=True)
    log_p = mixture.log_prob(rows_for(CONTEXT), CONTEXT)
    assert (log_p == -math.inf).sum() == 2
    for g in gradients(mixture, log_p.masked_fill(log_p == -math.inf, 0).sum()):
        assert g.isfinite().all()


def test_samples_have_the_law_and_the_experts_are_mixed_a_row_at_a_time():
    mixture = mixture_of(5, masked=True)
    codes = mixture.sample(CONTEXT, 20_000, generator=seeded(0))
    law = mixture.log_prob(rows_for(CONTEXT), CONTEXT).detach().exp()
    for i in range(2):
        assert g_test(joint_counts(SPACE, codes[:, i]), law[:, i]) > FALSE_ALARM
    again = mixture.sample(CONTEXT, 20_000, generator=seeded(0))
    assert torch.equal(codes, again)
    grid = CONTEXT.expand(3, 2, 1)
    assert mixture.sample(grid, 4).shape == (4, 3, 2, 2)
    assert mixture.log_prob(mixture.sample(grid, 4), grid).shape == (4, 3, 2)


def test_without_a_context():
    mixture = mixture_of(6, spec=None)
    law = mixture.log_prob(ROWS).exp()
    assert_close(law.sum(), torch.ones(()).double())
    codes = mixture.sample(None, 20_000, generator=seeded(1))
    assert g_test(joint_counts(SPACE, codes), law.detach()) > FALSE_ALARM
    value = mixture.expectation(lambda rows: rows[..., 0] * rows[..., 3], None, Enumerate(SPACE))
    assert_close(value, law[1])


def test_it_is_a_policy():
    mixture = mixture_of(7)
    assert isinstance(mixture, Policy)
    target = RewardWeighted(mixture, lambda codes, _: codes.sum(-1).double(), 0.5)
    exact = target.exact(CONTEXT)
    assert_close(exact.log_reference.exp(), law_by_hand(mixture, CONTEXT))


# --- expectations ---------------------------------------------------------------------------------

EXACT = {"default": None, "enumerate": Enumerate(), "local": LocalExpectation()}


@pytest.mark.parametrize("choice", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient_are_those_of_enumeration(choice, masked):
    mixture, toll = mixture_of(8, masked=masked), torch.tensor(1.5).double().requires_grad_()
    truth = (law_by_hand(mixture, CONTEXT) * toll * VALUES.T).sum(0)
    value = mixture.expectation(
        lambda rows: toll * f(rows), CONTEXT, Enumerate(SPACE), choice=choice
    )
    assert_close(value, truth)
    pull = torch.tensor([1.0, -2.0]).double()
    assert_close(gradients(mixture, value @ pull, toll), gradients(mixture, truth @ pull, toll))


def test_a_space_of_one_feature_needs_a_single_draw_of_local_expectation():
    space = number_of(4)
    experts = [generator_of(SPEC, space, m) for m in range(2)]
    mixture = MixtureGenerator(experts, generator_of(SPEC, number_of(2), 9))
    table = torch.tensor([0.3, -1.0, 2.0, 0.5]).double()
    value = mixture.expectation(lambda rows: rows @ table, CONTEXT, LocalExpectation(space))
    truth = mixture.marginals(CONTEXT) @ table
    assert_close(value, truth)
    assert_close(gradients(mixture, value.sum()), gradients(mixture, truth.sum()))


METHODS = {
    "summed": (LeaveOneOut(SPACE, samples=2), None),
    "drawn": (LeaveOneOut(SPACE, samples=2), LeaveOneOut(samples=3)),
    "drawn, exact rows": (Enumerate(SPACE), LeaveOneOut(samples=2)),
}


@pytest.mark.parametrize(("rows", "choice"), METHODS.values(), ids=METHODS)
def test_unbiased_parts_make_an_unbiased_whole(rows, choice):
    mixture, runs, chunks = mixture_of(11), 1000, 40
    truth = (law_by_hand(mixture, CONTEXT) * VALUES.T).sum(0).sum()
    wanted = [truth.detach(), *gradients(mixture, truth)]
    repeated, noise, found = CONTEXT.expand(runs, 2, 1), seeded(3), []
    for _ in range(chunks):
        value = mixture.expectation(f, repeated, rows, choice=choice, generator=noise)
        value = value.sum(-1).mean()
        found.append([value.detach(), *gradients(mixture, value)])
    for parts, want in zip(zip(*found, strict=True), wanted, strict=True):
        mean, error = torch.stack(parts).mean(0), torch.stack(parts).std(0) / chunks**0.5
        # 6 standard errors of 40 means: false alarm below 1e-5 for all numbers together
        assert ((mean - want).abs() <= 6 * error + 1e-12).all()
        assert error.max() < 0.02


def test_f_is_given_rows_of_its_own_shape_and_cost_is_the_draws():
    mixture, shapes = mixture_of(12), []

    def seen(rows):
        shapes.append(tuple(rows.shape))
        return f(rows)

    method = LeaveOneOut(SPACE, samples=5)
    mixture.expectation(seen, CONTEXT, method)
    mixture.expectation(seen, CONTEXT, method, choice=LeaveOneOut(samples=2))
    assert shapes == [(15, 2, 5), (10, 2, 5)]
    with pytest.raises(ValueError, match=r"f must map flat rows \(15, 2, 5\)"):
        mixture.expectation(lambda rows: rows, CONTEXT, method)


@pytest.mark.parametrize("choice", [ReinMax(), StraightThrough(), GumbelSoftmax()], ids=str)
@pytest.mark.parametrize("rows", [ReinMax(SPACE), Enumerate(SPACE)], ids=["ReinMax", "Enumerate"])
def test_a_relaxation_of_the_number_finds_the_better_expert(choice, rows):
    """Experts without a say in a feature that one of them masks, and none in f."""
    mixture = mixture_of(13, experts=2, spec=None)
    with torch.no_grad():
        mixture.experts[0].free_logits.copy_(torch.tensor([0.3, 0.0, 0.0, 0.0, -math.inf]))
        mixture.experts[1].free_logits.copy_(torch.tensor([0.0, 0.3, 0.0, 0.0, 0.0]))
    value = mixture.expectation(lambda r: r[..., 0], None, rows, choice=choice)
    assert value.shape == ()
    drawn = [
        mixture.expectation(lambda r: r[..., 0], None, rows, choice=choice, generator=noise)
        for noise in map(seeded, range(300))
    ]
    mean = torch.stack(drawn).mean()
    truth = mixture.marginals()[0]
    assert abs(mean - truth) < 0.12
    (gradient,) = torch.autograd.grad(mean, mixture.gate.free_logits)
    (exact,) = torch.autograd.grad(truth, mixture.gate.free_logits)
    assert gradient[0] > 0.3 * exact[0] > 0
    assert gradient.isfinite().all()


def test_an_estimator_with_a_context_is_an_f():
    with isolated_seed(0):
        estimator = Estimator(SPACE, context=SPEC, hidden=(4,)).double()
    mixture = mixture_of(14)
    value = mixture.expectation(lambda rows: estimator(rows, CONTEXT), CONTEXT, Enumerate(SPACE))
    scores = estimator(rows_for(CONTEXT), CONTEXT)
    assert_close(value, (law_by_hand(mixture, CONTEXT) * scores).sum(0))


def test_one_expert_is_the_generator_itself():
    mixture = mixture_of(15, experts=1)
    expert, logits = mixture.experts[0], mixture.experts[0]().expand(2, -1)
    assert_close(
        mixture.log_prob(rows_for(CONTEXT), CONTEXT), SPACE.log_prob(logits, rows_for(CONTEXT))
    )
    method = LeaveOneOut(SPACE, samples=3)
    own = method.expectation(f, logits, generator=seeded(1)).sum()
    value = mixture.expectation(f, CONTEXT, method, generator=seeded(1)).sum()
    assert_close(value, own)
    assert_close(
        torch.autograd.grad(value, expert.free_logits), torch.autograd.grad(own, expert.free_logits)
    )


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", [None, LeaveOneOut(samples=4)], ids=["summed", "drawn"])
def test_a_gate_learns_which_specialist_a_context_wants(choice):
    """Each is right in one half of the contexts; only the gate is trained."""
    experts = [Generator(SPACE).requires_grad_(False) for _ in range(2)]
    for m, expert in enumerate(experts):
        expert.free_logits[m] = expert.free_logits[2 + m] = 0.5
    with isolated_seed(1):
        mixture = MixtureGenerator(experts, Generator(number_of(2), SPEC, hidden=(16,)))
    context = torch.linspace(-1, 1, 64).unsqueeze(-1)
    wanted = (context[:, 0] > 0).long()
    best = SPACE.one_hot(torch.stack([wanted, wanted], -1))
    before = [expert.free_logits.clone() for expert in experts]
    adam = torch.optim.Adam([p for p in mixture.parameters() if p.requires_grad], 0.03)
    noise, method = seeded(0), LeaveOneOut(SPACE, samples=2)
    for _ in range(100):

        def share(rows):
            return (rows * best).sum(-1) / 2

        value = mixture.expectation(share, context, method, choice=choice, generator=noise).mean()
        adam.zero_grad()
        (-value).backward()
        adam.step()
    assert all(torch.equal(e.free_logits, old) for e, old in zip(experts, before, strict=True))

    def exact(marginals):
        return float((marginals.detach() * best).sum(-1).mean() / 2)

    alone = [exact(SPACE.softmax(expert())) for expert in experts]
    optimum = exact(SPACE.softmax(torch.stack([e() for e in experts])[wanted]))
    learned = exact(mixture.marginals(context))
    assert max(alone) < 0.56
    assert optimum > 0.98
    assert learned > optimum - 0.03


# --- weights of samples ---------------------------------------------------------------------------


def sample_gate(seed=0, *, inputs=2, context=SPEC):
    with isolated_seed(seed):
        gate = SampleGate(inputs, context, hidden=(8,)).double()
        for parameter in gate.parameters():
            torch.nn.init.normal_(parameter)
    return gate


@given(seed=st.integers(0, 1000), permutation=st.permutations(range(5)))
def test_permuted_samples_have_permuted_weights(seed, permutation):
    gate, noise = sample_gate(seed), seeded(seed)
    samples = torch.randn(5, 2, 2, generator=noise, dtype=torch.float64)
    weights = gate(samples, CONTEXT).softmax(0)
    assert_close(gate(samples[permutation], CONTEXT).softmax(0), weights[permutation])
    assert_close(weights.sum(0), torch.ones(2).double())
    other = gate(samples, CONTEXT.flip(0)).softmax(0)
    assert not torch.allclose(weights, other)
    changed = samples.clone()
    changed[0, 0] += 1
    logits = gate(samples, CONTEXT)
    differs = gate(changed, CONTEXT) != logits
    assert differs.nonzero().tolist() in ([[0, 0]], [])


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 100))
def test_ragged_weights_are_those_of_each_group_alone(sizes, seed):
    gate, noise = sample_gate(seed), seeded(seed)
    context = torch.randn(len(sizes), 1, generator=noise, dtype=torch.float64)
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    groups = groups[torch.randperm(len(groups), generator=noise)]
    samples = torch.randn(len(groups), 2, generator=noise, dtype=torch.float64)
    ragged = segment_softmax(gate(samples, context[groups]), groups, len(sizes))
    most = max(sizes)
    for i in range(len(sizes)):
        alone = samples[groups == i]
        padded = torch.cat([alone, torch.zeros(most - len(alone), 2).double()])
        pad = torch.arange(most) >= len(alone)
        logits = gate(padded, context[i]).masked_fill(pad, -math.inf)
        assert_close(ragged[groups == i], logits.softmax(0)[: len(alone)])


def test_weights_learn_whom_a_context_should_trust():
    """Five voters, three of them wrong in each half of the contexts."""
    noise, space = seeded(0), CategoricalSpace({"label": 3})
    context = 2 * torch.rand(400, 1, generator=noise) - 1
    truth = torch.randint(3, (400,), generator=noise)
    wrong = (truth + torch.randint(1, 3, (5, 400), generator=noise)) % 3
    expert_in = torch.tensor([0, 1, 0, 1, 2])  # the last one never is
    right = expert_in.unsqueeze(-1) == (context[:, 0] > 0)
    codes = torch.where(right, truth, wrong).unsqueeze(-1)
    voters = torch.eye(5).unsqueeze(1).expand(5, 400, 5)
    with isolated_seed(0):
        gate = SampleGate(5, SPEC)
    assert_close(gate(voters, context).softmax(0), torch.full((5, 400), 0.2))

    def accuracy(weights):
        return float((weighted_vote(space, codes, weights)[:, 0] == truth).double().mean())

    assert accuracy(gate(voters, context).softmax(0)) < 0.85
    adam = torch.optim.Adam(gate.parameters(), 0.03)
    for _ in range(80):
        shares = weighted_marginals(space, codes, gate(voters, context).softmax(0))
        loss = -shares.gather(-1, truth.unsqueeze(-1)).clamp_min(1e-6).log().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert accuracy(gate(voters, context).softmax(0)) > 0.97


def test_a_gradient_estimator_trains_the_gate_through_a_choice_among_samples():
    gate, scores = sample_gate(2, inputs=1), torch.tensor([0.0, 1.0, 3.0, 2.0]).double()
    samples = scores.view(4, 1, 1).expand(4, 2, 1)
    logits = gate(samples, CONTEXT).movedim(0, -1)
    value = Enumerate().expectation(lambda picked: picked @ scores, logits)
    assert_close(value, logits.softmax(-1) @ scores)


# --- refusals -------------------------------------------------------------------------------------


def test_what_it_refuses():
    experts = [Generator(SPACE, SPEC) for _ in range(2)]
    gate, other = Generator(number_of(2), SPEC), CategoricalSpace({"cut": 2, "colour": 4})
    with pytest.raises(ValueError, match="at least one generator, got none"):
        MixtureGenerator([], gate)
    with pytest.raises(ValueError, match=r"generator 1 must have .* colour: 3\): .* colour: 4\)"):
        MixtureGenerator([experts[0], Generator(other, SPEC)], gate)
    for wrong in (number_of(3), CategoricalSpace.from_sizes((2, 2))):
        with pytest.raises(ValueError, match="one feature of 2 categories, one a generator, got"):
            MixtureGenerator(experts, Generator(wrong, SPEC))
    with pytest.raises(TypeError, match=r"as generator 1, needs .* `space`; Linear has none"):
        MixtureGenerator([experts[0], torch.nn.Linear(1, 5)], gate)
    with pytest.raises(TypeError, match=r"as the gate, needs .* `space`; Linear has none"):
        MixtureGenerator(experts, torch.nn.Linear(1, 2))
    weight = ContextSpec(numeric=["weight"])
    with pytest.raises(ValueError, match=r"the gate must .* generator 0, \('price',\): \('weight'"):
        MixtureGenerator(experts, Generator(number_of(2), weight))
    with pytest.raises(ValueError, match=r"generator 1 must read the context of generator 0"):
        MixtureGenerator([experts[0], Generator(SPACE, weight)], gate)
    mixture = MixtureGenerator(experts, gate)
    for call in (mixture.weights, mixture.sample, mixture.marginals):
        with pytest.raises(ValueError, match=r"takes a context \(..., 1\), got none"):
            call()
    with pytest.raises(ValueError, match=r"context must be \(..., 1\)"):
        mixture.log_prob(ROWS, torch.zeros(6, 2))
    with pytest.raises(ValueError, match="'colour' has code 3"):
        mixture.log_prob(torch.tensor([0, 3]), torch.zeros(1))
    choice = LeaveOneOut(number_of(3))
    with pytest.raises(ValueError, match=r"logits must be \(..., 3\), got \(2, 2\)"):
        mixture.expectation(f, CONTEXT.float(), Enumerate(SPACE), choice=choice)
    with pytest.raises(ValueError, match="described by at least 1 number, got 0"):
        SampleGate(0)
    with pytest.raises(ValueError, match=r"samples must be \(..., 2\), got \(4, 3\)"):
        SampleGate(2)(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="takes a context"):
        SampleGate(2, SPEC)(torch.zeros(4, 2))


def test_the_law_has_a_slope_in_the_context() -> None:
    mixture = MixtureGenerator(
        [generator_of(SPEC, SPACE, seed) for seed in (0, 1)], generator_of(SPEC, number_of(2), 2)
    )
    for value in (mixture.weights, mixture.marginals, lambda c: mixture.log_prob(ROWS[2], c)):
        given = CONTEXT.clone().requires_grad_()
        assert torch.autograd.gradcheck(value, given)
        (slope,) = torch.autograd.grad(value(given).square().sum(), given)
        assert slope.all()
