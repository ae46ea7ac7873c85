"""Potential: the expectation that remains after each category, and guidance by it.

A potential also steers `twisted_smc`, where it is called a twist.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from discrete_grad.policies import SequentialPolicy, log_prob_by_steps
from discrete_grad.policies.protocol import require
from discrete_grad.policies.sequential import STEP_PARTS
from discrete_grad.space import CategoricalSpace
from discrete_grad.weighting.guidance_rules import tilted_log_probs

__all__ = ["Potential", "ValueGuided"]

State = TypeVar("State")


class Potential(ABC, Generic[State]):
    """Logarithm of the expectation after each category that may come next.

    It guides a policy (`ValueGuided`), and is a twist of sequential Monte Carlo (`twisted_smc`).

    Example:
        >>> from discrete_grad.weighting import PrefixValue
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
