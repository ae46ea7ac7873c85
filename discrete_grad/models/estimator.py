"""The model that predicts the score of a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.nn import SoftEmbedding
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["BaseEstimator", "ContextReading", "Estimator", "mlp"]

_CONTEXT_DIM = 16


class BaseEstimator(nn.Module, ABC):
    """Anything that scores rows of a space, given a context if it was made with one.

    Example:
        >>> isinstance(Estimator(CategoricalSpace.from_sizes((2, 3))), BaseEstimator)
        True
    """

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


def mlp(width: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Hidden layers with SiLU between `width` inputs and `hidden[-1]` outputs."""
    if not hidden or min(hidden) < 1:
        raise ValueError(f"hidden needs at least one width above 0, got {tuple(hidden)}")
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.SiLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = size
    return nn.Sequential(*layers)


class ContextReading(nn.Module):
    """A context as a network reads it: as it is, or with the categories of its columns embedded.

    It has parameters only for a spec whose columns are embedded.

    Args:
        spec: the context columns; None for a model without.

    Example:
        >>> reading = ContextReading(ContextSpec({"plane": 4037}, ["price"], embedded=True))
        >>> reading.width, reading(torch.tensor([[4000.0, 0.5]])).shape
        (17, torch.Size([1, 17]))
        >>> ContextReading(ContextSpec({"shop": 2}))(torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
    """

    weight: Tensor | None

    def __init__(self, spec: ContextSpec | None) -> None:
        super().__init__()
        self.spec, self.width = spec, spec.width if spec else 0
        self.register_parameter("weight", None)
        if spec is not None and spec.embedded and spec.categorical is not None:
            space = spec.categorical
            self.width = space.num_features * _CONTEXT_DIM + len(spec.numeric)
            # small, so that a context of few rows is at first like any other
            self.weight = nn.Parameter(0.1 * torch.randn(space.width, _CONTEXT_DIM))

    def forward(self, context: Tensor) -> Tensor:
        """What is read `(..., width)` of a context `(..., C)`."""
        check_context(context, self.spec)
        return _read(context, self.spec, self.weight)

    def beside(self, vector: Tensor, context: Tensor | None) -> Tensor:
        """`vector` `(..., V)` followed by what is read of the context: `(..., V + width)`."""
        return with_context(vector, context, self.spec, self.weight)


def with_context(
    vector: Tensor, context: Tensor | None, spec: ContextSpec | None, table: Tensor | None = None
) -> Tensor:
    """`vector` `(..., V)` followed by what is read of the context: `(..., V + width)`.

    Args:
        vector: `(..., V)`.
        context: `(..., C)`, or None.
        spec: the context columns, or None.
        table: the weight of a `ContextReading`, None where nothing is embedded; of M models that
            are stacked `(M, categories, dim)`, and M is the first dimension of the vector.
    """
    check_context(context, spec)
    if context is None:
        return vector
    if table is not None and table.dim() == 3:
        context = context.reshape(*(1,) * (vector.dim() - context.dim()), *context.shape)
    read = _read(context, spec, table).to(vector.dtype)
    shape = torch.broadcast_shapes(vector.shape[:-1], read.shape[:-1])
    return torch.cat([vector.expand(*shape, -1), read.expand(*shape, -1)], -1)


def _read(context: Tensor, spec: ContextSpec | None, table: Tensor | None) -> Tensor:
    """The context, each code of an embedded column replaced by its row of the table."""
    if spec is None or not spec.embedded or spec.categorical is None:
        return context
    if table is None:
        raise ValueError(f"the columns {spec.categorical.names} need a ContextReading's weight")
    codes = spec.codes(context)
    spec.categorical.check_codes(codes)
    columns = spec.categorical.columns(codes)
    if table.dim() == 3:
        first = table.shape[1] * torch.arange(len(table), device=table.device)
        columns = columns + first.view(-1, *(1,) * (columns.dim() - 1))
        table = table.flatten(0, 1)
    embedded = F.embedding(columns, table).flatten(-2)
    numbers = spec.numbers(context).to(embedded.dtype)
    return torch.cat([embedded, numbers.expand(*embedded.shape[:-1], -1)], -1)


def check_context(context: Tensor | None, spec: ContextSpec | None) -> None:
    """Raise ValueError unless the context is `(..., C)` for the spec, or both are None."""
    got = "none" if context is None else str(tuple(context.shape))
    if (context is None) != (spec is None):
        wanted = f"a context (..., {spec.width})" if spec else "no context"
        raise ValueError(f"this model takes {wanted}, got {got}")
    if context is not None and spec is not None and context.shape[-1:] != (spec.width,):
        raise ValueError(f"context must be (..., {spec.width}) for {spec.names}, got {got}")
