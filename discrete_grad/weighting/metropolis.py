"""Markov chains whose law tends to the reward-weighted distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from discrete_grad.policies.protocol import batch_of, drawn_rows, has, row_log_probs
from discrete_grad.sampling import uniform
from discrete_grad.space import CategoricalSpace, can_inspect
from discrete_grad.weighting._connected import check_connected
from discrete_grad.weighting.draws import WeightedSamples, inverse_draw, normalised
from discrete_grad.weighting.proposals import (
    SwapProposal,
    allowed_swaps,
    informed_swaps,
    redrawn_rows,
    uniform_swaps,
)
from discrete_grad.weighting.reward_weighted import RewardWeighted
from discrete_grad.weighting.tilt import scaled_reward

__all__ = ["log_acceptance", "metropolis", "swap_index", "swap_row"]


@torch.no_grad()
def metropolis(
    target: RewardWeighted,
    context: Tensor | None = None,
    count: int = 64,
    *,
    steps: int = 256,
    proposal: Literal["uniform", "informed", "redraw"] = "uniform",
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> WeightedSamples:
    """The last rows of parallel Metropolis-Hastings chains with one proposed change per step.

    From any start the law tends to the target's where swaps lead from every possible row to every
    other; after finitely many steps no estimate of log Z comes with it.

    Under rules only swaps to allowed rows are proposed, and these may not connect all of them: none
    leads from one choice of "exactly 2 of 4" to another. Where the rules allow few enough rows this
    is looked up and is an error; elsewhere a warning says that it is not known. `redraw` connects
    any rows.

    Args:
        target: the distribution wanted.
        context: `(*batch, C)`, or None.
        count: chains a context.
        steps: proposals a chain.
        proposal: `uniform`, over all swaps; `informed`, by `informed_swaps`, for a reward that
            takes flat rows and is differentiable: fewer steps for a dearer one; or `redraw`, by
            `redrawn_rows`: some features are drawn anew by the reference.
        start: codes `(count, *batch, F)`; by default drawn from the reference.
        generator: source of the noise.

    Returns:
        Samples of equal weight (a chain that never met an allowed row has none), with the
        diagnostic `acceptance`, the share of proposals taken.

    Raises:
        ValueError: for a start that does not fit, or that breaks the reference's rules; a context
            in which every chain ends on a forbidden row; rules whose rows swaps do not connect.

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
    codes = _start(target, context, count, start, generator)
    if proposal == "redraw":
        state, step = _redraws(target, context, codes)
    elif (propose := _proposal(target, context, proposal)) is None:
        state, step = _free_swaps(target, context, codes)
    else:
        state, step = _swaps(target, context, codes, propose)
    taken = torch.zeros_like(state.log_density)
    for _ in range(steps if target.space.width > target.space.num_features else 0):
        state, accepted = step(state, generator)
        taken = taken + accepted
    equal = torch.zeros_like(taken).masked_fill(state.log_density == -math.inf, -math.inf)
    acceptance = taken.mean(0) / max(steps, 1)
    return WeightedSamples(
        state.codes, normalised(equal), count * (steps + 1), diagnostics={"acceptance": acceptance}
    )


def swap_row(space: CategoricalSpace, codes: Tensor, index: Tensor) -> Tensor:
    """The row `(..., F)` at an index `(...)` of `space.swaps(codes)`, without the others.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> swap_row(space, torch.tensor([0, 1]), torch.tensor(2))
        tensor([0, 2])
    """
    feature = torch.searchsorted(_swaps_before(space, codes), index, right=True) - 1
    own = space.columns(codes).gather(-1, feature.unsqueeze(-1)).squeeze(-1)
    column = index + feature
    column = column + (column >= own)
    return space.swapped(codes, column.unsqueeze(-1)).squeeze(-2)


def swap_index(space: CategoricalSpace, codes: Tensor, other: Tensor) -> Tensor:
    """Index `(...)` of `other` in `space.swaps(codes)`; both `(..., F)`, one feature apart.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> swap_index(space, torch.tensor([0, 1]), torch.tensor([0, 2]))
        tensor(2)
    """
    codes, other = torch.broadcast_tensors(codes, other)
    feature = (codes != other).int().argmax(-1, keepdim=True)
    before = _swaps_before(space, codes)
    old, new = codes.gather(-1, feature), other.gather(-1, feature)
    return (before[feature] + new - (new > old).long()).squeeze(-1)


def _swaps_before(space: CategoricalSpace, codes: Tensor) -> Tensor:
    """Number `(F,)` of swaps of the features before each; one fewer than categories."""
    places = torch.arange(space.num_features, device=codes.device)
    return torch.tensor(space.offsets, device=codes.device) - places


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


Step = Callable[[_State, torch.Generator | None], tuple[_State, Tensor]]
"""One proposal for every chain: the new state, and which chains took it."""


def _swaps(
    target: RewardWeighted, context: Tensor | None, codes: Tensor, propose: SwapProposal
) -> tuple[_State, Step]:
    """The first state, and the step, of chains of single swaps."""
    space = target.space

    def at(codes: Tensor) -> _State:
        return _State(codes, target.log_density(codes, context), propose(codes))

    def step(state: _State, generator: torch.Generator | None) -> tuple[_State, Tensor]:
        shape, device = state.log_density.shape, state.codes.device
        noise = uniform((2, *shape), device=device, generator=generator)
        swap = inverse_draw(state.log_q.movedim(-1, 0), noise[:1]).squeeze(0)
        codes = swap_row(space, state.codes, swap)
        new = at(codes)
        forth = state.log_q.gather(-1, swap.unsqueeze(-1)).squeeze(-1)
        home = swap_index(space, codes, state.codes)
        back = new.log_q.gather(-1, home.unsqueeze(-1)).squeeze(-1)
        return _taken(state, new, noise[1], forth=forth, back=back)

    return at(codes), step


def _free_swaps(
    target: RewardWeighted, context: Tensor | None, codes: Tensor
) -> tuple[_State, Step]:
    """The same of swaps that are all equally likely, so that no list of them is needed."""
    space = target.space
    count = space.width - space.num_features

    def at(codes: Tensor) -> _State:
        density = target.log_density(codes, context)
        return _State(codes, density, torch.zeros_like(density))

    def step(state: _State, generator: torch.Generator | None) -> tuple[_State, Tensor]:
        shape, device = state.log_density.shape, state.codes.device
        noise = uniform((2, *shape), device=device, generator=generator)
        swap = (noise[0] * count).long().clamp_max(count - 1)  # the product may round up
        new = at(swap_row(space, state.codes, swap))
        return _taken(state, new, noise[1], forth=state.log_q, back=new.log_q)

    return at(codes), step


def _redraws(target: RewardWeighted, context: Tensor | None, codes: Tensor) -> tuple[_State, Step]:
    """The same of `redrawn_rows`; densities are those with respect to the reference."""
    impossible = row_log_probs(target.reference, codes, context) == -math.inf
    if can_inspect(impossible) and impossible.any():
        raise ValueError(f"start holds {codes[impossible][0].tolist()}, never drawn by reference")

    def at(codes: Tensor) -> _State:
        worth = scaled_reward(target.rewards(codes, context), target.beta)
        return _State(codes, worth, torch.zeros_like(worth))

    def step(state: _State, generator: torch.Generator | None) -> tuple[_State, Tensor]:
        new = at(redrawn_rows(target, state.codes, context, generator=generator))
        noise = uniform(state.log_q.shape, device=state.codes.device, generator=generator)
        return _taken(state, new, noise, forth=state.log_q, back=new.log_q)

    return at(codes), step


def _taken(
    state: _State, new: _State, noise: Tensor, *, forth: Tensor, back: Tensor
) -> tuple[_State, Tensor]:
    """The state after a proposal, and where it was accepted."""
    # strictly: a uniform number of 0 does not accept what has probability 0
    accepted = noise.log() < log_acceptance(state.log_density, back, new.log_density, forth)
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
    reference: Any = target.reference
    if has(reference, "allows") and not (fine := reference.allows(start, context)).all():
        codes = start[~fine][0].tolist()
        raise ValueError(f"start holds the row {codes}, which breaks the reference's rules")
    return start


def _proposal(target: RewardWeighted, context: Tensor | None, name: str) -> SwapProposal | None:
    """The proposal of swaps; None where all are equally likely."""
    if name not in ("uniform", "informed"):
        raise ValueError(f"proposal must be 'uniform', 'informed' or 'redraw', got {name!r}")
    check_connected(target.reference, context)
    if name == "uniform":
        allowed = allowed_swaps(target, context)
        return None if allowed is None else uniform_swaps(target.space, allowed)
    return informed_swaps(target, context)
