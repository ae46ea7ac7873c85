"""How far we are: measures of rows, and the report on a generator."""

from discrete_grad.evaluation.environment import environment
from discrete_grad.evaluation.metrics import (
    distinct_share,
    mean_interval,
    median_interval,
    nearest_hamming,
    percentile,
    spearman,
)
from discrete_grad.evaluation.page import render_html
from discrete_grad.evaluation.plots import scores_plot
from discrete_grad.evaluation.report import build_report
from discrete_grad.evaluation.subject import (
    ExampleTruth,
    Observed,
    Policy,
    ScoredRows,
    Scorer,
    Subject,
    ToUnits,
    Truth,
    context_labels,
    distinct_contexts,
)
from discrete_grad.evaluation.wording import format_table, verdict

__all__ = [
    "ExampleTruth",
    "Observed",
    "Policy",
    "ScoredRows",
    "Scorer",
    "Subject",
    "ToUnits",
    "Truth",
    "build_report",
    "context_labels",
    "distinct_contexts",
    "distinct_share",
    "environment",
    "format_table",
    "mean_interval",
    "median_interval",
    "nearest_hamming",
    "percentile",
    "render_html",
    "scores_plot",
    "spearman",
    "verdict",
]
