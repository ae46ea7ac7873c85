"""Markov chains of single swaps whose law tends to the reward-weighted distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from discrete_grad.policies.protocol import batch_of, drawn_rows, row_log_probs
from discrete_grad.sampling import uniform
from discrete_grad.space import CategoricalSpace, require_derivatives
from discrete_grad.weighting.draws import WeightedSamples, inverse_draw, normalised
from discrete_grad.weighting.reward import reward_tensor
from discrete_grad.weighting.reward_weighted import RewardWeighted

__all__ = [
    "SwapProposal",
    "informed_swaps",
    "log_acceptance",
    "metropolis",
    "swap_index",
    "uniform_swaps",
]

_UNIFORM = 0.1  # share of the informed proposals

SwapProposal = Callable[[Tensor], Tensor]
"""Codes `(..., F)` -> log-probabilities `(..., D - F)` of the swaps, in the order of `swaps`."""


@torch.no_grad()
def metropolis(
    target: RewardWeighted,
    context: Tensor | None = None,
    count: int = 64,
    *,
    steps: int = 256,
    proposal: Literal["uniform", "informed"] = "uniform",
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> WeightedSamples:
    """The last rows of parallel chains, one single swap proposed a step (Metropolis-Hastings).

    From any start the law tends to the target's where swaps lead from every possible row to every
    other; after finitely many steps no estimate of log Z comes with it.

    Args:
        target: the distribution wanted.
        context: `(*batch, C)`, or None.
        count: chains a context.
        steps: proposals a chain.
        proposal: `uniform`, over all swaps; or `informed`, by `informed_swaps`, for a reward that
            takes flat rows and is differentiable: fewer steps for a dearer one.
        start: codes `(count, *batch, F)`; by default drawn from the reference.
        generator: source of the noise.

    Returns:
        Samples of equal weight (a chain that never met an allowed row has none), with the
        diagnostic `acceptance`, the share of proposals taken.

    Raises:
        ValueError: for a start that does not fit, or a context in which every chain ends on a
            forbidden row.

    Reference:
        Hastings (1970); Grathwohl, Swersky, Hashemi, Duvenaud, Maddison (2021), arXiv 2102.04509.

    Example:
        >>> from discrete_grad.policies import Generator
        >>> reference = Generator(CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 1.0 * rows.sum(-1), 1.0)
        >>> metropolis(target, count=5, steps=10).codes.shape
        torch.Size([5, 2])
    """
    if count < 1 or steps < 0:
        raise ValueError(f"needs a chain and 0 or more steps, got {count} and {steps}")
    propose = _proposal(target, context, proposal)
    state = _state(target, context, propose, _start(target, context, count, start, generator))
    taken = torch.zeros_like(state.log_density)
    for _ in range(steps if target.space.width > target.space.num_features else 0):
        noise = uniform((2, *taken.shape), device=taken.device, generator=generator)
        state, accepted = _step(target, context, propose, state, noise)
        taken = taken + accepted
    equal = torch.zeros_like(taken).masked_fill(state.log_density == -math.inf, -math.inf)
    acceptance = taken.mean(0) / max(steps, 1)
    return WeightedSamples(
        state.codes, normalised(equal), count * (steps + 1), diagnostics={"acceptance": acceptance}
    )


def uniform_swaps(space: CategoricalSpace) -> SwapProposal:
    """Every single swap with the same probability.

    Example:
        >>> uniform_swaps(CategoricalSpace.from_sizes((2, 2)))(torch.tensor([0, 1])).exp()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    swaps = space.width - space.num_features

    def propose(codes: Tensor) -> Tensor:
        shape = (*codes.shape[:-1], swaps)
        return torch.full(shape, -math.log(max(swaps, 1)), dtype=torch.float64, device=codes.device)

    return propose


def informed_swaps(target: RewardWeighted, context: Tensor | None = None) -> SwapProposal:
    """Gibbs with gradients, and a tenth of the swaps uniform.

    Swaps have probability `.9 softmax(change of log density / 2) + .1 / (D - F)`. The reward's part
    of the change is a first-order promise: one derivative with respect to the flat row instead of
    `D - F` evaluations. The reference's part is exact, since a reference need not take flat rows.
    What the promise gets wrong costs acceptance, never the law.

    Without the uniform tenth a chain can be stuck, even where every promise is kept: a row whose
    best swap leads to one with a still larger gain proposes nothing else, and is refused, since the
    way back is next to never proposed. With it every swap happens at least a tenth as often as in a
    chain of `uniform_swaps`, so that the spectral gap is at least a tenth of that chain's too.

    Args:
        target: with a reward that takes flat rows `(..., *batch, D)` and is differentiable.
        context: `(*batch, C)`, or None.

    Reference:
        Grathwohl et al. (2021), arXiv 2102.04509, equations 3 and 5; Tierney (1998), "A note on
        Metropolis-Hastings kernels for general state spaces", on comparing chains swap by swap.

    Example:
        >>> from discrete_grad.policies import Generator
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> target = RewardWeighted(Generator(space), lambda rows, _: rows[..., 1], 0.5)
        >>> informed_swaps(target)(torch.tensor([0, 0])).exp()
        tensor([0.7080, 0.2920], dtype=torch.float64)
    """
    at_random = uniform_swaps(target.space)

    @torch.no_grad()
    def propose(codes: Tensor) -> Tensor:
        gain = _reference_gain(target, context, codes) + _promised_gain(target, context, codes)
        # a row whose swaps the reference all forbids stays: any proposal will be refused
        gain = gain.masked_fill((gain == -math.inf).all(-1, keepdim=True), 0)
        informed = (gain / 2).log_softmax(-1) + math.log1p(-_UNIFORM)
        return torch.logaddexp(informed, at_random(codes) + math.log(_UNIFORM))

    return propose


def swap_index(space: CategoricalSpace, codes: Tensor, other: Tensor) -> Tensor:
    """Index `(...)` of `other` in `space.swaps(codes)`; both `(..., F)`, one feature apart.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> swap_index(space, torch.tensor([0, 1]), torch.tensor([0, 2]))
        tensor(2)
    """
    codes, other = torch.broadcast_tensors(codes, other)
    feature = (codes != other).int().argmax(-1, keepdim=True)
    # each feature has one swap fewer than categories
    before = torch.tensor(space.offsets, device=codes.device) - torch.arange(
        space.num_features, device=codes.device
    )
    old, new = codes.gather(-1, feature), other.gather(-1, feature)
    return (before[feature] + new - (new > old).long()).squeeze(-1)


def log_acceptance(log_density: Tensor, back: Tensor, other: Tensor, forth: Tensor) -> Tensor:
    """`min(0, log (pi(y) q(x | y)) - log (pi(x) q(y | x)))` `(...)`, always a number or `-inf`.

    Args:
        log_density: of the row x that is left, but for a constant.
        back: log-probability of proposing x from y.
        other: of the row y that is proposed.
        forth: log-probability of proposing y from x.

    Example:
        >>> zero = torch.zeros(())
        >>> log_acceptance(zero, zero, zero - 1, zero)
        tensor(-1.)
    """
    ratio = (other + back) - (log_density + forth)
    # a swap between rows never drawn is refused, but a chain that starts on one leaves it any way
    ratio = ratio.masked_fill(ratio.isnan(), -math.inf)
    return ratio.masked_fill(log_density == -math.inf, 0).clamp_max(0)


class _State(NamedTuple):
    codes: Tensor
    log_density: Tensor
    log_q: Tensor


def _state(
    target: RewardWeighted, context: Tensor | None, propose: SwapProposal, codes: Tensor
) -> _State:
    return _State(codes, target.log_density(codes, context), propose(codes))


def _step(
    target: RewardWeighted,
    context: Tensor | None,
    propose: SwapProposal,
    state: _State,
    noise: Tensor,
) -> tuple[_State, Tensor]:
    """One proposal for every chain, with uniform noise `(2, count, *batch)`."""
    space = target.space
    swap = inverse_draw(state.log_q.movedim(-1, 0), noise[:1]).squeeze(0)
    index = swap[..., None, None].expand(*swap.shape, 1, space.num_features)
    codes = space.swaps(state.codes).gather(-2, index).squeeze(-2)
    new = _state(target, context, propose, codes)
    forth = state.log_q.gather(-1, swap.unsqueeze(-1)).squeeze(-1)
    home = swap_index(space, codes, state.codes)
    back = new.log_q.gather(-1, home.unsqueeze(-1)).squeeze(-1)
    # strictly: a uniform number of 0 does not accept what has probability 0
    accepted = noise[1].log() < log_acceptance(state.log_density, back, new.log_density, forth)
    return _State(*(_choose(accepted, a, b) for a, b in zip(new, state, strict=True))), accepted


def _choose(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return new.where(accepted.view(*accepted.shape, *[1] * (new.dim() - accepted.dim())), old)


def _start(
    target: RewardWeighted,
    context: Tensor | None,
    count: int,
    start: Tensor | None,
    generator: torch.Generator | None,
) -> Tensor:
    if start is None:
        return drawn_rows(target.reference, context, count, generator=generator)
    target.space.check_codes(start)
    expected = (count, *batch_of(context), target.space.num_features)
    if start.shape != expected:
        raise ValueError(f"start must be codes {expected}, got {tuple(start.shape)}")
    return start


def _proposal(target: RewardWeighted, context: Tensor | None, name: str) -> SwapProposal:
    if name == "uniform":
        return uniform_swaps(target.space)
    if name == "informed":
        return informed_swaps(target, context)
    raise ValueError(f"proposal must be 'uniform' or 'informed', got {name!r}")


def _reference_gain(target: RewardWeighted, context: Tensor | None, codes: Tensor) -> Tensor:
    """`log ref(y) - log ref(x)` `(count, *batch, D - F)`, as if an impossible x were possible."""
    swaps = target.space.swaps(codes).movedim(-2, 0)
    here = row_log_probs(target.reference, codes, context).double()
    there = row_log_probs(target.reference, swaps, context).double().movedim(0, -1)
    return there - here.masked_fill(here == -math.inf, 0).unsqueeze(-1)


def _promised_gain(target: RewardWeighted, context: Tensor | None, codes: Tensor) -> Tensor:
    """Gain `(count, *batch, D - F)` of each swap by the derivative, over beta; finite."""
    require_derivatives("the proposal of informed swaps")
    space = target.space
    flat = space.one_hot(codes, dtype=_dtype_of(context)).requires_grad_()
    with torch.enable_grad():
        reward = reward_tensor(target.reward(flat, context), flat)
        total = reward.where(reward > -math.inf, 0).sum()
    if not total.requires_grad:
        raise ValueError("informed swaps need a reward that is differentiable on flat rows")
    (slope,) = torch.autograd.grad(total, flat)
    beta = torch.as_tensor(target.beta, dtype=torch.float64, device=codes.device).unsqueeze(-1)
    slope = (slope.double() / beta).nan_to_num(0.0)
    parts = zip(space.split(space.swap_gains(slope, codes)), codes.unbind(-1), strict=True)
    gains = [_others(part, code) for part, code in parts]
    # finite, or the sum with a reference's gain of -inf could be NaN
    return torch.cat(gains, -1).clamp(-1e300, 1e300)


def _others(gain: Tensor, code: Tensor) -> Tensor:
    """The entries `(..., K - 1)` of a feature's gains `(..., K)` but that of its own category."""
    other = torch.arange(gain.shape[-1] - 1, device=code.device)
    return gain.gather(-1, other + (other >= code.unsqueeze(-1)))


def _dtype_of(context: Tensor | None) -> torch.dtype:
    return torch.get_default_dtype() if context is None else context.dtype
