"""Pairs of held-out rows: random ones, those one feature apart, those far apart."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.hamming import HammingIndex
from discrete_grad.sampling import permutation, random_indices

__all__ = ["PAIR_KINDS", "in_context", "pairs_of_kind"]

PAIR_KINDS = ("random", "hamming 1", "far")
_SPARE = 8  # drawn for each pair wanted: others repeat themselves or are not far enough
_MANY = 2**40


def pairs_of_kind(
    kind: str,
    index: HammingIndex,
    rows: Tensor,
    most: int,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and others of the same context that form pairs of a kind with them.

    Args:
        kind: `random`: any other row; `hamming 1`: differs in one feature; `far`: in half of the
            features at least.
        index: of all rows.
        rows: `(A,)` indices, each once.
        most: others of a row, at most; random ones where there are more.
        generator: source of the choice.

    Returns:
        `(B,)` those of the rows that have a pair, `(B, most)` others, and bool `(B, most)`, which
        of these exist.

    Raises:
        ValueError: for another kind.

    Example:
        >>> index = HammingIndex(torch.tensor([[0, 0], [0, 1], [1, 0], [5, 5]]))
        >>> rows, others, known = pairs_of_kind("hamming 1", index, torch.tensor([0, 3]), 2)
        >>> rows.tolist(), others.sort().values.tolist(), known.tolist()
        ([0], [[1, 2]], [[True, True]])
    """
    if kind not in PAIR_KINDS:
        raise ValueError(f"kind must be one of {PAIR_KINDS}, got {kind!r}")
    if kind == "hamming 1":
        found = index.neighbours(rows, 1)
        places = torch.empty(len(index.codes), dtype=torch.long)
        places[rows] = torch.arange(len(rows))
        place, other = places[found[:, 0]], found[:, 1]
    else:
        place, other = in_context(index.group, rows, _SPARE * most, generator)
        apart = (index.codes[rows[place]] != index.codes[other]).sum(1)
        right = (other != rows[place]) & (2 * apart >= index.codes.shape[1] * (kind == "far"))
        place, other = place[right], other[right]
    return _padded(rows, place, other, most, generator)


def in_context(
    group: Tensor, rows: Tensor, count: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Places `(P,)` in the rows and different rows `(P,)` of their contexts: all, or drawn ones."""
    order = group.argsort(stable=True)
    sizes = group.bincount()
    start, size = (sizes.cumsum(0) - sizes)[group[rows]], sizes[group[rows]]
    drawn = random_indices(_MANY, (len(rows), count), generator=generator) % size.unsqueeze(1)
    every = torch.arange(count).expand(len(rows), -1)
    few = (size <= count).unsqueeze(1)
    offset = torch.where(few, every, drawn)
    place, column = (~few | (every < size.unsqueeze(1))).nonzero(as_tuple=True)
    other = order[start[place] + offset[place, column]]
    pair = (place * len(group) + other).unique()
    return pair // len(group), pair % len(group)


def _padded(
    rows: Tensor, place: Tensor, other: Tensor, most: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """At most `most` random others of each place, beside one another; rows without any go."""
    mixed = permutation(len(place), generator=generator)
    mixed = mixed[place[mixed].argsort(stable=True)]
    place, other = place[mixed], other[mixed]
    count = place.bincount(minlength=len(rows))
    column = torch.arange(len(place)) - (count.cumsum(0) - count)[place]
    kept = column < most
    others = torch.full((len(rows), most), -1)
    others[place[kept], column[kept]] = other[kept]
    some = count > 0
    return rows[some], others[some].clamp_min(0), others[some] >= 0
