"""The report of a run: its tables, sentences, plots and page."""

from discrete_grad.reporting.edit_plots import edit_history_plot, edits_plot
from discrete_grad.reporting.environment import environment
from discrete_grad.reporting.estimator_text import (
    beyond_sentences,
    estimator_sentences,
    maximised_sentences,
)
from discrete_grad.reporting.page import render_html
from discrete_grad.reporting.plots import scores_plot
from discrete_grad.reporting.report import build_report
from discrete_grad.reporting.rules_text import rules_sentences, together_sentences
from discrete_grad.reporting.wording import format_table, verdict

__all__ = [
    "beyond_sentences",
    "build_report",
    "edit_history_plot",
    "edits_plot",
    "environment",
    "estimator_sentences",
    "format_table",
    "maximised_sentences",
    "render_html",
    "rules_sentences",
    "scores_plot",
    "together_sentences",
    "verdict",
]
