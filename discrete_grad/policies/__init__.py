"""Policies: distributions of rows given a context."""

from discrete_grad.policies.autoregressive import AutoregressiveGenerator, known_mask
from discrete_grad.policies.condition import conditioned
from discrete_grad.policies.conditional import chosen_log_probs, conditional_logits
from discrete_grad.policies.conditioned import Conditioned
from discrete_grad.policies.conditioned_mixture import ConditionedMixture
from discrete_grad.policies.conditioned_steps import ConditionedSteps
from discrete_grad.policies.generator import Generator
from discrete_grad.policies.independent import IndependentPolicy
from discrete_grad.policies.mixture import MixtureGenerator
from discrete_grad.policies.own import OwnGenerator
from discrete_grad.policies.protocol import Policy
from discrete_grad.policies.sequence import SequenceNetwork
from discrete_grad.policies.sequential import SequentialPolicy, log_prob_by_steps

__all__ = [
    "AutoregressiveGenerator",
    "Conditioned",
    "ConditionedMixture",
    "ConditionedSteps",
    "Generator",
    "IndependentPolicy",
    "MixtureGenerator",
    "OwnGenerator",
    "Policy",
    "SequenceNetwork",
    "SequentialPolicy",
    "chosen_log_probs",
    "conditional_logits",
    "conditioned",
    "known_mask",
    "log_prob_by_steps",
]
