"""Cost of a gradient estimator beside the evaluations of f it declares.

One `expectation` and its backward pass, each method at its defaults, of f(row) = row . w, which
costs next to nothing, while the number F of features, K of categories or of elements of the batch
grows: the time, and the most memory that is held at once. Memory is what torch's allocator gives
out and takes back (torch's profiler), temporary tensors inside operations included and the logits
not. On log-log axes either becomes a line, whose slope is compared with that of the numbers in all
rows f is given, `evaluations * F * K * batch`, by the cost the method declares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, peak_bytes, run, succeeded
from discrete_grad.evaluation import mean_interval
from discrete_grad.gradient import GradientEstimator, StraightThrough, catalogue
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import CategoricalSpace

AXES = ("F", "K", "batch")
LISTING = ("Enumerate", "UnorderedSet")  # prod K rows: a power of K, but exponential in F
FITTED = 6  # sizes, the largest
REPEATS = 6  # of which the smallest and the largest hold the median with 97% probability

Size = tuple[int, int, int]
"""F, K and batch."""


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of the hidden cost; `workers` is 1 whatever is asked, for these are times."""

    seconds: float = 0.1
    """An axis ends with the first call that takes longer."""
    numbers: int = 2**23
    """Or before the rows f is given would hold more numbers."""
    rounds: int = 100
    """Of a call at the reference size and one of `StraightThrough`, in turn."""


def reference(name: str) -> Size:
    """The size from which one of F, K and batch is varied."""
    if catalogue()[name].facts.binary_only:
        return 64, 2, 16
    return (4, 4, 16) if name in LISTING else (16, 8, 16)


def sizes(name: str, axis: str) -> Iterator[Size]:
    """From below the reference without end, by factors of about 1.4, or by 1 for F and K of few."""
    by_one = name in LISTING and axis != "batch"
    numbers = (n for i in range(3, 60) for n in ([i - 1] if by_one else [round(2 ** (i / 2))]))
    place = AXES.index(axis)
    for number in numbers:
        size = list(reference(name))
        size[place] = number
        yield size[0], size[1], size[2]


# --- one call -------------------------------------------------------------------------------------


class Call:
    """One `expectation` and its backward pass at a size."""

    def __init__(self, cls: type[GradientEstimator], size: Size) -> None:
        features, categories, batch = size
        self.space = CategoricalSpace.from_sizes((categories,) * features)
        self.method = cls(self.space)
        self.logits = torch.randn(batch, self.space.width, requires_grad=True)
        self.weights = torch.randn(self.space.width)
        self.numbers = self.method.cost(self.space).evaluations * self.logits.numel()

    def __call__(self) -> None:
        """Run it; what it adds to `grad` is left there."""
        self.method.expectation(self._f, self.logits).sum().backward()

    def _f(self, rows: Tensor) -> Tensor:
        return rows @ self.weights

    def forget(self) -> None:
        """Free all gradients."""
        for leaf in (self.logits, *self.method.parameters()):
            leaf.grad = None

    def seconds(self) -> float:
        """Time of one call."""
        self.forget()
        began = time.perf_counter()
        self()
        return time.perf_counter() - began

    def memory(self) -> int:
        """Most bytes held at once in one call."""
        self.forget()
        return peak_bytes(self)


# --- cells ----------------------------------------------------------------------------------------


def cells(config: Config) -> list[Cell]:
    """One for each method, with all its sizes."""
    if config.quick:
        config = replace(config, seconds=0.003, numbers=2**16, rounds=4)
    settings = (config.seconds, config.numbers, config.rounds)
    return [Cell(name, (name, *settings)) for name in catalogue()]


def measure(name: str, seconds: float, numbers: int, rounds: int) -> dict[str, Any]:
    """Times and memory along each axis, and the time of `StraightThrough` beside its own."""
    cls = catalogue()[name]
    with isolated_seed(0):
        beside = _beside(cls, reference(name), rounds)
        fixed = () if not cls.facts.binary_only else ("K",)
        axes = {x: _along(cls, sizes(name, x), seconds, numbers) for x in AXES if x not in fixed}
    return {"reference": list(reference(name)), "axes": axes} | beside


def _beside(cls: type[GradientEstimator], size: Size, rounds: int) -> dict[str, list[float]]:
    """Seconds of the method and of `StraightThrough`, in turn."""
    own, other = Call(cls, size), Call(StraightThrough, size)
    own()
    other()
    pairs = [(own.seconds(), other.seconds()) for _ in range(rounds)]
    return {"own": [a for a, _ in pairs], "straight_through": [b for _, b in pairs]}


def _along(
    cls: type[GradientEstimator], along: Iterator[Size], seconds: float, numbers: int
) -> list[dict[str, Any]]:
    """Figures of each size; memory of the largest alone."""
    points: list[dict[str, Any]] = []
    for size in along:
        call = Call(cls, size)
        if call.numbers > numbers:
            break
        call()
        times = [call.seconds() for _ in range(REPEATS)]
        points.append({"size": list(size), "numbers": call.numbers, "seconds": times})
        if median(times) > seconds:
            break
    for point in points[-FITTED:]:
        point["memory"] = Call(cls, tuple(point["size"])).memory()
    return points


# --- tables ---------------------------------------------------------------------------------------


def slope(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Slope of log y in log x by least squares, and half its 95% interval (infinite for 2 points).

    Raises:
        ValueError: for fewer than two points.
    """
    if len(xs) < 2:
        raise ValueError(f"a slope needs two points, got {len(xs)}")
    x, y = (torch.tensor(values, dtype=torch.float64).log() for values in (xs, ys))
    x, y = x - x.mean(), y - y.mean()
    found = (x @ y / (x @ x)).item()
    free = len(xs) - 2
    if not free:
        return found, math.inf
    error = ((y - found * x).square().sum() / free / (x @ x)).sqrt().item()
    return found, _student(free) * error


def _student(free: int) -> float:
    """The 97.5% quantile of Student's t, from an interval of which all else is known."""
    numbers = torch.arange(free + 1, dtype=torch.float64)
    mean, _, high = mean_interval(numbers)
    return (high - mean) / (numbers.std().item() / math.sqrt(free + 1))


def _slopes(cell: Mapping[str, Any], axis: str, kind: str) -> tuple[float, float, float] | None:
    """Slope, half its interval, and the slope of the declared cost at the same sizes."""
    points = cell["axes"].get(axis, [])[-FITTED:]
    if len(points) < 3:
        return None
    xs = [point["size"][AXES.index(axis)] for point in points]
    declared, _ = slope(xs, [point["numbers"] for point in points])
    return *slope(xs, [_figure(point, kind) for point in points]), declared


def _growth(cell: Mapping[str, Any], axis: str, kind: str) -> str:
    found = _slopes(cell, axis, kind)
    return "{:.2f} ± {:.2f} ({:.2f})".format(*found) if found else "-"


def _figure(point: Mapping[str, Any], kind: str) -> float:
    return float(median(point["seconds"]) if kind == "seconds" else point["memory"])


def _ratio(cell: Mapping[str, Any]) -> tuple[float, float, float]:
    """Geometric mean and 95% interval of the time over that of `StraightThrough`."""
    pairs = zip(cell["own"], cell["straight_through"], strict=True)
    mean, low, high = mean_interval([math.log(a / b) for a, b in pairs])
    return math.exp(mean), math.exp(low), math.exp(high)


def tables(results: Results) -> list[Table]:
    """The slowest, the time of all, their memory, and what failed."""
    found = succeeded(results)
    ranked = sorted(found, key=lambda name: -_ratio(found[name])[0])
    slopes = tuple(f"slope in {axis} (declared)" for axis in AXES)
    header = ("gradient estimator", "time / `StraightThrough`", *slopes)
    rows = [_time_row(name, found[name]) for name in ranked]
    memory = [_memory_row(name, found[name]) for name in sorted(found)]
    return [
        Table("Time of one call: the slowest gradient estimators", header, rows[:14], _how()),
        Table("Time of one call", header, rows, _how()),
        Table(
            "Memory of one call",
            ("gradient estimator", "bytes for a number in the rows", *slopes),
            memory,
            "The most bytes held at once in a call, over the numbers in all rows f is given, which "
            f"take 4 bytes each, at the largest batch; a count, the same in every run. {_fitted()}",
        ),
        failures(results),
    ]


def _how() -> str:
    binary, listing = (reference(name) for name in ("Disarm", "Enumerate"))
    return (
        "`StraightThrough` was called in turn with each method, at (F, K, batch) = "
        f"{reference('StraightThrough')}; at {binary} beside binary methods and at {listing} "
        f"beside those that list all rows. {_fitted()}"
    )


def _fitted() -> str:
    return (
        f"Slopes are of log medians of {REPEATS} calls in log size, over the {FITTED} largest "
        "sizes measured, a factor of 1.4 apart (1 apart in F and K where all rows are listed), ± "
        "half the 95% interval of the slope; a slope well above the declared one is a hidden cost, "
        "one below it is overhead that does not grow."
    )


def _time_row(name: str, cell: Mapping[str, Any]) -> list[str]:
    ratio = "{:.2f} [{:.2f}, {:.2f}]".format(*_ratio(cell))
    return [f"`{name}`", ratio, *(_growth(cell, axis, "seconds") for axis in AXES)]


def _memory_row(name: str, cell: Mapping[str, Any]) -> list[str]:
    last = cell["axes"]["batch"][-1:]
    held = f"{last[0]['memory'] / last[0]['numbers']:.1f}" if last else "-"
    return [f"`{name}`", held, *(_growth(cell, axis, "memory") for axis in AXES)]


# --- plot -----------------------------------------------------------------------------------------


def plot(results: Results, path: Path) -> None:
    """Time beside that of `StraightThrough`, and the slopes of time and memory."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    found = succeeded(results)
    names = sorted(found, key=lambda name: _ratio(found[name])[0])
    figure, (first, *others) = plt.subplots(1, 1 + len(AXES), figsize=(15, 8), sharey=True)
    for place, name in enumerate(names):
        mean, low, high = _ratio(found[name])
        first.plot([low, high], [place, place], color=TIME, lw=2.5, alpha=0.5)
        first.plot(mean, place, "o", color=TIME)
        for axes, axis in zip(others, AXES, strict=True):
            _draw(axes, place, found[name], axis)
    first.set(xscale="log", xlabel="time of a call over that of StraightThrough")
    first.set_yticks(range(len(names)), names)
    for axes, axis in zip(others, AXES, strict=True):
        axes.set(xlabel=f"slope in {axis}", xlim=(-0.4, STEEPEST))
    for axes in (first, *others):
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    handles = [
        Line2D([], [], color=TIME, marker="o", label="time, with 95% interval"),
        Line2D([], [], color=MEMORY, marker="s", mfc="none", ls="", label="memory"),
        Line2D([], [], color="0.2", marker="|", ms=12, mew=2, ls="", label="declared cost"),
        Line2D([], [], color="0.2", marker=">", ls="", label=f"beyond {STEEPEST:g}"),
    ]
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(path, dpi=100)
    plt.close(figure)


TIME, MEMORY = "#0072B2", "#D55E00"
STEEPEST = 3.0  # slope in the plot


def _draw(axes: Any, place: int, cell: Mapping[str, Any], axis: str) -> None:
    """Both slopes of one method, and the declared one."""
    time_, memory = (_slopes(cell, axis, kind) for kind in ("seconds", "memory"))
    if time_ is None or memory is None:
        return
    if max(time_[0], memory[0], time_[2]) > STEEPEST:
        axes.plot(STEEPEST, place, ">", color="0.2", clip_on=False)
        return
    middle, half, declared = time_
    axes.plot([middle - half, middle + half], [place, place], color=TIME, lw=2.5, alpha=0.5)
    axes.plot(declared, place, "|", color="0.2", ms=14, mew=2)
    axes.plot(middle, place, "o", color=TIME)
    axes.plot(memory[0], place, "s", color=MEMORY, mfc="none")


BENCHMARK = Benchmark(
    name="hidden_cost",
    title="Time and memory a gradient estimator takes for itself",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)


if __name__ == "__main__":
    run(BENCHMARK, replace(tyro.cli(Config), workers=1))  # or they would slow each other
