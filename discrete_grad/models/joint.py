"""Row and context as one row of categorical columns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discrete_grad.nn.context import check_context
from discrete_grad.sampling import permutation, seeded
from discrete_grad.space import CategoricalSpace, ContextSpec, is_codes

__all__ = ["JointColumns"]

_BINS = 16
_MAX_SORTED = 2**17


class JointColumns(nn.Module):
    """The features of a row, then the columns of its context, all of them categorical.

    A numeric context column counts as one of 16 bins between quantiles of what it was fitted to.

    Args:
        space: the features of a row.
        context: the context columns; None without.

    Example:
        >>> spec = ContextSpec({"shop": 2}, ["price"])
        >>> joint = JointColumns(CategoricalSpace.from_sizes((2, 3)), spec)
        >>> joint.sizes
        (2, 3, 2, 16)
        >>> joint.fit(torch.tensor([[1.0, 0.0, p] for p in range(32)]))
        >>> joint(torch.tensor([[1, 2]]), torch.tensor([[0.0, 1.0, 31.0]]))
        tensor([[ 1,  2,  1, 15]])
    """

    edges: Tensor

    def __init__(self, space: CategoricalSpace, context: ContextSpec | None) -> None:
        super().__init__()
        self.space = space
        self.context_spec = context
        categorical = context.categorical.sizes if context and context.categorical else ()
        numeric = len(context.numeric) if context else 0
        self.sizes: tuple[int, ...] = (*space.sizes, *categorical, *[_BINS] * numeric)
        self.ordered: tuple[bool, ...] = (
            *space.ordered,
            *[False] * len(categorical),
            *[True] * numeric,
        )
        self.register_buffer("edges", torch.zeros(numeric, _BINS - 1))

    def fit(self, context: Tensor | None) -> None:
        """Bins of the numeric columns at the quantiles of contexts `(N, C)`."""
        if context is None or self.context_spec is None or not len(self.edges):
            return
        shown = context
        if len(context) > _MAX_SORTED:
            shown = context[permutation(len(context), generator=seeded(0))[:_MAX_SORTED]]
        numbers = self.context_spec.numbers(shown).sort(0).values
        share = torch.arange(1, _BINS) / _BINS
        self.edges = numbers[(share * len(shown)).long()].T.contiguous()

    def context_codes(self, context: Tensor | None) -> Tensor | None:
        """Codes `(..., columns)` of contexts `(..., C)`; None without."""
        check_context(context, self.context_spec)
        if context is None or self.context_spec is None:
            return None
        codes = self.context_spec.codes(context)
        if self.context_spec.categorical is not None:
            self.context_spec.categorical.check_codes(codes)
        numbers = self.context_spec.numbers(context).unsqueeze(-1)
        binned = (numbers > self.edges.to(numbers.dtype)).sum(-1)
        return torch.cat([codes, binned], -1)

    def forward(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Codes `(..., F + columns)` of codes `(..., F)`, or of flat rows by their likeliest."""
        codes = row if is_codes(row) else self.space.argmax(row)
        known = self.context_codes(context)
        if known is None:
            return codes.long()
        if codes.shape[:-1] == known.shape[:-1]:
            return torch.cat([codes, known], -1).long()
        shape = torch.broadcast_shapes(codes.shape[:-1], known.shape[:-1])
        return torch.cat([codes.expand(*shape, -1), known.expand(*shape, -1)], -1).long()
