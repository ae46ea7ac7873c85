"""The exponential tilt of a table: log-probabilities and rewards `(R, *batch)`, R rows a context.

Everything is exact and in float64. `beta` is a positive number or a tensor that broadcasts to
`batch`; at infinity the tilt is the reference (without its forbidden rows), towards 0 the `coldest`
one, which is reached long before `beta` underflows. A reward of `-inf` forbids a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.space import can_inspect

__all__ = [
    "coldest",
    "log_partition",
    "table_entropy",
    "table_expectation",
    "table_kl",
    "tilt",
]


def log_partition(log_reference: Tensor, reward: Tensor, beta: float | Tensor) -> Tensor:
    """`log Z` `(*batch)` in nats, `Z = sum_x ref(x) exp(r(x) / beta)`.

    Args:
        log_reference: `(R, *batch)`, `-inf` for a row the reference never draws.
        reward: `(R, *batch)`.
        beta: above 0, in the reward's unit; a number or `(*batch)`.

    Raises:
        ValueError: for a beta that is not above 0; for a reward of NaN or `+inf`, or a context
            whose rows are all forbidden, each by its place in the batch.

    Example:
        >>> log_partition(torch.tensor([0.6, 0.4]).log(), torch.zeros(2), 1.0).abs() < 1e-7
        tensor(True)
    """
    best, log_weights = _centred(log_reference, reward, beta)
    return log_weights.logsumexp(0) + best / _as_beta(beta, best)


def tilt(log_reference: Tensor, reward: Tensor, beta: float | Tensor) -> Tensor:
    """Log-probabilities `(R, *batch)` of `ref(x) exp(r(x) / beta) / Z`; see `log_partition`.

    Example:
        >>> tilt(torch.tensor([0.6, 0.4]).log(), torch.tensor([2.0, 1.0]), 1.0).exp()
        tensor([0.8030, 0.1970], dtype=torch.float64)
    """
    _, log_weights = _centred(log_reference, reward, beta)
    return log_weights - log_weights.logsumexp(0)


def coldest(log_reference: Tensor, reward: Tensor) -> Tensor:
    """The limit `beta -> 0` `(R, *batch)`: the reference among its rows of the highest reward.

    Example:
        >>> coldest(torch.tensor([0.2, 0.3, 0.5]).log(), torch.tensor([1.0, 1.0, 0.0])).exp()
        tensor([0.4000, 0.6000, 0.0000], dtype=torch.float64)
    """
    best, _ = _centred(log_reference, reward, math.inf)
    kept = log_reference.double().masked_fill(reward.double() != best, -math.inf)
    return kept - kept.logsumexp(0)


def table_expectation(log_probs: Tensor, values: Tensor) -> Tensor:
    """`E[values]` `(*batch)`; a row of probability 0 counts 0 whatever its value.

    Example:
        >>> table_expectation(torch.tensor([0.0, -torch.inf]), torch.tensor([2.0, -torch.inf]))
        tensor(2., dtype=torch.float64)
    """
    p = log_probs.double().exp()
    # masked before the product: 0 * inf would be NaN
    return (p * values.double().masked_fill(log_probs == -math.inf, 0)).sum(0)


def table_entropy(log_probs: Tensor) -> Tensor:
    """Entropy `(*batch)` in nats, from 0 to log R.

    Example:
        >>> table_entropy(torch.tensor([0.5, 0.5]).log())
        tensor(0.6931, dtype=torch.float64)
    """
    return -table_expectation(log_probs, log_probs)


def table_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """`KL(p || q)` `(*batch)` in nats, at least 0; `inf` where q never draws what p draws.

    Example:
        >>> table_kl(torch.tensor([1.0, 0.0]).log(), torch.tensor([0.5, 0.5]).log())
        tensor(0.6931, dtype=torch.float64)
    """
    # at least 0 but for rounding
    return table_expectation(log_p, log_p.double() - log_q.double()).clamp_min(0)


def scaled_reward(reward: Tensor, beta: float | Tensor) -> Tensor:
    """`r / beta` in float64; a forbidden row stays forbidden at any beta, infinity included."""
    reward = reward.double()
    scaled = reward / _as_beta(beta, reward)
    # -inf / inf is NaN
    return scaled.masked_fill(reward == -math.inf, -math.inf)


def check_beta(beta: float | Tensor) -> None:
    """Raise unless every beta is above 0; infinity is fine."""
    values = torch.as_tensor(beta, dtype=torch.float64)
    if can_inspect(values) and not (values > 0).all():
        wrong = (~(values > 0)).nonzero()[0].tolist()
        where = f" in context {tuple(wrong)}" if wrong else ""
        raise ValueError(f"beta must be above 0, got {float(values[tuple(wrong)])}{where}")


def check_reward(reward: Tensor, possible: Tensor | None = None) -> None:
    """Raise for NaN, and for `+inf` in a row that is possible; both `(rows, *batch)`."""
    if not can_inspect(reward):
        return
    endless = reward == math.inf
    wrong = reward.isnan() | (endless if possible is None else endless & possible)
    if wrong.any():
        row, *context = wrong.nonzero()[0].tolist()
        value = float(reward[(row, *context)])
        where = f"row {row}, context {tuple(context)}"
        raise ValueError(f"a reward must be a number or -inf, got {value} in {where}")


def check_some(alive: Tensor, fault: str) -> None:
    """Raise unless `alive` `(*batch)` holds everywhere; the fault is told of the first context."""
    if can_inspect(alive) and not alive.all():
        context = tuple((~alive).nonzero()[0].tolist())
        raise ValueError(f"context {context}: {fault}")


def _centred(log_reference: Tensor, reward: Tensor, beta: float | Tensor) -> tuple[Tensor, Tensor]:
    """The best possible reward `(*batch)`, and `log ref + (r - best) / beta` `(R, *batch)`."""
    check_beta(beta)
    log_reference, reward = torch.broadcast_tensors(log_reference.double(), reward.double())
    if not log_reference.dim() or not len(log_reference):
        raise ValueError(f"a table has at least one row, got {tuple(log_reference.shape)}")
    possible = log_reference > -math.inf
    check_reward(reward, possible)
    best = reward.masked_fill(~possible, -math.inf).amax(0)
    check_some(best > -math.inf, "every row is forbidden; one needs a reward above -inf")
    possible = possible & (reward > -math.inf)
    # masked before the difference, and halved: those of the largest rewards would overflow
    gap = 2 * ((reward.where(possible, best) / 2 - best / 2) / _as_beta(beta, best))
    return best, (log_reference + gap).masked_fill(~possible, -math.inf)


def _as_beta(beta: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(beta, dtype=torch.float64, device=like.device)
