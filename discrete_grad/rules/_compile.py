"""From statements to one automaton."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from discrete_grad.rules._automaton import Automaton
from discrete_grad.rules._order import orders
from discrete_grad.rules._parts import Combinations, Counted, Part
from discrete_grad.rules._pieces import (
    Frame,
    Piece,
    TooManyStatesError,
    complement,
    product,
    stretched,
)

__all__ = ["Numbered", "TooLargeError", "compiled", "without"]


@dataclass(frozen=True)
class Numbered:
    """A statement, and the number of the rule it comes from."""

    rule: int
    part: Part


class TooLargeError(Exception):
    """More states than the limit, `states`, from the rules of numbers `rules`."""

    def __init__(self, states: int, rules: frozenset[int]) -> None:
        super().__init__(states, rules)
        self.states, self.rules = states, rules


def compiled(
    sizes: tuple[int, ...],
    numbered: Sequence[Numbered],
    max_states: int,
    *,
    order: tuple[int, ...] | None = None,
) -> Automaton | None:
    """The smallest automaton found, or None if no row is allowed.

    Args:
        sizes: of the features.
        numbered: the statements.
        max_states: limit to the states behind a layer.
        order: in which the features are read; None leaves it open.

    Raises:
        OppositeError: for sequences that no order follows, or not the one given.
        TooLargeError: if it has more than `max_states` states behind a layer in every order tried.
    """
    fault: TooLargeError | None = None
    found: list[Automaton] = []
    for one in orders(len(sizes), [n.part for n in numbered], order):
        try:
            automaton = _in_order(sizes, one, numbered, max_states)
        except TooLargeError as error:
            fault = fault or error
            continue
        if automaton is None:
            return None
        found.append(automaton)
    if not found and fault is not None:
        raise fault
    return min(found, key=lambda automaton: sum(automaton.states))


def without(
    sizes: tuple[int, ...],
    numbered: Sequence[Numbered],
    others: Sequence[Numbered],
    max_states: int,
) -> Automaton | None:
    """The rows that some statements allow and others forbid; None if there is none.

    Raises:
        TooLargeError: as `compiled`.
        OppositeError: for sequences that run in opposite directions.
    """
    # one order for both
    order = orders(len(sizes), [n.part for n in (*numbered, *others)])[-1]
    mine, theirs = (_in_order(sizes, order, some, max_states) for some in (numbered, others))
    # rules that were compiled allow a row
    assert mine is not None
    assert theirs is not None
    frame = _frame(sizes, order, [], max_states)
    left = product(frame, Piece(0, mine.tables), complement(Piece(0, theirs.tables)))
    return None if left.empty else Automaton(sizes, order, left.tables)


def _in_order(
    sizes: tuple[int, ...], order: tuple[int, ...], numbered: Sequence[Numbered], max_states: int
) -> Automaton | None:
    single = [n for n in numbered if _is_mask(n.part)]
    frame = _frame(sizes, order, [n.part for n in single], max_states)
    if not all(some.any() for some in frame.allowed):
        return None
    made = [_made(frame, n) for n in numbered if not _is_mask(n.part)]
    whole = _joined(frame, made) if made else None
    if whole is not None and whole.piece.empty:
        return None
    tables = stretched(frame, whole.piece if whole is not None else None)
    most = max(len(table) for table in tables)
    if most > max_states and whole is not None:
        raise TooLargeError(most, whole.rules)
    return Automaton(sizes, order, tables)


def _is_mask(part: Part) -> bool:
    """Whether a part only says which categories of one feature may occur."""
    return isinstance(part, Counted | Combinations) and len(part.features) == 1


def _frame(
    sizes: tuple[int, ...], order: tuple[int, ...], single: Sequence[Part], max_states: int
) -> Frame:
    """The layers, without the categories that parts of one feature forbid."""
    allowed = [np.ones(size, dtype=np.bool_) for size in sizes]
    free = Frame(order, tuple(allowed), max_states)
    for part in single:
        (feature,) = part.features
        allowed[feature] = allowed[feature] & (part.piece(free).tables[0][0] == 0)
    return Frame(order, tuple(allowed), max_states)


@dataclass(frozen=True)
class _Made:
    """A piece, and the rules it comes from."""

    piece: Piece
    rules: frozenset[int]


def _made(frame: Frame, numbered: Numbered) -> _Made:
    rules = frozenset([numbered.rule])
    try:
        return _Made(numbered.part.piece(frame), rules)
    except TooManyStatesError as error:
        raise TooLargeError(error.states, rules) from None


def _joined(frame: Frame, made: Sequence[_Made]) -> _Made:
    """All pieces together: neighbours first, in rounds, so that local rules cost little."""
    join = functools.partial(_join, frame)
    # pieces of most of the layers come last: they would meet every other one
    wide = [m for m in made if 2 * len(m.piece.tables) > len(frame.order)]
    local = [m for m in made if 2 * len(m.piece.tables) <= len(frame.order)]
    local = sorted(local, key=lambda m: (m.piece.first, m.piece.end))
    while len(local) > 1:
        pairs = [local[i : i + 2] for i in range(0, len(local), 2)]
        local = [functools.reduce(join, pair) for pair in pairs]
    return functools.reduce(join, [*local, *sorted(wide, key=lambda m: m.piece.work)])


def _join(frame: Frame, a: _Made, b: _Made) -> _Made:
    rules = a.rules | b.rules
    try:
        return _Made(product(frame, a.piece, b.piece), rules)
    except TooManyStatesError as error:
        raise TooLargeError(error.states, rules) from None
