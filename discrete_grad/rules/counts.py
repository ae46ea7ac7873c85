"""Rules of how many features have one of their categories."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from discrete_grad.rules._parts import Part
from discrete_grad.rules.categories import among, counted
from discrete_grad.rules.rule import Rule, cell
from discrete_grad.rules.scope import Choice, Combination, Scope, combination, shown

__all__ = ["AtLeast", "AtMost", "Exactly"]


@dataclass(frozen=True, init=False, repr=False)
class _Count(Rule):
    count: int
    cells: Combination

    def __init__(self, count: int, cells: Mapping[str, Choice]) -> None:
        what = type(self).__name__
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"{what}: expected a number of features from 0 on, got {count!r}")
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "cells", combination(cells, what))

    @abstractmethod
    def _bounds(self) -> tuple[int | None, int | None]:
        """The least number and the most."""

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        return (counted(scope, among(scope, self.cells), *self._bounds()),)

    def _seen(self, scope: Scope, codes: Sequence[int]) -> str:
        """See `Rule`."""
        held = [p for p, some in among(scope, self.cells).items() if codes[p] in some]
        named = ", ".join(cell(scope, codes, place) for place in held)
        return f"{len(held)}: {named}" if held else "none"

    def _of(self) -> str:
        return f"{self.count} of {shown(self.cells, joint=', ')}"


class AtMost(_Count):
    """At most a given number of features have one of the categories named for them.

    Args:
        count: from 0 on.
        cells: feature -> category, or several that count alike.

    Raises:
        ValueError: for a negative number, no feature, or a feature without a category.

    Example:
        >>> AtMost(1, {"a": "yes", "b": "yes"}).words()
        'at most 1 of a=yes, b=yes'
    """

    def _bounds(self) -> tuple[int | None, int | None]:
        return None, self.count

    def words(self) -> str:
        """See `Rule`."""
        return f"at most {self._of()}"


class AtLeast(_Count):
    """At least a given number of features have one of their categories; see `AtMost`.

    Example:
        >>> AtLeast(1, {"a": "yes", "b": ["yes", "maybe"]}).words()
        'at least 1 of a=yes, b=yes|maybe'
    """

    def _bounds(self) -> tuple[int | None, int | None]:
        return self.count, None

    def words(self) -> str:
        """See `Rule`."""
        return f"at least {self._of()}"


class Exactly(_Count):
    """Exactly a given number of features have one of their categories; see `AtMost`.

    Example:
        >>> Exactly(1, {"a": "yes", "b": "yes"}).words()
        'exactly 1 of a=yes, b=yes'
    """

    def _bounds(self) -> tuple[int | None, int | None]:
        return self.count, self.count

    def words(self) -> str:
        """See `Rule`."""
        return f"exactly {self._of()}"
