"""The whole job in one folder: fit it, or resume it."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from discrete_grad.data import Table
from discrete_grad.fitting.pessimism import covering_rank
from discrete_grad.fitting.stacking import ANY_ROWS, require_families
from discrete_grad.policies import Conditioned, Generator
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.rules import Rules
from discrete_grad.runs._aim_stages import check_aims, has_aims
from discrete_grad.runs._folder import load_weights, open_folder, read_settings
from discrete_grad.runs._lock import only_process
from discrete_grad.runs._method import run_method
from discrete_grad.runs._parts import METRICS, RunParts
from discrete_grad.runs._prepared import Observations, save_prepared
from discrete_grad.runs._scorer_stages import begin, stages_of
from discrete_grad.runs._stages import Stage, Work
from discrete_grad.runs._table_rules import GivenRules, check_contexts, table_rules
from discrete_grad.runs._warm import go_on
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.load import assemble, frozen
from discrete_grad.runs.scorers._facts import check_scorers
from discrete_grad.runs.scorers._given import Scorers, given_scorers
from discrete_grad.runs.scorers._reference import Given
from discrete_grad.sampling import seeded
from discrete_grad.training import distributed
from discrete_grad.training.checkpoint import Checkpoint, RunError, save_tensors, told_as_damage
from discrete_grad.training.config import require_config
from discrete_grad.training.devices import choose_device
from discrete_grad.training.logs import JsonLinesLog, Log, TensorBoardLog, no_log

__all__ = ["fit_table"]

_MIN_ROWS = 10
_MAX_RAW = 10.0
_MAX_SCORE = 1e300


def fit_table(
    table: Table,
    folder: Path | str,
    config: FitConfig,
    *,
    rules: GivenRules = (),
    preferences: Preferences | None = None,
    scorer: Given | None = None,
    judge: Given | None = None,
    resume: bool = False,
    log: Log = no_log,
    source: dict[str, Any] | None = None,
    device: str | torch.device = "cpu",
    before: Path | None = None,
) -> RunParts:
    """Fit judge, estimators, data policy, naive baseline and generator; keep all in a folder.

    Killed at any moment and called again with `resume=True`, it ends with bitwise the same weights
    (on the CPU, with the same number of threads) as if it had not been disturbed. Under torchrun
    every process calls it; the first one writes.

    Args:
        table: at least 10 rows.
        folder: must not exist or be empty, unless resuming.
        config: all settings.
        rules: that generated rows obey and the generator is trained under, in terms of the table's
            features, categories and categorical contexts; `Rules` of its space, or a list of rules.
        preferences: between rows; a model of them joins what the generator is trained by.
        scorer: a model of one's own that scores rows, in place of the estimators, of which none is
            trained: the model, a `OwnScorer`, or its `package.module:name`. Its answers are in the
            unit of the score column, and the scores of a table without one. A scorer with a
            derivative is used through it.
        judge: another one, in place of the judge; by default `judge_scorer` of the config.
            Without, the judge is trained on the table's scores; where it has none there is no
            judge.
        resume: go on with a fit of the same table and settings, if there is one in the folder.
        log: called as `log(metrics, step)`; `metrics.jsonl` is written in any case.
        source: JSON to be kept with the run.
        device: where the models are fitted and stay, see `choose_device`. It is not kept: the run
            can be resumed and loaded on any other.
        before: folder of an earlier fit, from whose weights the generators go on.

    Raises:
        RunError: if the folder is taken, belongs to another fit, or is damaged, or this machine
            does not have the device.
        ValueError: for too few rows, settings that do not fit, or rules that leave no row.

    Example:
        >>> import tempfile
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.fitting import EstimatorConfig, GeneratorConfig
        >>> columns = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few, generator=GeneratorConfig(steps=50))
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> run = fit_table(read_table(columns, score="score"), folder, config)
        >>> space = run.table.schema.space
        >>> run.table.schema.decode_features(space.argmax(run.generator()).unsqueeze(0))
        {'cut': [2]}
    """
    device = choose_device(device)
    require_config("config of fit", config, FitConfig)
    judge = config.judge_scorer or None if judge is None else judge
    scorers = given_scorers(scorer, judge, table, device)
    given, table = table, table if scorers is None else scorers.table
    made = _checked_rules(table, rules)
    _check(table, config, made, scorers)
    if preferences is not None:
        preferences.check(table.schema.space, table.schema.context_spec)
        if len(preferences) < 2:
            raise RunError(f"a fit needs at least 2 preferences, got {len(preferences)}")
    folder = Path(folder)
    with distributed.processes(device), ExitStack() as held:
        distributed.first(lambda: held.enter_context(only_process(folder)))
        lay_out = partial(open_folder, folder, given, config, preferences=preferences, rules=made)
        distributed.first(partial(lay_out, scorers=scorers, resume=resume, source=source or {}))
        settings = read_settings(folder)
        scorers = None if scorers is None else scorers.kept(folder)
        table = table if scorers is None else scorers.table
        work = Work(
            folder, settings["config"], table, settings["source"], preferences, device, made, before
        )
        begin(work, scorers)
        _fit_stages(work, log)
        return assemble(work)


def _check(table: Table, config: FitConfig, rules: Rules | None, scorers: Scorers | None) -> None:
    """Whatever would fail after minutes of training fails here."""
    config.check()
    check_aims(table.schema, config)
    if scorers is not None:
        check_scorers(scorers, config)
        if has_aims(table.schema):
            raise RunError(
                "a scorer of one's own takes the place of the estimator of one score: leave out "
                "further aims, thresholds and feasible rows"
            )
    if len(table) < _MIN_ROWS:
        raise RunError(f"a fit needs at least {_MIN_ROWS} rows, the table has {len(table)}")
    space = table.schema.space
    method = run_method(space, config.generator, rules)
    noise = seeded(0)
    method.expectation(lambda rows: rows.sum(-1), torch.zeros(space.width), generator=noise)
    if config.generator.coverage and scorers is None:
        aside = Observations(table, config).aside
        covering_rank(config.generator.coverage, config.estimator.members, len(aside))
    if scorers is None:
        _check_families(table, config)
    largest, column = table.all_scores.abs().amax(0).max(0)
    name = (table.schema.score, *table.schema.more_scores)[column]
    if largest > _MAX_SCORE:
        raise RunError(
            f"scores must lie within {_MAX_SCORE:g} of 0, or a report could not average and draw "
            f"them; column {name!r} reaches {largest:g}: divide it"
        )
    if config.maximise == "raw" and largest > _MAX_RAW:
        raise RunError(
            f"maximise raw trains on the scores as they are, which must lie within "
            f"{_MAX_RAW:g} of 0; column {name!r} reaches {largest:g}: use rank or mean"
        )


def _check_families(table: Table, config: FitConfig) -> None:
    """Families of which none can be fitted to the rows of the estimator, or of the judge."""
    settings = {name: config.scorer(name) for name in ("estimator", "judge")}
    if all(ANY_ROWS & set(part.families) for part in settings.values()):
        return  # without counting the rows, which takes time
    rows = Observations(table, config).prepared()
    for part, learnt in zip(settings.values(), (rows.rows, rows.judge_rows), strict=True):
        require_families(part.families, table.schema.space, len(learnt))


def _checked_rules(table: Table, given: GivenRules) -> Rules | None:
    """The rules for the table's rows, which allow some in each of its contexts."""
    rules = table_rules(table.schema, given)
    if rules is not None:
        policy = Generator(table.schema.space, table.schema.context_spec, hidden=(1,))
        check_contexts(Conditioned(policy, rules), table.context)
    return rules


def _fit_stages(work: Work, log: Log) -> None:
    """Run the stages in order; one whose weights lie in the folder is loaded instead."""
    missing, prepared = not work.prepared_path.is_file(), work.prepared
    distributed.barrier()  # all processes have looked before the first one writes
    if missing:
        distributed.first(partial(save_prepared, work.prepared_path, prepared))
    runner = _Runner(work, log)
    for stage in stages_of(work):
        work.models[stage.name] = runner.finish(stage)


class _Runner:
    """Finishes one stage after another, each logged from where the one before it ended."""

    def __init__(self, work: Work, log: Log) -> None:
        self.work = work
        self.logs: list[Log] = [log]
        if work.config.tensorboard and distributed.rank() == 0:
            self.logs.append(TensorBoardLog(work.folder / "tensorboard"))
        self.metrics = JsonLinesLog(work.folder / METRICS)
        self.logged = 0  # length of the metrics at the end of the last finished stage

    def finish(self, stage: Stage) -> nn.Module:
        """Load the stage's weights, or fit them and keep them."""
        weights = self.work.weights(stage.name)
        state = self.work.folder / "state" / weights.name
        model = stage.model(self.work).to(self.work.device)
        if weights.is_file():
            with told_as_damage(weights):
                self.logged = int(load_weights(model, weights)["metrics"])
        else:
            self._train(stage, model, Checkpoint(state, self.metrics))
        if distributed.rank() == 0:
            state.unlink(missing_ok=True)
        return frozen(model)

    def _train(self, stage: Stage, model: nn.Module, checkpoint: Checkpoint) -> None:
        scorers = self.work.scorers
        if scorers is not None:
            scorers.begin(stage.name)
        train = stage.trainer(self.work)
        if distributed.rank() == 0 and not checkpoint.path.exists():
            self.metrics.rewind(self.logged)
        if self.work.before is not None and not checkpoint.path.exists():
            go_on(model, self.work.before / "weights" / checkpoint.path.name)
        train(model, seed=self.work.config.seed, log=self._log, checkpoint=checkpoint)
        if distributed.rank() == 0:
            if scorers is not None:
                scorers.save_facts(self.work.folder)
            kept = {"metrics": self.metrics.position()}
            save_tensors(self.work.weights(stage.name), model.state_dict(), kept)
        distributed.barrier()
        self.logged = self.metrics.position()

    def _log(self, metrics: dict[str, float], step: int) -> None:
        if distributed.rank() == 0:
            self.metrics(metrics, step)
            for log in self.logs:
                log(metrics, step)
