"""Learned potential: what may still be expected after each category, and guidance by it.

A potential also steers `twisted_smc`, where it is called a twist.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from discrete_grad.policies import SequenceNetwork, SequentialPolicy, log_prob_by_steps
from discrete_grad.policies.protocol import require
from discrete_grad.policies.sequence import Reading, feature_order
from discrete_grad.policies.sequential import STEP_PARTS
from discrete_grad.sampling import random_indices
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.weighting.guidance_rules import tilted_log_probs

__all__ = ["Potential", "PrefixValue", "ValueGuided", "fit_prefix_value"]

State = TypeVar("State")

_STEEPEST = 10.0  # nats of error above which the loss goes on as a line


class Potential(ABC, Generic[State]):
    """Logarithm of the expectation after each category that may come next.

    Guides a policy (`ValueGuided`), and is a twist of sequential Monte Carlo (`twisted_smc`).

    Example:
        >>> issubclass(PrefixValue, Potential)
        True
    """

    space: CategoricalSpace
    order: tuple[int, ...]

    @abstractmethod
    def begin(self, context: Tensor | None = None, *, batch: tuple[int, ...]) -> State:
        """State before the first feature; see `SequentialPolicy.begin`."""

    @abstractmethod
    def advance(self, state: State, previous: Tensor | None) -> tuple[Tensor, State]:
        """Numbers `(*batch, K)` in nats for the next feature, and the state after it."""

    @abstractmethod
    def select(self, state: State, rows: Tensor) -> State:
        """The state of other rows of its batch; see `SequentialPolicy.select`."""

    def following(self, prefix_codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Numbers `(..., K)` for the feature after a prefix `(..., t)`, t < F, in the order."""
        given = torch.Size() if context is None else context.shape[:-1]
        batch = torch.broadcast_shapes(prefix_codes.shape[:-1], given)
        values, state = self.advance(self.begin(context, batch=batch), None)
        for code in prefix_codes.unbind(-1):
            values, state = self.advance(state, code.expand(batch))
        return values


@dataclass(frozen=True)
class _Both:
    policy: Any
    potential: Any


class ValueGuided(SequentialPolicy[_Both]):
    """`p(x_t | x_<t) exp(gamma u(x_<=t))`, normalised at each step, u a potential.

    With `u = V / beta`, `V = beta log E[e^(r / beta) | prefix]`, and gamma 1 the rows follow
    `p(x) e^(r(x) / beta) / Z` exactly.

    Args:
        policy: what is guided.
        potential: u, of the same space and order.
        gamma: strength, from 0 on.

    Raises:
        ValueError: for another space or order, or a negative gamma.
        TypeError: for a policy that does not write its rows step by step.

    Reference:
        Yang and Klein (2021), arXiv 2104.05218; Mudgal et al. (2023), arXiv 2310.17022.

    Example:
        >>> from discrete_grad.policies import AutoregressiveGenerator
        >>> from discrete_grad.weighting.guidance_exact import TablePotential
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> rows, model = space.enumerate(), AutoregressiveGenerator(space)
        >>> reward = rows.sum(-1).double()
        >>> potential = TablePotential(space, model.log_prob(rows).detach(), reward)
        >>> tilted = (model.log_prob(rows) + reward).softmax(0)
        >>> torch.allclose(ValueGuided(model, potential).log_prob(rows).exp(), tilted)
        True
    """

    def __init__(
        self, policy: SequentialPolicy[Any], potential: Potential[Any], *, gamma: float = 1.0
    ) -> None:
        require("ValueGuided", policy, "space", *STEP_PARTS)
        if (policy.space, policy.order) != (potential.space, potential.order):
            raise ValueError(
                f"policy and potential must read the same features in the same order, got "
                f"{policy.space} {policy.order} and {potential.space} {potential.order}"
            )
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"gamma must be a finite number from 0 on, got {gamma}")
        self.space, self.order = policy.space, policy.order
        self.policy, self.potential, self.gamma = policy, potential, gamma

    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
    ) -> _Both:
        """See `SequentialPolicy.begin`."""
        policy = self.policy.begin(context, attributes=attributes, known=known, batch=batch)
        return _Both(policy, self.potential.begin(context, batch=batch))

    def advance(self, state: _Both, previous: Tensor | None) -> tuple[Tensor, _Both]:
        """See `SequentialPolicy.advance`."""
        log_probs, policy = self.policy.advance(state.policy, previous)
        values, potential = self.potential.advance(state.potential, previous)
        guided = tilted_log_probs(log_probs, values, self.gamma)
        return guided, _Both(policy, potential)

    def select(self, state: _Both, rows: Tensor) -> _Both:
        """See `SequentialPolicy.select`."""
        policy = self.policy.select(state.policy, rows)
        return _Both(policy, self.potential.select(state.potential, rows))

    def log_prob(
        self, codes: Tensor, context: Tensor | None = None, attributes: Tensor | None = None
    ) -> Tensor:
        """Log-probability `(...)` in nats of codes `(..., F)`."""
        return log_prob_by_steps(self, codes, context, attributes)


class PrefixValue(nn.Module, Potential[Reading]):
    """A learned `V(x_<=t) / beta`; see `fit_prefix_value`.

    Args:
        space: the features of a row.
        context: the context columns; None for none.
        order: as the policy's.
        backbone: "gru" or "transformer".
        hidden: the width of each layer, all equal.

    Example:
        >>> value = PrefixValue(CategoricalSpace.from_sizes((2, 3)))
        >>> value(torch.tensor([[1, 2], [0, 0]])).shape
        torch.Size([2, 2])
    """

    offset: Tensor

    def __init__(
        self,
        space: CategoricalSpace,
        context: ContextSpec | None = None,
        *,
        order: Sequence[str | int] | None = None,
        backbone: Literal["gru", "transformer"] = "gru",
        hidden: Sequence[int] = (64,),
    ) -> None:
        super().__init__()
        self.space, self.order = space, feature_order(space, order)
        self.network = SequenceNetwork(space, context, backbone=backbone, hidden=hidden)
        self.register_buffer("offset", torch.zeros(()))

    def begin(self, context: Tensor | None = None, *, batch: tuple[int, ...]) -> Reading:
        """See `Potential.begin`."""
        return self.network.begin(context, batch=batch, order=self.order)

    def advance(self, state: Reading, previous: Tensor | None) -> tuple[Tensor, Reading]:
        """See `Potential.advance`."""
        outputs, state = self.network.advance(state, previous)
        return outputs + self.offset, state

    def select(self, state: Reading, rows: Tensor) -> Reading:
        """See `Potential.select`."""
        return state.select(rows)

    def forward(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Values `(..., F)` in nats after each feature of codes `(..., F)`."""
        return self.above_offset(codes, context) + self.offset

    def above_offset(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Values less `offset`, which is what all prefixes have in common: numbers about 0."""
        outputs = self.space.split(self.network(codes, context, order=self.order))
        batch = outputs[0].shape[:-1]
        pairs = zip(outputs, codes.unbind(-1), strict=True)
        taken = [o.gather(-1, c.expand(batch).unsqueeze(-1)) for o, c in pairs]
        return torch.cat(taken, -1)


def prefix_value_loss(values: Tensor, log_weight: Tensor) -> Tensor:
    """Mean of `e^(w - v) + v - 1` for values `(..., F)` and w `(...)`; its slope is bounded.

    From an error `w - v` of 10 nats on, the exponential goes on as a line.
    """
    error = log_weight.unsqueeze(-1) - values
    beyond = (error - _STEEPEST).clamp_min(0)
    # beyond 10 nats the tangent of the exponential there, e^10 (1 + beyond)
    grown = (error - beyond).exp() * (1 + beyond)
    return (grown + values - 1).mean()


def fit_prefix_value(
    value: PrefixValue,
    codes: Tensor,
    log_weight: Tensor,
    *,
    context: Tensor | None = None,
    steps: int = 500,
    batch: int = 256,
    learning_rate: float = 5e-3,
    generator: torch.Generator | None = None,
) -> list[float]:
    """Fit `V / beta = log E[e^w | prefix]`, w = r / beta, to rows drawn from the policy.

    The loss `e^(w - v) + v` is convex, and least where v is that value; a squared error would find
    `E[w | prefix]`. It is a Poisson regression, `e^v - e^w v`, whose gradient is divided by e^v: so
    prefixes count alike, however many nats lie between their values. Poisson regression itself has
    next to no gradient except at the best of them. Adam, its learning rate lowered to 0 along a
    cosine.

    Args:
        value: what is fitted.
        codes: `(..., F)`, drawn from the policy that is to be guided or twisted.
        log_weight: `(...)`, w; `-inf` for a forbidden row.
        context: `(..., C)`, broadcast against the rows; None without a context.
        steps: of the optimiser, at least 1.
        batch: rows a step.
        learning_rate: above 0.
        generator: source of the batches.

    Returns:
        The loss of each step, in nats: 0 if all prefixes had the value `log E[e^w]`.

    Raises:
        ValueError: for shapes that do not fit, NaN or `+inf`, or rows that are all forbidden.

    Reference:
        Zhao et al. (2024), arXiv 2404.17546, section 4, on learning twists.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> rows = space.enumerate()
        >>> losses = fit_prefix_value(PrefixValue(space), rows, rows.sum(-1).float(), steps=50)
        >>> losses[-1] < losses[0]
        True
    """
    _check_rows(codes, log_weight)
    if context is not None:
        context = context.expand(*codes.shape[:-1], -1).flatten(0, -2)
    codes, weight = codes.flatten(0, -2), log_weight.flatten().double()
    # the network learns numbers about 0, in float32, whatever the size of the rewards
    offset = weight.logsumexp(0) - math.log(len(weight))
    value.offset.copy_(offset)
    target = (weight - offset).to(value.network.null.dtype)
    optimiser = torch.optim.Adam(value.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for _ in range(steps):
        index = random_indices(len(codes), (batch,), generator=generator).to(codes.device)
        values = value.above_offset(codes[index], None if context is None else context[index])
        loss = prefix_value_loss(values, target[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def _check_rows(codes: Tensor, log_weight: Tensor) -> None:
    if log_weight.shape != codes.shape[:-1]:
        expected, got = tuple(codes.shape[:-1]), tuple(log_weight.shape)
        raise ValueError(f"log_weight must be {expected}, one a row, got {got}")
    wrong = ~(log_weight < math.inf)
    if wrong.any():
        row = tuple(wrong.nonzero()[0].tolist())
        found = float(log_weight[row])
        raise ValueError(f"log_weight must be numbers or -inf, got {found} for row {row}")
    if not (log_weight > -math.inf).any():
        raise ValueError(f"all {log_weight.numel()} rows are forbidden; one must not be")
