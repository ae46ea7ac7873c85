"""The beta at which a tilted table has a wanted divergence or reward: a bracketed root."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.space import can_inspect
from discrete_grad.weighting.tilt import coldest, table_expectation, table_kl, tilt

__all__ = ["beta_for_kl", "beta_for_reward"]

# more than the 53 bits of a float64: the bracket ends at two neighbouring numbers or nearly so
_HALVINGS = 64
_WIDENINGS = 12


def beta_for_kl(log_reference: Tensor, reward: Tensor, target: float | Tensor) -> Tensor:
    """The beta `(*batch)` at which `KL(tilt || reference)` is the target.

    The divergence falls from that of the coldest tilt to that of the reference without its
    forbidden rows, which is 0 where there are none.

    Args:
        log_reference: `(R, *batch)`.
        reward: `(R, *batch)`.
        target: in nats, a number or `(*batch)`, strictly between these two.

    Raises:
        ValueError: for a target no beta reaches, with what the context can reach.

    Example:
        >>> beta = beta_for_kl(torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]), 0.1)
        >>> log_p = tilt(torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]), beta)
        >>> table_kl(log_p, torch.tensor([0.5, 0.5]).log())
        tensor(0.1000, dtype=torch.float64)
    """

    def divergence(log_probs: Tensor) -> Tensor:
        return table_kl(log_probs, log_reference)

    return _beta_where(divergence, log_reference, reward, target, "KL")


def beta_for_reward(log_reference: Tensor, reward: Tensor, target: float | Tensor) -> Tensor:
    """The beta `(*batch)` at which the expected reward is the target.

    It falls from the highest reward to that of the reference without its forbidden rows.

    Args:
        log_reference: `(R, *batch)`.
        reward: `(R, *batch)`.
        target: in the reward's unit, a number or `(*batch)`, strictly between these two.

    Raises:
        ValueError: for a target no beta reaches, with what the context can reach.

    Example:
        >>> beta_for_reward(torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]), 0.75)
        tensor(0.9102, dtype=torch.float64)
    """

    def expected(log_probs: Tensor) -> Tensor:
        return table_expectation(log_probs, reward)

    return _beta_where(expected, log_reference, reward, target, "reward")


def falling_root(f: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Roots of falling functions `f` `(*batch) -> (*batch)`, between two brackets.

    The brackets are widened, twice as far each time, until they hold a change of sign; then halved.
    """
    width = high - low
    for _ in range(_WIDENINGS):
        above, below = f(low) < 0, f(high) > 0
        if not (above | below).any():
            break
        low, high = low - width * above, high + width * below
        width = 2 * width
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        left = f(middle) > 0
        low, high = middle.where(left, low), high.where(left, middle)
    return (low + high) / 2


def _beta_where(
    measure: Callable[[Tensor], Tensor],
    log_reference: Tensor,
    reward: Tensor,
    target: float | Tensor,
    what: str,
) -> Tensor:
    most = measure(coldest(log_reference, reward))
    least = measure(tilt(log_reference, reward, torch.inf))
    wanted = torch.as_tensor(target, dtype=torch.float64, device=most.device).expand(most.shape)
    _check_target(wanted, least, most, what)
    # beta matters in relation to the rewards' spread, so the search starts around it
    unit = _spread(log_reference, reward).log()

    def excess(log_beta: Tensor) -> Tensor:
        # below -745 exp is 0, which is no beta; above 709 it is infinite, which is one
        return measure(tilt(log_reference, reward, log_beta.clamp_min(-700).exp())) - wanted

    return falling_root(excess, unit - 4, unit + 4).exp()


def _spread(log_reference: Tensor, reward: Tensor) -> Tensor:
    """Highest minus lowest reward `(*batch)` among the rows that can be drawn."""
    reward = reward.double()
    possible = (log_reference > -torch.inf) & (reward > -torch.inf)
    best = reward.masked_fill(~possible, -torch.inf).amax(0)
    return best - reward.masked_fill(~possible, torch.inf).amin(0)


def _check_target(wanted: Tensor, least: Tensor, most: Tensor, what: str) -> None:
    fine = (wanted > least) & (wanted < most)
    if can_inspect(fine) and not fine.all():
        at = tuple((~fine).nonzero()[0].tolist())
        reach = f"strictly between {float(least[at]):.6g} and {float(most[at]):.6g}"
        raise ValueError(f"context {at} reaches a {what} {reach}, not {float(wanted[at]):.6g}")
