"""Answers about pairs of rows, the model of preferences, and DPO."""

from discrete_grad.preferences.config import PreferenceConfig
from discrete_grad.preferences.dpo import DPOConfig, fit_dpo
from discrete_grad.preferences.pairs import choose_pairs, random_pairs, synthetic_preferences
from discrete_grad.preferences.preference_file import (
    append_preferences,
    context_columns,
    read_preferences,
    write_preferences,
)
from discrete_grad.preferences.preference_model import (
    answer_log_probs,
    fit_preference_model,
    held_out_accuracy,
    new_preference_model,
    reward_unit,
)
from discrete_grad.preferences.preferences import Preferences

__all__ = [
    "DPOConfig",
    "PreferenceConfig",
    "Preferences",
    "answer_log_probs",
    "append_preferences",
    "choose_pairs",
    "context_columns",
    "fit_dpo",
    "fit_preference_model",
    "held_out_accuracy",
    "new_preference_model",
    "random_pairs",
    "read_preferences",
    "reward_unit",
    "synthetic_preferences",
    "write_preferences",
]
