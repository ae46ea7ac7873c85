"""The main job as `discrete-grad demo` runs it, judged by the truth, over several seeds.

The data sets of a family are the contexts of one generator; 1,500 rows are drawn from the worst 80%
of each. Also draws the README's picture, the scores of the first seed's report.

    python -m benchmarks.demo            # HPOLib, 5 seeds
    python -m benchmarks.demo --quick    # a smoke test of the script, not a measurement
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from discrete_grad.data import load_example, read_table
from discrete_grad.evaluation import mean_interval
from discrete_grad.reporting import environment, scores_plot
from discrete_grad.runs import FitConfig, fit, write_report


@dataclass(frozen=True)
class Config:
    """True percentiles of the demo's report."""

    family: str = "hpolib"
    """hpolib, hpobench or nasbench201."""
    seeds: int = 5
    """Seeds 0, 1, ..."""
    rows: int = 1500
    """Training rows for each data set."""
    out: Path = Path("benchmarks/results/demo.json")
    """Results; the picture lies beside them."""
    quick: bool = False
    """One seed and few steps."""


def measure(config: Config, seed: int) -> tuple[dict[str, Any], float]:
    """The report of one fit, and how long fit and report took in seconds."""
    example = load_example(config.family)
    rows = example.training_rows(config.rows, seed=seed)
    table = read_table(rows, score="score", context=["dataset"], features=example.features)
    settings = FitConfig(seed=seed)
    if config.quick:
        settings = replace(
            settings,
            estimator=replace(settings.estimator, members=2, steps=40),
            judge=replace(settings.judge, members=2, steps=40),
            generator=replace(settings.generator, steps=40),
        )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = fit(table, Path(folder) / "run", settings, source={"example": config.family})
        return write_report(run), time.perf_counter() - began


def percentiles(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """True percentile by entry, for each context."""
    return {
        context["label"]: {entry["name"]: entry["true_percentile"] for entry in context["entries"]}
        for context in report["contexts"]
    }


def summarise(cells: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """For each entry the mean over the contexts, with a 95% interval over the seeds."""
    names = list(next(iter(cells[0].values())))
    summary: dict[str, dict[str, Any]] = {}
    for name in names:
        means = [sum(c[name] for c in cell.values()) / len(cell) for cell in cells]
        mean, low, high = mean_interval(means)
        summary[name] = {"mean": mean}
        if len(means) > 1:
            summary[name] |= {"low": low, "high": high}
    return summary


def main(config: Config) -> None:
    """Measure every seed; write results and picture."""
    cells, seconds = [], []
    config.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in tqdm(range(1 if config.quick else config.seeds), disable=None):
        report, spent = measure(config, seed)
        if seed == 0:
            picture = scores_plot(report).replace("max-width", "background: white; max-width", 1)
            config.out.with_suffix(".svg").write_text(picture)
        cells.append(percentiles(report))
        seconds.append(spent)
    summary = summarise(cells)
    results = {
        "environment": environment(),
        "settings": {"family": config.family, "rows": config.rows, "quick": config.quick},
        "seconds": seconds,
        "cells": cells,
        "summary": summary,
    }
    config.out.write_text(json.dumps(results, indent=1))
    for name, figures in summary.items():
        print(f"{name:40s} {figures['mean']:.3f}")


if __name__ == "__main__":
    main(tyro.cli(Config))
