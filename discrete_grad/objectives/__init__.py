"""Losses: pure functions of tensors."""

from discrete_grad.objectives.alignment import alignment_loss
from discrete_grad.objectives.conservative import conservative_penalty
from discrete_grad.objectives.contrastive import acc_con, rank_n_contrast
from discrete_grad.objectives.contrastive_pairs import mined_contrast, nt_xent, sup_con
from discrete_grad.objectives.metric_learning import (
    metric_learning_loss,
    score_bins,
    score_pairs,
)
from discrete_grad.objectives.policy import (
    diversity_bonus,
    entropy_bonus,
    expected_score_loss,
    hamming_excess,
    kl_to_reference,
)
from discrete_grad.objectives.reproduction import (
    inverse_score_cross_entropy,
    score_weighted_cross_entropy,
)

__all__ = [
    "acc_con",
    "alignment_loss",
    "conservative_penalty",
    "diversity_bonus",
    "entropy_bonus",
    "expected_score_loss",
    "hamming_excess",
    "inverse_score_cross_entropy",
    "kl_to_reference",
    "metric_learning_loss",
    "mined_contrast",
    "nt_xent",
    "rank_n_contrast",
    "score_bins",
    "score_pairs",
    "score_weighted_cross_entropy",
    "sup_con",
]
