"""The law of each feature given those before it, of every policy that can tell them apart."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from discrete_grad.policies.independent import is_independent
from discrete_grad.policies.protocol import has
from discrete_grad.policies.sequential import STEP_PARTS, SequentialPolicy
from discrete_grad.space import CategoricalSpace

__all__ = ["chosen_log_probs", "conditional_logits"]


def conditional_logits(policy: object, codes: Tensor, context: Tensor | None = None) -> Tensor:
    """Logits of every feature given those before it in a row: in one pass, where the policy can.

    Args:
        policy: the distribution; it has `logits`, `conditional_logits` or the parts of a
            `SequentialPolicy`.
        codes: `(..., *batch, F)`.
        context: `(*batch, C)`; None without a context.

    Returns:
        `(..., *batch, D)`; of independent features `(*batch, D)`, the same for every row.

    Raises:
        TypeError: for a policy that has none of them.

    Example:
        >>> from discrete_grad.policies import AutoregressiveGenerator, Generator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> conditional_logits(AutoregressiveGenerator(space), torch.zeros(4, 2).long()).shape
        torch.Size([4, 5])
        >>> conditional_logits(Generator(space), torch.zeros(4, 2).long()).shape
        torch.Size([5])
    """
    if is_independent(policy):
        policy.space.check_codes(codes)
        return policy.logits(context)
    if has(policy, "conditional_logits"):
        logits: Tensor = cast(Any, policy).conditional_logits(codes, context)
        return logits
    require_features("conditional_logits", policy)
    return _by_steps(cast(SequentialPolicy[Any], policy), codes, context)


def _by_steps(policy: SequentialPolicy[Any], codes: Tensor, context: Tensor | None) -> Tensor:
    state = policy.begin(context, batch=tuple(codes.shape[:-1]))
    previous, parts = None, {}
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


def shows_features(policy: object) -> bool:
    """Whether `conditional_logits` can be asked of a policy."""
    return has(policy, "logits") or writes_steps(policy)


def require_features(user: str, policy: object) -> None:
    """Raise TypeError, naming what is missing, unless a policy shows the law of each feature."""
    if not shows_features(policy):
        wanted = f"`logits(context)`, or with {', '.join(STEP_PARTS[:-1])} and {STEP_PARTS[-1]}"
        raise TypeError(f"{user} needs a policy with {wanted}; {type(policy).__name__} has neither")


def writes_steps(policy: object) -> bool:
    """Whether a policy's choices come one after another and can be told apart."""
    if is_independent(policy):
        return False
    return has(policy, "order", "conditional_logits") or has(policy, *STEP_PARTS)
