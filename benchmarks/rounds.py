"""Rounds of measurements: whose best row is better after as many of them?

Every search is asked for batches of 8 or 64 rows and told their values, from nothing but the space:
the first batch is its own. The tables are complete, so the regret is exact: by how much the best
row that was measured falls short of the best of all, as a share of the range of all values. In
Ehrlich functions (Stanton et al., 2407.00236) a row is infeasible or worth a product of how much of
each hidden motif it holds; all searches are told one feasible row and random swaps of it first, and
none knows more of the family. All places have the same named tokens, by which `rounds, evolution`
knows that they are a sequence; `unnamed` it does not. To 50,000 rows go the searches that have no
model.

`choose` in the name of a method of ours is another way to take the batch. The peers, beside the
extra `bench`:

    pip install optuna smac baybe botorch pymoo
    pip install --no-deps pytorch-holo==0.0.5 pooch
    python -m benchmarks.rounds --seeds 10

Cells of a search that is not installed fail and say so. More seeds are added by the same command.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, interval, run, succeeded
from benchmarks.rounds_peers import EVOLUTION, HOLO, SEARCHES, UNNAMED, Ours, Search
from benchmarks.rounds_problems import COMPLETE, EHRLICH, Problem, problem

OURS = "rounds"
CHOICES = {
    "rounds, thompson": partial(Ours, choose="thompson"),
    "rounds, optimism": partial(Ours, choose="optimism"),
}
METHODS = (*SEARCHES, *CHOICES)
PROBLEMS = (*COMPLETE, *EHRLICH)
LONG = 1000
ROUNDS = {8: 12, 64: 6, LONG: 50}
"""Batches of so many rows; the first is the search's own, and not counted among what it chose."""
LONG_METHODS = (EVOLUTION, UNNAMED, HOLO, "random")
"""Searches without a model, which are measured in batches of 1,000, on Ehrlich's functions."""
COLOURS = (
    "#0072B2",
    "#000000",
    "0.6",
    "#E69F00",
    "#B8860B",
    "#009E73",
    "#56B4E9",
    "#D55E00",
    "#CC79A7",
    "#7B3294",
)


@dataclass(frozen=True)
class Config(harness.Config):
    """Regret after rounds of measurements."""

    seeds: int = 10
    """Seeds 0, 1, ... of the searches, and of the functions of Ehrlich."""
    methods: tuple[str, ...] = METHODS
    """Only these."""
    datasets: tuple[str, ...] = PROBLEMS
    """Only these problems."""
    batches: tuple[int, ...] = tuple(ROUNDS)
    """Only batches of so many rows."""


def cells(config: Config) -> list[Cell]:
    """Every method on every problem, batch and seed; all methods of a seed before the next one."""
    rounds = dict.fromkeys(ROUNDS, 2) if config.quick else ROUNDS
    if config.quick:
        config = replace(config, seeds=1, datasets=config.datasets[:1], batches=(8,))
    return [
        Cell(f"{name}/{batch}/{method}/seed={seed}", (name, batch, rounds[batch], method, seed))
        for seed in range(config.seeds)
        for name in config.datasets
        for batch in config.batches
        for method in config.methods
        if _measured(name, batch, method)
    ]


def _measured(name: str, batch: int, method: str) -> bool:
    if batch == LONG:
        return name in EHRLICH and method in LONG_METHODS
    return method not in (EVOLUTION, UNNAMED)


def measure(name: str, batch: int, rounds: int, method: str, seed: int) -> dict[str, Any]:
    """Regret after each round, and the seconds of the processor that the search took."""
    task: Problem = problem(name, seed, batch)
    search: Search = (SEARCHES | CHOICES)[method](task.space, rounds * batch, batch, seed)
    spent, best, regrets, failed = 0.0, 0.0, list[float](), 0
    if len(task.first):
        values = task.value(task.first)
        best = values.nan_to_num(0).max().item()
        search.tell(task.first, values)
    for _ in range(rounds):
        began = time.process_time()
        codes = search.ask(batch)
        spent += time.process_time() - began
        values = task.value(codes)
        began = time.process_time()
        search.tell(codes, values)
        spent += time.process_time() - began
        best = max(best, values.nan_to_num(-math.inf).max().item())
        failed += int(values.isnan().sum())
        regrets.append(1 - best)
    different = len(torch.unique(codes, dim=0))
    return {
        "regrets": regrets,
        "cpu": spent,
        "infeasible": failed / (rounds * batch),
        "different": different,
    }


def _groups(results: Results, name: str, batch: int) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for key, cell in succeeded(results).items():
        prefix, _, rest = key.partition(f"/{batch}/")
        if prefix == name and rest:
            found.setdefault(rest.rpartition("/")[0], []).append(cell)
    return {method: found[method] for method in METHODS if method in found}


def tables(results: Results) -> list[Table]:
    """Regret at a third, two thirds and the end, its mean over the rounds, and the seconds."""
    rows = []
    for name in PROBLEMS:
        for batch in ROUNDS:
            for method, group in _groups(results, name, batch).items():
                rows.append([name, str(batch), method, str(len(group)), *_figures(group, batch)])
    curve = ("at 1/3", "at 2/3", "at the end", "mean")
    header = ("problem", "batch", "search", "seeds", *curve, "best found", "s")
    note = (
        "Regret (best value of the table minus best value found) in percent of the range of all "
        "values; lower is better. It is given after a third and two thirds of the rounds, at their "
        "end, and as the mean over all rounds, with 95% intervals over seeds where there are "
        "several. There are 12 rounds of 8 rows, 6 of 64 or 50 of 1,000. best found: seeds that "
        "found the best row of all, and after how many rows on average. s: seconds of one core for "
        "all rounds. Rows that are proposed again count as measured again."
    )
    return [Table("Regret after rounds of measurements", header, rows, note), failures(results)]


def _figures(group: Sequence[Mapping[str, Any]], batch: int) -> list[str]:
    count = len(group[0]["regrets"])
    curves = [[100 * regret for regret in cell["regrets"]] for cell in group]
    places = (math.ceil(count / 3) - 1, math.ceil(2 * count / 3) - 1, count - 1)
    shown = [interval([curve[i] for curve in curves]) for i in places]
    means = interval([sum(curve) / count for curve in curves])
    seconds = sum(cell["cpu"] for cell in group) / len(group)
    ends = [batch * (1 + curve.index(0)) for curve in curves if 0 in curve]
    found = f"{len(ends)}, {round(sum(ends) / len(ends)):,}" if ends else "0"
    return [*shown, means, found, f"{seconds:.1f}"]


def plot(results: Results, path: Path) -> None:
    """Regret against measurements, a panel a problem and batch."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    shown = [(n, b) for n in PROBLEMS for b in ROUNDS if _groups(results, n, b)]
    columns = min(len(shown), 5) or 1
    lines = math.ceil(len(shown) / columns) or 1
    height = 2.6 * lines + 1
    figure, panels = plt.subplots(
        lines, columns, figsize=(max(4, 3.2 * columns), height), squeeze=False
    )
    for axes in panels.flat[len(shown) :]:
        axes.remove()
    for axes, (name, batch) in zip(panels.flat, shown, strict=False):
        for method, group in _groups(results, name, batch).items():
            if method in CHOICES:
                continue
            regrets = torch.tensor([cell["regrets"] for cell in group]).clamp_min(1e-4)
            places = batch * torch.arange(1, regrets.shape[1] + 1)
            colour = COLOURS[list(SEARCHES).index(method)]
            axes.plot(places, regrets.mean(0), color=colour, label=method)
        axes.set(yscale="log", title=f"{name},\nbatches of {batch}", xlabel="rows measured")
        axes.grid(color="0.92")
    for axes in panels[:, 0]:
        axes.set(ylabel="regret, share of the range")
    curves = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    figure.legend(
        list(curves.values()), [*map(str, curves)], loc="upper center", ncols=4, frameon=False
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.65 / height))
    figure.savefig(path, dpi=100)
    plt.close(figure)


BENCHMARK = Benchmark(
    name="rounds",
    title="Regret after rounds of measurements",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
