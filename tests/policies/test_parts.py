"""Which parts of a policy are asked, in which shapes, and what is told where one is missing."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.gradient import Enumerate, LeaveOneOut
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Conditioned,
    ConditionedMixture,
    ConditionedSteps,
    Generator,
    MixtureGenerator,
    OwnGenerator,
    conditional_logits,
    conditioned,
)
from discrete_grad.policies.conditional import (
    chosen_log_probs,
    require_features,
    shows_features,
    writes_steps,
)
from discrete_grad.policies.independent import IndependentPolicy
from discrete_grad.policies.obeying import ObeyingPolicy, codes_of, renormalised
from discrete_grad.policies.protocol import batch_of, device_of, has
from discrete_grad.rules import Exactly, Fix, Forbid, Rules, When
from discrete_grad.sampling import isolated_seed, seeded

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
ROWS = SPACE.enumerate()
SPEC = ContextSpec({"town": 2, "shop": 3}, ["price"])
RULES = Rules(
    SPACE,
    [When({"shop": 1}, [Exactly(1, {"x0": 1, "x1": [1, 2], "x2": 1})]), Forbid({"x0": 0, "x1": 2})],
    context=CategoricalSpace({"shop": 3}),
)
CONTEXT = torch.tensor([[1, 0, 0, 1, 0, 0.5], [0, 1, 1, 0, 0, 1.0]])  # shops 1 and 0
SHOPS = torch.tensor([[1], [0]])


def policies() -> dict[str, Any]:
    """One of each kind, in contexts, with rules that depend on them."""
    with isolated_seed(0):
        made = {
            "independent": Generator(SPACE, SPEC, hidden=(4,)),
            "mixture": MixtureGenerator(
                [Generator(SPACE), Generator(SPACE, SPEC, hidden=(4,))],
                Generator(CategoricalSpace({"expert": 2}), SPEC, hidden=(4,)),
            ),
            "steps": AutoregressiveGenerator(SPACE, SPEC, order=(2, 0, 1), hidden=(4,)),
        }
    return {name: conditioned(policy, RULES) for name, policy in made.items()}


@pytest.mark.parametrize("kind", ["independent", "mixture", "steps"])
def test_swaps_are_allowed_where_the_swapped_rows_are(kind: str) -> None:
    policy = policies()[kind]
    codes = ROWS[:, None].expand(-1, 2, -1)
    found, expected = policy.swaps_allowed(codes, CONTEXT), []
    for feature, size in enumerate(SPACE.sizes):
        for code in range(size):
            swapped = codes.index_fill(-1, torch.tensor(feature), code)
            expected.append(RULES.allows(swapped, context=SHOPS))
    assert torch.equal(found, torch.stack(expected, -1))
    assert torch.equal(policy.allows(codes, CONTEXT), RULES.allows(codes, context=SHOPS))


def test_every_row_that_is_allowed_somewhere_is_listed_once() -> None:
    policy = policies()["independent"]
    pairs, rows = RULES.num_rows, ROWS[~((ROWS[:, 0] == 0) & (ROWS[:, 1] == 2))]
    assert torch.equal(policy.enumerate(max_rows=pairs), rows)
    assert torch.equal(policy.enumerate(), rows)
    message = f"the rules allow {pairs} pairs of context and row, more than max_rows={pairs - 1}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        policy.enumerate(max_rows=pairs - 1)
    free = conditioned(Generator(SPACE), Rules(SPACE, [Fix("x0", 1)]))
    assert torch.equal(free.enumerate(max_rows=6), ROWS[6:])
    with pytest.raises(ValueError, match=r"^the rules allow 6 rows, more than max_rows=5$"):
        free.enumerate(max_rows=5)


@pytest.mark.parametrize("spec", [None, ContextSpec({"shop": 1})], ids=["free", "by context"])
def test_no_more_than_a_million_rows_are_listed_unasked(spec: ContextSpec | None) -> None:
    wide = CategoricalSpace.from_sizes((2,) * 20)
    rules = Rules(wide, [], context=spec and CategoricalSpace({"shop": 1}))
    policy = conditioned(Generator(wide, spec), rules)
    with pytest.raises(ValueError, match=r"1,048,576 .*, more than max_rows=1,000,000$"):
        policy.enumerate()


def test_a_context_without_a_row_is_told() -> None:
    empty = [When({"shop": 1}, [Fix("x0", 0), Fix("x0", 1)])]
    policy = conditioned(policies()["steps"].policy, Rules(SPACE, empty, context=RULES.context))
    with pytest.raises(ValueError, match=r"^the rules allow no row in the context \[1\]$"):
        policy.sample(CONTEXT)
    assert policy.sample(CONTEXT[1:], 3).shape == (3, 1, 3)
    with pytest.raises(ValueError, match=r"^the rules allow no row in the context \[1\]$"):
        policy.conditional_logits(ROWS[0], CONTEXT)


@pytest.mark.parametrize("kind", ["independent", "mixture", "steps"])
def test_forbidden_rows_have_no_derivative(kind: str) -> None:
    policy = policies()[kind]
    log_p = policy.log_prob(ROWS[:, None].expand(-1, 2, -1), CONTEXT)
    assert (log_p == -torch.inf).any()
    total = log_p.exp().square().sum()
    slopes = torch.autograd.grad(total, list(policy.parameters()), allow_unused=True)
    assert all(slope is None or slope.isfinite().all() for slope in slopes)


def test_attributes_and_where_they_are_known_reach_the_policy_inside() -> None:
    attributes, known = torch.tensor([[1.0], [2.0]]), torch.tensor([True, False])
    with isolated_seed(0):
        inner = AutoregressiveGenerator(SPACE, attributes=ContextSpec(numeric=["a"]), hidden=(1,))
        nn.init.normal_(inner.network.null)
    policy = conditioned(inner, Rules(SPACE, [Fix("x0", 1)]))
    for given in ({}, {"attributes": attributes}, {"attributes": attributes, "known": known}):
        wanted = inner.begin(batch=(2,), **given).condition
        assert torch.equal(policy.begin(batch=(2,), **given).inner.condition, wanted)


@pytest.mark.parametrize("kind", ["independent", "steps"])
def test_the_law_of_each_feature_is_broadcast_over_contexts(kind: str) -> None:
    policy = policies()[kind]
    whole = conditional_logits(policy, ROWS[:, None].expand(-1, 2, -1), CONTEXT)
    assert whole.shape == (12, 2, 7)
    allowed = RULES.allows(ROWS[:, None], context=SHOPS)
    for number in (0, 11):
        one = conditional_logits(policy, ROWS[number].expand(2, -1), CONTEXT)
        assert_close(one, whole[number])
    if kind == "steps":
        assert_close(policy.conditional_logits(ROWS[11], CONTEXT), whole[11])
    log_p = SPACE.log_prob(whole, ROWS[:, None].expand(-1, 2, -1))
    assert torch.equal(log_p > -torch.inf, allowed)
    assert_close(log_p, policy.log_prob(ROWS[:, None], CONTEXT))
    deep = conditional_logits(policy, ROWS.view(2, 6, 1, 3).expand(-1, -1, 2, -1), CONTEXT)
    assert_close(deep, whole.view(2, 6, 2, 7))


class Whole:
    """A policy that says the law of each feature in one pass, and no step."""

    space, order = SPACE, (0, 1, 2)

    def conditional_logits(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.full((*codes.shape[:-1], 7), 3.0)


def test_a_policy_is_asked_in_one_pass_where_it_can() -> None:
    assert conditional_logits(Whole(), ROWS).tolist() == [[3.0] * 7] * 12
    assert writes_steps(Whole())
    assert shows_features(Whole())
    assert not writes_steps(Generator(SPACE))
    assert shows_features(Generator(SPACE))
    assert not shows_features(nn.Linear(2, 2))
    message = (
        "a test needs a policy with `logits(context)`, or with order, begin, advance and select; "
        "Linear has neither"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        require_features("a test", nn.Linear(2, 2))


def test_the_chosen_categories_are_broadcast_against_the_rows() -> None:
    logits = torch.randn(4, 1, 7, generator=seeded(0))
    found = chosen_log_probs(SPACE, logits, ROWS)
    assert found.shape == (4, 12, 3)
    assert_close(found.sum(-1), SPACE.log_prob(logits, ROWS))


class Ruled(IndependentPolicy):
    """With rules of its own that are no `Rules`, and no policy inside."""

    space, rules = SPACE, "none"

    def logits(self, context: Tensor | None = None) -> Tensor:
        return torch.zeros(7)


def test_a_policy_with_an_attribute_of_rules_is_none_under_rules() -> None:
    assert isinstance(conditioned(Ruled(), Rules(SPACE)), Conditioned)


def test_rules_of_both_hold_within_the_larger_limit() -> None:
    first = Rules(SPACE, [Fix("x0", 1)], max_states=7)
    second = Rules(SPACE, [Fix("x2", 0)], max_states=20)
    for own, further in ((first, second), (second, first)):
        policy = conditioned(conditioned(Generator(SPACE), own), further)
        assert policy.rules == Rules(SPACE, [Fix("x0", 1), Fix("x2", 0)])
        assert policy.rules.max_states == 20
        assert isinstance(policy.policy, Generator)
    other = Rules(SPACE, context=CategoricalSpace({"town": 2}))
    ruled = SimpleNamespace(policy=Generator(SPACE), rules=RULES)
    both = "CategoricalSpace(shop: 3) and CategoricalSpace(town: 2)"
    with pytest.raises(ValueError, match=re.escape(f"speak of different contexts: {both}") + "$"):
        conditioned(ruled, other)
    small = CategoricalSpace.from_sizes((2,))
    wanted = f"the policy's rules are of {SPACE}, the further ones of {small}"
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}$"):
        conditioned(ruled, Rules(small))
    assert conditioned(policies()["independent"], Rules(SPACE)).rules.context == RULES.context


def lacking(kind: str, part: str) -> object:
    """A policy without one of its parts."""
    parts = {name: SPACE for name in PARTS[kind]} | {"order": (0,), "context_spec": None}
    for name in ("logits", "begin", "advance", "select"):
        parts[name] = lambda *_: None
    return SimpleNamespace(**{name: one for name, one in parts.items() if name != part})


PARTS = {
    "Conditioned": ("space", "logits"),
    "ConditionedMixture": ("space", "experts", "gate"),
    "ConditionedSteps": ("space", "order", "begin", "advance", "select"),
}
CLASSES: dict[str, Any] = {
    "Conditioned": Conditioned,
    "ConditionedMixture": ConditionedMixture,
    "ConditionedSteps": ConditionedSteps,
}
CALLS = {
    "logits": "logits(context)",
    "begin": "begin(context, *, batch)",
    "advance": "advance(state, previous)",
    "select": "select(state, rows)",
}


@pytest.mark.parametrize(("kind", "part"), [(k, p) for k, parts in PARTS.items() for p in parts])
def test_each_part_that_is_missing_is_named(kind: str, part: str) -> None:
    message = f"{kind} needs a policy with `{CALLS.get(part, part)}`; SimpleNamespace has none"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        CLASSES[kind](lacking(kind, part), Rules(SPACE))


def test_what_stands_under_rules_needs_a_space_and_contexts() -> None:
    message = "a policy under rules needs a policy with `space`; SimpleNamespace has none"
    with pytest.raises(TypeError, match=message):
        ObeyingPolicy(SimpleNamespace(), Rules(SPACE))
    message = "rules with a context needs a policy with `context_spec`; SimpleNamespace has none"
    with pytest.raises(TypeError, match=message):
        ObeyingPolicy(SimpleNamespace(space=SPACE), RULES)
    differ = f"policy and rules differ: CategoricalSpace(a: 2) and {SPACE}"
    with pytest.raises(ValueError, match=f"^{re.escape(differ)}$"):
        ObeyingPolicy(Generator(CategoricalSpace({"a": 2})), RULES)


def test_a_part_is_none_if_it_is_a_layer_or_a_tensor() -> None:
    assert has(SimpleNamespace(logits=len, order=3), "logits", "order")
    assert not has(SimpleNamespace(logits=nn.Linear(1, 1)), "logits")
    assert not has(SimpleNamespace(logits=torch.zeros(2)), "logits")
    assert not has(SimpleNamespace(order=3), "order", "logits")
    assert has(nn.Linear(1, 1), "parameters")
    assert not has(SimpleNamespace(parameters=len), "parameters")


def test_where_rows_live() -> None:
    meta = torch.device("meta")
    assert device_of(Generator(SPACE).to(meta), None) == meta
    assert device_of(Generator(SPACE).to(meta), torch.zeros(2)) == torch.device("cpu")
    assert device_of(Ruled(), None) == device_of(nn.ReLU(), None) == torch.device("cpu")
    assert (batch_of(None), batch_of(torch.zeros(4, 5, 2))) == ((), (4, 5))


def test_a_block_is_read_by_its_likeliest_category() -> None:
    assert codes_of(torch.tensor([2, 0])).tolist() == [2, 0]
    assert codes_of(torch.tensor([[[0.1, 0.9], [0.8, 0.2]]])).tolist() == [[1, 0]]


def test_probabilities_are_shared_by_what_is_possible() -> None:
    inf = torch.inf
    logits = torch.tensor([[0.0, 1.0, -inf]] * 4)
    possible = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()
    e = torch.e
    wanted = torch.tensor([[1, e, 0], [1 + e, 0, 0], [0, 0, 1 + e], [(1 + e) / 3] * 3]) / (1 + e)
    assert_close(renormalised(logits, possible).exp(), wanted)
    deep = renormalised(logits.view(2, 2, 3), possible.view(2, 2, 3))
    assert_close(deep.exp(), wanted.view(2, 2, 3))


def test_a_mixture_may_be_of_several_precisions() -> None:
    """The gate in float32 and the experts in float64."""
    experts = [Generator(SPACE).double() for _ in "ab"]
    for m, expert in enumerate(experts):
        with torch.no_grad():
            expert.free_logits.copy_(torch.randn(7, generator=seeded(m)) / 10)
    mixture = MixtureGenerator(experts, Generator(CategoricalSpace({"expert": 2})))

    def worth(rows: Tensor) -> Tensor:
        return rows @ torch.arange(7.0, dtype=torch.float64)

    wanted = mixture.log_prob(ROWS).exp() @ worth(SPACE.one_hot(ROWS, dtype=torch.float64))
    found = mixture.expectation(worth, None, Enumerate(SPACE))
    assert_close(found, wanted)
    drawn = mixture.expectation(
        worth, None, Enumerate(SPACE), choice=LeaveOneOut(samples=64), generator=seeded(0)
    )
    assert_close(drawn, wanted, rtol=0.05, atol=0)
    assert mixture.weights().dtype == torch.float32
    assert mixture.log_prob(ROWS).dtype == torch.float64


def test_a_network_of_ones_own_is_called_as_a_generator() -> None:
    own, context = OwnGenerator(nn.Linear(2, 7), SPACE), torch.eye(2)
    assert torch.equal(own(context), own.network(context))
    assert torch.equal(own(context), own.logits(context))
