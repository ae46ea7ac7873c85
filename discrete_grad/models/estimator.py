"""The model that predicts the score of a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from discrete_grad.nn import SoftEmbedding
from discrete_grad.nn.context import ContextReading, mlp
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["BaseEstimator", "Estimator"]


class BaseEstimator(nn.Module, ABC):
    """Anything that scores rows of a space, given a context if it was made with one.

    Example:
        >>> isinstance(Estimator(CategoricalSpace.from_sizes((2, 3))), BaseEstimator)
        True
    """

    takes_codes = True

    def __init__(self, space: CategoricalSpace, context: ContextSpec | None) -> None:
        super().__init__()
        self.space = space
        self.context_spec = context

    @abstractmethod
    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Latent vector `(..., L)` of a row."""

    @abstractmethod
    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Score `(...)` of codes `(..., F)` or a flat row `(..., D)`.

        Args:
            row: codes or flat; leading dimensions may be more than the context's.
            context: `(..., C)`, broadcast against the row; None without a context spec.
        """

    if TYPE_CHECKING:  # as in `Relaxation`
        __call__ = forward


class Estimator(BaseEstimator):
    """Embeddings -> MLP -> score.

    Args:
        space: the features of a row.
        context: the context columns; None for an estimator of rows alone.
        dim: length of a feature's embedding.
        hidden: widths of the hidden layers, at least one; the last is the latent's length.
        dropout: probability in [0, 1) after each hidden layer.

    Example:
        >>> space = CategoricalSpace({"cut": 3, "colour": 7})
        >>> estimator = Estimator(space)
        >>> codes = torch.tensor([[2, 6], [0, 1]])
        >>> estimator(codes).shape, estimator.to_latent(space.one_hot(codes)).shape
        (torch.Size([2]), torch.Size([2, 128]))
    """

    def __init__(
        self,
        space: CategoricalSpace,
        *,
        context: ContextSpec | None = None,
        dim: int = 16,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(space, context)
        self.embedding = SoftEmbedding(space, dim)
        self.reading = ContextReading(context)
        self.trunk = mlp(space.num_features * dim + self.reading.width, hidden, dropout)
        self.head = nn.Linear(hidden[-1], 1)
        with torch.no_grad():
            # untrained members agree on about 0 instead of adding their own noise to it
            self.head.weight.mul_(0.1)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Output `(..., L)` of the last hidden layer."""
        embedded = self.embedding(row).flatten(-2)
        latent: Tensor = self.trunk(self.reading.beside(embedded, context))
        return latent

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Score `(...)`; see `BaseEstimator.forward`."""
        score: Tensor = self.head(self.to_latent(row, context)).squeeze(-1)
        return score
