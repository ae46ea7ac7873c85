"""Snapshots along training: which are kept, that a resumed fit keeps the same, the report."""

import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from discrete_grad.runs import FitConfig, fit, write_report
from discrete_grad.training import RunError
from discrete_grad.training.checkpoint import Checkpoint, load_tensors, save_tensors
from discrete_grad.training.config import LoopConfig
from discrete_grad.training.logs import JsonLinesLog
from discrete_grad.training.loop import Objective, Step, train
from discrete_grad.training.snapshots import Snapshots, _kept_steps, load_snapshots
from tests.runs.small import small_config, small_table
from tests.two_processes import forkserver

CONFIG = LoopConfig(steps=40, learning_rate=0.05, validate_every=4, patience=0, checkpoint_every=7)


class Noisy(Objective):
    """A loss with noise of its own, as a generator's has."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 2)
        nn.init.ones_(self.model.weight)
        nn.init.zeros_(self.model.bias)

    def forward(self, step: Step) -> Tensor:
        inputs = torch.randn(5, 3, generator=step.generator(torch.device("cpu")))
        return (self.model(inputs) - 1).square().sum()

    def validate(self) -> Tensor:
        return self.model.weight.detach().square().sum()


class Killed(Exception):
    pass


def run(folder: Path, *, at: int | None = None, kill: bool = False) -> Noisy:
    """Train with a trail and checkpoints; stop after the snapshot of a step, if one is given."""
    objective, trail = Noisy(), Snapshots(folder / "trail", steps=40, every=4)

    def callback(model: nn.Module, step: int) -> None:
        trail(model, step)
        if step == at:
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed

    state = Checkpoint(folder / "state.safetensors", JsonLinesLog(folder / "metrics.jsonl"))
    train(objective, CONFIG, seed=0, stage="x", checkpoint=state, callback=callback)
    return objective


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "trail").glob("*.safetensors")}


@given(st.integers(1, 3000), st.integers(1, 400), st.integers(6, 64))
def test_kept_steps_are_few_sorted_and_reach_both_ends(steps: int, every: int, most: int) -> None:
    kept = _kept_steps(steps, every, most=most)
    assert list(kept) == sorted(set(kept))
    assert (kept[0], kept[-1]) == (0, steps)
    assert len(kept) <= most


def test_every_look_is_kept_where_there_is_room() -> None:
    assert set(range(0, 301, 20)) <= set(_kept_steps(300, 20))
    early = [step for step in _kept_steps(300, 20) if step < 20]
    assert len(early) > 10
    assert 55 < len(_kept_steps(1_000_000, 1)) <= 64


def test_snapshots_are_the_weights_after_their_steps(tmp_path: Path) -> None:
    seen: dict[int, dict[str, Tensor]] = {}

    def callback(model: nn.Module, step: int) -> None:
        seen[step] = {name: t.clone() for name, t in model.state_dict().items()}

    train(Noisy(), CONFIG, seed=0, stage="x", callback=callback)
    assert list(seen) == list(range(41))
    final = run(tmp_path).model.state_dict()
    loaded = load_snapshots(tmp_path / "trail")
    assert tuple(loaded) == _kept_steps(40, 4)
    for step, weights in loaded.items():
        assert all(torch.equal(weights[name], seen[step][name]) for name in weights)
    assert loaded[0]["weight"].eq(1).all()
    assert all(torch.equal(loaded[40][name], final[name]) for name in final)


@pytest.mark.parametrize("stops", [(0,), (1, 3), (8, 10), (23, 24), (36, 40)])
def test_a_resumed_fit_keeps_the_same_files_bitwise(tmp_path: Path, stops: tuple[int, ...]) -> None:
    run(tmp_path / "whole")
    cut = tmp_path / "cut"
    for stop in stops:
        with pytest.raises(Killed):
            run(cut, at=stop)
        # what a kill in the middle of a write leaves
        (cut / "trail" / f".{stop:06d}.safetensors.part").write_bytes(b"half")
    run(cut)
    assert files(cut) == files(tmp_path / "whole")


def _killed_run(folder: Path, at: int | None) -> None:
    torch.set_num_threads(1)
    run(folder, at=at, kill=True)


def test_killed_and_resumed_it_keeps_the_same_files_bitwise(tmp_path: Path) -> None:
    context = forkserver()
    for stop in (16, 33, None):
        process = context.Process(target=_killed_run, args=(tmp_path / "cut", stop))
        process.start()
        process.join(60)
        assert process.exitcode == (0 if stop is None else -signal.SIGKILL)
    run(tmp_path / "whole")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_only_the_first_process_keeps_a_trail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discrete_grad.training.distributed.rank", lambda: 1)
    train(
        Noisy(),
        CONFIG,
        seed=0,
        stage="x",
        callback=Snapshots(tmp_path / "trail", steps=40, every=4),
    )
    assert not (tmp_path / "trail").exists()


def three_snapshots() -> FitConfig:
    config = small_config()
    return replace(config, generator=replace(config.generator, steps=60))


@pytest.mark.slow
def test_a_run_keeps_its_generators_trail_and_reports_it(tmp_path: Path) -> None:
    config = three_snapshots()
    run = fit(small_table(), tmp_path / "run", config)
    trail = load_snapshots(run.folder / "trail")
    assert tuple(trail) == _kept_steps(60, config.generator.validate_every)
    report = write_report(run)
    assert [point["step"] for point in report["exploitation"]["points"]] == list(trail)
    assert report["exploitation"]["reference_name"] == "data policy"
    html = (run.folder / "report.html").read_text()
    assert 'id="exploitation"' in html
    # the states are the snapshots, not the generator that training ended with
    kls = [point["kl"] for point in report["exploitation"]["points"]]
    assert len(set(kls)) == len(kls)

    path = run.folder / "trail" / "000060.safetensors"
    tensors, metadata = load_tensors(path)
    save_tensors(path, {name: t[:1] for name, t in tensors.items()}, metadata)
    with pytest.raises(RunError, match="step 60 does not fit the run's settings"):
        write_report(run)
    save_tensors(path, tensors, {})
    with pytest.raises(RunError, match="no snapshot"):
        write_report(run)
    path.write_bytes(b"broken")
    with pytest.raises(RunError, match=r"000060\.safetensors is damaged"):
        write_report(run)

    for path in (run.folder / "trail").iterdir():
        path.unlink()
    (run.folder / "trail").rmdir()  # as a run has it that was fitted before there were trails
    assert write_report(run)["exploitation"] is None
    assert 'id="exploitation"' not in (run.folder / "report.html").read_text()


@pytest.mark.parametrize("stop_at", [10, 11])
def test_an_interrupted_run_ends_with_the_same_trail(tmp_path: Path, stop_at: int) -> None:
    calls = 0

    def stop(metrics: dict[str, float], step: int) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise Killed

    table, config = small_table(), three_snapshots()
    whole = fit(table, tmp_path / "whole", config)
    with pytest.raises(Killed):
        fit(table, tmp_path / "cut", config, log=stop)
    cut = fit(table, tmp_path / "cut", config, resume=True)
    assert files(cut.folder) == files(whole.folder)


@pytest.mark.parametrize("metadata", [{}, {"step": "x"}, {"step": None}, {"step": math.inf}])
def test_a_file_that_is_no_snapshot_is_told(tmp_path: Path, metadata: dict[str, Any]) -> None:
    save_tensors(tmp_path / "000001.safetensors", {"x": torch.ones(1)}, metadata)
    with pytest.raises(RunError, match="holds a file that is no snapshot"):
        load_snapshots(tmp_path)
