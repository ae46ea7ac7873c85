"""The reward to be expected before each step of a policy: the baselines of actor-critic methods."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from discrete_grad.nn.context import ContextReading, check_context, mlp
from discrete_grad.policies.sequence import feature_order
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["ContextValue", "StepValue"]


class ContextValue(nn.Module):
    """A context's value, for a policy that draws all features in one step.

    Args:
        context: the context columns; None for one value.
        hidden: widths of the hidden layers.

    Example:
        >>> ContextValue(None)(torch.zeros(4, 2).long()).shape
        torch.Size([1])
        >>> value = ContextValue(ContextSpec(numeric=["price"]))
        >>> value(torch.zeros(4, 3, 2).long(), torch.zeros(3, 1)).shape
        torch.Size([3, 1])
    """

    def __init__(self, context: ContextSpec | None, *, hidden: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        self.context_spec = context
        self.level = nn.Parameter(torch.zeros(1))
        self.trunk: nn.Sequential | None = None
        if context is not None:
            self.reading = ContextReading(context)
            self.trunk = nn.Sequential(
                mlp(self.reading.width, hidden), nn.Linear(hidden[-1], 1, bias=False)
            )

    def forward(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Value `(*batch, 1)` of a context `(*batch, C)`, whatever the rows."""
        check_context(context, self.context_spec)
        if self.trunk is None or context is None:
            return self.level
        value: Tensor = self.trunk(self.reading(context).to(self.level.dtype)) + self.level
        return value


class StepValue(nn.Module):
    """The value of every prefix of a row, for a policy that draws feature after feature.

    A perceptron reads the one-hot features drawn so far, which feature comes next, and the context.

    Args:
        space: the features of a row.
        context: the context columns; None for none.
        order: as the policy's.
        hidden: widths of the hidden layers.

    Example:
        >>> value = StepValue(CategoricalSpace.from_sizes((2, 3)))
        >>> value(torch.tensor([[1, 2], [0, 0]])).shape
        torch.Size([2, 2])
    """

    seen: Tensor

    def __init__(
        self,
        space: CategoricalSpace,
        context: ContextSpec | None = None,
        *,
        order: Sequence[str | int] | None = None,
        hidden: Sequence[int] = (64, 64),
    ) -> None:
        super().__init__()
        self.space, self.context_spec = space, context
        self.order = feature_order(space, order)
        features = space.num_features
        self.reading = ContextReading(context)
        self.trunk = mlp(space.width + features + self.reading.width, hidden)
        self.head = nn.Linear(hidden[-1], 1)
        place = torch.tensor([self.order.index(i) for i in range(features)])
        # (F, D): step t sees the categories of features drawn at an earlier place
        before = place.repeat_interleave(torch.tensor(space.sizes)) < place.sort()[0].unsqueeze(-1)
        self.register_buffer("seen", before.to(self.head.weight.dtype), persistent=False)

    def forward(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Values `(..., F)` before each feature of codes `(..., F)`, in the order of drawing."""
        check_context(context, self.context_spec)
        rows = self.space.one_hot(codes, dtype=self.seen.dtype).unsqueeze(-2) * self.seen
        parts = [rows, torch.eye(len(self.order), dtype=rows.dtype, device=rows.device)]
        if context is not None:
            parts.append(self.reading(context).to(rows.dtype).unsqueeze(-2))
        shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
        inputs = torch.cat([part.expand(*shape, -1) for part in parts], -1)
        values: Tensor = self.head(self.trunk(inputs)).squeeze(-1)
        return values
