"""What rules say: their texts, explanations and errors."""

from __future__ import annotations

import copy
import math
import re
from fractions import Fraction

import pytest
import torch

from discrete_grad import CategoricalSpace
from discrete_grad.rules import (
    AtLeast,
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
    Rule,
    Rules,
    When,
    Within,
)
from discrete_grad.rules._wording import listed, share, spelt
from tests.rules.kinds import EVERY_KIND, SPACE

# what is written, and what is said
SPOKEN: dict[Rule, tuple[str, str]] = {
    Imply({"base": "KOH"}, {"ligand": ["XPhos", "none"], "heat": 1}): (
        "Imply({'base': 'KOH'}, {'ligand': ['XPhos', 'none'], 'heat': 1})",
        "where base=KOH: ligand=XPhos|none & heat=1",
    ),
    When({"c": ["x", 1]}, [Forbid({"b": 0, "d": 1}), Fix("a", "b")]): (
        "When({'c': ['x', 1]}, [Fix('a', 'b'), Forbid({'b': 0, 'd': 1})])",
        "where c=x|1: a is b, and never b=0 & d=1",
    ),
    Exactly(1, {"a": "x", "b": [0, 1]}): (
        "Exactly(1, {'a': 'x', 'b': [0, 1]})",
        "exactly 1 of a=x, b=0|1",
    ),
    Budget({"base": {"KOH": 1, "NaH": Fraction(1, 4)}, "b": {0: 2}}, 2, resolution=0.5): (
        "Budget({'base': {'KOH': 1, 'NaH': 0.25}, 'b': {0: 2}}, 2, resolution=0.5)",
        "the prices of base, b, rounded up to 0.5, sum to at most 2",
    ),
    Within({"a": "x", "b": "y"}, 1): (
        "Within({'a': 'x', 'b': 'y'}, 1)",
        "at most 1 change of a=x, b=y",
    ),
    Within({"a": "x", "b": 0}, 1, prices={"b": 0.5, "a": 2}): (
        "Within({'a': 'x', 'b': 0}, 1, prices={'b': 0.5, 'a': 2})",
        "at most 1 spent on changes of a=x, b=0",
    ),
    Within(range(8), 2): (
        "Within([0, 1, 2, 3, 4, 5, 6, 7], 2)",
        "at most 2 changes of 0, 1, 2, 3, 4, 5, 6, 7",
    ),
    Within([0] * 9, 0): (
        "Within([0, 0, 0, 0, 0, 0, 0, 0, 0], 0)",
        "at most 0 changes of 0, 0, 0, 0, 0, 0, 0, 0, ...",
    ),
    Observed(["a", "b"], torch.arange(4000).reshape(-1, 2)): (
        "Observed(['a', 'b'], 2,000 combinations)",
        "(a, b) is one of 2,000 combinations",
    ),
    Length("-", least=2): ("Length('-', least=2)", "a length from 2 on, then - alone"),
    Length(4, most=5, features=["p1", "p0"]): (
        "Length(4, most=5, features=['p1', 'p0'])",
        "a length from 0 to 5, then 4 alone",
    ),
    Contains(["A", ["C", "G"]]): ("Contains(['A', ['C', 'G']])", "A C|G occurs"),
    Contains("AC", features=("p1", "p0")): (
        "Contains(['A', 'C'], features=['p1', 'p0'])",
        "A C occurs",
    ),
    Avoids("AC", features=["p2", "p0"]): (
        "Avoids(['A', 'C'], features=['p2', 'p0'])",
        "A C does not occur",
    ),
}


def test_a_rule_reads_as_it_was_written() -> None:
    for rule in [*EVERY_KIND, *SPOKEN]:
        if not isinstance(rule, Observed):
            assert eval(repr(rule)) == rule
        assert hash(rule) == hash(copy.copy(rule))


@pytest.mark.parametrize(("rule", "written", "words"), [(r, *texts) for r, texts in SPOKEN.items()])
def test_a_rule_is_written_and_spoken(rule: Rule, written: str, words: str) -> None:
    assert repr(rule) == written
    assert rule.words() == words


# --- words ----------------------------------------------------------------------------------------


def test_a_broken_rule_is_explained() -> None:
    rules = Rules(SPACE, EVERY_KIND)
    assert rules.explain(torch.tensor([0, 0, 1, 3])) == (
        "base is KOH; the row has base=NaH",
        "never base=NaH & solvent=water|THF; the row has base=NaH, solvent=water",
        "at least 1 of base=KOH, solvent=THF; the row has none",
        "exactly 1 of ligand=XPhos, solvent=THF; the row has none",
        "the prices of base, heat sum to at most 0.3; "
        "the row has 3.7: base=NaH at 3.5, heat=3 at 0.2",
        "at most 3 changes of KOH, THF, none, 2; "
        "the row has 4 changes: base=NaH, solvent=water, ligand=SPhos, heat=3",
        "(solvent, ligand) is one of 3 combinations; the row has solvent=water, ligand=SPhos",
    )
    assert rules.explain(torch.tensor([1, 1, 0, 0])) == (
        "at most 2 of base=KOH, solvent=THF, heat=0|1; "
        "the row has 3: base=KOH, solvent=THF, heat=0",
        "exactly 1 of ligand=XPhos, solvent=THF; the row has 2: ligand=XPhos, solvent=THF",
        "(solvent, ligand) is one of 3 combinations; the row has solvent=THF, ligand=XPhos",
    )
    assert rules.explain(rules.enumerate()[0]) == ()
    with pytest.raises(ValueError, match=r"^codes must be one row \(4,\), got \(2, 4\)$"):
        rules.explain(torch.zeros(2, 4, dtype=torch.long))


def test_what_a_row_costs_is_explained_as_it_is_counted() -> None:
    prices = {"base": {"KOH": 0.13}, "solvent": {"water": 0.2}}
    coarse = Rules(SPACE, [Budget(prices, limit=0.33, resolution=0.1)])
    (text,) = coarse.explain(torch.tensor([1, 0, 0, 0]))
    assert text == (
        "the prices of base, solvent, rounded up to 0.1, sum to at most 0.33; "
        "the row has 0.33: base=KOH at 0.13, solvent=water at 0.2"
    )
    near = Rules(SPACE, [Within({"base": "KOH", "heat": 0}, 2, prices={"base": 2})])
    (text,) = near.explain(torch.tensor([0, 0, 0, 1]))
    assert text == (
        "at most 2 spent on changes of base=KOH, heat=0; "
        "the row has 2 changes at 3: base=NaH, heat=1"
    )


def test_of_a_long_row_the_first_eight_features_are_told() -> None:
    for count, end in ((8, ""), (9, ", ...")):
        space = CategoricalSpace.from_sizes((2,) * count)
        names, ones = ", ".join(f"x{i}=1" for i in range(8)), torch.ones(count, dtype=torch.long)
        (text,) = Rules(space, [Within([0] * count, 0)]).explain(ones)
        assert text.endswith(f"; the row has {count} changes: {names}{end}")
        (text,) = Rules(space, [Forbid(dict.fromkeys(space.names, 1))]).explain(ones)
        assert text.endswith(f"; the row has {names}{end}")


def test_the_order_of_rules_says_nothing() -> None:
    assert Rules(SPACE, EVERY_KIND) == Rules(SPACE, EVERY_KIND[::-1])
    assert hash(Rules(SPACE, EVERY_KIND)) == hash(Rules(SPACE, EVERY_KIND[::-1]))
    few = EVERY_KIND[2:4]
    assert When({"base": "KOH"}, few) == When({"base": "KOH"}, few[::-1])
    with pytest.raises(TypeError, match="must be a list of rules, got Fix"):
        Rules(SPACE, EVERY_KIND[0])  # type: ignore[arg-type]


def test_every_row_is_allowed_or_explained() -> None:
    rules = Rules(SPACE, EVERY_KIND[2:])
    for row, allowed in zip(SPACE.enumerate(), rules.allows(SPACE.enumerate()), strict=True):
        assert bool(allowed) == (rules.explain(row) == ())


def test_a_description_counts_rows_and_states() -> None:
    assert Rules(SPACE, EVERY_KIND[2:4]).describe().splitlines() == [
        "72 of 108 rows allowed (0.667)",
        "  never base=NaH & solvent=water|THF",
        "  where base=KOH: ligand=XPhos|none",
        "automaton: 8 states, at most 3",
        "  1 3 2 1 1",
    ]
    space = CategoricalSpace.from_sizes((2,) * 4)
    apart = [Forbid({f"x{i}": 0, f"x{i + 2}": 0}) for i in range(2)]
    assert Rules(space, apart).describe().splitlines()[-3:] == [
        "automaton: 7 states, at most 2",
        "  1 2 1 2 1",
        "  read in the order x0, x2, x1, x3",
    ]
    wide = CategoricalSpace.from_sizes((32,) * 400)
    first, _, states, _ = Rules(wide, [Within([0] * 400, edits=3)]).describe().splitlines()
    assert first == "315,468,059,001 of about 10^602.1 rows allowed (10^-590.6)"
    assert states == "automaton: 1,592 states, at most 4"


def test_large_counts_are_spelt_by_their_logarithm() -> None:
    assert [spelt(10**15 - 1), spelt(10**15)] == ["999,999,999,999,999", "about 10^15.0"]
    assert [spelt(3 * 10**3999), spelt(2**20_000)] == ["about 10^3999.5", "about 10^6020.6"]
    assert [share(1, 3), share(1, 10**400)] == ["0.333", "10^-400.0"]
    rules = [Fix(f"x{i}", 0) for i in range(8)]
    assert listed(rules[:6]) == ", ".join(map(repr, rules[:6]))
    assert listed(rules) == f"{listed(rules[:6])}, 2 more"


# --- errors ---------------------------------------------------------------------------------------

THERE = "; there are 'NaH', 'KOH', 'none'"
NO_FEATURE = "a rule speaks of at least one feature, got none"
NO_CATEGORY = "expected at least one category, got none"
NAMES = "expected different names of features"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([Fix("bse", "KOH")], "no feature 'bse'; did you mean 'base'?"),
        ([Fix("base", "KOh")], "feature 'base' has no category 'KOh'; did you mean 'KOH'?"),
        ([Fix("base", 3)], "feature 'base' has code 3; its codes are 0 to 2"),
        ([OneOf("heat", [1, 4])], "feature 'heat' has code 4; its codes are 0 to 3"),
        ([Fix("heat", -1)], "feature 'heat' has code -1; its codes are 0 to 3"),
        ([Forbid({"base": "x"})], f"feature 'base' has no category 'x'{THERE}"),
        (
            [Imply({"base": "KOH"}, {"nothing": "x"})],
            "no feature 'nothing'; there are 'base', 'solvent', 'ligand', 'heat'",
        ),
        (
            [Observed(["base"], [["NaOH"]])],
            "feature 'base' has no category 'NaOH'; did you mean 'NaH'?",
        ),
        ([Within([0, 0], 1)], "Within: expected a category for each of 4 features, got 2"),
        (
            [Within({"base": 0}, 1, prices={"heat": 2})],
            "Within: a price for 'heat', which the row does not name",
        ),
        ([Contains("XY")], f"feature 'base' has no category 'X'{THERE}"),
        ([Avoids(["KOH", 4])], "feature 'base' has code 4; its codes are 0 to 2"),
        # not the first of several
        ([Contains([["KOH", "x"]])], f"feature 'base' has no category 'x'{THERE}"),
        ([Avoids(["KOH", [0, 4]])], "feature 'base' has code 4; its codes are 0 to 2"),
        ([Forbid({"heat": 0, "base": ["KOH", "x"]})], f"feature 'base' has no category 'x'{THERE}"),
        ([AtMost(1, {"heat": [0, 4]})], "feature 'heat' has code 4; its codes are 0 to 3"),
        (
            [Observed(["base", "heat"], [["KOH", 3], ["KOH", 4]])],
            "feature 'heat' has code 4; its codes are 0 to 3",
        ),
        ([Within({"base": 0, "heat": 4}, 1)], "feature 'heat' has code 4; its codes are 0 to 3"),
        (
            [Budget({"base": {"KOH": 1}, "heat": {0: 1, 4: 1}}, 2)],
            "feature 'heat' has code 4; its codes are 0 to 3",
        ),
        ([Length(3)], "feature 'base' has code 3; its codes are 0 to 2"),
        (
            [When({"heat": 0}, [Fix("base", "KOH"), Fix("base", "x")])],
            f"feature 'base' has no category 'x'{THERE}",
        ),
        ([Budget({"base": {"K": 1}}, 2)], f"feature 'base' has no category 'K'{THERE}"),
        (
            [Budget({"base": {"KOH": 1e-30, "NaH": 1e30}}, 2)],
            "the prices differ too much in size for exact sums; give a resolution",
        ),
    ],
)
def test_names_that_the_space_does_not_know_are_refused(rules: list[Rule], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Rules(SPACE, rules)


def test_names_that_are_like_none_are_told_the_first_six() -> None:
    six = "there are 'column 0', 'column 1', 'column 2', 'column 3', 'column 4', 'column 5'"
    for count, end in ((6, ""), (7, ", ...")):
        many = CategoricalSpace({f"column {i}": 2 for i in range(count)})
        with pytest.raises(ValueError, match=re.escape(f"'temperature'; {six}{end}") + "$"):
            Rules(many, [Fix("temperature", "KOH")])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Forbid({}), f"Forbid: {NO_FEATURE}"),
        (lambda: Imply({}, {"a": 1}), f"Imply: {NO_FEATURE}"),
        (lambda: Imply({"a": 1}, {}), f"Imply: {NO_FEATURE}"),
        (lambda: When({}, [Fix("a", 1)]), f"When: {NO_FEATURE}"),
        (lambda: AtMost(1, {}), f"AtMost: {NO_FEATURE}"),
        (lambda: Within({}, 1), f"Within: {NO_FEATURE}"),
        (lambda: Budget({}, 1), "Budget: expected feature -> category -> price, got {}"),
        (lambda: Observed([], [[]]), f"Observed: {NAMES}, got []"),
        (lambda: Observed("ab", [["a", "b"]]), f"Observed: {NAMES}, got 'ab'"),
        (lambda: Observed(["a", "a"], [[1, 1]]), f"Observed: {NAMES}, got ['a', 'a']"),
        (lambda: Length("-", features=["a", "a"]), f"Length: {NAMES}, got ['a', 'a']"),
        (lambda: Contains("AB", features=[]), f"Contains: {NAMES}, got []"),
        (lambda: Avoids("AB", features="ab"), f"Avoids: {NAMES}, got 'ab'"),
        (lambda: Observed(["a"], []), "Observed: expected rows of 1 categories, got no row"),
        (
            lambda: Observed(["a", "b"], [["x"]]),
            "Observed: expected rows of 2 categories, got rows of [1]",
        ),
        (
            lambda: Observed(["a"], torch.zeros(2, 1)),
            "Observed: expected integer codes (N, n), got (2, 1) of torch.float32",
        ),
        (
            lambda: Observed(["a"], torch.tensor([1])),
            "Observed: expected integer codes (N, n), got (1,) of torch.int64",
        ),
        (lambda: Fix("a", []), f"Fix('a'): {NO_CATEGORY}"),
        (lambda: OneOf("a", []), f"OneOf('a'): {NO_CATEGORY}"),
        (lambda: Length([]), f"Length: {NO_CATEGORY}"),
        (lambda: Contains([[]]), f"Contains: {NO_CATEGORY}"),
        (lambda: Forbid({"a": []}), f"Forbid, 'a': {NO_CATEGORY}"),
        (lambda: Imply({"a": 1}, {"b": []}), f"Imply, 'b': {NO_CATEGORY}"),
        (lambda: When({"a": []}, [Fix("a", 1)]), f"When, 'a': {NO_CATEGORY}"),
        (lambda: AtMost(-1, {"a": "x"}), "AtMost: expected a number of features from 0 on, got -1"),
        (
            lambda: AtLeast(True, {"a": "x"}),
            "AtLeast: expected a number of features from 0 on, got True",
        ),
        (lambda: Budget({"a": {"x": math.nan}}, 1), "Budget: expected a finite number, got nan"),
        (lambda: Budget({"a": {"x": True}}, 1), "Budget: expected a finite number, got True"),
        (
            lambda: Budget({"a": {"x": 1}}, math.inf),
            "Budget: limit: expected a finite number, got inf",
        ),
        (
            lambda: Budget({"a": {"x": 1}}, 1, resolution=math.nan),
            "Budget: resolution: expected a finite number, got nan",
        ),
        (
            lambda: Budget({"a": {"x": 1}}, 1, resolution=0),
            "Budget: expected a resolution above 0, got 0",
        ),
        (lambda: Within({"a": "x"}, -1), "Within: expected a number from 0 on, got -1"),
        (lambda: Within(["a"], "x"), "Within: expected a finite number, got 'x'"),
        (
            lambda: Length("-", least=3, most=2),
            "Length: expected 0 <= least <= most, got 3 and 2",
        ),
        (lambda: Length("-", least=-1), "Length: expected 0 <= least <= most, got -1 and None"),
        (lambda: Contains(""), "Contains: expected a motif of 1 to 60 positions, got 0"),
        (lambda: Avoids("A" * 61), "Avoids: expected a motif of 1 to 60 positions, got 61"),
        (lambda: When({"a": "x"}, []), "When: expected at least one rule, got []"),
        (lambda: Rules(SPACE, context=SPACE), "'base' is both a context column and a feature"),
        (
            lambda: Rules(SPACE).enumerate(max_rows=107),
            "the rules allow 108 rows, more than max_rows=107",
        ),
        (
            lambda: Rules(CategoricalSpace.from_sizes((10,) * 20)).enumerate(),
            "the rules allow about 10^20.0 rows, more than max_rows=1,000,000",
        ),
    ],
)
def test_rules_that_say_nothing_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()  # type: ignore[operator]


def test_the_least_that_a_rule_may_say() -> None:
    assert AtMost(0, {"a": "x"}).count == 0
    assert (Length("-").least, Length("-", most=0).most) == (0, 0)
    assert (Within(["a"], 0).edits, Budget({"a": {"x": 0}}, 0).limit) == (0, 0)
    assert len(Avoids("A" * 60).motif) == 60
    assert len(Rules(SPACE).enumerate(max_rows=108)) == 108


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fix("base", 1.5), "Fix('base'): a category is a name or a code, got 1.5"),
        (lambda: OneOf("base", [True]), "OneOf('base'): a category is a name or a code, got True"),
        (lambda: Budget({"a": {1.5: 1}}, 1), "Budget: a category is a name or a code, got 1.5"),
        (lambda: Observed(["a"], [[1.5]]), "Observed: a category is a name or a code, got 1.5"),
        (lambda: Within([1.5], 1), "Within: a category is a name or a code, got 1.5"),
        (lambda: Avoids([1.5]), "Avoids: a category is a name or a code, got 1.5"),
        (lambda: Length(1.5), "Length: a category is a name or a code, got 1.5"),
        (lambda: Forbid("base"), "Forbid: expected feature -> category, got 'base'"),
        (
            lambda: Rules(SPACE, ["base=KOH"]),
            "rules must be Fix, Forbid, AtMost, ..., got 'base=KOH'",
        ),
        (lambda: Rules([2, 3]), "space must be a CategoricalSpace, got [2, 3]"),
    ],
)
def test_values_of_another_type_are_refused(make: object, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        make()  # type: ignore[operator]
