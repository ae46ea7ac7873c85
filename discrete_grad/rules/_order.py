"""An order of the features in which an automaton stays small."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from discrete_grad.rules._parts import Part

__all__ = ["OppositeError", "orders"]


class OppositeError(Exception):
    """Sequences that no order of the features follows."""


def orders(
    count: int, parts: Sequence[Part], given: tuple[int, ...] | None = None
) -> list[tuple[int, ...]]:
    """Orders of so many features worth trying: their own, and one with each part close together.

    A given order is the only one.

    An automaton remembers, between two layers, all that it must know of every part that has begun
    and not ended. Sequences are read in their own order.

    Raises:
        OppositeError: for sequences of which one reads before what another reads after.
    """
    sequences = [some for part in parts for some in part.sequences]
    if given is not None:
        if any(
            given.index(a) > given.index(b) for s in sequences for a, b in itertools.pairwise(s)
        ):
            raise OppositeError
        return [given]
    own = _close(count, [], sequences)
    # parts of most of the features are open all the time, whatever the order
    near = [set(part.features) for part in parts if 2 <= len(part.features) <= max(2, count // 2)]
    if not near:
        return [own]
    close = _close(count, near, sequences)
    return [own] if close == own else [own, close]


def _close(
    count: int, near: Sequence[set[int]], sequences: Sequence[tuple[int, ...]]
) -> tuple[int, ...]:
    """Order in which, step by step, the feature comes that leaves the fewest parts open."""
    left = [set(some) for some in near]
    touching: list[list[int]] = [[] for _ in range(count)]
    for number, some in enumerate(near):
        for feature in some:
            touching[feature].append(number)
    earlier = _earlier(count, sequences)
    order: list[int] = []
    begun: set[int] = set()
    waiting = set(range(count))
    while waiting:
        ready = {f for f in waiting if not earlier[f] & waiting}
        if not ready:
            raise OppositeError
        wanted = {f for number in begun for f in left[number]} & ready
        best = min(wanted or {min(ready)}, key=lambda f: (_opened(f, touching, left, begun), f))
        order.append(best)
        waiting.remove(best)
        for number in touching[best]:
            left[number].discard(best)
        begun = {n for n in begun.union(touching[best]) if left[n]}
    return tuple(order)


def _opened(feature: int, touching: list[list[int]], left: list[set[int]], begun: set[int]) -> int:
    """Parts that a feature opens, less those that it ends."""
    return sum((number not in begun) - (left[number] == {feature}) for number in touching[feature])


def _earlier(count: int, sequences: Sequence[tuple[int, ...]]) -> list[set[int]]:
    """For each feature those that must be read before it."""
    earlier: list[set[int]] = [set() for _ in range(count)]
    for some in sequences:
        for before, after in itertools.pairwise(some):
            earlier[after].add(before)
    return earlier
