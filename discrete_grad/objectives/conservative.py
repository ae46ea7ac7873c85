"""Keep an estimator from promising much for rows that nobody has seen."""

from __future__ import annotations

from torch import Tensor

__all__ = ["conservative_penalty"]


def conservative_penalty(sought: Tensor, observed: Tensor) -> Tensor:
    """Mean score of rows that an optimiser would seek minus that of observed rows.

    Added to the squared error with a weight alpha, it pushes the former down and the latter up.

    Args:
        sought: `(..., N)` scores of rows that raise the estimate, such as swapped or generated
            ones.
        observed: `(..., N')` scores of rows of the table.

    Returns:
        `mean(sought) - mean(observed)` `(...)`, in units of the score.

    Reference:
        Trabucco, Kumar, Geng, Levine (2021), conservative objective models, arXiv 2107.06882,
        equation 2.

    Example:
        >>> import torch
        >>> conservative_penalty(torch.tensor([3.0, 1.0]), torch.tensor([0.5]))
        tensor(1.5000)
    """
    return sought.mean(-1) - observed.mean(-1)
