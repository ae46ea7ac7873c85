"""A policy of independent features given that the row obeys rules: the exact conditional law."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from discrete_grad.policies.independent import IndependentPolicy
from discrete_grad.policies.obeying import ObeyingPolicy, codes_of, renormalised
from discrete_grad.policies.protocol import require
from discrete_grad.policies.sequential import SequentialPolicy
from discrete_grad.rules import Law, Rules

__all__ = ["Conditioned"]


@dataclass(frozen=True)
class _Written:
    """The place of rows being written.

    Args:
        log_probs: of the feature at each position, `(B, K)` for B different contexts.
        ahead: of each position, what lies behind each state: `(B, S)`; see `Steps.ahead`.
        element: the context of each row, `(*batch)`.
        state: of the rules, `(*batch)`.
        position: of the next feature.
    """

    log_probs: tuple[Tensor, ...]
    ahead: tuple[Tensor, ...]
    element: Tensor
    state: Tensor
    position: int = 0


class Conditioned(ObeyingPolicy, SequentialPolicy[_Written]):
    """`p(x | c) 1[x allowed] / Z(c)` for a policy p of independent features, exactly.

    The features depend on one another now, so it has no logits; in the order in which the rules
    read them each has an exact law given those before it. All is in float64. `law(context)` has the
    rest: log Z, mode, marginals, entropy, the best rows.

    Args:
        policy: any with `space` and `logits`.
        rules: of the same space; a context of theirs is read from the policy's.

    Raises:
        ValueError: for rules of another space, or of a context column that the policy does not
            read.
        TypeError: for a policy without logits.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> from discrete_grad.rules import Forbid
        >>> space = CategoricalSpace({"base": ["NaH", "KOH"], "solvent": ["water", "THF"]})
        >>> rules = Rules(space, [Forbid({"base": "NaH", "solvent": "water"})])
        >>> policy = Conditioned(Generator(space), rules)
        >>> policy.log_prob(torch.tensor([[0, 0], [0, 1]])).exp()
        tensor([0.0000, 0.3333], dtype=torch.float64, grad_fn=<ExpBackward0>)
        >>> bool(policy.allows(policy.sample(count=100)).all())
        True
    """

    policy: IndependentPolicy

    def __init__(self, policy: IndependentPolicy, rules: Rules) -> None:
        require("Conditioned", policy, "space", "logits")
        super().__init__(policy, rules)
        self.order = self._steps.order

    def law(self, context: Tensor | None = None) -> Law:
        """The law `(*batch)` of the rows, in float64.

        Raises:
            ValueError: for a context in which no row is possible.
        """
        return self.rules.condition(self._logits(context), context=self.rule_context(context))

    def log_prob(
        self, codes: Tensor, context: Tensor | None = None, attributes: Tensor | None = None
    ) -> Tensor:
        """Log-probability `(..., *batch)` in nats; `-inf` for a row that is not allowed."""
        self._check_attributes(attributes)
        return self.law(context).log_prob(codes)

    @torch.no_grad()
    def redrawn(
        self,
        codes: Tensor,
        chosen: Tensor,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Codes `(..., *batch, F)` with some features drawn anew, given the others and the rules.

        Args:
            codes: `(..., *batch, F)`, rows that are possible.
            chosen: booleans of this shape, the features drawn anew.
            context: `(*batch, C)`.
            generator: source of the noise.
        """
        sizes = torch.tensor(self.space.sizes, device=codes.device)
        free = chosen.repeat_interleave(sizes, -1, output_size=self.space.width)
        own = self.space.one_hot(codes, dtype=torch.bool)
        logits = self._logits(context).masked_fill(~(free | own), -torch.inf)
        given = self.rule_context(context)
        given = None if given is None else given.expand(*codes.shape[:-1], -1)
        return self.rules.condition(logits, context=given).sample(1, generator=generator)[0]

    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
    ) -> _Written:
        """See `SequentialPolicy.begin`; ValueError for attributes, which are not read."""
        self._check_attributes(attributes, known)
        log_p = self.space.log_softmax(self._logits(context))
        own, flat = log_p.shape[:-1], log_p.reshape(-1, self.space.width)
        element = torch.arange(len(flat), device=flat.device).view(own).expand(batch)
        state = self._begin(batch, context, flat.device)
        parts = self.space.split(flat)
        ahead = tuple(self._steps.ahead(flat))
        return _Written(tuple(parts[feature] for feature in self.order), ahead, element, state)

    def advance(self, state: _Written, previous: Tensor | None) -> tuple[Tensor, _Written]:
        """See `SequentialPolicy.advance`; of a soft feature the likeliest category is read."""
        steps, position, element, at = self._steps, state.position, state.element, state.state
        if previous is not None:
            at = steps.advance(position - 1, at, codes_of(previous))
        behind = steps.following(position, at)
        ways = state.log_probs[position][element]
        ways = ways + state.ahead[position][element.unsqueeze(-1), behind]
        log_probs = renormalised(ways, steps.allowed(position, at))
        return log_probs, replace(state, state=at, position=position + 1)

    def select(self, state: _Written, rows: Tensor) -> _Written:
        """See `SequentialPolicy.select`."""
        element, at = state.element.flatten()[rows], state.state.flatten()[rows]
        return replace(state, element=element, state=at)

    def _logits(self, context: Tensor | None) -> Tensor:
        logits = self.policy.logits(context)
        self.space.check_logits(logits)
        return logits.double()

    def _check_attributes(self, *given: Tensor | None) -> None:
        if any(one is not None for one in given):
            raise ValueError(f"{type(self).__name__} takes no attributes")
