"""A projection of a frozen estimator's latents that says whether two rows behave alike."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.models.estimator import BaseEstimator
from discrete_grad.models.own import as_estimator
from discrete_grad.models.protocol import RowModel, ask, dtype_of, require
from discrete_grad.nn.context import mlp
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["Aligner"]


class Aligner(nn.Module):
    """Projects rows so that the cosine of two projections says whether they behave alike.

    The estimator is frozen here (`requires_grad_(False)`, and it stays in evaluation mode);
    gradients still flow through it to the rows.

    Args:
        estimator: gives the latents; frozen in place. One's own needs `to_latent(row, context)`.
        projection_dim: length of the projection.
        space: the features; needed if the estimator is one's own and has no `space`.
        context: the context columns; needed if one's own takes a context.

    Raises:
        TypeError: for an estimator without `to_latent`, or one without a space.

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

    def __init__(
        self,
        estimator: RowModel,
        projection_dim: int = 32,
        *,
        space: CategoricalSpace | None = None,
        context: ContextSpec | None = None,
    ) -> None:
        super().__init__()
        require("an Aligner", estimator, "to_latent")
        self.estimator = as_estimator("an Aligner", estimator, space, context)
        self.estimator.requires_grad_(False).eval()
        # the latent's length is learnt from one row rather than asked of the estimator
        latent = _some_latent(self.estimator)
        self.trunk = mlp(latent.shape[-1], (64,))
        self.head = nn.Linear(64, projection_dim)

    @property
    def space(self) -> CategoricalSpace:
        """The features."""
        return self.estimator.space

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


def _some_latent(estimator: BaseEstimator) -> Tensor:
    """The latent `(1, L)` of the first row, in a context of zeros."""
    state = next(chain(estimator.parameters(), estimator.buffers()), torch.empty(0))
    space, spec = estimator.space, estimator.context_spec
    codes = torch.zeros(1, space.num_features, dtype=torch.long, device=state.device)
    row = space.one_hot(codes, dtype=dtype_of(estimator))
    with torch.no_grad():
        return estimator.to_latent(row, row.new_zeros(1, spec.width) if spec else None)


def projection(
    aligner: Any, row: Tensor, context: Tensor | None, *, space: CategoricalSpace
) -> Tensor:
    """Projection `(..., P)` of a row by an aligner, or by `project(row, context)` of one's own."""
    if isinstance(aligner, Aligner):
        return aligner.project(row, context)
    return ask(aligner.project, space, (row,), context, like=aligner, width="P")


def likeness(
    aligner: nn.Module,
    row_a: Tensor,
    row_b: Tensor,
    context: Tensor | None,
    *,
    space: CategoricalSpace,
) -> Tensor:
    """Likeness `(...)` of two rows by an aligner, or by one's own module of two rows.

    One's own is called with flat rows `(N, D)`, again `(N, D)`, and a context `(N, C)` if there is
    one.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> rows = space.enumerate()
        >>> likeness(nn.CosineSimilarity(), rows, rows[:1], None, space=space)[:2]
        tensor([1.0000, 0.5000])
    """
    if isinstance(aligner, Aligner):
        return aligner(row_a, row_b, context)
    return ask(aligner, space, (row_a, row_b), context)
