"""Policies: distributions of rows given a context."""

from discrete_grad.policies.autoregressive import AutoregressiveGenerator, known_mask
from discrete_grad.policies.conditional import (
    Policy,
    chosen_log_probs,
    conditional_logits,
    num_steps,
    to_steps,
)
from discrete_grad.policies.generator import Generator
from discrete_grad.policies.mixture import MixtureGenerator
from discrete_grad.policies.sequence import SequenceNetwork
from discrete_grad.policies.sequential import SequentialPolicy, log_prob_by_steps

__all__ = [
    "AutoregressiveGenerator",
    "Generator",
    "MixtureGenerator",
    "Policy",
    "SequenceNetwork",
    "SequentialPolicy",
    "chosen_log_probs",
    "conditional_logits",
    "known_mask",
    "log_prob_by_steps",
    "num_steps",
    "to_steps",
]
