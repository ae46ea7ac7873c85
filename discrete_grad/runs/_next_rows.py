"""The rows of the next round in one context: candidates by search, a batch of them by draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from discrete_grad import grouping
from discrete_grad.models import best_rows
from discrete_grad.models.row_pool import ByContext, row_keys
from discrete_grad.rules import Rules
from discrete_grad.runs._acquisition import Acquisition, batch_of
from discrete_grad.runs._belief import Belief
from discrete_grad.sampling import permutation, random_indices, seeded, uniform
from discrete_grad.space import CategoricalSpace

__all__ = ["Wanted", "different_rows", "first_rows", "next_rows"]

_CANDIDATES, _EVALUATIONS, _DRAWS = 1024, 2**16, 256
_CROSSED = 192
_HIGH = 2.0  # standard deviations above the mean by which candidates are sought
_LEAST_CHANCE = 1e-3
_TRIES = 20


@dataclass(frozen=True, eq=False)
class Wanted:
    """Conditions that the rows of a round fulfil.

    Args:
        space: the features.
        count: of rows, at most.
        known: `(n, F)`, rows measured, failed or out in the context, of which none is wanted.
        context: `(C,)`, or None.
        rules: that the rows obey, or None.
        rule_context: `(c,)`, what the rules read of the context, or None.
        near: whether rows `(n, F)` may be proposed at all, or None.
        explore: factor of the spread around the expected scores.
        how: see `batch_of`.
        seed: of the draws.
    """

    space: CategoricalSpace
    count: int
    known: Tensor
    context: Tensor | None = None
    rules: Rules | None = None
    rule_context: Tensor | None = None
    near: Callable[[Tensor], Tensor] | None = None
    explore: float = 1.0
    how: Acquisition = "improvement"
    seed: int = 0
    keys: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", row_keys(self.space, self.known))

    def barred(self, codes: Tensor, where: Tensor) -> Tensor:
        """Whether rows `(n, F)` are known, or may not be proposed."""
        known = torch.isin(row_keys(self.space, codes), self.keys)
        return known if self.near is None else known | ~self.near(codes)

    def in_context(self, codes: Tensor) -> Tensor | None:
        """The context for each of the rows, `(n, C)`."""
        return None if self.context is None else self.context.expand(len(codes), -1)


def first_rows(wanted: Wanted) -> Tensor:
    """Different rows `(n, F)` with every category of a feature about as often as the others.

    Under rules, draws of all rows that obey alike.
    """
    found = wanted.known[:0].long()
    for attempt in range(_TRIES):
        lacking = wanted.count - len(found)
        drawn = _drawn(wanted, max(lacking, 1), wanted.seed + attempt)
        new = drawn[~wanted.barred(drawn, drawn[:, 0])]
        found = different_rows(torch.cat([found, new]))[: wanted.count]
        if len(found) == wanted.count:
            return found
    # few are left: they are searched for
    plain = torch.zeros(1, wanted.space.width)
    more = _searched(wanted, plain, lambda codes, where: torch.zeros(len(codes)), found)
    return different_rows(torch.cat([found, more]))[: wanted.count]


@torch.no_grad()
def next_rows(
    wanted: Wanted,
    belief: Belief,
    *,
    logits: Tensor,
    elite: Tensor,
    best: float,
    chance: Belief | None = None,
) -> Tensor:
    """Different rows `(n, F)` of which the best may be much better than the best one known.

    Args:
        wanted: what they fulfil.
        belief: on the scores, rows that are out taken into account.
        logits: `(D,)`, by which the search is guided; a masked category is in no row.
        elite: `(n, F)`, the best rows known, which are recombined.
        best: expected score of the best row known.
        chance: on success, 1, and failure, 0, where rows have failed.
    """

    def promise(codes: Tensor, where: Tensor) -> Tensor:
        here = wanted.in_context(codes)
        high = belief.mean(codes, here) + _HIGH * wanted.explore * belief.std(codes, here)
        return high if chance is None else high + _chances(chance, codes, here).log()

    starts = torch.cat([elite, _crossed(elite, wanted.seed)])
    found = _searched(wanted, logits.unsqueeze(0), promise, starts)
    if len(found) <= wanted.count:
        return found
    here, draws = wanted.in_context(found), max(_DRAWS, wanted.count)
    noise = seeded(wanted.seed)
    spread = wanted.explore * belief.deviations(found, here, draws, noise)
    likely = None if chance is None else _chances(chance, found, here)
    place = batch_of(belief.mean(found, here) + spread, best, wanted.count, wanted.how, likely)
    return found[place]


def _searched(wanted: Wanted, logits: Tensor, promise: ByContext, starts: Tensor) -> Tensor:
    """Candidates `(n, F)`: every row that is allowed and new where there are few."""
    given = None if wanted.rule_context is None else wanted.rule_context.unsqueeze(0)
    codes, values = best_rows(
        wanted.space,
        logits,
        promise,
        max(_CANDIDATES, 2 * wanted.count),
        evaluations=_EVALUATIONS,
        barred=wanted.barred,
        starts=starts,
        rules=wanted.rules,
        rule_context=given,
        seed=wanted.seed,
    )
    return codes[0][values[0] > -torch.inf]


def _chances(chance: Belief, codes: Tensor, context: Tensor | None) -> Tensor:
    return chance.mean(codes, context).clamp(_LEAST_CHANCE, 1)


def _crossed(elite: Tensor, seed: int) -> Tensor:
    """Children `(n, F)` with each category of one of two good rows."""
    noise = seeded(seed)
    mother, father = random_indices(len(elite), (2, _CROSSED), generator=noise)
    own = uniform((_CROSSED, elite.shape[1]), generator=noise) < 0.5
    return torch.where(own, elite[mother], elite[father])


def _drawn(wanted: Wanted, count: int, seed: int) -> Tensor:
    noise = seeded(seed)
    if wanted.rules is not None:
        free = torch.zeros(wanted.space.width)
        return wanted.rules.condition(free, context=wanted.rule_context).sample(
            count, generator=noise
        )
    columns = [
        torch.arange(count).remainder(size)[permutation(count, generator=noise)]
        for size in wanted.space.sizes
    ]
    return torch.stack(columns, 1)


def different_rows(codes: Tensor) -> Tensor:
    """The rows without their repeats, in their order."""
    return codes[grouping.first_rows(grouping.row_groups(codes)).sort().values]
