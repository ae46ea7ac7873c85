"""Does the gradient estimator matter for the rows? True percentiles on three complete tables.

For each table and seed: 1,500 rows are drawn from the worst 80% (the best of them is about the
.800 percentile), the default fit is run on them, and every gradient estimator then trains a
generator of its own through the same frozen estimators. What is scored is the true percentile of
the generator's most likely row, and the mean over 256 of its samples.

    python -m benchmarks.generation_methods
    python -m benchmarks.generation_methods --repeat-seed 0 --out ONE_REPEAT.json
    python -m benchmarks.generation_methods --methods ReinMax Blend --out TWO.json
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.generation_catalogue import COMMON, EVERY_CATEGORY, Make, others
from benchmarks.generation_common import (
    BEST_SEEN,
    ESTIMATOR_MAX,
    SAMPLES,
    exact_argmax,
    figure,
    recipe,
)
from benchmarks.harness import Benchmark, Cell, Results, Table, run, succeeded
from discrete_grad import StraightThrough
from discrete_grad.data import load_example, read_table
from discrete_grad.evaluation import mean_interval
from discrete_grad.fitting import FrozenModels, fit_generator
from discrete_grad.gradient import catalogue
from discrete_grad.policies import Generator
from discrete_grad.runs import FitConfig, Run, fit
from discrete_grad.sampling import seeded
from discrete_grad.space import CategoricalSpace

Values = dict[str, dict[str, list[float]]]  # by name, then by table

TABLES = {"protein_structure": "hpolib", "cifar10": "nasbench201", "credit_g": "hpobench"}
TARGETS = {"protein_structure": 0.985, "cifar10": 0.970, "credit_g": 0.850}
LEFT = 0.6  # of the plot
SHOWN = (
    BEST_SEEN,
    ESTIMATOR_MAX,
    "naive baseline",
    "data policy",
    "score-weighted reproduction, t=0.25",
    "default recipe",
    "Softmax",
    "GumbelSoftmax",
    "StraightThrough",
    "ReinMax",
    "CentredReinMax",
    "Blend",
    "LeaveOneOut",
)
KINDS = {
    "likely": "True percentile of the most likely row",
    "samples": f"True percentile of {SAMPLES} samples, their mean",
    "seconds": "Seconds, one thread each and as many at once as the machine has cores",
}
METHODS_NOTE = (
    "All methods of a seed train through the same frozen estimators, on 4 rows a step and element "
    "of the batch (`Softmax` and `DeterministicStraightThrough`, which draw nothing, on 1, and "
    "`Blend` on 3 and a soft row, "
    f"{', '.join(f'`{name}`' for name in EVERY_CATEGORY)} on 1 with every category of every "
    "feature in it), each for as many steps, at whatever that costs. `Arms` and `Disarm` "
    "are for binary features, of which no table is made; `Enumerate` asks about every row, and "
    "`UnorderedSet` lists every row, for each element of each batch."
)


@dataclass(frozen=True)
class Config(harness.Config):
    """True percentile of generated rows, for every gradient estimator and the baselines."""

    seeds: int = 20
    """Seeds 0, 1, ... of each table, for the recipe, the baselines and the common methods; the
    other methods have the first half of them."""
    rows: int = 1500
    """Training rows."""
    worst: float = 0.8
    """They are drawn from this share of the table, from below."""
    repeat_seed: int | None = None
    """Score of one repeat of each row, drawn with this seed; by default the mean over repeats."""
    methods: tuple[str, ...] = ()
    """Only these of the common methods; by default all methods."""
    fit: Annotated[FitConfig, tyro.conf.Suppress] = field(default_factory=FitConfig)
    """The default recipe, kept with the results: those of another recipe are not mixed in."""


def cells(config: Config) -> list[Cell]:
    """The common methods of each table and seed, and the others of the first half of the seeds."""
    seeds = 1 if config.quick else config.seeds
    found = []
    for seed in range(seeds):
        for dataset in TABLES:
            found.append(Cell(f"{dataset}/{seed}", (config, dataset, seed, True)))
            if 2 * seed < seeds and not config.methods:
                found.append(Cell(f"{dataset}/{seed}/others", (config, dataset, seed, False)))
    return found


def measure(config: Config, dataset: str, seed: int, common: bool) -> dict[str, Any]:
    """Fit everything for one table and seed; true percentiles by name."""
    example = load_example(TABLES[dataset], [dataset], repeat_seed=config.repeat_seed)
    rows = example.training_rows(config.rows, worst=config.worst, seed=seed, dataset=dataset)
    table = read_table(rows, score="score", features=example.features)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = fit(table, Path(folder) / "run", recipe(config.fit, seed, quick=config.quick))
        seconds = time.perf_counter() - began
    figures: dict[str, Any] = {"default fit": {"seconds": seconds}}
    methods = {name: COMMON[name] for name in config.methods} or COMMON if common else others()
    drawn = _trained(run, seed, methods, figures)
    for name, codes in chain(_baselines(run, seed) if common else (), drawn):
        truth = example.true_percentile(codes, dataset)
        # the first is the most likely row, the others are samples
        entry = figures.setdefault(name, {})
        entry["likely"] = truth[0].item()
        if len(truth) > 1:
            entry["samples"] = truth[1:].mean().item()
    return figures


def _baselines(run: Run, seed: int) -> Iterator[tuple[str, Tensor]]:
    space = run.table.schema.space
    yield BEST_SEEN, run.table.codes[run.table.scores.argmax()].unsqueeze(0)
    for name, model in (("estimator", run.estimator), ("judge", run.judge)):
        yield f"{name}'s exact argmax", exact_argmax(model).unsqueeze(0)
    yield "naive baseline", _drawn(space, run.naive(), seed)
    yield "data policy", _drawn(space, run.reference(), seed)
    for temperature in (1.0, 0.25):
        logits = _score_weighted(space, run, temperature)
        yield f"score-weighted reproduction, t={temperature}", _drawn(space, logits, seed)
    yield "default recipe", _drawn(space, run.generator(), seed)


def _trained(
    run: Run, seed: int, methods: Mapping[str, Make], figures: dict[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """Rows of a generator for each method; the seconds, or why it failed, go into the figures."""
    space = run.table.schema.space
    models = FrozenModels(run.estimator, run.judge, run.reference, run.aligner)
    for name, make in methods.items():
        generator, began = Generator(space), time.perf_counter()
        try:
            fit_generator(
                generator,
                run.rows,
                frozen=models,
                method=make(space, run.config.generator.samples),
                config=run.config.generator,
                seed=seed,
            )
        except (ValueError, RuntimeError) as error:
            figures[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
            continue
        figures[name] = {"seconds": time.perf_counter() - began}
        yield name, _drawn(space, generator(), seed)


def _drawn(space: CategoricalSpace, logits: Tensor, seed: int) -> Tensor:
    """The most likely row, then samples: `(1 + SAMPLES, F)`."""
    with torch.no_grad():
        drawn = StraightThrough(space)(logits.expand(SAMPLES, -1), generator=seeded(seed))
        return torch.cat([space.argmax(logits).unsqueeze(0), space.argmax(drawn)])


def _score_weighted(space: CategoricalSpace, run: Run, temperature: float) -> Tensor:
    """Logits that minimise `score_weighted_cross_entropy`: without a context, in closed form."""
    scores = run.rows.scores
    weights = ((scores - scores.mean()) / scores.std(correction=0) / temperature).softmax(0)
    return (weights @ space.one_hot(run.rows.codes)).log()


# --- what is shown --------------------------------------------------------------------------------


def tables(results: Results) -> list[Table]:
    """The README's rows, then each figure of every method and baseline."""
    values = {kind: _values(results, kind) for kind in KINDS}
    shown = {name: values["likely"][name] for name in SHOWN if name in values["likely"]}
    repeat = results["settings"]["repeat_seed"]
    truth = (
        "the mean over the repeated trainings of a configuration"
        if repeat is None
        else f"one of the repeated trainings of a configuration, drawn with seed {repeat}"
    )
    note = (
        "Mean over seeds with a 95% interval. The truth is "
        f"{truth}; the best training row is about the .800 percentile by construction."
    )
    found = [_table(KINDS["likely"], shown, note)]
    found += [_table(f"{KINDS[k]}: all", values[k], METHODS_NOTE, every=True) for k in KINDS]
    failed = harness.failures(_flat(results))
    return found if failed.rows[0][0] == "none" else [*found, failed]


def _values(results: Results, kind: str) -> Values:
    """A figure of every seed: name -> table -> values; the baselines first, then by name."""
    found: Values = {}
    for key, cell in succeeded(results).items():
        for name, entry in cell.items():
            if isinstance(entry, dict) and kind in entry:
                found.setdefault(name, {}).setdefault(key.split("/")[0], []).append(entry[kind])
    methods = {*COMMON, *others()}
    return dict(sorted(found.items(), key=lambda item: (item[0] in methods, item[0])))


def _flat(results: Results) -> Results:
    """Methods that failed inside a cell as cells of their own."""
    cells = dict(results["cells"])
    for key, cell in results["cells"].items():
        inner = {f"{key}/{n}": e for n, e in cell.items() if isinstance(e, dict) and "failed" in e}
        cells |= inner
    return results | {"cells": cells}


def _table(title: str, values: Values, note: str, *, every: bool = False) -> Table:
    """A column a table; with `every`, what a method asks of f and how many seeds there are."""
    rows = []
    for name, per_table in values.items():
        told = (_asked(name), _seeds(per_table)) if every else ()
        figures = [figure(per_table.get(dataset, ())) for dataset in TABLES]
        rows.append((f"`{name}`" if _asked(name) else name, *told, *figures))
    header = ("", *(("a step asks of f", "seeds") if every else ()), *TABLES)
    return Table(title, header, rows, note)


def _asked(name: str) -> str:
    """Evaluations and backward passes; empty for what is no method."""
    cls = catalogue().get(name.split("(")[0])
    return cls.facts.cost_text if cls else ""


def _seeds(per_table: Mapping[str, Sequence[float]]) -> str:
    counts = sorted({len(values) for values in per_table.values()})
    return " to ".join(str(count) for count in {counts[0]: None, counts[-1]: None})


def plot(results: Results, path: Path) -> None:
    """Dots with intervals, one panel a table; dotted the target, grey the best training row."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    values = dict(reversed(_values(results, "likely").items()))
    height = 1.2 + 0.24 * len(values)
    drawing, panels = plt.subplots(1, len(TABLES), figsize=(13, height), sharey=True)
    for axes, dataset in zip(panels, TABLES, strict=True):
        for place, (name, per_table) in enumerate(values.items()):
            if dataset in per_table:
                _dot(axes, place, name, per_table[dataset])
        axes.set_yticks(range(len(values)), values)
        axes.axvline(TARGETS[dataset], color="0.6", linestyle=":")
        axes.axvline(0.8, color="0.8")
        axes.set_xlim(LEFT, 1.005)
        axes.set_ylim(-0.7, len(values) - 0.3)
        axes.set_title(dataset)
        axes.set_xlabel("true percentile of the most likely row")
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


def _dot(axes: Any, place: int, name: str, values: Sequence[float]) -> None:
    color = "C1" if name == "default recipe" else "C0" if _asked(name) else "0.45"
    mean, low, high = mean_interval(values)
    if mean < LEFT:  # an arrowhead at the edge
        axes.plot(LEFT, place, "<", color=color, clip_on=False)
        return
    axes.plot(mean, place, "o" if name in COMMON or not _asked(name) else "s", color=color, ms=5)
    if len(values) > 1:
        axes.plot([low, high], [place, place], color=color)


BENCHMARK = Benchmark(
    name="generation_methods",
    title="Does the gradient estimator matter for the rows?",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
