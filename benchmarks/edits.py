"""Edits of rows: swap search, straight-through layers and ledidi on the same models.

Sequences of 200 bases through a frozen CNN: one output is to be raised, lowered, or one raised and
the other lowered; and 20 places of 20,000 categories. Each from 8 starts (the wide problem
from 2). Every method is judged by the best row it has evaluated.

    python -m benchmarks.edits
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import tyro

from benchmarks import harness
from benchmarks.edits_methods import by_layer, by_ledidi, by_swaps, installed, together
from benchmarks.edits_problems import LOOKS, PRICE, STARTS, TASKS, Method, graded, problem
from benchmarks.harness import Benchmark, Cell, Results, Table, interval, run, succeeded
from discrete_grad.gradient import ReinMax, StraightThrough

__all__ = ["BENCHMARK"]

STEPS = 400  # of the network's training
LAYER = 4000  # evaluations
WIDE_STARTS = 2
CUT = 1000  # evaluations of layers and of ledidi on the wide problem, where each takes long
SEARCH = "swap search"
MATCHED, DEFAULT = "ledidi, as many evaluations", "ledidi at its defaults"
COLOURS = ("tab:blue", "tab:cyan", "tab:gray", "tab:green", "tab:olive", "tab:orange", "tab:red")


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of the edits."""

    seeds: int = 10
    """Networks, and their starts."""
    wide_seeds: int = 3
    """Of the problem with 20,000 categories."""


def cells(config: Config) -> list[Cell]:
    """One for each network."""
    small = config.quick
    narrow = 1 if small else config.seeds
    wide = 0 if small else config.wide_seeds
    late = [Cell(f"wide/{seed:02d}", (("wide",), seed, small)) for seed in range(wide)]
    found = [Cell(f"sequence/{seed:02d}", (TASKS[:3], seed, small)) for seed in range(narrow)]
    return found + late


def measure(tasks: Sequence[str], seed: int, small: bool) -> dict[str, Any]:
    """Every method on every task."""
    return {task: _measured(task, seed, small) for task in tasks}


def _measured(task: str, seed: int, small: bool) -> dict[str, Any]:
    asked = problem(task, seed, 5 if small else STEPS)
    starts = 1 if small else WIDE_STARTS if task == "wide" else STARTS
    found = {SEARCH: graded(asked, by_swaps(), seed, starts)}
    found[SEARCH]["together"] = together(asked)
    budget = int(found[SEARCH]["passes"])
    most = 64 if small else CUT if task == "wide" else None
    for name, method in _others(budget, most).items():
        found[name] = graded(asked, method, seed, starts)
    return found


def _others(matched: int, most: int | None) -> dict[str, Method]:
    spent = most or LAYER
    least = min(matched, most or matched)
    peers = {MATCHED: by_ledidi(least), DEFAULT: by_ledidi(most)} if installed() else {}
    return {
        "swap search, 8 restarts": by_swaps(restarts=8),
        "all single swaps": by_swaps(top=None),
        "StraightThrough layer": by_layer(StraightThrough, rate=0.3, stay=5.0, budget=spent),
        "ReinMax layer": by_layer(ReinMax, rate=0.3, stay=5.0, budget=spent),
        **peers,
    }


def tables(results: Results) -> list[Table]:
    """The losses, then evaluations and seconds of each task."""
    return [_losses(results), *(_costs(results, task) for task in TASKS), harness.failures(results)]


def _of(results: Results, task: str) -> dict[str, list[dict[str, Any]]]:
    """Figures of each method, one for each seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in succeeded(results).values():
        for name, figures in cell.get(task, {}).items():
            found.setdefault(name, []).append(figures)
    return found


def _losses(results: Results) -> Table:
    by_task = {task: _of(results, task) for task in TASKS}
    names = list(dict.fromkeys(name for found in by_task.values() for name in found))
    rows = [
        (
            f"`{name.split()[0]}` layer" if name.endswith("layer") else name,
            *(
                interval([one["loss"] for one in found[name]]) if name in found else ""
                for found in by_task.values()
            ),
        )
        for name in names
    ]
    seeds = {task: max(map(len, found.values()), default=0) for task, found in by_task.items()}
    told = ", ".join(f"{task}: {count}" for task, count in seeds.items())
    note = (
        "Loss of the best row evaluated: mean squared distance of the outputs from the target, "
        f"plus {PRICE:g} for each edit; lower is better. Means over {STARTS} starts ({WIDE_STARTS} "
        f"on `wide`), with 95% intervals over networks ({told}). A layer has {LAYER:,} "
        "evaluations, and ledidi at its defaults stops by itself; on `wide` both are stopped "
        f"after {CUT:,}. The tables of each task have the evaluations of the other methods."
    )
    return Table("Edits: loss reached", ("method", *TASKS), rows, note)


def _costs(results: Results, task: str) -> Table:
    looks = [look for look in LOOKS if look <= 10_000]
    rows = []
    for name, figures in _of(results, task).items():
        curve = [f"{fmean(one['curve'][i] for one in figures):.3f}" for i in range(len(looks))]
        spent = interval([one["passes"] for one in figures], 3)
        cpu = fmean(one["cpu"] for one in figures)
        batch = [one["together"] for one in figures if "together" in one]
        rows.append(
            (
                name,
                *curve,
                spent,
                f"{fmean(one['edits'] for one in figures):.1f}",
                f"{cpu:.2g}" + (f" ({fmean(batch):.2g} in one batch)" if batch else ""),
            )
        )
    note = (
        "Loss of the best row after a number of evaluations per start (a forward pass of a row is "
        "one, its gradient another), evaluations in total, edits, and processor seconds per start, "
        "one start after the other."
    )
    header = ("method", *(f"{look:,}" for look in looks), "evaluations", "edits", "seconds")
    return Table(f"Edits: {task}", header, rows, note)


def plot(results: Results, path: Path) -> None:
    """Loss against evaluations, a panel for each task."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, len(TASKS), figsize=(16, 4.2))
    for axes, task in zip(grid, TASKS, strict=True):
        for (name, figures), colour in zip(_of(results, task).items(), COLOURS, strict=False):
            curve = [fmean(one["curve"][i] for one in figures) for i in range(len(LOOKS))]
            axes.plot(LOOKS, curve, "o-", ms=3, lw=1.6, color=colour, label=name)
        axes.set(xscale="log", title=task, xlabel="evaluations of a start")
        axes.grid(color="0.92")
    grid[0].set_ylabel("loss of the best row evaluated")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=len(labels), loc="lower center", fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=100)
    plt.close(figure)


BENCHMARK = Benchmark(
    name="edits",
    title="Edits of rows through a frozen model",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
    preload=("benchmarks.edits_methods",),
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
