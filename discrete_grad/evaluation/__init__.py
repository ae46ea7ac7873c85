"""How far we are: measures of rows, and the report on a generator."""

from discrete_grad.evaluation.alignment import (
    AlignmentFigure,
    alignment_metrics,
    compare_metrics,
)
from discrete_grad.evaluation.contexts import (
    TrainingContexts,
    context_labels,
    distinct_contexts,
)
from discrete_grad.evaluation.environment import environment
from discrete_grad.evaluation.estimator_text import (
    beyond_sentences,
    estimator_sentences,
    maximised_sentences,
)
from discrete_grad.evaluation.exploitation import exploitation_report
from discrete_grad.evaluation.gain_curve import GainCurve, fit_gain_curve
from discrete_grad.evaluation.metrics import (
    distinct_share,
    mean_interval,
    median_interval,
    percentile,
    spearman,
)
from discrete_grad.evaluation.nearest import nearest_hamming
from discrete_grad.evaluation.page import render_html
from discrete_grad.evaluation.plots import scores_plot
from discrete_grad.evaluation.report import build_report
from discrete_grad.evaluation.robustness import context_robustness
from discrete_grad.evaluation.subject import (
    ExampleTruth,
    Observed,
    Policy,
    ScoredRows,
    Scorer,
    Subject,
    ToUnits,
    Truth,
)
from discrete_grad.evaluation.swap_agreement import SwapAgreement, swap_agreement
from discrete_grad.evaluation.swaps import SwapEffects, swap_effects
from discrete_grad.evaluation.wording import format_table, verdict

__all__ = [
    "AlignmentFigure",
    "ExampleTruth",
    "GainCurve",
    "Observed",
    "Policy",
    "ScoredRows",
    "Scorer",
    "Subject",
    "SwapAgreement",
    "SwapEffects",
    "ToUnits",
    "TrainingContexts",
    "Truth",
    "alignment_metrics",
    "beyond_sentences",
    "build_report",
    "compare_metrics",
    "context_labels",
    "context_robustness",
    "distinct_contexts",
    "distinct_share",
    "environment",
    "estimator_sentences",
    "exploitation_report",
    "fit_gain_curve",
    "format_table",
    "maximised_sentences",
    "mean_interval",
    "median_interval",
    "nearest_hamming",
    "percentile",
    "render_html",
    "scores_plot",
    "spearman",
    "swap_agreement",
    "swap_effects",
    "verdict",
]
