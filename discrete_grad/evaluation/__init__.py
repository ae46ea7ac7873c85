"""Measures of rows, generators, estimators and aligners."""

from discrete_grad.evaluation.alignment import (
    AlignmentFigure,
    alignment_metrics,
    compare_metrics,
)
from discrete_grad.evaluation.contexts import TrainingContexts, context_labels, distinct_contexts
from discrete_grad.evaluation.exploitation import exploitation_report
from discrete_grad.evaluation.gain_curve import GainCurve, fit_gain_curve
from discrete_grad.evaluation.metrics import (
    distinct_share,
    mean_interval,
    median_interval,
    percentile,
    spearman,
)
from discrete_grad.evaluation.robustness import context_robustness
from discrete_grad.evaluation.subject import ExampleTruth, Observed, Scorer, Subject, Truth
from discrete_grad.evaluation.swap_agreement import SwapAgreement, swap_agreement
from discrete_grad.evaluation.swaps import SwapEffects, swap_effects

__all__ = [
    "AlignmentFigure",
    "ExampleTruth",
    "GainCurve",
    "Observed",
    "Scorer",
    "Subject",
    "SwapAgreement",
    "SwapEffects",
    "TrainingContexts",
    "Truth",
    "alignment_metrics",
    "compare_metrics",
    "context_labels",
    "context_robustness",
    "distinct_contexts",
    "distinct_share",
    "exploitation_report",
    "fit_gain_curve",
    "mean_interval",
    "median_interval",
    "percentile",
    "spearman",
    "swap_agreement",
    "swap_effects",
]
