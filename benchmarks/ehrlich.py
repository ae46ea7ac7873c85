"""Can a generator trained through estimators find the optimum where one swap kills a row?

Ehrlich functions (Stanton et al., arXiv 2407.00236) are closed-form stand-ins for the design of
proteins: a row is infeasible if a banned pair of tokens stands side by side, and else worth the
product over c motifs of how much of each is there, in quarters. From one feasible row of little or
no value, every method asks for values of rows until it reaches 1.0, the optimum, or its budget is
spent; a row asked about twice counts once, and none sees anything but values. Beside the search by
a generator, which makes half of the candidates and random swaps of recombined rows the other half,
stand the same search with all of them by the generator or all by swaps, ranked by the same
estimators, and the genetic algorithm that comes with the functions.

The functions are those of pytorch-holo, whose pin of an old numpy does not matter to them, so that
`--no-deps` leaves numpy and torch as they are. Beside the extra `bench`:

    pip install --no-deps pytorch-holo==0.0.5 botorch==0.18.1 gpytorch==1.15.2 \
        linear_operator==0.6.1 pooch platformdirs pyre-extensions typing-inspect mypy-extensions
    python -m benchmarks.ehrlich

Where it is missing, every cell fails and says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.ehrlich_rows import Archive, Truth
from benchmarks.ehrlich_search import Settings, search
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, run, succeeded
from discrete_grad.evaluation import mean_interval
from discrete_grad.sampling import isolated_seed

INSTALL = (
    "pip install --no-deps pytorch-holo==0.0.5 botorch==0.18.1 gpytorch==1.15.2 "
    "linear_operator==0.6.1 pooch platformdirs pyre-extensions typing-inspect mypy-extensions"
)
FUNCTIONS = {
    "L=32, c=2": (32, 32, 2, 4),
    "L=32, c=4": (32, 32, 4, 4),
    "L=64, c=2": (32, 64, 2, 4),
    "L=128, c=4": (32, 128, 4, 4),
}
"""Tokens, length of a row, motifs and their length, which is the quantisation too."""
SEARCHES: dict[str, dict[str, Any]] = {
    "generator and swaps": {},
    "generator alone": {"generator": 1.0},
    "swaps alone": {"generator": 0.0},
}
GENETIC = "genetic algorithm"
METHODS = (*SEARCHES, GENETIC)
COLOURS = ("#0072B2", "#009E73", "#E69F00", "0.45")
MARKS = (1000, 5000, 20_000, 50_000, 200_000)


@dataclass(frozen=True)
class Config(harness.Config):
    """Evaluations to the optimum of Ehrlich functions."""

    seeds: int = 5
    """Seeds 0, 1, ... of the function and of the search."""
    methods: tuple[str, ...] = METHODS
    """Only these."""
    budget: int = 50_000
    """Rows a search may ask about."""
    genetic_budget: int = 200_000
    """Rows the genetic algorithm may ask about."""
    search: Annotated[Settings, tyro.conf.Suppress] = field(default_factory=Settings)
    """The same for every function, kept with the results."""


def cells(config: Config) -> list[Cell]:
    """Every method on every function and seed."""
    if config.quick:
        small = replace(
            config.search, batch=100, parents=8, children=16, steps=5, generator_steps=3
        )
        config = replace(config, seeds=1, budget=300, genetic_budget=3000, search=small)
    return [
        Cell(f"{name}/{method}/seed={seed}", (config, name, method, seed))
        for method in config.methods
        for name in reversed(FUNCTIONS)
        for seed in range(config.seeds)
    ]


def measure(config: Config, name: str, method: str, seed: int) -> dict[str, Any]:
    """Rises of the best value, and the number of rows asked about."""
    function = ehrlich(name, seed)
    size, length, motifs, _ = FUNCTIONS[name]
    with isolated_seed(seed):
        budget = config.genetic_budget if method == GENETIC else config.budget
        archive = Archive(function, length, budget)
        row = function.initial_solution()
        if method == GENETIC:
            rounds: list[dict[str, Any]] = []
            genetic(archive, row, size)
        else:
            settings = replace(config.search, **SEARCHES[method])
            rounds = list(search(archive, row, size, length // motifs, settings))
    seconds = [sum(part) for part in zip(*(r["seconds"] for r in rounds), strict=True)]
    return {
        "rows": len(archive),
        "best": archive.best,
        "trace": archive.trace,
        "feasible": (archive.values >= 0).double().mean().item(),
        "rounds": len(rounds),
        "seconds_by_part": dict(zip(("fit", "propose"), seconds, strict=False)),
    }


# --- the functions and their own genetic algorithm ------------------------------------------------


def ehrlich(name: str, seed: int) -> Any:
    """The function of a name and a seed.

    Raises:
        ImportError: without pytorch-holo, with what installs it.
    """
    try:
        module = importlib.import_module("holo.test_functions.closed_form")
    except ImportError as error:
        raise ImportError(f"{error.name} is missing: {INSTALL}") from error
    size, length, motifs, quarters = FUNCTIONS[name]
    return module.Ehrlich(
        num_states=size,
        dim=length,
        num_motifs=motifs,
        motif_length=quarters,
        quantization=quarters,
        random_seed=seed,
    )


def genetic(archive: Archive, row: Tensor, size: int) -> None:
    """Holo's `DiscreteEvolution`: 1,000 particles, of which the best tenth survives, p = 1/L.

    A particle that is a row asked about before costs nothing, and keeps its value.
    """
    parameter = torch.nn.Parameter(row.float())
    optimizer = importlib.import_module("holo.optim").DiscreteEvolution(
        [parameter],
        vocab=list(range(size)),
        mutation_prob=1 / len(row),
        num_particles=1000,
        survival_quantile=0.1,
    )
    truth: Truth = archive.truth

    def loss(particles: Sequence[Tensor]) -> Tensor:
        codes = particles[0].long()
        archive.ask(codes)
        return -truth(codes)

    for _ in range(archive.budget // 250):
        if archive.best >= 1 or len(archive) >= archive.budget:
            return
        optimizer.step(lambda particles: loss(particles))


# --- what is shown --------------------------------------------------------------------------------


def reached(cell: Mapping[str, Any], rows: int) -> float | None:
    """Best value among so many rows; None if fewer were asked about and it is not the optimum."""
    if cell["rows"] < rows and cell["best"] < 1:
        return None
    return max((value for count, value in cell["trace"] if count <= rows), default=0.0)


def solved(cell: Mapping[str, Any]) -> int | None:
    """Rows asked about up to the first of value 1."""
    return next((count for count, value in cell["trace"] if value >= 1), None)


def _groups(results: Results) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for name in FUNCTIONS:
        for method in METHODS:
            prefix = f"{name}/{method}/"
            group: list[Mapping[str, Any]] = [
                cell for key, cell in succeeded(results).items() if key.startswith(prefix)
            ]
            if group:
                found[name, method] = group
    return found


def tables(results: Results) -> list[Table]:
    """Means over seeds, every seed, and what failed."""
    groups = _groups(results)
    marks = [f"best at {mark:,}" for mark in MARKS]
    header = ("function", "method", "reached 1.0", "rows until then", *marks, "minutes")
    return [
        Table(
            "Best value of an Ehrlich function, by rows asked about",
            header,
            [[f"{name}", method, *_row(group)] for (name, method), group in groups.items()],
            "A row has L positions with 32 tokens each; there are c motifs of length 4. Means over "
            "seeds; rows until 1.0 is the median of the seeds that reached it. The genetic "
            "algorithm is that of pytorch-holo, with 1,000 particles. The searches use what is "
            "publicly known about the family: some pairs of neighbours make a row infeasible, "
            "motifs may lie anywhere, and the span of a motif. The genetic algorithm and the "
            "search of `rounds` use none of this.",
        ),
        Table(
            "Every seed: rows until 1.0, or the best value",
            ("function", "method", "seeds"),
            [[n, m, ", ".join(map(_outcome, group))] for (n, m), group in groups.items()],
        ),
        failures(results),
    ]


def _row(group: Sequence[Mapping[str, Any]]) -> list[str]:
    counts = [count for cell in group if (count := solved(cell)) is not None]
    values = [[reached(cell, mark) for cell in group] for mark in MARKS]
    minutes = sum(cell["seconds"] for cell in group) / len(group) / 60
    return [
        f"{len(counts)} of {len(group)}",
        f"{median(counts):,.0f}" if counts else "-",
        *map(_mean, values),
        f"{minutes:.1f}",
    ]


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{mean_interval(known)[0]:.3f}" if len(known) == len(values) else "-"


def _outcome(cell: Mapping[str, Any]) -> str:
    count = solved(cell)
    return f"{count:,}" if count is not None else f"({cell['best']:.3f})"


def plot(results: Results, path: Path) -> None:
    """Best value against rows asked about: each seed thin, their mean thick; a panel a function."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    figure, panels = plt.subplots(1, len(FUNCTIONS), figsize=(15, 4), sharey=True)
    for (name, method), group in _groups(results).items():
        axes, colour = panels[list(FUNCTIONS).index(name)], COLOURS[METHODS.index(method)]
        for cell in group:
            _draw(axes, [cell], color=colour, lw=0.8, alpha=0.35)
        _draw(axes, group, color=colour, lw=2.2)
    for axes, name in zip(panels, FUNCTIONS, strict=True):
        axes.set(xscale="log", xlim=(400, MARKS[-1]), ylim=(0, 1.03), title=name)
        axes.set(xlabel="rows asked about")
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    panels[0].set(ylabel="best value")
    pairs = zip(METHODS, COLOURS, strict=True)
    handles = [Line2D([], [], color=colour, lw=2.2, label=method) for method, colour in pairs]
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw(axes: Any, group: Sequence[Mapping[str, Any]], **style: Any) -> None:
    """The mean of the best values, as far as all of them are known."""
    last = min(MARKS[-1] if cell["best"] >= 1 else cell["rows"] for cell in group)
    places = sorted({1, last, *(n for cell in group for n, _ in cell["trace"] if n <= last)})
    values = [[reached(cell, place) or 0.0 for cell in group] for place in places]
    axes.step(places, [sum(v) / len(v) for v in values], where="post", **style)


BENCHMARK = Benchmark(
    name="ehrlich",
    title="Rows asked about until the optimum of an Ehrlich function",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
