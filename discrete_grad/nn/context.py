"""A context as a network reads it, and the layers after it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.space import ContextSpec

__all__ = ["ContextReading", "check_context", "mlp", "with_context"]

_CONTEXT_DIM = 16


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
        if spec is not None and not isinstance(spec, ContextSpec):
            raise TypeError(
                "the context must be a ContextSpec or None, after the space, got "
                f"{type(spec).__name__}"
            )
        super().__init__()
        self.spec, self.width = spec, spec.width if spec else 0
        self.register_parameter("weight", None)
        if spec is not None and spec.embedded and spec.categorical is not None:
            space = spec.categorical
            self.width = space.num_features * _CONTEXT_DIM + len(spec.numeric)
            # small, so that a context of few rows is at first like any other
            self.weight = nn.Parameter(0.1 * torch.randn(space.width, _CONTEXT_DIM))

    def forward(self, context: Tensor) -> Tensor:
        """Numbers `(..., width)` read of a context `(..., C)`."""
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
        table: the weight of a `ContextReading`, None where nothing is embedded. For M stacked
            models it is `(M, categories, dim)`, and the first dimension of the vector is M.
    """
    check_context(context, spec)
    if context is None:
        return vector
    if table is not None and table.dim() == 3:
        context = context.reshape(*(1,) * (vector.dim() - context.dim()), *context.shape)
    read = _read(context, spec, table).to(vector.dtype)
    if vector.shape[:-1] == read.shape[:-1]:  # to broadcast takes longer than all else here
        return torch.cat([vector, read], -1)
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
    """Raise unless the context is `(..., C)` for the spec, or both are None.

    Raises:
        TypeError: for a context that is no tensor.
        ValueError: for one of another width, one too many or one too few.
    """
    if context is not None and not isinstance(context, Tensor):
        raise TypeError(f"context must be a tensor or None, got {type(context).__name__}")
    got = "none" if context is None else str(tuple(context.shape))
    if (context is None) != (spec is None):
        wanted = f"a context (..., {spec.width})" if spec else "no context"
        raise ValueError(f"this model takes {wanted}, got {got}")
    if context is not None and spec is not None and context.shape[-1:] != (spec.width,):
        raise ValueError(f"context must be (..., {spec.width}) for {spec.names}, got {got}")
