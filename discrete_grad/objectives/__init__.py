"""Losses: pure functions of tensors."""

from discrete_grad.objectives.advantages import add_shaping, gae, group_relative, leave_one_out
from discrete_grad.objectives.alignment import alignment_loss
from discrete_grad.objectives.conservative import conservative_penalty
from discrete_grad.objectives.contrastive import acc_con, rank_n_contrast
from discrete_grad.objectives.contrastive_pairs import mined_contrast, nt_xent, sup_con
from discrete_grad.objectives.metric_learning import metric_learning_loss
from discrete_grad.objectives.policy import (
    diversity_bonus,
    entropy_bonus,
    expected_score_loss,
    hamming_excess,
    kl_to_reference,
)
from discrete_grad.objectives.policy_gradient import (
    advantage_weighted_loss,
    policy_gradient_loss,
    ppo_loss,
    value_loss,
)
from discrete_grad.objectives.preference import bradley_terry_loss, dpo_loss
from discrete_grad.objectives.reproduction import (
    inverse_score_cross_entropy,
    score_weighted_cross_entropy,
)

__all__ = [
    "acc_con",
    "add_shaping",
    "advantage_weighted_loss",
    "alignment_loss",
    "bradley_terry_loss",
    "conservative_penalty",
    "diversity_bonus",
    "dpo_loss",
    "entropy_bonus",
    "expected_score_loss",
    "gae",
    "group_relative",
    "hamming_excess",
    "inverse_score_cross_entropy",
    "kl_to_reference",
    "leave_one_out",
    "metric_learning_loss",
    "mined_contrast",
    "nt_xent",
    "policy_gradient_loss",
    "ppo_loss",
    "rank_n_contrast",
    "score_weighted_cross_entropy",
    "sup_con",
    "value_loss",
]
