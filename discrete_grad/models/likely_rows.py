"""The most likely rows of independent features, exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.space import CategoricalSpace

__all__ = ["most_likely_rows"]


@torch.no_grad()
def most_likely_rows(space: CategoricalSpace, logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Different rows of the highest probability, the most likely first.

    Exact, one feature after another: a row among the best so many is, up to any feature, one of
    the best so many beginnings. Takes `O(F count log count)` for each distribution.

    Args:
        space: the space.
        logits: `(..., D)`.
        count: rows wanted of each distribution, at least 1.

    Returns:
        Codes `(..., n, F)` and log-probabilities `(..., n)` in nats, float64, with n the smaller of
        `count` and the number of rows of the space; `-inf` for a row that holds a masked category.

    Raises:
        ValueError: for a count below 1, or logits that do not fit.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> logits = torch.tensor([0.5, 0.0, 0.0, 2.0, 1.9])
        >>> most_likely_rows(space, logits, 3)[0].tolist()
        [[0, 1], [0, 2], [1, 1]]
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    space.check_logits(logits)
    shape = logits.shape[:-1]
    log_p = space.log_softmax(logits).double().reshape(-1, space.width)
    total, steps = log_p.new_zeros(len(log_p), 1), []
    for block in space.split(log_p):
        total, before, category = _extended(total, block, count)
        steps.append((before, category))
    codes = _traced(steps, total.shape[1])
    return codes.view(*shape, *codes.shape[1:]), total.view(*shape, -1)


def _extended(total: Tensor, block: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best beginnings `(S, n)` longer by a feature `(S, K)`, where each comes from, its code.

    With both sides in order the pair (i, j) has `(i + 1) (j + 1)` pairs, itself among them, that
    are no worse: those beyond `count` need not be looked at.
    """
    value, category = block.topk(min(block.shape[1], count))
    i, j = _pairs(total.shape[1], value.shape[1], count, block.device)
    total, best = (total[:, i] + value[:, j]).topk(min(count, len(i)))
    return total, i[best], category.gather(1, j[best])


def _pairs(left: int, right: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places (i, j) below `left` and `right` with `(i + 1) (j + 1) <= count`."""
    j = torch.arange(right, device=device)
    many = (count // (j + 1)).clamp(max=left)
    j = j.repeat_interleave(many)
    first = (many.cumsum(0) - many).repeat_interleave(many)
    return torch.arange(len(j), device=device) - first, j


def _traced(steps: list[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """Codes `(S, n, F)` of the rows that the last step holds, read backwards."""
    last = steps[-1][0]
    codes, place = [], torch.arange(count, device=last.device).expand(len(last), -1)
    for before, category in reversed(steps):
        codes.append(category.gather(1, place))
        place = before.gather(1, place)
    return torch.stack(codes[::-1], -1)
