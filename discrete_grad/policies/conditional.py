"""Law of each feature of a row given those before it, for every policy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from discrete_grad.policies.autoregressive import AutoregressiveGenerator
from discrete_grad.policies.generator import Generator
from discrete_grad.policies.sequential import SequentialPolicy
from discrete_grad.space import CategoricalSpace

__all__ = ["Policy", "chosen_log_probs", "conditional_logits", "num_steps", "to_steps"]

Policy = Generator | AutoregressiveGenerator
"""Trained policy: independent features, or each given those before it."""


def conditional_logits(
    policy: Policy | SequentialPolicy[Any], codes: Tensor, context: Tensor | None = None
) -> Tensor:
    """Logits of every feature given those before it in a row: in one pass, where the policy can.

    Args:
        policy: the distribution.
        codes: `(..., *batch, F)`.
        context: `(*batch, C)`; None without a context.

    Returns:
        `(..., *batch, D)`; of independent features `(*batch, D)`, the same for every row.

    Raises:
        TypeError: for a model that is neither a `Generator` nor a `SequentialPolicy`.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> conditional_logits(AutoregressiveGenerator(space), torch.zeros(4, 2).long()).shape
        torch.Size([4, 5])
        >>> conditional_logits(Generator(None, space), torch.zeros(4, 2).long()).shape
        torch.Size([5])
    """
    if isinstance(policy, AutoregressiveGenerator):
        logits: Tensor = policy(codes, context)
    elif isinstance(policy, Generator):
        policy.space.check_codes(codes)
        logits = policy(context)
    elif isinstance(policy, SequentialPolicy):
        logits = _by_steps(policy, codes, context)
    else:
        wanted = "a Generator or a SequentialPolicy"
        raise TypeError(f"a policy is {wanted}; got {type(policy).__name__}")
    return logits


def _by_steps(policy: SequentialPolicy[Any], codes: Tensor, context: Tensor | None) -> Tensor:
    state = policy.begin(context, batch=tuple(codes.shape[:-1]))
    previous, parts = None, dict[int, Tensor]()
    for feature in policy.order:
        parts[feature], state = policy.advance(state, previous)
        previous = codes[..., feature]
    return torch.cat([parts[feature] for feature in sorted(parts)], -1)


def chosen_log_probs(space: CategoricalSpace, logits: Tensor, codes: Tensor) -> Tensor:
    """Log-probability `(..., F)` in nats of each feature's own category.

    Args:
        space: the space.
        logits: `(..., D)`, broadcast against the rows.
        codes: `(..., F)`.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 4))
        >>> chosen_log_probs(space, torch.zeros(6), torch.tensor([0, 3])).exp()
        tensor([0.5000, 0.2500])
    """
    log_probs = space.log_softmax(logits)
    shape = torch.broadcast_shapes(log_probs.shape[:-1], codes.shape[:-1])
    columns = space.columns(codes).expand(*shape, -1)
    return log_probs.expand(*shape, -1).gather(-1, columns)


def num_steps(policy: Policy) -> int:
    """T, the choices a policy makes one after another: F, or 1 where features are independent.

    Example:
        >>> num_steps(AutoregressiveGenerator(CategoricalSpace.from_sizes((2, 3))))
        2
    """
    return policy.space.num_features if isinstance(policy, AutoregressiveGenerator) else 1


def to_steps(policy: Policy, per_feature: Tensor) -> Tensor:
    """Numbers of features `(..., F)` as numbers of steps `(..., T)`, in the order of drawing.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> to_steps(Generator(None, space), torch.tensor([1.0, 2.0]))
        tensor([3.])
        >>> to_steps(AutoregressiveGenerator(space, order=(1, 0)), torch.tensor([1.0, 2.0]))
        tensor([2., 1.])
    """
    if isinstance(policy, AutoregressiveGenerator):
        return per_feature[..., list(policy.order)]
    return per_feature.sum(-1, keepdim=True)
