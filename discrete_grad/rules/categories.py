"""Rules of which categories may stand together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from discrete_grad.rules._parts import Counted, Part, Whenever
from discrete_grad.rules.rule import Rule
from discrete_grad.rules.scope import (
    Category,
    Choice,
    Combination,
    Scope,
    combination,
    one_or_more,
    shown,
)

__all__ = ["Fix", "Forbid", "Imply", "OneOf", "When"]


def among(scope: Scope, some: Combination) -> dict[int, frozenset[int]]:
    """Places of features, each with the codes of its categories."""
    found = [scope.categories(name, few) for name, few in some]
    return {place: frozenset(codes) for place, codes in found}


def counted(
    scope: Scope, cells: Mapping[int, frozenset[int]], low: int | None, high: int | None
) -> Counted:
    """The number of features that have one of their categories lies between two bounds."""
    weights = [
        tuple(int(k in codes) for k in range(len(scope.labels(place))))
        for place, codes in cells.items()
    ]
    return Counted(tuple(cells), tuple(weights), low, high)


@dataclass(frozen=True, init=False, repr=False)
class OneOf(Rule):
    """A feature has one of some categories.

    Args:
        feature: its name.
        categories: names or codes.

    Example:
        >>> OneOf("ligand", ["XPhos", "SPhos"]).words()
        'ligand is XPhos or SPhos'
    """

    feature: str
    categories: tuple[Category, ...]

    def __init__(self, feature: str, categories: Choice) -> None:
        object.__setattr__(self, "feature", feature)
        object.__setattr__(self, "categories", one_or_more(categories, f"OneOf({feature!r})"))

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        return (_all_of(scope, ((self.feature, self.categories),)),)

    def words(self) -> str:
        """See `Rule`."""
        return f"{self.feature} is {' or '.join(map(str, self.categories))}"


@dataclass(frozen=True, repr=False)
class Fix(Rule):
    """A feature has one category.

    Args:
        feature: its name.
        category: its name or code.

    Example:
        >>> Fix("ligand", "XPhos").words()
        'ligand is XPhos'
    """

    feature: str
    category: Category

    def __post_init__(self) -> None:
        one_or_more(self.category, f"Fix({self.feature!r})")

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        return (_all_of(scope, ((self.feature, (self.category,)),)),)

    def words(self) -> str:
        """See `Rule`."""
        return f"{self.feature} is {self.category}"


def _all_of(scope: Scope, some: Combination) -> Counted:
    """Every feature has one of its categories."""
    cells = among(scope, some)
    return counted(scope, cells, len(cells), None)


@dataclass(frozen=True, init=False, repr=False)
class Forbid(Rule):
    """Some categories may not occur together.

    Args:
        together: feature -> category, or several of which none may occur with the others.

    Raises:
        ValueError: for no feature, or a feature without a category.

    Example:
        >>> Forbid({"base": "NaH", "solvent": ["water", "ethanol"]}).words()
        'never base=NaH & solvent=water|ethanol'
    """

    together: Combination

    def __init__(self, together: Mapping[str, Choice]) -> None:
        object.__setattr__(self, "together", combination(together, "Forbid"))

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        cells = among(scope, self.together)
        return (counted(scope, cells, None, len(cells) - 1),)

    def words(self) -> str:
        """See `Rule`."""
        return f"never {shown(self.together)}"


@dataclass(frozen=True, init=False, repr=False)
class Imply(Rule):
    """Whenever some categories occur, other categories must occur.

    Args:
        condition: feature -> category, or several of which one must be there for the rule to apply.
        consequence: feature -> category, or several of which one must then be there.

    Raises:
        ValueError: for no feature, or a feature without a category.

    Example:
        >>> Imply({"catalyst": "none"}, {"ligand": "none"}).words()
        'where catalyst=none: ligand=none'
    """

    condition: Combination
    consequence: Combination

    def __init__(self, condition: Mapping[str, Choice], consequence: Mapping[str, Choice]) -> None:
        object.__setattr__(self, "condition", combination(condition, "Imply"))
        object.__setattr__(self, "consequence", combination(consequence, "Imply"))

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        given = _all_of(scope, self.condition)
        return (Whenever((given,), (_all_of(scope, self.consequence),)),)

    def words(self) -> str:
        """See `Rule`."""
        return f"where {shown(self.condition)}: {shown(self.consequence)}"


@dataclass(frozen=True, init=False, repr=False)
class When(Rule):
    """Other rules hold whenever some categories occur, such as a category of the context.

    Args:
        condition: feature or context column -> category, or several.
        rules: the rules that hold there.

    Raises:
        ValueError: for no feature, a feature without a category, or no rule.

    Example:
        >>> When({"country": "DE"}, [Fix("line", "S")]).words()
        'where country=DE: line is S'
    """

    condition: Combination
    rules: tuple[Rule, ...]

    def __init__(self, condition: Mapping[str, Choice], rules: Sequence[Rule]) -> None:
        object.__setattr__(self, "condition", combination(condition, "When"))
        object.__setattr__(self, "rules", tuple(sorted(rules, key=repr)))  # no order matters
        if not self.rules or not all(isinstance(rule, Rule) for rule in self.rules):
            raise ValueError(f"When: expected at least one rule, got {list(rules)!r}")

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        given = _all_of(scope, self.condition)
        inner = [part for rule in self.rules for part in rule._parts(scope)]
        return tuple(Whenever((given,), (part,)) for part in inner)

    def words(self) -> str:
        """See `Rule`."""
        return f"where {shown(self.condition)}: {', and '.join(r.words() for r in self.rules)}"
