"""Any policy, conditioned by rules."""

from __future__ import annotations

from typing import Any, overload

from discrete_grad.policies.conditioned import Conditioned
from discrete_grad.policies.conditioned_mixture import ConditionedMixture
from discrete_grad.policies.conditioned_steps import ConditionedSteps
from discrete_grad.policies.independent import IndependentPolicy, is_independent
from discrete_grad.policies.mixture import MixtureGenerator
from discrete_grad.policies.protocol import has
from discrete_grad.policies.sequential import STEP_PARTS
from discrete_grad.rules import Rules

__all__ = ["conditioned"]

Obeying = Conditioned | ConditionedMixture | ConditionedSteps


@overload
def conditioned(policy: IndependentPolicy, rules: Rules) -> Conditioned: ...


@overload
def conditioned(policy: MixtureGenerator, rules: Rules) -> ConditionedMixture: ...


@overload
def conditioned(policy: Any, rules: Rules) -> Obeying: ...


def conditioned(policy: Any, rules: Rules) -> Obeying:
    """A policy whose rows obey rules, and whose parameters are those of another policy.

    Independent features and mixtures of them are conditioned exactly; a policy that writes step by
    step is masked at each step, see `ConditionedSteps`. Of a policy that is under rules already
    both hold.

    Args:
        policy: any with `logits`, with `experts` and `gate`, or with the parts of a
            `SequentialPolicy`.
        rules: of the same space; a context of theirs is read from the policy's.

    Raises:
        ValueError: for rules of another space, that contradict those that the policy is under, or
            that the policy cannot follow; see the classes.
        TypeError: for a policy that lacks all of these parts.

    Example:
        >>> import torch
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> from discrete_grad.rules import Fix
        >>> space = CategoricalSpace({"base": ["NaH", "KOH"], "solvent": ["water", "THF"]})
        >>> policy = conditioned(Generator(space), Rules(space, [Fix("base", "KOH")]))
        >>> policy = conditioned(policy, Rules(space, [Fix("solvent", "THF")]))
        >>> policy.sample(count=2).tolist()
        [[1, 1], [1, 1]]
    """
    if has(policy, "policy", "rules"):
        inner: Obeying = conditioned(policy.policy, _joined(policy.rules, rules))
        return inner
    if is_independent(policy):
        return Conditioned(policy, rules)
    if has(policy, "experts", "gate"):
        return ConditionedMixture(policy, rules)
    if has(policy, *STEP_PARTS):
        return ConditionedSteps(policy, rules)
    steps = ", ".join(STEP_PARTS)
    raise TypeError(
        f"rules need a policy with `logits(context)`, with experts and gate, or with {steps}; "
        f"{type(policy).__name__} has none of them"
    )


def _joined(own: Rules, further: Rules) -> Rules:
    """Both sets of rules."""
    if own.space != further.space:
        raise ValueError(
            f"the policy's rules are of {own.space}, the further ones of {further.space}"
        )
    contexts = {rules.context for rules in (own, further)} - {None}
    if len(contexts) > 1:
        raise ValueError(
            f"the rules speak of different contexts: {own.context} and {further.context}"
        )
    return Rules(
        own.space,
        [*own.rules, *further.rules],
        context=own.context or further.context,
        max_states=max(own.max_states, further.max_states),
    )
