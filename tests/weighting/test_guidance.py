"""Guidance against enumeration, and the published relations between its rules."""

import functools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GumbelSoftmax, StraightThrough
from discrete_grad.data import load_example
from discrete_grad.policies import AutoregressiveGenerator
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import ContextSpec
from discrete_grad.testing._goodness import g_test, joint_counts
from discrete_grad.weighting import (
    AttributeSet,
    Guidance,
    Guided,
    PrefixValue,
    TablePolicy,
    TablePotential,
    ValueGuided,
    exact_log_probs,
    fit_prefix_value,
    tilt,
)
from discrete_grad.weighting.guidance_exact import exact_grade
from discrete_grad.weighting.guidance_rules import (
    guided_log_probs,
    nucleus,
    top_k,
    z_scored_weights,
)
from discrete_grad.weighting.prefix_value import PrefixValueConfig, prefix_value_loss
from discrete_grad.weighting.tilt import table_kl
from tests.goodness import FALSE_ALARM

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
ROWS = SPACE.enumerate()
RULES = ("z_scored", "jensen", "posterior", "exact")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table(seed: int = 0, *, size: int = 3, holes: bool = False, order: Any = None) -> TablePolicy:
    """A random joint table of rows and attributes; with holes, rows that some exclude."""
    noise = seeded(seed)
    joint = torch.randn(SPACE.num_rows, size, generator=noise, dtype=torch.float64)
    if holes:
        drop = torch.rand(joint.shape, generator=noise) < 0.4
        joint = joint.masked_fill(drop, -math.inf)
    vectors = torch.arange(2.0 * size, dtype=torch.float64).view(size, 2)
    return TablePolicy(SPACE, joint, vectors, order=order)


def joint_of(policy: TablePolicy) -> Tensor:
    """p(x, y) `(S, rows)` from the conditionals and the prior, to compare with what was given."""
    vectors, prior = policy.support.vectors, policy.support.prior
    given_y = torch.stack([policy.log_prob(ROWS, None, v) for v in vectors])
    return given_y.exp() * prior.unsqueeze(-1)


def learned(backbone: str = "gru", context: ContextSpec | None = None) -> AutoregressiveGenerator:
    """A conditional model in float64 with large random parameters."""
    model = AutoregressiveGenerator(
        SPACE,
        context,
        attributes=ContextSpec(numeric=["a", "b"]),
        order=(2, 0, 1),
        backbone=backbone,  # type: ignore[arg-type]
        hidden=(8,),
    ).double()
    noise = seeded(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=noise))
    return model


def three() -> AttributeSet:
    vectors = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, -1.0]], dtype=torch.float64)
    return AttributeSet(vectors, torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64))


REWARD = torch.tensor([0.1, 1.0, 0.4], dtype=torch.float64)

# --- exact tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize("holes", [False, True], ids=["full", "holes"])
@pytest.mark.parametrize("order", [None, (2, 0, 1)], ids=str)
def test_a_table_gives_back_its_joint(holes: bool, order: Any) -> None:
    noise = seeded(5)
    joint = torch.randn(24, 3, generator=noise, dtype=torch.float64)
    if holes:
        joint = joint.masked_fill(torch.rand(24, 3, generator=noise) < 0.4, -math.inf)
    policy = TablePolicy(SPACE, joint, torch.arange(3.0).view(3, 1), order=order)
    p = joint.flatten().softmax(0).view(24, 3)
    assert_close(joint_of(policy), p.T.contiguous())
    assert_close(policy.log_prob(ROWS).exp(), p.sum(-1))
    assert_close(policy.support.prior, p.sum(0))
    assert_close(exact_log_probs(policy).exp(), p.sum(-1))


def test_what_is_undefined_in_a_table() -> None:
    space = CategoricalSpace.from_sizes((3, 2))
    log_prob = torch.tensor([0.5, 0.1, 0.2, 0.2, 0.0, 0.0], dtype=torch.float64).log()
    which = torch.tensor([[0], [0], [1], [0], [1], [1]])
    policy = TablePolicy.from_rows(space, log_prob, which)
    zero, one = torch.tensor([0]), torch.tensor([1])
    # vector 1 excludes the first category: what follows is what follows in general
    assert_close(policy.conditional(zero, None, one), policy.conditional(zero))
    assert_close(policy.conditional(zero).exp(), torch.tensor([5 / 6, 1 / 6]).double())
    assert_close(policy.conditional(torch.tensor([2])).exp(), torch.tensor([0.5, 0.5]).double())
    assert policy.log_prob(torch.tensor([0, 1]), None, one) == -math.inf


@given(st.integers(0, 2**31), st.sampled_from([None, (1, 2, 0)]), st.floats(0.05, 5.0))
def test_guidance_by_the_exact_value_is_the_tilted_distribution(
    seed: int, order: Any, beta: float
) -> None:
    policy = table(seed, holes=True, order=order)
    reward = torch.randn(24, generator=seeded(seed), dtype=torch.float64)
    log_prob = policy.log_prob(ROWS)
    potential = TablePotential(SPACE, log_prob, reward / beta, order=order)
    guided = ValueGuided(policy, potential)
    expected = tilt(log_prob, reward, beta)
    assert_close(guided.log_prob(ROWS).exp(), expected.exp())
    mean, kl = exact_grade(guided, policy, reward)
    assert_close(mean, (expected.exp() * reward).sum())
    assert_close(kl, table_kl(expected, log_prob))


@given(st.integers(0, 2**31), st.floats(0.0, 6.0), st.booleans())
def test_the_exact_rule_is_q_to_the_gamma_of_the_table(
    seed: int, gamma: float, holes: bool
) -> None:
    policy = table(seed, holes=holes)
    reward = torch.rand(3, generator=seeded(seed), dtype=torch.float64)
    reward[0] = 0.0
    joint = joint_of(policy)
    value = (joint * reward.unsqueeze(-1)).sum(0) / joint.sum(0)  # E[r | row]
    value = value.nan_to_num(0.0)
    potential = TablePotential(SPACE, policy.log_prob(ROWS), value.log())
    by_value = ValueGuided(policy, potential, gamma=gamma)
    how = Guidance(gamma=gamma, rule="exact")
    by_rule = Guided(policy, policy.support, reward, guidance=how)
    assert_close(by_rule.log_prob(ROWS).exp(), by_value.log_prob(ROWS).exp())
    assert_close(by_rule.log_prob(ROWS).logsumexp(0), torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "gamma", "expected"),
    [
        ("mean", 2.0, {"exact": ".846/.63", "jensen": ".885/1.48", "z_scored": ".942/1.76"}),
        ("apart", 4.0, {"jensen": ".502/2.15", "z_scored": ".561/1.22"}),
        ("middle", 2.0, {"jensen": ".934/2.13", "z_scored": ".813/1.46"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_published_figures_of_a_real_table(
    name: str, gamma: float, expected: dict[str, str]
) -> None:
    """15,625 networks, attributes: the fifth in which each of three accuracies lies."""
    example = load_example("nasbench201", repeat_seed=0)
    ranks = example.scores.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    fifths = (ranks * 5 // 15625).T.double()
    policy = TablePolicy.from_rows(example.space, torch.zeros(15625), fifths)
    reward = {
        "mean": lambda y: y.mean(-1) / 4,
        "apart": lambda y: (1 + (y[:, 2] - y[:, 0]) / 4) / 2,
        "middle": lambda y: (-(y - 2).square().sum(-1) / 2).exp(),
    }[name]
    for rule, figures in expected.items():
        how = Guidance(gamma=gamma, rule=rule)  # type: ignore[arg-type]
        guided = Guided(policy, policy.support, reward(policy.support.vectors), guidance=how)
        mean, kl = exact_grade(guided, policy, reward(fifths))
        wanted = [float(figure) for figure in figures.split("/")]
        assert (abs(mean - wanted[0]) < 6e-4, abs(kl - wanted[1]) < 5.1e-3) == (True, True)


# --- relations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("backbone", ["gru", "transformer", "table"])
def test_gamma_0_is_the_base_and_every_gamma_is_normalised(rule: Any, backbone: str) -> None:
    policy: Any = table(holes=True) if backbone == "table" else learned(backbone)
    support = policy.support if backbone == "table" else three()
    for smoothing in (0.0, 0.02):
        for gamma in (0.0, 1.0, 8.0):
            how = Guidance(gamma=gamma, rule=rule, smoothing=smoothing)
            log_probs = Guided(policy, support, REWARD, guidance=how).log_prob(ROWS)
            assert not log_probs.isnan().any()
            assert_close(log_probs.logsumexp(0).exp(), torch.ones((), dtype=torch.float64))
            if gamma == 0:
                assert_close(log_probs, policy.log_prob(ROWS))
            elif gamma == 1:
                assert not torch.allclose(log_probs, policy.log_prob(ROWS))
            assert (log_probs[policy.log_prob(ROWS) == -math.inf] == -math.inf).all()


@pytest.mark.parametrize("backbone", ["gru", "transformer", "table"])
def test_one_vector_at_gamma_1_is_the_conditional_model(backbone: str) -> None:
    policy: Any = table() if backbone == "table" else learned(backbone)
    vector = policy.support.vectors[1] if backbone == "table" else three().vectors[1]
    guided = Guided.towards(policy, vector)
    assert_close(guided.log_prob(ROWS), policy.log_prob(ROWS, None, vector))
    stronger = Guided.towards(policy, vector, gamma=3.0).log_prob(ROWS)
    base, given_y = policy.log_prob(ROWS), policy.log_prob(ROWS, None, vector)
    assert (stronger.exp() * (given_y - base)).sum() > (given_y.exp() * (given_y - base)).sum()


def test_the_posterior_rule_is_a_lower_bound_of_the_exact_direction() -> None:
    """Jensen: `sum_y w(y) l(y) <= log sum_y w(y) e^l(y)`, w the rewarded posterior."""
    policy = table(4)
    prefix = torch.tensor([2])
    base = policy.conditional(prefix)
    given_y = torch.stack([policy.conditional(prefix, None, v) for v in policy.support.vectors])
    first = [policy.conditional(torch.zeros(0).long(), None, v)[2] for v in policy.support.vectors]
    weights = (policy.support.prior * REWARD).log() + torch.stack(first)
    bound = (weights.softmax(0).unsqueeze(-1) * (given_y - base)).sum(0)
    direction = (weights.log_softmax(0).unsqueeze(-1) + given_y - base).logsumexp(0)
    assert (bound < direction).all()
    for rule, expected in (("posterior", bound), ("exact", direction)):
        how = Guidance(gamma=3.0, rule=rule, smoothing=0.0)  # type: ignore[arg-type]
        guided = Guided(policy, policy.support, REWARD, guidance=how)
        assert_close(guided.conditional(prefix), (base + 3 * expected).log_softmax(-1))


def test_z_scores_by_hand() -> None:
    policy, prefix = table(6), torch.tensor([1, 0])
    prior = policy.support.prior
    scores = (REWARD - prior @ REWARD) / (prior @ (REWARD - prior @ REWARD) ** 2).sqrt()
    base = policy.conditional(prefix).exp()
    logits = base.log()
    for p, score, vector in zip(prior, scores, policy.support.vectors, strict=True):
        mixed = 0.9 * policy.conditional(prefix, None, vector).exp() + 0.1 * base
        logits = logits + 4 * p * score * (mixed / base).log()
    guided = Guided(policy, policy.support, REWARD, guidance=Guidance(gamma=4.0, smoothing=0.1))
    assert_close(guided.conditional(prefix), logits.log_softmax(-1))


@given(st.floats(-3, 3), st.floats(0.1, 5))
def test_z_scores_ignore_shift_and_scale(shift: float, scale: float) -> None:
    prior = three().prior
    expected = z_scored_weights(REWARD, prior)
    assert_close(z_scored_weights(shift + scale * REWARD, prior), expected)
    assert_close(expected.sum(), torch.zeros((), dtype=torch.float64))
    assert (z_scored_weights(torch.full((3,), shift), prior.float()) == 0).all()


def test_a_constant_reward_guides_nowhere() -> None:
    policy = table(1)
    for rule in ("z_scored", "exact"):
        how = Guidance(gamma=8.0, rule=rule)  # type: ignore[arg-type]
        guided = Guided(policy, policy.support, torch.full((3,), 0.7).double(), guidance=how)
        assert_close(guided.log_prob(ROWS), policy.log_prob(ROWS))


def test_without_smoothing_zeros_act_as_limits() -> None:
    base = torch.tensor([0.5, 0.3, 0.2, 0.0]).double().log()
    given_y = torch.tensor([[0.0, 0.6, 0.4, 0.0]]).double().log()
    assert guided_log_probs(base, given_y, torch.ones(1), gamma=1.0).exp()[0] == 0
    away = guided_log_probs(base, given_y, -torch.ones(1), gamma=1.0)
    assert away.exp().tolist() == [1.0, 0.0, 0.0, 0.0]
    nothing = torch.tensor([[0.0, 0.0, 0.0, 1.0]]).double().log()
    assert_close(guided_log_probs(base, nothing, torch.ones(1), gamma=1.0), base)


@pytest.mark.parametrize("rule", ["posterior", "exact"])
def test_where_no_rewarded_vector_is_possible_the_base_goes_on(rule: Any) -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    which = torch.tensor([[0], [0], [0], [0], [1], [1]])
    policy = TablePolicy.from_rows(space, torch.arange(6.0), which)
    how = Guidance(gamma=2.0, rule=rule)
    guided = Guided(policy, policy.support, torch.tensor([0.0, 1.0]), guidance=how)
    prefix = torch.tensor([0])
    assert_close(guided.conditional(prefix), policy.conditional(prefix))
    other = torch.tensor([1])
    assert guided.conditional(other).exp()[0] < 0.1 * policy.conditional(other).exp()[0]


# --- sampling and soft decoding -------------------------------------------------------------------


def check_law(codes: Tensor, log_probs: Tensor) -> None:
    assert g_test(joint_counts(SPACE, codes), log_probs.detach().exp()) > FALSE_ALARM


@pytest.mark.parametrize("rule", ["z_scored", "posterior"])
@pytest.mark.parametrize("backbone", ["gru", "transformer", "table"])
def test_samples_have_the_guided_law(rule: Any, backbone: str) -> None:
    policy: Any = table(holes=True) if backbone == "table" else learned(backbone)
    support = policy.support if backbone == "table" else three()
    keep = functools.partial(nucleus, mass=0.9)
    how = Guidance(gamma=3.0, rule=rule, keep=keep)
    guided = Guided(policy, support, REWARD, guidance=how)
    check_law(guided.sample(count=10_000, generator=seeded()), guided.log_prob(ROWS))
    assert (guided.log_prob(ROWS) == -math.inf).any()


def test_a_guided_model_takes_contexts() -> None:
    model = learned(context=ContextSpec(numeric=["price"]))
    guided = Guided(model, three(), REWARD, guidance=Guidance(gamma=3.0, rule="posterior"))
    context = torch.tensor([[-1.0], [2.0]]).double()
    both = guided.log_prob(ROWS.unsqueeze(1), context)
    for i in range(2):
        assert_close(both[:, i], guided.log_prob(ROWS, context[i]))
        assert_close(both[:, i], exact_log_probs(guided, context[i]))
    assert not torch.allclose(both[:, 0], both[:, 1])
    codes = guided.sample(context, 8_000, generator=seeded())
    check_law(codes[:, 1], both[:, 1])


def test_one_call_of_the_model_a_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = learned(), []
    original = model.network.trunk.forward

    def counted(inputs: Tensor, cache: Any) -> Any:
        batches.append(tuple(inputs.shape))
        return original(inputs, cache)

    monkeypatch.setattr(model.network.trunk, "forward", counted)
    Guided(model, three(), REWARD).sample(count=5, generator=seeded())
    assert batches == [(4 * 5, 1, 8)] * 3


@pytest.mark.parametrize("rule", RULES)
def test_hard_rows_guide_like_their_codes(rule: Any) -> None:
    guided = Guided(learned(), three(), REWARD, guidance=Guidance(gamma=5.0, rule=rule))
    one, other = (guided.begin(batch=(24,)) for _ in range(2))
    blocks, previous = SPACE.split(SPACE.one_hot(ROWS, dtype=torch.float64)), None
    for feature in guided.order:
        log_probs, one = guided.advance(one, None if previous is None else ROWS[:, previous])
        again, other = guided.advance(other, None if previous is None else blocks[previous])
        assert_close(again, log_probs)
        previous = feature


@pytest.mark.parametrize("rule", RULES)
def test_guidance_is_decoded_softly(rule: Any) -> None:
    model = learned()
    how = Guidance(gamma=2.0, rule=rule)
    guided = Guided(model, three(), REWARD, guidance=how)
    rows = guided.relaxed(None, 6_000, StraightThrough(), generator=seeded())
    check_law(SPACE.argmax(rows), guided.log_prob(ROWS))
    soft = guided.relaxed(None, 2, GumbelSoftmax(hard=False), generator=seeded())
    soft.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# --- filters --------------------------------------------------------------------------------------


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.integers(1, 9), st.floats(0.01, 1))
def test_filters(values: list[float], count: int, mass: float) -> None:
    log_probs = torch.tensor(values, dtype=torch.float64).log_softmax(-1)
    p = log_probs.exp()
    cut = top_k(log_probs, count=count).exp()
    alive = cut > 0
    assert alive.sum() == min(count, len(values))
    assert_close(cut[alive], p[alive] / p[alive].sum())
    assert (p[alive].min() >= p[~alive]).all()
    cut = nucleus(log_probs, mass=mass).exp()
    alive = cut > 0
    assert p[alive].sum() >= mass - 1e-9
    assert p[alive].sum() - p[alive].min() < mass  # one fewer holds less
    assert_close(cut[alive], p[alive] / p[alive].sum())
    assert alive.all() or (p[alive].min() >= p[~alive]).all()


# --- the set of attributes ------------------------------------------------------------------------


def test_the_set_follows_the_training_prior() -> None:
    rows = torch.tensor([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [4.0, 5.0]])
    found = AttributeSet.from_rows(rows)
    assert found.vectors.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found.prior.tolist() == [0.5, 0.25, 0.25]
    assert torch.equal(AttributeSet.from_rows(rows, size=3).prior, found.prior)
    noise, total = seeded(), torch.zeros(3)
    for _ in range(2000):
        drawn = AttributeSet.from_rows(rows, size=2, generator=noise)
        assert len(drawn.prior) <= 2
        for vector, p in zip(drawn.vectors, drawn.prior, strict=True):
            total[int(vector[0]) // 2] += p / 2000
    assert_close(total, found.prior, atol=0.03, rtol=0)


# --- a learned value ------------------------------------------------------------------------------


def test_each_step_of_a_fit_takes_other_rows_which_the_seed_decides() -> None:
    value, seen = PrefixValue(SPACE), list[Tensor]()
    above = value.above_offset

    def noted(codes: Tensor, context: Tensor | None = None) -> Tensor:
        seen.append(codes)
        return above(codes, context)

    value.above_offset = noted  # type: ignore[method-assign]
    config = PrefixValueConfig(steps=3, batch_size=5)
    fit_prefix_value(value, ROWS, torch.zeros(24), config=config, seed=7)
    noise = seeded(7)
    wanted = [ROWS[torch.randint(24, (5,), generator=noise)] for _ in range(3)]
    assert torch.equal(torch.stack(seen), torch.stack(wanted))


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_a_learned_value_comes_near_the_exact_one(backbone: Any) -> None:
    torch.manual_seed(0)
    policy = table(2, order=(1, 0, 2))
    reward = torch.randn(24, generator=seeded(9), dtype=torch.float64)
    codes = policy.sample(count=4000, generator=seeded())
    index = codes @ torch.tensor([8, 2, 1])
    value = PrefixValue(SPACE, order=(1, 0, 2), backbone=backbone, hidden=(32,))
    config = PrefixValueConfig(steps=300)
    losses = fit_prefix_value(value, codes, reward[index], config=config).losses
    assert losses[-1] < losses[0]
    exact = TablePotential(SPACE, policy.log_prob(ROWS), reward, order=(1, 0, 2))
    found = ValueGuided(policy, value)
    gap = table_kl(exact_log_probs(found), tilt(policy.log_prob(ROWS), reward, 1.0))
    base = table_kl(policy.log_prob(ROWS), tilt(policy.log_prob(ROWS), reward, 1.0))
    assert gap < 0.05 * base
    first, _ = exact.advance(exact.begin(batch=()), None)
    assert_close(value.advance(value.begin(batch=()), None)[0].double(), first, atol=0.2, rtol=0)


@given(st.integers(0, 2**31), st.booleans())
def test_the_loss_is_least_at_the_exact_value(seed: int, forbidden: bool) -> None:
    noise = seeded(seed)
    weight = torch.randn(24, generator=noise, dtype=torch.float64)
    if forbidden:
        weight[torch.rand(24, generator=noise) < 0.4] = -math.inf
    rows = TablePotential(SPACE, torch.zeros(24), weight)
    for position in range(3):
        parts = [rows.following(ROWS[i, :position])[ROWS[i, position]] for i in range(24)]
        exact = torch.stack(parts)
        alive = exact > -math.inf
        values = exact.masked_fill(~alive, 0).unsqueeze(-1).requires_grad_()
        (slope,) = torch.autograd.grad(prefix_value_loss(values, weight), values)
        _, group = ROWS[:, : position + 1].unique(dim=0, return_inverse=True)
        total = torch.zeros(24, dtype=torch.float64).index_add(0, group, slope.squeeze(-1))
        assert_close(total[group][alive], torch.zeros(int(alive.sum()), dtype=torch.float64))
        assert (slope[~alive] > 0).all()  # downhill is down


def test_the_loss_is_a_line_beyond_10_nats_and_finite_for_forbidden_rows() -> None:
    values = torch.tensor([[0.0], [-30.0], [2.0]]).requires_grad_()
    weight = torch.tensor([10.5, 3.0, -math.inf])
    loss = prefix_value_loss(values, weight)
    expected = [math.exp(10) * 1.5 - 1, math.exp(10) * 24 - 31, 1.0]
    assert_close(loss, torch.tensor(sum(expected) / 3))
    (slope,) = torch.autograd.grad(loss, values)
    steep = (1 - math.exp(10)) / 3
    assert_close(slope, torch.tensor([[steep], [steep], [1 / 3]]))


def test_a_value_learns_contexts_and_forbidden_rows() -> None:
    """What some prefixes forbid altogether is far below all else."""
    spec = ContextSpec(numeric=["price"])
    model, context = learned(context=spec), torch.tensor([[-1.0], [1.0]]).double()
    rows = ROWS.unsqueeze(1).expand(-1, 2, -1)
    with torch.no_grad():
        log_prob = model.log_prob(rows, context)
    weight = torch.randn(24, 2, generator=seeded(1), dtype=torch.float64)
    weight[ROWS[:, 2] == 0, 1] = -math.inf  # the feature read first
    exact = TablePotential(SPACE, log_prob, weight, order=model.order)
    guided = ValueGuided(model, exact)
    assert_close(guided.log_prob(rows, context), tilt(log_prob, weight, 1.0))
    codes = model.sample(context, 3000, generator=seeded(2))
    index = codes @ torch.tensor([8, 2, 1])
    with isolated_seed(0):
        value = PrefixValue(SPACE, spec, order=model.order, hidden=(32,))
    weights = weight.gather(0, index)
    fit_prefix_value(value, codes, weights, context=context, config=PrefixValueConfig(steps=200))
    empty = torch.zeros(2, 0).long()
    found, wanted = (v.following(empty, context).detach() for v in (value, exact))
    assert found[1, 0] < found[1, 1] - 3
    wanted = wanted.masked_fill(wanted == -math.inf, 0)
    assert_close(found.double().where(wanted != 0, 0), wanted, atol=0.25, rtol=0)
    drawn = ValueGuided(model, value).sample(context, 2000, generator=seeded(3))
    assert (drawn[:, 1, 2] == 0).double().mean() < 0.05


# --- errors ---------------------------------------------------------------------------------------


def test_errors() -> None:
    policy = table()
    with pytest.raises(ValueError, match=r"reward must be \(3,\), one a vector, got \(2,\)"):
        Guided(policy, policy.support, torch.ones(2))
    with pytest.raises(ValueError, match="must be finite, got nan at vector 1"):
        Guided(policy, policy.support, torch.tensor([0.0, math.nan, math.inf]))
    for reward in (torch.tensor([0.0, -1.0, 1.0]), torch.zeros(3)):
        with pytest.raises(ValueError, match="needs rewards from 0 on, some above 0"):
            Guided(policy, policy.support, reward, guidance=Guidance(rule="jensen"))
    with pytest.raises(ValueError, match="asks about attributes itself"):
        Guided(policy, policy.support, REWARD).conditional(
            torch.tensor([0]), None, policy.support.vectors[0]
        )
    with pytest.raises(ValueError, match="gamma must be a finite number from 0 on, got -1"):
        Guidance(gamma=-1)
    with pytest.raises(ValueError, match="rule must be one of"):
        Guidance(rule="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"smoothing must be in \[0, 1\), got 1"):
        Guidance(smoothing=1.0)
    with pytest.raises(ValueError, match="sum to 1, got a sum of 2"):
        AttributeSet(torch.zeros(2, 1), torch.ones(2))
    with pytest.raises(ValueError, match=r"attributes must be \(N, A\), N >= 1, got \(0, 2\)"):
        AttributeSet.from_rows(torch.zeros(0, 2))
    with pytest.raises(ValueError, match=r"the table must be \(24, 3\)"):
        TablePolicy(SPACE, torch.zeros(23, 3), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="finite sum, got log -inf"):
        TablePolicy(SPACE, torch.full((24, 3), -math.inf), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"among the table's 3, got \[9.0, 9.0\]"):
        policy.log_prob(ROWS, None, torch.tensor([9.0, 9.0]))
    with pytest.raises(ValueError, match=r"takes no context, got \(1,\)"):
        policy.log_prob(ROWS, torch.zeros(1))
    with pytest.raises(TypeError, match="it reads codes, got torch"):
        policy.relaxed(None, 1, StraightThrough())
    with pytest.raises(ValueError, match="numbers or -inf, got NaN or inf"):
        TablePotential(SPACE, torch.zeros(24), torch.full((24,), math.nan))
    with pytest.raises(ValueError, match="same features in the same order"):
        ValueGuided(policy, PrefixValue(SPACE, order=(1, 0, 2)))
    with pytest.raises(
        ValueError, match=r"must be \(24,\) or \(24, S\), got \(24,\) and \(24, 2\)"
    ):
        TablePotential(SPACE, torch.zeros(24), torch.zeros(24, 2))
    one, two = (TablePotential(SPACE, t, t) for t in (torch.zeros(24), torch.zeros(24, 2)))
    with pytest.raises(ValueError, match=r"contexts: none; got \(2, 1\) in a batch \(5, 2\)"):
        one.begin(torch.zeros(2, 1), batch=(5, 2))
    with pytest.raises(
        ValueError, match=r"those of batches \(..., 2\); got \(3, 1\) in a batch \(3,\)"
    ):
        two.begin(torch.zeros(3, 1), batch=(3,))
    with pytest.raises(ValueError, match=r"contexts: those of batches \(..., 2\); got None"):
        two.begin(batch=(5, 2))
    value, weights = PrefixValue(SPACE), torch.zeros(24)
    with pytest.raises(ValueError, match=r"log_weight must be \(24,\), one a row, got \(23,\)"):
        fit_prefix_value(value, ROWS, weights[1:])
    weights[7] = math.inf
    with pytest.raises(ValueError, match=r"numbers or -inf, got inf for row \(7,\)"):
        fit_prefix_value(value, ROWS, weights)
    with pytest.raises(ValueError, match="all 24 rows are forbidden"):
        fit_prefix_value(value, ROWS, torch.full((24,), -math.inf))
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        top_k(torch.zeros(3), count=0)
    with pytest.raises(ValueError, match=r"mass must be in \(0, 1\], got 0"):
        nucleus(torch.zeros(3), mass=0.0)


def test_rows_selected_among_selected_ones_are_those_of_the_first() -> None:
    policy = table()
    guided = Guided(policy, policy.support, torch.tensor([1.0, 0.0, 2.0]).double())
    state = guided.begin(None, batch=(6,))
    _, state = guided.advance(state, None)
    _, state = guided.advance(state, torch.tensor([0, 1, 2, 0, 1, 2]))
    twice = guided.select(guided.select(state, torch.tensor([5, 1, 3])), torch.tensor([2, 0]))
    once = guided.select(state, torch.tensor([3, 5]))
    following = torch.tensor([0, 1])
    for read in (twice, once):
        assert read.size == 2
    assert_close(guided.advance(twice, following)[0], guided.advance(once, following)[0])
