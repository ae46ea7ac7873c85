"""Policies under rules, by enumeration of all rows in float64."""

import copy
import pickle

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.gradient import GumbelSoftmax, StraightThrough
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Conditioned,
    ConditionedMixture,
    ConditionedSteps,
    Generator,
    MixtureGenerator,
    Policy,
    conditional_logits,
    conditioned,
    log_prob_by_steps,
)
from discrete_grad.rules import Avoids, Exactly, Fix, Forbid, Observed, OneOf, Rules, When
from discrete_grad.sampling import isolated_seed, normal, seeded
from discrete_grad.testing._goodness import g_test
from discrete_grad.testing.rule_strategies import rule_lists
from discrete_grad.weighting import RewardWeighted
from tests.goodness import FALSE_ALARM

SPACE = CategoricalSpace({"a": ["x", "y"], "b": ["x", "y", "z"], "c": ["x", "y"]})
ROWS = SPACE.enumerate()
SHOPS = CategoricalSpace({"shop": ["east", "west", "north"]})
SPEC = ContextSpec({"town": 2, "shop": ["east", "west", "north"]}, ["price"])
CELLS = {"a": "y", "b": ["y", "z"], "c": "y"}
BY_SHOP = [
    When({"shop": "east"}, [Fix("a", "x"), OneOf("b", ["x", "z"])]),
    When({"shop": "west"}, [Exactly(2, {"a": "y", "b": "y", "c": "y"})]),
]


def contexts(count: int = 3) -> torch.Tensor:
    """One row a shop."""
    town = torch.tensor([[1.0, 0.0]]).expand(count, -1)
    return torch.cat(
        [town, torch.eye(3)[:count], torch.linspace(-1, 1, count)[:, None]], -1
    ).double()


def made(rules: list, *, context: CategoricalSpace | None = None) -> Rules:
    """Rules, unless they contradict each other."""
    try:
        return Rules(SPACE, rules, context=context)
    except ValueError:
        assume(False)
        raise


def generator(seed: int = 0, spec: ContextSpec | None = None, *, masked: bool = False) -> Generator:
    with isolated_seed(seed):
        model = Generator(SPACE, spec, hidden=(8,)).double()
    if spec is None:
        model.free_logits.data = normal((SPACE.width,), generator=seeded(seed)).double() / 10
        if masked:
            model.free_logits.data[seed % SPACE.width] = -torch.inf
    return model


def writer(seed: int = 0, spec: ContextSpec | None = None, order=None) -> AutoregressiveGenerator:
    with isolated_seed(seed):
        model = AutoregressiveGenerator(SPACE, spec, order=order, hidden=(8,)).double()
    model.network.head.weight.data *= 5
    return model


def conditional_law(log_prob: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Log-probabilities `(R, ...)` of rows given that they obey."""
    return log_prob.masked_fill(~allowed, -torch.inf).log_softmax(0)


def stepwise_law(policy: AutoregressiveGenerator, allowed: torch.Tensor, context=None):
    """Log-probabilities `(R,)` of one context, from the definition."""
    total = torch.zeros(len(ROWS)).double()
    for t, feature in enumerate(policy.order):
        read = ROWS[:, list(policy.order[:t])]
        log_p = policy.conditional(read, context)
        alive = torch.zeros_like(log_p, dtype=torch.bool)
        for row in range(len(ROWS)):
            for k in range(SPACE.sizes[feature]):
                like = (read == read[row]).all(-1) & (ROWS[:, feature] == k)
                alive[row, k] = (like & allowed).any()
        log_p = log_p.masked_fill(~alive, -torch.inf)
        log_p = log_p - log_p.logsumexp(-1, keepdim=True)
        total = total + log_p.gather(-1, ROWS[:, feature, None]).squeeze(-1)
    return total.masked_fill(~allowed, -torch.inf)


@given(rules=rule_lists(SPACE), seed=st.integers(0, 99), masked=st.booleans())
def test_independent_features_are_conditioned_exactly(rules, seed, masked):
    rules, policy = made(rules), generator(seed, masked=masked)
    allowed = rules.allows(ROWS)
    plain = policy.log_prob(ROWS).detach()
    assume((allowed & (plain > -torch.inf)).any())
    given_rules = Conditioned(policy, rules)
    wanted = conditional_law(plain, allowed)
    assert_close(given_rules.log_prob(ROWS), wanted, atol=1e-12, rtol=1e-12)
    assert_close(log_prob_by_steps(given_rules, ROWS), wanted, atol=1e-12, rtol=1e-12)
    steps = conditional_logits(given_rules, ROWS)
    assert_close(SPACE.log_prob(steps, ROWS), wanted, atol=1e-12, rtol=1e-12)
    assert torch.equal(given_rules.enumerate(), ROWS[allowed])
    drawn = given_rules.sample(count=20, generator=seeded(seed))
    assert given_rules.allows(drawn).all()
    assert policy.log_prob(drawn).isfinite().all()


@settings(max_examples=10)
@given(seed=st.integers(0, 99))
def test_both_ways_to_a_log_probability_have_one_gradient(seed):
    policy = Conditioned(generator(seed), made([Forbid({"a": "x", "b": "y"}), Exactly(2, CELLS)]))
    rows = policy.enumerate()
    weights = normal((len(rows),), generator=seeded(seed)).double()
    both = [policy.log_prob(rows), log_prob_by_steps(policy, rows)]
    parameter = policy.policy.free_logits
    a, b = (torch.autograd.grad((weights * p).sum(), parameter)[0] for p in both)
    assert_close(a, b)
    assert a.abs().max() > 1e-3


@given(rules=rule_lists(SPACE), seed=st.integers(0, 99), order=st.permutations(range(3)))
def test_a_step_by_step_policy_never_meets_a_dead_end(rules, seed, order):
    rules, policy = made(rules), writer(seed, order=order)
    try:
        obeying = conditioned(policy, rules)
    except ValueError as error:
        assume("in opposite directions" not in str(error))
        raise
    allowed = rules.allows(ROWS)
    with torch.no_grad():
        wanted = stepwise_law(policy, allowed)
        assert_close(wanted.exp().sum(), torch.tensor(1.0).double())
        assert_close(obeying.log_prob(ROWS), wanted)
        assert_close(log_prob_by_steps(obeying, ROWS), wanted)
    drawn = obeying.sample(count=20, generator=seeded(seed))
    assert obeying.allows(drawn).all()
    assert obeying.log_prob(drawn).isfinite().all()


@settings(max_examples=20)
@given(rules=rule_lists(SPACE, max_rules=2), order=st.permutations(range(3)))
def test_swaps_are_allowed_or_not_as_their_rows_are(rules, order):
    """From rows that break a rule, too."""
    rules = made(rules)
    try:
        steps = rules.steps(order)
    except ValueError:
        steps = rules.steps()
    found = steps.swaps(ROWS, steps.begin((len(ROWS),)))
    for i, size in enumerate(SPACE.sizes):
        for k in range(size):
            changed = ROWS.clone()
            changed[:, i] = k
            assert torch.equal(found[:, SPACE.offsets[i] + k], rules.allows(changed))


def test_masking_steps_is_not_conditioning():
    """And conditioning is what the docstring says how to do."""
    policy = writer(3)
    rules = Rules(SPACE, [Forbid({"a": "y", "b": ["x", "y"]})])
    stepwise = conditioned(policy, rules).log_prob(ROWS).exp()
    exact = conditional_law(policy.log_prob(ROWS), rules.allows(ROWS)).exp()
    assert (stepwise - exact).abs().max() > 0.05

    def barred(rows, context):
        return torch.zeros(rows.shape[:-1]).masked_fill(~rules.allows(rows), -torch.inf)

    assert_close(RewardWeighted(policy, barred, 1.0).exact().probs, exact.detach())
    first = policy.log_prob(ROWS).exp()[ROWS[:, 0] == 1].sum()
    assert_close(stepwise[ROWS[:, 0] == 1].sum(), first)  # kept whole


@settings(max_examples=20)
@given(rules=rule_lists(SPACE, max_rules=2), seed=st.integers(0, 99))
def test_a_mixture_is_conditioned_exactly(rules, seed):
    rules = made(rules)
    gate = Generator(CategoricalSpace({"expert": 2}), SPEC).double()
    mixture = MixtureGenerator([generator(seed), generator(seed + 1, SPEC)], gate)
    policy = conditioned(mixture, rules)
    assert isinstance(policy, ConditionedMixture)
    rows, context = ROWS.unsqueeze(1).expand(-1, 2, -1), contexts(2)
    wanted = conditional_law(mixture.log_prob(rows, context), rules.allows(rows))
    assert_close(policy.log_prob(rows, context), wanted)
    assert policy.allows(policy.sample(context, 20, generator=seeded(seed)), context).all()
    assert_close(policy.weights(context).sum(-1), torch.ones(2).double())
    flat = SPACE.one_hot(ROWS).double()
    marginals = torch.einsum("rb,rd->bd", wanted.exp(), flat)
    assert_close(policy.marginals(context), marginals)


@pytest.mark.parametrize("kind", ["independent", "steps", "mixture"])
def test_draws_follow_the_law_and_the_rules_of_their_context(kind):
    rules = Rules(SPACE, BY_SHOP, context=SHOPS)
    gate = Generator(CategoricalSpace({"expert": 2}), SPEC).double()
    plain = {
        "independent": generator(1, SPEC),
        "steps": writer(1, SPEC, order=["b", "a", "c"]),
        "mixture": MixtureGenerator([generator(2, SPEC), generator(3, SPEC)], gate),
    }[kind]
    policy, context = conditioned(plain, rules), contexts()
    assert isinstance(policy, Policy)
    rows = ROWS.unsqueeze(1).expand(-1, 3, -1)
    allowed = policy.allows(rows, context)
    assert allowed.sum(0).tolist() == [4, 4, 12]
    law = policy.log_prob(rows, context)
    assert torch.equal(law > -torch.inf, allowed)
    if kind != "steps":
        wanted = conditional_law(plain.log_prob(rows, context), allowed)
    else:
        every = [stepwise_law(plain, allowed[:, i], context[i]) for i in range(3)]
        wanted = torch.stack(every, 1)
    assert_close(law, wanted)
    drawn = SPACE.row_number(policy.sample(context, 20_000, generator=seeded(1)))
    for i in range(3):
        assert g_test(drawn[:, i].bincount(minlength=12), law[:, i].exp()) > FALSE_ALARM
    assert torch.equal(policy.enumerate(), ROWS)  # each in some shop


def test_a_conditioned_policy_is_selected_and_relaxed():
    """Rows written softly and hard, and states of other rows."""
    rules = Rules(SPACE, [Exactly(2, CELLS)])
    for policy in (Conditioned(generator(1), rules), ConditionedSteps(writer(1), rules)):
        rows = policy.relaxed(None, 50, StraightThrough(), generator=seeded(1))
        assert policy.allows(SPACE.argmax(rows)).all()
        rows[:, 0].sum().backward()
        assert policy.policy.get_parameter(next(iter(policy.state_dict()))[7:]).grad is not None
        soft = policy.relaxed(None, 50, GumbelSoftmax(hard=False), generator=seeded(1))
        assert policy.allows(SPACE.argmax(soft)).all()
        state = policy.begin(batch=(4,))
        _, state = policy.advance(state, None)
        second, state = policy.advance(state, torch.tensor([0, 1, 1, 0]))
        codes = torch.tensor([0, 1, 0, 1]) % second.shape[-1]
        after, _ = policy.advance(state, codes)
        place = torch.tensor([[3, 0], [0, 1]])
        moved, _ = policy.advance(policy.select(state, place), codes[place])
        assert_close(moved, after[place])
        assert not torch.allclose(after[0], after[1])


def test_attributes_of_rows_that_obey():
    """The law given attributes is lawful, and another one for others."""
    with isolated_seed(0):
        wanted = ContextSpec(numeric=["speed"])
        model = AutoregressiveGenerator(SPACE, attributes=wanted, hidden=(8,)).double()
    model.network.head.weight.data *= 50
    policy = ConditionedSteps(model, Rules(SPACE, [Exactly(2, CELLS)]))
    speeds = torch.tensor([[-2.0], [2.0]]).double()
    laws = policy.log_prob(ROWS.unsqueeze(1), attributes=speeds).exp()
    assert_close(laws.sum(0), torch.ones(2).double())
    assert not laws[~policy.allows(ROWS)].any()
    assert (laws[:, 0] - laws[:, 1]).abs().max() > 1e-3


def test_rules_win_over_a_policy_that_forbids_what_is_left():
    """Nothing is drawn that breaks a rule, and the log-probability stays exact."""
    policy = writer(0)
    policy.network.head.bias.data[1] = -torch.inf  # a is always x
    obeying = ConditionedSteps(policy, Rules(SPACE, [Fix("a", "y")]))
    rows = obeying.sample(count=20)
    assert (rows[:, 0] == 1).all()
    assert_close(obeying.log_prob(ROWS).exp().sum(), torch.tensor(1.0).double())


def test_further_rules_join_those_of_a_policy():
    one, other = Rules(SPACE, [Fix("a", "y")]), Rules(SPACE, [Fix("b", "z")])
    policy = conditioned(conditioned(generator(0), one), other)
    assert isinstance(policy.policy, Generator)
    assert policy.enumerate().tolist() == [[1, 2, 0], [1, 2, 1]]
    with pytest.raises(ValueError, match="these rules together allow no row"):
        conditioned(policy, Rules(SPACE, [Fix("a", "x")]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_policies_travel(copied):
    rules = Rules(SPACE, [Exactly(2, CELLS)])
    for plain in (generator(1), writer(1)):
        policy = conditioned(plain, rules)
        other = copied(policy)
        assert_close(other.log_prob(ROWS), policy.log_prob(ROWS))
        assert other.rules == rules
        next(other.parameters()).data += 1
        assert not torch.equal(next(other.parameters()), next(policy.parameters()))
        other.load_state_dict(policy.state_dict())


def test_faults_are_told():
    small = Rules(CategoricalSpace.from_sizes((2,)), [])
    with pytest.raises(ValueError, match="policy and rules differ"):
        conditioned(generator(), small)
    with pytest.raises(
        TypeError,
        match=r"and gate, or with order, begin, advance, select; Linear has none of them$",
    ):
        conditioned(torch.nn.Linear(2, 2), Rules(SPACE))
    by_shop = Rules(SPACE, BY_SHOP, context=SHOPS)
    with pytest.raises(ValueError, match=r"column 'shop', the policy reads \(\)$"):
        conditioned(generator(0, ContextSpec(numeric=["price"])), by_shop)
    with pytest.raises(ValueError, match="the rules read the context column 'shop'"):
        conditioned(generator(), by_shop)
    had = r"^context column 'shop' has \('west', 'east', 'north'\); the rules know \('east', 'west'"
    with pytest.raises(ValueError, match=had):
        conditioned(generator(0, ContextSpec({"shop": ["west", "east", "north"]})), by_shop)
    policy = conditioned(generator(), Rules(SPACE, [Fix("a", "x")]))
    for more in ({"attributes": torch.zeros(1)}, {"known": torch.ones(1, dtype=torch.bool)}):
        with pytest.raises(ValueError, match=r"^Conditioned takes no attributes$"):
            policy.begin(**more, batch=(2,))
    with pytest.raises(ValueError, match=r"^Conditioned takes no attributes$"):
        policy.log_prob(torch.zeros(3, dtype=torch.long), None, torch.zeros(1))
    with pytest.raises(ValueError, match="more than max_rows=5"):
        policy.enumerate(max_rows=5)
    with pytest.raises(ValueError, match="pairs of context and row, more than max_rows=5"):
        conditioned(generator(0, SPEC), by_shop).enumerate(max_rows=5)
    motif = Rules(SPACE, [Avoids([["x"], ["x"]])])
    with pytest.raises(ValueError, match=r"in opposite directions by Avoids"):
        conditioned(writer(order=["c", "a", "b"]), motif)
    empty = [When({"shop": "west"}, [Fix("a", "x")]), When({"shop": "west"}, [Fix("a", "y")])]
    nowhere = Rules(SPACE, empty, context=SHOPS)
    for plain in (generator(0, SPEC), writer(0, SPEC)):
        with pytest.raises(ValueError, match="no row"):
            conditioned(plain, nowhere).sample(contexts())


def test_an_order_that_needs_many_states_is_refused():
    space = CategoricalSpace({f"{side}{i}": 4 for side in "pq" for i in range(5)})
    equal = [
        Observed([f"p{i}", f"q{i}"], torch.tensor([[k, k] for k in range(4)])) for i in range(5)
    ]
    rules = Rules(space, equal, max_states=100)
    Conditioned(Generator(space), rules)
    with pytest.raises(ValueError, match="1,024 states between two features, more than"):
        conditioned(AutoregressiveGenerator(space, hidden=(4,)), rules)
