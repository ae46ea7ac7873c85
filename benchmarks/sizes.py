"""Processor time and memory of reading a table, a fit, a report and rows, as the table grows.

A random table in a Parquet file; its rows, features, categories of every feature, values of a
categorical context, or the different contexts that rows are asked for grow one at a time; and one
table has ten million rows of 20 features. Time is that of the processor, so that what else the
machine does counts for little. A fit takes few steps: what is seen is what the size of the table
costs and not the training, whose steps are the user's choice. Only the rows for many contexts come
from a default fit. Eight rows are written for each of these, and 16 of any other run. Memory is the
most that the process holds of the machine's while a stage runs, above what it held before the table
was read. On log-log axes either becomes a line: linear growth has a slope of 1, or less where what
does not grow (plots, imports) is still a good part.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, run, succeeded
from benchmarks.hidden_cost import slope
from discrete_grad.data import Table as Rows
from discrete_grad.data import read_contexts, read_table
from discrete_grad.fitting import EstimatorConfig, GeneratorConfig, ReproductionConfig
from discrete_grad.runs import FitConfig, fit, generate, write_report

__all__ = ["BENCHMARK"]

STAGES = ("read", "fit", "report", "generate")
ROWS, ROWS_OF_EACH = 16, 8  # that are written, and of each of many contexts
FITTED = 4  # sizes, the largest
STEPS = 20
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of the growth with the table; `workers` is 1 whatever is asked: these are times."""


@dataclass(frozen=True)
class Size:
    """A table."""

    rows: int = 16_384
    features: int = 8
    categories: int = 16
    contexts: int = 0
    """Values of the context; 0 for a table without."""
    asked: int = 0
    """Different numeric contexts that rows are asked for; 0 for a table without."""


@dataclass(frozen=True)
class Axis:
    """What grows: a field of `Size`."""

    grows: str
    base: Size
    sizes: Sequence[int]


AXES: Mapping[str, Axis] = {
    "rows": Axis("rows", Size(), [2**i for i in range(15, 21)]),
    "features": Axis("features", Size(rows=4096), [2**i for i in range(5, 10)]),
    "categories": Axis("categories", Size(rows=65_536, features=2), [2**i for i in range(10, 15)]),
    "contexts": Axis("contexts", Size(rows=131_072), [2**i for i in range(10, 15)]),
    "asked": Axis("asked", Size(rows=1500, categories=8), [12_500, 25_000, 50_000, 100_000]),
    "rows of 20 features": Axis("rows", Size(features=20), [10_000_000]),
}
QUICK = {
    "rows": Axis("rows", Size(features=2), [512, 1024]),
    "asked": Axis("asked", Size(rows=512, features=2), [64]),
}


def cells(config: Config) -> list[Cell]:
    """One for each size of each axis; of a smoke test, two small tables."""
    axes = QUICK if config.quick else AXES
    return [
        Cell(f"{name}={size:07d}", (asdict(replace(axis.base, **{axis.grows: size})), config.quick))
        for name, axis in axes.items()
        for size in axis.sizes
    ]


def measure(size: Mapping[str, int], quick: bool) -> dict[str, Any]:
    """Seconds and bytes of each stage."""
    config = FitConfig() if size["asked"] and not quick else _few_steps()
    context = ["context:categorical"] if size["contexts"] else []
    context += ["age", "dose"] if size["asked"] else []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        _write(path, Size(**size))
        before = _resident("VmRSS")
        seconds, memory = {}, {}

        def stage(name: str, call: Callable[[], _T]) -> _T:
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark is that of now
            began = time.process_time()
            result = call()
            seconds[name] = time.process_time() - began
            memory[name] = max(1, _resident("VmHWM") - before)
            return result

        table = stage("read", lambda: read_table(path, score="score", context=context))
        run_ = stage("fit", lambda: fit(table, Path(folder) / "run", config))
        stage("report", lambda: write_report(run_))
        asked, rows = _asked(table, size), ROWS_OF_EACH if size["asked"] else ROWS
        stage("generate", lambda: generate(run_, *asked, rows=rows))
    return {"size": dict(size), "stage_seconds": seconds, "memory": memory}


def _few_steps() -> FitConfig:
    few = EstimatorConfig(members=2, steps=STEPS)
    return FitConfig(
        estimator=few,
        judge=few,
        reproduction=ReproductionConfig(steps=STEPS),
        generator=GeneratorConfig(steps=STEPS),
    )


def _numbers(count: int, seed: int) -> dict[str, Any]:
    """Two numeric columns of contexts, all different."""
    noise = np.random.default_rng(seed)
    return {"age": noise.normal(size=count), "dose": noise.uniform(size=count)}


def _asked(table: Rows, size: Mapping[str, int]) -> tuple[dict[str, list[Any]], Tensor | None]:
    """The contexts that rows are asked for; of a categorical one, the first value."""
    if size["asked"]:
        return read_contexts(_numbers(size["asked"], seed=1), table.schema)
    given = {"context": ["context_0"]} if size["contexts"] else None
    return read_contexts(given, table.schema)


def _write(path: Path, size: Size) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    noise = np.random.default_rng(0)

    def column(name: str, count: int) -> Any:
        codes = np.arange(size.rows, dtype=np.int32) % count
        noise.shuffle(codes)
        # of its own categories: features that share them would be taken for a sequence
        values = pa.array([f"{name}_{i}" for i in range(count)])
        return pa.DictionaryArray.from_arrays(pa.array(codes), values)

    columns = {f"x{i}": column(f"x{i}", size.categories) for i in range(size.features)}
    if size.contexts:
        columns["context"] = column("context", size.contexts)
    columns |= _numbers(size.rows, seed=2) if size.asked else {}
    columns["score"] = pa.array(noise.normal(size=size.rows))
    parquet.write_table(pa.table(columns), path)


def _resident(field: str) -> int:
    """Bytes of a line of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


# --- tables ---------------------------------------------------------------------------------------


def _points(results: Results, axis: str, kind: str, stage: str) -> list[tuple[int, float]]:
    found = succeeded(results)
    grows = AXES[axis].grows
    cells_ = [c for k, c in found.items() if k.startswith(f"{axis}=") and stage in c[kind]]
    return sorted((c["size"][grows], c[kind][stage]) for c in cells_)


def _growth(results: Results, axis: str, kind: str, stage: str) -> str:
    points = _points(results, axis, kind, stage)[-FITTED:]
    if len(points) < 3:
        return "-"
    middle, half = slope(*zip(*points, strict=True))
    return f"{middle:.2f} ± {half:.2f}"


def _largest(results: Results, axis: str) -> str:
    points = _points(results, axis, "memory", "report")
    return f"{points[-1][0]:,}" if points else "-"


def tables(results: Results) -> list[Table]:
    """The slopes of time and memory, and what the largest tables take."""
    header = ("what grows", "up to", *STAGES)
    return [
        _slopes(results, "stage_seconds", "Growth of the processor time with the table", header),
        _slopes(results, "memory", "Growth of the memory with the table", header),
        Table(
            "Seconds and memory at the largest",
            ("what grows", "up to", *(f"{stage}: s, GiB" for stage in STAGES)),
            [
                (axis, _largest(results, axis), *(_cost(results, axis, stage) for stage in STAGES))
                for axis in AXES
            ],
            _how(),
        ),
        failures(results),
    ]


def _slopes(results: Results, kind: str, title: str, header: Sequence[str]) -> Table:
    rows = [
        (axis, _largest(results, axis), *(_growth(results, axis, kind, stage) for stage in STAGES))
        for axis in AXES
    ]
    return Table(title, header, rows, _how())


def _cost(results: Results, axis: str, stage: str) -> str:
    seconds, memory = (
        _points(results, axis, kind, stage)[-1:] for kind in ("stage_seconds", "memory")
    )
    return f"{seconds[0][1]:.1f}, {memory[0][1] / 2**30:.2f}" if seconds else "-"


def _how() -> str:
    bases = "; ".join(
        f"{name}: {axis.base.rows:,} rows, {axis.base.features} features of "
        f"{axis.base.categories} categories"
        for name, axis in AXES.items()
    )
    return (
        f"Slopes of logs over the {FITTED} largest sizes, each twice the one before, ± half the "
        f"95% interval; 1 is linear growth. A fit has {STEPS} steps a stage. What else a table "
        f"has, by what grows: {bases}."
    )


def plot(results: Results, path: Path) -> None:
    """Seconds and memory of each stage against each size."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    kinds = {"stage_seconds": ("seconds", 1.0), "memory": ("GiB", 2.0**-30)}
    shown = [axis for axis in AXES if _points(results, axis, "stage_seconds", "fit")]
    size = (3 * len(shown) + 1, 7)
    figure, grid = plt.subplots(len(kinds), len(shown), figsize=size, sharey="row", squeeze=False)
    for line, (kind, (unit, factor)) in zip(grid, kinds.items(), strict=True):
        for axes, axis in zip(line, shown, strict=True):
            for stage, colour in zip(STAGES, COLOURS, strict=True):
                points = _points(results, axis, kind, stage)
                axes.plot(
                    [x for x, _ in points],
                    [y * factor for _, y in points],
                    "o-",
                    color=colour,
                    label=stage,
                )
            axes.set(xscale="log", yscale="log", xlabel=axis)
            sizes = [x for x, _ in _points(results, axis, kind, "fit")]
            ends = sorted({sizes[0], sizes[-1]})
            axes.set_xticks(ends, [f"{end:,}" for end in ends])
            axes.minorticks_off()
            axes.grid(color="0.92")
        line[0].set_ylabel(unit)
    names = grid[0][0].get_legend_handles_labels()
    figure.legend(*names, loc="upper center", ncols=len(STAGES), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    figure.savefig(path, dpi=100)
    plt.close(figure)


BENCHMARK = Benchmark(
    name="sizes",
    title="Reading, fitting, reporting and generating as the table grows",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)


if __name__ == "__main__":
    run(BENCHMARK, replace(tyro.cli(Config), workers=1))  # or they would slow each other
