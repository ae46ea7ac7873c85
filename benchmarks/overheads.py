"""Processor time of small calls, against the same work written in plain torch.

Tensors are small, so that what is measured is what a call costs beside its arithmetic. Ours and the
plain counterpart run in one process, in rounds that time both in random order; a ratio is that of
one round. Each has a limit: 1.2 for the import, else 1.5 to 3 times what was measured when
it was set. The command fails where the whole interval of a ratio lies above its limit.

    python -m benchmarks.overheads
    python -m benchmarks.overheads --quick     # a smoke test of the script; no limits
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

import discrete_grad
from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, run, succeeded
from discrete_grad import CategoricalSpace, GumbelSoftmax, LeaveOneOut, StraightThrough
from discrete_grad.evaluation import median_interval

__all__ = ["BENCHMARK"]

BATCH, FEATURES, CATEGORIES, SAMPLES = 64, 8, 16, 8
CANDIDATES, ROWS = 16_384, 8
QUICK_ROUNDS = 6  # the fewest with an interval


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of the call overheads; `workers` is 1 whatever is asked, for these are times."""

    rounds: int = 15
    """Each times ours and the counterpart once."""


@dataclass(frozen=True)
class Pair:
    """The same work by this library and in plain torch.

    Args:
        ours: one call by this library.
        plain: one call without it.
        limit: of the ratio of their times.
        calls: of each that a round times together.
    """

    ours: Callable[[], object]
    plain: Callable[[], object]
    limit: float
    calls: int = 20


# --- what is compared -----------------------------------------------------------------------------


def imports() -> Pair:
    """Import of the library in a new interpreter, against the import of torch."""

    def imported(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    return Pair(imported("discrete_grad"), imported("torch"), limit=1.2, calls=1)


def one_feature() -> Pair:
    """`GumbelSoftmax()` forward and backward, against torch's function."""
    logits, layer = _logits(), GumbelSoftmax()
    return Pair(
        lambda: _back(layer(logits)),
        lambda: _back(F.gumbel_softmax(logits, hard=True)),
        limit=5.0,
    )


def features() -> Pair:
    """`StraightThrough(space)` of 8 features forward and backward, against a layer by hand."""
    logits, layer = _logits(FEATURES), StraightThrough(_space())
    return Pair(lambda: _back(layer(logits)), lambda: _back(_straight_through(logits)), limit=1.6)


def _straight_through(logits: Tensor) -> Tensor:
    probabilities = logits.unflatten(-1, (FEATURES, CATEGORIES)).softmax(-1)
    codes = torch.multinomial(probabilities.detach().flatten(0, 1), 1).view(BATCH, FEATURES)
    hard = F.one_hot(codes, CATEGORIES).to(logits.dtype)
    row: Tensor = (hard + (probabilities - probabilities.detach())).flatten(-2)
    return row


def expectation() -> Pair:
    """`LeaveOneOut` with 8 samples forward and backward, against its formula by hand."""
    logits, method = _logits(FEATURES), LeaveOneOut(_space(), samples=SAMPLES)
    weights = torch.linspace(-1, 1, FEATURES * CATEGORIES)

    def f(rows: Tensor) -> Tensor:
        return torch.tanh(rows @ weights)

    return Pair(
        lambda: _back(method.expectation(f, logits)),
        lambda: _back(_leave_one_out(f, logits)),
        limit=2.5,
    )


def _leave_one_out(f: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    law = torch.distributions.Categorical(logits=logits.unflatten(-1, (FEATURES, CATEGORIES)))
    codes = law.sample((SAMPLES,))
    values = f(F.one_hot(codes, CATEGORIES).to(logits.dtype).flatten(-2))
    advantage = (values - values.mean(0)) * SAMPLES / (SAMPLES - 1)
    log_p: Tensor = law.log_prob(codes).sum(-1)
    estimate: Tensor = (values + advantage.detach() * (log_p - log_p.detach())).mean(0)
    return estimate


def generated() -> Pair:
    """`run.generate(rows=8)`, against the best 8 of 16,384 rows drawn and scored by it."""
    fitted = _run()
    policy, estimator = fitted.generator, fitted.estimator

    def plain() -> Tensor:
        with torch.no_grad():
            rows = policy.sample(count=CANDIDATES)
            return rows[estimator(policy.space.one_hot(rows)).topk(ROWS).indices]

    return Pair(lambda: fitted.generate(rows=ROWS), plain, limit=5.0, calls=2)


def _run() -> discrete_grad.Run:
    codes = np.random.default_rng(0).integers(0, CATEGORIES, (400, FEATURES))
    table = {f"x{i}": codes[:, i] for i in range(FEATURES)} | {"score": codes.sum(1) * 1.0}
    settings = {"estimator.steps": 50, "judge.steps": 50, "generator.steps": 50}
    with tempfile.TemporaryDirectory() as folder:
        return discrete_grad.fit(table, folder, settings, score="score", quiet=True)


def _space() -> CategoricalSpace:
    return CategoricalSpace.from_sizes((CATEGORIES,) * FEATURES)


def _logits(features: int = 1) -> Tensor:
    return torch.zeros(BATCH, features * CATEGORIES, requires_grad=True)


def _back(value: Tensor) -> None:
    value.sum().backward()


PAIRS = {
    "import": imports,
    "layer of one feature": one_feature,
    "layer of 8 features": features,
    "LeaveOneOut of 8 features": expectation,
    "generate 8 rows": generated,
}


# --- measuring ------------------------------------------------------------------------------------


def cells(config: Config) -> list[Cell]:
    """One for each pair."""
    rounds = QUICK_ROUNDS if config.quick else config.rounds
    return [Cell(name, (name, rounds)) for name in PAIRS]


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Seconds of each call and their ratio, with the intervals of the medians."""
    torch.manual_seed(0)
    pair, order = PAIRS[name](), random.Random(0)
    sides = {"ours": pair.ours, "plain": pair.plain}
    laps: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(rounds + 1):
        for side in order.sample([*sides], len(sides)):
            seconds = timed(sides[side], pair.calls)
            if turn:  # the first warms up
                laps[side].append(seconds)
    ratios = [ours / plain for ours, plain in zip(laps["ours"], laps["plain"], strict=True)]
    medians = {side: median_interval(values) for side, values in laps.items()}
    return medians | {"ratio": median_interval(ratios), "limit": pair.limit}


def timed(call: Callable[[], object], calls: int) -> float:
    """Seconds of processor time a call, those of its child processes among them."""
    began = _spent()
    for _ in range(calls):
        call()
    return (_spent() - began) / calls


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


# --- tables ---------------------------------------------------------------------------------------


def slow(results: Results) -> list[str]:
    """The calls whose ratio is above the limit, all of its interval."""
    return [name for name, cell in succeeded(results).items() if cell["ratio"][1] > cell["limit"]]


def tables(results: Results) -> list[Table]:
    """Times, ratios and limits."""
    rows = [
        (
            name,
            f"{1000 * cell['ours'][0]:.3g}",
            f"{1000 * cell['plain'][0]:.3g}",
            "{:.2f} [{:.2f}, {:.2f}]".format(*cell["ratio"]),
            f"{cell['limit']:g}",
        )
        for name, cell in succeeded(results).items()
    ]
    header = ("call", "ours, ms", "plain torch, ms", "ratio", "limit of the ratio")
    note = (
        "Processor time of one thread, medians over rounds; in brackets the 95% interval of the "
        f"median of ratios within a round. Batch {BATCH}, {CATEGORIES} categories a feature; "
        "layers and `LeaveOneOut` forward and backward. The counterpart of `generate` draws "
        f"{CANDIDATES:,} rows from the generator and takes the best {ROWS} by the estimator."
    )
    return [Table("Time of small calls", header, rows, note), failures(results)]


def plot(results: Results, path: Path) -> None:
    """Ratios and their limits."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    found = succeeded(results)
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for place, cell in enumerate(found.values()):
        middle, low, high = cell["ratio"]
        axes.plot([low, high], [place, place], color="#0072B2")
        axes.plot(middle, place, "o", color="#0072B2", label="" if place else "measured")
        axes.plot(cell["limit"], place, "|", ms=14, color="#D55E00", label="" if place else "limit")
    axes.set_yticks(range(len(found)), [*found])
    axes.set(xscale="log", xlabel="processor time, relative to plain torch")
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.92")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


BENCHMARK = Benchmark(
    name="overheads",
    title="Time of small calls beside plain torch",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)


def main(config: Config) -> None:
    """Measure, and fail on a call that is slower than its limit."""
    results = run(BENCHMARK, replace(config, workers=1))
    above: Sequence[str] = [] if config.quick else slow(results)
    if above:
        raise SystemExit(f"slower than the limit: {', '.join(above)}")


if __name__ == "__main__":
    main(tyro.cli(Config))
