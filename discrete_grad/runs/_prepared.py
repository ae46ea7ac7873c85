"""A table's rows as the models learn them: scaled, split, merged; and the file that keeps them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import Schema, Table
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.judge_split import judge_split
from discrete_grad.fitting.repeats import learning_rows
from discrete_grad.fitting.score_scale import ScoreScale, scale_behaviour
from discrete_grad.runs._content_checks import check_rows, check_scale
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.training.checkpoint import RunError, load_tensors, save_tensors
from discrete_grad.training.loop import derive_seed

__all__ = ["Observations", "Prepared", "load_prepared", "save_prepared"]

_SCALES, _ROWS = ("scale", "standard"), ("rows", "judge_rows")


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows that the models of a run learn from, and the scales of their scores.

    Args:
        scale: from the table's scores to what the models are trained on.
        standard: to scores of mean 0 and variance 1, of the same groups; what is calibrated.
        rows: of the generator's side, scaled and merged.
        judge_rows: of the judge, likewise.
    """

    scale: ScoreScale
    standard: ScoreScale
    rows: ScoredRows
    judge_rows: ScoredRows


class Observations:
    """A table's rows with scaled scores, and the side on which each is.

    Args:
        table: of the fit.
        config: of the fit; with the table it decides everything here.
        judged: whether a judge learns from some of them; otherwise the others are all of them.

    Example:
        >>> from discrete_grad.data import read_table
        >>> columns = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> seen = Observations(read_table(columns, score="score"), FitConfig())
        >>> len(seen.mine), len(seen.judged), len(seen.aside), len(seen.prepared().judge_rows)
        (48, 12, 0, 12)
    """

    def __init__(self, table: Table, config: FitConfig, *, judged: bool = True) -> None:
        spec, kind = table.schema.context_spec, config.score_scale
        self.table, self.config = table, config
        self.scale = ScoreScale.fit(kind, table.scores, table.context, spec)
        behaviour = scale_behaviour(kind, table.all_scores, table.context, spec)
        scaled = self.scale.apply(table.scores, table.context)
        self.scored = ScoredRows(table.codes, scaled, table.context, behaviour)
        seed, share = derive_seed(config.seed, "judge rows"), config.judge_share
        mixed = config.merge_repeats
        mine, self.judged = judge_split(self.scored, share, seed=seed, spec=spec, mixed=mixed)
        mine = mine if judged else torch.arange(len(table))
        aside = config.calibration_share if config.generator.coverage else 0
        self.aside, self.mine = mine.tensor_split([round(len(mine) * aside)])

    def prepared(self) -> Prepared:
        """The part that a run keeps."""
        table = self.table
        standard = ScoreScale.fit(
            "standard", table.scores, table.context, table.schema.context_spec
        )
        rows, judged = (self.scored.part(places) for places in (self.mine, self.judged))
        return Prepared(self.scale, standard, self._merged(rows), self._merged(judged))

    def truth(self, places: Tensor, aim: int = 0) -> Tensor:
        """Scores in the table's units of the rows that observations at some places merge to.

        Args:
            places: of the observations.
            aim: place of the score among those of the table.
        """
        column = self.table.all_scores[:, aim]
        rows = replace(self.scored, scores=column, behaviour=None)
        return self._merged(rows.part(places)).scores

    def aim_rows(self, aim: int, places: Tensor) -> ScoredRows:
        """What the models of an aim learn from, of observations at some places, like `prepared`."""
        scores = self.scored.all_scores[:, aim]
        return self._merged(replace(self.scored, scores=scores, behaviour=None).part(places))

    def quantiles(self) -> Tensor:
        """Share of the table's scores at most as large `(M,)`, in (0, 1], of the observations."""
        scores = self.table.scores
        ordered = scores.sort().values
        share = torch.searchsorted(ordered, scores, right=True) / len(scores)
        return share.float()[self.mine]

    def _merged(self, observations: ScoredRows) -> ScoredRows:
        # a median is none of means
        if not self.config.merge_repeats or self.config.maximise == "median":
            return observations
        return learning_rows(observations, self.table.schema.space.num_rows)


def save_prepared(path: Path, prepared: Prepared) -> None:
    """Write a file for `load_prepared`."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for name in _SCALES:
        scale: ScoreScale = getattr(prepared, name)
        tensors |= {f"{name}/{part}": getattr(scale, part) for part in ("grid", "keys", "ends")}
        numbers[name] = {"kind": scale.kind, "unit": scale.unit}
    for name in _ROWS:
        columns = {
            item.name: getattr(getattr(prepared, name), item.name) for item in fields(ScoredRows)
        }
        tensors |= {f"{name}/{part}": c for part, c in columns.items() if c is not None}
    save_tensors(path, tensors, numbers)


def load_prepared(path: Path, schema: Schema) -> Prepared:
    """Read a file that `save_prepared` wrote for a table of this schema.

    Raises:
        RunError: if the file is missing, damaged or of another table.
    """
    tensors, numbers = load_tensors(path)
    parts: dict[str, dict[str, Any]] = {name: {} for name in (*_SCALES, *_ROWS)}
    try:
        for key, tensor in tensors.items():
            name, part = key.split("/")
            parts[name][part] = tensor
        scales = {
            name: ScoreScale(**numbers[name], **parts[name], spec=schema.context_spec)
            for name in _SCALES
        }
        rows = {name: ScoredRows(**parts[name]) for name in _ROWS}
        for name, scale in scales.items():
            check_scale(name, scale)
        for name, some in rows.items():
            check_rows(name, some, schema)
        return Prepared(scales["scale"], scales["standard"], rows["rows"], rows["judge_rows"])
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = " ".join(f"{error}".split())[:300]
        raise RunError(f"{path} does not fit the run's table: {reason}") from error
