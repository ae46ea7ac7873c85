"""The fused embedding over many shapes: a random sweep, growth with each size, a chunked head.

Cells of `benchmarks.layers`, which times six shapes in depth.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Table, peak_bytes
from benchmarks.hidden_cost import slope
from discrete_grad import CategoricalSpace, ReinMax, Relaxation, StraightThrough
from discrete_grad.evaluation import median_interval
from discrete_grad.nn import ChunkedHead, SoftEmbedding

__all__ = ["MEASURED", "tables"]

Call = Callable[[], float]  # runs forward and backward, gives seconds
FUSED: dict[str, type[Relaxation]] = {"StraightThrough": StraightThrough, "ReinMax": ReinMax}
LOOP = "loop"
SWEEP, LARGEST = 50, 4_000_000  # shapes, and numbers in the logits or the embedded row
ROUNDS = 9
LEAST = 6  # rounds that a 95% interval of a median needs
BASE = {"F": 16, "K": 16, "batch": 128}
DOUBLINGS, FITTED = 7, 5


def _timed(step: Callable[[Tensor], Tensor], logits: Tensor, down: Tensor) -> Call:
    def call() -> float:
        began = time.perf_counter()
        torch.autograd.grad(step(logits), logits, down)
        return time.perf_counter() - began

    return call


def _calls(batch: int, sizes: Sequence[int], dim: int, *, loop: bool) -> dict[str, Call]:
    """The fused embedding of each relaxation, and maybe the loop, on the same logits."""
    space = CategoricalSpace.from_sizes(sizes)
    embedding = SoftEmbedding(space, dim).requires_grad_(False)
    logits = torch.randn(batch, space.width, requires_grad=True)
    down = torch.randn(batch, len(sizes), dim)
    found: dict[str, Call] = {}
    for name, cls in FUSED.items():
        relaxation = cls(space)
        found[name] = _timed(partial(embedding.sample, relaxation=relaxation), logits, down)
    if loop:
        tables = embedding.weight.split(list(sizes))

        def step(x: Tensor) -> Tensor:
            parts = zip(x.split(list(sizes), -1), tables, strict=True)
            return torch.stack([F.gumbel_softmax(p, hard=True) @ t for p, t in parts], -2)

        found[LOOP] = _timed(step, logits, down)
    return found


def _race(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in every round, in random order; the first round is not kept."""
    order, shuffled = list(calls), random.Random(0)
    laps: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        shuffled.shuffle(order)
        for name in order:
            laps[name].append(calls[name]())
    return {name: seconds[1:] for name, seconds in laps.items()}


def shapes(count: int) -> list[tuple[int, list[int], int]]:
    """(batch, sizes, dim), log-uniform: half of equal sizes, half ragged; always the same ones.

    Example:
        >>> len(shapes(3))
        3
    """
    drawn = random.Random(0)

    def between(low: int, high: int) -> int:
        return round(math.exp(drawn.uniform(math.log(low), math.log(high))))

    found: list[tuple[int, list[int], int]] = []
    while len(found) < count:
        number, most = between(1, 200), between(2, 2000)
        ragged = len(found) % 2 == 1
        sizes = [between(2, most) if ragged else most for _ in range(number)]
        batch, dim = between(8, 2048), 2 ** drawn.randint(2, 6)
        if batch * max(sum(sizes), number * dim) <= LARGEST:
            found.append((batch, sizes, dim))
    return found


def sweep(quick: bool) -> dict[str, Any]:
    """Ratio to the loop at random shapes."""
    torch.manual_seed(0)
    rows = []
    for batch, sizes, dim in shapes(4 if quick else SWEEP):
        laps = _race(_calls(batch, sizes, dim, loop=True), LEAST if quick else ROUNDS)
        told = f"{len(sizes)} of {min(sizes):,}"
        told += f"-{max(sizes):,}" if len(set(sizes)) > 1 else ""
        ratios = {
            name: median_interval([a / b for a, b in zip(laps[LOOP], laps[name], strict=True)])
            for name in FUSED
        }
        ms = 1e3 * median_interval(laps[LOOP])[0]
        rows.append({"batch": batch, "sizes": told, "dim": dim, "loop_ms": ms, "ratios": ratios})
    return {"shapes": rows}


def growth(quick: bool) -> dict[str, Any]:
    """Seconds along F, K and the batch, the others at their base."""
    torch.manual_seed(0)
    axes: dict[str, list[dict[str, Any]]] = {}
    for axis in BASE:
        axes[axis] = []
        for power in range(3 if quick else DOUBLINGS + 1):
            size = BASE | {axis: BASE[axis] * 2**power}
            calls = _calls(size["batch"], [size["K"]] * size["F"], 16, loop=False)
            laps = _race(calls, LEAST if quick else ROUNDS)
            seconds = {name: median_interval(times)[0] for name, times in laps.items()}
            axes[axis].append({"size": size[axis], "seconds": seconds})
    return {"axes": axes}


def head(quick: bool) -> dict[str, Any]:
    """A linear head into one feature of very many categories, chunked and whole."""
    size, batch, dim = (2_000, 16, 8) if quick else (250_000, 512, 256)
    torch.manual_seed(0)
    space = CategoricalSpace.from_sizes([size])
    hidden = torch.randn(batch, dim, requires_grad=True)
    down = torch.randn(batch, dim)
    found = {}
    for name, cls in FUSED.items():
        chunked = ChunkedHead(dim, SoftEmbedding(space, dim), cls(space)).requires_grad_(False)
        calls = {
            "chunked": _timed(chunked, hidden, down),
            "whole": _timed(_whole(chunked), hidden, down),
        }
        laps = _race(calls, LEAST)
        found[name] = {
            "seconds": {way: median_interval(times) for way, times in laps.items()},
            "ratio": median_interval(
                [a / b for a, b in zip(laps["whole"], laps["chunked"], strict=True)]
            ),
            "memory": {way: peak_bytes(call) for way, call in calls.items()},
        }
    return {"size": [batch, size, dim], "methods": found}


def _whole(chunked: ChunkedHead) -> Callable[[Tensor], Tensor]:
    """The same layer, with all logits at once."""

    def step(hidden: Tensor) -> Tensor:
        row: Tensor = chunked.relaxation(chunked.linear(hidden))
        return row @ chunked.weight

    return step


MEASURED = {"sweep": sweep, "growth": growth, "head": head}


# --- tables ---------------------------------------------------------------------------------------


def tables(cells: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """A table for each of the cells that has results."""
    made = {"sweep": _sweep, "growth": _growth, "head": _head}
    return [make(cells[name]) for name, make in made.items() if name in cells]


def _sweep(cell: Mapping[str, Any]) -> Table:
    ordered = sorted(cell["shapes"], key=lambda row: float(row["ratios"]["StraightThrough"][0]))
    rows = [
        (f"{r['batch']:,}", r["sizes"], str(r["dim"]), f"{r['loop_ms']:.2f}", *map(_three, own))
        for r in ordered
        for own in [[r["ratios"][name] for name in FUSED]]
    ]
    header = ("batch", "features of categories", "dim", "loop, ms")
    note = (
        "The fused embedding against the loop, 2 threads; medians of paired rounds with intervals."
    )
    title = f"Times as fast as the loop at {len(rows)} random shapes, the worst first"
    return Table(title, (*header, *(f"`{name}`" for name in FUSED)), rows, note)


def _growth(cell: Mapping[str, Any]) -> Table:
    rows = []
    for axis, points in cell["axes"].items():
        last = points[-FITTED:]
        xs = [p["size"] for p in last]
        fits = [slope(xs, [p["seconds"][name] for p in last]) for name in FUSED]
        rows.append((axis, f"{xs[0]:,}-{xs[-1]:,}", *(f"{s:.2f} ± {h:.2f}" for s, h in fits)))
    base = ", ".join(f"{k} = {v}" for k, v in BASE.items())
    note = f"Slopes of log medians in log size, with 95% intervals; the others at {base}, dim 16."
    return Table("Growth of time", ("size", "fitted over", *(f"`{n}`" for n in FUSED)), rows, note)


def _head(cell: Mapping[str, Any]) -> Table:
    batch, size, dim = cell["size"]
    rows = []
    for name, found in cell["methods"].items():
        seconds, memory = found["seconds"], found["memory"]
        rows.append(
            (
                *(f"`{name}`", _three(seconds["chunked"]), _three(seconds["whole"])),
                *(_three(found["ratio"]), f"{memory['chunked'] / 2**20:,.1f}"),
                *(f"{memory['whole'] / 2**20:,.0f}", f"{memory['whole'] / memory['chunked']:.0f}"),
            )
        )
    header = ("layer", "chunked, s", "whole, s", "speed ratio", "chunked, MiB", "whole, MiB")
    note = "Forward and backward to the hidden vector; head and embedding frozen. Peak of tensors."
    title = f"A linear head into {size:,} categories, batch {batch:,}, dim {dim:,}"
    return Table(title, (*header, "memory ratio"), rows, note)


def _three(values: Sequence[float]) -> str:
    middle, low, high = (f"{value:.3g}" for value in values)
    return f"{middle} [{low}, {high}]"
