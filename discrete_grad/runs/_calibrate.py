"""Quality of a fit's models on the rows that their members hold out, kept in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.evaluation import spearman
from discrete_grad.fitting.anova import fit_anova
from discrete_grad.fitting.calibration import Calibration
from discrete_grad.fitting.estimator import held_out_parts
from discrete_grad.fitting.score_scale import ScoreScale
from discrete_grad.fitting.stacking import held_out_predictions
from discrete_grad.fitting.units import ScoreUnits
from discrete_grad.models import AnovaEnsemble, BaseEnsemble
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.sampling import permutation, seeded
from discrete_grad.training.checkpoint import RunError, load_tensors, save_tensors
from discrete_grad.training.loop import derive_seed

__all__ = ["Known", "Name", "calibrated_units", "held_out_places", "write_calibration"]

_BASELINE_ROWS = 2**16

Name = Literal["estimator", "judge"]


@dataclass(frozen=True)
class Known:
    """A fitted model and the rows it was fitted to.

    Args:
        model: its members hold out rows as `fit_estimator` decides.
        rows: N of them, on the model's device.
        truth: `(N,)`, their scores, to be maximised, in the table's units; on the CPU.
    """

    model: BaseEnsemble
    rows: ScoredRows
    truth: Tensor


def calibrated_units(
    path: Path, schema: Schema, scale: ScoreScale, standard: ScoreScale, place: int = 0
) -> tuple[dict[Name, ScoreUnits], dict[str, float]]:
    """Units of what each model predicts, and the measures of the estimator.

    Args:
        path: the file of a run's calibration; a run of a version without has none.
        schema: of the run's table.
        scale: what the models are trained on.
        standard: the scale of what is calibrated.
        place: of the score among those of the table.

    Raises:
        RunError: if the file is damaged or of another fit.
    """
    curves: dict[Name, Calibration | None] = {"estimator": None, "judge": None}
    measured: dict[str, float] = {}
    if path.is_file():
        curves, measured = _load_calibration(path, len(standard.keys) + 1)
    units = {n: ScoreUnits(schema, scale, standard, c, place=place) for n, c in curves.items()}
    return units, measured


@torch.no_grad()
def write_calibration(
    path: Path,
    known: Mapping[Name, Known],
    standard: ScoreScale,
    config: FitConfig,
) -> None:
    """Calibrate each model by the rows its members hold out, and measure the estimator there.

    Args:
        path: the file to write.
        known: the estimator and the judge, as far as they were trained.
        standard: the scale of what is predicted, whose groups have curves of their own.
        config: of the fit. The median has no calibration: the scale maps it exactly.
    """
    tensors: dict[str, Tensor] = {}
    held_out = {name: held_out_places(name, part, config) for name, part in known.items()}
    for name, part in known.items():
        rows = part.rows.to(torch.device("cpu"))
        predicted = held_out_predictions(part.model, part.rows, held_out[name]).flatten().cpu()
        places, counts = held_out[name].flatten(), rows.counts
        if counts is not None:  # a row observed several times counts as often
            times = counts[places].round().long()
            places, predicted = places.repeat_interleave(times), predicted.repeat_interleave(times)
        context = None if rows.context is None else rows.context[places]
        truth = standard.apply(part.truth[places], context)
        group = standard.groups(context, len(places))
        curve = Calibration.fit(predicted, truth, group, len(standard.keys))
        if curve is not None and config.maximise != "median":
            tensors |= {f"{name}/x": curve.x, f"{name}/y": curve.y}
    mine = known.get("estimator")
    measured = {} if mine is None else _measured(mine, held_out["estimator"], config.seed)
    save_tensors(path, tensors, measured)


def _load_calibration(
    path: Path, curves: int
) -> tuple[dict[Name, Calibration | None], dict[str, float]]:
    """Content of `write_calibration`'s file: a calibration of each model, or None, and measures.

    Args:
        path: the file.
        curves: how many each calibration must have.

    Raises:
        RunError: if the file is damaged or of another fit.
    """
    tensors, measured = load_tensors(path)
    known = isinstance(measured, dict)
    ranks = [measured.get(name) for name in ("spearman", "baseline")] if known else [measured]
    if not all(rank is None or (type(rank) is float and abs(rank) <= 1) for rank in ranks):
        raise RunError(f"{path} is damaged: {ranks} are no rank correlations")
    calibrations: dict[Name, Calibration | None] = {"estimator": None, "judge": None}
    for name in calibrations:
        x, y = tensors.get(f"{name}/x"), tensors.get(f"{name}/y")
        if x is None or y is None:
            continue
        if x.dim() != 2 or x.shape != y.shape or len(x) != curves or x.shape[1] == 0:
            raise RunError(f"{path} does not fit the run's table")
        if not (x.dtype == y.dtype == torch.float64 and x.isfinite().all() and y.isfinite().all()):
            raise RunError(f"{path} is damaged: a curve of {name} must be finite float64")
        calibrations[name] = Calibration(x, y)
    return calibrations, measured


def held_out_places(name: Name, part: Known, config: FitConfig) -> Tensor:
    """Places `(M, H)` of the rows that each member of the model holds out."""
    count, settings = len(part.rows), config.scorer(name)
    seed = derive_seed(config.seed, name, "rows")
    return held_out_parts(count, settings.for_rows(count), seed)


def _measured(part: Known, held_out: Tensor, seed: int) -> dict[str, float | None]:
    """Rank correlations on the held-out rows, of the model and of a trivial one."""
    scores = part.rows.scores[held_out].flatten().cpu()
    models = {"spearman": part.model, "baseline": _main_effects(part, held_out, seed)}
    found = {
        name: spearman(held_out_predictions(model, part.rows, held_out).flatten().cpu(), scores)
        for name, model in models.items()
    }
    return {"rows": len(held_out.unique())} | {
        name: None if value != value else value for name, value in found.items()
    }


def _main_effects(part: Known, held_out: Tensor, seed: int) -> AnovaEnsemble:
    """A sum of effects of single columns, each member fitted to what the model's has seen."""
    members, count = len(held_out), len(part.rows)
    some = torch.arange(count)
    if count > _BASELINE_ROWS:
        some = permutation(count, generator=seeded(derive_seed(seed, "baseline")))[:_BASELINE_ROWS]
    shown = part.rows.part(some)
    weights = torch.ones(members, count).scatter_(1, held_out, 0.0)[:, some]
    weights = weights.to(shown.scores.device)
    if shown.counts is not None:
        weights = weights * shown.counts
    space, spec = part.model.space, part.model.context_spec
    model = AnovaEnsemble(space, context=spec, members=members).to(shown.scores.device)
    model.joint.fit(shown.context)
    model.arrange([(column,) for column in range(len(model.joint.sizes))])
    fit_anova(model, model.joint(shown.codes, shown.context), shown.scores, weights)
    return model
