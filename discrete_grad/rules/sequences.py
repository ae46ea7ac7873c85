"""Rules of sequences: their length, and motifs in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from discrete_grad.rules._parts import Ended, Motif, Part
from discrete_grad.rules.rule import Rule
from discrete_grad.rules.scope import Category, Choice, Scope, one_or_more

__all__ = ["Avoids", "Contains", "Length"]

_LONGEST = 60  # positions of a motif: each is a bit of a state


def _places(scope: Scope, features: tuple[str, ...] | None) -> tuple[int, ...]:
    """The sequence, by default all features of the row."""
    if features is None:
        return tuple(scope.own)
    return tuple(scope.place(name) for name in features)


def _names(features: Sequence[str] | None, what: str) -> tuple[str, ...] | None:
    if features is None:
        return None
    names = tuple(features)
    if isinstance(features, str) or not names or len(set(names)) < len(names):
        raise ValueError(f"{what}: expected different names of features, got {features!r}")
    return names


@dataclass(frozen=True, init=False, repr=False)
class Length(Rule):
    """A sequence of variable length: a pad category fills it up at the end, and only there.

    Args:
        pad: the pad category of every feature of the sequence.
        least: the least length.
        most: the most, or None for the number of features.
        features: names, in the order of the sequence; None means all features of the row.

    Raises:
        ValueError: for bounds that leave no length, or features named twice.

    Example:
        >>> Length("-", least=2, most=5).words()
        'a length from 2 to 5, then - alone'
    """

    pad: Category
    least: int = field(default=0, kw_only=True)
    most: int | None = field(default=None, kw_only=True)
    features: tuple[str, ...] | None = field(default=None, kw_only=True)

    def __init__(
        self,
        pad: Category,
        *,
        least: int = 0,
        most: int | None = None,
        features: Sequence[str] | None = None,
    ) -> None:
        if least < 0 or (most is not None and most < least):
            raise ValueError(f"Length: expected 0 <= least <= most, got {least} and {most}")
        object.__setattr__(self, "pad", one_or_more(pad, "Length")[0])
        object.__setattr__(self, "least", least)
        object.__setattr__(self, "most", most)
        object.__setattr__(self, "features", _names(features, "Length"))

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        places = _places(scope, self.features)
        pads = tuple(scope.code(place, self.pad) for place in places)
        most = len(places) if self.most is None else min(self.most, len(places))
        return (Ended(places, pads, self.least, most),)

    def words(self) -> str:
        """See `Rule`."""
        most = "on" if self.most is None else f"to {self.most}"
        return f"a length from {self.least} {most}, then {self.pad} alone"


@dataclass(frozen=True, init=False, repr=False)
class Contains(Rule):
    """A motif occurs somewhere in a sequence.

    Args:
        motif: its categories; a string is one category a character, and an entry of a list may be
            several categories of which each fits.
        features: names, in the order of the sequence; None means all features of the row.

    Raises:
        ValueError: for an empty motif, one of more than 60 positions, or features named twice.

    Example:
        >>> Contains(["A", ["C", "G"], "T"]).words()
        'A C|G T occurs'
    """

    motif: tuple[tuple[Category, ...], ...]
    features: tuple[str, ...] | None = field(default=None, kw_only=True)

    def __init__(self, motif: Sequence[Choice], *, features: Sequence[str] | None = None) -> None:
        object.__setattr__(self, "motif", _motif(motif, "Contains"))
        object.__setattr__(self, "features", _names(features, "Contains"))

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        return (_part(scope, self.motif, self.features, wanted=True),)

    def words(self) -> str:
        """See `Rule`."""
        return f"{_spelt(self.motif)} occurs"

    def __repr__(self) -> str:
        return _written(self, self.motif, self.features)


@dataclass(frozen=True, init=False, repr=False)
class Avoids(Rule):
    """A motif occurs nowhere in a sequence; see `Contains`.

    Example:
        >>> Avoids("ACGT").words()
        'A C G T does not occur'
    """

    motif: tuple[tuple[Category, ...], ...]
    features: tuple[str, ...] | None = field(default=None, kw_only=True)

    def __init__(self, motif: Sequence[Choice], *, features: Sequence[str] | None = None) -> None:
        object.__setattr__(self, "motif", _motif(motif, "Avoids"))
        object.__setattr__(self, "features", _names(features, "Avoids"))

    def _parts(self, scope: Scope) -> tuple[Part, ...]:
        """See `Rule`."""
        return (_part(scope, self.motif, self.features, wanted=False),)

    def words(self) -> str:
        """See `Rule`."""
        return f"{_spelt(self.motif)} does not occur"

    def __repr__(self) -> str:
        return _written(self, self.motif, self.features)


def _motif(motif: Sequence[Choice], what: str) -> tuple[tuple[Category, ...], ...]:
    positions = tuple(one_or_more(choice, what) for choice in motif)
    if not 1 <= len(positions) <= _LONGEST:
        got = len(positions)
        raise ValueError(f"{what}: expected a motif of 1 to {_LONGEST} positions, got {got}")
    return positions


def _spelt(motif: tuple[tuple[Category, ...], ...]) -> str:
    return " ".join("|".join(map(str, choice)) for choice in motif)


def _written(
    rule: Rule, motif: tuple[tuple[Category, ...], ...], features: tuple[str, ...] | None
) -> str:
    entries = [list(choice) if len(choice) > 1 else choice[0] for choice in motif]
    of = f", features={list(features)}" if features else ""
    return f"{type(rule).__name__}({entries!r}{of})"


def _part(
    scope: Scope,
    motif: tuple[tuple[Category, ...], ...],
    features: tuple[str, ...] | None,
    *,
    wanted: bool,
) -> Motif:
    places = _places(scope, features)
    return Motif(places, tuple(_fitting(scope, places, choice) for choice in motif), wanted)


def _fitting(
    scope: Scope, places: tuple[int, ...], choice: tuple[Category, ...]
) -> tuple[frozenset[int], ...]:
    """Codes of a choice in each feature of a sequence; not every feature has each category."""
    for category in choice:
        if not any(_has(scope, place, category) for place in places):
            scope.code(places[0], category)  # says what is wrong
    return tuple(
        frozenset(scope.code(place, one) for one in choice if _has(scope, place, one))
        for place in places
    )


def _has(scope: Scope, place: int, category: Category) -> bool:
    labels = scope.labels(place)
    return category in labels if isinstance(category, str) else 0 <= category < len(labels)
