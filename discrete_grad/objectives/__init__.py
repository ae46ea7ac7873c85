"""Losses: pure functions of tensors."""

from discrete_grad.objectives.alignment import alignment_loss
from discrete_grad.objectives.contrastive import rank_n_contrast
from discrete_grad.objectives.policy import entropy_bonus, expected_score_loss, kl_to_reference
from discrete_grad.objectives.reproduction import (
    inverse_score_cross_entropy,
    score_weighted_cross_entropy,
)

__all__ = [
    "alignment_loss",
    "entropy_bonus",
    "expected_score_loss",
    "inverse_score_cross_entropy",
    "kl_to_reference",
    "rank_n_contrast",
    "score_weighted_cross_entropy",
]
