"""Hard pairs among observed rows: alike but for a feature or two, yet not in score; and reverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.evaluation.row_pairs import in_context
from discrete_grad.grouping import first_rows, row_groups
from discrete_grad.hamming import HammingIndex, context_groups
from discrete_grad.objectives.metric_learning import score_bins
from discrete_grad.sampling import permutation, random_indices
from discrete_grad.space import CategoricalSpace

__all__ = ["Mined", "mine_hard_pairs", "with_swaps"]

_DECILES = 10
_CANDIDATES = 1024  # far rows each anchor is compared with
_MANY = 2**40


@dataclass(frozen=True)
class Mined:
    """Anchors with hard negatives (similar, other behaviour) and hard positives (the reverse).

    Every decile of the scores that has an anchor has as many as any other: anchors of rare deciles
    are repeated. So are the positives and the negatives of an anchor with few of them.

    Args:
        rows: observed rows, then those with pseudo-labels.
        pseudo: bool `(N,)`, which rows have a score the estimator gave instead of an observed one.
        anchors: `(A,)` indices of observed rows.
        positives: `(A, P)`: at least half of the features differ, and the score hardly.
        negatives: `(A, K)`: one feature differs, or two, and the score much.

    Example:
        >>> rows = ScoredRows(torch.eye(3).long(), torch.zeros(3))
        >>> Mined(*mine_hard_pairs(rows).__dict__.values()).pseudo
        tensor([False, False, False])
    """

    rows: ScoredRows
    pseudo: Tensor
    anchors: Tensor
    positives: Tensor
    negatives: Tensor

    def __len__(self) -> int:
        """Number of anchors."""
        return len(self.anchors)


def mine_hard_pairs(
    rows: ScoredRows,
    *,
    pseudo: Tensor | None = None,
    positives: int = 4,
    negatives: int = 4,
    small: float = 0.2,
    large: float = 0.5,
    most: int = 4096,
    generator: torch.Generator | None = None,
) -> Mined:
    """Find hard negatives and hard positives of observed rows, in the same context.

    A difference in score is the root mean square over the scores of `rows.behaviour`, or absolute
    where there is one score; the scores are scaled, so its unit is about a standard deviation. The
    negatives of an anchor are the rows one feature apart that differ by `large` at least, the most
    different first, then those two features apart. Its positives are the rows at least half the
    features apart that differ by `small` at most, the least different first, among 1,024 random
    rows of its context. Anchors without both are left out.

    Takes O(N F^2 log N) and O(F) for every pair of an anchor and a row one or two features apart;
    see `HammingIndex`.

    Args:
        rows: scored rows.
        pseudo: bool `(N,)`, which rows have pseudo-labels, as `with_swaps` gives it: these are
            never anchors. By default none has.
        positives: P, at least 1.
        negatives: K, at least 1.
        small: greatest difference of positives.
        large: least difference of negatives, above `small`.
        most: anchors looked at; random ones where there are more, as many of each decile.
        generator: source of the choice of anchors and of the rows they are compared with.

    Returns:
        The anchors, perhaps none.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> codes = torch.tensor([[0, 0, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]])
        >>> rows = ScoredRows(codes, torch.tensor([0.0, 1.0, 1.0, 0.0]))
        >>> mined = mine_hard_pairs(rows, positives=1, negatives=1)
        >>> first = mined.anchors.argsort()
        >>> mined.anchors[first].unique().tolist(), mined.negatives[mined.anchors == 0][0].tolist()
        ([0, 1, 2, 3], [1])
    """
    if min(positives, negatives, most) < 1 or not 0 <= small < large:
        raise ValueError(
            "positives, negatives and most must be at least 1 and 0 <= small < large, got "
            f"{positives}, {negatives}, {most}, {small} and {large}"
        )
    pseudo = torch.zeros(len(rows), dtype=torch.bool) if pseudo is None else pseudo
    decile = _deciles(rows.scores, pseudo)
    anchors = _balanced(decile, generator)[:most]
    index = HammingIndex(rows.codes, rows.context)
    near = _hard_negatives(index, rows, anchors, large=large, most=negatives)
    far = _hard_positives(index, rows, anchors, small=small, most=positives, generator=generator)
    both = ((near >= 0).any(1) & (far >= 0).any(1)).nonzero()[:, 0]
    chosen = both[_repeated(decile[anchors[both]])]
    return Mined(rows, pseudo, anchors[chosen], _filled(far[chosen]), _filled(near[chosen]))


def with_swaps(
    rows: ScoredRows,
    space: CategoricalSpace,
    scorer: Callable[[Tensor, Tensor | None], Tensor],
    count: int,
    *,
    generator: torch.Generator | None = None,
) -> tuple[ScoredRows, Tensor]:
    """Observed rows followed by single swaps of them, with pseudo-labels.

    Args:
        rows: observed rows of the space.
        space: the features.
        scorer: gives codes `(n, F)` and contexts scores `(n,)`, or `(n, S)` where `rows.behaviour`
            has S.
        count: swaps drawn; those that are observed in their context, or drawn twice, are dropped.
        generator: source of the swaps.

    Returns:
        The rows, and bool `(N,)`, which of them have pseudo-labels.

    Raises:
        ValueError: for scores of another shape than the observed ones.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> rows = ScoredRows(torch.tensor([[0, 0]]), torch.tensor([0.5]))
        >>> more, pseudo = with_swaps(rows, space, lambda codes, _: codes.sum(-1).float(), 99)
        >>> len(more), pseudo.tolist()
        (4, [False, True, True, True])
    """
    swapped = _swaps(rows, space, count, generator)
    with torch.no_grad():
        given = scorer(swapped.codes, swapped.context)
    wanted = rows.scores if rows.behaviour is None else rows.behaviour
    if given.shape != (len(swapped), *wanted.shape[1:]):
        raise ValueError(
            f"the observed rows have scores {tuple(wanted.shape)}, the scorer gave "
            f"{tuple(given.shape)} for {len(swapped)} rows: pseudo-labels need as many scores"
        )
    behaviour = None if rows.behaviour is None else torch.cat([rows.behaviour, given])
    context = swapped.context
    if rows.context is not None and context is not None:
        context = torch.cat([rows.context, context])
    scores = torch.cat([rows.scores, given if behaviour is None else given[:, 0]])
    joined = ScoredRows(torch.cat([rows.codes, swapped.codes]), scores, context, behaviour)
    return joined, torch.arange(len(joined)) >= len(rows)


def _swaps(
    rows: ScoredRows, space: CategoricalSpace, count: int, generator: torch.Generator | None
) -> ScoredRows:
    """Rows with another category in one feature, none observed and none twice."""
    free = torch.tensor([i for i, size in enumerate(space.sizes) if size > 1], dtype=torch.long)
    # remainders of one draw serve ranges of any length n, uniform to within n / 2^40
    drawn = random_indices(_MANY, (3, count if len(free) else 0), generator=generator)
    row, feature = drawn[0] % len(rows), free[drawn[1] % max(1, len(free))]
    swapped, size = rows.take(row), torch.tensor(space.sizes)[feature]
    place = torch.arange(len(row))
    codes = swapped.codes.clone()
    # 1 to size - 1 steps on: never the own category
    codes[place, feature] = (codes[place, feature] + 1 + drawn[2] % (size - 1)) % size
    group = context_groups(rows.context, len(rows))
    both = torch.cat([rows.codes.long(), codes]), torch.cat([group, group[row]]).unsqueeze(1)
    same = row_groups(*both)
    new = first_rows(same)[same[len(rows) :]] == torch.arange(len(rows), len(same))
    return ScoredRows(codes, swapped.scores, swapped.context, swapped.behaviour).take(
        new.nonzero()[:, 0]
    )


def _deciles(scores: Tensor, pseudo: Tensor) -> Tensor:
    """The decile `(N,)`, 0 to 9, of each observed score, equal ones in the same; -1 for others."""
    decile = torch.full((len(scores),), -1)
    decile[~pseudo] = score_bins(scores[~pseudo], _DECILES)
    return decile


def _balanced(decile: Tensor, generator: torch.Generator | None) -> Tensor:
    """Indices of the rows of a decile, in random order, a row of each decile in turn."""
    mixed = permutation(len(decile), generator=generator)
    mixed = mixed[decile[mixed] >= 0]
    mixed = mixed[decile[mixed].argsort(stable=True)]
    return mixed[_turn(decile[mixed]).argsort(stable=True)]


def _turn(ordered: Tensor) -> Tensor:
    """Place of each of the sorted numbers `(N,)` among its equals."""
    return torch.arange(len(ordered)) - torch.searchsorted(ordered, ordered)


def _repeated(decile: Tensor) -> Tensor:
    """Places in `(A,)` such that every decile there is comes up equally often."""
    groups = [(decile == value).nonzero()[:, 0] for value in decile.unique()]
    most = max(map(len, groups), default=0)
    return torch.cat([g[torch.arange(most) % len(g)] for g in groups] or [decile.new_zeros(0)])


def _hard_negatives(
    index: HammingIndex, rows: ScoredRows, anchors: Tensor, *, large: float, most: int
) -> Tensor:
    """`(A, most)` rows, -1 where there is none."""
    found = torch.zeros(0, 2, dtype=torch.long)
    steps = found[:, 0]
    for step in range(1, min(2, rows.codes.shape[1]) + 1):
        pairs = index.neighbours(anchors, step)
        pairs = pairs[difference(rows, pairs[:, 0], pairs[:, 1]) >= large]
        found, steps = torch.cat([found, pairs]), torch.cat([steps, pairs[:, 0] * 0 + step])
    by_difference = (-difference(rows, *found.unbind(1))).argsort(stable=True)
    order = by_difference[steps[by_difference].argsort(stable=True)]
    return _first(found[order], anchors, len(rows), most)


def _hard_positives(
    index: HammingIndex,
    rows: ScoredRows,
    anchors: Tensor,
    *,
    small: float,
    most: int,
    generator: torch.Generator | None,
) -> Tensor:
    """`(A, most)` rows, -1 where there is none."""
    place, other = in_context(index.group, anchors, _CANDIDATES, generator)
    row = anchors[place]
    difference_ = difference(rows, row, other)
    close = (difference_ <= small).nonzero()[:, 0]
    apart = 2 * (rows.codes[row[close]] != rows.codes[other[close]]).sum(1)
    kept = close[(apart >= rows.codes.shape[1]) & (row[close] != other[close])]
    kept = kept[difference_[kept].argsort(stable=True)]
    return _first(torch.stack([row[kept], other[kept]], 1), anchors, len(rows), most)


def difference(rows: ScoredRows, a: Tensor, b: Tensor) -> Tensor:
    """Root mean square difference `(P,)` in the scores of rows `(P,)` and `(P,)`.

    Example:
        >>> several = torch.tensor([[0, 0], [3, 4]])
        >>> rows = ScoredRows(torch.zeros(2, 1), torch.zeros(2), behaviour=several)
        >>> difference(rows, torch.tensor([0]), torch.tensor([1])).square()
        tensor([12.5000])
    """
    values = rows.all_scores
    return (values[a] - values[b]).float().square().mean(-1).sqrt()


def _first(pairs: Tensor, anchors: Tensor, count: int, most: int) -> Tensor:
    """The first `most` partners of each anchor in pairs `(P, 2)`, `(A, most)`, then -1."""
    places = torch.empty(count, dtype=torch.long)
    places[anchors] = torch.arange(len(anchors))
    place = places[pairs[:, 0]]
    order = place.argsort(stable=True)
    place, other = place[order], pairs[order, 1]
    column = _turn(place)
    kept = column < most
    table = torch.full((len(anchors), most), -1)
    table[place[kept], column[kept]] = other[kept]
    return table


def _filled(table: Tensor) -> Tensor:
    """Rows `(A, n)` whose known numbers stand first, these repeated over the places of -1."""
    known = (table >= 0).sum(1, keepdim=True)
    return table.gather(1, torch.arange(table.shape[1]) % known.clamp_min(1))
