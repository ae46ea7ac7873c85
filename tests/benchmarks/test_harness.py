"""The harness: failures are rows, an interrupted run goes on, other settings are refused."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness import Benchmark, Cell, Config, Table, failures, interval, run, succeeded


@dataclass(frozen=True)
class Small(Config):
    size: int = 1


def measure(what: str) -> dict[str, Any]:
    match what:
        case "raises":
            raise ValueError("no such thing\nsecond line")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leaves":
            os._exit(3)
        case "nan":
            return {"loss": [1.0, float("nan")]}
        case "memory":
            torch.ones(2**31, dtype=torch.float64)
        case "slow":
            time.sleep(60)
    return {"value": 1.5, "threads": torch.get_num_threads()}


WORKS = [f"works {i}" for i in range(3)]
FAILS = ["raises", "killed", "leaves", "nan", "memory", "slow"]


def cells(config: Small) -> list[Cell]:
    return [Cell(what, (what,)) for what in [*FAILS, *WORKS]]


def plot(results: dict[str, Any], path: Path) -> None:
    path.write_text("plot")


BENCHMARK = Benchmark(
    name="small",
    title="Small",
    cells=cells,
    measure=measure,
    tables=lambda results: [failures(results)],
    plot=plot,
)


@pytest.mark.slow
def test_a_failure_is_a_row_and_the_others_have_figures(tmp_path: Path) -> None:
    out = tmp_path / "small.json"
    run(BENCHMARK, Small(out=out, timeout=5, workers=2))
    results = json.loads(out.read_text())
    told = {key: results["cells"][key]["failed"] for key in FAILS}
    assert told["raises"] == "ValueError: no such thing"
    assert told["killed"] == "the process ended by SIGKILL"
    assert told["leaves"] == "the process ended by exit code 3"
    assert told["nan"] == "loss.1 is not finite"
    assert "can't allocate memory" in told["memory"]
    assert told["slow"] == "no result within 5 s"
    assert sorted(succeeded(results)) == WORKS
    assert results["cells"]["works 0"]["threads"] == 1
    assert out.with_suffix(".png").read_text() == "plot"
    assert {"date", "command", "machine", "torch", "reinmax"} <= set(results["environment"])


def test_cells_that_are_there_are_not_measured_again(tmp_path: Path) -> None:
    out = tmp_path / "small.json"
    earlier = {"settings": {"quick": False, "size": 1}, "seconds": 7.0}
    kept = {what: {"value": 9.0} for what in [*FAILS, *WORKS[:2]]}
    out.write_text(json.dumps(earlier | {"cells": kept}))
    run(BENCHMARK, Small(out=out))
    results = json.loads(out.read_text())
    assert results["cells"]["raises"] == {"value": 9.0}
    assert results["cells"]["works 2"]["value"] == 1.5
    assert results["seconds"] >= 7


def test_results_of_other_settings_are_refused_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "small.json"
    text = json.dumps({"settings": {"quick": False, "size": 2}, "seconds": 1.0, "cells": {}})
    out.write_text(text)
    with pytest.raises(SystemExit, match="other settings"):
        run(BENCHMARK, Small(out=out))
    assert out.read_text() == text


SCRIPT = """
import time
from benchmarks.harness import Benchmark, Cell, Config, run
def measure(i):
    time.sleep(0.3)
    return {"i": i}
BENCHMARK = Benchmark(
    name="killed", title="", cells=lambda config: [Cell(str(i), (i,)) for i in range(200)],
    measure=measure, tables=lambda results: [], plot=lambda results, path: None)
if __name__ == "__main__":
    run(BENCHMARK, Config(out=__import__("pathlib").Path("killed.json"), workers=2))
"""


def test_what_was_measured_before_a_kill_lies_on_disk(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *sys.path])
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    out = tmp_path / "killed.json"
    try:
        for _ in range(600):
            if out.exists() and json.loads(out.read_text())["cells"]:
                break
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    cells = json.loads(out.read_text())["cells"]  # with two workers any of the first may be first
    assert cells
    assert all(cell["i"] == int(key) for key, cell in cells.items())


def test_a_table_as_markdown_and_html() -> None:
    table = Table("T", ("a", "b"), [("`x`", "1 < 2")], note="n")
    assert table.markdown() == "| a | b |\n| --- | --- |\n| `x` | 1 < 2 |\n\nn"
    assert "<td><code>x</code></td><td>1 &lt; 2</td>" in table.html()


def test_an_interval_of_one_value_is_the_value() -> None:
    assert interval([0.123456]) == "0.123"
    assert interval([1.0, 1.0, 1.0]) == "1 [1, 1]"
