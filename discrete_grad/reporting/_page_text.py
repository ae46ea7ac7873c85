"""The words of the report's page that explain its tables and plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discrete_grad.reporting._findings import rows_text
from discrete_grad.reporting.wording import number, sign

__all__: list[str] = []

EXPLAINED = {
    "observed": "the best training row's score in the table",
    "estimated": "the mean of the estimators through which the generator was trained",
    "±": "the standard deviation between these estimators",
    "judge's": "by estimators that learned from other rows",
    "true": "the score in the complete table",
    "true percentile": "the share of all possible rows that are worse, ties counted half",
    "entropy": "of the policy, in nats",
    "distinct": "different samples over all samples",
    "nearest": "features in which a row differs from the most similar training row of any context, "
    "in brackets the least over the samples",
    "soft - hard": "the estimator's score of the soft row softmax(logits) minus its mean score of "
    "the samples, on the scale it was trained on: the promise for a row that cannot exist",
}

REPEATED = (
    "; equal rows count as one row, whose score is their mean. The best one has the highest mean "
    "after the means were shrunk towards that of the context: a mean is shrunk more if it has few "
    "scores or if they vary much"
)


CONTEXTS = (
    "The policy's most likely row beside the best training row of the same context, for the "
    "contexts with most rows, at most 200."
)
PROBABILITIES = (
    "Each line is a feature, each field a category; the deeper the colour, the more probable. "
    "Bold: the most likely row. Dashed: the best training row. Of more than 12 categories the most "
    "probable are shown, in their order."
)
SWAPS = (
    "Each field swaps one feature of the policy's most likely row for another category: on the "
    "left with its exact effect on the estimator's score, on the right with the effect that the "
    "estimator's gradient at the row predicts. Blue is better and orange worse, on one scale, that "
    "of the estimator's training; the row's own category is framed. Of more than 12 categories "
    "those with the largest effects are shown."
)
CURVES = (
    "The loss of each stage of training and the held-out loss that decides when it stops. The "
    "generator's losses are negative scores, on the scale the models are trained on."
)


def scores_text(report: Mapping[str, Any]) -> str:
    """Caption of the scores."""
    marks = "circle: estimated, square: by the judge"
    if report["has_truth"]:
        marks += ", diamond: true"
    edge = ("left", "below") if sign(report) > 0 else ("right", "above")
    return (
        f"Every line of the table ({marks}). Where the marks of one line lie apart, the models are "
        f"wrong about these rows; an arrowhead at the {edge[0]} edge is a score far {edge[1]}."
    )


def agreement_text(report: Mapping[str, Any]) -> str:
    """Caption of the scatter, and the quality of the models on rows they have not seen."""
    others = "the judge or the truth does" if report["has_truth"] else "the judge does"
    texts = [
        "Each dot is a sample (larger: drawn several times). Below the dotted line the estimator "
        f"gives more than {others}."
    ]
    for name, quality in report["held_out"].items():
        correlation, error = number(quality["spearman"], 3), number(quality["rmse"], 3)
        texts.append(
            f"On {rows_text(quality)} rows it has not seen, the {name} has a rank correlation of "
            f"{correlation} and, on the scale it was trained on, an error (RMSE) of {error}."
        )
    return " ".join(texts)


def exploitation_text(report: Mapping[str, Any]) -> str:
    """Caption of the plot of over-optimisation."""
    part = report["exploitation"]
    return (
        f"Scores of the policy at {len(part['points'])} moments of its training: the mean of "
        f"{part['samples']:,} samples{_each(part)}, and the most likely row. The horizontal axis "
        f"is the policy's distance from the {part['reference_name']}, the square root of the KL "
        "divergence in nats. Training exploits the estimator's errors where the estimate still "
        f"{'rises' if sign(part) > 0 else 'falls'} and "
        f"{'the truth' if part['measure'] == 'true' else 'the judge'} does not."
    )


def _each(part: Mapping[str, Any]) -> str:
    return f" in each of {part['contexts']} contexts" if part["contexts"] > 1 else ""
