"""Goodness of fit of a sample to a law."""

import torch
from torch import Tensor

from discrete_grad.space import CategoricalSpace

__all__ = ["g_test", "joint_counts", "joint_law"]


def g_test(counts: Tensor, probabilities: Tensor) -> float:
    """p-value of the likelihood-ratio test that `counts` `(n,)` come from `probabilities` `(n,)`.

    Cells expected fewer than 10 times are pooled, where the law of the statistic is not yet chi2.

    Example:
        >>> g_test(torch.tensor([500, 500]), torch.tensor([0.5, 0.5]))
        1.0
    """
    counts, expected = counts.double(), probabilities.double() * counts.sum()
    if ((expected == 0) & (counts > 0)).any():
        return 0.0
    small = expected < 10
    counts = torch.cat([counts[~small], counts[small].sum().view(1)])
    expected = torch.cat([expected[~small], expected[small].sum().view(1)])
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic = 2 * torch.special.xlogy(counts, counts / expected).sum()
    freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    # the statistic of a perfect fit may round to just below 0
    tail = torch.special.gammaincc(freedom, statistic.clamp_min(0) / 2)
    # a single cell holds all counts whatever the law
    return 1.0 if not freedom else tail.item()


def joint_law(space: CategoricalSpace, logits: Tensor) -> Tensor:
    """Probability `(num_rows,)` of every row under logits `(D,)`, in float64."""
    return space.log_prob(logits.detach().double(), space.enumerate()).exp()


def joint_counts(space: CategoricalSpace, codes: Tensor) -> Tensor:
    """Counts `(num_rows,)` of each row of the space in codes `(n, F)`."""
    return space.row_number(codes).bincount(minlength=space.num_rows)
