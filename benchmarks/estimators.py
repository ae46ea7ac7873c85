"""Estimators against other libraries, on tables no one here wrote.

Every method learns from the same rows. Its predictions of held-out rows are compared with the
truth, and so are, where that is known, the rows that it proposes.

    python -m benchmarks.tables
    python -m benchmarks.estimators
    python -m benchmarks.estimators --datasets suzuki fair --methods "ridge, ranks"

The first fetches the tables. See `estimators_settings` for what is learnt from and
`estimators_peers` for the peers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import torch
import tyro
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks import harness
from benchmarks.estimators_common import Predict, agreement
from benchmarks.estimators_ours import fitted_estimator, generated_rows
from benchmarks.estimators_peers import PEERS
from benchmarks.estimators_settings import QUICK, SETTINGS, Setting
from benchmarks.estimators_tables import ALL_ROWS, GENERATED, LOCAL, OURS, plot, tables
from benchmarks.generation_common import recipe
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.tables import Task, load
from discrete_grad import CategoricalSpace
from discrete_grad.gradient import on_codes
from discrete_grad.models import swap_search
from discrete_grad.runs import FewRowsWarning, FitConfig
from discrete_grad.sampling import categorical, seeded, uniform_like

PROPOSED = 128
STARTS, QUICK_STARTS = 256, 2  # of the local search
METHODS = (OURS, *PEERS)


@dataclass(frozen=True)
class Config(harness.Config):
    """Estimators against peers, on held-out rows and by the rows they propose."""

    seeds: tuple[int, int] = (5, 8)
    """Seeds 0, 1, ... of each table, and of TF Bind 8."""
    datasets: tuple[str, ...] = ()
    """Only these settings; by default all."""
    methods: tuple[str, ...] = ()
    """Only these methods; by default all."""
    timeout: float = 3600.0
    fit: Annotated[FitConfig, tyro.conf.Suppress] = field(default_factory=FitConfig)
    """The default recipe, kept with the results: those of another recipe are not mixed in."""


def cells(config: Config) -> list[Cell]:
    """A cell a setting, seed and method; a seed of all settings before the next.

    Raises:
        SystemExit: for an unknown setting or method.
    """
    settings = QUICK if config.quick else SETTINGS
    for asked, known in ((config.datasets, settings), (config.methods, METHODS)):
        strangers = sorted(set(asked) - set(known))
        if strangers:
            raise SystemExit(f"there is no {strangers[0]!r}; there are {list(known)}")
    counts = {k: config.seeds[v.table.startswith("tf_bind_8")] for k, v in settings.items()}
    counts = dict.fromkeys(counts, 1) if config.quick else counts
    return [
        Cell(f"{setting}/{seed}/{method}", (config, settings[setting], seed, method))
        for seed in range(max(counts.values()))
        for setting in config.datasets or settings
        if seed < counts[setting]
        for method in config.methods or METHODS
    ]


def measure(config: Config, setting: Setting, seed: int, method: str) -> dict[str, Any]:
    """One method's agreement with the truth, its proposed rows, seconds and memory."""
    if method in PEERS and not PEERS[method].installed:
        return {"left out": f"the package {PEERS[method].package} is not installed"}
    task = load(setting.table, seed, setting.rows)
    if method in PEERS and len(task.codes) > PEERS[method].max_rows:
        return {"left out": f"more than {PEERS[method].max_rows:,} rows take too long"}
    if method in PEERS and PEERS[method].sequences and not task.letters:
        return {"left out": "the features are not the places of a sequence"}
    with threadpool_limits(1):  # some peers take every core otherwise
        predict, figures = measured(_fit(config, task, seed, method))
        figures |= _held_out(task, predict)
        if task.truth is not None:
            figures |= _proposed(config, task, predict, seed)
        if task.truth is not None and method == OURS:
            figures |= _generated(task, recipe(config.fit, seed, quick=config.quick))
    return figures


def _held_out(task: Task, predict: Predict) -> dict[str, Any]:
    began = time.perf_counter()
    predicted = predict(task.test_codes)
    return {
        "predict seconds": time.perf_counter() - began,
        "spearman": agreement(predicted, task.test_truth),
        "recall": recall(predicted, task.test_truth),
        "rows": len(task.codes),
    }


def _proposed(config: Config, task: Task, predict: Predict, seed: int) -> dict[str, Any]:
    starts = QUICK_STARTS if config.quick else STARTS
    found = {LOCAL: worth(task, local_search(predict, task.space, starts, seed))}
    if task.all_scores is not None:
        found[ALL_ROWS] = worth(task, best_of_all(predict, task.space))
    return found


def _generated(task: Task, config: FitConfig) -> dict[str, Any]:
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewRowsWarning)  # their number is among the figures
        rows = generated_rows(task.codes, task.scores, task.space, config, PROPOSED)
    seconds = time.perf_counter() - began
    return {"generate seconds": seconds, GENERATED: worth(task, rows)}


def _fit(config: Config, task: Task, seed: int, method: str) -> Callable[[], Predict]:
    shown = task.codes, task.scores, task.space, seed
    if method != OURS:
        return partial(PEERS[method].fit, *shown)
    estimator = recipe(config.fit, seed, quick=config.quick).estimator
    return partial(fitted_estimator, *shown, estimator)


def measured(call: Callable[[], Predict]) -> tuple[Predict, dict[str, Any]]:
    """Result of the call, its seconds and the most MiB that it added to the process."""
    before = harness.reset_peak_resident()
    began = time.perf_counter()
    predict = call()
    seconds = time.perf_counter() - began
    added = harness.peak_resident() - before
    return predict, {"fit seconds": seconds, "MiB": added / 2**20}


def recall(predicted: Tensor, truth: Tensor) -> float:
    """Share of the rows truly in the top decile that are predicted to be there."""
    count = max(1, len(truth) // 10)
    top, found = truth.topk(count).indices, predicted.topk(count).indices
    return torch.isin(top, found).double().mean().item()


# --- proposed rows --------------------------------------------------------------------------------


def best_of_all(predict: Predict, space: CategoricalSpace) -> Tensor:
    """The `PROPOSED` rows of the highest predictions, the highest first."""
    codes = space.enumerate()
    return codes[predict(codes).topk(min(PROPOSED, len(codes))).indices]


def local_search(predict: Predict, space: CategoricalSpace, starts: int, seed: int) -> Tensor:
    """The `PROPOSED` highest of the ends of climbs by single swaps and two shells of neighbours."""
    uniform = torch.zeros(starts, space.width)
    drawn = categorical(space, uniform, uniform_like(space, uniform, generator=seeded(seed)))
    rows = swap_search(on_codes(space, predict), drawn, space=space).codes
    for _ in range(2):
        rows = torch.cat([rows, space.swaps(rows).flatten(0, 1)]).unique(dim=0)
        rows = rows[predict(rows).topk(min(PROPOSED, len(rows))).indices]
    return rows


def worth(task: Task, codes: Tensor) -> dict[str, float]:
    """True figures of proposed rows, of which the first is the method's own choice.

    Scores are 0 for the worst row of the table and 1 for the best; percentiles, where all rows are
    known, are the share of rows that are worse.
    """
    kinds = {"score": task.normalised(codes)}
    if task.all_scores is not None:
        kinds["percentile"] = task.percentile(codes)
    found: dict[str, float] = {"rows": len(codes)}
    for kind, values in kinds.items():
        found |= {
            f"first {kind}": values[0].item(),
            f"best {kind}": values.max().item(),
            f"median {kind}": values.quantile(0.5).item(),
            f"mean of 16 {kind}": values[:16].mean().item(),
            f"mean {kind}": values.mean().item(),
        }
    return found


BENCHMARK = Benchmark(
    name="estimators",
    title="How good are the estimators, against other libraries?",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
    preload=("benchmarks.estimators_peers", "benchmarks.tables"),
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
