"""A finished fit of several aims: its models, and how they are put together at a trade-off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from discrete_grad.data import Aim
from discrete_grad.data.errors import closest, listing
from discrete_grad.fitting.score_scale import ScoreScale
from discrete_grad.fitting.units import ScoreUnits
from discrete_grad.models import BaseEnsemble
from discrete_grad.models.aimed import AimedEnsemble, Chance, Scalarisation
from discrete_grad.policies import Generator
from discrete_grad.runs._aim_stages import (
    FEASIBLE,
    AimWork,
    has_aims,
    place_scales,
    stage_name,
    traded,
)
from discrete_grad.runs._calibrate import calibrated_units
from discrete_grad.training.checkpoint import RunError, load_tensors

__all__ = ["KIND", "RunAim", "RunAims", "aimed", "checked_tradeoff", "hindered", "run_aims"]

KIND: Scalarisation = "linear"
_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class RunAim:
    """One aim of a run: its models and the units of what they predict.

    Args:
        aim: as it was given.
        estimator: of its score.
        judge: of the same, trained on other rows.
        scale: from the table's scores to what they are trained on.
        to_units: from what the estimator predicts.
        judge_to_units: from what the judge predicts.
        chance: of meeting it, for a threshold; otherwise None.
        held_out: as of `Run`.
    """

    aim: Aim
    estimator: BaseEnsemble
    judge: BaseEnsemble
    scale: ScoreScale
    to_units: ScoreUnits
    judge_to_units: ScoreUnits
    chance: Chance | None
    held_out: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class RunAims:
    """What a run of several aims, or of rows that may fail, has beside a run of one score.

    Args:
        parts: the aims, those that are traded off first.
        feasible: the chance that a row succeeds; None where no column says so.
        generator: whose context ends with a trade-off; None for a single aim to be traded.
        tradeoff: weights `(K,)` at which the run stands, of sum 1; None likewise.
        objective: what the run's rows are sought by, at that trade-off, in the table's contexts.
        liking: the reward that explains preferences, see `hindered`; None without any.
    """

    parts: tuple[RunAim, ...]
    feasible: Chance | None
    generator: Generator | None
    tradeoff: Tensor | None
    objective: AimedEnsemble
    liking: BaseEnsemble | None = None

    @property
    def names(self) -> list[str]:
        """Names of the aims that are traded off against each other."""
        return [part.aim.name for part in self.parts if not part.aim.is_threshold]

    @property
    def chances(self) -> dict[str, Chance]:
        """What must be met -> the chance that a row does."""
        found = {p.aim.words: p.chance for p in self.parts if p.chance is not None}
        return found if self.feasible is None else {**found, FEASIBLE: self.feasible}

    def at(self, tradeoff: Tensor) -> RunAims:
        """The same models at another trade-off `(K,)`."""
        model = self.objective
        objective = AimedEnsemble(
            [m for m in model.aims if isinstance(m, BaseEnsemble)],
            model.ends,
            [c for c in model.chances if isinstance(c, Chance)],
            names=self.names,
            kind=model.kind,
            tradeoff=tradeoff.to(model.ends),
        )
        return replace(self, tradeoff=tradeoff, objective=objective)


def checked_tradeoff(given: Mapping[str, float], names: Sequence[str]) -> Tensor:
    """Weights `(K,)` of a trade-off; an aim that is not named has none.

    Raises:
        RunError: for an aim that is none, a weight that is negative or not finite, or a sum that is
            not 1.
    """
    if len(names) < 2:
        raise RunError("the fit has no aims to be traded off: it needs two or more of --score")
    if not isinstance(given, Mapping):
        example = {name: round(1 / len(names), 2) for name in names}
        raise RunError(f"trade-off: weights by name are needed, such as {example}, got {given!r}")
    for name, weight in given.items():
        if name not in names:
            known = f"only {listing(names)}{closest(name, names)}"
            raise RunError(f"trade-off: {name!r} is no aim that is traded off, {known}")
        if not math.isfinite(weight) or weight < 0:
            raise RunError(f"trade-off: the weight of {name!r} must be at least 0, got {weight:g}")
    total = math.fsum(given.values())
    if abs(total - 1) > _TOLERANCE:
        raise RunError(f"trade-off: the weights must have the sum 1, theirs is {total:g}")
    return torch.tensor([given.get(name, 0.0) for name in names])


def aimed(work: AimWork, name: str = "estimator", tradeoff: Tensor | None = None) -> AimedEnsemble:
    """The objective, by the estimators or by the judges; at a trade-off, or asked for one.

    Both have the chances of the estimators: there is one classifier of rows that succeed.
    """
    models = [work.models[stage_name(name, place)] for place in range(_count(work))]
    kept = [i for i in range(len(models)) if not _aims(work)[i].is_threshold]
    behaviour = work.prepared.rows.all_scores
    ends = [torch.stack([behaviour[:, i].min(), behaviour[:, i].max()]) for i in kept]
    return AimedEnsemble(
        [models[place] for place in kept],
        torch.stack(ends) if ends else torch.zeros(0, 2, device=work.device),
        _chances(work, _lines(work)),
        names=[_aims(work)[place].name for place in kept],
        kind=KIND,
        tradeoff=tradeoff,
    )


@torch.no_grad()
def hindered(work: AimWork) -> BaseEnsemble | None:
    """The reward that explains preferences, by which a row that fails is the least liked one.

    A row that hardly succeeds, or hardly meets a threshold, is then not made good by its being
    liked. None for a fit without preferences.
    """
    model, rows = work.models.get("preference"), work.prepared.rows
    if model is None or not (chances := _chances(work, _lines(work))):
        return model
    rewards = model(rows.codes, rows.context)
    ends = torch.stack([rewards.min(), rewards.max()]).unsqueeze(0)
    return AimedEnsemble([model], ends, chances, names=["preference"])


def _aims(work: AimWork) -> tuple[Aim, ...]:
    return work.table.schema.all_aims


def _count(work: AimWork) -> int:
    return max(1, len(work.table.schema.aims))


def _lines(work: AimWork) -> dict[str, Tensor]:
    path = work.weights("chances")
    lines = load_tensors(path)[0] if path.is_file() else {}
    for name, line in lines.items():
        if not line.isfinite().all():
            raise RunError(f"{path} is damaged: {name} holds NaN or infinity")
    return lines


def _chances(work: AimWork, lines: Mapping[str, Tensor]) -> list[Chance]:
    """Chances of meeting each threshold and, where a column says so, of success."""
    found = [_chance(work, place, lines) for place in range(_count(work))]
    if work.table.schema.feasible is not None:
        found.append(_success(work, lines))
    return [chance for chance in found if chance is not None]


def _success(work: AimWork, lines: Mapping[str, Tensor]) -> Chance:
    return Chance(work.models[FEASIBLE], lines[FEASIBLE].to(work.device))


def _chance(work: AimWork, place: int, lines: Mapping[str, Tensor]) -> Chance | None:
    aim = _aims(work)[place]
    if not aim.is_threshold or aim.value is None:
        return None
    scale = place_scales(work, place)[0]
    model = work.models[stage_name("estimator", place)]
    threshold = partial(_threshold, scale, aim.sign * aim.value)
    return Chance(model, lines[str(place)].to(work.device), threshold)


def _threshold(scale: ScoreScale, value: float, context: Tensor | None) -> Tensor:
    """A score `(...)` on the scale of contexts `(..., C)`."""
    if context is None:
        return scale.apply(torch.tensor([value], dtype=torch.float64))[0]
    flat = context.reshape(-1, context.shape[-1]).cpu()
    scaled = scale.apply(torch.full((len(flat),), value, dtype=torch.float64), flat)
    return scaled.reshape(context.shape[:-1]).to(context.device)


def run_aims(work: AimWork, generator: Generator | None) -> RunAims | None:
    """What a run has of its aims, at equal weights; None for a run of one score.

    Raises:
        RunError: if a file of theirs is missing or damaged.
    """
    schema, lines = work.table.schema, _lines(work)
    if not has_aims(schema):
        return None
    wanted = [str(i) for i, aim in enumerate(schema.aims) if aim.is_threshold]
    wanted += [FEASIBLE] if schema.feasible else []
    if missing := [name for name in wanted if name not in lines]:
        raise RunError(f"{work.weights('chances')} is missing, or lacks {missing[0]!r}")
    count = traded(schema)
    tradeoff = torch.full((count,), 1 / count) if count > 1 else None
    return RunAims(
        parts=tuple(_part(work, place, lines) for place in range(_count(work))),
        feasible=None if schema.feasible is None else _success(work, lines),
        generator=generator if count > 1 else None,
        tradeoff=tradeoff,
        objective=aimed(work, tradeoff=tradeoff),
        liking=hindered(work),
    )


def _part(work: AimWork, place: int, lines: Mapping[str, Tensor]) -> RunAim:
    scale, standard = place_scales(work, place)
    path = work.weights("calibration" if place == 0 else f"calibration-{place + 1}")
    if place and not path.is_file():
        raise RunError(f"{path} is missing: the scores of the run cannot be told")
    units, held_out = calibrated_units(path, work.table.schema, scale, standard, place)
    return RunAim(
        aim=_aims(work)[place],
        estimator=work.models[stage_name("estimator", place)],
        judge=work.models[stage_name("judge", place)],
        scale=scale,
        to_units=units["estimator"],
        judge_to_units=units["judge"],
        chance=_chance(work, place, lines),
        held_out=held_out,
    )
