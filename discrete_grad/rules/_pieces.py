"""Layered automata as tables: built, joined, turned round and made minimal.

A piece reads the features of some neighbouring layers. `tables[i][s, k]` is the state behind layer
`first + i` after category k in state s, or `DEAD`. Before its first layer and behind its last one
there is a single state, 0; a piece says nothing about other layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DEAD",
    "Frame",
    "Ints",
    "Piece",
    "TooManyStatesError",
    "complement",
    "explore",
    "minimal",
    "product",
    "restricted",
    "stretched",
]

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Step = Callable[[Ints], Ints]

DEAD = -1
_SPARE = 8  # states before merging, for each one that may be left


class TooManyStatesError(Exception):
    """More states than the limit: `states` of them behind `layer`."""

    def __init__(self, states: int, layer: int) -> None:
        super().__init__(states, layer)
        self.states, self.layer = states, layer


@dataclass(frozen=True, eq=False)
class Piece:
    """Tables of neighbouring layers, the first of them at `first`."""

    first: int
    tables: tuple[Ints, ...]

    @property
    def end(self) -> int:
        """The layer behind the last one."""
        return self.first + len(self.tables)

    @property
    def empty(self) -> bool:
        """Whether no row is allowed, for a minimal piece."""
        return bool((self.tables[0] == DEAD).all())

    @property
    def work(self) -> int:
        """Number of entries of all tables."""
        return sum(table.size for table in self.tables)


@dataclass(frozen=True, eq=False)
class Frame:
    """Layers that pieces are built on.

    Args:
        order: the feature of each layer.
        allowed: categories of each feature, in the features' own order, that may occur at all.
        max_states: limit to the states behind a layer.
    """

    order: tuple[int, ...]
    allowed: tuple[Mask, ...]
    max_states: int

    def span(self, features: Sequence[int]) -> range:
        """Layers from the first to the last of some features."""
        some = set(features)
        places = [layer for layer, feature in enumerate(self.order) if feature in some]
        return range(places[0], places[-1] + 1)

    def check(self, states: int, layer: int) -> None:
        """Raise for more states than there may be before merging."""
        if states > _SPARE * self.max_states:
            raise TooManyStatesError(states, layer)


def explore(frame: Frame, span: range, steps: Sequence[Step | None], accept: Step) -> Piece:
    """The minimal piece of a machine whose states are numbers from 0 on, which is also its start.

    Args:
        frame: the layers.
        span: those that the machine reads.
        steps: of each layer; states `(S,)` to the states `(S, K)` they become, or `DEAD`; None for
            a feature that the machine ignores.
        accept: the last states `(S,)` to 0, or `DEAD`.
    """
    states, tables = np.zeros(1, np.int64), []
    for layer, step in zip(span, steps, strict=True):
        allowed = frame.allowed[frame.order[layer]]
        if step is None:
            reached = np.repeat(states[:, None], len(allowed), 1)
        else:
            reached = step(states)
        reached = np.where(allowed, reached, DEAD)
        table, states = _numbered(accept(reached) if layer == span[-1] else reached)
        frame.check(len(states), layer)
        tables.append(table)
    return minimal(Piece(span[0], tuple(tables)))


def _numbered(reached: Ints) -> tuple[Ints, Ints]:
    """A table of new states `(S, K)`, and what the new states were called."""
    called, table = np.unique(reached, return_inverse=True)
    dead = int(len(called) > 0 and called[0] == DEAD)
    return table.reshape(reached.shape) - dead, called[dead:]


def product(frame: Frame, a: Piece, b: Piece) -> Piece:
    """The minimal piece of the rows that both allow."""
    if a.first > b.first:
        a, b = b, a
    first, end = a.first, max(a.end, b.end)
    tables, pairs = [], np.zeros((1, 2), np.int64)
    for layer in range(first, end):
        size = len(frame.allowed[frame.order[layer]])
        ours, theirs = _read(a, layer, pairs[:, 0], size), _read(b, layer, pairs[:, 1], size)
        alive = (ours != DEAD) & (theirs != DEAD)
        wide = int(theirs.max(initial=0)) + 1
        table, key = _numbered(np.where(alive, ours * wide + theirs, DEAD))
        frame.check(len(key), layer)
        pairs = np.stack([key // wide, key % wide], 1)
        tables.append(table)
    return minimal(Piece(first, tuple(tables)))


def _read(piece: Piece, layer: int, states: Ints, size: int) -> Ints:
    """States `(S, K)` behind a layer; a layer that the piece does not read changes nothing."""
    if piece.first <= layer < piece.end:
        return piece.tables[layer - piece.first][states]
    return np.repeat(states[:, None], size, 1)


def complement(piece: Piece) -> Piece:
    """The minimal piece of the rows that a piece forbids."""
    tables, last = [], len(piece.tables) - 1
    for i, table in enumerate(piece.tables):
        if i == last:
            turned = np.where(table == DEAD, 0, DEAD)
            sink = 0
        else:
            sink = len(piece.tables[i + 1])
            turned = np.where(table == DEAD, sink, table)
        if i:  # the state of all rows that are forbidden already
            turned = np.concatenate([turned, np.full((1, table.shape[1]), sink)])
        tables.append(turned)
    return minimal(_reached(Piece(piece.first, tuple(tables))))


def restricted(frame: Frame, piece: Piece) -> Piece:
    """The piece without the categories that may not occur."""
    features = frame.order[piece.first : piece.end]
    pairs = zip(features, piece.tables, strict=True)
    tables = [np.where(frame.allowed[feature], table, DEAD) for feature, table in pairs]
    return minimal(_reached(Piece(piece.first, tuple(tables))))


def _reached(piece: Piece) -> Piece:
    """The piece without the states that no row comes to."""
    states, tables = np.zeros(1, np.int64), []
    for table in piece.tables:
        kept, states = _numbered(table[states])
        tables.append(kept)
    return Piece(piece.first, tuple(tables))


def minimal(piece: Piece) -> Piece:
    """The piece with states that allow the same rest merged, and dead ones left out."""
    tables, kept = [], np.zeros(1, np.int64)  # the single state at the end
    for table in reversed(piece.tables):
        # an entry behind the last names the dead state, which DEAD = -1 reads
        moved = np.append(kept, DEAD)[table]
        rows, merged = np.unique(moved, axis=0, return_inverse=True)
        # DEAD is the smallest: a row of it alone comes first
        dead = int(len(rows) > 0 and (rows[0] == DEAD).all())
        tables.append(rows[dead:])
        kept = merged.reshape(-1) - dead
    if not len(tables[-1]):  # no row is allowed
        return Piece(piece.first, tuple(np.full((1, t.shape[1]), DEAD) for t in piece.tables))
    return Piece(piece.first, tuple(reversed(tables)))


def stretched(frame: Frame, piece: Piece | None) -> tuple[Ints, ...]:
    """Tables of all layers; those that the piece does not read let every category pass."""
    free = [
        np.where(frame.allowed[feature], 0, DEAD)[None].astype(np.int64) for feature in frame.order
    ]
    if piece is None:
        return tuple(free)
    return (*free[: piece.first], *piece.tables, *free[piece.end :])
