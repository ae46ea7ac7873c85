"""The one abstraction of the room: a rule says which rows are allowed."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from discrete_grad.rules._parts import Part, features_of
from discrete_grad.rules.scope import Scope

__all__ = ["Rule"]

_FEW = 8


class Rule(ABC):
    """A statement about rows, in terms of names; each kind is a small frozen dataclass.

    Example:
        >>> from discrete_grad.rules import Fix
        >>> isinstance(Fix("ligand", "XPhos"), Rule)
        True
    """

    @abstractmethod
    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """What it says of the features of a space, all of which must hold.

        Raises:
            ValueError: for a name that the space does not know.
        """

    @abstractmethod
    def words(self) -> str:
        """The rule in words."""

    def _seen(self, scope: Scope, codes: Sequence[int]) -> str:
        """What a row that breaks it has instead."""
        some = features_of(self._parts(scope))
        names = [cell(scope, codes, place) for place in some[:_FEW]]
        return ", ".join([*names, *(["..."] if len(some) > _FEW else [])])

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.kw_only and value != field.default:
                shown.append(f"{field.name}={_plain(value)}")
            elif not field.kw_only:
                shown.append(_plain(value))
        return f"{type(self).__name__}({', '.join(shown)})"


def cell(scope: Scope, codes: Sequence[int], place: int) -> str:
    """A feature of a row and its category in words."""
    return f"{scope.whole.names[place]}={scope.labels(place)[codes[place]]}"


def _plain(value: Any) -> str:
    """A field as its user wrote it."""
    if isinstance(value, Fraction):
        return number(value)
    if not isinstance(value, tuple):
        return repr(value)
    if value and all(isinstance(one, tuple) and len(one) == 2 for one in value):
        return f"{{{', '.join(f'{name!r}: {_plain(few)}' for name, few in value)}}}"
    few = [_plain(one) for one in value]
    return few[0] if len(few) == 1 and isinstance(value[0], str | int) else f"[{', '.join(few)}]"


def number(value: Fraction) -> str:
    """A number in decimals, rounded where they do not end."""
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"
