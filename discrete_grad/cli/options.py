"""Options of the commands, in the groups that `--help` shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from discrete_grad.runs import FitConfig, read_config
from discrete_grad.runs.fit_config import Maximise
from discrete_grad.runs.settings import flatten, settings, with_settings

__all__ = [
    "Answers",
    "Candidates",
    "Context",
    "DemoRun",
    "Example",
    "FitRules",
    "FitRun",
    "GenerateRules",
    "GenerateRun",
    "Goal",
    "PreferRun",
    "Quality",
    "ReportRun",
    "Rows",
    "RunFolder",
    "TableColumns",
    "fit_config",
    "option_names",
]


def _option(name: str) -> Any:
    """A setting of a fit as an option, which is None where it is not given."""
    setting = settings()[name]
    choices = "{" + ",".join(setting.choices) + "}"
    return tyro.conf.arg(
        name=name,
        # not the annotation's: None is what is not given, and no word for it
        constructor=setting.type,
        help=setting.text,
        metavar=choices if setting.choices else setting.type.__name__.upper(),
        help_behavior_hint=f"(default: {flatten(FitConfig())[name]})",
    )


RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
_File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
_ConfigFile = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="FILE.toml",
        help="Settings of the fit, as --print-config writes them. Options on the command line "
        "override the file. Settings that neither names have their defaults.",
        help_behavior_hint="",
    ),
]
_Seed = Annotated[int, tyro.conf.arg(help="Seed of every random number.")]
_Debug = Annotated[bool, tyro.conf.arg(help="Show the traceback of an error.")]
_Device = Annotated[
    str,
    tyro.conf.arg(
        metavar="auto|cpu|cuda|cuda:N",
        help="Device for the computation. auto is a CUDA device if there is one, otherwise the "
        "CPU. A run can be resumed and loaded on any other device. Under torchrun each process "
        "takes a device of its own.",
    ),
]
_Columns = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """The rows, their scores and what is generated."""

    table: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="TABLE", help_behavior_hint="(required)"),
    ] = None
    """CSV or Parquet file with one row per line."""
    score: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(metavar="NAME", help_behavior_hint="(required without --scorer, repeatable)"),
    ] = ()
    """Column whose value should be large. NAME:min: it should be small; "NAME:=7.4": near this
    number; "NAME>=.95", "NAME<=.95": probably in this range; NAME:behaviour: only the aligner uses
    it, to learn which rows behave alike. Several columns are traded off: see --tradeoff and --front
    of generate."""
    feasible: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: none)")
    ] = None
    """Column that says whether a row succeeded: yes/no, true/false or 1/0. Rows that failed need no
    score."""
    features: _Columns = ()
    """Columns that are generated; by default all columns that no other option names. NAME:ordered
    uses the order of numbers or of sorted text, NAME:categorical makes each value a category."""
    exclude: _Columns = ()
    """Columns that are left out."""
    missing: Literal["error", "category", "drop"] = "error"
    """Missing cells: refused, a category of their own, or their rows left out."""
    unseen: Literal["keep", "drop"] = "keep"
    """Categories that are declared but occur in no row: generated, or left out."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Conditions that rows are generated for."""

    context: _Columns = ()
    """Columns that are given when rows are generated. NAME:categorical or NAME:numeric sets the
    kind of a column."""


_Scorer = Annotated[str | None, tyro.conf.arg(metavar="PACKAGE.MODULE:NAME", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Definition of a good row."""

    maximise: Annotated[Maximise | None, _option("maximise")] = None
    scorer: _Scorer = None
    """Your own model that scores rows, in place of the estimators: the import path of the model, or
    of a function without arguments that returns it. The current folder is searched, too. The table
    then needs no score. See docs/own_scorer.md."""
    preferences: _File = None
    """File of answers of `prefer` to pairs of rows of such a table. The generator is trained by the
    score and by a reward learnt from the answers, with the weight generator.preference of
    --config."""
    generator_entropy: Annotated[float | None, _option("generator.entropy")] = None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality of the models against time."""

    estimator_steps: Annotated[int | None, _option("estimator.steps")] = None
    generator_steps: Annotated[int | None, _option("generator.steps")] = None


_RulesFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE.toml", help_behavior_hint="")]
_Fix = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    tyro.conf.arg(metavar="NAME=CATEGORY", help_behavior_hint="(repeatable)"),
]
_Forbid = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    tyro.conf.arg(metavar='"NAME=CATEGORY & ..."', help_behavior_hint="(repeatable)"),
]
_Observed = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    tyro.conf.arg(metavar="NAME,NAME,...", help_behavior_hint="(repeatable)"),
]


@dataclass(frozen=True, kw_only=True)
class FitRules:
    """Rules that every generated row obeys."""

    rules: _RulesFile = None
    """File of rules of all kinds; see docs/rules.md."""
    fix: _Fix = ()
    """Category that a feature must have, or several: base=KOH|NaOH, temperature=80..100."""
    forbid: _Forbid = ()
    """Categories that must not occur together in a row."""
    observed: _Observed = ()
    """Columns whose combinations of categories must occur in the table; auto finds columns of which
    few combinations occur."""


@dataclass(frozen=True, kw_only=True)
class GenerateRules(FitRules):
    """Rules that every row obeys, beside those of the fit."""

    only_seen: bool = False
    """Write only rows that the table has in some context; with --no-new-only also those that it has
    in the same context."""
    within: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Largest number of features in which a row may differ from the row --of."""
    of: Annotated[str | None, tyro.conf.arg(metavar="NUMBER|FILE", help_behavior_hint="")] = None
    """Number of a row of the table, counted from 1, or a file with one row; by default the best row
    of a table without contexts."""


@dataclass(frozen=True, kw_only=True)
class FitRun:
    """Output, and course of the command."""

    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(required)")
    ] = None
    """Folder for everything the fit makes."""
    seed: Annotated[int | None, _option("seed")] = None
    config: _ConfigFile = None
    print_config: bool = False
    """Print all settings with their meaning, as a file for --config, and fit nothing."""
    resume: bool = False
    """Continue a fit that was interrupted."""
    device: _Device = "auto"
    debug: _Debug = False


_Tradeoff = Annotated[str | None, tyro.conf.arg(metavar="NAME=WEIGHT,...", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows to be written."""

    contexts: _File = None
    """CSV or Parquet file with the context columns; none for a fit without context."""
    edit: _File = None
    """CSV or Parquet file of rows, with their contexts: the best rows within 1 change of each,
    within 2, and so on up to --edits are written, with what each change gains alone. --rows
    and --diversity say nothing about edits, and are refused."""
    edits: int = 3
    """Changes of a row of --edit, at most."""
    rows: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 8)")] = (
        None
    )
    """Different rows for each context."""
    tradeoff: _Tradeoff = None
    """Weights of the aims of a fit of several, such as yield=.7,cost=.3; their sum is 1. By default
    all weigh the same."""
    front: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Number of rows for each context, spread over all trade-offs; instead of --rows."""
    diversity: int = 1
    """Smallest number of features in which any two rows of a context differ."""
    new_only: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = True
    """Leave out rows that the table has in the same context. With --no-new-only they are written,
    and the column `in_table` marks them."""


@dataclass(frozen=True, kw_only=True)
class GenerateRun:
    """Output, and course of the command."""

    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """File to write, .csv or .parquet."""
    seed: _Seed = 0
    device: _Device = "auto"
    debug: _Debug = False


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Rows that are ranked."""

    rows: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """CSV or Parquet file with the features and the context columns; further columns are kept."""
    tradeoff: _Tradeoff = None
    """Weights of the aims of a fit of several, such as yield=.7,cost=.3, by which rows are ranked;
    by default all weigh the same."""
    out: _File = None
    """File to write, .csv or .parquet, with all rows in their order."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers, and the file that keeps them."""

    out: _File = None
    """Parquet file of answers, which is continued if it exists; by default preferences.parquet in
    the folder."""
    annotator: str = "me"
    """Name of the person who answers; the preference model learns how reliable each person is."""
    pairs: int = 20
    """Number of answers after which the command stops."""


@dataclass(frozen=True, kw_only=True)
class PreferRun:
    """Course of the command."""

    seed: _Seed = 0
    debug: _Debug = False


@dataclass(frozen=True, kw_only=True)
class ReportRun:
    """Course of the command."""

    device: _Device = "auto"
    debug: _Debug = False


@dataclass(frozen=True, kw_only=True)
class Example:
    """Table that is learnt from."""

    family: str = "hpolib"
    """Collection of tables: hpolib, hpobench or nasbench201 (extra `examples`)."""
    rows: int = 1500
    """Number of training rows for each data set, drawn from its worst 80%."""


@dataclass(frozen=True, kw_only=True)
class DemoRun:
    """Output, and course of the command."""

    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs/demo")
    """Folder for everything the demo makes."""
    seed: Annotated[int | None, _option("seed")] = None
    config: _ConfigFile = None
    device: _Device = "auto"
    debug: _Debug = False


def option_names(*groups: Any) -> dict[str, Any]:
    """Each setting of a fit that is an option of these groups, with the option's value."""
    known = {name.replace(".", "_"): name for name in settings()}
    values = [(known.get(key), value) for group in groups for key, value in vars(group).items()]
    return {name: value for name, value in values if name is not None}


def fit_config(path: Path | None, *groups: Any) -> FitConfig:
    """Settings of a fit: those of a file, with the options that were given in their place.

    Raises:
        RunError: for a file, or a setting in it, that is wrong.
        ValueError: for an option out of range.
    """
    base = FitConfig() if path is None else read_config(path)
    given = {name: value for name, value in option_names(*groups).items() if value is not None}
    config = with_settings(base, given)
    config.check()
    return config
