"""Time and memory of our layers with their embedding, against loops over the features.

Measured is logits -> row -> embedding, forward and backward to the logits; the embedding is frozen,
as inside a pretrained estimator. The reference is what one writes without this library: for each
feature `F.gumbel_softmax(logits_i, hard=True) @ W_i`. All candidates of a cell run in one process,
in rounds that time each of them once in random order, and ratios are formed within a round.

    python -m benchmarks.layers             # on the CPU, and on CUDA where there is one
    python -m benchmarks.layers --quick     # a smoke test of the script
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from benchmarks import harness, layers_growth
from benchmarks.harness import Benchmark, Cell, Results, Table, run, succeeded
from discrete_grad import (
    CategoricalSpace,
    Entmax,
    GumbelSoftmax,
    ReinMax,
    Relaxation,
    StraightThrough,
)
from discrete_grad.evaluation import median_interval
from discrete_grad.gradient import catalogue
from discrete_grad.nn import SoftEmbedding

Row = Callable[[Tensor], Tensor]  # logits (..., K) -> row (..., K)
Step = Callable[[Tensor], Tensor]  # logits (B, D) -> embedded rows (B, F, dim)
Candidate = Step | Exception
Make = Callable[[SoftEmbedding], Step]


@dataclass(frozen=True)
class Config(harness.Config):
    """Time and memory of logits -> row -> embedding."""

    workers: int = 1
    """Always 1, whatever is given: cells are timed, one after the other."""
    rounds: int = 31
    """Each times every candidate once."""
    seconds: float = 1.0
    """A candidate that has taken so long rests, but not before 11 rounds (6 if very slow)."""
    compile_limit: float = 60.0
    """Seconds one compilation may take."""
    compile_total: float = 75.0
    """Seconds of compiling in a cell after which no other candidate is compiled."""


@dataclass(frozen=True)
class Shape:
    """A batch of logits and the embeddings behind it."""

    batch: int
    sizes: tuple[int, ...]
    dim: int
    summed: bool = False
    """Whether the gradient that comes is that of a sum: one number, expanded."""


SHAPES = {
    "8 x 32": Shape(256, (32,) * 8, 16),
    "24 of 3-1,000": Shape(256, tuple(round(3 * (1000 / 3) ** (i / 23)) for i in range(24)), 16),
    "100 x 4": Shape(1024, (4,) * 100, 16),
    # neighbours differ in size, as the columns of real tables do
    "90 of 2-10": Shape(256, tuple(2 + 7 * i % 9 for i in range(90)), 8),
    "256 x 32": Shape(256, (32,) * 256, 16),
    "256 x 32, summed": Shape(256, (32,) * 256, 16, summed=True),
    "1 x 50,000": Shape(64, (50_000,), 64),
}
QUICK = {"8 x 32": Shape(32, (32,) * 8, 16), "90 of 2-10": Shape(16, SHAPES["90 of 2-10"].sizes, 8)}
THREADS = (2, 1)
LEAST, LEAST_SLOW, SLOW = 11, 6, 4.0
FILL = -1e4  # the logit of padding: a probability of exactly 0, and finite for every peer


# --- candidates -----------------------------------------------------------------------------------


def layer(cls: type[Relaxation], **options: Any) -> Make:
    """A relaxation with the embedding behind it."""
    return lambda embedding: nn.Sequential(cls(embedding.space, **options), embedding)


def fused(cls: type[Relaxation], **options: Any) -> Make:
    """A relaxation and the embedding behind it at once."""

    def make(embedding: SoftEmbedding) -> Step:
        relaxation = cls(embedding.space, **options)
        return lambda logits: embedding.sample(logits, relaxation, kernels=logits.is_cuda)

    return make


# a new layer, or a way to compute layer and embedding at once, is one line here
OURS: dict[str, Make] = {
    **{f"{c.__name__}, fused": fused(c) for c in (StraightThrough, ReinMax, GumbelSoftmax)},
    **{n: layer(c) for n, c in catalogue().items() if issubclass(c, Relaxation)},
    "Entmax(alpha=2)": layer(Entmax, alpha=2.0),
    "GumbelSoftmax(hard=False)": layer(GumbelSoftmax, hard=False),
}


def gumbel_hard(logits: Tensor) -> Tensor:
    """The hard row of torch's function."""
    return F.gumbel_softmax(logits, hard=True)


def softmax(logits: Tensor) -> Tensor:
    """The soft row of torch's function."""
    return logits.softmax(-1)


def one_hot(logits: Tensor) -> Tensor:
    """The row of torch's distribution."""
    row: Tensor = torch.distributions.OneHotCategoricalStraightThrough(logits=logits).rsample()
    return row


def _reinmax() -> Row:
    function = importlib.import_module("reinmax").reinmax
    return lambda logits: function(logits, 1.0)[0]


def _entmax(name: str) -> Callable[[], Row]:
    return lambda: getattr(importlib.import_module("entmax"), name)


PEERS: dict[str, Callable[[], Row]] = {
    "F.gumbel_softmax": lambda: gumbel_hard,
    "F.softmax": lambda: softmax,
    "OneHotCategoricalStraightThrough": lambda: one_hot,
    "reinmax.reinmax": _reinmax,
    "entmax.entmax15": _entmax("entmax15"),
    "entmax.sparsemax": _entmax("sparsemax"),
}
SAME = {  # without noise: a peer's values are those of our layer
    "F.softmax": "Softmax",
    "entmax.entmax15": "Entmax",
    "entmax.sparsemax": "Entmax(alpha=2)",
}
LOOP, BATCHED = ", loop", ", batched"
REFERENCE = f"F.gumbel_softmax{LOOP}"
COMPILED = ("GumbelSoftmax", REFERENCE, "StraightThrough", "ReinMax", "Softmax")
SHOWN = (
    *(f"{name}, fused" for name in ("StraightThrough", "ReinMax", "GumbelSoftmax")),
    *("Softmax", "DeterministicStraightThrough", "StraightThrough", "GumbelSoftmax", "ReinMax"),
    *("GappedStraightThrough", "Entmax", "Entmax(alpha=2)", *PEERS),
)


def looped(row: Row, embedding: SoftEmbedding) -> Step:
    """One call a feature."""
    sizes = list(embedding.space.sizes)
    tables = embedding.weight.split(sizes)

    def step(logits: Tensor) -> Tensor:
        parts = zip(logits.split(sizes, -1), tables, strict=True)
        return torch.stack([row(part) @ table for part, table in parts], -2)

    return step


def batched(row: Row, embedding: SoftEmbedding) -> Step | None:
    """One call for all features, padded to the largest size; None if most would be padding."""
    sizes = torch.tensor(embedding.space.sizes)
    shape = (len(sizes), int(sizes.max()))
    width, device = embedding.space.width, embedding.weight.device
    if shape[0] * shape[1] > 2 * width:
        return None
    index = torch.full(shape, width)
    index[torch.arange(shape[1]) < sizes.unsqueeze(-1)] = torch.arange(width)
    flat = index.flatten().to(device)
    tables = F.pad(embedding.weight, (0, 0, 0, 1))[flat].unflatten(0, shape)
    equal = shape[0] * shape[1] == width

    def step(logits: Tensor) -> Tensor:
        wide = logits if equal else F.pad(logits, (0, 1), value=FILL).index_select(-1, flat)
        return torch.einsum("bfk,fkd->bfd", row(wide.unflatten(-1, shape)), tables)

    return step


def candidates(embedding: SoftEmbedding) -> dict[str, Candidate]:
    """Steps by name, or why one cannot be made; the reference first."""
    found: dict[str, Candidate] = {}
    for name, load in PEERS.items():
        try:
            row = load()
        except ImportError as error:
            found[name] = error
            continue
        found[name + LOOP] = looped(row, embedding)
        whole = batched(row, embedding)
        if whole is not None:
            found[name + BATCHED] = whole
    return found | {name: make(embedding) for name, make in OURS.items()}


# --- measuring ------------------------------------------------------------------------------------


class Stopwatch:
    """Marks in time, by the clock or by CUDA's events."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.marks: list[Any] = []

    def mark(self) -> None:
        """Remember now."""
        if self.cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def laps(self) -> list[float]:
        """Seconds between the marks."""
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        if not self.cuda:
            return [after - before for before, after in pairs]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in pairs]


@dataclass(frozen=True)
class Probe:
    """Runs a step forward and backward, always on the same logits."""

    logits: Tensor
    cotangent: Tensor

    def __call__(self, step: Step) -> list[float]:
        """Seconds forward and backward."""
        watch = Stopwatch(self.logits.device)
        watch.mark()
        embedded = step(self.logits)
        watch.mark()
        torch.autograd.grad(embedded, self.logits, self.cotangent)
        watch.mark()
        return watch.laps()

    def check(self, step: Step, expected: Step | None) -> None:
        """Raise unless a step gives what it should: the shape, and values where they are known."""
        embedded = step(self.logits)
        if embedded.shape != self.cotangent.shape:
            raise ValueError(f"{tuple(embedded.shape)}, not {tuple(self.cotangent.shape)}")
        if expected is not None:
            torch.testing.assert_close(embedded, expected(self.logits), atol=1e-4, rtol=1e-4)


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """The most that tensors of one call take at once, above what was allocated before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    return harness.peak_bytes(call)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the compiler prints on its own."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def check_peak(device: torch.device) -> None:
    """Raise unless the peak of a known case is exact: 2 MiB live while 1 MiB of 3 is freed."""

    def known() -> None:
        first = torch.empty(2**18, device=device)
        second = torch.empty(2**18, device=device)
        del first
        third = torch.empty(2**17, device=device)
        del second, third

    found = peak_bytes(known, device)
    if found != 2**21:
        raise ValueError(f"the peak of 2,097,152 bytes was measured as {found:,}")


def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written a second by a plain copy of 128 MiB."""
    source = torch.zeros(2**25, device=device)
    target = torch.zeros_like(source)
    seconds = []
    for _ in range(7):
        watch = Stopwatch(device)
        watch.mark()
        target.copy_(source)
        watch.mark()
        seconds.append(watch.laps()[0])
    return 2 * source.numel() * source.element_size() / median_interval(seconds)[0]


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside the block when the time is over."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def compiled(step: Step) -> Step:
    """The step by torch's compiler: whole, for this shape, for any number of threads."""
    settings: dict[str, Any] = {
        "fullgraph": True,
        "dynamic": False,
        "isolate_recompiles": True,
        "options": {"cpp.dynamic_threads": True, "compile_threads": 1},
    }
    found: Step = torch.compile(step, **settings)
    return found


def all_compiled(
    made: Mapping[str, Candidate], probe: Probe, config: Config
) -> tuple[dict[str, Candidate], dict[str, float]]:
    """The reference as it is, compiled steps, and the seconds each took to compile."""
    probe(compiled(lambda logits: probe.cotangent + logits.sum()))  # what is loaded only once
    found, seconds = {REFERENCE: made[REFERENCE]}, dict[str, float]()
    for name in COMPILED[: 1 if config.quick else None]:
        step, key, began = made[name], f"{name}, compiled", time.perf_counter()
        left = config.compile_total - sum(seconds.values())
        try:
            if isinstance(step, Exception) or left < 1:
                raise TimeoutError(f"not tried: {config.compile_total:g} s went to others")
            found[key] = whole = compiled(step)
            with _quiet(), deadline(min(left, config.compile_limit)):
                probe(whole)
        except Exception as error:  # a candidate's failure is a row
            found[key] = error
        seconds[key] = time.perf_counter() - began
    return found, seconds


def race(steps: Mapping[str, Step], probe: Probe, config: Config) -> dict[str, dict[int, Any]]:
    """Seconds forward and backward of every candidate in every round it took part in."""
    laps: dict[str, dict[int, Any]] = {name: {} for name in steps}
    spent = dict.fromkeys(steps, 0.0)
    shuffled = random.Random(0)
    for turn in range(LEAST_SLOW if config.quick else config.rounds):
        due = [name for name in steps if _due(turn, spent[name] / config.seconds)]
        due += [REFERENCE] if due and REFERENCE not in due else []
        shuffled.shuffle(due)
        for name in due:
            laps[name][turn] = probe(steps[name])
            spent[name] += sum(laps[name][turn])
    return laps


def _due(turn: int, spent: float) -> bool:
    return spent < 1 or turn < (LEAST if spent < SLOW else LEAST_SLOW)


def summary(laps: Mapping[int, Any], reference: Mapping[int, Any], moved: float) -> dict[str, Any]:
    """Medians with their intervals, the ratio to the reference being that of the same round."""
    seconds = {turn: sum(parts) for turn, parts in laps.items()}
    return {
        "rounds": len(laps),
        "seconds": median_interval(list(seconds.values())),
        "forward": median_interval([parts[0] for parts in laps.values()]),
        "ratio": median_interval([sum(reference[turn]) / s for turn, s in seconds.items()]),
        "share": moved / median_interval(list(seconds.values()))[0],
    }


def measure(config: Config, name: str, place: str, mode: str) -> dict[str, Any]:
    """Memory of every candidate, then times at every number of threads."""
    if name in layers_growth.MEASURED:
        torch.set_num_threads(THREADS[0])
        return layers_growth.MEASURED[name](config.quick)
    shape = (QUICK if config.quick else SHAPES)[name]
    torch.manual_seed(0)
    space, device = CategoricalSpace.from_sizes(shape.sizes), torch.device(place)
    embedding = SoftEmbedding(space, shape.dim).to(device).requires_grad_(False)
    logits = torch.randn(shape.batch, space.width, device=device, requires_grad=True)
    cotangent = torch.randn(shape.batch, space.num_features, shape.dim, device=device)
    if shape.summed:
        cotangent = cotangent[:1, :1, :1].expand_as(cotangent)
    probe = Probe(logits, cotangent)
    threads = THREADS if place == "cpu" else (torch.get_num_threads(),)
    torch.set_num_threads(threads[0])
    check_peak(device)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # or earlier runs would shorten compiling
        made, seconds = candidates(embedding), dict[str, float]()
        if mode == "compiled":
            made, seconds = all_compiled(made, probe, config)
        steps, figures = ready(made, probe)
        for key, value in seconds.items():
            figures[key]["compile"] = value
        # what any way must move: logits twice, their gradient, the embedding and its cotangent
        moved = (3 * logits.numel() + 2 * cotangent.numel()) * logits.element_size()
        bandwidth = {}
        for count in threads:
            torch.set_num_threads(count)
            bandwidth[str(count)] = copy_bandwidth(device)
            laps = race(steps, probe, config)
            for key in steps:
                times = summary(laps[key], laps[REFERENCE], moved / bandwidth[str(count)])
                figures[key].setdefault("threads", {})[str(count)] = times
    returned = (logits.numel() + cotangent.numel()) * logits.element_size()
    return {"candidates": figures, "bandwidth": bandwidth, "returned": returned}


def ready(
    made: Mapping[str, Candidate], probe: Probe
) -> tuple[dict[str, Step], dict[str, dict[str, Any]]]:
    """The steps that run and are right, and each one's memory or why it failed."""
    steps, figures = dict[str, Step](), dict[str, dict[str, Any]]()
    for name, step in made.items():
        try:
            if isinstance(step, Exception):
                raise step
            same = made.get(SAME.get(name.split(",")[0], ""))
            probe.check(step, None if isinstance(same, Exception) else same)
            probe(step)
            peak = peak_bytes(partial(probe, step), probe.logits.device)
            steps[name], figures[name] = step, {"memory": peak}
        except Exception as error:  # a candidate's failure is a row
            told = " ".join(f"{type(error).__name__}: {error}".split())
            figures[name] = {"failed": told[:200]}
    return steps, figures


# --- tables and plot ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One candidate at one shape, place, mode and number of threads."""

    shape: str
    setting: tuple[str, str, str]
    name: str
    found: Mapping[str, Any]
    memory_ratio: float
    beyond: float
    """Memory beyond what any way returns, over that of the reference."""

    @property
    def speed(self) -> str:
        """Ratio to the reference with its interval."""
        return _three(self.found["ratio"])


MAIN = ("cpu", "eager", "2")


def entries(results: Results) -> list[Entry]:
    """Every candidate that has figures."""
    found = []
    for key, cell in succeeded(results).items():
        shape, place, mode = key.split("/")
        if shape in layers_growth.MEASURED:
            continue
        reference = cell["candidates"].get(REFERENCE, {}).get("memory", 0)
        for name, figures in cell["candidates"].items():
            for threads, times in figures.get("threads", {}).items():
                both = {k: v for k, v in figures.items() if k != "threads"} | times
                ratio = reference / max(figures["memory"], 1)
                beyond = (figures["memory"] - cell["returned"]) / (reference - cell["returned"])
                found.append(Entry(shape, (place, mode, threads), name, both, ratio, beyond))
    return found


def best(found: Sequence[Entry]) -> dict[tuple[str, str], Entry]:
    """The main setting by shape and name; of a peer's two forms the faster."""
    chosen: dict[tuple[str, str], Entry] = {}
    for entry in found:
        name = entry.name.removesuffix(LOOP).removesuffix(BATCHED)
        before = chosen.get((entry.shape, name))
        if entry.setting == MAIN and (
            not before or entry.found["seconds"][0] < before.found["seconds"][0]
        ):
            chosen[entry.shape, name] = entry
    return chosen


def _three(values: Sequence[float], factor: float = 1) -> str:
    middle, low, high = (f"{_round(value * factor)}" for value in values)
    return f"{middle} [{low}, {high}]"


def _round(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


def _first(results: Results) -> Table:
    chosen = best(entries(results))
    shapes = [shape for shape in SHAPES if any(s == shape for s, _ in chosen)]
    rows = []
    for name in SHOWN:
        row = [chosen.get((shape, name)) for shape in shapes]
        texts = [f"{e.speed}; {_round(e.memory_ratio)}" if e else "-" for e in row]
        rows.append([f"`{name}`", *texts])
    title = f"Times as fast as a loop of `{REFERENCE.removesuffix(LOOP)}`; times as little memory"
    return Table(title, ("features x categories", *shapes), rows, NOTE)


def _memory(results: Results) -> Table:
    chosen = best(entries(results))
    shapes = [shape for shape in SHAPES if any(s == shape for s, _ in chosen)]
    rows = []
    for name in SHOWN[: -len(PEERS)]:
        row = [chosen.get((shape, name)) for shape in shapes]
        rows.append([f"`{name}`", *(f"{e.beyond:.2f}" if e else "-" for e in row)])
    note = (
        "Peak memory beyond the embedded row and the gradient in the logits, which any way has to "
        "return, as a share of what the loop takes beyond them: below 1 is better."
    )
    return Table("Memory beyond what is returned", ("layer", *shapes), rows, note)


def _all(results: Results) -> Table:
    rows = []
    for e in sorted(entries(results), key=lambda e: (list(SHAPES).index(e.shape), e.setting)):
        f = e.found
        rows.append(
            (
                *(e.shape, ", ".join(e.setting), f"`{e.name}`"),
                *(_three(f["seconds"], 1e3), _three(f["forward"], 1e3), e.speed),
                *(_round(f["memory"] / 2**20), _round(e.memory_ratio)),
                *(f"{f['share']:.1%}", _round(f["compile"]) if "compile" in f else ""),
                str(f["rounds"]),
            )
        )
    return Table("All candidates", ALL_HEADER, rows, ALL_NOTE)


def _failures(results: Results) -> Table:
    rows = [[f"`{k}`", c["failed"]] for k, c in results["cells"].items() if "failed" in c]
    for key, cell in succeeded(results).items():
        every = cell.get("candidates", {})
        failed = [(n, f["failed"]) for n, f in every.items() if "failed" in f]
        rows += [[f"`{key}`: `{name}`", why] for name, why in failed]
    return Table("Failures", ("cell", "what happened"), rows or [["none", ""]])


NOTE = (
    "Each cell has the speed-up and, after the semicolon, the memory saving, both against a loop "
    "of `F.gumbel_softmax` over the features: 2 is twice as fast, or half the memory. Median over "
    "rounds with its 95% interval; forward and backward, eager, 2 threads of the CPU, cells one at "
    "a time. Memory is the peak of tensors, which is counted and has no interval. The last six "
    "lines are peers on the same logits, with one draw per row like ours. For them the faster of "
    "two ways is shown: a loop over the features, or one batched call (on a view for equal sizes; "
    "padded where that at most doubles the width). Gradient estimators that are not layers have no "
    "row to embed, and are left out."
)
ALL_HEADER = (
    *("shape", "device, mode, threads", "layer", "forward + backward, ms", "forward, ms"),
    *("speed ratio", "memory, MiB", "memory ratio", "share of copy bandwidth", "compiling, s"),
    "rounds",
)
ALL_NOTE = (
    "Medians with 95% intervals; ratios are to the eager loop of `F.gumbel_softmax` in the same "
    "round, above 1 being better. Share of copy bandwidth: bytes that any way must move (logits "
    "twice, gradient, embedding and its cotangent) over time, relative to a plain copy in the same "
    "process. Compiled steps are whole graphs, made once for both numbers of threads; one may take "
    "60 s and all of a cell 75 s (the defaults), in the order GumbelSoftmax, loop, others."
)


def tables(results: Results) -> list[Table]:
    """Ratios at the main setting, everything, failures."""
    cells = {key.split("/")[0]: cell for key, cell in succeeded(results).items()}
    return [
        _first(results),
        _memory(results),
        *layers_growth.tables(cells),
        _all(results),
        _failures(results),
    ]


def plot(results: Results, path: Path) -> None:
    """A panel a shape: speed and memory ratio of every layer, 1 being the loop."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator

    chosen = best(entries(results))
    names = [*reversed(PEERS), *reversed(OURS)]
    figure, panels = plt.subplots(2, 3, figsize=(13, 11), sharey=True)
    shapes = QUICK if results["settings"]["quick"] else SHAPES
    for axes in panels.flat[len(shapes) :]:
        axes.set_visible(False)
    for axes, (shape, case) in zip(panels.flat, shapes.items(), strict=False):
        here = [(i, chosen[shape, n]) for i, n in enumerate(names) if (shape, n) in chosen]
        for place, entry in here:
            middle, low, high = entry.found["ratio"]
            axes.plot([low, high], [place, place], color="#0072B2", lw=2.5, alpha=0.5)
            axes.plot(middle, place, "o", color="#0072B2", ms=6)
            axes.plot(entry.memory_ratio, place, "s", color="#D55E00", ms=6, mfc="none", mew=1.5)
        axes.axvline(1, color="0.4", lw=1)
        axes.axhline(len(PEERS) - 0.5, color="0.7", lw=0.8, ls=":")
        axes.set(xscale="log", title=f"{shape}, batch {case.batch:,}")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="x", which="both", color="0.93")
        axes.set_axisbelow(True)
        axes.set_xlabel("times as good as the loop")
    speed = Line2D([], [], color="#0072B2", marker="o", label="speed, with 95% interval")
    memory = Line2D([], [], color="#D55E00", marker="s", mfc="none", ls="", label="peak memory")
    figure.legend(handles=[speed, memory], loc="upper center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def cells(config: Config) -> list[Cell]:
    """One a shape, device and mode; each times all numbers of threads."""
    places = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    names = QUICK if config.quick else SHAPES
    keys = [(n, p, m) for n in names for p in places for m in ("eager", "compiled")]
    if config.quick:
        keys = [key for key in keys if key[0] == next(iter(QUICK)) or key[2] == "eager"]
    keys += [(n, "cpu", "eager") for n in layers_growth.MEASURED]
    return [Cell("/".join(key), (config, *key)) for key in keys]


BENCHMARK = Benchmark(
    name="layers",
    title="Time and memory of layers with their embedding",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
    threads=2,
)

if __name__ == "__main__":
    run(BENCHMARK, replace(tyro.cli(Config), workers=1))
