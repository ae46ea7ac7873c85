"""Tables and plot of `pareto`: fronts at equal evaluations, and trade-offs asked for and got."""

from __future__ import annotations

from pathlib import Path

from benchmarks import pareto_peers
from benchmarks.generation_common import figure
from benchmarks.harness import Results, Table, failures, succeeded
from benchmarks.pareto_problems import PROBLEMS
from discrete_grad.models.aimed import Scalarisation

__all__ = ["ASKED", "BUDGETS", "COUNT", "DRAWS", "EXACT", "KINDS", "OURS", "plot", "tables"]

COUNT = 32
STEPS, BATCH, SAMPLES = 100, 32, 2  # of the generator's training
TRAINING = STEPS * BATCH * SAMPLES
BUDGETS = {"after the fit": (1000, 1000), "with its training": (3600, 3600 + TRAINING)}
"""Evaluations of the search after the fit, and those that the other methods have."""
KINDS: tuple[Scalarisation, ...] = ("linear", "chebyshev", "hypervolume")
OURS, EXACT = "one fit, `--front`", "every row (exact)"
ASKED = "asked"
DRAWS = 16


def tables(results: Results) -> list[Table]:
    """Hypervolumes at equal evaluations, in truth, and by scalarisation."""
    return [
        _front_table(results, "estimated", "Hypervolume at equal evaluations of the estimator"),
        _front_table(results, "true", "True hypervolume of the same rows"),
        _kinds_table(results),
        _asked_table(results),
        _seconds_table(results),
        failures(results),
    ]


def _methods() -> list[str]:
    return [OURS, *pareto_peers.NAMES]


def _values(results: Results, problem: str, name: str, kind: str) -> list[float]:
    found = succeeded(results)
    here = [cell["found"] for key, cell in found.items() if key.startswith(f"{problem}/seed=")]
    return [cell[name][kind] for cell in here if name in cell]


def _front_table(results: Results, kind: str, title: str) -> Table:
    rows = []
    for problem in PROBLEMS:
        exact = figure(_values(results, problem, EXACT, kind))
        for budget, (_, evaluations) in BUDGETS.items():
            told = [
                figure(_values(results, problem, f"{name}/{budget}", kind)) for name in _methods()
            ]
            rows.append((problem, f"{evaluations:,}", *told, exact))
    header = ("table: aims", "evaluations", *_methods(), EXACT)
    whose = "the estimators' own values" if kind == "estimated" else "true values"
    note = (
        f"Hypervolume of up to {COUNT} rows by {whose}, relative to that of all rows of the table "
        "(1 is the best possible); mean over seeds, with the 95% interval where there are several. "
        "Every method uses the same ensembles. In the first line of each table only the "
        "evaluations of the search after the fit are counted. In the second line the generator's "
        f"training is counted, too: {TRAINING:,} draws, and 3,600 rows in the search."
    )
    return Table(title, header, rows, note)


def _kinds_table(results: Results) -> Table:
    found = succeeded(results)
    rows = []
    for problem in PROBLEMS:
        here = [c["scalarised"] for k, c in found.items() if k.startswith(f"{problem}/seed=")]
        line = [
            figure([cell[kind][what] for cell in here], digits)
            for kind in KINDS
            for what, digits in (("estimated", 3), ("likely_rows", 1), ("agreement", 2))
        ]
        rows.append((problem, *line))
    names = ("hypervolume", "different rows", "asked and got")
    header = ("table: aims", *(f"{kind}: {name}" for kind in KINDS for name in names))
    note = (
        "A plain generator with the default settings of one aim, without any search. Hypervolume "
        f"of {COUNT} rows chosen from {DRAWS} draws and the likeliest row at each of {COUNT} or "
        "more trade-offs, relative to that of all rows, by the estimators. Different rows among "
        "the likeliest ones. Asked and got: rank correlation between an aim's weight and what the "
        "likeliest row is worth in it by the estimators, mean over the aims."
    )
    return Table(
        "Scalarisations, and the trade-off asked for against the one got", header, rows, note
    )


def _asked_table(results: Results) -> Table:
    found = succeeded(results)
    columns = (
        ("likely_rows", 1),
        ("best_rows", 1),
        ("agreement", 2),
        ("best_agreement", 2),
        ("missed", 4),
    )
    rows = []
    for problem in PROBLEMS:
        here = [c for k, c in found.items() if k.startswith(f"{problem}/{ASKED}/seed=")]
        rows.append(
            (problem, *(figure([c[what] for c in here], digits) for what, digits in columns))
        )
    header = (
        "table: aims",
        "different rows",
        "best possible",
        "asked and got",
        "best possible",
        "missed",
    )
    note = (
        "The likeliest row of a fit's generator of the default settings at each of "
        f"{COUNT} or more trade-offs, without any search. Asked and got: rank correlation between "
        "an aim's weight and what the row is worth in it by the estimators, mean over the aims. "
        "Best possible: the same figure of the best of all rows at each trade-off, which a "
        "generator cannot exceed but by chance. Missed: by how much the weighted mean of the row's "
        "scores is below that of the best row, mean over the trade-offs; 0 is the worst row learnt "
        "from and 1 the best one."
    )
    return Table("Trade-off asked for against the one got, by a fit", header, rows, note)


def _seconds_table(results: Results) -> Table:
    rows = []
    for problem in PROBLEMS:
        for budget in BUDGETS:
            told = [
                figure(_values(results, problem, f"{name}/{budget}", "cpu_seconds"), 1)
                for name in _methods()
            ]
            rows.append((problem, budget, *told))
    note = "Processor seconds of the search, without those of fits and of the estimators' values."
    return Table("Seconds of the search", ("table: aims", "budget", *_methods()), rows, note)


def plot(results: Results, path: Path) -> None:
    """Relative hypervolume of each method, table by table."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, len(BUDGETS), figsize=(13, 4), sharey=True)
    for axes, budget in zip(grid, BUDGETS, strict=True):
        for place, name in enumerate(_methods()):
            points = [
                (place / 8 + index, value)
                for index, problem in enumerate(PROBLEMS)
                for value in _values(results, problem, f"{name}/{budget}", "estimated")
            ]
            axes.plot(*zip(*points, strict=True) if points else ([], []), "o", label=name, ms=4)
        axes.set_xticks(
            range(len(PROBLEMS)), [n.replace(": ", ":\n") for n in PROBLEMS], fontsize=6
        )
        axes.set_title(f"{budget}: {BUDGETS[budget][1]:,} evaluations", fontsize=9)
        axes.grid(color="0.92")
    grid[0].set_ylabel("hypervolume, share of all rows'")
    grid[0].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
