"""Losses: pure functions of tensors."""

from discrete_grad.objectives.advantages import (
    add_shaping,
    diversity_advantage,
    gae,
    group_relative,
    leave_one_out,
    standardised,
)
from discrete_grad.objectives.alignment import alignment_loss
from discrete_grad.objectives.conservative import conservative_penalty
from discrete_grad.objectives.contrastive import acc_con, rank_n_contrast
from discrete_grad.objectives.contrastive_pairs import mined_contrast, nt_xent, sup_con
from discrete_grad.objectives.metric_learning import metric_learning_loss, score_bins, score_pairs
from discrete_grad.objectives.policy import (
    diversity_bonus,
    entropy_bonus,
    expected_score_loss,
    hamming_excess,
    kl_to_reference,
)
from discrete_grad.objectives.policy_gradient import (
    WeightRule,
    advantage_weighted_loss,
    importance_weights,
    policy_gradient_loss,
    ppo_loss,
    value_loss,
)
from discrete_grad.objectives.policy_kl import conditional_kl, kl_k1, kl_k2, kl_k3
from discrete_grad.objectives.preference import (
    OUTCOMES,
    bradley_terry_loss,
    dpo_loss,
    outcome_information,
    preference_log_probs,
)
from discrete_grad.objectives.reproduction import (
    inverse_score_cross_entropy,
    score_weighted_cross_entropy,
)

__all__ = [
    "OUTCOMES",
    "WeightRule",
    "acc_con",
    "add_shaping",
    "advantage_weighted_loss",
    "alignment_loss",
    "bradley_terry_loss",
    "conditional_kl",
    "conservative_penalty",
    "diversity_advantage",
    "diversity_bonus",
    "dpo_loss",
    "entropy_bonus",
    "expected_score_loss",
    "gae",
    "group_relative",
    "hamming_excess",
    "importance_weights",
    "inverse_score_cross_entropy",
    "kl_k1",
    "kl_k2",
    "kl_k3",
    "kl_to_reference",
    "leave_one_out",
    "metric_learning_loss",
    "mined_contrast",
    "nt_xent",
    "outcome_information",
    "policy_gradient_loss",
    "ppo_loss",
    "preference_log_probs",
    "rank_n_contrast",
    "score_bins",
    "score_pairs",
    "score_weighted_cross_entropy",
    "standardised",
    "sup_con",
    "value_loss",
]
