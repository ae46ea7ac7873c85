"""Rules of what a row costs, and of how far it is from another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from numbers import Real

from torch import Tensor

from discrete_grad.rules._parts import Counted, Part
from discrete_grad.rules.rule import Rule, cell, number
from discrete_grad.rules.scope import Category, Scope, one_or_more

__all__ = ["Budget", "Price", "Within"]

Price = int | float | Decimal | Fraction
"""A number; a decimal such as 0.1 is taken at its word, not as the binary number next to it."""

_MOST = 2**60  # what a sum of integers may reach


@dataclass(frozen=True, init=False, repr=False)
class Budget(Rule):
    """The prices of a row's categories sum to at most a limit.

    Sums are exact: 0.1 + 0.2 is 0.3. Where very many different sums make the automaton too large,
    a resolution rounds each price up to a multiple of it, so that an allowed row never costs more
    than the limit, and some rows that cost almost as much are forbidden.

    Args:
        prices: feature -> category -> price; a category not named costs 0. Prices may be negative.
        limit: the most that a row may cost.
        resolution: above 0, or None for exact prices.

    Raises:
        ValueError: for no price, or a number that is not finite.

    Example:
        >>> Budget({"base": {"NaH": 3.5, "KOH": 0.2}, "acid": {"HCl": 0.5}}, limit=4).words()
        'the prices of base, acid sum to at most 4'
    """

    prices: tuple[tuple[str, tuple[tuple[Category, Fraction], ...]], ...]
    limit: Fraction
    resolution: Fraction | None = field(default=None, kw_only=True)

    def __init__(
        self,
        prices: Mapping[str, Mapping[Category, Price]],
        limit: Price,
        *,
        resolution: Price | None = None,
    ) -> None:
        if not isinstance(prices, Mapping) or not prices or not all(prices.values()):
            raise ValueError(f"Budget: expected feature -> category -> price, got {prices!r}")
        table = tuple(
            (name, tuple((one_or_more(k, "Budget")[0], exact(p, "Budget")) for k, p in few.items()))
            for name, few in prices.items()
        )
        step = None if resolution is None else exact(resolution, "Budget: resolution")
        if step is not None and step <= 0:
            raise ValueError(f"Budget: expected a resolution above 0, got {resolution!r}")
        object.__setattr__(self, "prices", table)
        object.__setattr__(self, "limit", exact(limit, "Budget: limit"))
        object.__setattr__(self, "resolution", step)

    def _by_place(self, scope: Scope) -> dict[int, list[Fraction]]:
        """Prices of all categories of each feature named."""
        found = {}
        for name, some in self.prices:
            place = scope.place(name)
            column = [Fraction(0)] * len(scope.labels(place))
            for category, price in some:
                column[scope.code(place, category)] = price
            found[place] = column
        return found

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        return (at_most(self._by_place(scope), self.limit, self.resolution),)

    def words(self) -> str:
        """See `Rule`."""
        names = ", ".join(name for name, _ in self.prices)
        step = "" if self.resolution is None else f", rounded up to {number(self.resolution)},"
        return f"the prices of {names}{step} sum to at most {number(self.limit)}"

    def _seen(self, scope: Scope, codes: Sequence[int]) -> str:
        """See `Rule`."""
        spent = {place: column[codes[place]] for place, column in self._by_place(scope).items()}
        paid = [f"{cell(scope, codes, p)} at {number(x)}" for p, x in spent.items() if x]
        return f"{number(sum(spent.values(), Fraction(0)))}: {', '.join(paid)}"


@dataclass(frozen=True, init=False, repr=False)
class Within(Rule):
    """A row differs from a given row in at most a given number of features.

    Args:
        row: the given row: feature -> category, where features not named may change freely; or all
            categories in the order of the space, as names or codes.
        edits: most features that may differ; with prices, most that all changes may cost together.
        prices: feature -> price of changing it, from 0 on; a feature not named costs 1.

    Raises:
        ValueError: for no feature, or a number that is negative or not finite.

    Example:
        >>> Within({"base": "KOH", "acid": "HCl"}, edits=1).words()
        'at most 1 change of base=KOH, acid=HCl'
    """

    row: tuple[Category, ...]
    edits: Fraction
    prices: tuple[tuple[str, Fraction], ...]
    features: tuple[str, ...] | None  # None: all features of the space

    def __init__(
        self,
        row: Mapping[str, Category] | Sequence[Category] | Tensor,
        edits: Price,
        *,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        names = tuple(row) if isinstance(row, Mapping) else None
        cells = row.values() if isinstance(row, Mapping) else row
        listed = cells.tolist() if isinstance(cells, Tensor) else list(cells)
        if not listed:
            raise ValueError("Within: a rule speaks of at least one feature, got none")
        object.__setattr__(self, "features", names)
        object.__setattr__(self, "row", tuple(one_or_more(one, "Within")[0] for one in listed))
        object.__setattr__(self, "edits", _not_negative(edits))
        given = {} if prices is None else prices
        object.__setattr__(self, "prices", tuple((n, _not_negative(p)) for n, p in given.items()))

    def _codes(self, scope: Scope) -> dict[int, int]:
        """Code of the given row in each feature that it names."""
        named = self.features
        places = list(scope.own) if named is None else [scope.place(name) for name in named]
        if len(self.row) != len(places):
            wanted, got = len(places), len(self.row)
            raise ValueError(
                f"Within: expected a category for each of {wanted} features, got {got}"
            )
        return {p: scope.code(p, one) for p, one in zip(places, self.row, strict=True)}

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        own, price = self._codes(scope), {scope.place(name): p for name, p in self.prices}
        if strange := [scope.whole.names[place] for place in price if place not in own]:
            raise ValueError(f"Within: a price for {strange[0]!r}, which the row does not name")
        columns = {
            place: [
                Fraction(0) if k == code else price.get(place, Fraction(1))
                for k in range(len(scope.labels(place)))
            ]
            for place, code in own.items()
        }
        return (at_most(columns, self.edits, None),)

    def words(self) -> str:
        """See `Rule`."""
        changes = "change" if self.edits == 1 else "changes"
        if self.prices:
            changes = "spent on changes"
        return f"at most {number(self.edits)} {changes} of {', '.join(self._cells(8))}"

    def _cells(self, count: int) -> list[str]:
        names = [""] * len(self.row) if self.features is None else [f"{n}=" for n in self.features]
        cells = [f"{name}{one}" for name, one in zip(names, self.row, strict=True)]
        return cells[:count] + (["..."] if len(cells) > count else [])

    def __repr__(self) -> str:
        cells = dict(zip(self.features, self.row, strict=True)) if self.features else [*self.row]
        some = ", ".join(f"{name!r}: {number(price)}" for name, price in self.prices)
        prices = f", prices={{{some}}}" if some else ""
        return f"Within({cells}, {number(self.edits)}{prices})"

    def _seen(self, scope: Scope, codes: Sequence[int]) -> str:
        """See `Rule`."""
        changed = [place for place, code in self._codes(scope).items() if codes[place] != code]
        named = [cell(scope, codes, place) for place in changed[:8]]
        what = f"{len(changed)} change{'' if len(changed) == 1 else 's'}"
        if self.prices:
            price = {scope.place(name): cost for name, cost in self.prices}
            what += f" at {number(sum((price.get(p, Fraction(1)) for p in changed), Fraction(0)))}"
        return f"{what}: {', '.join([*named, *(['...'] * (len(changed) > 8))])}"


def exact(value: object, what: str) -> Fraction:
    """A number as its decimals say.

    Example:
        >>> exact(0.1, "price") + exact(0.2, "price") == exact(0.3, "price")
        True
    """
    if isinstance(value, int | Fraction) and not isinstance(value, bool):
        return Fraction(value)
    # a number of NumPy as well, whose decimals are those that it shows
    if isinstance(value, Real | Decimal) and not isinstance(value, bool) and math.isfinite(value):
        return Fraction(str(value))
    raise ValueError(f"{what}: expected a finite number, got {value!r}")


def _not_negative(value: Price) -> Fraction:
    found = exact(value, "Within")
    if found < 0:
        raise ValueError(f"Within: expected a number from 0 on, got {value!r}")
    return found


def at_most(
    columns: Mapping[int, Iterable[Fraction]], limit: Fraction, resolution: Fraction | None
) -> Counted:
    """The sum of a row's prices is at most a limit, in whole multiples of a unit.

    Raises:
        ValueError: for prices so different in size that their sums leave 64 bits.
    """
    table = {place: list(column) for place, column in columns.items()}
    if resolution is None:
        numbers = [limit, *(price for column in table.values() for price in column)]
        unit = Fraction(1, math.lcm(*(price.denominator for price in numbers)))
    else:
        unit = resolution
    weights = [tuple(math.ceil(price / unit) for price in column) for column in table.values()]
    high = math.floor(limit / unit)
    if sum(max(map(abs, some)) for some in weights) + abs(high) > _MOST:
        raise ValueError("the prices differ too much in size for exact sums; give a resolution")
    return Counted(tuple(table), tuple(weights), None, high)
