"""The model that is trained: context -> logits of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from discrete_grad.nn import FeatureHeads
from discrete_grad.nn.context import ContextReading, check_context, mlp
from discrete_grad.policies.independent import IndependentPolicy
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["Generator"]


class Generator(nn.Module, IndependentPolicy):
    """Context -> logits, one independent categorical a feature given the context.

    Args:
        space: the features of a row.
        context: the context columns; None for a generator of one distribution, whose logits are
            then 10 times its parameter `free_logits`.
        hidden: widths of the hidden layers.

    Example:
        >>> space = CategoricalSpace({"cut": 3, "colour": 7})
        >>> Generator(space)().shape
        torch.Size([10])
        >>> model, context = Generator(space, ContextSpec(numeric=["price"])), torch.zeros(5, 1)
        >>> model(context).shape
        torch.Size([5, 10])
        >>> rows = model.sample(context, 4)
        >>> rows.shape, model.log_prob(rows, context).shape
        (torch.Size([4, 5, 2]), torch.Size([4, 5]))
    """

    def __init__(
        self,
        space: CategoricalSpace,
        context: ContextSpec | None = None,
        *,
        hidden: Sequence[int] = (64, 64),
    ) -> None:
        super().__init__()
        self.space = space
        self.context_spec = context
        if context is None:
            self.free_logits = nn.Parameter(torch.zeros(space.width))
        else:
            self.reading = ContextReading(context)
            self.trunk = mlp(self.reading.width, hidden)
            self.heads = FeatureHeads(hidden[-1], space)

    def forward(self, context: Tensor | None = None) -> Tensor:
        """Logits `(..., D)` for a context `(..., C)`; `(D,)` without a context spec."""
        check_context(context, self.context_spec)
        # times 10: free logits then move about as fast as a network's at the same learning rate
        if context is None:
            return 10 * self.free_logits
        logits: Tensor = self.heads(self.trunk(self.reading(context)))
        return logits

    if TYPE_CHECKING:  # as in `Relaxation`
        __call__ = forward

    def logits(self, context: Tensor | None = None) -> Tensor:
        """Logits, as `forward` makes them."""
        logits: Tensor = self(context)
        return logits

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **options: Any
    ) -> None:
        # weights that were saved before the parameter had to make room for the method `logits`
        if (old := f"{prefix}logits") in state_dict:
            state_dict[f"{prefix}free_logits"] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, *args, **options)
