"""Observations for the judge and for the generator's side."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting._coverage import Coverage
from discrete_grad.fitting.repeats import places_among_equals
from discrete_grad.grouping import row_groups
from discrete_grad.sampling import permutation, seeded
from discrete_grad.space import ContextSpec
from discrete_grad.training.checkpoint import RunError

__all__ = ["judge_split"]

_OFTEN = 4
_MIN_LEFT = 4


def judge_split(
    rows: ScoredRows,
    share: float,
    *,
    seed: int,
    spec: ContextSpec | None = None,
    mixed: bool = True,
) -> tuple[Tensor, Tensor]:
    """Indices of the observations for the generator's side and of those for the judge.

    No observation is on both sides. Of a row observed at least 4 times the judge gets the share of
    the observations, at least one: both sides know the row, each by observations of its own. Equal
    rows observed less often stay on one side, unless the other would then miss a category of a
    feature or of a categorical context column. Every category of at least 2 observations reaches
    the generator's side. It reaches the judge's side, too, unless that takes the last observation
    of a category or a row from the generator's side. The judge's share grows where that is needed.

    Args:
        rows: observations, at least 6.
        share: of them for the judge, in (0, 1), about.
        seed: decides which.
        spec: the context columns; without it, their categories are not looked at.
        mixed: False keeps all equal rows on one side, whatever is then missing from the other.

    Returns:
        Two tensors, which hold each of `0 ... N-1` once, in random order.

    Raises:
        RunError: if fewer than 4 are left beside the judge's.

    Example:
        >>> ads = torch.tensor([[0], [1]]).repeat(10, 1)
        >>> mine, judged = judge_split(ScoredRows(ads, torch.zeros(20)), 0.2, seed=0)
        >>> ads[judged].sort(0).values.flatten().tolist(), len(mine)
        ([0, 0, 1, 1], 16)
    """
    group = row_groups(rows.codes, *([] if rows.context is None else [rows.context]))
    often = (group.bincount() >= (_OFTEN if mixed else len(rows) + 1))[group]
    # observations of a frequent row are drawn one by one, those of another row together
    one_by_one = torch.where(often, torch.arange(len(rows)), -1)
    unit = row_groups(torch.stack([group, one_by_one], 1))
    turn = permutation(int(unit.max()) + 1, generator=seeded(seed))[unit]
    order = turn.argsort(stable=True)
    judged = _of_frequent(group[order], often[order], share)
    size = max(2 - int(judged.sum()), round(int((~often).sum()) * share))
    judged |= _of_rare(turn[order], often[order], size)
    if mixed:
        judged = _covered(rows, spec, torch.where(often, group, -1), order, judged)
    if len(rows) - int(judged.sum()) < _MIN_LEFT:
        raise RunError(
            f"the table repeats so few different rows ({int(group.max()) + 1}) that none are left "
            f"beside the judge's; lower judge_share from {share}"
        )
    return order[~judged], order[judged]


def _of_frequent(group: Tensor, often: Tensor, share: float) -> Tensor:
    """Whether each observation `(N,)` is among the first of its frequent row, bool."""
    count = group.bincount()
    # an ensemble needs two
    least = 2 if len(count) == 1 else 1
    wanted = torch.minimum((count * share).round().clamp_min(least), count - 1)
    return often & (places_among_equals(group) < wanted[group])


def _of_rare(turn: Tensor, often: Tensor, size: int) -> Tensor:
    """Whether each observation `(N,)` is among the first `size` of rare rows, or equal to one."""
    rare = turn[~often]
    size = min(size, len(rare))
    return ~often & (turn <= rare[size - 1]) if size > 0 else torch.zeros_like(often)


def _covered(
    rows: ScoredRows, spec: ContextSpec | None, frequent: Tensor, order: Tensor, judged: Tensor
) -> Tensor:
    """The same choice `(N,)` in the given order, changed so that both sides know the categories."""
    tables = [rows.codes, frequent.unsqueeze(1)]
    if rows.context is not None and spec is not None and spec.categorical is not None:
        tables.append(spec.codes(rows.context))
    coverage = Coverage([table[order] for table in tables], judged)
    if coverage.complete():
        return judged
    size = int(judged.sum())
    coverage.reach(False)
    coverage.reach(True)
    coverage.give_back(size)
    coverage.reach(True)
    return coverage.side
