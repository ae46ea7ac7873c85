"""An estimator whose value at a soft row is the exact expectation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discrete_grad.models.estimator import BaseEstimator
from discrete_grad.nn import SoftEmbedding
from discrete_grad.nn.context import ContextReading
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["MultilinearEstimator"]


class MultilinearEstimator(BaseEstimator):
    """Low-rank multilinear score `w . prod_i (x_i A_i) + sum_i x_i . b_i`, w given by the context.

    Linear in each feature's block, so for independent features the value at a soft row of
    probabilities is the expected score, and the straight-through gradient is unbiased: no gradient
    estimator is needed.

    Args:
        space: the features of a row.
        context: the context columns; None for an estimator of rows alone.
        rank: number of products.

    Reference:
        Canonical polyadic form of a tensor (Hitchcock 1927).

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> estimator = MultilinearEstimator(space).double()
        >>> logits = torch.randn(5, dtype=torch.float64)
        >>> rows = space.enumerate()
        >>> exact = (space.log_prob(logits, rows).exp() * estimator(rows)).sum()
        >>> torch.allclose(exact, estimator(space.softmax(logits)))
        True
    """

    def __init__(
        self, space: CategoricalSpace, *, context: ContextSpec | None = None, rank: int = 32
    ) -> None:
        super().__init__(space, context)
        self.factors = SoftEmbedding(space, rank)
        self.effects = SoftEmbedding(space, 1)
        self.reading = ContextReading(context)
        self.mixer = nn.Linear(self.reading.width or 1, rank)
        self.offset = nn.Linear(self.reading.width or 1, 1)
        with torch.no_grad():
            # factors near 1, so that a product of many neither vanishes nor explodes
            self.factors.weight.mul_(0.3).add_(1.0)
            self.effects.weight.mul_(0.1)
            self.mixer.weight.div_(rank)
            self.mixer.bias.normal_().div_(rank)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """The products `prod_i (x_i A_i)`, `(..., rank)`."""
        embedded: Tensor = self.factors(row)
        return embedded.prod(-2)

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Score `(...)`; see `BaseEstimator.forward`."""
        latent = self.to_latent(row, context)
        # beside nothing: the context alone, in the row's leading shape
        condition = self.reading.beside(latent[..., :0], context)
        if self.context_spec is None:
            # an input of 0: without a context the two layers are their biases
            condition = torch.zeros_like(latent[..., :1])
        effects = self.effects(row).sum((-2, -1)) + self.offset(condition).squeeze(-1)
        score: Tensor = (latent * self.mixer(condition)).sum(-1) + effects
        return score
