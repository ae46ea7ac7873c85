"""Rules as a user meets them: names, counts, words, errors, contexts."""

from __future__ import annotations

import copy
import math
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from discrete_grad import CategoricalSpace
from discrete_grad.rules import (
    AtMost,
    Avoids,
    Budget,
    Contains,
    Exactly,
    Fix,
    Forbid,
    Imply,
    Length,
    Observed,
    OneOf,
    Rules,
    When,
    Within,
)
from tests.rules.kinds import DNA, EVERY_KIND, SPACE
from tests.rules.meaning import obeys, row_of


def test_rules_are_equal_picklable_and_hashable() -> None:
    rules = Rules(SPACE, EVERY_KIND, max_states=20_000)
    again = pickle.loads(pickle.dumps(rules))
    assert again == rules
    assert again.max_states == 20_000
    assert hash(again) == hash(rules)
    assert again.states == rules.states
    assert copy.deepcopy(rules) == rules
    assert rules != Rules(SPACE, EVERY_KIND[:-1])
    context = CategoricalSpace({"country": ["DE", "FR"]})
    assert rules != Rules(SPACE, EVERY_KIND, context=context)
    assert repr(Rules(context)) == "Rules(CategoricalSpace(country: 2), [])"
    assert repr(Rules(CategoricalSpace({"a": 2}), [Fix("a", 0)], context=context)) == (
        "Rules(CategoricalSpace(a: 2), [Fix('a', 0)], context=CategoricalSpace(country: 2))"
    )


def test_a_change_costs_its_price_and_another_one_1() -> None:
    space = CategoricalSpace.from_sizes((3, 2))
    for prices, left in (({"x0": 0.5}, 6), ({"x1": 2}, 3), ({}, 4)):
        assert Rules(space, [Within([0, 0], 1.5, prices=prices)]).num_rows == left


# --- counts ---------------------------------------------------------------------------------------


def test_counts_of_large_spaces_are_those_of_the_formulas() -> None:
    wide = CategoricalSpace.from_sizes((32,) * 100)
    within = Rules(wide, [Within([0] * 100, edits=5)])
    assert within.num_rows == sum(math.comb(100, d) * 31**d for d in range(6))
    subset = Rules(CategoricalSpace.from_sizes((2,) * 200), [Exactly(77, dict.fromkeys(N200, 1))])
    assert subset.num_rows == math.comb(200, 77)
    assert Rules(wide, []).num_rows == 32**100
    long = CategoricalSpace({f"p{i}": ["A", "C", "-"] for i in range(300)})
    assert Rules(long, [Length("-")]).num_rows == 2**301 - 1
    # words without two As in a row: Fibonacci numbers
    words = CategoricalSpace({f"p{i}": ["A", "B"] for i in range(90)})
    fibonacci = [1, 2]
    while len(fibonacci) <= 90:
        fibonacci.append(sum(fibonacci[-2:]))
    assert Rules(words, [Avoids("AA")]).num_rows == fibonacci[90]
    assert Rules(words, [Contains("AA")]).num_rows == 2**90 - fibonacci[90]


N200 = [f"x{i}" for i in range(200)]


def test_states_are_as_few_as_can_be() -> None:
    wide = CategoricalSpace.from_sizes((4,) * 50)
    assert max(Rules(wide, [Within([0] * 50, edits=5)]).states) == 6
    assert max(Rules(wide, []).states) == 1
    assert max(Rules(wide, [Avoids(["0", "1", "0", "2"])]).states) == 4
    # no state stands that no row comes to
    small = CategoricalSpace.from_sizes((3, 3, 2))
    implied = Imply({"x0": [0, 1, 2], "x1": [0, 1]}, {"x0": [0, 1], "x1": 1})
    assert Rules(small, [implied]).states == (1, 2, 1, 1)
    # what other rules leave of it is no rule any more
    assert max(Rules(wide, [Fix("x3", 0), Forbid({"x3": 1, "x40": 2})]).states) == 1


def test_features_of_a_rule_are_read_together() -> None:
    space = CategoricalSpace.from_sizes((5,) * 20)
    pairs = [Forbid({f"x{i}": 0, f"x{i + 10}": 0}) for i in range(10)]
    rules = Rules(space, pairs)
    assert max(rules.states) == 2
    assert rules.num_rows == 24**10
    assert rules.order[:4] == ("x0", "x10", "x1", "x11")
    # a motif is read in the order of its sequence
    assert Rules(space, [*pairs, Avoids(["0", "1"])]).order == space.names


def test_the_order_of_reading_is_not_that_of_the_rows() -> None:
    space = CategoricalSpace.from_sizes((2,) * 6)
    rules = Rules(space, [Forbid({f"x{i}": 0, f"x{i + 3}": 0}) for i in range(3)])
    assert rules.order == ("x0", "x3", "x1", "x4", "x2", "x5")
    rows = space.enumerate()
    allowed = ((rows[:, :3] + rows[:, 3:]) > 0).all(1)
    assert torch.equal(rules.enumerate(), rows[allowed])
    assert torch.equal(rules.allows(rows), allowed)
    logits = torch.arange(12.0).reshape(6, 2).sin().flatten()
    best = space.log_prob(logits, rows[allowed])
    assert torch.equal(rules.condition(logits).mode(), rows[allowed][best.argmax()])


# --- errors ---------------------------------------------------------------------------------------


def test_contradictions_name_a_smallest_set_of_rules() -> None:
    needless = [OneOf("heat", [0, 1]), Forbid({"solvent": "DMF", "ligand": "none"})]
    clash = [Fix("base", "NaH"), Fix("solvent", "water"), EVERY_KIND[2]]
    with pytest.raises(ValueError, match="no row") as error:
        Rules(SPACE, [needless[0], *clash, needless[1]])
    named = ", ".join(map(repr, clash))
    assert str(error.value) == f"these rules together allow no row: {named}"
    impossible = Exactly(3, {"base": "KOH", "heat": 0})
    with pytest.raises(ValueError, match="no row") as error:
        Rules(SPACE, [*needless, impossible])
    assert str(error.value) == f"this rule allows no row: {impossible!r}"


def test_an_automaton_too_large_names_the_rules() -> None:
    space = CategoricalSpace.from_sizes((4,) * 30)
    prices = {f"x{i}": {1: price} for i, price in enumerate(PRICES)}
    large = Budget(prices, limit=8)
    with pytest.raises(ValueError, match="max_states") as error:
        Rules(space, [Within([0] * 30, 4), large], max_states=200)
    assert str(error.value) == (
        "the automaton needs 2,035 states between two features, more than max_states=200, "
        f"for {large!r}; raise max_states, or state fewer or coarser rules"
    )
    both = [Fix("x0", 0), Fix("x0", 1)]
    with pytest.raises(ValueError, match="together allow no row") as error:
        Rules(space, [*both, large], max_states=200)
    assert str(error.value).endswith(f"no row: {both[0]!r}, {both[1]!r}")
    coarse = Rules(space, [Budget(prices, limit=8, resolution=0.05)], max_states=200)
    assert max(coarse.states) <= 162
    # what it allows never costs more
    logits = torch.zeros(30, 4).index_fill(1, torch.tensor(1), 2).flatten()
    spent = [
        sum(price for price, code in zip(PRICES, row, strict=True) if code == 1)
        for row in coarse.condition(logits).sample(200).tolist()
    ]
    assert 7 < max(spent) <= 8


@pytest.mark.parametrize(("price", "limit"), [(0.2, 0.19), (0.11, 0.1)])
def test_what_a_resolution_rounds_allows_no_row_beyond_the_limit(
    price: float, limit: float
) -> None:
    for resolution in (None, 0.1):
        rule = Budget({"x0": {1: price}}, limit=limit, resolution=resolution)
        assert Rules(CategoricalSpace.from_sizes((2,)), [rule]).enumerate().tolist() == [[0]]


PRICES = [Fraction(i * i * 7919 % 1009, 1000) for i in range(1, 31)]


def test_the_limit_holds_for_the_automaton_itself() -> None:
    space = CategoricalSpace.from_sizes((2,) * 20)
    rule = Within([0] * 20, edits=9)
    assert max(Rules(space, [rule], max_states=10).states) == 10
    with pytest.raises(ValueError, match=r"needs 10 states .* max_states=9, for Within"):
        Rules(space, [rule], max_states=9)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [float, str, np.float32, np.float64])
def test_decimals_are_taken_at_their_word(kind: type) -> None:
    number = Decimal if kind is str else kind
    prices = {f"x{i}": {1: number(str(p))} for i, p in enumerate((0.1, 0.2))}
    space = CategoricalSpace.from_sizes((2, 2))
    assert Rules(space, [Budget(prices, limit=number("0.3"))]).num_rows == 4  # type: ignore
    assert Rules(space, [Budget(prices, limit=Fraction(299, 1000))]).num_rows == 3  # type: ignore


def test_a_price_may_be_negative() -> None:
    space = CategoricalSpace.from_sizes((2, 2))
    rules = Rules(space, [Budget({"x0": {1: -1}, "x1": {1: 1}}, limit=-1)])
    assert rules.enumerate().tolist() == [[1, 0]]


def test_observed_takes_codes_names_and_repeats() -> None:
    codes = torch.tensor([[2, 1], [0, 0], [2, 1]])
    named = [["none", "THF"], ["NaH", "water"]]
    a, b = (Rules(SPACE, [Observed(["base", "solvent"], rows)]) for rows in (codes, named))
    assert a.num_rows == b.num_rows == 2 * 3 * 4
    assert torch.equal(a.enumerate(), b.enumerate())
    small = Observed(["base", "solvent"], codes.to(torch.uint8))
    assert small == Observed(["base", "solvent"], codes)


# --- sequences ------------------------------------------------------------------------------------


def test_sequences_have_lengths_and_motifs() -> None:
    rules = Rules(DNA, [Length("-", least=4, most=8), Contains("ACGT"), Avoids(["G", ["G", "C"]])])
    sample = rules.condition(torch.zeros(DNA.width)).sample(200)
    for row in sample.tolist():
        text = "".join("ACGT-"[code] for code in row)
        body = text.rstrip("-")
        assert 4 <= len(body) <= 8
        assert "-" not in body
        assert "ACGT" in body
        assert "GG" not in body
        assert "GC" not in body


@pytest.mark.parametrize("motif", ["z", "yz", [["x", "z"], "y"], "zx"])
def test_motifs_of_features_that_differ_in_their_categories(
    motif: str | list[str | list[str]],
) -> None:
    space = CategoricalSpace({"a": ["x", "y"], "b": ["z", "y"], "c": ["z", "x"]})
    rows = space.enumerate()
    for rule in (Contains(motif), Avoids(motif)):
        found = [obeys(rule, space, row_of(space, codes)) for codes in rows.tolist()]
        assert Rules(space, [rule]).allows(rows).tolist() == found


def test_a_sequence_may_run_backward_but_not_both_ways() -> None:
    back = DNA.names[::-1]
    rules = Rules(DNA, [Avoids("ACG", features=back), Length("-", features=back)])
    assert rules.order == back
    codes = torch.full((12,), 4)
    codes[9:] = torch.tensor([2, 1, 0])
    assert not rules.allows(codes)
    codes[9:] = torch.tensor([0, 1, 2])
    assert rules.allows(codes)
    with pytest.raises(ValueError, match="directions") as error:
        Rules(DNA, [Avoids("ACG", features=back), Contains("AC"), Fix("p0", "A")])
    assert str(error.value) == (
        f"features are read in opposite directions by Avoids(['A', 'C', 'G'], "
        f"features={list(back)}), Contains(['A', 'C'])"
    )


# --- contexts -------------------------------------------------------------------------------------


CONTEXT = CategoricalSpace({"country": ["DE", "FR", "IT"], "year": 2})
BY_COUNTRY = [
    When({"country": "DE"}, [Fix("base", "KOH"), AtMost(1, {"heat": [2, 3], "solvent": "THF"})]),
    When({"country": "FR", "year": 1}, [Forbid({"base": "NaH", "solvent": "water"})]),
    Observed(["country", "ligand"], [["DE", "none"], ["FR", "XPhos"], ["FR", "none"], ["IT", 1]]),
]


def by_hand(country: int, row: list[int]) -> bool:
    base, solvent, ligand, heat = row
    if country == 0:
        return base == 1 and not (heat >= 2 and solvent == 1) and ligand == 2
    return ligand in ((0, 2) if country == 1 else (1,))


def test_rules_may_depend_on_the_context() -> None:
    rules = Rules(SPACE, BY_COUNTRY, context=CONTEXT)
    rows = SPACE.enumerate()
    for country in range(3):
        allowed = rules.allows(rows, context=torch.tensor([country, 0]))
        assert allowed.tolist() == [by_hand(country, row) for row in rows.tolist()]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, SPACE.width, dtype=torch.float64, generator=generator)
    context = torch.tensor([[0, 0], [1, 0], [2, 1]])
    law = rules.condition(logits, context=context)
    for element in range(3):
        mask = torch.tensor([by_hand(element, row) for row in rows.tolist()])
        joint = SPACE.log_prob(logits[element], rows[mask])
        p = joint.softmax(-1)
        one_hot = SPACE.one_hot(rows[mask], dtype=p.dtype)
        torch.testing.assert_close(law.marginals()[element], p @ one_hot)
        torch.testing.assert_close(law.log_z()[element], joint.logsumexp(-1))
        assert torch.equal(law.mode()[element], rows[mask][p.argmax()])
    codes = law.sample(50, generator=generator)
    assert codes.shape == (50, 3, 4)
    assert rules.allows(codes, context=context).all()
    torch.testing.assert_close(law.log_prob(law.best(3)[0]), law.best(3)[1])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_steps_allow_what_leaves_a_row(order: tuple[int, ...]) -> None:
    rules = Rules(SPACE, BY_COUNTRY, context=CONTEXT)
    steps = rules.steps(order)
    for country in range(3):
        left = [row for row in SPACE.enumerate().tolist() if by_hand(country, row)]
        beginnings: dict[tuple[int, ...], set[int]] = {}
        for row in left:
            read = [row[place] for place in order]
            for step in range(4):
                beginnings.setdefault(tuple(read[:step]), set()).add(read[step])
        for read, after in beginnings.items():
            state = steps.begin((), context=torch.tensor([country, 0]))
            for step, code in enumerate(read):
                state = steps.advance(step, state, torch.tensor(code))
            allowed = steps.allowed(len(read), state)
            assert set(allowed.nonzero().flatten().tolist()) == after
    with pytest.raises(ValueError, match="expected 2 context columns, got 0"):
        steps.begin(())


def test_steps_follow_an_order_of_all_features() -> None:
    with pytest.raises(ValueError, match=r"each of 0 to 3, got \(0, 1\)"):
        Rules(SPACE).steps([0, 1])
    with pytest.raises(ValueError, match="in opposite directions by Length"):
        Rules(DNA, [Length("-")]).steps(range(11, -1, -1))
    state = Rules(DNA, [Length("-", least=12)]).steps().begin((2, 3))
    assert Rules(DNA, [Length("-", least=12)]).steps().allowed(0, state).shape == (2, 3, 5)


def test_masks_are_checked_without_a_law() -> None:
    rules, logits = Rules(SPACE, [Fix("base", "KOH")]), torch.zeros(2, SPACE.width)
    rules.check_masks(logits)
    logits[1, 1] = -math.inf
    with pytest.raises(
        ValueError, match=r"element 1 of .* no row that obeys Fix\('base', 'KOH'\)$"
    ):
        rules.check_masks(logits)


def test_a_context_is_checked() -> None:
    rules = Rules(SPACE, BY_COUNTRY, context=CONTEXT)
    logits, context = torch.zeros(3, SPACE.width), torch.zeros(3, 2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"context is CategoricalSpace.*, got none$"):
        rules.condition(logits)
    with pytest.raises(ValueError, match=r"context is CategoricalSpace.*, got none$"):
        rules.allows(SPACE.enumerate())
    with pytest.raises(ValueError, match=r"^the rules' context is None, got codes \(3, 2\)$"):
        Rules(SPACE).condition(logits, context=context)
    with pytest.raises(ValueError, match=r"batch, got codes \(2, 2\) and torch.float32 \(3, 13\)$"):
        rules.condition(logits, context=context[:2])
    with pytest.raises(ValueError, match="feature 'country' has code 3"):
        rules.condition(logits, context=context + 3)
    with pytest.raises(ValueError, match="feature 'country' has code 3"):
        rules.allows(torch.zeros(4, dtype=torch.long), context=context + 3)
    with pytest.raises(ValueError, match="not one list"):
        rules.enumerate()
    strict = Rules(SPACE, [Observed(["country", "base"], [["DE", "KOH"]])], context=CONTEXT)
    with pytest.raises(ValueError, match="in its context") as error:
        strict.condition(logits, context=torch.tensor([[0, 0], [1, 0], [0, 1]]))
    assert str(error.value) == (
        "the masks (-inf) of the logits of element 1 of the batch in its context leave no row "
        "that obeys Observed(['country', 'base'], 1 combinations)"
    )
    broken = strict.explain(torch.zeros(4, dtype=torch.long), context=torch.tensor([0, 0]))
    assert broken == ("(country, base) is one of 1 combinations; the row has country=DE, base=NaH",)
