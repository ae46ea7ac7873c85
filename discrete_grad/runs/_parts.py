"""A finished fit, as the rest of the room reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from discrete_grad.data import Table
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.aims import at_tradeoff
from discrete_grad.fitting.pessimism import guided_score
from discrete_grad.fitting.score_scale import ScoreScale
from discrete_grad.fitting.units import ScoreUnits
from discrete_grad.gradient import SelfSamplingFunction
from discrete_grad.models import Aligner, BaseEnsemble, PreferenceModel
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.rules import Rules
from discrete_grad.runs._aims import RunAims, checked_tradeoff
from discrete_grad.runs._guides import RunPolicy, under
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.scorers._model import ScorerModel
from discrete_grad.training.checkpoint import RunError

__all__ = ["METRICS", "RunParts"]

METRICS = "metrics.jsonl"
"""The log of training, in the folder."""


@dataclass(frozen=True)
class RunParts:
    """A finished fit: the table, the models and what is needed to read their output.

    Args:
        folder: where it lies.
        config: how it was made.
        table: all rows, with the schema; on the CPU, whatever the device of the models.
        source: what the caller said of the table's origin, JSON.
        scale: from `table.scores` to what the models predict.
        to_units: from what the estimator predicts to scores in the units of the score column.
        judge_to_units: from what the judge predicts.
        rows: what the generator's side has seen, scores scaled, equal rows merged with their counts
            (see `learning_rows`); like `judge_rows` on the device of the models.
        judge_rows: what only the judge has seen, likewise: other rows, and, of rows observed at
            least 4 times, other observations of the same.
        judge: trained on `judge_rows`, or given; the scorer itself where there is none, see
            `has_judge`.
        estimator: trained on `rows`, or the scorer that the fit was given.
        reference: the data policy: reproduces the observations that `rows` are merged from.
        naive: the naive baseline: reproduces them by inverse score.
        generator: trained through `estimator`.
        aligner: None unless the generator's config gives alignment a weight.
        pessimism: standard deviations below the mean that the generator was trained by; the
            config's, or what its coverage asks for.
        preferences: those given, or None.
        preference: trained on them, or None.
        reward_unit: standard deviation of its reward between `rows`, in log-odds.
        rules: that the generator was trained under, and that whatever is generated obeys; or None.
        independent: a generator of independent features, trained likewise, where the run's own
            writes step by step; otherwise None.
        held_out: how well the estimator's members rank the `rows` they hold out: `spearman`, and
            `baseline`, that of a sum of effects of single columns; nothing for runs of versions
            that did not measure it.
        scorer_facts: on the scorer that was given in place of the estimator, JSON; empty without:
            `name`, `reference`, `takes`, `differentiable`, `calls` by purpose, and others.
        aims: models of several aims, of thresholds and of which rows succeed; None for one score to
            be made large or small. `estimator`, `judge`, `scale` and units are the first aim's.

    Example:
        >>> sorted(RunParts.__dataclass_fields__)[:3]
        ['aims', 'aligner', 'config']
    """

    folder: Path
    config: FitConfig
    table: Table
    source: dict[str, Any]
    scale: ScoreScale
    to_units: ScoreUnits
    judge_to_units: ScoreUnits
    rows: ScoredRows
    judge_rows: ScoredRows
    judge: BaseEnsemble
    estimator: BaseEnsemble
    reference: Generator
    naive: Generator
    generator: Generator | AutoregressiveGenerator
    aligner: Aligner | None
    pessimism: float
    preferences: Preferences | None = None
    preference: PreferenceModel | None = None
    reward_unit: float = 1.0
    rules: Rules | None = None
    independent: Generator | None = None
    held_out: dict[str, float] = field(default_factory=dict)
    scorer_facts: dict[str, Any] = field(default_factory=dict)
    aims: RunAims | None = None

    @property
    def device(self) -> torch.device:
        """Device of the models."""
        return next(self.generator.parameters()).device

    @property
    def has_judge(self) -> bool:
        """Whether there is another judge than the scorer that the generator was trained by."""
        return self.scorer_facts.get("judge") != "none"

    @property
    def scorer_calls(self) -> int:
        """Rows that the scorer was asked about since the run was fitted or loaded; 0 without."""
        model = self.estimator
        return sum(model.bound.calls.values()) if isinstance(model, ScorerModel) else 0

    @property
    def policy(self) -> RunPolicy:
        """The generator, conditioned by the rules where there are any."""
        return under(self.generator, self.rules)

    def objective(self, context: Tensor | None) -> SelfSamplingFunction:
        """Objective that the generator was trained by, in contexts `(..., C)`."""
        config = replace(self.config.generator, pessimism=self.pessimism)
        aims = self.aims
        model = self.estimator if aims is None else aims.objective
        liking = self.preference if aims is None else aims.liking
        return guided_score(model, liking, self.reward_unit, context, config)

    def at(self, tradeoff: Mapping[str, float]) -> Self:
        """The same run at another trade-off, which its generator and its objective then have.

        A run of several aims is loaded at equal weights.

        Args:
            tradeoff: name of an aim -> its weight, at least 0; their sum is 1.

        Raises:
            RunError: for a run of one aim, an unknown aim, or other weights.
        """
        names = [] if self.aims is None else self.aims.names
        return self.at_weights(checked_tradeoff(tradeoff, names))

    def at_weights(self, weights: Tensor) -> Self:
        """The same run at the trade-off of weights `(K,)`, which are not checked."""
        assert self.aims is not None
        assert self.aims.generator is not None
        spec = self.table.schema.context_spec
        generator = at_tradeoff(self.aims.generator, spec, weights)
        return replace(self, generator=generator, aims=self.aims.at(weights))

    def metrics(self) -> list[dict[str, float]]:
        """The lines of the log of training.

        Raises:
            RunError: if the log is missing or damaged.
        """
        path = self.folder / METRICS
        try:
            text = path.read_text(encoding="utf-8")
            return [_logged(line) for line in text.splitlines()]
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path} is missing or damaged: {error!s:.300}") from error


def _logged(line: str) -> dict[str, float]:
    """The numbers of one line of the log, `step` among them."""
    numbers = json.loads(line)
    if not isinstance(numbers, dict) or "step" not in numbers:
        raise ValueError(f"a line without a step: {line:.80}")
    if not all(type(number) in (int, float) for number in numbers.values()):
        raise ValueError(f"a line with other than numbers: {line:.80}")
    return numbers
