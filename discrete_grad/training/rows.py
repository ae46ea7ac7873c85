"""Scored rows, as the fits take them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from discrete_grad.grouping import row_groups
from discrete_grad.sampling import permutation, seeded
from discrete_grad.training.checkpoint import RunError

__all__ = ["Rows"]

_MIN_LEFT = 4


@dataclass(frozen=True)
class Rows:
    """Observed rows.

    Args:
        codes: `(N, F)`, integers of any type; those of a table are of the narrowest.
        scores: `(N,)`, scaled to about mean 0 and variance 1.
        context: `(N, C)`, or None.
        behaviour: `(N, S)`, all scores of a table that has several, each scaled as `scores`, which
            is the first of them; None where there is one.

    Example:
        >>> import torch
        >>> rows = Rows(torch.zeros(5, 2, dtype=torch.long), torch.zeros(5))
        >>> len(rows), len(rows.take(torch.tensor([0, 3])))
        (5, 2)
    """

    codes: Tensor
    scores: Tensor
    context: Tensor | None = None
    behaviour: Tensor | None = None

    def __len__(self) -> int:
        """N, or the leading dimension."""
        return len(self.codes)

    @property
    def all_scores(self) -> Tensor:
        """`(N, S)`: the behaviour, or the one score where there is one."""
        return self.scores.unsqueeze(-1) if self.behaviour is None else self.behaviour

    def split(self, *, seed: int, most: int | None = None) -> tuple[Rows, Rows]:
        """Rows to learn from and rows held out: a random fifth, at least 2 and at most `most`."""
        learned, held_out = self.split_places(seed=seed, most=most)
        return self.part(learned), self.part(held_out)

    def split_places(self, *, seed: int, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Indices of what `split` gives."""
        order = permutation(len(self), generator=seeded(seed))
        size = min(max(2, round(len(self) / 5)), most or len(self))
        return order[size:], order[:size]

    def for_judge(self, share: float, *, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of the rows for the generator's side and of those for the judge.

        Equal rows stay together, or the judge would have seen what it is to judge.

        Raises:
            RunError: if there are too few different rows for that.
        """
        context = [] if self.context is None else [self.context]
        group = row_groups(self.codes, *context)
        groups = int(group.max()) + 1
        turn = permutation(groups, generator=seeded(seed))[group]
        order = turn.argsort(stable=True)
        judged = turn[order] <= turn[order[max(2, round(len(self) * share)) - 1]]
        if len(self) - int(judged.sum()) < _MIN_LEFT:
            raise RunError(
                f"the table repeats so few different rows ({groups}) that none are left beside the "
                f"judge's; lower judge_share from {share}"
            )
        return order[~judged], order[judged]

    def take(self, indices: Tensor) -> Rows:
        """A batch: rows at indices of any shape, which becomes the leading one; codes as int64."""
        rows = self.part(indices)
        return replace(rows, codes=rows.codes.long())

    def part(self, indices: Tensor) -> Rows:
        """Many rows, at indices `(M,)`, their codes as narrow as they are here."""
        context = None if self.context is None else self.context[indices]
        behaviour = None if self.behaviour is None else self.behaviour[indices]
        return Rows(self.codes[indices], self.scores[indices], context, behaviour)
