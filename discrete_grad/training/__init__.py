"""Training: one loop, three fits, and the run directory that holds the whole job."""

from discrete_grad.training.aligner import fit_aligner
from discrete_grad.training.answers import Preferences
from discrete_grad.training.black_box import Teacher, predict_teacher
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.config import (
    AlignerConfig,
    EstimatorConfig,
    GeneratorConfig,
    LoopConfig,
    PreferenceConfig,
    ReproductionConfig,
)
from discrete_grad.training.context_range import FarContextWarning
from discrete_grad.training.descent import DistillConfig
from discrete_grad.training.distill import Sampler, distill
from discrete_grad.training.distill_teacher import distill_guidance, distill_rows
from discrete_grad.training.dpo import DPOConfig, fit_dpo
from discrete_grad.training.estimator import fit_estimator, new_ensemble
from discrete_grad.training.exact_trees import exact_trees
from discrete_grad.training.finished import Run
from discrete_grad.training.fit_config import FitConfig
from discrete_grad.training.generate import (
    FewRowsWarning,
    check_columns,
    generate,
    part_path,
    polished_row,
)
from discrete_grad.training.generator import (
    Guides,
    fit_generator,
    make_gradient_estimator,
)
from discrete_grad.training.logs import JsonLinesLog, TensorBoardLog
from discrete_grad.training.low_rank import LowRank, add_low_rank, merge_low_rank, trainable
from discrete_grad.training.mining import Mined, mine, with_swaps
from discrete_grad.training.pairs import choose_pairs, random_pairs, synthetic_preferences
from discrete_grad.training.pessimism import (
    PessimisticScore,
    PreferredScore,
    conformal_pessimism,
    guided_score,
)
from discrete_grad.training.policy_objective import Potential
from discrete_grad.training.prefer import prefer
from discrete_grad.training.preference import (
    answer_log_probs,
    fit_preference_model,
    held_out_accuracy,
    new_preference_model,
    reward_unit,
)
from discrete_grad.training.preference_file import (
    append_preferences,
    context_columns,
    read_preferences,
    write_preferences,
)
from discrete_grad.training.reinforce import PolicyLook, Progress, reinforce
from discrete_grad.training.reinforce_config import Algorithm, ReinforceConfig
from discrete_grad.training.replay import RowMemory, memory_weights
from discrete_grad.training.report import write_report
from discrete_grad.training.reproduction import fit_reproduction
from discrete_grad.training.rewards import (
    RunningScale,
    adversarial_reward,
    aligner_reward,
    nearest_distance,
    table_reward,
    weighted_reward,
)
from discrete_grad.training.rows import Rows
from discrete_grad.training.run import fit, load_run
from discrete_grad.training.score_scale import ScoreScale
from discrete_grad.training.teacher import Agreement, Fidelity, learn_teacher

__all__ = [
    "Agreement",
    "Algorithm",
    "AlignerConfig",
    "DPOConfig",
    "DistillConfig",
    "EstimatorConfig",
    "FarContextWarning",
    "FewRowsWarning",
    "Fidelity",
    "FitConfig",
    "GeneratorConfig",
    "Guides",
    "JsonLinesLog",
    "LoopConfig",
    "LowRank",
    "Mined",
    "PessimisticScore",
    "PolicyLook",
    "Potential",
    "PreferenceConfig",
    "Preferences",
    "PreferredScore",
    "Progress",
    "ReinforceConfig",
    "ReproductionConfig",
    "RowMemory",
    "Rows",
    "Run",
    "RunError",
    "RunningScale",
    "Sampler",
    "ScoreScale",
    "Teacher",
    "TensorBoardLog",
    "add_low_rank",
    "adversarial_reward",
    "aligner_reward",
    "answer_log_probs",
    "append_preferences",
    "check_columns",
    "choose_pairs",
    "conformal_pessimism",
    "context_columns",
    "distill",
    "distill_guidance",
    "distill_rows",
    "exact_trees",
    "fit",
    "fit_aligner",
    "fit_dpo",
    "fit_estimator",
    "fit_generator",
    "fit_preference_model",
    "fit_reproduction",
    "generate",
    "guided_score",
    "held_out_accuracy",
    "learn_teacher",
    "load_run",
    "make_gradient_estimator",
    "memory_weights",
    "merge_low_rank",
    "mine",
    "nearest_distance",
    "new_ensemble",
    "new_preference_model",
    "part_path",
    "polished_row",
    "predict_teacher",
    "prefer",
    "random_pairs",
    "read_preferences",
    "reinforce",
    "reward_unit",
    "synthetic_preferences",
    "table_reward",
    "trainable",
    "weighted_reward",
    "with_swaps",
    "write_preferences",
    "write_report",
]
