"""Proposals of Markov chains: single swaps, and features drawn anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from discrete_grad.policies.independent import is_independent
from discrete_grad.policies.protocol import drawn_rows, has, row_log_probs
from discrete_grad.sampling import uniform
from discrete_grad.space import CategoricalSpace, require_derivatives
from discrete_grad.weighting.draws import inverse_draw
from discrete_grad.weighting.reward import reward_tensor
from discrete_grad.weighting.reward_weighted import RewardWeighted

__all__ = ["SwapProposal", "allowed_swaps", "informed_swaps", "redrawn_rows", "uniform_swaps"]

_UNIFORM = 0.1  # share of the informed proposals
_CODES = 2**22  # of rows that a reference is given at a time

SwapProposal = Callable[[Tensor], Tensor]
"""Codes `(..., F)` -> log-probabilities `(..., D - F)` of the swaps, in the order of `swaps`."""


def uniform_swaps(
    space: CategoricalSpace, allowed: Callable[[Tensor], Tensor] | None = None
) -> SwapProposal:
    """Every single swap, or every one to an allowed row, with the same probability.

    Args:
        space: the space.
        allowed: codes `(..., F)` -> booleans `(..., D)`, whether a row is allowed with each
            category in its feature. A row without an allowed swap proposes forbidden ones, which
            are refused.

    Example:
        >>> uniform_swaps(CategoricalSpace.from_sizes((2, 2)))(torch.tensor([0, 1])).exp()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    swaps = space.width - space.num_features

    def propose(codes: Tensor) -> Tensor:
        shape = (*codes.shape[:-1], swaps)
        every = torch.zeros(shape, dtype=torch.float64, device=codes.device)
        if allowed is not None:
            open_to = _swaps_of(space, allowed(codes), codes)
            every = every.masked_fill(~open_to & open_to.any(-1, keepdim=True), -math.inf)
        return every.log_softmax(-1)

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
    at_random = uniform_swaps(target.space, allowed_swaps(target, context))

    @torch.no_grad()
    def propose(codes: Tensor) -> Tensor:
        gain = _reference_gain(target, context, codes) + _promised_gain(target, context, codes)
        # a row whose swaps the reference all forbids stays: any proposal will be refused
        gain = gain.masked_fill((gain == -math.inf).all(-1, keepdim=True), 0)
        informed = (gain / 2).log_softmax(-1) + math.log1p(-_UNIFORM)
        return torch.logaddexp(informed, at_random(codes) + math.log(_UNIFORM))

    return propose


def redrawn_rows(
    target: RewardWeighted,
    codes: Tensor,
    context: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Codes `(count, *batch, F)` in which some features are drawn anew by the reference.

    The number of features is s with a probability in proportion to 1 / s; which ones does not
    depend on the row. A reference of another kind than `Conditioned` draws the whole row anew. So
    every possible row can follow every other, and since the reference's own law stays where it is,
    the reward alone decides on the acceptance.

    Args:
        target: the distribution wanted.
        codes: `(count, *batch, F)`, possible rows.
        context: `(*batch, C)`, or None.
        generator: source of the noise.

    Example:
        >>> from discrete_grad.policies import Generator, conditioned
        >>> from discrete_grad.rules import Exactly, Rules
        >>> space = CategoricalSpace.from_sizes((2, 2, 2))
        >>> rules = Rules(space, [Exactly(1, {name: 1 for name in space.names})])
        >>> target = RewardWeighted(conditioned(Generator(space), rules), lambda rows, _: 0.0, 1.0)
        >>> redrawn_rows(target, torch.tensor([[0, 0, 1]]).expand(50, -1)).sum(-1).unique()
        tensor([1])
    """
    reference: Any = target.reference
    if not has(reference, "redrawn"):
        return drawn_rows(reference, context, len(codes), generator=generator)
    features = codes.shape[-1]
    sizes = torch.arange(1.0, features + 1, device=codes.device).double()
    noise = uniform((features + 1, *codes.shape[:-1]), device=codes.device, generator=generator)
    log_weights = -sizes.log().view(-1, *[1] * (codes.dim() - 1))
    number = 1 + inverse_draw(log_weights.expand(-1, *codes.shape[:-1]), noise[:1]).squeeze(0)
    place = noise[1:].argsort(0).argsort(0).movedim(0, -1)
    chosen = place < number.unsqueeze(-1)
    drawn: Tensor = reference.redrawn(codes, chosen, context, generator=generator)
    return drawn


def allowed_swaps(
    target: RewardWeighted, context: Tensor | None
) -> Callable[[Tensor], Tensor] | None:
    """Whether rows are allowed with each category, for `uniform_swaps`; None without rules."""
    reference: Any = target.reference
    if not has(reference, "swaps_allowed"):
        return None
    return lambda codes: reference.swaps_allowed(codes, context)


def _reference_gain(target: RewardWeighted, context: Tensor | None, codes: Tensor) -> Tensor:
    """`log ref(y)` `(count, *batch, D - F)` of each swap y, up to a constant of each row."""
    reference: Any = target.reference
    if is_independent(reference):
        return _logit_gain(target.space, reference.logits(context).double(), codes)
    if has(reference, "redrawn", "swaps_allowed") and is_independent(reference.policy):
        gain = _logit_gain(target.space, reference.policy.logits(context).double(), codes)
        allowed = _swaps_of(target.space, reference.swaps_allowed(codes, context), codes)
        return gain.masked_fill(~allowed, -math.inf)
    columns = target.space.swap_columns(codes)
    size = max(1, _CODES // max(1, codes.numel()))
    parts = [
        row_log_probs(reference, target.space.swapped(codes, some).movedim(-2, 0), context)
        for some in columns.split(size, -1)
    ]
    return torch.cat([part.double().movedim(0, -1) for part in parts], -1)


def _logit_gain(space: CategoricalSpace, logits: Tensor, codes: Tensor) -> Tensor:
    """The same of independent features: differences of logits; no row is built.

    Of an impossible row only the swaps of a single masked category lead to possible ones.
    """
    flat = logits.expand(*codes.shape[:-1], space.width)
    masked = flat.gather(-1, space.columns(codes)) == -math.inf
    elsewhere = masked.sum(-1, keepdim=True) > masked.long()
    sizes = torch.tensor(space.sizes, device=codes.device)
    hopeless = elsewhere.repeat_interleave(sizes, -1, output_size=space.width)
    # finite at the row's own categories, or the difference could be NaN
    own = space.one_hot(codes, dtype=torch.bool) & (flat == -math.inf)
    gain = space.swap_gains(flat.masked_fill(own, 0), codes).masked_fill(hopeless, -math.inf)
    return _swaps_of(space, gain, codes)


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
    gains = _swaps_of(space, space.swap_gains(slope, codes), codes)
    # finite, or the sum with a reference's gain of -inf could be NaN
    return gains.clamp(-1e300, 1e300)


def _swaps_of(space: CategoricalSpace, flat: Tensor, codes: Tensor) -> Tensor:
    """The entries `(..., D - F)` of a flat tensor `(..., D)` but those at a row's own codes."""
    return flat.gather(-1, space.swap_columns(codes))


def _dtype_of(context: Tensor | None) -> torch.dtype:
    return torch.get_default_dtype() if context is None else context.dtype
