"""Fits of estimators, aligners and generators, and the scales of scores."""

from discrete_grad.fitting.aligner import fit_aligner
from discrete_grad.fitting.black_box import Teacher, predict_teacher
from discrete_grad.fitting.config import (
    AlignerConfig,
    EstimatorConfig,
    GeneratorConfig,
    ReproductionConfig,
)
from discrete_grad.fitting.context_range import FarContextWarning
from discrete_grad.fitting.estimator import fit_estimator, new_ensemble
from discrete_grad.fitting.exact_trees import exact_trees
from discrete_grad.fitting.generator import FrozenModels, fit_generator, make_gradient_estimator
from discrete_grad.fitting.hard_pairs import Mined, mine_hard_pairs, with_swaps
from discrete_grad.fitting.low_rank import add_low_rank, merge_low_rank, trainable
from discrete_grad.fitting.pessimism import conformal_pessimism
from discrete_grad.fitting.reproduction import fit_reproduction
from discrete_grad.fitting.score_scale import ScoreScale
from discrete_grad.fitting.teacher import Fidelity, learn_teacher

__all__ = [
    "AlignerConfig",
    "EstimatorConfig",
    "FarContextWarning",
    "Fidelity",
    "FrozenModels",
    "GeneratorConfig",
    "Mined",
    "ReproductionConfig",
    "ScoreScale",
    "Teacher",
    "add_low_rank",
    "conformal_pessimism",
    "exact_trees",
    "fit_aligner",
    "fit_estimator",
    "fit_generator",
    "fit_reproduction",
    "learn_teacher",
    "make_gradient_estimator",
    "merge_low_rank",
    "mine_hard_pairs",
    "new_ensemble",
    "predict_teacher",
    "trainable",
    "with_swaps",
]
