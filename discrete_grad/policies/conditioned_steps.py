"""A policy that writes step by step, kept from every step that cannot end on an allowed row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from discrete_grad.policies.conditional import conditional_logits
from discrete_grad.policies.obeying import ObeyingPolicy, codes_of, renormalised
from discrete_grad.policies.protocol import require
from discrete_grad.policies.sequential import STEP_PARTS, SequentialPolicy, log_prob_by_steps
from discrete_grad.rules import Rules

__all__ = ["ConditionedSteps"]


@dataclass(frozen=True)
class _Written:
    """State of the policy, and that of the rules `(*batch)`, before a position."""

    inner: Any
    state: Tensor
    position: int = 0


class ConditionedSteps(ObeyingPolicy, SequentialPolicy[_Written]):
    """A step-by-step policy, masked at each step to the categories that can end on an allowed row.

    There are no dead ends. Its law is that of the policy renormalised at each step,
    `prod_t p(x_t | x_<t) / p(x_t can end well | x_<t)`, and `log_prob` is the exact one of that
    law. It is not the policy's law given that the row obeys: a beginning that leaves few allowed
    rows keeps the whole probability that the policy gave it, where conditioning would lower it.
    `RewardWeighted` with the policy itself as reference, and a reward of `-inf` for rows that are
    not allowed, is the latter; `twisted_smc` samples it.

    Where the policy itself forbids every category that can end well, these are equally likely.

    Args:
        policy: any with the parts of a `SequentialPolicy`.
        rules: of the same space, which the automaton must be able to read in the policy's order; a
            context of theirs is read from the policy's.

    Raises:
        ValueError: for rules of another space, of a context column that the policy does not read,
            or of a sequence that the policy writes in another order.
        TypeError: for a policy that does not write step by step.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import AutoregressiveGenerator
        >>> from discrete_grad.rules import Exactly
        >>> space = CategoricalSpace({"a": ["no", "yes"], "b": ["no", "yes"], "c": ["no", "yes"]})
        >>> rules = Rules(space, [Exactly(1, {"a": "yes", "b": "yes", "c": "yes"})])
        >>> policy = ConditionedSteps(AutoregressiveGenerator(space), rules)
        >>> rows = policy.sample(count=100)
        >>> bool((rows.sum(-1) == 1).all()), policy.log_prob(rows).shape
        (True, torch.Size([100]))
    """

    policy: SequentialPolicy[Any]

    def __init__(self, policy: SequentialPolicy[Any], rules: Rules) -> None:
        require("ConditionedSteps", policy, "space", *STEP_PARTS)
        super().__init__(policy, rules, policy.order)
        self.order = policy.order

    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
    ) -> _Written:
        """See `SequentialPolicy.begin`."""
        given = {"attributes": attributes, "known": known}
        given = {name: one for name, one in given.items() if one is not None}
        inner = self.policy.begin(context, batch=batch, **given)
        return _Written(inner, self._begin(batch, context))

    def advance(self, state: _Written, previous: Tensor | None) -> tuple[Tensor, _Written]:
        """See `SequentialPolicy.advance`; of a soft feature the likeliest category is read."""
        at, position = state.state, state.position
        log_probs, inner = self.policy.advance(state.inner, previous)
        at = at.to(log_probs.device)
        if previous is not None:
            at = self._steps.advance(position - 1, at, codes_of(previous))
        masked = renormalised(log_probs, self._steps.allowed(position, at))
        return masked, _Written(inner, at, position + 1)

    def select(self, state: _Written, rows: Tensor) -> _Written:
        """See `SequentialPolicy.select`."""
        at = state.state.flatten()[rows.to(state.state.device)]
        return _Written(self.policy.select(state.inner, rows), at, state.position)

    def conditional_logits(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probabilities `(..., D)` of every feature given those before it in a row."""
        logits = conditional_logits(self.policy, codes, context)
        batch = torch.broadcast_shapes(codes.shape[:-1], logits.shape[:-1])
        state = self._begin(batch, context, codes.device)
        parts = self.space.split(logits)
        found = dict[int, Tensor]()
        for position, at in self._steps.read(codes.expand(*batch, -1), state):
            feature = self.order[position]
            found[feature] = renormalised(parts[feature], self._steps.allowed(position, at))
        return torch.cat([found[feature] for feature in sorted(found)], -1)

    def log_prob(
        self, codes: Tensor, context: Tensor | None = None, attributes: Tensor | None = None
    ) -> Tensor:
        """Log-probability `(...)` in nats; `-inf` for a row that is not allowed."""
        if attributes is not None:
            return log_prob_by_steps(self, codes, context, attributes)
        self.space.check_codes(codes)
        return self.space.log_prob(self.conditional_logits(codes, context), codes)
