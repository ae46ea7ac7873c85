"""A mixture of generators given that the row obeys rules."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.policies.mixture import MixtureGenerator
from discrete_grad.policies.obeying import ObeyingPolicy
from discrete_grad.policies.protocol import require
from discrete_grad.rules import Law, Rules
from discrete_grad.sampling import categorical, uniform_like

__all__ = ["ConditionedMixture"]


class ConditionedMixture(ObeyingPolicy):
    """`p(x | c) 1[x allowed] / Z(c)` for a mixture p of generators, exactly, in float64.

    It is a mixture of the experts so conditioned, whose weights are the gate's times the
    probability with which each expert obeys.

    Args:
        policy: the mixture.
        rules: of the same space; a context of theirs is read from the mixture's.

    Raises:
        ValueError: for rules of another space, or of a context column that the mixture does not
            read.
        TypeError: for a policy without experts and gate.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> from discrete_grad.rules import Forbid
        >>> space = CategoricalSpace({"base": ["NaH", "KOH"], "solvent": ["water", "THF"]})
        >>> gate = Generator(CategoricalSpace({"expert": 2}))
        >>> mixture = MixtureGenerator([Generator(space), Generator(space)], gate)
        >>> rules = Rules(space, [Forbid({"base": "NaH", "solvent": "water"})])
        >>> bool(rules.allows(ConditionedMixture(mixture, rules).sample(count=100)).all())
        True
    """

    policy: MixtureGenerator

    def __init__(self, policy: MixtureGenerator, rules: Rules) -> None:
        require("ConditionedMixture", policy, "space", "experts", "gate")
        super().__init__(policy, rules)

    def weights(self, context: Tensor | None = None) -> Tensor:
        """Probabilities `(*batch, M)` of the experts; they sum to 1."""
        return self._log_weights(context, self.laws(context)).exp()

    def laws(self, context: Tensor | None = None) -> Law:
        """The laws `(*batch, M)` of the experts' rows.

        Raises:
            ValueError: for a context in which an expert can draw no row that is allowed.
        """
        logits = self.policy._expert_logits(context).double()
        given = self.rule_context(context)
        if given is not None:
            given = given.unsqueeze(-2).expand(*logits.shape[:-1], -1)
        return self.rules.condition(logits, context=given)

    def marginals(self, context: Tensor | None = None) -> Tensor:
        """Exact probability `(*batch, D)` of each category of each feature."""
        laws = self.laws(context)
        return (self._log_weights(context, laws).exp().unsqueeze(-1) * laws.marginals()).sum(-2)

    def log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probability `(..., *batch)` in nats; `-inf` for a row that is not allowed."""
        laws = self.laws(context)
        joint = self._log_weights(context, laws) + laws.log_prob(codes.unsqueeze(-2))
        dead = (joint == -torch.inf).all(-1)
        # the derivative of logsumexp is NaN where every term is -inf
        alive = joint.masked_fill(dead.unsqueeze(-1), 0)
        return alive.logsumexp(-1).masked_fill(dead, -torch.inf)

    @torch.no_grad()
    def sample(
        self,
        context: Tensor | None = None,
        count: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Codes `(count, *batch, F)`; see `Policy.sample`."""
        laws = self.laws(context)
        weights = self._log_weights(context, laws)
        weights, number = weights.expand(count, *weights.shape), self.policy.gate.space
        drawn = categorical(number, weights, uniform_like(number, weights, generator=generator))
        rows = laws.sample(count, generator=generator)
        index = drawn.unsqueeze(-1).expand(*drawn.shape, self.space.num_features)
        return rows.gather(-2, index).squeeze(-2)

    def _log_weights(self, context: Tensor | None, laws: Law) -> Tensor:
        gate = self.policy._read(self.policy.gate, context).double()
        return (gate.log_softmax(-1) + laws.log_z()).log_softmax(-1)
