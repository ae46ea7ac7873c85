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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness, pareto_peers
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.pareto_problems import PROBLEMS, ROWS, Problem, hypervolume, load
from benchmarks.pareto_tables import (
    ASKED,
    BATCH,
    BUDGETS,
    COUNT,
    DRAWS,
    EXACT,
    KINDS,
    OURS,
    SAMPLES,
    STEPS,
    plot,
    tables,
)
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
from discrete_grad.models.aimed import (
    AimedEnsemble,
    Scalarisation,
    scalarised,
    tradeoff_columns,
)
from discrete_grad.models.pareto import spread_front, tradeoff_grid
from discrete_grad.policies import Generator
from discrete_grad.runs import FitConfig, Run, fit
from discrete_grad.runs.pareto_front import front_values, propose_front
from discrete_grad.sampling import seeded

__all__ = ["BENCHMARK", "asked_and_got"]

GENERATOR = GeneratorConfig(steps=STEPS, batch_size=BATCH, samples=SAMPLES, entropy=0.008)
"""Of the fits whose fronts are compared: a short training, whose draws count as evaluations. A fit
of several aims has 2.5 times the entropy, so here it is .02."""


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of the comparison of fronts."""

    seeds: int = 3
    """Draws of the rows that are learnt from, for each table."""


def cells(config: Config) -> list[Cell]:
    """Two for each table and seed; of a smoke test, of one table learnt from few rows."""
    problems, rows = (PROBLEMS[1:2], 100) if config.quick else (PROBLEMS, ROWS)
    seeds = 1 if config.quick else config.seeds
    named = [(n, s) for s in range(seeds) for n in problems]
    fronts = [Cell(f"{n}/seed={s}", ("fronts", n, s, rows)) for n, s in named]
    return [*fronts, *(Cell(f"{n}/{ASKED}/seed={s}", (ASKED, n, s, rows)) for n, s in named)]


def measure(what: str, name: str, seed: int, rows: int) -> dict[str, Any]:
    """The figures of a cell: those of the fronts, or of the trade-offs asked for."""
    problem = load(name)
    return _asked(problem, seed, rows) if what == ASKED else _fronts(problem, seed, rows)


def _fronts(problem: Problem, seed: int, rows: int) -> dict[str, Any]:
    """Relative hypervolumes by estimator and truth, seconds, and the trade-offs' calibration."""
    with tempfile.TemporaryDirectory() as folder:
        fitted = _fitted(problem, Path(folder) / "run", seed, rows, GENERATOR)
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


def _asked(problem: Problem, seed: int, rows: int) -> dict[str, Any]:
    """What the likeliest rows of a fit's generator are worth at each trade-off, and the best."""
    with tempfile.TemporaryDirectory() as folder:
        fitted = _fitted(problem, Path(folder) / "run", seed, rows, GeneratorConfig())
        values = front_values(fitted, problem.space.enumerate(), None)
    assert fitted.aims is not None
    assert fitted.aims.generator is not None
    grid = tradeoff_grid(values.shape[1], COUNT)
    likely = problem.space.argmax(fitted.aims.generator(tradeoff_columns(grid)))
    return asked_and_got(values, problem.numbers(likely), fitted.aims.objective.kind)


def asked_and_got(values: Tensor, likely: Tensor, kind: Scalarisation) -> dict[str, Any]:
    """How the rows at places `(n,)`, one for each trade-off, agree with what was asked.

    Beside it stands how the best rows `(N, K)` of all would: no generator that is trained by this
    scalarisation can do better but by chance.
    """
    grid = tradeoff_grid(values.shape[1], COUNT)
    worth = torch.stack([scalarised(values, weights, kind) for weights in grid])
    best = worth.argmax(1)
    missed = worth.amax(1) - worth.gather(1, likely.unsqueeze(1)).squeeze(1)
    return {
        "likely_rows": len(likely.unique()),
        "agreement": _agreement(grid, values[likely]),
        "missed": missed.mean().item(),
        "best_rows": len(best.unique()),
        "best_agreement": _agreement(grid, values[best]),
    }


def _agreement(grid: Tensor, got: Tensor) -> float:
    """Rank correlation of trade-offs `(n, K)` with values `(n, K)`, mean over the aims."""
    pairs = zip(grid.T.contiguous(), got.T.contiguous(), strict=True)
    return sum(spearman(weights, values) for weights, values in pairs) / grid.shape[1]


def _fitted(
    problem: Problem, folder: Path, seed: int, rows: int, generator: GeneratorConfig
) -> Run:
    estimator = EstimatorConfig(members=2, steps=400, families=("networks", "anova"))
    config = FitConfig(
        seed=seed,
        estimator=estimator,
        # nobody asks the judge here
        judge=EstimatorConfig(members=2, steps=1, families=("networks",)),
        judge_share=0.05,
        reproduction=ReproductionConfig(steps=1),
        generator=generator,
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
    return {
        **shown.worth(kept),
        "likely_rows": len(likely.unique(dim=0)),
        "agreement": _agreement(grid, got),
    }


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
