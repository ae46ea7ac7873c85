"""Models of a fit of several aims: an ensemble and a judge of each, and of which rows succeed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from discrete_grad.data import Schema, Table
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.aims import fit_chance
from discrete_grad.fitting.estimator import fit_estimator, new_ensemble
from discrete_grad.fitting.score_scale import ScoreScale
from discrete_grad.fitting.stacking import held_out_predictions
from discrete_grad.models import BaseEnsemble
from discrete_grad.runs._calibrate import Known, Name, held_out_places, write_calibration
from discrete_grad.runs._labels import labelled_rows
from discrete_grad.runs._prepared import Observations, Prepared
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.training import distributed
from discrete_grad.training.checkpoint import RunError, save_tensors
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import derive_seed

__all__ = [
    "FEASIBLE",
    "AimWork",
    "aim_parts",
    "calibrate_aims",
    "check_aims",
    "further_aims",
    "has_aims",
    "place_scales",
    "stage_name",
    "traded",
    "traded_names",
]

FEASIBLE = "feasible"
_SCORERS: tuple[Name, ...] = ("judge", "estimator")


class AimWork(Protocol):
    """The inputs of a fit's stages that are read here; see `Work`."""

    config: FitConfig
    table: Table
    device: torch.device
    models: dict[str, Any]

    @property
    def observations(self) -> Observations:
        """The table's rows, scaled and split."""

    @property
    def prepared(self) -> Prepared:
        """Rows that the models learn from."""

    def weights(self, name: str) -> Path:
        """Path of the weights of a stage."""


def has_aims(schema: Schema) -> bool:
    """Whether a fit has more to do than make one score large or small."""
    return bool(schema.aims) or schema.feasible is not None


def traded(schema: Schema) -> int:
    """Number of aims that are better or worse, and so are traded off; 1 for one score."""
    return sum(not aim.is_threshold for aim in schema.aims) if schema.aims else 1


def traded_names(schema: Schema) -> list[str]:
    """Names of the aims that are better or worse."""
    return [aim.name for aim in schema.aims if not aim.is_threshold]


def check_aims(schema: Schema, config: FitConfig) -> None:
    """Raise RunError for settings that several aims, or chances, cannot be fitted with."""
    if has_aims(schema) and config.generator.coverage:
        raise RunError(
            "generator.coverage calibrates the score of one aim: it must be 0 with several aims, a "
            f"target, a threshold or --feasible, got {config.generator.coverage:g}"
        )
    if traded(schema) > 1 and config.generator.policy != "independent":
        raise RunError(
            "a generator of several aims has independent features: generator.policy must be "
            f"'independent', got {config.generator.policy!r}"
        )


def further_aims(schema: Schema) -> range:
    """Places of the aims after the first one, among the scores."""
    return range(1, len(schema.aims))


def stage_name(name: str, place: int) -> str:
    """Stage of the estimator or the judge of the aim at a place."""
    return name if place == 0 else f"{name}-{place + 1}"


def aim_parts(work: AimWork) -> list[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    """Name, maker and trainer of each stage beside those of one score."""
    schema = work.table.schema
    parts: list[tuple[str, Callable[..., Any], Callable[..., Any]]] = [
        (stage_name(name, place), partial(_new_scorer, name), partial(_scorer_trainer, name, place))
        for place in further_aims(schema)
        for name in _SCORERS
    ]
    if schema.feasible is not None:
        parts.append((FEASIBLE, _new_classifier, _classifier_trainer))
    return parts


def _new_scorer(name: Name, work: AimWork) -> BaseEnsemble:
    # of as many rows as the first aim's
    rows = work.prepared.rows if name == "estimator" else work.prepared.judge_rows
    return _new(name, work, len(rows))


def _new(name: Name, work: AimWork, rows: int) -> BaseEnsemble:
    schema, seed = work.table.schema, derive_seed(work.config.seed, name, "weights")
    config = work.config.scorer(name)
    return new_ensemble(schema.space, schema.context_spec, config, seed=seed, rows=rows)


def _scorer_trainer(name: Name, place: int, work: AimWork) -> Callable[..., object]:
    seen = work.observations
    rows = seen.aim_rows(place, seen.mine if name == "estimator" else seen.judged)
    absolute = work.config.maximise == "median"
    return partial(_fit, rows.to(work.device), work.config, name, stage_name(name, place), absolute)


def _fit(
    rows: ScoredRows,
    config: FitConfig,
    name: Name,
    stage: str,
    absolute: bool,
    model: BaseEnsemble,
    *,
    log: Log = no_log,
    **given: Any,
) -> object:
    """Fit with the seeds of the first aim's: its members hold out the same rows."""

    def renamed(metrics: dict[str, float], step: int) -> None:
        log({f"{stage}{key.removeprefix(name)}": v for key, v in metrics.items()}, step)

    settings = config.scorer(name)
    return fit_estimator(
        model, rows, config=settings, stage=name, absolute=absolute, log=renamed, **given
    )


def _labelled(work: AimWork) -> ScoredRows:
    return labelled_rows(work.table, work.config, observations=work.observations)


def _scaled(rows: ScoredRows) -> ScoredRows:
    spread = rows.scores.std(correction=0).clamp_min(1e-3)
    return replace(rows, scores=(rows.scores - rows.scores.mean()) / spread, spread=None)


def _new_classifier(work: AimWork) -> BaseEnsemble:
    return _new("estimator", work, len(_labelled(work)))


def _classifier_trainer(work: AimWork) -> Callable[..., object]:
    rows = _scaled(_labelled(work)).to(work.device)
    return partial(_fit, rows, work.config, "estimator", FEASIBLE, False)


def place_scales(work: AimWork, place: int) -> tuple[ScoreScale, ScoreScale]:
    """Scale of the scores of the aim at a place, and the standard one, as `Prepared` has them."""
    if place == 0:
        return work.prepared.scale, work.prepared.standard
    table = work.table
    column, spec = table.all_scores[:, place], table.schema.context_spec
    scale, standard = (
        ScoreScale.fit(kind, column, table.context, spec)
        for kind in (work.config.score_scale, "standard")
    )
    return scale, standard


@torch.no_grad()
def calibrate_aims(work: AimWork) -> None:
    """Calibrate the further aims' models, and fit the chances, on the rows members hold out."""
    seen, schema = work.observations, work.table.schema
    for place in further_aims(schema):
        path = work.weights(f"calibration-{place + 1}")
        known: dict[Name, Known] = {}
        for name in _SCORERS:
            places = seen.mine if name == "estimator" else seen.judged
            rows, truth = seen.aim_rows(place, places), seen.truth(places, place)
            model = work.models[stage_name(name, place)]
            known[name] = Known(model, rows.to(work.device), truth)
        standard = place_scales(work, place)[1]
        distributed.first(partial(write_calibration, path, known, standard, work.config))
    lines = {str(place): _threshold_line(work, place) for place in _thresholds(schema)}
    if schema.feasible is not None:
        rows = _labelled(work)
        lines[FEASIBLE] = _line(work, work.models[FEASIBLE], _scaled(rows), rows.scores)
    if lines:
        distributed.first(partial(save_tensors, work.weights("chances"), lines, {}))


def _thresholds(schema: Schema) -> Sequence[int]:
    return [place for place, aim in enumerate(schema.aims) if aim.is_threshold]


def _threshold_line(work: AimWork, place: int) -> Tensor:
    """Line of the chance that rows meet the threshold at a place."""
    seen, aim = work.observations, work.table.schema.aims[place]
    rows, truth = seen.aim_rows(place, seen.mine), seen.truth(seen.mine, place)
    assert aim.value is not None
    scale, least = place_scales(work, place)[0], truth.new_full(truth.shape, aim.sign * aim.value)
    met = (truth >= least).float()
    model = work.models[stage_name("estimator", place)]
    return _line(work, model, rows, met, scale.apply(least, rows.context))


def _line(
    work: AimWork,
    model: nn.Module,
    rows: ScoredRows,
    met: Tensor,
    subtracted: Tensor | None = None,
) -> Tensor:
    assert isinstance(model, BaseEnsemble)
    known = Known(model, rows.to(work.device), met)
    held_out = held_out_places("estimator", known, work.config)
    predicted = held_out_predictions(model, known.rows, held_out.to(work.device)).flatten().cpu()
    places = held_out.flatten()
    if subtracted is not None:
        predicted = predicted - subtracted[places]
    counts = None if rows.counts is None else rows.counts[places]
    return fit_chance(predicted, met[places], counts)
