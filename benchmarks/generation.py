"""True percentiles and regrets of generated rows on 15 complete real tables.

The default fit on every table of three families in three regimes, against searches on the same
estimator.

    python -m benchmarks.generation
    python -m benchmarks.generation --seeds 20 5 5 --datasets car cifar10

Beside it: `generation_methods` (every gradient estimator), `generation_ablation` (every switch of
the recipe) and `generation_contexts` (one fit for all data sets of a family, and for one it has
not seen).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import tyro
from torch import Tensor

from benchmarks import generation_common as common
from benchmarks import harness
from benchmarks.generation_baselines import SEARCHES, Counted
from benchmarks.generation_common import (
    BEST_SEEN,
    ESTIMATOR_MAX,
    FAMILIES,
    JUDGE_MAX,
    OWN_BEST,
    REGIMES,
    WRITTEN,
)
from benchmarks.generation_tables import plot, tables
from benchmarks.harness import Benchmark, Cell, run
from discrete_grad.data import load_example
from discrete_grad.models import BaseEstimator
from discrete_grad.runs import FitConfig, Run


@dataclass(frozen=True)
class Config(harness.Config):
    """True percentile and regret of generated rows on every table, and of searches."""

    seeds: tuple[int, int, int] = (20, 20, 20)
    """Seeds 0, 1, ... of each table in each regime: 1,500 rows of the worst 80%, any 1,500 rows,
    any 200 rows."""
    datasets: tuple[str, ...] = ()
    """Only these tables; by default all 15."""
    evaluations: int = 1000
    """Rows a search may ask the estimator about."""
    fit: Annotated[FitConfig, tyro.conf.Suppress] = field(default_factory=FitConfig)
    """The default recipe, kept with the results: those of another recipe are not mixed in."""


def cells(config: Config) -> list[Cell]:
    """A cell a table, regime and seed; a seed of all tables before the next."""
    families = {f: names[:1] for f, names in FAMILIES.items()} if config.quick else FAMILIES
    counts = dict(zip(REGIMES, (1, 1, 1) if config.quick else config.seeds, strict=True))
    return [
        Cell(f"{family}/{regime}/{dataset}/{seed}", (config, family, regime, dataset, seed))
        for seed in range(max(counts.values()))
        for regime in REGIMES
        if seed < counts[regime]
        for family, dataset in common.chosen(families, config.datasets)
    ]


def measure(config: Config, family: str, regime: str, dataset: str, seed: int) -> dict[str, Any]:
    """One fit, its rows and the searches' rows by name."""
    example = load_example(family, [dataset])
    table = common.training_table(example, dataset, REGIMES[regime], seed)
    began = time.perf_counter()
    fitted = common.fitted(table, common.recipe(config.fit, seed, quick=config.quick))
    figures: dict[str, Any] = {"fit seconds": time.perf_counter() - began}
    highest = common.exact_argmax(fitted.estimator)
    rows = {
        **common.generated(fitted, None, seed),
        BEST_SEEN: table.codes[table.scores.argmax()],
        ESTIMATOR_MAX: highest,
        JUDGE_MAX: common.exact_argmax(fitted.judge),
        **_written(fitted, seed),
    }
    searched = _searched(fitted, config.evaluations, seed)
    for name, codes in (rows | {name: row for name, (row, _) in searched.items()}).items():
        figures[name] = common.worth(example, dataset, codes)
        figures[name]["shortfall"] = _shortfall(fitted.estimator, codes, highest)
    for name, (_, asked) in searched.items():
        figures[name] |= asked
    return figures


def _written(fitted: Run, seed: int) -> dict[str, Tensor]:
    """The rows that `generate` writes, and as many that the estimator values most."""
    rows = common.written(fitted, max(WRITTEN), seed)
    best = common.best_unseen(fitted.estimator, fitted.table.codes, max(OWN_BEST))
    mine = {name: rows[:count] for count, name in WRITTEN.items()}
    return mine | {name: best[:count] for count, name in OWN_BEST.items()}


def _searched(fitted: Run, evaluations: int, seed: int) -> dict[str, tuple[Tensor, dict[str, Any]]]:
    """The row of each search, and what it asked of the estimator."""
    found = {}
    for name, search in SEARCHES.items():
        score = Counted(partial(common.predicted, fitted.estimator))
        began = time.perf_counter()
        row = search(fitted.table.schema.space, score, evaluations, seed)
        seconds = time.perf_counter() - began
        found[name] = (row, {"evaluations": score.count, "seconds": seconds})
    return found


def _shortfall(model: BaseEstimator, codes: Tensor, highest: Tensor) -> float:
    """By how much the estimator's score of rows is below its maximum, in scaled scores."""
    rows = codes.reshape(-1, codes.shape[-1])
    top = common.predicted(model, highest.unsqueeze(0))
    return (top - common.predicted(model, rows)).mean().item()


BENCHMARK = Benchmark(
    name="generation",
    title="How good are generated rows really?",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
    preload=("botorch.optim.optimize", "benchmarks.generation_baselines"),
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
