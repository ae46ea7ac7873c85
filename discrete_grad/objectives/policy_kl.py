"""Estimates of `KL(policy || reference)` in nats from rows of the policy.

Uses of each, with `d = log policy(x) - log reference(x)` of a whole row:

| estimate | mean | as a reward, `E[k grad log policy]` | in the loss, `E[grad k]` |
|---|---|---|---|
| kl_k1 = d | KL | grad KL | 0 |
| kl_k2 = d^2 / 2 | not KL | another gradient | grad KL |
| kl_k3 = exp(-d) - 1 + d | KL | grad KL less that of the reverse | that of KL(reference, policy) |
| conditional | KL | the part through what is drawn before | the rest of grad KL |

Reference:
    Schulman (2020), "Approximating KL divergence"; Tang and Munos (2025), arXiv 2506.09477, on
    their gradients; Amini, Vieira, Cotterell (2025), arXiv 2504.10637, on the conditional one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.space import CategoricalSpace

__all__ = ["conditional_kl", "kl_k1", "kl_k2", "kl_k3"]


def kl_k1(log_ratio: Tensor) -> Tensor:
    """`d`: unbiased, of either sign.

    Args:
        log_ratio: `log policy - log reference` `(...)` of rows of the policy, in nats.

    Example:
        >>> kl_k1(torch.tensor([1.0, -0.5]))
        tensor([ 1.0000, -0.5000])
    """
    return log_ratio


def kl_k2(log_ratio: Tensor) -> Tensor:
    """`d^2 / 2`: at least 0, biased, but its own gradient is that of the divergence.

    Args:
        log_ratio: as for `kl_k1`.

    Example:
        >>> kl_k2(torch.tensor([1.0, -0.5]))
        tensor([0.5000, 0.1250])
    """
    return log_ratio.square() / 2


def kl_k3(log_ratio: Tensor) -> Tensor:
    """`exp(-d) - 1 + d`: at least 0 and unbiased; its own gradient is of `KL(reference || policy)`.

    Args:
        log_ratio: as for `kl_k1`.

    Example:
        >>> kl_k3(torch.tensor([1.0, 0.0]))
        tensor([0.3679, 0.0000])
    """
    # expm1: exp(-d) - 1 loses its digits near d = 0
    return torch.expm1(-log_ratio) + log_ratio


def conditional_kl(space: CategoricalSpace, logits: Tensor, reference: Tensor) -> Tensor:
    """Exact divergence of each feature's law from the reference's, given the features before it.

    Its sum over the features, averaged over rows of the policy, is unbiased for the divergence, at
    least 0, and of lower variance than `kl_k1`.

    Args:
        space: the space.
        logits: `(..., D)` of each feature given those before it, from `conditional_logits`.
        reference: the same of the reference.

    Returns:
        `(..., F)`, in nats; `inf` where the reference forbids what the policy draws.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> conditional_kl(space, torch.tensor([0.0, -torch.inf, 0.0, 0.0, 0.0]), torch.zeros(5))
        tensor([0.6931, 0.0000])
    """
    log_p, log_q = space.log_softmax(logits), space.log_softmax(reference)
    p = log_p.exp()
    # masked before the product: 0 * (-inf - x) would be NaN
    terms = p * (log_p - log_q).masked_fill(p == 0, 0)
    return space.join_columns([block.sum(-1) for block in space.blocks(terms)])
