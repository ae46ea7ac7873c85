"""Commands with their options."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tyro.conf import OmitArgPrefixes

from discrete_grad.cli.checks import check_rows
from discrete_grad.cli.options import (
    Answers,
    Candidates,
    Context,
    DemoRun,
    Example,
    FitRules,
    FitRun,
    GenerateRules,
    GenerateRun,
    Goal,
    PreferRun,
    Quality,
    ReportRun,
    Rows,
    RunFolder,
    TableColumns,
    fit_config,
)
from discrete_grad.cli.rounds import Propose, Tell
from discrete_grad.cli.terminal import (
    print_ranked,
    say,
    tell_calls,
    tell_found,
    told,
    told_at_once,
    write_and_print_report,
)
from discrete_grad.cli.trusted import NamedModels
from discrete_grad.data import TableWarning, load_example, output_format, read_table, write_rows
from discrete_grad.fitting import FarContextWarning
from discrete_grad.runs import (
    FewRowsWarning,
    config_text,
    edit_rows,
    fit,
    part_path,
    prefer,
)
from discrete_grad.runs._fit_input import FitInput, read_input
from discrete_grad.runs._line_rows import rows_of_lines
from discrete_grad.runs._lines import read_lines
from discrete_grad.runs._refit import RefitWarning
from discrete_grad.runs._table_rules import listed
from discrete_grad.runs.aim_words import read_tradeoff
from discrete_grad.runs.rule_words import RuleWords, worded_rules
from discrete_grad.training import RunError
from discrete_grad.training.devices import choose_device
from discrete_grad.training.distributed import first, processes

__all__ = ["COMMANDS", "Command", "Demo", "Fit", "Generate", "Prefer", "Report", "Score"]

_ROWS = 8  # of each context, where --rows is not given

# set by torchrun; without it there is one process
_PROCESSES = {"RANK": "0", "WORLD_SIZE": "1"}


class AnyRun(Protocol):
    """Options that every command has."""

    @property
    def debug(self) -> bool:
        """Whether the traceback of an error is shown."""


class Command(Protocol):
    """A command with its options."""

    @property
    def run(self) -> AnyRun:
        """Its options that every command has."""

    def execute(self) -> None:
        """Do what the command is for."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit judge, estimators and generator to a table, and write the report.

    Every column that is no score and no context is a feature, unless --features names the features.
    The judge is a second estimator, trained on rows that the generator never learns from. All other
    settings are read from a file: see --config and --print-config. On several processes: torchrun
    --nproc-per-node 2 -m discrete_grad fit ...
    """

    table: OmitArgPrefixes[TableColumns]
    context: OmitArgPrefixes[Context]
    goal: OmitArgPrefixes[Goal]
    rules: OmitArgPrefixes[FitRules]
    quality: OmitArgPrefixes[Quality]
    run: OmitArgPrefixes[FitRun]

    def execute(self) -> None:
        """Fit a table, or write the configuration."""
        config = fit_config(self.run.config, self.run, self.goal, self.quality)
        if self.run.print_config:
            print(config_text(config), end="")
            return
        path, out = self.table.table, self.run.out
        if path is None or out is None:
            lacking = "a table" if path is None else "a folder"
            raise RunError(f"{lacking} is missing: fit TABLE --score NAME --out FOLDER")
        device = choose_device(self.run.device)  # before a large table is read
        given = self._input(path)
        with told_at_once(RefitWarning), processes(device):
            done = fit(
                given.table,
                out,
                config,
                rules=given.rules,
                preferences=given.preferences,
                scorer=self.goal.scorer,
                resume=self.run.resume,
                device=device,
            )
            first(partial(write_and_print_report, done))

    def _input(self, path: Path) -> FitInput:
        """The table and what speaks of its columns, as `discrete_grad.fit` reads them."""
        with told(TableWarning):
            given = read_input(
                path,
                score=self.table.score or (() if self.goal.scorer is None else None),
                context=self.context.context,
                features=self.table.features or None,
                exclude=self.table.exclude,
                missing=self.table.missing,
                unseen=self.table.unseen,
                feasible=self.table.feasible,
                preferences=self.goal.preferences,
                rules=self.rules.rules or (),
                fix=self.rules.fix,
                forbid=self.rules.forbid,
                observed=self.rules.observed,
            )
        if "auto" in self.rules.observed:
            tell_found(listed(given.rules))
        return given


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Write new and different rows for each context, the best by the estimator's score first.

    The score is the one that the generator was trained by, preferences included. The first row is
    chosen among the best 16, by the score and by the generator's probability. On several processes
    (torchrun --nproc-per-node 2 -m discrete_grad generate ... --out rows.parquet) each process
    takes a share of the contexts and writes a part, such as rows.part-00000-of-00002.parquet.
    """

    run_folder: RunFolder
    """Folder of a fit."""
    rows: OmitArgPrefixes[Rows]
    rules: OmitArgPrefixes[GenerateRules]
    models: OmitArgPrefixes[NamedModels]
    run: OmitArgPrefixes[GenerateRun]

    def execute(self) -> None:
        """Generate rows and write them."""
        place, count = (int(os.environ.get(name, d)) for name, d in _PROCESSES.items())
        place = place if count > 1 else 0  # a rank may be left in the environment
        out, wanted = part_path(self.run.out, place, count), self.rows
        check_rows(wanted, count)
        tradeoff = _tradeoff(wanted.tradeoff)
        run = self.models.load(self.run_folder, self.run.device)
        rules = worded_rules(RuleWords(**vars(self.rules)), run.table)
        if "auto" in self.rules.observed:
            tell_found(rules)
        if wanted.edit is not None:
            seed, edits = self.run.seed, wanted.edits
            asked = run if tradeoff is None else run.at(tradeoff)
            write_rows(out, edit_rows(asked, wanted.edit, edits=edits, rules=rules, seed=seed))
            tell_calls(run)
            return
        lines = read_lines(wanted.contexts, run.table.schema)
        with told(FarContextWarning, FewRowsWarning):
            written = rows_of_lines(
                run,
                lines,
                rows=_ROWS if wanted.rows is None else wanted.rows,
                seed=self.run.seed,
                diversity=wanted.diversity,
                new_only=wanted.new_only,
                rules=rules,
                share=(place, count),
                tradeoff=tradeoff,
                front=wanted.front,
            )
        write_rows(out, written)
        tell_calls(run)


def _tradeoff(text: str | None) -> dict[str, float] | None:
    return None if text is None else read_tradeoff(text)


@dataclass(frozen=True, kw_only=True)
class Score:
    """Rank rows of your own by the estimator of a fit.

    Every row gets its scores by estimator and judge in the table's units, whether the table of the
    fit has it, and its rank, 1 for the best by the estimator among the rows of the same context;
    of several aims there are scores of each, and the rank is that at a trade-off.
    Without --out the best are printed. Python: `Run.score`.
    """

    run_folder: RunFolder
    """Folder of a fit."""
    candidates: OmitArgPrefixes[Candidates]
    models: OmitArgPrefixes[NamedModels]
    run: OmitArgPrefixes[ReportRun]

    def execute(self) -> None:
        """Score the rows and write or print them."""
        out, tradeoff = self.candidates.out, _tradeoff(self.candidates.tradeoff)
        if out is not None:
            output_format(out)
        run = self.models.load(self.run_folder, self.run.device)
        scored = (run if tradeoff is None else run.at(tradeoff)).score(self.candidates.rows)
        if out is None:
            print_ranked(scored)
        else:
            write_rows(out, scored.astype(object).where(scored.notna(), None).to_dict("list"))


@dataclass(frozen=True, kw_only=True)
class Prefer:
    """Show two rows at a time and record the better one; `fit --preferences` learns from it.

    Answers: 1 or 2 for the better row, t if both are equally good, s to skip, q (or the end of the
    input) to quit. Each answer is saved before the next pair is shown.
    """

    run_folder: RunFolder
    """Folder of a fit."""
    answers: OmitArgPrefixes[Answers]
    models: OmitArgPrefixes[NamedModels]
    run: OmitArgPrefixes[PreferRun]

    def execute(self) -> None:
        """Ask for preferences in the terminal."""
        run = self.models.load(self.run_folder)
        path = self.answers.out or self.run_folder / "preferences.parquet"
        answered = prefer(
            run,
            path,
            ask=input,
            show=say,
            annotator=self.answers.annotator,
            pairs=self.answers.pairs,
            seed=self.run.seed,
        )
        print(f"{answered} answers kept, in {path}: fit --preferences {path} learns from them")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write report.html and report.json into the folder of a fit."""

    run_folder: RunFolder
    """Folder of a fit."""
    models: OmitArgPrefixes[NamedModels]
    run: OmitArgPrefixes[ReportRun]

    def execute(self) -> None:
        """Write the report again."""
        write_and_print_report(self.models.load(self.run_folder, self.run.device))


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The main job on a complete real table: rows from the worst 80%, judged by the truth.

    The data sets of the family are the contexts. If it is interrupted, call it again to continue.
    """

    example: OmitArgPrefixes[Example]
    run: OmitArgPrefixes[DemoRun]

    def execute(self) -> None:
        """Fit the example."""
        config, chosen = fit_config(self.run.config, self.run), self.example
        example = load_example(chosen.family)
        table = read_table(
            example.training_rows(chosen.rows, seed=config.seed),
            score="score",
            context=["dataset:categorical"],
            features=example.features,
        )
        source = {"example": chosen.family}
        device = choose_device(self.run.device)
        with processes(device):
            done = fit(table, self.run.out, config, resume=True, source=source, device=device)
            first(partial(write_and_print_report, done))


COMMANDS: dict[str, Callable[..., Any]] = {
    "fit": Fit,
    "generate": Generate,
    "score": Score,
    "propose": Propose,
    "tell": Tell,
    "prefer": Prefer,
    "report": Report,
    "demo": Demo,
}
