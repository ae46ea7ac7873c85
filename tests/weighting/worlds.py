"""Small worlds whose every row can be looked at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.sampling import uniform
from discrete_grad.weighting import RewardWeighted
from discrete_grad.weighting.draws import inverse_draw

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
ORDER = (2, 0, 1)


class _Read(NamedTuple):
    """The features read of each row, and the number of its table `(..., 1)`."""

    prefix: Tensor
    context: Tensor


class TableReference:
    """A joint table `(R, tables)`; a context `(*batch, 1)` is the number of a table."""

    def __init__(
        self, space: CategoricalSpace, table: Tensor, order: tuple[int, ...] | None = None
    ) -> None:
        self.space, self.table = space, table.double().log_softmax(0)
        self.order = tuple(range(space.num_features)) if order is None else order

    def _tables(self, context: Tensor | None) -> Tensor:
        """`(R, *batch)`."""
        return self.table[:, _number(context)]

    def log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        return self.table[self.space.row_number(codes), _number(context)]

    def sample(self, context=None, count=1, *, generator=None) -> Tensor:
        table = self._tables(context)
        noise = uniform((count, *table.shape[1:]), generator=generator)
        return self.space.enumerate()[inverse_draw(table, noise)]

    def begin(self, context=None, *, attributes=None, known=None, batch) -> _Read:
        number = _number(context).expand(batch)
        return _Read(torch.zeros(*batch, 0, dtype=torch.long), number.unsqueeze(-1))

    def advance(self, state: _Read, previous: Tensor | None) -> tuple[Tensor, _Read]:
        if previous is not None:
            prefix = torch.cat([state.prefix, previous.unsqueeze(-1)], -1)
            state = _Read(prefix, state.context)
        return self._following(*state), state

    def select(self, state: _Read, rows: Tensor) -> _Read:
        return _Read(*(part.flatten(0, -2)[rows] for part in state))

    def _following(self, prefix_codes: Tensor, context: Tensor) -> Tensor:
        rows, t = self.space.enumerate(), prefix_codes.shape[-1]
        known = rows[:, list(self.order[:t])]
        fits = (known == prefix_codes.unsqueeze(-2)).all(-1)  # (..., B, R)
        table = self._tables(context).movedim(0, -1)
        joint = torch.where(fits, table, -torch.inf)
        feature = rows[:, self.order[t]]
        size = self.space.sizes[self.order[t]]
        parts = [joint.masked_fill(feature != k, -torch.inf).logsumexp(-1) for k in range(size)]
        log_p = torch.stack(parts, -1)
        # a prefix that is never drawn: anything
        return log_p.masked_fill((log_p == -torch.inf).all(-1, keepdim=True), 0).log_softmax(-1)


def _number(context: Tensor | None) -> Tensor:
    return torch.zeros((), dtype=torch.long) if context is None else context[..., 0].long()


def numbers(shape, seed: int, *, masked: bool = False, step: float = 0.5) -> Tensor:
    """Multiples of a half between -3 and 3, so that ties are common; some `-inf` with `masked`."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-6, 7, shape, generator=generator).double() * step
    if masked:
        drop = torch.rand(shape, generator=generator) < 0.3
        drop[0] = False
        values = values.masked_fill(drop, -torch.inf)
    return values


def table_reward(space: CategoricalSpace, table: Tensor):
    """Reward of codes from a table `(R, tables)`; contexts as in `TableReference`."""

    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        return table[space.row_number(codes), _number(context)]

    return reward


def world(
    seed: int,
    *,
    space: CategoricalSpace = SPACE,
    tables: int = 2,
    masked: bool = False,
    beta: float | Tensor = 0.8,
    order: tuple[int, ...] | None = ORDER,
) -> RewardWeighted:
    """A reference that is not factorised, and a reward without structure."""
    shape = (space.num_rows, tables)
    reference = TableReference(space, numbers(shape, seed, masked=masked), order)
    reward = table_reward(space, numbers(shape, seed + 1, masked=masked))
    return RewardWeighted(reference, reward, beta)


def context(*tables: int) -> Tensor:
    """A batch of table numbers, `(B, 1)`."""
    return torch.tensor(tables).double().unsqueeze(-1)
