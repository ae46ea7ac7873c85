"""Rules of every kind are drawn, all fit the space, and each range is reached to its ends."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import Phase, given, settings

from discrete_grad import CategoricalSpace
from discrete_grad.rules import Rule
from discrete_grad.testing import rule_lists

SPACE = CategoricalSpace({"cut": 2, "one": 1, "colour": 5, "size": 3, "shape": 4})
KINDS = {
    *("Fix", "OneOf", "Forbid", "Imply", "AtMost", "AtLeast", "Exactly", "Budget", "Within"),
    *("Observed", "Length", "Contains", "Avoids", "When"),
}


def rules_by_kind() -> dict[str, list[Any]]:
    """Hundreds of rules."""
    found: dict[str, list[Any]] = defaultdict(list)

    @settings(max_examples=300, derandomize=True, database=None, phases=[Phase.generate])
    @given(rule_lists(SPACE, min_rules=2, max_rules=4))
    def draw(rules: list[Rule]) -> None:
        assert 2 <= len(rules) <= 4
        found["lists"].append(rules)
        for rule in rules:
            found[type(rule).__name__].append(rule)

    draw()
    return found


def categories(name: str) -> set[str]:
    return set(SPACE.categories[SPACE.names.index(name)])


def check_kinds(drawn: dict[str, list[Any]]) -> None:
    assert drawn.keys() - {"lists"} == KINDS
    assert {len(rules) for rules in drawn["lists"]} == {2, 3, 4}


def cells_of(drawn: dict[str, list[Any]]) -> list[dict[str, Any]]:
    counts = [rule.cells for kind in ("AtMost", "AtLeast", "Exactly") for rule in drawn[kind]]
    sides = [side for rule in drawn["Imply"] for side in (rule.condition, rule.consequence)]
    whole = [rule.together for rule in drawn["Forbid"]] + [r.condition for r in drawn["When"]]
    return [dict(cells) for cells in counts + sides + whole]


def check_ranges(drawn: dict[str, list[Any]]) -> None:
    every = cells_of(drawn)
    priced = [dict(rule.prices) for rule in drawn["Budget"]]
    for cells in (*every, *({n: dict(few) for n, few in some.items()} for some in priced)):
        for name, some in cells.items():
            assert set(some) <= categories(name)
    assert {len(cells) for cells in every} == {1, 2, 3, 4}
    assert {len(part) for cells in every for part in cells.values()} == {1, 2, 3}
    assert {len(rule.categories) for rule in drawn["OneOf"]} == {1, 2, 3}
    for rule in drawn["OneOf"]:
        assert set(rule.categories) <= categories(rule.feature)
    for rule in drawn["Fix"]:
        assert rule.category in categories(rule.feature)
    counted = [rule for kind in ("AtMost", "AtLeast", "Exactly") for rule in drawn[kind]]
    assert {rule.count for rule in counted} == {0, 1, 2, 3}
    for named in (True, False):  # by the names of features, and by codes
        found = [rule for rule in drawn["Within"] if bool(rule.features) is named]
        assert {rule.edits for rule in found} == {0, 1, 2, 3}
    assert {len(rule.rows) for rule in drawn["Observed"]} == {1, 2, 3, 4, 5, 6}
    assert {len(rule.rules) for rule in drawn["When"]} == {2}
    inner = {type(one).__name__ for rule in drawn["When"] for one in rule.rules}
    assert inner == KINDS - {"When"}


def check_budgets_and_edits(drawn: dict[str, list[Any]]) -> None:
    cells = [cell for rule in drawn["Budget"] for _, cell in rule.prices]
    prices = [price for cell in cells for _, price in cell]
    assert {round(10 * price, 9) for price in prices} == set(range(-3, 10))
    limits = [float(rule.limit) for rule in drawn["Budget"]]
    assert (min(limits), max(limits)) == (-0.2, 1.5)
    assert len(set(limits)) > 5
    assert {rule.resolution for rule in drawn["Budget"]} == {None, 0.25}
    by_name = [rule for rule in drawn["Within"] if rule.prices]
    assert {price for rule in by_name for _, price in rule.prices} == {0, 0.5, 2}


def check_rows(drawn: dict[str, list[Any]]) -> None:
    rows = [(rule.features, row) for rule in drawn["Observed"] for row in rule.rows]
    rows += [(rule.features, rule.row) for rule in drawn["Within"] if rule.features]
    for names, row in rows:
        assert all(c in categories(name) for name, c in zip(names, row, strict=True))
    assert {len(names) for names, _ in rows} == {1, 2, 3, 4}
    codes = [rule.row for rule in drawn["Within"] if not rule.features]
    for column, size in zip(zip(*codes, strict=True), SPACE.sizes, strict=True):
        assert set(column) == set(range(size))


def check_sequences(drawn: dict[str, list[Any]]) -> None:
    for rule in drawn["Length"] + drawn["Contains"] + drawn["Avoids"]:
        places = [SPACE.names.index(name) for name in rule.features or ()]
        assert places == sorted(places)
    assert {bool(rule.features) for rule in drawn["Length"]} == {True, False}
    assert {rule.pad for rule in drawn["Length"]} == {0}
    assert {rule.least for rule in drawn["Length"]} == {0, 1, 2}
    assert {rule.most for rule in drawn["Length"]} == {None, 0, 1, 2, 3, 4}
    for kind in ("Contains", "Avoids"):
        assert {len(rule.motif) for rule in drawn[kind]} == {1, 2, 3}
        whole = [rule for rule in drawn[kind] if not rule.features]
        assert {c for rule in whole for some in rule.motif for c in some} == categories("cut")
        for rule in drawn[kind]:
            first = rule.features[0] if rule.features else "cut"
            assert {c for some in rule.motif for c in some} <= categories(first)


def test_what_is_drawn() -> None:
    drawn = rules_by_kind()
    for check in (check_kinds, check_ranges, check_budgets_and_edits, check_rows, check_sequences):
        check(drawn)
