"""Names that rules speak of: the features of a row and the columns of a context."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from discrete_grad.space import CategoricalSpace

__all__ = ["Category", "Choice", "Combination", "Scope", "combination", "one_or_more", "shown"]

Category = str | int
"""A category's name, or its code."""

Choice = Category | Sequence[Category]
"""A category, or several of which one must be there."""

Combination = tuple[tuple[str, tuple[Category, ...]], ...]
"""Names of features, each with its categories."""


def one_or_more(choice: Choice, what: str) -> tuple[Category, ...]:
    """The categories of a choice, of which there must be one.

    Example:
        >>> one_or_more("a", "Fix"), one_or_more(["a", 2], "Fix")
        (('a',), ('a', 2))
    """
    several = isinstance(choice, Iterable) and not isinstance(choice, str)
    some: tuple[Category, ...] = tuple(choice) if several else (choice,)  # type: ignore
    for one in some:
        if isinstance(one, bool) or not isinstance(one, (str, int)):
            raise TypeError(f"{what}: a category is a name or a code, got {one!r}")
    if not some:
        raise ValueError(f"{what}: expected at least one category, got none")
    return some


def combination(given: Mapping[str, Choice], what: str) -> Combination:
    """The features and categories of a mapping, of which there must be one.

    Example:
        >>> combination({"a": "x", "b": ["y", "z"]}, "Forbid")
        (('a', ('x',)), ('b', ('y', 'z')))
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"{what}: expected feature -> category, got {given!r}")
    if not given:
        raise ValueError(f"{what}: a rule speaks of at least one feature, got none")
    return tuple((name, one_or_more(some, f"{what}, {name!r}")) for name, some in given.items())


def shown(some: Combination, *, joint: str = " & ") -> str:
    """Features and categories in words.

    Example:
        >>> shown((("a", ("x",)), ("b", ("y", "z"))))
        'a=x & b=y|z'
    """
    return joint.join(f"{name}={'|'.join(map(str, few))}" for name, few in some)


@dataclass(frozen=True)
class Scope:
    """The features of a row after the columns of its context, by name.

    Args:
        row: space of the row.
        context: space of the context's categorical columns, or None.

    Example:
        >>> Scope(CategoricalSpace({"a": ["x", "y"]}), None).categories("a", ["y"])
        (0, (1,))
    """

    row: CategoricalSpace
    context: CategoricalSpace | None

    @cached_property
    def whole(self) -> CategoricalSpace:
        """Context columns, then features."""
        if self.context is None:
            return self.row
        spaces = (self.context, self.row)
        pairs = [pair for s in spaces for pair in zip(s.names, s.categories, strict=True)]
        return CategoricalSpace(dict(pairs))

    @property
    def hidden(self) -> int:
        """Number of context columns."""
        return 0 if self.context is None else self.context.num_features

    @property
    def own(self) -> range:
        """Places of the row's own features."""
        return range(self.hidden, self.hidden + self.row.num_features)

    def place(self, name: str) -> int:
        """Place of a feature or context column."""
        if name not in self._places:
            raise ValueError(f"no feature {name!r}{_nearest(name, list(self._places))}")
        return self._places[name]

    def categories(self, name: str, some: Iterable[Category]) -> tuple[int, tuple[int, ...]]:
        """Place of a feature, and the codes of some of its categories."""
        place = self.place(name)
        return place, tuple(self.code(place, one) for one in some)

    def labels(self, place: int) -> tuple[str, ...]:
        """Categories of a feature."""
        return self._labels[place]

    @cached_property
    def _labels(self) -> tuple[tuple[str, ...], ...]:
        return self.whole.categories

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.whole.names)}

    def code(self, place: int, category: Category) -> int:
        """Code of a category, given by its name or its code."""
        labels = self.labels(place)
        if isinstance(category, str):
            if category not in labels:
                near = _nearest(category, labels)
                raise ValueError(
                    f"feature {self.whole.names[place]!r} has no category {category!r}{near}"
                )
            return labels.index(category)
        if not 0 <= category < len(labels):
            fault = f"feature {self.whole.names[place]!r} has code {category}"
            raise ValueError(f"{fault}; its codes are 0 to {len(labels) - 1}")
        return category


def _nearest(name: str, known: Sequence[str]) -> str:
    """A hint at what was meant."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    few = ", ".join(map(repr, known[:6])) + (", ..." if len(known) > 6 else "")
    return f"; there are {few}"
