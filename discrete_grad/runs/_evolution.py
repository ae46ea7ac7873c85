"""Rows of a round without any model: the best ones measured, with some features drawn anew."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.runs._choosing import Measured
from discrete_grad.runs._next_rows import Wanted, different_rows, first_rows
from discrete_grad.sampling import random_indices, seeded, uniform

__all__ = ["evolved"]

_PARENTS = 100
_TRIES = 20


def evolved(wanted: Wanted, measured: Measured) -> Tensor:
    """Different unknown rows `(n, F)`, children of the 100 best, of equal ones the last.

    Each of the F features of a child is drawn anew with probability 1 / F: two at once pass what no
    single one improves. Where the parents have too few children left, more are.

    Args:
        wanted: what the rows fulfil.
        measured: in the context of `wanted`.
    """
    done = measured.part(measured.scores.isfinite())
    if not len(done):
        return first_rows(wanted)
    backwards = len(done) - 1 - done.scores.flip(0).argsort(descending=True, stable=True)
    parents, found = done.codes[backwards[:_PARENTS]], wanted.known[:0].long()
    for attempt in range(_TRIES):
        children = _children(wanted, parents, swaps=1 + attempt // 4, seed=wanted.seed + attempt)
        new = children[~wanted.barred(children, children[:, 0]) & _obey(wanted, children)]
        found = different_rows(torch.cat([found, new]))[: wanted.count]
        if len(found) == wanted.count:
            return found
    return different_rows(torch.cat([found, first_rows(wanted)]))[: wanted.count]


def _children(wanted: Wanted, parents: Tensor, *, swaps: int, seed: int) -> Tensor:
    """As many rows `(n, F)` as are wanted."""
    noise, count = seeded(seed), wanted.count
    rows = parents[random_indices(len(parents), (count,), generator=noise)]
    anew = uniform(tuple(rows.shape), generator=noise) * rows.shape[1] < swaps
    sizes = torch.tensor(wanted.space.sizes)
    drawn = (uniform(tuple(rows.shape), generator=noise) * sizes).long()
    return torch.where(anew, drawn, rows)


def _obey(wanted: Wanted, codes: Tensor) -> Tensor:
    if wanted.rules is None:
        return torch.ones(len(codes), dtype=torch.bool)
    return wanted.rules.allows(codes, context=wanted.rule_context)
