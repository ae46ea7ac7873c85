"""Tables, rows by name and their true worth, shared by the benchmarks of generated rows.

A cell's key is FAMILY/VARIANT/DATASET/SEED. Its figures are by the name of a row and by kind:
`percentile`, the share of the table's rows that are worse (equal ones half), and `regret`, the best
true score minus the row's, in units of the table's interquartile range.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Results, Table, succeeded
from discrete_grad.data import Example, read_table
from discrete_grad.data import Table as RowTable
from discrete_grad.evaluation import mean_interval
from discrete_grad.models import BaseEstimator
from discrete_grad.runs import FewRowsWarning, FitConfig, Run, fit, generate, polished_row
from discrete_grad.sampling import categorical, seeded, uniform_like

Seeds = dict[int, float]  # a figure by seed

FAMILIES = {
    "hpolib": (
        "naval_propulsion",
        "parkinsons_telemonitoring",
        "protein_structure",
        "slice_localization",
    ),
    "hpobench": (
        "australian",
        "blood_transfusion",
        "car",
        "credit_g",
        "kc1",
        "phoneme",
        "segment",
        "vehicle",
    ),
    "nasbench201": ("cifar10", "cifar100", "imagenet"),
}
TITLES = {"hpolib": "HPOLib", "hpobench": "HPOBench", "nasbench201": "NASBench201"}
SAMPLES = 256
OF = (16, 128)  # samples of which the judge chooses the best
LIKELY, MEAN = "most likely row", "mean of samples"
BEST = {count: f"best of {count} samples" for count in OF}
BEST_SEEN, ESTIMATOR_MAX, JUDGE_MAX = (
    "best training row",
    "estimator's exact argmax",
    "judge's exact argmax",
)
GENERATED = (LIKELY, *BEST.values(), MEAN)
WRITTEN = {1: "first row written", 16: "mean of 16 written", 128: "mean of 128 written"}
OWN_BEST = {16: "mean of the estimator's best 16", 128: "mean of the estimator's best 128"}
REGRET_NOTE = (
    "Regret is the best true score of the table minus the row's, in units of the interquartile "
    "range of the table's true scores."
)


@dataclass(frozen=True)
class Regime:
    """Rows to learn from: so many, drawn from the worst share of the table."""

    rows: int
    worst: float


REGIMES = {
    "worst 80%": Regime(1500, 0.8),
    "any 1,500": Regime(1500, 1.0),
    "any 200": Regime(200, 1.0),
}
REGIMES_NOTE = (
    "`worst 80%`: learnt from 1,500 rows of the worst 80% of a table; the best of them is at the "
    ".800 percentile. `any 1,500` and `any 200`: learnt from this many rows of the whole table."
)


# --- fits -----------------------------------------------------------------------------------------


def recipe(config: FitConfig, seed: int, *, quick: bool) -> FitConfig:
    """The settings of a seed; if quick, of a fit that only runs through."""
    seeded_config = replace(config, seed=seed)
    if not quick:
        return seeded_config
    return replace(
        seeded_config,
        estimator=replace(config.estimator, members=2, steps=40, validate_every=20),
        judge=replace(config.judge, members=2, steps=40, validate_every=20),
        aligner=replace(config.aligner, steps=20),
        reproduction=replace(config.reproduction, steps=40, validate_every=20),
        generator=replace(config.generator, steps=10, validate_every=10),
    )


def training_table(example: Example, dataset: str, regime: Regime, seed: int) -> RowTable:
    """The rows a fit sees, without a context."""
    rows = example.training_rows(regime.rows, worst=regime.worst, seed=seed, dataset=dataset)
    return read_table(rows, score="score", features=example.features)


def fitted(table: RowTable, config: FitConfig) -> Run:
    """A fit whose folder is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        return fit(table, Path(folder) / "run", config)


# --- rows and what they are worth -----------------------------------------------------------------


@torch.no_grad()
def generated(run: Run, context: Tensor | None, seed: int) -> dict[str, Tensor]:
    """The generator's rows in a context `(1, C)`, or in none; the most likely one as proposed.

    Returns:
        Codes `(F,)` by name, of the mean of the samples `(SAMPLES, F)`.
    """
    space = run.table.schema.space
    logits = (run.generator() if context is None else run.generator(context)).reshape(-1)
    wide = logits.expand(SAMPLES, -1)
    samples = categorical(space, wide, uniform_like(space, wide, generator=seeded(seed)))
    judged = predicted(run.judge, samples, context)
    best = {BEST[count]: samples[judged[:count].argmax()] for count in OF}
    where = None if context is None else context[0]
    likely = polished_row(run, where) if run.config.polish else space.argmax(logits)
    return {LIKELY: likely, **best, MEAN: samples}


def written(run: Run, count: int, seed: int) -> Tensor:
    """Codes `(n, F)` of the rows that `generate` writes without a context; n is at most `count`."""
    schema = run.table.schema
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewRowsWarning)  # of a nearly complete table
        columns = generate(run, {}, None, rows=count, seed=seed)
    return schema.encode_features({name: columns[name] for name in schema.space.names})


def best_unseen(model: BaseEstimator, known: Tensor, count: int) -> Tensor:
    """The rows `(n, F)` of the highest predictions that are not among the known ones."""
    space = model.space
    values = predicted(model, space.enumerate())
    values[space.row_number(known.long())] = -torch.inf
    return space.enumerate()[values.topk(min(count, int(values.isfinite().sum()))).indices]


@torch.no_grad()
def predicted(model: BaseEstimator, codes: Tensor, context: Tensor | None = None) -> Tensor:
    """Scores `(N,)` of rows `(N, F)` in one context `(1, C)`, or in none; in parts."""
    parts = codes.split(8192)
    shown = [None if context is None else context.expand(len(part), -1) for part in parts]
    return torch.cat([model(part, c) for part, c in zip(parts, shown, strict=True)])


def exact_argmax(model: BaseEstimator, context: Tensor | None = None) -> Tensor:
    """The row `(F,)` of the highest prediction, found by looking at all."""
    codes = model.space.enumerate()
    return codes[predicted(model, codes, context).argmax()]


def worth(example: Example, dataset: str, codes: Tensor) -> dict[str, float]:
    """True percentile and regret of a row `(F,)`, or their means over rows `(N, F)`."""
    scores = example.scores[example.datasets.index(dataset)]
    low, high = scores.quantile(torch.tensor([0.25, 0.75], dtype=scores.dtype))
    regret = (scores.max() - example.true_score(codes, dataset)) / (high - low)
    percentile = example.true_percentile(codes, dataset)
    return {"percentile": percentile.mean().item(), "regret": regret.mean().item()}


# --- figures over seeds ---------------------------------------------------------------------------


def seed_means(results: Results, group: str, name: str, kind: str = "percentile") -> Seeds:
    """Mean over the data sets of a group FAMILY/VARIANT, by seed.

    A seed that lacks the figure of a data set, since its cell failed or has not been run, is left
    out: the mean over the others is of other tables.
    """
    inside = [key for key in results["cells"] if key.rsplit("/", 2)[0] == group]
    seeds = {int(key.rsplit("/", 1)[1]) for key in inside}
    datasets = {key.split("/")[2] for key in inside}
    cells = succeeded(results)
    found = {}
    for seed in sorted(seeds):
        rows = [cells.get(f"{group}/{dataset}/{seed}", {}).get(name) for dataset in datasets]
        values = [row[kind] for row in rows if row is not None and kind in row]
        if len(values) == len(datasets):
            found[seed] = sum(values) / len(values)
    return found


def differences(mine: Seeds, theirs: Seeds) -> Seeds:
    """Mine minus theirs, of the seeds that both have."""
    return {seed: value - theirs[seed] for seed, value in mine.items() if seed in theirs}


def figure(
    values: Mapping[int, float] | Sequence[float], digits: int = 3, *, sign: str = ""
) -> str:
    """Mean and 95% interval over seeds, to so many decimals; `sign` is "+" for a difference."""
    listed = [*values.values()] if isinstance(values, Mapping) else list(values)
    if not listed:
        return "-"
    mean, low, high = mean_interval(listed)
    if len(listed) < 2:
        return f"{mean:{sign}.{digits}f}"
    return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def chosen(tables: Mapping[str, Sequence[str]], only: Sequence[str]) -> list[tuple[str, str]]:
    """Family and data set of all tables, or only those named.

    Raises:
        SystemExit: for a name that is no data set.
    """
    known = [(family, dataset) for family, names in tables.items() for dataset in names]
    strangers = set(only) - {dataset for _, dataset in known}
    if strangers:
        raise SystemExit(f"no data set is called {min(strangers)!r}; there are {known}")
    return [pair for pair in known if not only or pair[1] in only]


def with_failures(tables: Sequence[Table], results: Results) -> list[Table]:
    """The tables, and one of the cells that failed, if any did."""
    failed = any("failed" in cell for cell in results["cells"].values())
    return [*tables, harness.failures(results)] if failed else list(tables)


def in_cells(figures: Mapping[str, Any]) -> list[str]:
    """The names among a cell's figures that are rows."""
    return [name for name, entry in figures.items() if isinstance(entry, dict)]
