"""Rows written feature by feature, against all rows of a small space."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.rules import AtMost, Exactly, Fix, Forbid, Rules, When

SPACE = CategoricalSpace.from_sizes((3, 2, 4, 3))
CONTEXT = CategoricalSpace({"country": 3, "year": 2})
RULES = Rules(
    SPACE,
    [
        Exactly(2, {"x0": 0, "x1": 1, "x2": [0, 3], "x3": 2}),
        When({"country": 1}, [Forbid({"x0": 2, "x2": [0, 1]}), Fix("x1", 1)]),
        When({"year": 1}, [AtMost(1, {"x0": [0, 1], "x3": [0, 2]})]),
    ],
    context=CONTEXT,
)
CONTEXTS = torch.tensor([[[0, 0], [1, 0], [2, 1]], [[1, 1], [0, 1], [2, 0]]])  # (2, 3, 2)
every_order = pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])


@every_order
def test_swaps_are_allowed_where_the_swapped_rows_are(order: tuple[int, ...]) -> None:
    steps = RULES.steps(order)
    rows = SPACE.enumerate()[:, None, None].expand(-1, 2, 3, -1)
    found = steps.swaps(rows, steps.begin((len(rows), 2, 3), context=CONTEXTS))
    expected = []
    for feature, size in enumerate(SPACE.sizes):
        for code in range(size):
            swapped = rows.index_fill(-1, torch.tensor(feature), code)
            expected.append(RULES.allows(swapped, context=CONTEXTS))
    assert torch.equal(found, torch.stack(expected, -1))


@every_order
def test_what_lies_ahead_is_the_probability_of_the_ways_that_obey(order: tuple[int, ...]) -> None:
    steps = RULES.steps(order)
    logits = torch.randn(2, SPACE.width, dtype=torch.float64, generator=torch.Generator())
    log_p = SPACE.log_softmax(logits).requires_grad_()
    ahead = steps.ahead(log_p)
    assert len(ahead) == 4
    for part in ahead:
        assert (part[:, -1] == -torch.inf).all()  # of rows that have broken a rule
    assert ahead[-1].tolist() == [[0.0, -math.inf]] * 2  # behind the last feature
    rows = SPACE.enumerate()
    for context in CONTEXTS.flatten(0, 1):
        state = steps.begin((), context=context)
        following = steps.following(0, state)  # (K,)
        for code, after in enumerate(following.tolist()):
            mine = rows[rows[:, order[0]] == code]
            mine = mine[RULES.allows(mine, context=context)]
            rest = SPACE.log_prob(log_p.detach()[:, None], mine)
            own = SPACE.split(log_p.detach())[order[0]][:, code]
            assert_close(ahead[0][:, after].detach(), rest.logsumexp(-1) - own)
    (slope,) = torch.autograd.grad(ahead[0][:, 0].sum(), log_p)
    assert slope.isfinite().all()
    assert slope.any()


@every_order
def test_the_states_that_follow_are_those_of_each_category(order: tuple[int, ...]) -> None:
    steps, state = RULES.steps(order), RULES.steps(order).begin((2, 3), context=CONTEXTS)
    for step, feature in enumerate(order):
        following = steps.following(step, state)
        assert following.shape == (2, 3, SPACE.sizes[feature])
        for code in range(SPACE.sizes[feature]):
            after = steps.advance(step, state, torch.full((2, 3), code, dtype=torch.uint8))
            assert torch.equal(following[..., code], after)
        state = following.amin(-1)


def test_steps_and_rules_are_shared_by_copies() -> None:
    steps = RULES.steps()
    assert copy.deepcopy(steps) is steps
    assert copy.deepcopy(RULES) is RULES


def test_an_automaton_moves_to_a_device_once() -> None:
    automaton, meta = RULES._terms.automaton, torch.device("meta")
    moved, here = automaton.tensors(meta), automaton.tensors(torch.device("cpu"))
    assert automaton.tensors(meta) is moved
    for name in ("places", "class_of", "columns", "bounds"):
        assert getattr(moved, name).device == meta
        assert getattr(moved, name).shape == getattr(here, name).shape
    assert [g.shape for g in moved.groups] == [g.shape for g in here.groups]
    assert {g.device for g in moved.groups} == {meta}
    for a, b in zip(moved.layers, here.layers, strict=True):
        assert (a.feature, a.classes, a.states, a.after) == (
            b.feature,
            b.classes,
            b.states,
            b.after,
        )
        for name in ("kinds", "targets", "steps"):
            assert getattr(a, name).device == meta
            assert getattr(a, name).shape == getattr(b, name).shape
