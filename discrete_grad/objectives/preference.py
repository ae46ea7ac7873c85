"""Losses on pairs of rows, one of which was preferred: Bradley-Terry with ties and noise, DPO."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "OUTCOMES",
    "bradley_terry_loss",
    "dpo_loss",
    "outcome_information",
    "preference_log_probs",
]

OUTCOMES = ("first", "second", "tie")
"""Possible answers to a pair, in the order of their codes 0, 1 and 2."""

Noise = Literal["mixture", "robust", "conservative"]


def preference_log_probs(
    difference: Tensor,
    *,
    tie_width: float | Tensor = 0.0,
    reliability: float | Tensor = 1.0,
) -> Tensor:
    """Log-probability of every answer to a pair.

    With d the difference and w the width of a tie `P(first) = sigmoid(d - w)`,
    `P(second) = sigmoid(-d - w)` and a tie has the rest. A preference is then told the wrong way
    round with probability `1 - reliability`; a tie is a tie whichever way round.

    Args:
        difference: `(...)`, reward of the first row minus that of the second, in log-odds.
        tie_width: w, at least 0, in log-odds; 0 for a world without ties. Broadcast.
        reliability: in [0, 1]; 1/2 says nothing, below it the answers are reversed. Broadcast:
            one number is a rate of false labels, a number a pair that of its annotator.

    Returns:
        `(..., 3)`, in nats, in the order of `OUTCOMES`.

    Raises:
        ValueError: for a number out of range; tensors are not looked at.

    Reference:
        Bradley, Terry (1952); ties: Rao, Kupper (1967), equation (2.1), with theta = exp(w);
        annotators: Chen, Bennett, Collins-Thompson, Horvitz (2013), Crowd-BT, equation (4).

    Example:
        >>> preference_log_probs(torch.tensor(1.0)).exp()
        tensor([0.7311, 0.2689, 0.0000])
        >>> preference_log_probs(torch.tensor(1.0), tie_width=0.5, reliability=0.9).exp()
        tensor([0.5785, 0.2264, 0.1951])
    """
    width = _checked("tie_width", tie_width, math.inf, difference)
    trust = _checked("reliability", reliability, 1.0, difference)
    first, second = F.logsigmoid(difference - width), F.logsigmoid(-difference - width)
    # log(theta^2 - 1) + log P(first) + log P(second), without overflow for a large width
    tie = 2 * width + _log(-torch.expm1(-2 * width)) + first + second
    stated = torch.logaddexp(_log(trust) + first, _log(1 - trust) + second)
    reversed_ = torch.logaddexp(_log(trust) + second, _log(1 - trust) + first)
    return torch.stack(torch.broadcast_tensors(stated, reversed_, tie), -1)


def bradley_terry_loss(
    difference: Tensor,
    outcome: Tensor,
    *,
    tie_width: float | Tensor = 0.0,
    reliability: float | Tensor = 1.0,
) -> Tensor:
    """Negative log-likelihood `(...)` of answers, in nats; infinite for a tie of width 0.

    Args:
        difference: `(...)`, reward of the first row minus that of the second, in log-odds.
        outcome: `(...)`, integers, the codes of `OUTCOMES`.
        tie_width: as in `preference_log_probs`.
        reliability: as in `preference_log_probs`.

    Raises:
        ValueError: as `preference_log_probs`.

    Reference:
        as `preference_log_probs`.

    Example:
        >>> bradley_terry_loss(torch.tensor([2.0, 2.0]), torch.tensor([0, 1]))
        tensor([0.1269, 2.1269])
    """
    log_p = preference_log_probs(difference, tie_width=tie_width, reliability=reliability)
    shape = torch.broadcast_shapes(log_p.shape[:-1], outcome.shape)
    outcome = outcome.expand(shape).unsqueeze(-1)
    return -log_p.expand(*shape, 3).gather(-1, outcome).squeeze(-1)


def dpo_loss(
    log_probs: Tensor,
    reference: Tensor,
    outcome: Tensor,
    *,
    beta: float,
    flip: float = 0.0,
    noise: Noise = "mixture",
    tie_width: float | Tensor = 0.0,
) -> Tensor:
    """Direct preference optimisation: the Bradley-Terry loss of the policy's implicit reward.

    The reward is `beta log(pi / ref)`. Over all pairs, answered with the log-odds `r(x) - r(y)`,
    the loss is least at `pi* = ref exp(r / beta) / Z`.

    Args:
        log_probs: `(2, ...)`, of the first and of the second row of each pair, in nats.
        reference: the same under the reference; no gradient flows into it.
        outcome: `(...)`, integers, the codes of `OUTCOMES`.
        beta: above 0, in units of the reward.
        flip: probability in [0, 1/2) that a preference was answered the wrong way round.
        noise: what is done about it. `mixture` maximises the likelihood of the flipped answers
            and `robust` corrects the loss so that its expectation is that of the answers not
            flipped: both keep `pi*`, the second is not bounded from below. `conservative` smoothes
            the labels, which draws the policy towards the reference.
        tie_width: as in `preference_log_probs`.

    Returns:
        `(...)`, in nats.

    Raises:
        ValueError: for a number out of range, or another `noise`.

    Reference:
        Rafailov et al. (2023), arXiv 2305.18290, equation (7); conservative: Mitchell (2023), a
        note on DPO with noisy preferences; robust: Ray Chowdhury, Kini, Natarajan (2024), arXiv
        2403.00409, equation (9); ties: Chen et al. (2024), arXiv 2409.17431.

    Example:
        >>> pairs, reference = torch.tensor([[-1.0], [-2.0]]), torch.tensor([[-1.5], [-1.5]])
        >>> dpo_loss(pairs, reference, torch.tensor([0]), beta=1.0)
        tensor([0.3133])
    """
    if not 0 < beta < math.inf or not 0 <= flip < 0.5:
        raise ValueError(f"beta must be above 0 and flip in [0, 1/2), got {beta} and {flip}")
    implicit = beta * (log_probs - reference.detach())
    difference = implicit[0] - implicit[1]
    if noise == "mixture":
        trust = 1 - flip
        return bradley_terry_loss(difference, outcome, tie_width=tie_width, reliability=trust)
    stated = bradley_terry_loss(difference, outcome, tie_width=tie_width)
    reversed_ = bradley_terry_loss(-difference, outcome, tie_width=tie_width)
    if noise == "robust":
        return ((1 - flip) * stated - flip * reversed_) / (1 - 2 * flip)
    if noise == "conservative":
        return (1 - flip) * stated + flip * reversed_
    raise ValueError(f"noise must be mixture, robust or conservative, got {noise!r}")


def outcome_information(log_probs: Tensor) -> Tensor:
    """Expected information `(...)` that an answer gives about which member is right, in nats.

    The entropy of the members' mean prediction less their mean entropy: 0 where they agree, however
    uncertain, and at most `log min(M, 3)`.

    Args:
        log_probs: `(M, ..., 3)`, from `preference_log_probs`.

    Reference:
        Houlsby, Huszar, Ghahramani, Lengyel (2011), arXiv 1112.5745, equation (2).

    Example:
        >>> agree = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
        >>> differ = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> outcome_information(torch.stack([agree, differ], 1).log())
        tensor([0.0000, 0.6931])
    """
    probs = log_probs.exp()
    entropy = torch.special.entr(probs).sum(-1).mean(0)
    gained: Tensor = torch.special.entr(probs.mean(0)).sum(-1) - entropy
    # at least 0 but for rounding (Jensen)
    return gained.clamp_min(0)


def _checked(name: str, value: float | Tensor, most: float, like: Tensor) -> Tensor:
    if not isinstance(value, Tensor) and not 0 <= value <= most:
        raise ValueError(f"{name} must be at least 0 and at most {most:g}, got {value}")
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def _log(value: Tensor) -> Tensor:
    """`log`, whose gradient at 0 is 0 and not NaN."""
    positive = value > 0
    return torch.where(positive, value.where(positive, 1.0).log(), -math.inf)
