"""Rows of a round without any model: the best ones measured, changed and recombined."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from discrete_grad.models.sequence import letters_of
from discrete_grad.runs._choosing import Measured
from discrete_grad.runs._next_rows import Wanted, different_rows, first_rows
from discrete_grad.sampling import random_indices, seeded, uniform
from discrete_grad.space import CategoricalSpace

__all__ = ["evolved"]

_PARENTS, _NEWEST = 100, 400
_MORE, _MOST_MOVES = 0.7, 12  # probability of a further move of a child
_SETTLED = 0.1  # how often a feature is drawn anew that all parents agree on
_STRANGE = 0.1  # probability of a pair of letters that stood together in no row that succeeded
_TRIES, _CAUTIOUS = 20, 15


def evolved(wanted: Wanted, measured: Measured) -> Tensor:
    """Different unknown rows `(n, F)`, children of the 100 best.

    Of equally good rows those are parents that differ most. A child makes a few moves: a feature is
    drawn anew, one on which the parents differ more often than others, or something of another
    parent is taken over. That is a run of letters, put at any place, if the features are the places
    of a sequence, and some of the features otherwise. If some rows of a sequence failed, few
    children have letters side by side that stood so in no row that succeeded.

    Args:
        wanted: what the rows fulfil.
        measured: in the context of `wanted`.
    """
    done = measured.part(measured.scores.isfinite())
    if not len(done):
        return first_rows(wanted)
    letters = letters_of(wanted.space)
    sequence = None if letters is None else _Sequence(wanted.space, letters)
    strange = None
    if sequence is not None and len(done) < len(measured):
        strange = partial(sequence.strange, beside=sequence.side_by_side(done.codes))
    parents, found = _parents(done), wanted.known[:0].long()
    for attempt in range(_TRIES):
        noise = seeded(wanted.seed + attempt)
        children = _children(wanted, parents, sequence, noise)
        if strange is not None and attempt < _CAUTIOUS:
            chance = _STRANGE ** strange(children)
            children = children[uniform((len(children),), generator=noise) < chance]
        new = children[~wanted.barred(children, children[:, 0]) & _obey(wanted, children)]
        found = different_rows(torch.cat([found, new]))[: wanted.count]
        if len(found) == wanted.count:
            return found
    return different_rows(torch.cat([found, first_rows(wanted)]))[: wanted.count]


def _parents(done: Measured) -> Tensor:
    """The best rows `(P, F)`; of equal ones the newest are looked at, and the most different taken.

    One lineage would otherwise take all places, and what it lacks no recombination could bring.
    """
    order = len(done) - 1 - done.scores.flip(0).argsort(descending=True, stable=True)
    codes, scores = done.codes[order[:_NEWEST]], done.scores[order[:_NEWEST]]
    if len(codes) <= _PARENTS:
        return codes
    last = scores[_PARENTS - 1]
    better = codes[scores > last]
    return torch.cat([better, _most_different(codes[scores == last], _PARENTS - len(better))])


def _most_different(codes: Tensor, count: int) -> Tensor:
    """The first row, and then each time the one that differs most from all taken before."""
    taken, distance = [0], (codes != codes[0]).sum(1)
    while len(taken) < count:
        taken.append(int(distance.argmax()))
        distance = torch.minimum(distance, (codes != codes[taken[-1]]).sum(1))
    return codes[taken]


def _children(
    wanted: Wanted, parents: Tensor, sequence: _Sequence | None, noise: torch.Generator
) -> Tensor:
    """As many rows `(n, F)` as are wanted."""
    space, count = wanted.space, wanted.count
    sizes = torch.tensor(space.sizes)
    shares = space.blocks(space.one_hot(parents).mean(0))
    agreed = space.join_columns([share.amax(-1) for share in shares])
    until = (1 + _SETTLED - agreed).cumsum(0)
    until = until / until[-1]
    take: Callable[[Tensor, Tensor, torch.Generator], Tensor] = _with_some
    others = parents
    if sequence is not None:
        take, others = sequence.with_run, sequence.of(parents)
    rows = parents[random_indices(len(parents), (count,), generator=noise)]
    moving = torch.ones(count, 1, dtype=torch.bool)
    for _ in range(_MOST_MOVES):
        place = torch.searchsorted(until, uniform((count, 1), generator=noise))
        drawn = (uniform((count, 1), generator=noise) * sizes[place]).long()
        anew = rows.scatter(1, place, drawn)
        other = random_indices(len(parents), (count,), generator=noise)
        mixed = take(rows, others[other], noise)
        moved = torch.where(uniform((count, 1), generator=noise) < 0.5, anew, mixed)
        rows = torch.where(moving, moved, rows)
        moving = moving & (uniform((count, 1), generator=noise) < _MORE)
    return rows


def _with_some(codes: Tensor, others: Tensor, noise: torch.Generator) -> Tensor:
    """Codes `(n, F)` with any share of the features of other rows `(n, F)`."""
    share = uniform((len(codes), 1), generator=noise)
    return torch.where(uniform(tuple(codes.shape), generator=noise) < share, others, codes)


def _obey(wanted: Wanted, codes: Tensor) -> Tensor:
    if wanted.rules is None:
        return torch.ones(len(codes), dtype=torch.bool)
    return wanted.rules.allows(codes, context=wanted.rule_context)


class _Sequence:
    """Rows whose features are the places of a sequence, as letters.

    Args:
        space: the features.
        letters: `D` numbers of letters, see `letters_of`.
    """

    def __init__(self, space: CategoricalSpace, letters: tuple[int, ...]) -> None:
        self.space, self.letter = space, torch.tensor(letters)
        self.places = torch.arange(space.num_features)
        # the code of each letter at each place, -1 where the place has no such letter
        self.code = torch.full((space.num_features, max(letters) + 1), -1)
        for place, own in enumerate(space.split(self.letter)):
            self.code[place, own] = torch.arange(len(own))

    def of(self, codes: Tensor) -> Tensor:
        """Letters `(n, F)` of codes `(n, F)`."""
        return self.letter[self.space.columns(codes)]

    def with_run(self, codes: Tensor, letters: Tensor, noise: torch.Generator) -> Tensor:
        """Codes `(n, F)` with a run of the letters `(n, F)` of other rows, shifted by any number.

        A place that has no such letter keeps its own.
        """
        count, features = codes.shape
        ends = random_indices(features, (2, count, 1), generator=noise)
        shift = random_indices(2 * features - 1, (count, 1), generator=noise) - (features - 1)
        source = self.places - shift
        within = (self.places >= ends.amin(0)) & (self.places <= ends.amax(0))
        within = within & (source >= 0) & (source < features)
        taken = self.code[self.places, letters.gather(1, source.clamp(0, features - 1))]
        return torch.where(within & (taken >= 0), taken, codes)

    def side_by_side(self, codes: Tensor) -> Tensor:
        """Whether letters `(L, L)` stand side by side in any row of codes `(n, F)`."""
        found = torch.zeros(self.code.shape[1], self.code.shape[1], dtype=torch.bool)
        letters = self.of(codes)
        found[letters[:, :-1], letters[:, 1:]] = True
        return found

    def strange(self, codes: Tensor, beside: Tensor) -> Tensor:
        """Number `(n,)` of pairs of letters side by side that `beside` does not have."""
        letters = self.of(codes)
        return (~beside[letters[:, :-1], letters[:, 1:]]).sum(1)
