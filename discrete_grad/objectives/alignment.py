"""Pull generated rows towards rows that are known to be good."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.objectives._shapes import check_same_shape

__all__ = ["alignment_loss"]


def alignment_loss(cosine: Tensor, advantage: Tensor) -> Tensor:
    """`1 - cosine` to a good row of the same context, weighted by how much better that row is.

    Args:
        cosine: `(N,)` in [-1, 1] between each generated row and its good row.
        advantage: `(N,)` score of the good row minus that of the generated one, any unit; a good
            row that is no better has no pull.

    Returns:
        Weighted mean in [0, 2]; 0 if no good row is better.

    Example:
        >>> alignment_loss(torch.tensor([0.5, -1.0]), torch.tensor([2.0, -3.0]))
        tensor(0.5000)
    """
    check_same_shape(cosine=cosine, advantage=advantage)
    weight = advantage.detach().clamp_min(0)
    # no good row is better: 0 / tiny instead of 0 / 0
    total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    return ((1 - cosine) * weight).sum() / total
