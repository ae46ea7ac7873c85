"""Advantages: how much better than expected a row is, the weights of a policy's gradient.

Rewards are `(G, *batch)`, G rows a context; numbers of steps are `(G, *batch, T)`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.gradient.leave_one_out import less_the_others

__all__ = [
    "add_shaping",
    "diversity_advantage",
    "gae",
    "group_relative",
    "leave_one_out",
    "standardised",
]


def leave_one_out(rewards: Tensor) -> Tensor:
    """Reward of a row minus the mean of the others in its context; the gradient stays unbiased.

    Args:
        rewards: `(G, *batch)`, G at least 2.

    Returns:
        `(G, *batch)`.

    Raises:
        ValueError: for fewer than 2 rows a context.

    Reference:
        Kool, van Hoof, Welling (2019), "Buy 4 REINFORCE samples, get a baseline for free!".

    Example:
        >>> leave_one_out(torch.tensor([1.0, 2.0, 6.0]))
        tensor([-3.0000, -1.5000,  4.5000])
    """
    _check_group(rewards, 2, "leave-one-out")
    return less_the_others(rewards)


def group_relative(rewards: Tensor, *, eps: float = 1e-4) -> Tensor:
    """Rewards standardised within their context, as in GRPO.

    Biased: contexts weigh by one over the standard deviation of their rewards, which also depends
    on the row itself.

    Args:
        rewards: `(G, *batch)`, G at least 2.
        eps: added to the standard deviation, in the rewards' unit.

    Returns:
        `(G, *batch)`.

    Raises:
        ValueError: for fewer than 2 rows a context.

    Reference:
        Shao et al. (2024), arXiv 2402.03300, section 4.1.2.

    Example:
        >>> group_relative(torch.tensor([1.0, 3.0]), eps=0.0)
        tensor([-0.7071,  0.7071])
    """
    _check_group(rewards, 2, "group-relative")
    moved = rewards - rewards[:1]  # equal ones are then 0: their mean may round to another number
    return (moved - moved.mean(0)) / (moved.std(0) + eps)


def standardised(advantages: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Less their mean, over their standard deviation, both of the whole tensor.

    Example:
        >>> standardised(torch.tensor([1.0, 3.0]))
        tensor([-1.,  1.])
    """
    moved = advantages - advantages.reshape(-1)[:1]  # as in `group_relative`
    return (moved - moved.mean()) / (moved.std(correction=0) + eps)


def gae(rewards: Tensor, values: Tensor, *, gamma: float = 1.0, decay: float = 0.95) -> Tensor:
    """Generalised advantage estimates `sum_l (gamma decay)^l d_{t+l}` over the steps of a row.

    `d_t = r_t + gamma V_{t+1} - V_t`, and nothing follows the last step. At `decay` 1 and `gamma` 1
    the policy gradient is unbiased whatever the values.

    Args:
        rewards: `(..., T)`, earned by each step.
        values: `(..., T)`, expected before each step.
        gamma: discount in [0, 1].
        decay: lambda in [0, 1].

    Returns:
        `(..., T)`; with the values added, the targets of the values.

    Reference:
        Schulman et al. (2016), arXiv 1506.02438, equation 16.

    Example:
        >>> gae(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.75]), decay=1.0)
        tensor([0.5000, 0.2500])
    """
    following = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], -1)
    surprises = (rewards + gamma * following - values).unbind(-1)
    found, later = list[Tensor](), torch.zeros_like(surprises[0])
    for surprise in reversed(surprises):
        later = surprise + gamma * decay * later
        found.append(later)
    return torch.stack(found[::-1], -1)


def add_shaping(rewards: Tensor, potentials: Tensor, *, gamma: float = 1.0) -> Tensor:
    """Rewards `r_t + gamma P_{t+1} - P_t`, with a potential of 0 after the last step.

    At `gamma` 1 the sum over a row changes by `-P_0`, which no choice can alter: the optimum stays.

    Args:
        rewards: `(..., T)`.
        potentials: `(..., T)`, before each step.
        gamma: discount in [0, 1].

    Reference:
        Ng, Harada, Russell (1999), "Policy invariance under reward transformations", theorem 1.

    Example:
        >>> add_shaping(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.75]))
        tensor([0.2500, 0.2500])
    """
    following = torch.cat([potentials[..., 1:], torch.zeros_like(potentials[..., :1])], -1)
    return rewards + gamma * following - potentials


def diversity_advantage(codes: Tensor) -> Tensor:
    """Advantages whose policy gradient is that of the expected Hamming distance of two rows.

    Twice the mean distance to the other rows, less that of the pairs the row is not part of, so
    unbiased. In features.

    Args:
        codes: `(G, *batch, F)`, G at least 3.

    Returns:
        `(G, *batch)`.

    Raises:
        ValueError: for fewer than 3 rows a context.

    Example:
        >>> diversity_advantage(torch.tensor([[0, 0], [0, 0], [1, 1]]))
        tensor([-2., -2.,  4.])
    """
    _check_group(codes[..., 0], 3, "diversity")
    count = len(codes)
    distances = torch.stack([(row != codes).sum(-1).sum(0) for row in codes]).to(
        torch.get_default_dtype()
    )
    # the sum over ordered pairs holds each pair of this row twice
    without = distances.sum(0) - 2 * distances
    return 2 * (distances / (count - 1) - without / ((count - 1) * (count - 2)))


def _check_group(rewards: Tensor, least: int, what: str) -> None:
    if not rewards.dim() or len(rewards) < least:
        got = f"a group of {len(rewards) if rewards.dim() else 0}"
        raise ValueError(f"{what} advantages need at least {least} rows a context, got {got}")
