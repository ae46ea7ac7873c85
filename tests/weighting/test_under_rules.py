"""Everything of the room with a reference under rules: only allowed rows, and exact laws."""

import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Generator,
    MixtureGenerator,
    conditioned,
)
from discrete_grad.rules import AtMost, Exactly, Fix, Forbid, Observed, Rules, When
from discrete_grad.sampling import isolated_seed, normal, seeded
from discrete_grad.testing._goodness import g_test
from discrete_grad.testing.rule_strategies import rule_lists
from discrete_grad.weighting import (
    Guidance,
    Guided,
    RewardWeighted,
    TablePotential,
    ValueGuided,
    best_of_n,
    importance_sampling,
    metropolis,
    twisted_smc,
)
from discrete_grad.weighting._connected import connected_parts
from discrete_grad.weighting.guidance_exact import TablePolicy
from discrete_grad.weighting.metropolis import log_acceptance, swap_index
from discrete_grad.weighting.proposals import allowed_swaps, informed_swaps, uniform_swaps
from discrete_grad.weighting.tilt import tilt
from tests.goodness import FALSE_ALARM

SPACE = CategoricalSpace({"a": ["x", "y"], "b": ["x", "y", "z"], "c": ["x", "y"]})
ROWS = SPACE.enumerate()
SHOPS = CategoricalSpace({"shop": ["east", "west"]})
SPEC = ContextSpec({"shop": ["east", "west"]})
BY_SHOP = Rules(
    SPACE,
    [
        When({"shop": "east"}, [Fix("a", "x")]),
        When({"shop": "west"}, [AtMost(1, {"a": 1, "c": 1})]),
    ],
    context=SHOPS,
)
CELLS = {"a": "y", "b": ["y", "z"], "c": "y"}
KINDS = ("independent", "steps", "mixture")


def reference(kind: str, rules: Rules, seed: int = 0, spec: ContextSpec | None = None):
    with isolated_seed(seed):
        made = [Generator(SPACE, spec, hidden=(8,)).double() for _ in range(2)]
        gate = Generator(CategoricalSpace({"expert": 2}), spec).double()
        writer = AutoregressiveGenerator(SPACE, spec, order=(2, 0, 1), hidden=(8,)).double()
    if spec is None:
        for i, model in enumerate(made):
            model.free_logits.data = (
                normal((SPACE.width,), generator=seeded(seed + i)).double() / 10
            )
    writer.network.head.weight.data *= 5
    policy = {"independent": made[0], "steps": writer, "mixture": MixtureGenerator(made, gate)}
    return conditioned(policy[kind], rules).requires_grad_(False)


def reward(rows, context):
    """A number for each row, by an interaction; of flat rows differentiable, but promised wrong."""
    flat = rows if rows.is_floating_point() else SPACE.one_hot(rows)
    matrix = normal((SPACE.width, SPACE.width), generator=seeded(7)).double()
    return torch.einsum("...i,ij,...j->...", flat.double(), matrix, flat.double()) / 3


def target(kind: str, rules: Rules, seed: int = 0, spec=None, beta: float = 0.8) -> RewardWeighted:
    return RewardWeighted(reference(kind, rules, seed, spec), reward, beta)


def made(rules: list) -> Rules:
    try:
        return Rules(SPACE, rules)
    except ValueError:
        assume(False)
        raise


@settings(max_examples=20)
@given(rules=rule_lists(SPACE), seed=st.integers(0, 99), kind=st.sampled_from(KINDS))
def test_the_tilt_lists_allowed_rows_alone(rules, seed, kind):
    try:
        wanted = target(kind, made(rules), seed)
    except ValueError as error:
        assume("in opposite directions" not in str(error))  # of a sequence, in that of the steps
        raise
    allowed = wanted.reference.allows(ROWS)
    exact = wanted.exact()
    assert torch.equal(exact.codes, ROWS[allowed])
    every = tilt(wanted.reference.log_prob(ROWS), reward(ROWS, None), 0.8)
    assert_close(exact.log_probs, every[allowed])
    assert (every[~allowed] == -math.inf).all()
    assert wanted.reference.allows(exact.sample(20, generator=seeded(seed))).all()


def test_a_space_too_large_for_a_table_has_one_under_rules():
    space = CategoricalSpace.from_sizes([4] * 30)
    rules = Rules(space, [Observed(space.names, torch.arange(4).unsqueeze(-1).expand(-1, 30))])
    wanted = RewardWeighted(
        conditioned(Generator(space), rules), lambda rows, _: rows[..., 0].double(), 1.0
    )
    weights = torch.arange(4).double().exp()
    assert_close(wanted.exact().probs, weights / weights.sum())
    with pytest.raises(ValueError, match="the rules allow 4 rows, more than max_rows=3"):
        RewardWeighted(wanted.reference, reward, 1.0, max_rows=3).exact()


@pytest.mark.parametrize("kind", KINDS)
def test_the_tilt_of_each_context_has_its_rules(kind):
    wanted, context = target(kind, BY_SHOP, spec=SPEC), torch.eye(2)
    exact = wanted.exact(context.double())
    assert len(exact.codes) == 12 - 3  # neither allows c with a
    rows = exact.codes.unsqueeze(1).expand(-1, 2, -1)
    allowed = wanted.reference.allows(rows, context)
    assert torch.equal(exact.probs > 0, allowed)
    assert allowed.sum(0).tolist() == [6, 9]


# --- chains ---------------------------------------------------------------------------------------


def transition_matrix(wanted: RewardWeighted, proposal: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows that are allowed, and `P[x, y]` of one step between them."""
    rows = wanted.reference.enumerate()
    density = wanted.log_density(rows)
    place = {tuple(row.tolist()): i for i, row in enumerate(rows)}
    matrix = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    if proposal == "redraw":
        return rows, _redrawn_matrix(wanted, rows)
    propose = {
        "uniform": lambda: uniform_swaps(SPACE, allowed_swaps(wanted, None)),
        "informed": lambda: informed_swaps(wanted),
    }[proposal]()
    for x, row in enumerate(rows):
        forth = propose(row)
        assert_close(forth.exp().sum(), torch.tensor(1.0).double())
        for swap, log_q in zip(SPACE.swaps(row), forth, strict=True):
            y = place.get(tuple(swap.tolist()))
            if y is None:
                continue
            back = propose(swap)[swap_index(SPACE, swap, row)]
            accept = log_acceptance(density[x], back, density[y], log_q)
            matrix[x, y] = (log_q + accept).exp()
    return rows, matrix + torch.diag(1 - matrix.sum(1))


def _redrawn_matrix(wanted: RewardWeighted, rows: torch.Tensor) -> torch.Tensor:
    """From the definition: a size in proportion to 1 / s, any features of that number."""
    law, worth = wanted.reference.log_prob(rows).exp(), reward(rows, None) / wanted.beta
    accept = (worth - worth.unsqueeze(-1)).clamp_max(0).exp()
    matrix = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    sizes = torch.tensor([1, 1 / 2, 1 / 3]).double()
    for size, share in zip((1, 2, 3), sizes / sizes.sum(), strict=True):
        subsets = list(itertools.combinations(range(3), size))
        for subset in subsets:
            kept = [i for i in range(3) if i not in subset]
            like = (rows[:, None, kept] == rows[None, :, kept]).all(-1)
            drawn = like * law
            matrix += share / len(subsets) * drawn / drawn.sum(1, keepdim=True)
    moved = matrix * accept
    moved = moved - torch.diag(moved.diagonal())
    return moved + torch.diag(1 - moved.sum(1))


@pytest.mark.parametrize("proposal", ["uniform", "informed", "redraw"])
@settings(max_examples=10)
@given(rules=rule_lists(SPACE, min_rules=1, max_rules=2), seed=st.integers(0, 99))
def test_one_step_leaves_the_target_where_it_is(proposal, rules, seed):
    wanted = target("independent", made(rules), seed)
    rows, matrix = transition_matrix(wanted, proposal)
    law = wanted.exact().probs
    flow = law.unsqueeze(-1) * matrix
    assert_close(flow, flow.T, atol=1e-12, rtol=1e-9)  # detailed balance
    part = connected_parts(rows, range(3))
    apart = bool((part != part[0]).any())
    many = torch.linalg.matrix_power(matrix, 2**14)
    if proposal == "redraw" or not apart:
        assert_close(many, law.expand(len(rows), -1), atol=1e-6, rtol=0)
    else:
        assert (many[0, part != part[0]] == 0).all()
        with pytest.raises(ValueError, match="single swaps do not connect"):
            metropolis(wanted, count=2, steps=1, proposal=proposal)


RULES = Rules(SPACE, [Forbid({"a": "y", "b": ["x", "y"]}), AtMost(2, CELLS)])


@pytest.mark.parametrize("proposal", ["uniform", "informed", "redraw"])
def test_the_chains_are_those_of_the_matrix(proposal):
    wanted = target("independent", RULES, 3)
    rows, matrix = transition_matrix(wanted, proposal)
    start = rows[:1].expand(20_000, -1)
    drawn = metropolis(
        wanted, None, 20_000, steps=2, proposal=proposal, start=start, generator=seeded(2)
    )
    counts = SPACE.row_number(drawn.codes).bincount(minlength=12)[SPACE.row_number(rows)]
    assert counts.sum() == 20_000
    assert g_test(counts, (matrix @ matrix)[0].clamp_min(0)) > FALSE_ALARM


@pytest.mark.parametrize("proposal", ["uniform", "redraw"])
def test_the_reward_is_asked_about_allowed_rows_alone(proposal):
    asked = []
    plain = target("independent", RULES)
    counted = RewardWeighted(
        plain.reference, lambda rows, _: asked.append(rows) or reward(rows, None), 0.8
    )
    metropolis(counted, count=50, steps=10, proposal=proposal, generator=seeded(0))
    assert RULES.allows(torch.cat(asked)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proposal", ["uniform", "redraw"])
def test_chains_in_contexts_obey_and_end_on_the_target(kind, proposal):
    wanted, context = target(kind, BY_SHOP, 1, SPEC), torch.eye(2).double()
    drawn = metropolis(wanted, context, 2000, steps=30, proposal=proposal, generator=seeded(3))
    assert wanted.reference.allows(drawn.codes, context).all()
    for i in range(2):
        exact = wanted.exact(context[i])
        number = torch.full((12,), -1)
        number[SPACE.row_number(exact.codes)] = torch.arange(len(exact.codes))
        counts = number[SPACE.row_number(drawn.codes[:, i])].bincount(minlength=len(exact.codes))
        assert g_test(counts, exact.probs) > FALSE_ALARM


def test_what_swaps_do_not_connect_is_told():
    two = target("independent", Rules(SPACE, [Exactly(2, CELLS)]))
    told = r"from \[0, 1, 1\] none lead to .* in one of 3 parts; use proposal='redraw'"
    with pytest.raises(ValueError, match=told):
        metropolis(two)
    assert two.reference.allows(metropolis(two, proposal="redraw", steps=5).codes).all()
    west = [When({"shop": "west"}, [Exactly(1, {"a": "y", "c": "y"})])]
    wanted = target("independent", Rules(SPACE, west, context=SHOPS), spec=SPEC)
    metropolis(wanted, torch.tensor([1.0, 0.0]).double(), steps=2)
    with pytest.raises(ValueError, match=r"in the context \[1\]: from"):
        metropolis(wanted, torch.eye(2).double(), steps=2)
    large = CategoricalSpace.from_sizes([2] * 13)
    policy = conditioned(
        Generator(large), Rules(large, [AtMost(12, dict.fromkeys(large.names, 1))])
    )
    many = RewardWeighted(policy, lambda rows, _: rows.sum(-1).double(), 1.0)
    with pytest.warns(UserWarning, match="more than 4,096 rows: it is not known"):
        metropolis(many, steps=2)
    metropolis(many, steps=2, proposal="redraw")
    with pytest.raises(ValueError, match=r"\[1, 0, 0\], which breaks the reference's rules"):
        metropolis(target("steps", RULES), count=2, start=torch.tensor([[0, 0, 0], [1, 0, 0]]))


def test_a_redraw_starts_from_a_possible_row():
    policy = Generator(SPACE)
    policy.free_logits.data[0] = -math.inf
    wanted = RewardWeighted(conditioned(policy, Rules(SPACE, [Fix("c", "x")])), reward, 1.0)
    with pytest.raises(ValueError, match=r"start holds \[0, 0, 0\], never drawn by reference"):
        metropolis(wanted, count=1, start=torch.zeros(1, 3).long(), proposal="redraw")


# --- samplers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["independent", "steps"])
@pytest.mark.parametrize("proposal", ["reference", "twisted"])
def test_particles_obey_and_their_estimate_of_z_is_unbiased(kind, proposal):
    wanted, runs = target(kind, BY_SHOP, 2, SPEC), 4000
    context = torch.eye(2).double().repeat(runs, 1, 1)
    drawn = twisted_smc(wanted, context, 4, proposal=proposal, generator=seeded(1))
    assert wanted.reference.allows(drawn.codes, context).all()
    z = drawn.log_z.exp()
    error = (z.mean(0) - wanted.exact(context[0]).log_z.exp()) / (z.std(0) / math.sqrt(runs))
    assert (error.abs() < 5).all()
    assert (z.std(0) > 1e-3).all()


@pytest.mark.parametrize("kind", ["independent", "steps"])
def test_the_exact_twist_leaves_no_variance(kind):
    wanted = target(kind, RULES, 2)
    policy = wanted.reference
    potential = TablePotential(
        SPACE, policy.log_prob(ROWS), reward(ROWS, None) / 0.8, order=policy.order
    )
    exact = wanted.exact()
    drawn = twisted_smc(wanted, count=8, twist=potential, generator=seeded(1))
    assert_close(drawn.log_z, exact.log_z)
    guided = ValueGuided(policy, potential)
    assert_close(guided.log_prob(exact.codes), exact.log_probs)
    assert policy.allows(guided.sample(count=50, generator=seeded(1))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_other_samplers_obey(kind):
    wanted, context = target(kind, BY_SHOP, 2, SPEC), torch.eye(2).double()
    drawn = importance_sampling(wanted, context, 2000, generator=seeded(1))
    assert wanted.reference.allows(drawn.codes, context).all()
    assert_close(drawn.log_z, wanted.exact(context).log_z, atol=0.1, rtol=0)
    best = best_of_n(wanted, context, 20, n=4, generator=seeded(1))
    assert wanted.reference.allows(best.codes, context).all()


@pytest.mark.parametrize("rule", ["z_scored", "posterior", "exact"])
def test_guidance_obeys_inside_and_outside(rule):
    """Rules before guidance and behind it: two laws, each over the allowed rows alone."""
    plain = TablePolicy.from_rows(SPACE, normal((12,), generator=seeded(1)), ROWS.double())
    rules = Rules(SPACE, [Exactly(2, CELLS)])
    worth = plain.support.vectors.sum(-1)
    how = Guidance(rule=rule, gamma=1.0)
    inside = Guided(conditioned(plain, rules), plain.support, worth, guidance=how)
    outside = conditioned(Guided(plain, plain.support, worth, guidance=how), rules)
    for policy in (inside, outside):
        assert rules.allows(policy.sample(count=100, generator=seeded(1))).all()
        law = policy.log_prob(ROWS).exp()
        assert_close(law.sum(), torch.tensor(1.0).double())
        assert (law[~rules.allows(ROWS)] == 0).all()


def test_attributes_reach_the_policy_under_rules():
    with isolated_seed(0):
        plain = AutoregressiveGenerator(SPACE, attributes=ContextSpec(numeric=["n"]), hidden=(8,))
    policy = conditioned(plain, RULES)
    one = torch.tensor([3.0])
    towards = Guided.towards(policy, one)
    asked = policy.log_prob(ROWS, None, one)
    assert_close(towards.log_prob(ROWS), asked)
    assert (asked - policy.log_prob(ROWS))[RULES.allows(ROWS)].abs().max() > 1e-3
