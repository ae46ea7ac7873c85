"""Families of the default estimator, `pairs` and `sequences`: with one and without, on equal rows.

Both estimators of a pair have the same other families, from the same seeds; what differs is one
family and the weights that held-out rows give to all.

    python -m benchmarks.families
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from string import ascii_uppercase
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.estimators_common import agreement, ranked
from benchmarks.estimators_linear import pairwise
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, interval, run, succeeded
from benchmarks.tables import EXAMPLES, Task, load
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import EstimatorConfig, ScoreScale, fit_estimator, new_ensemble
from discrete_grad.models import StackedEnsemble
from discrete_grad.sampling import permutation, seeded

__all__ = ["BENCHMARK"]

Family = Literal["pairs", "sequences"]
WITH, WITHOUT, RIDGE = "with", "without", "ridge on pairs, ranks"
MOST_HELD_OUT = 10_000
FACTORS = tuple(f"tf_bind_8/{name}" for name in ("SIX6_REF_R1", "VAX2_L139M_R1", "PAX6_REF_R1"))
LETTERS = ascii_uppercase[:20]  # as many as a feature of the ring has categories
ALIKE = "ring, equal categories"
"""Features that share their categories without being a sequence, like the answers of a
questionnaire: the ring, whose pairs of neighbours have each an effect of their own."""
OTHERS = ("suzuki", *(EXAMPLES[i] for i in (0, 2, 5, 8, -1)))
TABLES: Sequence[tuple[Family, str, int | None]] = [
    ("pairs", "ring", None),
    *(("pairs", factor, 500) for factor in FACTORS),
    *(("pairs", table, None) for table in OTHERS),
    *(("sequences", factor, rows) for rows in (500, 5000) for factor in FACTORS),
    *(("sequences", ALIKE, rows) for rows in (1000, 10_000)),
]
"""Family, table, and rows to learn from; None for as many as the table has."""
COLOURS: Mapping[Family, str] = {"pairs": "#0072B2", "sequences": "#D55E00"}
QUICK: Sequence[tuple[Family, str, int | None]] = [("pairs", "ring", 64)]


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of the comparison."""

    seeds: int = 3
    """Seeds 0, 1, ... of each table."""
    timeout: float = 3600.0


def cells(config: Config) -> list[Cell]:
    """A cell a table and seed; a seed of all tables before the next."""
    tables_, seeds = (QUICK, 1) if config.quick else (TABLES, config.seeds)
    return [
        Cell(f"{added}/{name}/{rows}/{seed}", (added, name, rows, seed, config.quick))
        for seed in range(seeds)
        for added, name, rows in tables_
    ]


def measure(added: Family, name: str, rows: int | None, seed: int, quick: bool) -> dict[str, Any]:
    """Rank correlation with the truth of held-out rows, and processor seconds of each fit."""
    task = _task(name, seed, rows)
    config = EstimatorConfig(steps=20) if quick else EstimatorConfig()
    others = tuple(family for family in config.families if family != added)
    some = permutation(len(task.test_codes), generator=seeded(seed))[:MOST_HELD_OUT]
    found: dict[str, Any] = {"added": added, "table": name, "rows": len(task.codes)}
    for way, families in ((WITHOUT, others), (WITH, config.families)):
        found[way] = _of(task, replace(config, families=families), seed, some)
    ridge = ranked(pairwise)(task.codes, task.scores, task.space, seed)
    found[RIDGE] = {"spearman": agreement(ridge(task.test_codes[some]), task.test_truth[some])}
    return found


def _task(name: str, seed: int, rows: int | None) -> Task:
    if name == ALIKE:
        return replace(load("ring", seed, rows), letters=LETTERS)
    return load(name, seed, rows)


def _of(task: Task, config: EstimatorConfig, seed: int, some: Tensor) -> dict[str, Any]:
    began = time.process_time()
    scaled = ScoreScale.fit("rank", task.scores, None, None).apply(task.scores)
    rows = ScoredRows(task.codes, scaled)
    ensemble = new_ensemble(task.space, None, config, seed=seed, rows=len(rows))
    fit_estimator(ensemble, rows, config=config, seed=seed)
    seconds = time.process_time() - began
    with torch.no_grad():
        predicted = ensemble(task.test_codes[some])
    assert isinstance(ensemble, StackedEnsemble)
    names, weights = ensemble.names, ensemble.weights.tolist()
    return {
        "spearman": agreement(predicted, task.test_truth[some]),
        "seconds": seconds,
        "weights": dict(zip(names, weights, strict=True)),
    }


def tables(results: Results) -> list[Table]:
    """The rank correlation of both, their difference in pairs, and the seconds of a fit."""
    found = succeeded(results)
    names = list(dict.fromkeys(key.rpartition("/")[0] for key in found))
    lines = [
        _line([cell for key, cell in found.items() if key.rpartition("/")[0] == name])
        for name in names
    ]
    note = (
        "Rank correlation with the truth of held-out rows (10,000 at most), mean over seeds; the "
        "difference in pairs of the same seed, with a 95% interval; the weight of the family; "
        "processor seconds of a fit."
    )
    first = ("family", "table", "rows", "seeds", WITHOUT, WITH, "difference", "weight")
    header = (*first, RIDGE, "s without", "s")
    return [Table("Families that were added", header, lines, note), failures(results)]


def _line(some: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    def mean(way: str, what: str) -> float:
        return fmean(cell[way][what] for cell in some)

    moved = [cell[WITH]["spearman"] - cell[WITHOUT]["spearman"] for cell in some]
    first = some[0]
    weight = fmean(cell[WITH]["weights"][first["added"]] for cell in some)
    return (
        first["added"],
        first["table"],
        f"{first['rows']:,}",
        str(len(some)),
        *(f"{mean(way, 'spearman'):.3f}" for way in (WITHOUT, WITH)),
        interval(moved, 3),
        f"{weight:.2f}",
        f"{mean(RIDGE, 'spearman'):.3f}",
        *(f"{mean(way, 'seconds'):.1f}" for way in (WITHOUT, WITH)),
    )


def plot(results: Results, path: Path) -> None:
    """Rank correlation with the family against that without, a point a table and seed."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 5))
    for added, colour in COLOURS.items():
        cells_ = [cell for cell in succeeded(results).values() if cell["added"] == added]
        places = [[cell[way]["spearman"] for cell in cells_] for way in (WITHOUT, WITH)]
        axes.plot(*places, "o", color=colour, label=added)
    axes.axline((0.5, 0.5), slope=1, color="0.7", zorder=0)
    axes.set(xlabel="rank correlation without the family", ylabel="rank correlation with it")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


BENCHMARK = Benchmark(
    name="families",
    title="What do families add to the default estimator?",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
    preload=("benchmarks.estimators_peers", "benchmarks.tables"),
)


if __name__ == "__main__":
    run(BENCHMARK, replace(tyro.cli(Config), workers=1))  # they measure processor time
