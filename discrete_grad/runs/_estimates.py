"""Columns of generated rows: what the models say of each aim, in the units of the table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.fitting.units import ScoreUnits
from discrete_grad.models import BaseEnsemble
from discrete_grad.runs._aim_stages import FEASIBLE, traded, traded_names
from discrete_grad.runs._parts import RunParts
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.devices import AskedFromCpu

__all__ = [
    "estimate_columns",
    "estimate_names",
    "expected_scores",
    "predicted_scores",
    "require_free",
    "scored_names",
    "tradeoff_names",
]

_ESTIMATED, _JUDGED, _BEYOND = "estimated_score", "judge_score", "beyond_observed"
_SCORED = 1024  # rows at a time


def estimate_names(schema: Schema, *, judged: bool = True) -> list[str]:
    """Names of the columns that `estimate_columns` makes, in their order."""
    names = [_ESTIMATED, _JUDGED] if judged else [_ESTIMATED]
    if schema.aims:
        names = [f"{what}_{aim.label}" for aim in schema.aims for what in ("estimated", "judge")]
    thresholds = [f"probability_{aim.words}" for aim in schema.aims if aim.is_threshold]
    feasible = [] if schema.feasible is None else [f"probability_{FEASIBLE}"]
    return [*names, *thresholds, *feasible, _BEYOND]


def scored_names(schema: Schema) -> list[str]:
    """Names of what estimators expect scores of, in the order of `expected_scores`."""
    return [aim.label for aim in schema.aims] or ["score"]


def tradeoff_names(schema: Schema) -> list[str]:
    """Names of the columns of a trade-off; none where there is nothing to be traded."""
    if traded(schema) < 2:
        return []
    return [f"tradeoff_{name}" for name in traded_names(schema)]


def require_free(schema: Schema, names: Iterable[str], writer: str) -> None:
    """Raise RunError if a feature or a context column has a name that something writes."""
    taken = {column.name for column in (*schema.features, *schema.context)}
    for name in names:
        if name in taken:
            raise RunError(f"the table has a column {name!r}, which {writer}: rename it")


def estimate_columns(
    run: RunParts, codes: Tensor, context: Tensor | None, values: Tensor | None = None
) -> dict[str, list[Any]]:
    """Columns of rows `(n, F)` in contexts `(n, C)`, by the names of `estimate_names`.

    The values `(n,)` are what the estimator predicts, where that is known.

    Of each aim what the estimator and the judge expect; the probability that each threshold is met
    and that the row succeeds; and whether an expected score lay outside those observed.
    """
    columns: list[list[Any]] = []
    beyond = torch.zeros(len(codes), dtype=torch.bool)
    for model, to_units in _models(run):
        if model is not run.estimator or values is None:
            predicted = predicted_scores(AskedFromCpu(model, run.device), codes, context)
        else:
            predicted = values
        columns.append(to_units(predicted, context).tolist())
        beyond |= to_units.outside(predicted, context) != 0
    for chance in ({} if run.aims is None else run.aims.chances).values():
        columns.append(predicted_scores(AskedFromCpu(chance, run.device), codes, context).tolist())
    columns.append(beyond.tolist())
    names = estimate_names(run.table.schema, judged=run.has_judge)
    return dict(zip(names, columns, strict=True))


def expected_scores(run: RunParts, codes: Tensor, context: Tensor | None) -> list[Tensor]:
    """Scores `(n,)` of rows `(n, F)` by the estimator of each aim, in the table's units."""
    estimators = _models(run)[:: 2 if run.has_judge else 1]
    return [
        to_units(predicted_scores(AskedFromCpu(model, run.device), codes, context), context)
        for model, to_units in estimators
    ]


def _models(run: RunParts) -> list[tuple[BaseEnsemble, ScoreUnits]]:
    if run.aims is None:
        judge = [(run.judge, run.judge_to_units)] if run.has_judge else []
        return [(run.estimator, run.to_units), *judge]
    return [
        pair
        for part in run.aims.parts
        for pair in ((part.estimator, part.to_units), (part.judge, part.judge_to_units))
    ]


def predicted_scores(model: AskedFromCpu, codes: Tensor, contexts: Tensor | None) -> Tensor:
    """Scores `(n,)` of rows `(n, F)` in contexts `(n, C)`, some at a time."""
    parts = codes.split(_SCORED)
    here = [None] * len(parts) if contexts is None else contexts.split(_SCORED)
    scores = [model(some, context) for some, context in zip(parts, here, strict=True)]
    return torch.cat(scores)
