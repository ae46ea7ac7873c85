"""One run of sequential Monte Carlo, with or without a row that must survive.

Contexts are one dimension here: particles are codes `(N, B, t)` in the reference's order, their
log-weights `(N, B)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from discrete_grad.policies import SequentialPolicy
from discrete_grad.policies.protocol import batch_of, device_of, require
from discrete_grad.policies.sequential import STEP_PARTS
from discrete_grad.sampling import uniform
from discrete_grad.space import can_inspect
from discrete_grad.weighting._reader import Reader
from discrete_grad.weighting.draws import (
    effective_size,
    inverse_draw,
    log_mean_exp,
    systematic_draw,
    take_samples,
)
from discrete_grad.weighting.reward_weighted import RewardWeighted
from discrete_grad.weighting.tilt import check_some, scaled_reward
from discrete_grad.weighting.value_guidance import Potential

__all__ = ["Proposal", "Twist", "no_twist"]

Twist = Potential[Any] | Callable[[Tensor, Tensor | None], Tensor]
"""A potential of the reference's space and order, or a function of prefixes:

`(codes (M, B, t) in the reference's order, context (B, C) or None) -> log psi (M, B)`. B is the
product of the batch's dimensions, 1 without a context.
"""

Proposal = Literal["reference", "twisted"]


def no_twist(prefix: Tensor, context: Tensor | None = None) -> Tensor:
    """`log psi = 0`: nothing is known before the last feature.

    Example:
        >>> no_twist(torch.tensor([[[0, 1]]]))
        tensor([[0.]], dtype=torch.float64)
    """
    return torch.zeros(prefix.shape[:-1], dtype=torch.float64, device=prefix.device)


def _conditional_systematic_draw(
    log_weights: Tensor, kept: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """A systematic draw in which one given particle survives.

    Its law is that of `systematic_draw`, times the particle's number of children over its expected
    number; one of its children, each as likely, is the one that continues it.

    Args:
        log_weights: `(N, B)`.
        kept: index `(B,)` of a particle of positive weight.
        noise: `(B,)` in [0, 1).

    Returns:
        Indices `(N, B)`, and the place `(B,)` of the child that continues the particle.

    Reference:
        Chopin and Singh (2015), arXiv 1304.1887, section 5, on conditional systematic resampling.

    Example:
        >>> log_weights = torch.tensor([[0.75], [0.25]]).log()
        >>> index, kept = _conditional_systematic_draw(
        ...     log_weights, torch.tensor([1]), torch.tensor([0.5])
        ... )
        >>> index.tolist(), kept
        ([[0], [1]], tensor([1]))
    """
    w = (log_weights - log_weights.logsumexp(0)).exp().double()
    own = w.gather(0, kept.unsqueeze(0)).squeeze(0)
    start = w.cumsum(0).gather(0, kept.unsqueeze(0)).squeeze(0) - own
    # a uniform point of the particle's own stretch fixes the comb and the tooth it lies on; kept
    # below N, or its floor would be one tooth too many
    point = ((start + noise * own) * len(w)).clamp(0, len(w) * (1 - 2**-52))
    place = point.floor().long()
    index = systematic_draw(log_weights, point - point.floor())
    # set, for rounding may have given the tooth to a neighbour
    return index.scatter(0, place.unsqueeze(0), kept.unsqueeze(0)), place


@dataclass(frozen=True)
class Particles:
    """The state of a run; `kept` `(B,)` is the place of the exact row.

    `log_z` `(B,)` is that of the weights that were resampled away. `reference` and `twist`, where
    it is a potential, remember the codes.
    """

    reference: Reader
    twist: Reader | None

    codes: Tensor
    log_weights: Tensor
    log_psi: Tensor
    log_z: Tensor
    resampled: Tensor
    kept: Tensor


class ParticleRun:
    """The passes over the features; counts the reward's evaluations a context."""

    def __init__(
        self,
        target: RewardWeighted,
        context: Tensor | None,
        count: int,
        twist: Twist,
        proposal: str,
        threshold: float,
    ) -> None:
        _check(target, count, twist, proposal, threshold)
        self.target, self.twist, self.proposal = target, twist, proposal
        self.reference = cast(SequentialPolicy[Any], target.reference)
        self.count, self.threshold, self.evaluations = count, threshold, 0
        self.contexts = math.prod(batch_of(context))
        self.device = device_of(target.reference, context)
        self.context = None if context is None else context.reshape(self.contexts, -1)
        beta = torch.as_tensor(target.beta, dtype=torch.float64, device=self.device)
        self.beta = beta.expand(batch_of(context)).reshape(-1) if beta.dim() else beta

    def run(self, exact: Tensor | None, generator: torch.Generator | None) -> Particles:
        """All features; `exact` `(B, F)`, in the reference's order, is a particle throughout."""
        state = self._begin(generator)
        for t in range(len(self.reference.order)):
            state = self._resample(state, exact is not None, generator) if t else state
            state = self._extend(state, None if exact is None else exact[:, t], generator)
        return replace(state, log_z=state.log_z + log_mean_exp(state.log_weights))

    def in_space_order(self, codes: Tensor) -> Tensor:
        """Codes `(..., F)` in the space's order of features."""
        back = sorted(range(len(self.reference.order)), key=self.reference.order.__getitem__)
        return codes[..., back]

    def _noise(self, *shape: int, generator: torch.Generator | None) -> Tensor:
        return uniform((*shape, self.contexts), device=self.device, generator=generator)

    def _begin(self, generator: torch.Generator | None) -> Particles:
        zero = torch.zeros(self.count, self.contexts, dtype=torch.float64, device=self.device)
        codes = torch.zeros(*zero.shape, 0, dtype=torch.long, device=self.device)
        kept = (self._noise(generator=generator) * self.count).long()
        reference = Reader.begin(self.reference, self.context, zero.shape)
        twist = None
        if isinstance(self.twist, Potential):
            twist = Reader.begin(self.twist, self.context, zero.shape)
        return Particles(reference, twist, codes, zero, zero, zero[0], zero[0], kept)

    def _extend(
        self, state: Particles, exact: Tensor | None, generator: torch.Generator | None
    ) -> Particles:
        """Draw the next feature, and weigh by `pi psi_t / (q psi_{t-1})`."""
        log_p, reference = state.reference.advance(state.codes)
        futures, twist = self._futures(state)
        log_p, noise = log_p.double(), self._noise(1, self.count, generator=generator)
        if self.proposal == "twisted":
            psi = self._psi_of_all(state.codes, futures, log_p.shape[-1])
            total = (log_p + psi).logsumexp(-1)
            # a particle without a future draws anything
            drawn_from = torch.where(total.unsqueeze(-1) > -math.inf, log_p + psi, log_p)
            code = self._draw(drawn_from, noise, state.kept, exact)
            log_psi = psi.gather(-1, code.unsqueeze(-1)).squeeze(-1)
        else:
            code = self._draw(log_p, noise, state.kept, exact)
            total = log_psi = self._psi_of_one(state.codes, futures, code)
        if exact is not None:
            self._check_exact(log_p.gather(-1, code.unsqueeze(-1)).squeeze(-1) + log_psi, state)
        # a particle without a future has none any more; -inf - (-inf) would be NaN
        gain = (total - state.log_psi).masked_fill(state.log_psi == -math.inf, -math.inf)
        codes = torch.cat([state.codes, code.unsqueeze(-1)], -1)
        weights = state.log_weights + gain
        return Particles(
            reference, twist, codes, weights, log_psi, state.log_z, state.resampled, state.kept
        )

    def _futures(self, state: Particles) -> tuple[Tensor | None, Reader | None]:
        """Potential `(N, B, K)` of every continuation but the last."""
        if state.twist is None or state.codes.shape[-1] + 1 == len(self.reference.order):
            return None, state.twist
        return state.twist.advance(state.codes)

    def _draw(self, logits: Tensor, noise: Tensor, kept: Tensor, exact: Tensor | None) -> Tensor:
        code = inverse_draw(logits.movedim(-1, 0), noise).squeeze(0)
        return code if exact is None else code.scatter(0, kept.unsqueeze(0), exact.unsqueeze(0))

    def _psi_of_all(self, prefix: Tensor, futures: Tensor | None, size: int) -> Tensor:
        """Log psi `(N, B, K)` of every continuation."""
        if futures is not None:
            return _checked_twist(futures, prefix, (*prefix.shape[:-1], size))
        every = torch.arange(size, device=prefix.device).view(1, size, 1, 1)
        shape = (self.count, size, self.contexts)
        longer = [prefix.unsqueeze(1).expand(*shape, -1), every.expand(*shape, 1)]
        psi = self._psi(torch.cat(longer, -1).flatten(0, 1))
        return psi.view(shape).movedim(1, -1)

    def _psi_of_one(self, prefix: Tensor, futures: Tensor | None, code: Tensor) -> Tensor:
        """Log psi `(N, B)` of the continuation that was drawn."""
        longer = torch.cat([prefix, code.unsqueeze(-1)], -1)
        if futures is None:
            return self._psi(longer)
        psi = futures.gather(-1, code.unsqueeze(-1)).squeeze(-1)
        return _checked_twist(psi, longer, tuple(code.shape))

    def _psi(self, prefix: Tensor) -> Tensor:
        """Log psi `(M, B)` of prefixes `(M, B, t)`; of whole rows it is the reward over beta."""
        if prefix.shape[-1] == len(self.reference.order):
            self.evaluations += len(prefix)
            rewards = self.target.rewards(self.in_space_order(prefix), self.context)
            return scaled_reward(rewards, self.beta)
        assert not isinstance(self.twist, Potential)
        psi = self.twist(prefix, self.context)
        return _checked_twist(psi, prefix, tuple(prefix.shape[:-1]))

    def _resample(
        self, state: Particles, conditional: bool, generator: torch.Generator | None
    ) -> Particles:
        size = effective_size(state.log_weights)
        # equal weights are so but for rounding
        chosen = (size < self.threshold * self.count * (1 - 1e-9)) & (size > 0)
        noise = self._noise(generator=generator)
        index, kept = systematic_draw(state.log_weights, noise), state.kept
        if conditional:
            index, kept = _conditional_systematic_draw(state.log_weights, kept, noise)
        stay = torch.arange(self.count, device=self.device).unsqueeze(-1).expand_as(index)
        index = index.where(chosen, stay)
        return Particles(
            state.reference.select(index),
            None if state.twist is None else state.twist.select(index),
            take_samples(state.codes, index),
            state.log_weights.masked_fill(chosen, 0),
            state.log_psi.gather(0, index),
            state.log_z + log_mean_exp(state.log_weights).masked_fill(~chosen, 0),
            state.resampled + chosen,
            kept.where(chosen, state.kept),
        )

    def _check_exact(self, log_density: Tensor, state: Particles) -> None:
        own = log_density.gather(0, state.kept.unsqueeze(0)).squeeze(0)
        check_some(own > -math.inf, "the exact row is forbidden by reference, twist or reward")


def _checked_twist(psi: Tensor, prefix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Log psi of prefixes `(M, B, t)`, or `(M, B, K)` of their continuations, in float64."""
    if psi.shape != shape:
        raise ValueError(f"a twist must be {shape}, got {tuple(psi.shape)}")
    if can_inspect(psi) and not (psi < math.inf).all():
        row, context, *after = (~(psi < math.inf)).nonzero()[0].tolist()
        value, codes = float(psi[row, context, *after]), [*prefix[row, context].tolist(), *after]
        raise ValueError(f"the twist gives {value} for the prefix {codes}, context {context}")
    return psi.double()


def _check(
    target: RewardWeighted, count: int, twist: Twist, proposal: str, threshold: float
) -> None:
    require("sequential Monte Carlo", target.reference, *STEP_PARTS)
    reference = cast(SequentialPolicy[Any], target.reference)
    if isinstance(twist, Potential):
        read, drawn = (twist.space, twist.order), (reference.space, reference.order)
        if read != drawn:
            raise ValueError(
                f"twist and reference must read the same features in the same order, got "
                f"{read[0]} {read[1]} and {drawn[0]} {drawn[1]}"
            )
    if proposal not in ("reference", "twisted"):
        raise ValueError(f"proposal must be 'reference' or 'twisted', got {proposal!r}")
    if count < 1 or not 0 <= threshold <= 1:
        raise ValueError(f"needs a particle and a share in [0, 1], got {count} and {threshold}")
