"""Hypothesis strategies for rules."""

from __future__ import annotations

from collections.abc import Callable

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
from discrete_grad.space import CategoricalSpace

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "the test-kit needs hypothesis: pip install 'discrete_grad[testing]'"
    ) from error

__all__ = ["rule_lists"]

Draw = Callable[[st.DrawFn, CategoricalSpace], Rule]


def rule_lists(
    space: CategoricalSpace, *, min_rules: int = 0, max_rules: int = 3
) -> st.SearchStrategy[list[Rule]]:
    """Lists of rules of every kind for a space; they may contradict each other.

    Args:
        space: the space, whose first category serves as the pad of sequences.
        min_rules: the least number of rules.
        max_rules: the most.

    Example:
        >>> from hypothesis import find
        >>> from discrete_grad.rules import Fix
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> find(rule_lists(space), lambda rules: any(isinstance(rule, Fix) for rule in rules))
        [Fix('x0', '0')]
    """
    return st.lists(_rules(space), min_size=min_rules, max_size=max_rules)


@st.composite
def _rules(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    return draw(st.sampled_from(_KINDS))(draw, space)


def _names(draw: st.DrawFn, space: CategoricalSpace) -> list[str]:
    """Different features in any order."""
    return draw(st.lists(st.sampled_from(space.names), min_size=1, max_size=4, unique=True))


def _some(draw: st.DrawFn, space: CategoricalSpace, name: str) -> list[str]:
    """Categories of a feature, sometimes all."""
    categories = space.categories[space.names.index(name)]
    return draw(st.lists(st.sampled_from(categories), min_size=1, max_size=3, unique=True))


def _cells(draw: st.DrawFn, space: CategoricalSpace) -> dict[str, list[str]]:
    return {name: _some(draw, space, name) for name in _names(draw, space)}


def _one(draw: st.DrawFn, space: CategoricalSpace, name: str) -> str:
    return draw(st.sampled_from(space.categories[space.names.index(name)]))


def _fix(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    name = draw(st.sampled_from(space.names))
    return Fix(name, _one(draw, space, name))


def _one_of(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    name = draw(st.sampled_from(space.names))
    return OneOf(name, _some(draw, space, name))


def _forbid(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    return Forbid(_cells(draw, space))


def _imply(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    return Imply(_cells(draw, space), _cells(draw, space))


def _counts(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    kinds: tuple[Callable[[int, dict[str, list[str]]], Rule], ...] = (AtMost, AtLeast, Exactly)
    return draw(st.sampled_from(kinds))(draw(st.integers(0, 3)), _cells(draw, space))


def _budget(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    tenths = st.integers(-3, 9).map(lambda n: n / 10)
    prices: dict[str, dict[str | int, float]] = {
        name: {category: draw(tenths) for category in few}
        for name, few in _cells(draw, space).items()
    }
    resolution = draw(st.sampled_from((None, None, 0.25)))
    return Budget(prices, draw(st.integers(-2, 15)) / 10, resolution=resolution)


def _within(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    if draw(st.booleans()):
        codes = [draw(st.integers(0, size - 1)) for size in space.sizes]
        return Within(codes, draw(st.integers(0, 3)))
    names = _names(draw, space)
    prices = {names[0]: draw(st.sampled_from((0, 0.5, 2)))}
    row = {name: _one(draw, space, name) for name in names}
    return Within(row, draw(st.integers(0, 3)), prices=prices)


def _observed(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    names = _names(draw, space)
    row = st.tuples(*(st.sampled_from(space.categories[space.names.index(n)]) for n in names))
    return Observed(names, draw(st.lists(row, min_size=1, max_size=6)))


def _length(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    least = draw(st.integers(0, 2))
    most = draw(st.none() | st.integers(least, 4))
    return Length(0, least=least, most=most, features=_ordered(draw, space))


def _motif(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    kind = draw(st.sampled_from((Contains, Avoids)))
    features = _ordered(draw, space)
    first = space.names[0] if features is None else features[0]
    motif = [_some(draw, space, first) for _ in range(draw(st.integers(1, 3)))]
    return kind(motif, features=features)


def _ordered(draw: st.DrawFn, space: CategoricalSpace) -> list[str] | None:
    """Features of a sequence in the order of the space, None for all."""
    if draw(st.booleans()):
        return None
    return sorted(_names(draw, space), key=space.names.index)


def _when(draw: st.DrawFn, space: CategoricalSpace) -> Rule:
    inner = [draw(st.sampled_from(_KINDS[:-1]))(draw, space) for _ in range(2)]
    return When(_cells(draw, space), inner)


_KINDS: tuple[Draw, ...] = (
    _fix,
    _one_of,
    _forbid,
    _imply,
    _counts,
    _budget,
    _within,
    _observed,
    _length,
    _motif,
    _when,
)
