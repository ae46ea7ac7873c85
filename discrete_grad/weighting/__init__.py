"""Reward-weighted distributions, their samplers, sample weights, and guidance."""

from discrete_grad.weighting.best_of_n import (
    best_of_n,
    best_of_n_law,
    soft_best_of_n,
    soft_best_of_n_law,
)
from discrete_grad.weighting.draws import (
    WeightedSamples,
    effective_size,
    inverse_draw,
    log_mean_exp,
    systematic_draw,
)
from discrete_grad.weighting.guidance import AttributeSet, Guidance, Guided
from discrete_grad.weighting.guidance_exact import (
    TablePolicy,
    TablePotential,
    exact_grade,
    exact_log_probs,
)
from discrete_grad.weighting.guidance_rules import (
    guided_log_probs,
    jensen_weights,
    nucleus,
    tilted_log_probs,
    top_k,
    z_scored_weights,
)
from discrete_grad.weighting.importance import importance_sampling, pareto_k, resampled_importance
from discrete_grad.weighting.metropolis import (
    SwapProposal,
    informed_swaps,
    log_acceptance,
    metropolis,
    swap_index,
    uniform_swaps,
)
from discrete_grad.weighting.particles import Proposal, Twist, conditional_systematic_draw, no_twist
from discrete_grad.weighting.posthoc import (
    Weighting,
    bootstrap_interval,
    exponential_tilt,
    order_decay,
    post_hoc_weights,
    rank_decay,
    row_vote,
    score_softmax,
    weighted_average,
    weighted_marginals,
    weighted_vote,
)
from discrete_grad.weighting.reference import (
    AutoregressiveReference,
    Factorised,
    Reference,
    Reward,
    as_reference,
)
from discrete_grad.weighting.reward_weighted import ExactTilt, RewardWeighted
from discrete_grad.weighting.roots import beta_for_kl, beta_for_reward
from discrete_grad.weighting.sample_gate import SampleGate
from discrete_grad.weighting.segments import (
    Backend,
    segment_logsumexp,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
)
from discrete_grad.weighting.smc import log_z_bounds, smc_log_z, twisted_smc
from discrete_grad.weighting.tilt import (
    coldest,
    log_partition,
    table_entropy,
    table_expectation,
    table_kl,
    tilt,
)
from discrete_grad.weighting.value_guidance import (
    Potential,
    PrefixValue,
    ValueGuided,
    fit_prefix_value,
)

__all__ = [
    "AttributeSet",
    "AutoregressiveReference",
    "Backend",
    "ExactTilt",
    "Factorised",
    "Guidance",
    "Guided",
    "Potential",
    "PrefixValue",
    "Proposal",
    "Reference",
    "Reward",
    "RewardWeighted",
    "SampleGate",
    "SwapProposal",
    "TablePolicy",
    "TablePotential",
    "Twist",
    "ValueGuided",
    "WeightedSamples",
    "Weighting",
    "as_reference",
    "best_of_n",
    "best_of_n_law",
    "beta_for_kl",
    "beta_for_reward",
    "bootstrap_interval",
    "coldest",
    "conditional_systematic_draw",
    "effective_size",
    "exact_grade",
    "exact_log_probs",
    "exponential_tilt",
    "fit_prefix_value",
    "guided_log_probs",
    "importance_sampling",
    "informed_swaps",
    "inverse_draw",
    "jensen_weights",
    "log_acceptance",
    "log_mean_exp",
    "log_partition",
    "log_z_bounds",
    "metropolis",
    "no_twist",
    "nucleus",
    "order_decay",
    "pareto_k",
    "post_hoc_weights",
    "rank_decay",
    "resampled_importance",
    "row_vote",
    "score_softmax",
    "segment_logsumexp",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "smc_log_z",
    "soft_best_of_n",
    "soft_best_of_n_law",
    "swap_index",
    "systematic_draw",
    "table_entropy",
    "table_expectation",
    "table_kl",
    "tilt",
    "tilted_log_probs",
    "top_k",
    "twisted_smc",
    "uniform_swaps",
    "weighted_average",
    "weighted_marginals",
    "weighted_vote",
    "z_scored_weights",
]
