"""The whole job in one folder: fit it, resume it, load it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from discrete_grad.data import Table
from discrete_grad.fitting.aligner import fit_aligner
from discrete_grad.fitting.estimator import fit_estimator, new_ensemble
from discrete_grad.fitting.generator import Guides, fit_generator, make_gradient_estimator
from discrete_grad.fitting.judge_split import judge_split
from discrete_grad.fitting.pessimism import conformal_pessimism
from discrete_grad.fitting.repeats import learning_rows
from discrete_grad.fitting.reproduction import fit_reproduction
from discrete_grad.fitting.score_scale import ScoreScale, scale_behaviour
from discrete_grad.fitting.scored_rows import Rows
from discrete_grad.models import Aligner, BaseEnsemble, PreferenceModel
from discrete_grad.policies import Generator
from discrete_grad.preferences.preference_model import (
    fit_preference_model,
    new_preference_model,
    reward_unit,
)
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.runs.calibrate import Known, calibrated_units
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.folder import (
    load_preferences,
    load_table,
    load_weights,
    open_folder,
    read_settings,
)
from discrete_grad.runs.run import METRICS, Run
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.training import distributed
from discrete_grad.training.checkpoint import Checkpoint, RunError, save_tensors
from discrete_grad.training.devices import choose_device
from discrete_grad.training.logs import JsonLinesLog, Log, no_log
from discrete_grad.training.loop import derive_seed
from discrete_grad.training.snapshots import Trail

__all__ = ["fit", "load_run"]

_MIN_ROWS = 10
_MAX_RAW = 10.0
_Model = TypeVar("_Model", bound=nn.Module)


def fit(
    table: Table,
    folder: Path,
    config: FitConfig,
    *,
    preferences: Preferences | None = None,
    resume: bool = False,
    log: Log = no_log,
    source: dict[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> Run:
    """Fit judge, estimators, data policy, naive baseline and generator; keep all in a folder.

    Killed at any moment and called again with `resume=True`, it ends with bitwise the same weights
    (on the CPU, with the same number of threads) as if it had not been disturbed. Under torchrun
    every process calls it; the first one writes.

    Args:
        table: at least 10 rows.
        folder: must not exist or be empty, unless resuming.
        config: all settings.
        preferences: between rows; a model of them joins what the generator is trained by.
        resume: go on with a fit of the same table and settings, if there is one in the folder.
        log: called as `log(metrics, step)`; `metrics.jsonl` is written in any case.
        source: JSON to be kept with the run.
        device: where the models are fitted and stay, see `choose_device`. It is not kept: the run
            can be resumed and loaded on any other.

    Raises:
        RunError: if the folder is taken, belongs to another fit, or is damaged, or this machine
            does not have the device.
        ValueError: for too few rows or settings that do not fit.

    Example:
        >>> import tempfile
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.fitting import EstimatorConfig, GeneratorConfig
        >>> columns = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few, generator=GeneratorConfig(steps=50))
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> run = fit(read_table(columns, score="score"), folder, config)
        >>> space = run.table.schema.space
        >>> run.table.schema.decode_features(space.argmax(run.generator()).unsqueeze(0))
        {'cut': [2]}
    """
    device = choose_device(device)
    _check(table, config)
    if preferences is not None:
        preferences.check(table.schema.space, table.schema.context_spec)
        if len(preferences) < 2:
            raise RunError(f"a fit needs at least 2 preferences, got {len(preferences)}")
    with distributed.processes(device):
        begin = partial(open_folder, folder, table, config, preferences=preferences)
        distributed.first(partial(begin, resume=resume, source=source or {}))
        return _Stages(folder, log, device).run()


def load_run(folder: Path, *, device: str | torch.device = "cpu") -> Run:
    """Load a finished fit, made on whatever device.

    Args:
        folder: of the fit.
        device: where its models go, see `choose_device`.

    Raises:
        RunError: if there is none, it is unfinished or damaged, or this machine does not have the
            device.

    Example:
        >>> try:
        ...     load_run(Path("no/such/run"))
        ... except RunError as error:
        ...     print(error)
        no/such/run holds no fit: config.json is missing
    """
    stages = _Stages(folder, no_log, choose_device(device))
    for name in stages.names():
        if not stages.weights(name).is_file():
            raise RunError(f"{folder}: the fit is unfinished ({name} is missing); use fit --resume")
    return stages.run()


def _check(table: Table, config: FitConfig) -> None:
    """Whatever would fail after minutes of training fails here."""
    config.check()
    if len(table) < _MIN_ROWS:
        raise RunError(f"a fit needs at least {_MIN_ROWS} rows, the table has {len(table)}")
    space = table.schema.space
    method = make_gradient_estimator(space, config.generator)
    noise = seeded(0)
    method.expectation(lambda rows: rows.sum(-1), torch.zeros(space.width), generator=noise)
    largest, column = table.all_scores.abs().amax(0).max(0)
    if config.maximise == "raw" and largest > _MAX_RAW:
        name = (table.schema.score, *table.schema.more_scores)[column]
        raise RunError(
            f"maximise raw trains on the scores as they are, which must lie within "
            f"{_MAX_RAW:g} of 0; column {name!r} reaches {largest:g}: use rank or mean"
        )


class _Stages:
    """Runs the stages in order; one whose weights lie in the folder is loaded instead."""

    def __init__(self, folder: Path, log: Log, device: torch.device) -> None:
        settings = read_settings(folder)
        self.device = device
        self.folder = folder
        self.source = settings["source"]
        self.config: FitConfig = settings["config"]
        self.table = load_table(folder)
        self.preferences = load_preferences(folder, settings)
        self.metrics = JsonLinesLog(folder / METRICS)
        self.logged = 0  # length of the metrics at the end of the last finished stage
        self.user_log = log

    def names(self) -> list[str]:
        """The stages in their order."""
        aligner = ["aligner"] if self.config.generator.alignment else []
        preference = ["preference"] if self.preferences else []
        return ["judge", "estimator", "reference", "naive", *aligner, *preference, "generator"]

    def weights(self, name: str) -> Path:
        """Where the weights of a finished stage lie."""
        return self.folder / "weights" / f"{name}.safetensors"

    def run(self) -> Run:
        """Fit what is missing and load the rest."""
        config, table = self.config, self.table
        spec, kind = table.schema.context_spec, config.score_scale
        scale = ScoreScale.fit(kind, table.scores, table.context, spec)
        scaled = scale.apply(table.scores, table.context)
        behaviour = scale_behaviour(kind, table.all_scores, table.context, spec)
        scored = Rows(table.codes, scaled, table.context, behaviour)
        split = partial(judge_split, scored, spec=spec, mixed=config.merge_repeats)
        mine, judged = split(config.judge_share, seed=derive_seed(config.seed, "judge rows"))
        share = config.calibration_share if config.generator.coverage else 0
        aside, mine = mine.tensor_split([round(len(mine) * share)])
        observations = scored.part(mine)
        rows = self._merged(observations).to(self.device)
        judge_rows = self._merged(scored.part(judged)).to(self.device)
        observations = observations.to(self.device)
        quantiles = _quantiles(table.scores)[mine].to(self.device)

        judge = self._ensemble("judge", judge_rows)
        estimator = self._ensemble("estimator", rows)
        path = self.weights("calibration")
        known: dict[Literal["estimator", "judge"], Known] = {}
        # a run without calibration but with a generator was made before there was any
        new = not path.is_file() and not self.weights("generator").is_file()
        distributed.barrier()  # all processes have looked before the first one writes
        if new:
            true = replace(scored, scores=table.scores)
            known["estimator"] = Known(estimator, rows, self._merged(true.part(mine)).scores)
            known["judge"] = Known(judge, judge_rows, self._merged(true.part(judged)).scores)
        units, held_out = calibrated_units(path, known, table, scale, config)
        reference = self._reproduction("reference", observations, torch.ones_like(quantiles))
        naive = self._reproduction("naive", observations, quantiles)
        aligner = self._aligner(estimator, rows)
        preference = self._preference()
        unit = 1.0 if preference is None else reward_unit(preference, rows)
        guides = Guides(estimator, judge, reference, aligner, preference, unit)
        pessimism = config.generator.pessimism
        if config.generator.coverage:
            coverage = config.generator.coverage
            unseen = scored.take(aside).to(self.device)
            pessimism = conformal_pessimism(estimator, unseen, coverage)
        return Run(
            folder=self.folder,
            config=config,
            table=table,
            source=self.source,
            scale=scale,
            to_units=units["estimator"],
            judge_to_units=units["judge"],
            rows=rows,
            judge_rows=judge_rows,
            judge=judge,
            estimator=estimator,
            reference=reference,
            naive=naive,
            generator=self._trained_generator(guides, rows, pessimism),
            aligner=aligner,
            pessimism=pessimism,
            preferences=self.preferences,
            preference=preference,
            reward_unit=unit,
            held_out=held_out,
        )

    def _merged(self, observations: Rows) -> Rows:
        # a median is none of means
        if not self.config.merge_repeats or self.config.maximise == "median":
            return observations
        return learning_rows(observations, self.table.schema.space.num_rows)

    def _ensemble(self, name: Literal["estimator", "judge"], rows: Rows) -> BaseEnsemble:
        schema, seed = self.table.schema, derive_seed(self.config.seed, name, "weights")
        config = self.config.scorer(name)
        ensemble = new_ensemble(
            schema.space, schema.context_spec, config, seed=seed, rows=len(rows)
        )
        absolute = self.config.maximise == "median"
        fit = partial(fit_estimator, rows=rows, config=config, stage=name, absolute=absolute)
        return self._stage(name, ensemble, fit)

    def _reproduction(self, name: str, rows: Rows, scores: Tensor) -> Generator:
        """A generator that reproduces the rows, each loss divided by a score."""
        weighted, config = replace(rows, scores=scores), self.config.reproduction
        fit = partial(fit_reproduction, rows=weighted, config=config, stage=name)
        return self._stage(name, self._generator(name), fit)

    def _trained_generator(self, guides: Guides, rows: Rows, pessimism: float) -> Generator:
        config = replace(self.config.generator, pessimism=pessimism)
        method = make_gradient_estimator(self.table.schema.space, config).to(self.device)
        trail = Trail(self.folder / "trail", steps=config.steps, every=config.validate_every)
        fit = partial(
            fit_generator, guides=guides, rows=rows, method=method, config=config, look=trail
        )
        return self._stage("generator", self._generator("generator"), fit)

    def _generator(self, name: str) -> Generator:
        schema = self.table.schema
        with isolated_seed(derive_seed(self.config.seed, name, "weights")):
            return Generator(schema.context_spec, schema.space, hidden=self.config.generator.hidden)

    def _aligner(self, estimator: BaseEnsemble, rows: Rows) -> Aligner | None:
        settings = self.config.aligner
        if not self.config.generator.alignment:
            return None
        with isolated_seed(derive_seed(self.config.seed, "aligner", "weights")):
            aligner = Aligner(estimator, settings.projection_dim)
        return self._stage("aligner", aligner, partial(fit_aligner, rows=rows, config=settings))

    def _preference(self) -> PreferenceModel | None:
        data, config, schema = self.preferences, self.config.preference, self.table.schema
        if data is None:
            return None
        model = new_preference_model(
            schema.space,
            schema.context_spec,
            config,
            annotators=len(data.annotators),
            ties=data.has_ties,
            seed=derive_seed(self.config.seed, "preference", "weights"),
        )
        fit = partial(fit_preference_model, preferences=data.to(self.device), config=config)
        return self._stage("preference", model, fit)

    def _stage(self, name: str, model: _Model, fit: Callable[..., object]) -> _Model:
        """Load the stage's weights, or fit them and keep them."""
        weights, state = self.weights(name), self.folder / "state" / f"{name}.safetensors"
        model = model.to(self.device)
        if weights.is_file():
            self.logged = load_weights(model, weights)["metrics"]
        else:
            checkpoint = Checkpoint(state, self.metrics)
            if distributed.rank() == 0 and not state.exists():
                self.metrics.rewind(self.logged)
            fit(model, seed=self.config.seed, log=self._log, checkpoint=checkpoint)
            if distributed.rank() == 0:
                save_tensors(weights, model.state_dict(), {"metrics": self.metrics.position()})
            distributed.barrier()
            self.logged = self.metrics.position()
        if distributed.rank() == 0:
            state.unlink(missing_ok=True)
        return model.requires_grad_(False).eval()

    def _log(self, metrics: dict[str, float], step: int) -> None:
        if distributed.rank() == 0:
            self.metrics(metrics, step)
            self.user_log(metrics, step)


def _quantiles(scores: Tensor) -> Tensor:
    """Share of scores at most as large, in (0, 1]."""
    ordered = scores.sort().values
    return (torch.searchsorted(ordered, scores, right=True) / len(scores)).float()
