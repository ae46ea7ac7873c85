"""Logits of any size brought near 0, and divided by a temperature that may be learned."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.space import CategoricalSpace, can_inspect

__all__ = ["centred", "over_tau", "tempered", "tempered_block", "tempered_softmax"]

# nats; to a number below it float32 adds noise with an error of 4e-6, the noise's own
_NEAR = 64.0


def centred(space: CategoricalSpace, logits: Tensor) -> Tensor:
    """The logits `(..., D)` less the largest of each feature, where that is far from 0.

    To be done before noise is added, which a large logit would round away. Ordinary logits stay
    bitwise as they are, and so does what is drawn from them; a feature with NaN becomes NaN.
    """
    if _all_near(logits, 1.0):
        return logits
    return space.join([_centred(block, 1.0) for block in space.blocks(logits)])


def over_tau(logits: Tensor, tau: float | Tensor) -> Tensor:
    """`logits / tau` `(..., D)`; a learned tau has a derivative where entries are `-inf`, too."""
    if not isinstance(tau, Tensor):
        return logits / tau
    masked = logits == -torch.inf  # the derivative of -inf / tau in tau is NaN once multiplied by 0
    return (logits.masked_fill(masked, 0) / tau).masked_fill(masked, -torch.inf)


def tempered(space: CategoricalSpace, logits: Tensor, tau: float | Tensor) -> Tensor:
    """`logits / tau` `(..., D)`, at least float32, but for a constant in each feature.

    The largest of a feature is taken away first where that over tau is far from 0: neither does a
    quotient overflow, nor does a large constant round the differences away.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if not isinstance(tau, Tensor) and (tau == 1 or _all_near(wide, tau)):
        return over_tau(wide, tau)
    if isinstance(tau, Tensor) and tau.dim():
        tau = tau.unsqueeze(-1)  # of an element of the batch, beside the features of a block
    return space.join([tempered_block(block, tau) for block in space.blocks(wide)])


def tempered_block(block: Tensor, tau: float | Tensor) -> Tensor:
    """`tempered` of a block `(..., n, K)`, which has the precision already."""
    # at 1 a softmax takes the largest away itself
    return block if isinstance(tau, float) and tau == 1 else over_tau(_centred(block, tau), tau)


def tempered_softmax(space: CategoricalSpace, logits: Tensor, tau: float | Tensor) -> Tensor:
    """`softmax(logits / tau)` `(..., D)`, in float32 where half precision would overflow."""
    return space.softmax(tempered(space, logits, tau)).to(logits.dtype)


def _all_near(logits: Tensor, tau: float) -> bool:
    """Whether nothing need be taken away, if a look at the values is cheaper than to do so."""
    if not can_inspect(logits) or not logits.numel():
        return False
    low, high = logits.detach().aminmax()
    return bool(-_NEAR * tau <= low and high <= _NEAR * tau)


def _centred(block: Tensor, tau: float | Tensor) -> Tensor:
    best = block.detach().amax(-1, keepdim=True)
    near = best.abs() <= _NEAR * (tau.detach() if isinstance(tau, Tensor) else tau)
    return block - best.masked_fill(near, 0)
