"""Rounds in the folder of a run: propose rows, tell what was measured, again and again."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import Table
from discrete_grad.data.sources import Source
from discrete_grad.policies.obeying import ObeyingPolicy
from discrete_grad.runs._choosing import Learned, Measured, check_explore
from discrete_grad.runs._folder import load_table
from discrete_grad.runs._guides import guiding_logits, spelt_draws, under
from discrete_grad.runs._measured_table import Sheet, read_measured
from discrete_grad.runs._measurements import Ledger, locked
from discrete_grad.runs._next_rows import Wanted
from discrete_grad.runs._rounds_folder import finish_fit, fit_folder, measured_in, root_of
from discrete_grad.runs._trust import trusted
from discrete_grad.runs.fit import fit
from discrete_grad.runs.generate import FewRowsWarning, check_columns
from discrete_grad.runs.run import Run
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.devices import AskedFromCpu
from discrete_grad.training.loop import derive_seed

__all__ = ["keep", "propose", "refitted", "tell"]

Columns = dict[str, list[Any]]


def propose(
    run: Run,
    columns: Columns,
    contexts: Tensor | None,
    *,
    rows: int,
    explore: float = 1.0,
    write: Callable[[Columns], None] | None = None,
) -> Columns:
    """Rows to be measured next, for each context, those first that promise most.

    What was told decides, and a Gaussian process over rows and contexts that learns from it; see
    `Rounds`. The run's generator guides the search for candidates. Rows of the table, rows that
    were told and rows that are out are not proposed again in the same context. Every row obeys the
    rules of the fit and lies within `trust_radius` of an observed one where the fit gives `trust` a
    weight. Preferences do not count.

    Two calls at once wait for each other. The rows count as out when they are written: a call that
    is killed before, and made again, proposes the same.

    Args:
        run: a finished fit, the last one of its folder.
        columns: the contexts as given, S values a column, from `read_contexts`; empty without.
        contexts: the same encoded, `(S, C)`; None for a fit without.
        rows: different rows for each context, at least 1.
        explore: factor of the spread around the expected scores; see `Rounds`.
        write: called with the result before the rows count as out.

    Returns:
        Columns: the contexts', the features and `estimated_score` in the table's units. A context
        that has fewer such rows gets fewer, with a `FewRowsWarning`.

    Raises:
        RunError: for fewer than 1 row, a negative `explore`, or rows of another table.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.fitting import EstimatorConfig, GeneratorConfig
        >>> from discrete_grad.runs.fit_config import FitConfig
        >>> pairs = [(cut, hue) for cut in range(4) for hue in range(4) if cut + hue < 6] * 2
        >>> columns = {"cut": [p[0] for p in pairs], "hue": [p[1] for p in pairs]}
        >>> table = read_table({**columns, "score": [sum(p) for p in pairs]}, score="score")
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few, generator=GeneratorConfig(steps=50))
        >>> run = fit(table, Path(tempfile.mkdtemp()) / "run", config)
        >>> found = propose(run, {}, None, rows=1)
        >>> found["cut"], found["hue"]
        ([3], [3])
    """
    _check(run, rows, explore)
    root = root_of(run.folder)
    with locked(root, "propose"):
        ledger = Ledger(root, run.table.schema)
        found = _chosen(run, ledger, contexts, rows, explore)
        made = _columns(run, columns, contexts, found)
        if write is not None:
            write(made)
        if len(found):
            ledger.propose(found)
    _warn(found, contexts, rows)
    return made


def tell(run: Run, source: Source, *, measurement: str = "") -> Run:
    """Keep measured rows in the run's folder, and fit again to everything that is known.

    Any rows may be told: proposed ones, some of them, others, rows of the table. A measurement is
    known by its row, context, scores and name, and kept once: a file may be told again, grown or
    not, and whatever it holds twice was measured twice. Where a later file says of a row what an
    earlier one said, the name tells the two measurements apart.

    Two calls at once wait for each other, and both files are kept. A call that is killed has kept
    the whole file or nothing, and made again goes on where it stopped.

    Args:
        run: a fit of the folder.
        source: as in `read_table`: features, contexts and scores; an empty score says that the row
            was not measured yet. Two more columns are read where no column of the table has their
            name: `failed`, yes or no, for rows without a score because they failed, and
            `measurement`, the name of each row's measurement, such as a date.
        measurement: name for all rows that have none.

    Returns:
        The run of the new fit. Its networks go on from the weights of the last one.

    Raises:
        TableError: for a faulty table, of which nothing is kept then.
        RunError: for rows of another table, or as `fit`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.fitting import EstimatorConfig, GeneratorConfig
        >>> from discrete_grad.runs.fit_config import FitConfig
        >>> table = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few, generator=GeneratorConfig(steps=50))
        >>> run = fit(read_table(table, score="score"), Path(tempfile.mkdtemp()) / "run", config)
        >>> measured = {"cut": [1, 2], "score": [3.0, 4.0]}
        >>> len(tell(run, measured).table), len(tell(run, measured).table)
        (62, 62)
    """
    keep(run, source, measurement)
    return refitted(run)


def keep(run: Run, source: Source, measurement: str = "") -> tuple[int, Sheet]:
    """Keep measured rows, and fit nothing; how many are new, and the table that was read."""
    sheet = read_measured(source, run.table.schema, measurement)
    root = root_of(run.folder)
    with locked(root, "tell"):
        return Ledger(root, run.table.schema).add(sheet.told), sheet


def refitted(run: Run) -> Run:
    """The run of everything that was told: itself, or a new fit in the folder."""
    root = root_of(run.folder)
    with locked(root, "fit"):
        table = _joined(load_table(root), Ledger(root, run.table.schema))
        count = len(table) - len(load_table(root))
        if count == measured_in(run.folder):
            return run
        folder = fit_folder(root, count)
        new = fit(
            table,
            folder,
            run.config,
            rules=run.rules or (),
            preferences=run.preferences,
            resume=True,
            source=run.source,
            device=run.device,
        )
        finish_fit(folder)
        return new


def _joined(table: Table, ledger: Ledger) -> Table:
    """The table with the rows that were told and have a score."""
    told = ledger.told()
    told = told.part((~told.scores.isnan().any(1)).nonzero()[:, 0].tolist())
    if not len(told):
        return table
    more = told.scores[:, 1:]
    return replace(
        table,
        codes=torch.cat([table.codes, told.codes.to(table.codes.dtype)]),
        scores=torch.cat([table.scores, told.scores[:, 0]]),
        context=None if table.context is None else torch.cat([table.context, told.context]),
        more_scores=None if table.more_scores is None else torch.cat([table.more_scores, more]),
    )


def _check(run: Run, rows: int, explore: float) -> None:
    check_columns(run.table.schema)
    if rows < 1:
        raise RunError(f"rows must be at least 1, got {rows}")
    try:
        check_explore(explore)
    except ValueError as error:
        raise RunError(str(error)) from error


def _chosen(
    run: Run, ledger: Ledger, contexts: Tensor | None, rows: int, explore: float
) -> Measured:
    """The proposed rows of all contexts, one context after another."""
    told, table = ledger.told(), load_table(root_of(run.folder))
    first = torch.empty(len(table), 0) if table.context is None else table.context
    known = Measured(table.codes.long(), table.scores, first)
    known = known + Measured(told.codes, told.scores[:, 0], told.context)
    out, before = ledger.pending(), len(ledger.pending())
    schema, seed = run.table.schema, _seed(run, len(told), ledger)
    learned = Learned(schema.space, schema.context_spec, known, seed=seed)
    for place in range(1 if contexts is None else len(contexts)):
        context = None if contexts is None else contexts[place]
        here = torch.empty(0) if context is None else context
        taken = torch.cat([part.within(here).codes for part in (known, out)])
        wanted = _wanted(run, rows, taken, context, explore, derive_seed(seed, place))
        codes = learned.rows(wanted, out, _guide(run, context, wanted.seed))
        unknown = torch.full((len(codes),), math.nan, dtype=torch.float64)
        out = out + Measured(codes, unknown, here.expand(len(codes), -1))
    return out.part(torch.arange(before, len(out)))


def _seed(run: Run, told: int, ledger: Ledger) -> int:
    return derive_seed(run.config.seed, "propose", told, ledger.proposals)


def _wanted(
    run: Run, rows: int, taken: Tensor, context: Tensor | None, explore: float, seed: int
) -> Wanted:
    policy = under(run.generator, run.rules)
    read = policy.rule_context(context) if isinstance(policy, ObeyingPolicy) else None
    return Wanted(
        run.table.schema.space,
        rows,
        taken,
        context=context,
        rules=run.rules,
        rule_context=read,
        near=trusted(run),
        explore=explore,
        seed=seed,
    )


def _guide(run: Run, context: Tensor | None, seed: int) -> Tensor:
    """The generator's logits `(D,)` in a context."""
    policy = under(run.generator, run.rules)
    here = None if context is None else context.unsqueeze(0).to(run.device)
    with torch.no_grad():
        return guiding_logits(policy, here, spelt_draws(policy, here, seed))[0].cpu()


def _columns(run: Run, columns: Columns, contexts: Tensor | None, found: Measured) -> Columns:
    """Contexts as they were given, features, and the estimator's scores."""
    here, where = found.given, [0] * len(found)
    if contexts is not None:
        same = (found.context.unsqueeze(1) == contexts).all(-1)
        where = same.float().argmax(1).tolist()
    given = {name: [values[i] for i in where] for name, values in columns.items()}
    with torch.no_grad():
        predicted = AskedFromCpu(run.estimator, run.device)(found.codes, here)
    scores = run.to_units(predicted, here).tolist()
    return {**given, **run.table.schema.decode_features(found.codes), "estimated_score": scores}


def _warn(found: Measured, contexts: Tensor | None, rows: int) -> None:
    """Warn of the first context with too few rows."""
    shown = torch.empty(1, 0) if contexts is None else contexts
    for place, context in enumerate(shown):
        count = len(found.within(context))
        if count < rows:
            where = "" if contexts is None else f"context row {place + 1}: "
            text = f"{where}only {count} new rows of {rows} are left to propose"
            warnings.warn(text, FewRowsWarning, stacklevel=3)
