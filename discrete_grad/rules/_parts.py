"""Statements that rules are made of; each becomes a piece of an automaton."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from discrete_grad.rules._pieces import (
    DEAD,
    Frame,
    Ints,
    Piece,
    complement,
    explore,
    product,
    restricted,
)

__all__ = ["Combinations", "Counted", "Ended", "Motif", "Part", "Whenever"]

_SAFE = 2**62  # state of a row that nothing can spoil any more


class Part(ABC):
    """A statement about some features."""

    features: tuple[int, ...]

    @property
    def sequences(self) -> tuple[tuple[int, ...], ...]:
        """Features that must be read in a certain order."""
        return ()

    @abstractmethod
    def piece(self, frame: Frame) -> Piece:
        """The automaton of the rows for which it holds."""


@dataclass(frozen=True)
class Counted(Part):
    """The weights of a row's categories sum to a number from `low` to `high`.

    Args:
        features: each with
        weights: one integer for each of its categories;
        low: or None, for no limit;
        high: or None.
    """

    features: tuple[int, ...]
    weights: tuple[tuple[int, ...], ...]
    low: int | None
    high: int | None

    def piece(self, frame: Frame) -> Piece:
        """See `Part`."""
        span = frame.span(self.features)
        # counted from the least on, no number is negative
        least = sum(map(min, self.weights))
        columns = [np.array(some, dtype=np.int64) for some in self.weights]
        parts = dict(zip(self.features, [c - c.min() for c in columns], strict=True))
        most = sum(int(part.max()) for part in parts.values())
        low = 0 if self.low is None else max(self.low - least, 0)
        high = most if self.high is None else self.high - least
        steps, rest = [], most
        for layer in span:
            part = parts.get(frame.order[layer])
            rest -= 0 if part is None else int(part.max())
            steps.append(None if part is None else functools.partial(_add, part, low, high, rest))
        return explore(frame, span, steps, lambda states: np.where(states == DEAD, DEAD, 0))


def _add(weights: Ints, low: int, high: int, rest: int, states: Ints) -> Ints:
    """Sums after one feature more; `rest` is the most that the features to come can add."""
    safe = (states == _SAFE)[:, None]
    total = np.where(safe, 0, states[:, None]) + weights
    settled = (total >= low) & (total + rest <= high)
    dead = (total > high) | (total + rest < low)
    return np.where(safe | settled, _SAFE, np.where(dead, DEAD, total))


@dataclass(frozen=True)
class Combinations(Part):
    """The features' categories are one of the rows of codes."""

    features: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]

    def piece(self, frame: Frame) -> Piece:
        """See `Part`."""
        span = frame.span(self.features)
        columns = np.array(self.rows, dtype=np.int64)
        steps: list[functools.partial[Ints] | None] = []
        before = np.zeros(len(columns), np.int64)  # number of each row's beginning
        for layer in span:
            feature = frame.order[layer]
            if feature not in self.features:
                steps.append(None)
                continue
            codes = columns[:, self.features.index(feature)]
            size = len(frame.allowed[feature])
            _, after = np.unique(before * size + codes, return_inverse=True)
            # one entry for each different beginning
            _, place = np.unique(after, return_index=True)
            table = np.full((int(before.max()) + 1, size), DEAD)
            table[before[place], codes[place]] = after[place]
            steps.append(functools.partial(_look_up, table))
            before = after
        return explore(frame, span, steps, lambda states: np.where(states == DEAD, DEAD, 0))


def _look_up(table: Ints, states: Ints) -> Ints:
    return table[states]


@dataclass(frozen=True)
class Ended(Part):
    """The features are a sequence of `least` to `most` categories, followed by pads alone."""

    features: tuple[int, ...]
    pads: tuple[int, ...]  # code of the pad in each feature
    least: int
    most: int

    @property
    def sequences(self) -> tuple[tuple[int, ...], ...]:
        """See `Part`."""
        return (self.features,)

    def piece(self, frame: Frame) -> Piece:
        """See `Part`; state 0 is within the sequence, 1 behind it."""
        span = frame.span(self.features)
        steps: list[functools.partial[Ints] | None] = [None] * len(span)
        for number, (feature, pad) in enumerate(zip(self.features, self.pads, strict=True)):
            table = np.full((2, len(frame.allowed[feature])), DEAD)
            table[0] = 0 if number < self.most else DEAD
            table[0, pad] = 1 if number >= self.least else DEAD
            table[1, pad] = 1
            steps[frame.order.index(feature) - span[0]] = functools.partial(_look_up, table)
        # a sequence without pads has as many categories as there are features
        whole = 0 if len(self.features) >= self.least else DEAD
        end = np.array([whole, 0, DEAD])
        return explore(frame, span, steps, functools.partial(_look_up, end))


@dataclass(frozen=True)
class Motif(Part):
    """Somewhere in the sequence of features a motif begins, or nowhere.

    Args:
        features: in order.
        motif: codes that fit each position of the motif, for each feature of the sequence:
            `motif[j][i]` those of position j at feature i.
        wanted: whether the motif must occur; else it must not.
    """

    features: tuple[int, ...]
    motif: tuple[tuple[frozenset[int], ...], ...]
    wanted: bool

    @property
    def sequences(self) -> tuple[tuple[int, ...], ...]:
        """See `Part`."""
        return (self.features,)

    def piece(self, frame: Frame) -> Piece:
        """See `Part`."""
        span = frame.span(self.features)
        steps: list[functools.partial[Ints] | None] = [None] * len(span)
        for i, feature in enumerate(self.features):
            size = len(frame.allowed[feature])
            # bit j: the category fits position j
            fits = [sum((k in p[i]) << j for j, p in enumerate(self.motif)) for k in range(size)]
            step = functools.partial(_follow, np.array(fits), len(self.motif))
            steps[frame.order.index(feature) - span[0]] = step
        found = 0 if self.wanted else DEAD
        other = DEAD if self.wanted else 0
        return explore(
            frame,
            span,
            steps,
            lambda states: np.where(states == DEAD, DEAD, np.where(states == _SAFE, found, other)),
        )


def _follow(fits: Ints, length: int, states: Ints) -> Ints:
    """Beginnings of the motif that the row ends with, a bit for each length, one feature on."""
    safe = (states == _SAFE)[:, None]
    # a beginning of length j becomes one of length j + 1; the empty one is always there
    begun = (np.where(safe, 0, states[:, None]) << 1 | 1) & fits
    return np.where(safe | ((begun >> (length - 1)) & 1).astype(bool), _SAFE, begun)


@dataclass(frozen=True)
class Whenever(Part):
    """Where all conditions hold, the consequences hold, too."""

    conditions: tuple[Part, ...]
    consequences: tuple[Part, ...]

    @property
    def features(self) -> tuple[int, ...]:  # type: ignore[override]
        """Those of all parts."""
        parts = (*self.conditions, *self.consequences)
        return tuple(dict.fromkeys(f for part in parts for f in part.features))

    @property
    def sequences(self) -> tuple[tuple[int, ...], ...]:
        """See `Part`."""
        return tuple(some for part in self.consequences for some in part.sequences)

    def piece(self, frame: Frame) -> Piece:
        """See `Part`: no row for which the conditions hold and a consequence does not."""
        # a category that may not occur would be one that breaks the consequence
        free = replace(frame, allowed=tuple(np.ones_like(some) for some in frame.allowed))
        where = [part.piece(free) for part in self.conditions]
        join = functools.partial(product, free)
        bad = [
            functools.reduce(join, [*where, complement(part.piece(free))])
            for part in self.consequences
        ]
        return restricted(frame, functools.reduce(join, map(complement, bad)))


def features_of(parts: Sequence[Part]) -> tuple[int, ...]:
    """The different features of some parts, in order."""
    return tuple(sorted({feature for part in parts for feature in part.features}))
