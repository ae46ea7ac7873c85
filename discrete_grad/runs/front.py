"""The front door: a table of any kind to a finished fit, and a folder back to one."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from discrete_grad.data import Table
from discrete_grad.data.sources import Source
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.runs._fit_input import GivenConfig, given_config, read_input
from discrete_grad.runs._table_rules import GivenRules
from discrete_grad.runs.fit import fit_table
from discrete_grad.runs.fit_config import Maximise
from discrete_grad.runs.load import load_parts
from discrete_grad.runs.run import Run, run_of
from discrete_grad.runs.scorers._reference import Given
from discrete_grad.training.logs import Log, no_log, quiet_bars

__all__ = ["fit", "load_run"]


def fit(
    table: Table | Source,
    folder: str | PathLike[str],
    config: GivenConfig = None,
    *,
    score: str | Sequence[str] = (),
    context: Sequence[str] | str = (),
    features: Any = None,
    exclude: Sequence[str] | str = (),
    missing: Literal["error", "category", "drop"] = "error",
    unseen: Literal["keep", "drop"] = "keep",
    feasible: str | None = None,
    rules: GivenRules | str | PathLike[str] = (),
    fix: Sequence[str] | str = (),
    forbid: Sequence[str] | str = (),
    observed: Sequence[str] | str = (),
    preferences: Preferences | str | PathLike[str] | None = None,
    scorer: Given | None = None,
    judge: Given | None = None,
    maximise: Maximise | None = None,
    seed: int | None = None,
    resume: bool = False,
    log: Log = no_log,
    source: dict[str, Any] | None = None,
    device: str | torch.device = "cpu",
    quiet: bool = False,
) -> Run:
    """Fit judge, estimators and generator to a table, and store the run in a folder.

    `discrete-grad fit` does the same, with options of the same names. If a fit is killed at any
    moment and called again with `resume=True`, it ends with bitwise the same weights on the CPU.

    Args:
        table: a pandas, polars or Arrow table, the path of a CSV or Parquet file, or a dict of
            columns; or a `Table` that was read already, without the arguments from `score` to
            `unseen`.
        folder: folder of the run; it must be empty or not exist, unless `resume` is set.
        config: settings: a `FitConfig`, the path of a TOML file, or a dict such as
            `{"generator.steps": 400}`; what is left out has its default.
        score: column to be maximised, or with `"name:min"` minimised; `"ph:=7.4"`, `"purity>=.95"`
            and `"purity<=.99"` are aims, too. Several are traded off; see `read_table`. With a
            `scorer` no score is needed.
        context: columns that rows are generated for.
        features: columns that are generated; by default all that no other argument names. See
            `read_table`.
        exclude: columns that are left out.
        missing: `error`, `category` or `drop`, see `read_table`.
        unseen: `keep` or `drop`, see `read_table`.
        feasible: column of yes/no: whether a row succeeded; rows that failed need no score.
        rules: rules that every row obeys, or a TOML file of rules.
        fix: rules in words, `"base=KOH|NaOH"`.
        forbid: rules in words, `"base=NaH & solvent=water"`.
        observed: columns whose combinations must occur in the table, `"base,solvent"` or `"auto"`.
        preferences: preferences between rows of the table, or a file of them.
        scorer: your own model that scores rows; no estimator is trained then. It is a torch module,
            a fitted model with `predict`, a function of a frame, one of these in an `OwnScorer`
            that says how it takes the rows, or its `"package.module:name"`. Higher is better, in
            the unit of the score column if there is one.
        judge: another such model, which judges generated rows. By default the judge is trained on
            the table's scores; without scores there is no judge.
        maximise: statistic of a row's scores that is maximised; see `FitConfig`.
        seed: seed of every random number; by default that of `config`.
        resume: continue a fit of the same table and settings, if there is one in the folder.
        log: called as `log(metrics, step)`; `metrics.jsonl` is written in any case.
        source: JSON that is kept with the run.
        device: device for the computation, see `discrete_grad.training.choose_device`.
        quiet: show no progress bars, which are otherwise shown in a terminal and in a notebook.

    Raises:
        TableError: for a table that cannot be used; all faults at once.
        RunError: for a folder that is not empty or belongs to another fit, for wrong rules or
            settings, or for a scorer that cannot be used.
        ValueError: for too few rows, or settings out of range.

    Example:
        >>> import tempfile
        >>> rows = {"cut": ["fair", "good", "ideal"] * 20, "price": [2.0, 1.0, 3.0] * 20}
        >>> quick = {"estimator.steps": 50, "judge.steps": 50, "generator.steps": 50}
        >>> run = fit(rows, score="price", folder=tempfile.mkdtemp(), config=quick)
        >>> run.generate(rows=1, new_only=False)["cut"].tolist()
        ['ideal']
    """
    settings = given_config(config, maximise=maximise, seed=seed)
    given = read_input(
        table,
        score=None if scorer is not None and not score else score,
        context=context,
        features=features,
        exclude=exclude,
        missing=missing,
        unseen=unseen,
        feasible=feasible,
        rules=rules,
        fix=fix,
        forbid=forbid,
        observed=observed,
        preferences=preferences,
    )
    with quiet_bars(quiet):
        parts = fit_table(
            given.table,
            Path(folder),
            settings,
            rules=given.rules,
            preferences=given.preferences,
            scorer=scorer,
            judge=judge,
            resume=resume,
            log=log,
            source=source,
            device=device,
        )
    return run_of(parts)


def load_run(
    folder: str | PathLike[str],
    *,
    device: str | torch.device = "cpu",
    scorer: Given | None = None,
    judge: Given | None = None,
) -> Run:
    """Load a finished fit, made on any device; from a folder with rounds the latest fit.

    Args:
        folder: of the fit.
        device: where its models go, see `discrete_grad.training.choose_device`.
        scorer: that the run was fitted by: the model itself, or its `"package.module:name"`, which
            is imported, from the current folder too. Nothing is imported because the folder says
            so: without it the generator draws rows and is exported, and what asks the scorer, as
            `generate`, `score` and `report` do, is a RunError that names it.
        judge: likewise.

    Raises:
        RunError: if there is none, it is unfinished or damaged, this machine does not have the
            device, or its scorer answers otherwise than in the fit.

    Example:
        >>> from discrete_grad.training import RunError
        >>> try:
        ...     load_run("no/such/run")
        ... except RunError as error:
        ...     print(error)
        no/such/run holds no fit: config.json is missing
    """
    return run_of(load_parts(Path(folder), device=device, scorer=scorer, judge=judge))
