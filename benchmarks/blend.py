"""Training with `Blend` beside the methods it blends, at equal cost, and its weights meanwhile.

Logits are moved by Adam towards the largest `E[f]`, whose exact value is known. Every method has
the same first logits and the same budget of evaluations plus backward passes of f a step.

    python -m benchmarks.blend            # some minutes
    python -m benchmarks.blend --quick    # a smoke test of the script, not a measurement
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, interval, run, succeeded
from benchmarks.problems import Problem, make_problem
from discrete_grad import (
    Blend,
    DoubleControlVariate,
    GradientEstimator,
    LeaveOneOut,
    ReinMax,
    Softmax,
    StraightThrough,
)
from discrete_grad.gradient.recommend import at_budget
from discrete_grad.sampling import normal, seeded

FUNCTIONS = (
    ("ragged", "smooth"),
    ("ragged", "rough"),
    ("ragged", "motifs"),
    ("hpolib", "estimator"),
)
METHODS = (Blend, StraightThrough, ReinMax, DoubleControlVariate, LeaveOneOut, Softmax)
EXACT = "exact gradient"
BATCH, RATE, EVERY = 8, 0.05, 10  # logits trained side by side; Adam's; steps between records


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of the trainings."""

    seeds: int = 5
    """Functions of each kind, each with first logits of its own."""
    steps: int = 300
    """Of Adam."""
    budget: int = 32
    """Evaluations plus backward passes of f a step, for one element of the batch."""


def cells(config: Config) -> list[Cell]:
    """A function and a seed each, with all methods in it."""
    seeds, steps = (1, 20) if config.quick else (config.seeds, config.steps)
    return [
        Cell(f"{where}/{kind}/{seed}", (where, kind, seed, steps, config.budget))
        for seed in range(seeds)
        for where, kind in FUNCTIONS
    ]


def measure(where: str, kind: str, seed: int, steps: int, budget: int) -> dict[str, Any]:
    """`E[f]` of each method every 10 steps, the mean over the batch, and the weights of `Blend`."""
    problem = make_problem(where, kind, "own", seed, steps=300)
    first = 0.1 * normal((BATCH, problem.space.width), generator=seeded(seed))
    curves: dict[str, list[float]] = {EXACT: [x for x, _ in _trained(problem, first, None, steps)]}
    weights: list[dict[str, float]] = []
    for cls in METHODS:
        method = at_budget(cls, problem.space, budget)
        found = list(_trained(problem, first, method, steps))
        curves[cls.__name__] = [x for x, _ in found]
        if isinstance(method, Blend):
            weights = [w for _, w in found]
    return {"curves": curves, "weights": weights}


def _trained(
    problem: Problem, first: Tensor, method: GradientEstimator | None, steps: int
) -> Iterator[tuple[float, dict[str, float]]]:
    """Exact value and weights every few steps; None trains by the exact gradient."""
    logits, noise = first.clone().requires_grad_(), seeded(1)
    optimiser = torch.optim.Adam([logits], lr=RATE, maximize=True)
    for step in range(steps):
        if method is None:
            logits.grad = problem.gradient(logits)
        else:
            optimiser.zero_grad()
            method.expectation(problem.f, logits, generator=noise).sum().backward()
        optimiser.step()
        if (step + 1) % EVERY == 0:
            pis = problem.space.softmax(logits.detach())
            value = torch.stack([problem.mean(pi) for pi in pis]).mean().item()
            yield value, method.weights() if isinstance(method, Blend) else {}


# --- tables and plot ------------------------------------------------------------------------------

NOTE = (
    "Exact `E[f]` after training minus that after training by the exact gradient from the same "
    "first logits; higher is better. Mean over seeds and 95% interval by Student's t. f has mean 0 "
    "and standard deviation 1 over the rows. "
)


def tables(results: Results) -> list[Table]:
    """The mean along the training, which tells of the speed, and the end."""
    along = _table(
        results, "Training at equal cost: mean over all steps", lambda x: sum(x) / len(x)
    )
    end = _table(results, "Training at equal cost: after the last step", lambda x: x[-1])
    return [along, end, failures(results)]


def _table(results: Results, title: str, figure: Any) -> Table:
    rows = []
    for where, kind in FUNCTIONS:
        found = _of(results, where, kind)
        if not found:
            continue
        row = [f"{kind}, {where}"]
        for cls in METHODS:
            gaps = [
                figure(cell["curves"][cls.__name__]) - figure(cell["curves"][EXACT])
                for cell in found
            ]
            row.append(interval(gaps))
        rows.append(row)
    header = ("f", *(f"`{cls.__name__}`" for cls in METHODS))
    settings = results["settings"]
    cost = f"A step costs {settings['budget']} evaluations plus backward passes; `Softmax` 2."
    return Table(title, header, rows, NOTE + cost)


def _of(results: Results, where: str, kind: str) -> list[dict[str, Any]]:
    return [cell for k, cell in succeeded(results).items() if k.startswith(f"{where}/{kind}/")]


COLOURS = ("#D55E00", "#E69F00", "#CC79A7", "#0072B2", "#56B4E9", "#000000", "#009E73")


def plot(results: Results, path: Path) -> None:
    """The weights along the training, a panel a function, the mean over seeds."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(FUNCTIONS), figsize=(15, 4), sharey=True)
    for ax, (where, kind) in zip(axes, FUNCTIONS, strict=True):
        found = [cell["weights"] for cell in _of(results, where, kind)]
        ax.set_title(f"{kind}, {where}")
        ax.axhline(0, color="0.8", linewidth=0.8)
        for name, colour in zip(found[0][0] if found else (), COLOURS, strict=False):
            _draw(ax, [[w[name] for w in weights] for weights in found], name, colour)
    axes[0].set_ylabel("weight, mean over features and seeds")
    figure.supxlabel("step of training")
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw(ax: Any, lines: Sequence[Sequence[float]], name: str, colour: str) -> None:
    mean = torch.tensor(lines).mean(0)
    steps = EVERY * torch.arange(1, len(mean) + 1)
    ax.plot(steps, mean, color=colour, label=name.replace("_", " "))


BENCHMARK = Benchmark(
    name="blend",
    title="Training with a blend of gradients, at equal cost",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
