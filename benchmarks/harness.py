"""Cells in processes of their own, resumable results and tables, shared by all benchmarks.

A benchmark is a list of cells, each a key and the arguments of one function that returns figures.
A cell that raises, runs out of memory or time, or gives a figure that is not finite is a row of
the results that says so.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from itertools import accumulate
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from discrete_grad.atomic import open_atomic
from discrete_grad.evaluation import mean_interval
from discrete_grad.reporting import environment

RESULTS = Path(__file__).parent / "results"
PEERS = (
    "botorch",
    "discrete_grad",
    "entmax",
    "ledidi",
    "pymoo",
    "rdkit",
    "reinmax",
    "scikit-learn",
    "selfies",
    "stable-baselines3",
    "tabm",
    "torchrl",
    "xgboost-cpu",
)
MEMORY = 8 * 2**30  # bytes a cell may take; so many cells at once fit on a common machine
SAVE_EVERY = 2.0  # seconds
# options that do not change a cell's figures
VOLATILE = (
    "only",
    "out",
    "workers",
    "timeout",
    "seeds",
    "learned_seeds",
    "datasets",
    "batches",
    "methods",
    "switches",
)

Results = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Options of every benchmark; each adds its own."""

    out: Path | None = None
    """The JSON; the plot lies beside it. By default results/NAME.json, results/quick/ if quick."""
    workers: int = os.cpu_count() or 1
    """Processes, one thread each."""
    timeout: float = 900.0
    """Seconds after which a cell is stopped and counted as failed."""
    quick: bool = False
    """A smoke test of the script in under a minute, not a measurement."""


@dataclass(frozen=True)
class Cell:
    """One unit of work: a unique key such as `ReinMax/p=2/seed=0`, and what is measured there."""

    key: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """Figures as text, for Markdown and HTML. An entry may hold `code` in backticks."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table without its title."""
        lines = [list(self.header), ["---"] * len(self.header), *self.rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{text}\n\n{self.note}" if self.note else text

    def part(self, columns: Sequence[str], row: str | None = None) -> Table:
        """The table with its first column and those named, and the rows that have a cell `row`.

        Raises:
            ValueError: for a column that the table does not have.
        """
        places = [0, *(list(self.header).index(column) for column in columns)]
        kept = [line for line in self.rows if row is None or row in line]
        header, *rows = ([line[i] for i in places] for line in (self.header, *kept))
        return replace(self, header=header, rows=rows)

    def html(self) -> str:
        """A section with heading, table and note."""
        head = "".join(f"<th>{_inline(cell)}</th>" for cell in self.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        note = f"<p>{_inline(self.note)}</p>" if self.note else ""
        return (
            f"<h3>{_inline(self.title)}</h3><div class='wide'><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>{note}"
        )


def _inline(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark: what is measured, and how its results are shown.

    Args:
        name: of the module and of its results.
        title: one line.
        cells: from the config.
        measure: a module-level function of a cell's arguments; returns figures: numbers, texts,
            lists and dictionaries of them.
        tables: from the results, the leading one first, which the Markdown files show.
        plot: draws the results into a PNG.
        threads: of torch in a cell.
        preload: modules that every cell needs and that take long to import.
        pictures: names of further PNGs that `plot` leaves beside its own.
    """

    name: str
    title: str
    cells: Callable[[Any], Sequence[Cell]]
    measure: Callable[..., Mapping[str, Any]]
    tables: Callable[[Results], Sequence[Table]]
    plot: Callable[[Results, Path], None]
    threads: int = 1
    preload: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()


def run(benchmark: Benchmark, config: Config) -> Results:
    """Measure the cells that are missing, then write results and plot, and print the first table.

    Results lie on disk every few seconds, so that an interrupted run goes on where it stopped.

    Returns:
        All results.

    Raises:
        SystemExit: where the file holds results of other settings.
    """
    folder = RESULTS / "quick" if config.quick else RESULTS
    path = config.out or folder / f"{benchmark.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = _begin(benchmark, config, path)
    todo = [cell for cell in benchmark.cells(config) if cell.key not in results["cells"]]
    saved, began = time.monotonic(), time.monotonic()
    spent = results["seconds"]
    try:
        with tqdm(total=len(todo), desc=benchmark.name, disable=None) as bar:
            for key, figures in _measured(benchmark, config, todo):
                results["cells"][key] = figures
                results["seconds"] = round(spent + time.monotonic() - began, 1)
                bar.update()
                if time.monotonic() - saved > SAVE_EVERY:
                    _save(results, path)
                    saved = time.monotonic()
    finally:
        _save(results, path)
    benchmark.plot(results, path.with_suffix(".png"))
    first = benchmark.tables(results)[0]
    print(f"{first.title}\n\n{first.markdown()}\n\nresults in {path}")
    return results


def _begin(benchmark: Benchmark, config: Config, path: Path) -> Results:
    settings = {k: v for k, v in asdict(config).items() if k not in VOLATILE}
    settings = json.loads(json.dumps(settings, default=str))
    results: Results = {
        "benchmark": benchmark.name,
        "settings": settings,
        "environment": environment() | _versions(),
        "seconds": 0.0,
        "cells": {},
    }
    if path.exists() and not config.quick:
        earlier: Results = json.loads(path.read_text(encoding="utf-8"))
        if earlier.get("settings") != settings:
            sys.exit(
                f"{path} holds results of other settings: {earlier.get('settings')}, not "
                f"{settings}. Remove it, or give another --out."
            )
        results |= {"cells": earlier["cells"], "seconds": earlier["seconds"]}
    return results


def _versions() -> dict[str, str]:
    found = {}
    for package in PEERS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _save(results: Results, path: Path) -> None:
    lines = [
        f"{json.dumps(key)}: {json.dumps(cell, allow_nan=False)}"
        for key, cell in sorted(results["cells"].items())
    ]
    about = json.dumps({k: v for k, v in results.items() if k != "cells"}, indent=1)
    text = ",\n".join(lines)
    with open_atomic(path) as file:
        file.write(f'{about[:-2]},\n "cells": {{\n{text}\n}}}}\n'.encode())


# --- one process a cell ---------------------------------------------------------------------------


@dataclass
class _Job:
    cell: Cell
    process: BaseProcess
    receiver: Connection
    began: float = field(default_factory=time.monotonic)


def _measured(
    benchmark: Benchmark, config: Config, cells: Sequence[Cell]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Figures of each cell as it ends, `workers` at a time."""
    context = multiprocessing.get_context("forkserver")
    # torch.optim imports torch._dynamo at its first use, a second of work for every cell
    common = ("discrete_grad", "tyro", "torch._dynamo", "benchmarks.harness")
    context.set_forkserver_preload([*common, *benchmark.preload])
    waiting, jobs = list(reversed(cells)), dict[Connection, _Job]()
    try:
        while waiting or jobs:
            while waiting and len(jobs) < config.workers:
                cell = waiting.pop()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=_work, args=(sender, benchmark.measure, cell, benchmark.threads)
                )
                process.start()
                sender.close()  # so that its end is seen here when the process dies
                jobs[receiver] = _Job(cell, process, receiver)
            ready = set(wait(list(jobs), timeout=0.2))
            for receiver, job in list(jobs.items()):
                late = time.monotonic() - job.began > config.timeout
                if receiver in ready or late:
                    del jobs[receiver]
                    yield job.cell.key, _result(job, receiver in ready, config.timeout)
    finally:
        for job in jobs.values():
            job.process.kill()


def _work(
    sender: Connection, measure: Callable[..., Mapping[str, Any]], cell: Cell, threads: int
) -> None:
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():  # whose driver reserves more than any limit
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    began = time.perf_counter()
    try:
        figures = dict(measure(*cell.arguments))
        bad = next(_not_finite(figures), None)
        figures = {"failed": f"{bad} is not finite"} if bad else figures
    except Exception as error:  # a method's failure is a row
        text = str(error).strip().splitlines()
        figures = {"failed": f"{type(error).__name__}: {text[0][:200] if text else ''}"}
    sender.send(figures | {"seconds": round(time.perf_counter() - began, 3)})


def _not_finite(figures: Any, name: str = "") -> Iterator[str]:
    if isinstance(figures, float) and not math.isfinite(figures):
        yield name
    inner: Sequence[tuple[Any, Any]] = ()
    if isinstance(figures, dict):
        inner = list(figures.items())
    if isinstance(figures, list | tuple):
        inner = list(enumerate(figures))
    for key, value in inner:
        yield from _not_finite(value, f"{name}.{key}" if name else str(key))


def _result(job: _Job, ready: bool, timeout: float) -> dict[str, Any]:
    try:
        if ready:
            figures: dict[str, Any] = job.receiver.recv()
            return figures
        job.process.kill()
        return {"failed": f"no result within {timeout:g} s"}
    except EOFError:
        job.process.join()
        code = job.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return {"failed": f"the process ended by {name}"}
    finally:
        job.receiver.close()
        job.process.join()


# --- memory ---------------------------------------------------------------------------------------


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes that the tensors of a call on the CPU hold at once, above what was there.

    From what torch's allocator gives out and takes back, so that temporary tensors inside
    operations count.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it prints otherwise
    # torch.profiler's own would import a compiler, a second in each process
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"])
    return int(max(accumulate((e["args"]["Bytes"] for e in changes), initial=0)))


def reset_peak_resident() -> int:
    """Bytes of memory that the process holds; `peak_resident` counts from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def peak_resident() -> int:
    """The most bytes of memory that the process has held since `reset_peak_resident`.

    For methods whose memory torch does not give out.
    """
    return _resident("VmHWM")


def _resident(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in status if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


# --- figures as text ------------------------------------------------------------------------------


def succeeded(results: Results) -> dict[str, dict[str, Any]]:
    """The cells that have figures."""
    return {key: cell for key, cell in results["cells"].items() if "failed" not in cell}


def failures(results: Results) -> Table:
    """The cells that failed, with why."""
    rows = [(f"`{k}`", c["failed"]) for k, c in results["cells"].items() if "failed" in c]
    return Table("Failures", ("cell", "what happened"), rows or [("none", "")])


def interval(values: Sequence[float], digits: int = 3) -> str:
    """Mean and 95% interval by Student's t over seeds, as `0.123 [0.120, 0.126]`."""
    mean, low, high = mean_interval(values)
    if not math.isfinite(low):
        return f"{mean:.{digits}g}"
    return f"{mean:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"
