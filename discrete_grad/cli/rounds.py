"""Commands of the rounds: `propose` rows, `tell` what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes

from discrete_grad.cli.options import RunFolder
from discrete_grad.cli.terminal import told
from discrete_grad.data import output_format, write_rows
from discrete_grad.fitting import FarContextWarning
from discrete_grad.runs import FewRowsWarning, load_run
from discrete_grad.runs._lines import read_lines
from discrete_grad.runs.folder_rounds import keep, propose_rows, refitted

__all__ = ["Propose", "Tell"]

_Device = Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda|cuda:N")]
_Table = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows to be measured next."""

    rows: int = 16
    """Number of different rows for each context."""
    contexts: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """CSV or Parquet file with the context columns; none for a fit without context."""
    explore: float = 1.0
    """Factor of the uncertainty of the expected scores, at least 0: 0 proposes the rows with the
    highest expected scores, and values above 1 favour rows whose scores are uncertain."""


@dataclass(frozen=True, kw_only=True)
class ProposeRun:
    """Output, and course of the command."""

    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """File to write, .csv or .parquet."""
    device: _Device = "auto"
    """Device of the models."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class Propose:
    """Write the rows to be measured next; `tell` reads the measurements.

    Rows of the table, rows that were measured and rows that were proposed before are not proposed
    again in the same context. Add a column with the score's name to the file, fill it in for the
    rows that were measured, and give the file to `tell`.
    """

    run_folder: RunFolder
    """Folder of a fit."""
    batch: OmitArgPrefixes[Batch]
    run: OmitArgPrefixes[ProposeRun]

    def execute(self) -> None:
        """Propose rows and write them."""
        output_format(self.run.out)
        run = refitted(load_run(self.run_folder, device=self.run.device))
        lines = read_lines(self.batch.contexts, run.table.schema)
        with told(FarContextWarning, FewRowsWarning):
            propose_rows(
                run,
                lines,
                rows=self.batch.rows,
                explore=self.batch.explore,
                write=lambda made: write_rows(self.run.out, made),
            )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Rows that were measured."""

    measurement: str = ""
    """Name of the measurement, such as a date, for rows that were measured before with the same
    score; a column `measurement` gives each row its own."""


@dataclass(frozen=True, kw_only=True)
class TellRun:
    """Course of the command."""

    device: _Device = "auto"
    """Device of the models."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class Tell:
    """Store measured rows in the folder of a fit, and fit again to all rows measured so far.

    The file may have any rows, proposed or not. An empty score means that a row was not measured
    yet. A column `failed` (yes or no) marks rows that failed; of a fit with --feasible it is that
    fit's column. A row that was stored before with the same score is not counted twice, so a file
    may grow and be read again.
    """

    run_folder: RunFolder
    """Folder of a fit."""
    table: _Table
    """CSV or Parquet file with the columns of the fit's table."""
    measured: OmitArgPrefixes[Measured]
    run: OmitArgPrefixes[TellRun]

    def execute(self) -> None:
        """Keep the rows, then fit."""
        run = load_run(self.run_folder, device=self.run.device)
        new, sheet = keep(run, self.table, self.measured.measurement)
        known = len(sheet.told) - new
        print(
            f"kept {new} measurements; {known} were known, {sheet.failed} rows failed, "
            f"{sheet.open} are not measured yet"
        )
        fitted = refitted(run)
        print(f"fitted to {len(fitted.table)} rows, in {fitted.folder}")
