"""Fronts of several aims at equal evaluations of the same estimator: one fit against searches.

Complete tables whose rows have two or three aims; 1,500 rows, drawn from all alike, are learnt from
by an ensemble for each aim. Every method then seeks up to 32 rows by what these ensembles predict.
The generator is trained once for all trade-offs, and its draws begin a local search. NSGA-II
(pymoo, integer variables) and random rows begin with nothing; qLogNEHVI (BoTorch, the ensemble as
the posterior, local search over the categories) begins with the best rows learnt from. All rows
that a method has evaluated count, and the 32 are chosen from them alike. Evaluations of a peer are
different rows, so that a row met again is free; of the generator's training they are all draws.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness, pareto_peers
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, interval, run, succeeded
from benchmarks.pareto_problems import PROBLEMS, ROWS, Problem, hypervolume, load
from discrete_grad.data import read_table
from discrete_grad.evaluation import spearman
from discrete_grad.fitting import (
    EstimatorConfig,
    FrozenModels,
    GeneratorConfig,
    ReproductionConfig,
    fit_generator,
    make_gradient_estimator,
)
from discrete_grad.fitting.aims import with_tradeoffs
from discrete_grad.models.aimed import AimedEnsemble, Scalarisation, tradeoff_columns
from discrete_grad.models.pareto import spread_front, tradeoff_grid
from discrete_grad.policies import Generator
from discrete_grad.runs import FitConfig, Run, fit
from discrete_grad.runs.pareto_front import front_values, propose_front
from discrete_grad.sampling import seeded

__all__ = ["BENCHMARK"]

COUNT = 32
STEPS, BATCH, SAMPLES = 100, 32, 2
TRAINING = STEPS * BATCH * SAMPLES
BUDGETS = {"after the fit": (1000, 1000), "with its training": (3600, 3600 + TRAINING)}
"""Evaluations of the search after the fit, and those that the other methods have."""
KINDS: tuple[Scalarisation, ...] = ("linear", "chebyshev", "hypervolume")
OURS, EXACT = "one fit, `--front`", "every row (exact)"
DRAWS = 16


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of the comparison of fronts."""

    seeds: int = 3
    """Draws of the rows that are learnt from, for each table."""


def cells(config: Config) -> list[Cell]:
    """One for each table and seed; of a smoke test, one table learnt from few rows."""
    problems, rows = (PROBLEMS[1:2], 100) if config.quick else (PROBLEMS, ROWS)
    seeds = 1 if config.quick else config.seeds
    return [Cell(f"{n}/seed={s}", (n, s, rows)) for s in range(seeds) for n in problems]


def measure(name: str, seed: int, rows: int) -> dict[str, Any]:
    """Relative hypervolumes by estimator and truth, seconds, and the trade-offs' calibration."""
    problem = load(name)
    with tempfile.TemporaryDirectory() as folder:
        fitted = _fitted(problem, Path(folder) / "run", seed, rows)
        everything = problem.space.enumerate()
        values = front_values(fitted, everything, None)
        shown = _Shown(problem, values)
        found: dict[str, Any] = {EXACT: shown.worth(torch.arange(len(values)))}
        known = problem.numbers(fitted.rows.codes.long().cpu())
        members = _members(fitted, everything)
        for budget, (own, evaluations) in BUDGETS.items():
            began = time.process_time()
            (front,) = propose_front(fitted, None, count=COUNT, new_only=False, evaluations=own)
            seconds = time.process_time() - began
            ours = shown.worth(problem.numbers(front.codes)) | {"cpu_seconds": seconds}
            found[f"{OURS}/{budget}"] = ours
            for method, search in pareto_peers.SEARCHES.items():
                began = time.process_time()
                asked = search(problem, values, members, known, evaluations, seed)
                seconds = time.process_time() - began
                told = {"cpu_seconds": seconds, "evaluations": len(asked)}
                found[f"{method}/{budget}"] = shown.worth(asked) | told
        kinds = {kind: _by_kind(fitted, kind, shown, seed) for kind in KINDS}
    return {"found": found, "scalarised": kinds}


def _fitted(problem: Problem, folder: Path, seed: int, rows: int) -> Run:
    estimator = EstimatorConfig(members=2, steps=400, families=("networks", "anova"))
    config = FitConfig(
        seed=seed,
        estimator=estimator,
        # nobody asks the judge here
        judge=EstimatorConfig(members=2, steps=1, families=("networks",)),
        judge_share=0.05,
        reproduction=ReproductionConfig(steps=1),
        generator=GeneratorConfig(steps=STEPS, batch_size=BATCH, samples=SAMPLES),
    )
    features = {n: range(k) for n, k in zip(problem.space.names, problem.space.sizes, strict=True)}
    table = read_table(problem.columns(rows, seed), score=problem.aims, features=features)
    return fit(table, folder, config)


def _members(fitted: Run, everything: Tensor) -> Tensor:
    """Predictions `(M, rows, K)` of every member, from 0 to 1 between the rows learnt from."""
    assert fitted.aims is not None
    parts = [part.estimator.predictions(everything) for part in fitted.aims.parts]
    low, high = fitted.aims.objective.ends.unbind(1)
    return (torch.stack(parts, -1) - low) / (high - low)


@dataclass(frozen=True, eq=False)
class _Shown:
    """What all rows of a problem are worth, by the estimators and in truth."""

    problem: Problem
    values: Tensor

    def worth(self, asked: Tensor) -> dict[str, float]:
        """Hypervolumes of 32 of the rows that were asked for, relative to those of all rows."""
        kept = asked[spread_front(self.values[asked], COUNT)]
        estimated, true = self.whole
        return {
            "estimated": hypervolume(self.values[kept]) / estimated,
            "true": hypervolume(self.problem.truth_of[kept]) / true,
            "rows": len(kept),
        }

    @functools.cached_property
    def whole(self) -> tuple[float, float]:
        """Hypervolumes of all rows, by the estimators and in truth."""
        return hypervolume(self.values), hypervolume(self.problem.truth_of)


def _by_kind(fitted: Run, kind: Scalarisation, shown: _Shown, seed: int) -> dict[str, float]:
    """A generator trained by a scalarisation, its draws at 32 trade-offs without any search."""
    assert fitted.aims is not None
    models = [part.estimator for part in fitted.aims.parts]
    names, space = fitted.aims.names, fitted.table.schema.space
    model = AimedEnsemble(models, fitted.aims.objective.ends, names=names, kind=kind)
    rows = with_tradeoffs(fitted.rows, len(names), seed=seed)
    generator = Generator(space, model.context_spec)
    config = GeneratorConfig()
    fit_generator(
        generator,
        rows,
        frozen=FrozenModels(model, model),
        method=make_gradient_estimator(space, config),
        config=config,
        seed=seed,
    )
    grid = tradeoff_grid(len(names), COUNT)
    contexts = tradeoff_columns(grid)
    draws = generator.sample(contexts, DRAWS, generator=seeded(seed)).flatten(0, 1)
    likely = space.argmax(generator(contexts))
    got = shown.values[shown.problem.numbers(likely)]
    kept = shown.problem.numbers(torch.cat([draws, likely]))
    pairs = zip(grid.T.contiguous(), got.T.contiguous(), strict=True)
    return {
        **shown.worth(kept),
        "likely_rows": len(likely.unique(dim=0)),
        "agreement": sum(spearman(w, v) for w, v in pairs) / len(names),
    }


# --- tables ---------------------------------------------------------------------------------------


def tables(results: Results) -> list[Table]:
    """Hypervolumes at equal evaluations, in truth, and by scalarisation."""
    return [
        _front_table(results, "estimated", "Hypervolume at equal evaluations of the estimator"),
        _front_table(results, "true", "True hypervolume of the same rows"),
        _kinds_table(results),
        _seconds_table(results),
        failures(results),
    ]


def _methods() -> list[str]:
    return [OURS, *pareto_peers.NAMES]


def _values(results: Results, problem: str, name: str, kind: str) -> list[float]:
    found = succeeded(results)
    here = [cell["found"] for key, cell in found.items() if key.startswith(f"{problem}/seed=")]
    return [cell[name][kind] for cell in here if name in cell]


def _shown(values: Sequence[float], digits: int = 3) -> str:
    if len(values) < 2:
        return f"{values[0]:.{digits}f}" if values else "-"
    return interval(values, digits)


def _front_table(results: Results, kind: str, title: str) -> Table:
    rows = []
    for problem in PROBLEMS:
        exact = _shown(_values(results, problem, EXACT, kind))
        for budget, (_, evaluations) in BUDGETS.items():
            told = [
                _shown(_values(results, problem, f"{name}/{budget}", kind)) for name in _methods()
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
            _shown([cell[kind][what] for cell in here], digits)
            for kind in KINDS
            for what, digits in (("estimated", 3), ("likely_rows", 1), ("agreement", 2))
        ]
        rows.append((problem, *line))
    names = ("hypervolume", "different rows", "asked and got")
    header = ("table: aims", *(f"{kind}: {name}" for kind in KINDS for name in names))
    note = (
        f"A generator of the default settings, without any search. Hypervolume of {COUNT} rows "
        f"chosen from {DRAWS} draws and the likeliest row at each of {COUNT} or more trade-offs, "
        "relative to that of all rows, by the estimators. Different rows among the likeliest ones. "
        "Asked and got: rank correlation between an aim's weight and what the likeliest row is "
        "worth in it by the estimators, mean over the aims."
    )
    return Table(
        "Scalarisations, and the trade-off asked for against the one got", header, rows, note
    )


def _seconds_table(results: Results) -> Table:
    rows = []
    for problem in PROBLEMS:
        for budget in BUDGETS:
            told = [
                _shown(_values(results, problem, f"{name}/{budget}", "cpu_seconds"), 1)
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


BENCHMARK = Benchmark(
    name="pareto",
    title="Fronts of several aims at equal evaluations of the estimator",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)


if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config, description=__doc__))
