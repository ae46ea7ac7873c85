"""Categories that stand together: pairs never seen, and columns that combine sparsely."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from discrete_grad.sampling import permutation, seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["SparsePair", "sparse_pairs", "unseen_pairs"]

_FALSE_ALARM = 0.01
_SHARE = 0.5  # of the expected pairs, of which a sparse one has no more
_FURTHER = 0.05  # of further rows that may have a pair not seen yet
_MOST_CELLS = 2**22  # of a table of two columns
_WORK = 2**29  # rows of all pairs of columns that are counted
_FEWEST = 1000


def unseen_pairs(
    space: CategoricalSpace, known: Tensor, codes: Tensor, *, own: bool = False
) -> Tensor:
    """Number `(n,)` of pairs of a row's categories that no known row has together.

    Args:
        space: the space.
        known: codes `(N, F)`.
        codes: `(n, F)`.
        own: whether the rows are among the known ones, so that another row must have the pair.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2, 2))
        >>> unseen_pairs(space, torch.tensor([[0, 0, 0], [1, 1, 0]]), torch.tensor([[0, 1, 0]]))
        tensor([1])
    """
    missing = torch.zeros(len(codes), dtype=torch.long)
    for i, j in combinations(range(space.num_features), 2):
        counts, keys = _counted(known[:, [i, j]], codes[:, [i, j]], space.sizes[j])
        missing += counts[keys] <= int(own)
    return missing


def _counted(known: Tensor, codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """How many known rows `(N, 2)` have a pair, and where each row `(n, 2)` finds its own."""
    both = torch.cat([codes, known]).long()
    keys = both[:, 0] * size + both[:, 1]
    if (most := int(keys.max())) < _MOST_CELLS:
        return torch.bincount(keys[len(codes) :], minlength=most + 1), keys[: len(codes)]
    place = keys.unique(return_inverse=True)[1]
    counts = torch.bincount(place[len(codes) :], minlength=int(place.max()) + 1)
    return counts, place[: len(codes)]


@dataclass(frozen=True)
class SparsePair:
    """Two columns of which far fewer pairs of categories occur than if they were independent.

    Example:
        >>> SparsePair((0, 1), seen=40, expected=310.0, further=0.002).seen
        40
    """

    columns: tuple[int, int]
    """Their places."""
    seen: int
    """Different pairs of categories that occur."""
    expected: float
    """Mean number that would, if the columns were independent."""
    further: float
    """Good and Turing's estimate of the share of further rows whose pair has not occurred yet: that
    of the rows whose pair occurs once."""


def sparse_pairs(codes: Tensor, sizes: Sequence[int], *, seed: int = 0) -> list[SparsePair]:
    r"""Pairs of columns that combine sparsely, the sparsest first.

    Let N rows have the categories a and b with frequencies p and q. Were the columns independent,
    the cell (a, b) would be occupied with probability `1 - (1 - p q)^N`, and E cells on average.
    The counts of a multinomial law are negatively associated, so that of V, the sum of the cells'
    variances, Bernstein's inequality bounds the probability of t cells fewer than that by
    `exp(-t^2 / (2 V + 2 t / 3))`. A pair of columns is sparse where at most half of E cells are
    occupied, the bound is below 0.01 divided by the number of pairs of columns (so that in a table
    of independent columns the probability of any alarm is below 1%, but for the frequencies, which
    are those of the sample), and at most 5% of further rows are estimated to have another pair.

    Args:
        codes: `(N, C)`; of many rows and columns a random sample of the rows is looked at.
        sizes: number of categories of each column.
        seed: of the sample.

    Reference:
        Joag-Dev and Proschan (1983), Negative association of random variables; Good (1953), The
        population frequencies of species.

    Example:
        >>> city = torch.arange(400) % 40
        >>> [pair.columns for pair in sparse_pairs(torch.stack([city, city % 8], 1), (40, 8))]
        [(0, 1)]
    """
    pairs = list(combinations(range(len(sizes)), 2))
    rows = max(_FEWEST, _WORK // max(1, len(pairs)))
    if len(codes) > rows:
        codes = codes[permutation(len(codes), generator=seeded(seed))[:rows]]
    found = list(_sparse(codes.long(), sizes, pairs))
    return sorted(found, key=lambda pair: pair.seen / pair.expected)


def _sparse(
    codes: Tensor, sizes: Sequence[int], pairs: Sequence[tuple[int, int]]
) -> Iterator[SparsePair]:
    limit = math.log(_FALSE_ALARM / max(1, len(pairs)))
    for i, j in pairs:
        if sizes[i] * sizes[j] > _MOST_CELLS:
            continue
        keys = codes[:, i] * sizes[j] + codes[:, j]
        counts = torch.bincount(keys, minlength=sizes[i] * sizes[j]).view(sizes[i], sizes[j])
        expected, variance = _independent(counts.double())
        seen, further = int((counts > 0).sum()), float((counts == 1).sum() / len(codes))
        fewer = expected - seen
        far = seen <= _SHARE * expected and further <= _FURTHER
        if far and -(fewer**2) / (2 * variance + 2 * fewer / 3) < limit:
            yield SparsePair((i, j), seen, expected, further)


def _independent(counts: Tensor) -> tuple[float, float]:
    """Mean number of occupied cells of independent columns, and the sum of their variances."""
    rows = counts.sum()
    p = counts.sum(1, keepdim=True) / rows * (counts.sum(0) / rows)
    # a column of one category has p = 1
    empty = (rows * torch.log1p(-p.clamp(max=1 - 1e-12))).exp()
    return float((1 - empty).sum()), float((empty * (1 - empty)).sum())
