"""Rounds in the folder of a run: propose rows, tell what was measured, again and again."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import Table
from discrete_grad.data.sources import Source
from discrete_grad.fitting.context_range import warn_far_contexts
from discrete_grad.rules import Fix, Rules
from discrete_grad.runs._aim_rounds import round_score, round_tradeoffs
from discrete_grad.runs._aim_stages import traded
from discrete_grad.runs._choosing import Learned, Measured, check_explore, rule_context
from discrete_grad.runs._estimates import estimate_columns
from discrete_grad.runs._folder import load_table, read_settings
from discrete_grad.runs._guides import guiding_logits, spelt_draws, under
from discrete_grad.runs._lines import Lines
from discrete_grad.runs._lock import locked, only_process
from discrete_grad.runs._measured_table import Sheet, read_measured
from discrete_grad.runs._measurements import Ledger, Told
from discrete_grad.runs._next_rows import Wanted
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._rounds_folder import finish_fit, fit_folder, newest_fit, root_of
from discrete_grad.runs._seen_rows import all_rows
from discrete_grad.runs._table_rules import joined_rules
from discrete_grad.runs._trust import trusted
from discrete_grad.runs._warm import shorter
from discrete_grad.runs.fit import fit_table
from discrete_grad.runs.generate import FewRowsWarning, check_columns
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.loop import derive_seed

__all__ = ["keep", "propose_rows", "refitted", "tell_rows"]

Columns = dict[str, list[Any]]


def propose_rows(
    run: RunParts,
    lines: Lines,
    *,
    rows: int,
    explore: float = 1.0,
    write: Callable[[Columns], None] | None = None,
) -> Columns:
    """Rows to be measured next; see `Run.propose`.

    Two calls at once wait for each other. The rows count as out when they are written: a call that
    is killed before, and made again, proposes the same.

    Args:
        run: a finished fit, the last one of its folder.
        lines: from `read_lines`.
        rows: different rows for each line, at least 1.
        explore: factor of the spread around the expected scores; see `Rounds`.
        write: called with the result before the rows count as out.
    """
    _check(run, rows, explore)
    warn_far_contexts(run.table, lines.columns, lines.contexts)
    root = root_of(run.folder)
    with locked(root, "propose"):
        ledger = Ledger(root, run.table.schema)
        found, where = _chosen(run, ledger, lines, rows, explore)
        made = _columns(run, lines, found, where)
        if write is not None:
            write(made)
        if len(found):
            ledger.propose(found)
    _warn(where, len(lines.fixed), rows, lines.contexts is not None)
    return made


def tell_rows(run: RunParts, source: Source, measurement: str = "") -> RunParts:
    """Keep measured rows in the run's folder, and fit again; see `Run.tell`."""
    keep(run, source, measurement)
    return refitted(run)


def keep(run: RunParts, source: Source, measurement: str = "") -> tuple[int, Sheet]:
    """Keep measured rows, and fit nothing; how many are new, and the table that was read."""
    _check_score(run)
    sheet = read_measured(source, run.table.schema, measurement)
    root = root_of(run.folder)
    with locked(root, "tell"):
        return Ledger(root, run.table.schema).add(sheet.told), sheet


def refitted(run: RunParts) -> RunParts:
    """The run of everything that was told: itself, or a new fit in the folder."""
    root = root_of(run.folder)
    with locked(root, "fit"):
        first = load_table(root, read_settings(root))
        table = _joined(first, Ledger(root, run.table.schema))
        if _count(table) == _count(run.table):
            return run
        folder = fit_folder(root, _count(table) - _count(first))
        with only_process(root):  # its settings and weights are those that the new fit goes on from
            new = fit_table(
                table,
                folder,
                shorter(read_settings(root)["config"]),
                rules=run.rules or (),
                preferences=run.preferences,
                resume=True,
                source=run.source,
                device=run.device,
                before=newest_fit(root),
            )
        finish_fit(folder)
        return new


def _joined(table: Table, ledger: Ledger) -> Table:
    """The table with the rows that were told and have a score, and those that failed.

    Failed rows are left out where no column of the table says which rows succeed.
    """
    told = ledger.told()
    failed = told.scores.isnan().any(1)
    table = _with_scored(table, told.part((~failed).nonzero()[:, 0].tolist()))
    if table.failed_codes is None or not failed.any():
        return table
    codes, context = told.codes[failed].to(table.codes.dtype), told.context[failed]
    before = table.failed_context
    return replace(
        table,
        failed_codes=torch.cat([table.failed_codes, codes]),
        failed_context=None if before is None else torch.cat([before, context]),
    )


def _with_scored(table: Table, told: Told) -> Table:
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


def _count(table: Table) -> int:
    """Rows of a table, those that failed among them."""
    return len(table) + (0 if table.failed_codes is None else len(table.failed_codes))


def _check_score(run: RunParts) -> None:
    """Raise RunError for a run of which rounds cannot be made."""
    if run.scorer_facts:
        raise RunError(
            "rounds are of measured scores: this fit has a scorer of one's own, which can be asked"
        )
    if traded(run.table.schema) < 1:
        raise RunError("rounds need a score that is better or worse: the fit has thresholds alone")


def _check(run: RunParts, rows: int, explore: float) -> None:
    _check_score(run)
    check_columns(run.table.schema)
    if rows < 1:
        raise RunError(f"rows must be at least 1, got {rows}")
    try:
        check_explore(explore)
    except ValueError as error:
        raise RunError(str(error)) from error


def _chosen(
    run: RunParts, ledger: Ledger, lines: Lines, rows: int, explore: float
) -> tuple[Measured, list[int]]:
    """The proposed rows of all lines, one line after another, and the line of each.

    Of several aims, each part of a batch is sought at a trade-off of its own.
    """
    root, out, told = root_of(run.folder), ledger.pending(), ledger.told()
    first = load_table(root, read_settings(root))
    before, where = len(out), list[int]()
    seed = derive_seed(run.config.seed, "propose", len(told), ledger.proposals)
    for tradeoff, count in round_tradeoffs(traded(run.table.schema), rows, seed=seed):
        at = run if tradeoff is None else run.at_weights(tradeoff)
        known = _known(first, told, tradeoff)
        out, lines_of = _part(at, known, out, lines, count, explore, seed)
        where += lines_of
    order = torch.tensor(where, dtype=torch.long).argsort(stable=True)
    return out.part(order + before), sorted(where)


def _part(
    run: RunParts,
    known: Measured,
    out: Measured,
    lines: Lines,
    rows: int,
    explore: float,
    seed: int,
) -> tuple[Measured, list[int]]:
    """The rows that are out, with so many more for each line, and the lines of these."""
    schema, where = run.table.schema, list[int]()
    learned = Learned(schema.space, schema.context_spec, known, seed=seed)
    for line, fixed in enumerate(lines.fixed):
        context = None if lines.contexts is None else lines.contexts[line]
        here = torch.empty(0) if context is None else context
        taken = torch.cat([part.within(here).codes for part in (known, out)])
        rules = joined_rules(schema, run.rules, [Fix(*pair) for pair in fixed.items()])
        wanted = Wanted(
            schema.space,
            rows,
            taken,
            context=context,
            rules=rules,
            rule_context=rule_context(schema.space, schema.context_spec, rules, context),
            near=trusted(run),
            explore=explore,
            seed=derive_seed(seed, line),
        )
        codes = learned.rows(wanted, out, _guide(run, rules, context, wanted.seed))
        unknown = torch.full((len(codes),), math.nan, dtype=torch.float64)
        out = out + Measured(codes, unknown, here.expand(len(codes), -1))
        where += [line] * len(codes)
    return out, where


def _known(table: Table, told: Told, tradeoff: Tensor | None) -> Measured:
    """The rows of the table of the first fit, and all that were told, with what they are worth.

    Rows that failed are among them.
    """
    codes, context = all_rows(table)
    first = torch.empty(len(codes), 0) if context is None else context
    scores = torch.full((len(codes), told.scores.shape[1]), torch.nan, dtype=torch.float64)
    scores[: len(table)] = table.all_scores
    worth = round_score(table.schema, torch.cat([scores, told.scores]), tradeoff)
    return Measured(torch.cat([codes.long(), told.codes]), worth, torch.cat([first, told.context]))


def _guide(run: RunParts, rules: Rules | None, context: Tensor | None, seed: int) -> Tensor:
    """The generator's logits `(D,)` in a context."""
    policy = under(run.generator, rules)
    here = None if context is None else context.unsqueeze(0).to(run.device)
    with torch.no_grad():
        return guiding_logits(policy, here, spelt_draws(policy, here, seed))[0].cpu()


def _columns(run: RunParts, lines: Lines, found: Measured, where: list[int]) -> Columns:
    """Contexts as they were given, features, and the estimator's scores."""
    given = {name: [values[i] for i in where] for name, values in lines.columns.items()}
    scored = estimate_columns(run, found.codes, found.given)
    features = run.table.schema.decode_features(found.codes)
    estimated = {name: told for name, told in scored.items() if name.startswith("estimated_")}
    return {**given, **features, **estimated}


def _warn(where: list[int], lines: int, rows: int, named: bool) -> None:
    """Warn of the lines with too few rows."""
    counts = Counter(where)
    for line in range(lines):
        if counts[line] < rows:
            place = f"context row {line + 1}: " if named else ""
            text = f"{place}only {counts[line]} new rows of {rows} are left to propose"
            warnings.warn(text, FewRowsWarning, stacklevel=4)
