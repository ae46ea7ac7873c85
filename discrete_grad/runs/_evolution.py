"""Rows of a round without any model: the best ones measured, with a feature drawn anew."""

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

    A child differs from its parent in one feature, and in more of them where the parents have too
    few children left that may be proposed.

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
    sizes = torch.tensor(wanted.space.sizes)
    for _ in range(swaps):
        place = random_indices(len(sizes), (count, 1), generator=noise)
        category = (uniform((count, 1), generator=noise) * sizes[place]).long()
        rows = rows.scatter(1, place, category)
    return rows


def _obey(wanted: Wanted, codes: Tensor) -> Tensor:
    if wanted.rules is None:
        return torch.ones(len(codes), dtype=torch.bool)
    return wanted.rules.allows(codes, context=wanted.rule_context)
