"""Reward-weighted distributions, their samplers, sample weights, and guidance."""

from discrete_grad.weighting.best_of_n import best_of_n, soft_best_of_n
from discrete_grad.weighting.draws import WeightedSamples, effective_size
from discrete_grad.weighting.guidance import AttributeSet, Guidance, Guided
from discrete_grad.weighting.guidance_exact import TablePolicy, TablePotential, exact_log_probs
from discrete_grad.weighting.importance import importance_sampling, pareto_k
from discrete_grad.weighting.metropolis import metropolis
from discrete_grad.weighting.posthoc import post_hoc_weights, weighted_vote
from discrete_grad.weighting.prefix_value import PrefixValue, fit_prefix_value
from discrete_grad.weighting.reward_weighted import ExactTilt, RewardWeighted
from discrete_grad.weighting.roots import beta_for_kl, beta_for_reward
from discrete_grad.weighting.sample_gate import SampleGate
from discrete_grad.weighting.smc import twisted_smc
from discrete_grad.weighting.tilt import tilt
from discrete_grad.weighting.value_guidance import ValueGuided

__all__ = [
    "AttributeSet",
    "ExactTilt",
    "Guidance",
    "Guided",
    "PrefixValue",
    "RewardWeighted",
    "SampleGate",
    "TablePolicy",
    "TablePotential",
    "ValueGuided",
    "WeightedSamples",
    "best_of_n",
    "beta_for_kl",
    "beta_for_reward",
    "effective_size",
    "exact_log_probs",
    "fit_prefix_value",
    "importance_sampling",
    "metropolis",
    "pareto_k",
    "post_hoc_weights",
    "soft_best_of_n",
    "tilt",
    "twisted_smc",
    "weighted_vote",
]
