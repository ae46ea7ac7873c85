"""The model that is trained: context -> logits of a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from discrete_grad.nn import FeatureHeads
from discrete_grad.nn.context import ContextReading, check_context, mlp
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["Generator"]


class Generator(nn.Module):
    """Context -> logits, one independent categorical a feature given the context.

    Args:
        context: the context columns; None for a generator of one distribution, whose logits are
            then 10 times its parameter `logits`.
        space: the features of a row.
        hidden: widths of the hidden layers.

    Example:
        >>> space = CategoricalSpace({"cut": 3, "colour": 7})
        >>> Generator(None, space)().shape
        torch.Size([10])
        >>> spec = ContextSpec(numeric=["price", "weight"])
        >>> Generator(spec, space)(torch.zeros(5, 2)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        context: ContextSpec | None,
        space: CategoricalSpace,
        *,
        hidden: Sequence[int] = (64, 64),
    ) -> None:
        super().__init__()
        self.space = space
        self.context_spec = context
        if context is None:
            self.logits = nn.Parameter(torch.zeros(space.width))
        else:
            self.reading = ContextReading(context)
            self.trunk = mlp(self.reading.width, hidden)
            self.heads = FeatureHeads(hidden[-1], space)

    def forward(self, context: Tensor | None = None) -> Tensor:
        """Logits `(..., D)` for a context `(..., C)`; `(D,)` without a context spec."""
        check_context(context, self.context_spec)
        # times 10: free logits then move about as fast as a network's at the same learning rate
        if context is None:
            return 10 * self.logits
        logits: Tensor = self.heads(self.trunk(self.reading(context)))
        return logits
