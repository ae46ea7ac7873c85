"""Parts that all policies have whose rows obey rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from discrete_grad.nn.context import check_context
from discrete_grad.policies.protocol import has, require
from discrete_grad.rules import Rules
from discrete_grad.rules.pairs import allowed_pairs
from discrete_grad.space import ContextSpec, can_inspect, is_codes

__all__ = ["ObeyingPolicy"]


class ObeyingPolicy(nn.Module):
    """A policy whose rows obey rules, made of one whose rows need not.

    Rules with a context read the columns of their names in the policy's own context.

    Args:
        policy: with `space`, and with `context_spec` where the rules have a context.
        rules: of the same space.
        order: positions of the features in which the rules are read; None for the rules' own.

    Raises:
        ValueError: for rules of another space, or of a context column that the policy does not
            read.
        TypeError: for a policy that lacks a part.

    Example:
        >>> from discrete_grad.policies import Conditioned
        >>> issubclass(Conditioned, ObeyingPolicy)
        True
    """

    def __init__(self, policy: Any, rules: Rules, order: Sequence[int] | None = None) -> None:
        super().__init__()
        require("a policy under rules", policy, "space")
        if policy.space != rules.space:
            raise ValueError(f"policy and rules differ: {policy.space} and {rules.space}")
        self.policy, self.rules, self.space = policy, rules, rules.space
        if has(policy, "context_spec"):
            self.context_spec: ContextSpec | None = policy.context_spec
        self._places = _places(policy, rules)
        own = [rules.space.names.index(name) for name in rules.order if name in rules.space.names]
        self._steps = rules.steps(own if order is None else order)

    def rule_context(self, context: Tensor | None) -> Tensor | None:
        """Codes `(*batch, C)` of the rules' own columns of a context; None without any."""
        if self.rules.context is None:
            return None
        spec = cast(ContextSpec, self.context_spec)
        check_context(context, spec)
        return spec.codes(cast(Tensor, context))[..., self._places]

    def allows(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Whether each row of codes `(..., *batch, F)` obeys in its context, `(..., *batch)`."""
        return self.rules.allows(codes, context=self.rule_context(context))

    def swaps_allowed(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Whether rows `(..., *batch, F)` obey with each category in its feature: `(..., D)`."""
        return self._steps.swaps(codes, self._begin(tuple(codes.shape[:-1]), context, codes.device))

    def _begin(
        self, batch: tuple[int, ...], context: Tensor | None, device: torch.device | None = None
    ) -> Tensor:
        """States `(*batch)` of the rules; ValueError for a context in which no row is allowed."""
        given = self.rule_context(context)
        state = self._steps.begin(batch, context=given, device=device)
        dead = ~self._steps.allowed(0, state).any(-1)
        if given is not None and can_inspect(dead) and dead.any():
            codes = given.expand(*batch, -1)[dead][0].tolist()
            raise ValueError(f"the rules allow no row in the context {codes}")
        return state

    def enumerate(self, *, max_rows: int = 1_000_000, device: torch.device | None = None) -> Tensor:
        """Codes `(R, F)` of every row that is allowed, in some context at least.

        Raises:
            ValueError: for more than `max_rows` rows, or pairs of context and row.
        """
        if self.rules.context is None:
            return self.rules.enumerate(max_rows=max_rows).to(device)
        pairs = allowed_pairs(self.rules, max_rows=max_rows)
        if pairs is None:
            raise ValueError(
                f"the rules allow {self.rules.num_rows:,} pairs of context and row, more than "
                f"max_rows={max_rows:,}"
            )
        rows: Tensor = pairs[:, -self.space.num_features :].unique(dim=0)
        return rows.to(device)


def codes_of(block: Tensor) -> Tensor:
    """Codes `(...)` of one feature, of codes or of hard or soft `(..., K)`, whose likeliest."""
    return block if is_codes(block) else block.argmax(-1)


def renormalised(logits: Tensor, possible: Tensor) -> Tensor:
    """Log-probabilities `(..., K)` of the categories that are possible.

    Where the policy forbids them all, they are equally likely; so are all where none is possible:
    behind a row that has broken a rule anything may come, as its probability is 0 already.
    """
    masked = logits.masked_fill(~possible, -torch.inf)
    stuck = (masked == -torch.inf).all(-1, keepdim=True)
    free = torch.zeros_like(masked).masked_fill(~possible & possible.any(-1, True), -torch.inf)
    return torch.where(stuck, free, masked).log_softmax(-1)


def _places(policy: Any, rules: Rules) -> list[int]:
    """Places of the rules' context columns among the categorical ones of the policy's context."""
    if rules.context is None:
        return []
    require("rules with a context", policy, "context_spec")
    spec = policy.context_spec
    columns = None if spec is None else spec.categorical
    known = {} if columns is None else dict(zip(columns.names, columns.categories, strict=True))
    names, places = tuple(known), []
    for name, categories in zip(rules.context.names, rules.context.categories, strict=True):
        if name not in names:
            raise ValueError(
                f"the rules read the context column {name!r}, the policy reads {names}"
            )
        if known[name] != categories:
            had = f"{known[name]}; the rules know {categories}"
            raise ValueError(f"context column {name!r} has {had}")
        places.append(names.index(name))
    return places
