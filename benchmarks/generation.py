"""How good are generated rows really? True percentiles on complete real tables.

For each table and seed: 1,500 rows are drawn from the worst 80% (the best of them is about the
.800 percentile), the default fit is run on them, and every gradient estimator then trains a
generator of its own through the same frozen estimators. What is scored is the true percentile of
the generator's most likely row, and the mean over 256 of its samples.

    python benchmarks/generation.py            # 3 tables, 20 seeds; resumes if interrupted
    python benchmarks/generation.py --quick    # a smoke test of the script, not a measurement
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from discrete_grad import (
    DeterministicStraightThrough,
    GradientEstimator,
    GumbelSoftmax,
    LeaveOneOut,
    Reinforce,
    ReinMax,
    Softmax,
    StraightThrough,
)
from discrete_grad.data import load_example, read_table
from discrete_grad.evaluation import environment, mean_interval
from discrete_grad.models import EstimatorEnsemble, Generator
from discrete_grad.space import CategoricalSpace
from discrete_grad.training import FitConfig, Guides, Run, fit, fit_generator

TABLES = (
    ("hpolib", "protein_structure"),
    ("nasbench201", "cifar10"),
    ("hpobench", "credit_g"),
)
TARGETS = {"protein_structure": 0.985, "cifar10": 0.970, "credit_g": 0.850}
METHODS: dict[str, Callable[[CategoricalSpace, int], GradientEstimator]] = {
    "Softmax": lambda space, n: Softmax(space),
    "GumbelSoftmax(hard=False)": lambda space, n: GumbelSoftmax(space, hard=False, samples=n),
    "GumbelSoftmax": lambda space, n: GumbelSoftmax(space, samples=n),
    "GumbelSoftmax(tau=0.5)": lambda space, n: GumbelSoftmax(space, tau=0.5, samples=n),
    "StraightThrough": lambda space, n: StraightThrough(space, samples=n),
    "DeterministicStraightThrough": lambda space, n: DeterministicStraightThrough(space),
    "ReinMax": lambda space, n: ReinMax(space, samples=n),
    "Reinforce": lambda space, n: Reinforce(space, samples=n),
    "LeaveOneOut": lambda space, n: LeaveOneOut(space, samples=max(2, n)),
}
SAMPLES = 256
LEFT = 0.6  # of the plot


@dataclass(frozen=True)
class Config:
    """True percentile of generated rows, for every gradient estimator and the baselines."""

    seeds: int = 20
    """Seeds 0, 1, ... for each table."""
    rows: int = 1500
    """Training rows."""
    worst: float = 0.8
    """They are drawn from this share of the table, from below."""
    repeat_seed: int | None = None
    """Score of one repeat of each row, drawn with this seed; by default the mean over repeats."""
    out: Path = Path("benchmarks/results/generation.json")
    """Results; the plot lies beside them."""
    workers: int = os.cpu_count() or 1
    """Processes, one thread each."""
    quick: bool = False
    """One seed and few steps."""


def fit_config(config: Config, seed: int) -> FitConfig:
    """The default recipe."""
    default = FitConfig(seed=seed)
    if not config.quick:
        return default
    return replace(
        default,
        estimator=replace(default.estimator, members=2, steps=40, validate_every=20),
        judge=replace(default.judge, members=2, steps=40, validate_every=20),
        reproduction=replace(default.reproduction, steps=40, validate_every=20),
        generator=replace(default.generator, steps=40, validate_every=20),
    )


def measure(task: tuple[Config, str, str, int]) -> tuple[str, dict[str, Any]]:
    """Fit everything for one table and seed; true percentiles by name."""
    config, family, dataset, seed = task
    torch.set_num_threads(1)
    example = load_example(family, [dataset], repeat_seed=config.repeat_seed)
    rows = example.training_rows(config.rows, worst=config.worst, seed=seed, dataset=dataset)
    table = read_table(rows, score="score", features=example.features)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = fit(table, Path(folder) / "run", fit_config(config, seed))
        seconds = time.perf_counter() - began
    cell: dict[str, Any] = {"default fit": {"seconds": seconds}}
    for name, codes in _rows(run, seed, cell):
        truth = example.true_percentile(codes, dataset)
        # the first is the most likely row, the others are samples
        entry = cell.setdefault(name, {})
        entry["likely"] = truth[0].item()
        if len(truth) > 1:
            entry["samples"] = truth[1:].mean().item()
    return f"{dataset}/{seed}", cell


def _rows(run: Run, seed: int, cell: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    space = run.table.schema.space
    yield "best training row", run.table.codes[run.table.scores.argmax()].unsqueeze(0)
    for name, model in (("estimator", run.estimator), ("judge", run.judge)):
        yield f"{name}'s exact argmax", _argmax(model).unsqueeze(0)
    yield "naive baseline", _drawn(space, run.naive(), seed)
    yield "data policy", _drawn(space, run.reference(), seed)
    for temperature in (1.0, 0.25):
        logits = _score_weighted(space, run, temperature)
        yield f"score-weighted reproduction, t={temperature}", _drawn(space, logits, seed)
    yield "default recipe", _drawn(space, run.generator(), seed)
    for name, make in METHODS.items():
        began = time.perf_counter()
        generator = fit_generator(
            Generator(None, space),
            Guides(run.estimator, run.judge, run.reference, run.aligner),
            run.rows,
            method=make(space, run.config.generator.samples),
            config=run.config.generator,
            seed=seed,
        )
        cell[name] = {"seconds": time.perf_counter() - began}
        yield name, _drawn(space, generator(), seed)


def _drawn(space: CategoricalSpace, logits: Tensor, seed: int) -> Tensor:
    """The most likely row, then samples: `(1 + SAMPLES, F)`."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        drawn = StraightThrough(space)(logits.expand(SAMPLES, -1), generator=noise)
        return torch.cat([space.argmax(logits).unsqueeze(0), space.argmax(drawn)])


def _argmax(model: EstimatorEnsemble) -> Tensor:
    codes = model.space.enumerate()
    with torch.no_grad():
        scores = torch.cat([model(part) for part in codes.split(8192)])
    return codes[scores.argmax()]


def _score_weighted(space: CategoricalSpace, run: Run, temperature: float) -> Tensor:
    """Logits that minimise `score_weighted_cross_entropy`: without a context, in closed form."""
    scores = run.rows.scores
    weights = ((scores - scores.mean()) / scores.std(correction=0) / temperature).softmax(0)
    return (weights @ space.one_hot(run.rows.codes)).log()


def summarise(cells: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean, 95% interval and lowest value over the seeds: table -> name -> figures."""
    summary: dict[str, dict[str, Any]] = {}
    for _, dataset in TABLES:
        mine = [cell for key, cell in cells.items() if key.split("/")[0] == dataset]
        for name in mine[0] if mine else []:
            figures: dict[str, Any] = {"seeds": len(mine)}
            for kind in mine[0][name]:
                values = [cell[name][kind] for cell in mine]
                mean, low, high = mean_interval(values)
                figures[kind] = {"mean": mean, "min": min(values)}
                if len(values) > 1:
                    figures[kind] |= {"low": low, "high": high}
            summary.setdefault(dataset, {})[name] = figures
    return summary


def format_summary(summary: dict[str, dict[str, Any]]) -> str:
    """A Markdown table: true percentile of the most likely row, with its interval."""
    tables = list(summary)
    names = [name for name in summary[tables[0]] if "likely" in summary[tables[0]][name]]
    lines = ["| | " + " | ".join(tables) + " |", "|---|" + "---|" * len(tables)]
    for name in names:
        cells = [_figure(summary[table][name]["likely"]) for table in tables]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _figure(figures: dict[str, float]) -> str:
    text = f"{figures['mean']:.3f}"
    return f"{text} [{figures['low']:.3f}, {figures['high']:.3f}]" if "low" in figures else text


def plot(summary: dict[str, dict[str, Any]], path: Path) -> None:
    """Dots with intervals, one panel a table; dotted the target, grey the best training row."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(summary), figsize=(13, 5), sharey=True, squeeze=False)
    for axes, (dataset, figures) in zip(panels[0], summary.items(), strict=True):
        names = [name for name in reversed(figures) if "likely" in figures[name]]
        for place, name in enumerate(names):
            entry = figures[name]["likely"]
            color = "C1" if name == "default recipe" else "C0" if name in METHODS else "0.45"
            if entry["mean"] < LEFT:  # an arrowhead at the edge
                axes.plot(LEFT, place, "<", color=color, clip_on=False)
                continue
            axes.plot(entry["mean"], place, "o", color=color)
            axes.plot([entry.get("low"), entry.get("high")], [place, place], color=color)
        axes.set_yticks(range(len(names)), names)
        axes.axvline(TARGETS[dataset], color="0.6", linestyle=":")
        axes.axvline(0.8, color="0.8")
        axes.set_xlim(LEFT, 1.005)
        axes.set_title(dataset)
        axes.set_xlabel("true percentile of the most likely row")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    """Measure what is missing, and write results and plot after every cell."""
    seeds = 1 if config.quick else config.seeds
    settings = json.loads(json.dumps([asdict(config), asdict(fit_config(config, 0))], default=str))
    for volatile in ("seeds", "workers", "out"):
        settings[0].pop(volatile)
    results: dict[str, Any] = {"settings": settings, "cells": {}}
    if config.out.exists():
        earlier = json.loads(config.out.read_text())
        if earlier["settings"] == settings:
            results = earlier
    tasks = [
        (config, family, dataset, seed)
        for seed in range(seeds)
        for family, dataset in TABLES
        if f"{dataset}/{seed}" not in results["cells"]
    ]
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(min(config.workers, len(tasks) or 1)) as pool:
        for key, cell in tqdm(pool.imap_unordered(measure, tasks), total=len(tasks), disable=None):
            results["cells"][key] = cell
            results |= {"environment": environment(), "summary": summarise(results["cells"])}
            part = config.out.with_suffix(".part")
            part.write_text(json.dumps(results, indent=1))
            part.replace(config.out)
    plot(results["summary"], config.out.with_suffix(".png"))
    print(format_summary(results["summary"]))


if __name__ == "__main__":
    main(tyro.cli(Config))
