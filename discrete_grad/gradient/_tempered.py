"""Division of logits by a temperature that may be learned."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.space import CategoricalSpace

__all__ = ["over_tau", "tempered_softmax"]


def over_tau(logits: Tensor, tau: float | Tensor) -> Tensor:
    """`logits / tau` `(..., D)`; a learned tau has a derivative where entries are `-inf`, too."""
    if not isinstance(tau, Tensor):
        return logits / tau
    masked = logits == -torch.inf  # the derivative of -inf / tau in tau is NaN once multiplied by 0
    return (logits.masked_fill(masked, 0) / tau).masked_fill(masked, -torch.inf)


def tempered_softmax(space: CategoricalSpace, logits: Tensor, tau: float | Tensor) -> Tensor:
    """`softmax(logits / tau)` `(..., D)`, in float32 where half precision would overflow."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return space.softmax(over_tau(wide, tau)).to(logits.dtype)
