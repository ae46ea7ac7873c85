"""A projection of a frozen estimator's latents that says whether two rows behave alike."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.models.estimator import BaseEstimator
from discrete_grad.nn.context import mlp

__all__ = ["Aligner"]


class Aligner(nn.Module):
    """Projects rows so that the cosine of two projections says whether they behave alike.

    The estimator is frozen here (`requires_grad_(False)`, and it stays in evaluation mode);
    gradients still flow through it to the rows.

    Args:
        estimator: gives the latents; frozen in place.
        projection_dim: length of the projection.

    Example:
        >>> import torch
        >>> from discrete_grad.models.estimator import Estimator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> aligner = Aligner(Estimator(space))
        >>> rows = space.enumerate()
        >>> torch.allclose(aligner(rows, rows), torch.ones(6))
        True
    """

    def __init__(self, estimator: BaseEstimator, projection_dim: int = 32) -> None:
        super().__init__()
        self.estimator = estimator.requires_grad_(False).eval()
        # the latent's length is learnt from one row rather than asked of the estimator
        state = chain(estimator.parameters(), estimator.buffers())
        row = next(filter(torch.is_floating_point, state)).new_zeros(1, estimator.space.width)
        spec = estimator.context_spec
        latent = estimator.to_latent(row, row.new_zeros(1, spec.width) if spec else None)
        self.trunk = mlp(latent.shape[-1], (64,))
        self.head = nn.Linear(64, projection_dim)

    def train(self, mode: bool = True) -> Aligner:
        """Training mode for the projection; the estimator stays in evaluation mode."""
        super().train(mode)
        self.estimator.eval()
        return self

    def project(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Projection `(..., projection_dim)` of length 1."""
        latent = self.estimator.to_latent(row, context)
        return F.normalize(self.head(self.trunk(latent)), dim=-1)

    def forward(self, row_a: Tensor, row_b: Tensor, context: Tensor | None = None) -> Tensor:
        """Cosine `(...)` in [-1, 1] of two rows, both in the same context."""
        return (self.project(row_a, context) * self.project(row_b, context)).sum(-1)

    if TYPE_CHECKING:  # as in `Relaxation`
        __call__ = forward
