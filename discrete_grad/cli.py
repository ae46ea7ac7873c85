"""The command line: `discrete-grad fit | generate | prefer | report | demo`."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

try:
    import tyro
except ImportError as error:
    raise ImportError("the command line needs tyro: pip install 'discrete_grad[cli]'") from error

from discrete_grad.data import (
    Table,
    TableWarning,
    load_example,
    read_contexts,
    read_table,
    write_rows,
)
from discrete_grad.fitting import FarContextWarning
from discrete_grad.preferences import held_out_accuracy, read_preferences
from discrete_grad.reporting import (
    beyond_sentences,
    estimator_sentences,
    format_table,
    maximised_sentences,
    verdict,
)
from discrete_grad.runs import (
    FewRowsWarning,
    FitConfig,
    Run,
    check_columns,
    fit,
    generate,
    load_run,
    part_path,
    prefer,
    write_report,
)
from discrete_grad.training import RunError, TensorBoardLog
from discrete_grad.training.devices import choose_device
from discrete_grad.training.distributed import first, processes, rank
from discrete_grad.training.logs import no_log

__all__ = ["main"]

# set by torchrun; without it there is one process
_PROCESSES = {"RANK": "0", "WORLD_SIZE": "1"}
_Config = Annotated[FitConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit judge, estimators and generator to a table, and write the report.

    Every column that is no score and no context is a feature, unless --features names them. On
    several processes: torchrun --nproc-per-node 2 -m discrete_grad fit ...
    """

    table: tyro.conf.Positional[Path]
    """CSV or Parquet file with a row a line."""
    score: tyro.conf.UseAppendAction[tuple[str, ...]]
    """Column to be made as large as possible (required), or as small with NAME:min. Of several the
    first is; all together say which rows behave alike, which the aligner learns."""
    out: Path
    """Folder for everything the fit makes."""
    context: tuple[str, ...] = ()
    """Columns the rows are generated for; NAME:categorical or NAME:numeric forces the kind."""
    features: tuple[str, ...] = ()
    """Columns that are generated; by default all others. NAME:ordered keeps the order of numbers or
    of sorted text, NAME:categorical makes each value a category."""
    missing: Literal["error", "category", "drop"] = "error"
    """Missing cells: refused, a category of their own, or their rows left out."""
    preferences: Path | None = None
    """Answers of `prefer` to pairs of rows of such a table: the generator is trained by the score
    and, weighted with --generator.preference, by a reward that explains the answers."""
    resume: bool = False
    """Go on with a fit that was interrupted."""
    device: str = "auto"
    """Where the models are trained: auto, cpu, cuda or, of several, cuda:1. auto is a CUDA device
    if there is one, else the CPU. An Apple GPU (mps) has no float64 and cannot be used. A run can
    be resumed and read on any other device. Under torchrun each process takes a device of its
    own."""
    tensorboard: bool = False
    """Also log for TensorBoard, in the folder's subfolder tensorboard."""
    debug: bool = False
    """On an error show the traceback."""
    config: _Config

    def run(self) -> None:
        """Do it."""
        with _told():
            table = read_table(
                self.table,
                score=self.score,
                context=self.context,
                features=self.features or None,
                missing=self.missing,
            )
        check_columns(table.schema)
        _tell_unseen(table)
        given = self.preferences
        preferences = None if given is None else read_preferences(given, table.schema)
        device = choose_device(self.device)
        with processes(device):
            logged = self.tensorboard and rank() == 0
            log = TensorBoardLog(self.out / "tensorboard") if logged else no_log
            done = fit(
                table,
                self.out,
                self.config,
                preferences=preferences,
                resume=self.resume,
                log=log,
                device=device,
            )
            first(partial(_report, done))


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Write new and different rows for each context, the best by the estimator's score first.

    The score is what the generator was trained by, preferences included; of the best 16 rows the
    first is the one that the generator finds likely as well. On several processes (torchrun
    --nproc-per-node 2 -m discrete_grad generate ... --out rows.parquet) each takes a share of the
    contexts and writes it, as rows.part-00000-of-00002.parquet and so on.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a fit."""
    out: Path
    """File to write, .csv or .parquet."""
    contexts: Path | None = None
    """CSV or Parquet file with the context columns; none for a fit without context."""
    rows: int = 8
    """Different rows for each context."""
    diversity: int = 1
    """Features in which any two rows of a context differ at least."""
    new_only: bool = True
    """Rows that the table has in the same context are left out, or else kept. The column `in_table`
    marks them."""
    seed: int = 0
    """Decides every random number."""
    device: str = "auto"
    """Where the models are asked: auto, cpu, cuda or cuda:1, as in `fit`."""
    debug: bool = False
    """On an error show the traceback."""

    def run(self) -> None:
        """Do it."""
        place, count = (int(os.environ.get(name, d)) for name, d in _PROCESSES.items())
        out = part_path(self.out, place, count)
        if self.rows < 1:
            raise RunError(f"--rows must be at least 1, got {self.rows}")
        run = load_run(self.run_folder, device=self.device)
        columns, contexts = read_contexts(self.contexts, run.table.schema)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", FarContextWarning)
            warnings.simplefilter("always", FewRowsWarning)
            written = generate(
                run,
                columns,
                contexts,
                rows=self.rows,
                seed=self.seed,
                diversity=self.diversity,
                new_only=self.new_only,
                share=(place, count),
            )
        for warning in told:
            print(f"warning: {warning.message}", file=sys.stderr)
        write_rows(out, written)


@dataclass(frozen=True, kw_only=True)
class Prefer:
    """Show two rows at a time and record which is liked; `fit --preferences` learns from it.

    Answers: 1 or 2 for the row that is liked better, t if both are equally good, s to skip, q (or
    the end of the input) to quit. Each is in the file before the next pair is shown.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a fit."""
    out: Path | None = None
    """Parquet file, gone on with if it exists; by default preferences.parquet in the folder."""
    annotator: str = "me"
    """Who answers; a model of the answers learns how reliable each one is."""
    pairs: int = 20
    """Answers after which to stop."""
    seed: int = 0
    """Decides every random number."""
    debug: bool = False
    """On an error show the traceback."""

    def run(self) -> None:
        """Do it."""
        run = load_run(self.run_folder)
        path = self.out or self.run_folder / "preferences.parquet"
        answered = prefer(
            run,
            path,
            ask=input,
            show=print,
            annotator=self.annotator,
            pairs=self.pairs,
            seed=self.seed,
        )
        print(f"{answered} answers kept, in {path}: fit --preferences {path} learns from them")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write report.html and report.json into the folder of a fit."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a fit."""
    device: str = "auto"
    """Where the models are asked: auto, cpu, cuda or cuda:1, as in `fit`."""
    debug: bool = False
    """On an error show the traceback."""

    def run(self) -> None:
        """Do it."""
        _report(load_run(self.run_folder, device=self.device))


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The main job on a complete real table: rows from the worst 80%, judged by the truth.

    The data sets of the family are the contexts. Interrupted and called again, it goes on.
    """

    family: str = "hpolib"
    """hpolib, hpobench or nasbench201 (extra `examples`)."""
    rows: int = 1500
    """Training rows for each data set, drawn from its worst 80%."""
    out: Path = Path("runs/demo")
    """Folder for everything the demo makes."""
    device: str = "auto"
    """Where the models are trained: auto, cpu, cuda or cuda:1, as in `fit`."""
    debug: bool = False
    """On an error show the traceback."""
    config: _Config

    def run(self) -> None:
        """Do it."""
        example = load_example(self.family)
        table = read_table(
            example.training_rows(self.rows, seed=self.config.seed),
            score="score",
            context=["dataset:categorical"],
            features=example.features,
        )
        source = {"example": self.family}
        device = choose_device(self.device)
        with processes(device):
            done = fit(table, self.out, self.config, resume=True, source=source, device=device)
            first(partial(_report, done))


@contextmanager
def _told() -> Iterator[None]:
    """What a table's reader warns of, a line each."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", TableWarning)
        yield
    for warning in told:
        _warn(str(warning.message))


def _tell_unseen(table: Table) -> None:
    """A line for each feature with categories that no row has."""
    for name, values in table.unseen.items():
        some = ", ".join(map(repr, values[:6])) + f" and {len(values) - 6:,} more" * (
            len(values) > 6
        )
        _warn(f"no row has {some} of feature {name!r}: the estimator knows nothing of this")


def _warn(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # the others of torchrun repeat the first
        print(f"warning: {text}", file=sys.stderr)


def _one_score_a_flag(words: Sequence[str]) -> list[str]:
    """`--score a b` as `--score a --score b` after the table; before it, `b` may be the table."""
    spread, flag = [*words[:2]], ""
    table_first = spread[:1] == ["fit"] and not spread[-1].startswith("-")
    for word in words[2:]:
        flag = word if word.startswith("-") else flag
        further = flag == "--score" and flag not in (word, spread[-1])
        spread += ["--score", word] if table_first and further else [word]
    return spread


def _report(run: Run) -> None:
    """Write the report; print its table, its sentences and where it lies."""
    report = write_report(run)
    said = [*maximised_sentences(report), *verdict(report), *beyond_sentences(report)]
    for block in (format_table(report), "\n".join(said), "\n".join(estimator_sentences(report))):
        print(f"{block}\n")
    if run.preferences is not None and run.preference is not None:
        config, seed = run.config.preference, run.config.seed
        answers = run.preferences.to(run.device)
        share = held_out_accuracy(run.preference, answers, config=config, seed=seed)
        told = f"{share:.0%} ranked as answered by members of the model that had not seen them"
        print(f"preferences: {len(run.preferences)}, {told}\n")
    print(f"report: {run.folder / 'report.html'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for an error told in one line, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    command = tyro.extras.subcommand_cli_from_dict(
        {"fit": Fit, "generate": Generate, "prefer": Prefer, "report": Report, "demo": Demo},
        prog="discrete-grad",
        description="Train a generator of categories through a frozen model that scores them.",
        args=_one_score_a_flag(words),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        command.run()
    except KeyboardInterrupt:
        goes_on = "; --resume goes on" if isinstance(command, (Fit, Demo)) else ""
        print(f"discrete-grad: interrupted{goes_on}", file=sys.stderr)
        return 130
    except Exception as error:
        if command.debug:
            traceback.print_exc()
        kind = "" if isinstance(error, (ValueError, OSError, ImportError)) else "unexpected "
        text = " ".join(str(error).split()) or type(error).__name__
        if os.environ.get("RANK", "0") == "0":  # the others of torchrun repeat the first
            print(f"discrete-grad: {kind}error: {text}", file=sys.stderr)
        return 2
    return 0
