"""Second definition of every rule: a plain predicate of one row, read off the rule's fields."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

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
    When,
    Within,
)

Row = dict[str, str]


def row_of(space: CategoricalSpace, codes: Sequence[int]) -> Row:
    pairs = zip(space.names, space.categories, codes, strict=True)
    return {name: labels[code] for name, labels, code in pairs}


def has(space: CategoricalSpace, row: Row, name: str, category: str | int) -> bool:
    if isinstance(category, str):
        return row[name] == category
    return space.categories[space.names.index(name)].index(row[name]) == category


def among(space: CategoricalSpace, row: Row, name: str, some: Sequence[str | int]) -> bool:
    return any(has(space, row, name, category) for category in some)


def obeys(rule: Rule, space: CategoricalSpace, row: Row) -> bool:
    def held(cells: Sequence[tuple[str, Sequence[str | int]]]) -> list[bool]:
        return [among(space, row, name, some) for name, some in cells]

    match rule:
        case Fix(feature, category):
            return has(space, row, feature, category)
        case OneOf(feature, categories):
            return among(space, row, feature, categories)
        case Forbid(together):
            return not all(held(together))
        case Imply(condition, consequence):
            return not all(held(condition)) or all(held(consequence))
        case When(condition, rules):
            return not all(held(condition)) or all(obeys(r, space, row) for r in rules)
        case AtMost(count, cells):
            return sum(held(cells)) <= count
        case AtLeast(count, cells):
            return sum(held(cells)) >= count
        case Exactly(count, cells):
            return sum(held(cells)) == count
        case Budget():
            return spent(rule, space, row) <= rule.limit
        case Within():
            return changed(rule, space, row) <= rule.edits
        case Observed(features, rows):
            return any(
                all(has(space, row, n, c) for n, c in zip(features, one, strict=True))
                for one in rows
            )
        case Length():
            return fits_length(rule, space, row)
        case Contains(motif):
            return occurs(motif, space, row, rule.features)
        case Avoids(motif):
            return not occurs(motif, space, row, rule.features)
    raise AssertionError(rule)


def spent(rule: Budget, space: CategoricalSpace, row: Row) -> Fraction:
    total = Fraction(0)
    for name, prices in rule.prices:
        for category, price in prices:
            if has(space, row, name, category):
                step = rule.resolution
                total += price if step is None else ceil(price / step) * step
    return total


def changed(rule: Within, space: CategoricalSpace, row: Row) -> Fraction:
    prices = dict(rule.prices)
    pairs = zip(rule.features or space.names, rule.row, strict=True)
    other = [name for name, category in pairs if not has(space, row, name, category)]
    return sum((prices.get(name, Fraction(1)) for name in other), Fraction(0))


def fits_length(rule: Length, space: CategoricalSpace, row: Row) -> bool:
    names = rule.features or space.names
    pads = [has(space, row, name, rule.pad) for name in names]
    length = pads.index(True) if True in pads else len(pads)
    most = len(pads) if rule.most is None else rule.most
    return rule.least <= length <= most and all(pads[length:])


def occurs(
    motif: Sequence[Sequence[str | int]],
    space: CategoricalSpace,
    row: Row,
    features: Sequence[str] | None,
) -> bool:
    names = features or space.names
    return any(
        all(among(space, row, names[i + j], some) for j, some in enumerate(motif))
        for i in range(len(names) - len(motif) + 1)
    )
