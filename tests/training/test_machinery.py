"""Settings, logs, files, the optimiser and processes, each alone."""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from discrete_grad.sampling import random_indices, seeded
from discrete_grad.training import JsonLinesLog, LoopConfig, RunError, TensorBoardLog
from discrete_grad.training import distributed as group
from discrete_grad.training.checkpoint import (
    Checkpoint,
    load_tensors,
    save_tensors,
    told_as_damage,
)
from discrete_grad.training.config import require_config
from discrete_grad.training.logs import progress_bar, quiet_bars
from discrete_grad.training.loop import Step, derive_seed
from discrete_grad.training.optimiser import PLAIN, WARM
from discrete_grad.training.snapshots import _kept_steps, load_snapshots

# --- settings -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings(LoopConfig):
    """With fields of every kind that a stage's settings have."""

    hidden: tuple[int, ...] = (8,)
    memory: int = 0
    tau: float = 1.0
    plain: bool = False


def test_settings_at_their_bounds_are_taken() -> None:
    for given in (
        {"steps": 1, "batch_size": 1, "validate_every": 1, "checkpoint_every": 1, "patience": 0},
        {"steps": 2**31 - 1, "hidden": (1, 2**31 - 1), "memory": 0, "plain": False},
        {"learning_rate": 1e-30, "weight_decay": 0.0, "tau": 1},
    ):
        Settings(**given).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("steps", 0, "at least 1, got 0"),
        ("batch_size", -3, "at least 1, got -3"),
        ("validate_every", 0, "at least 1, got 0"),
        ("checkpoint_every", 0, "at least 1, got 0"),
        ("patience", -1, "at least 0, got -1"),
        ("memory", -1, "at least 0, got -1"),
        ("hidden", (), "at least 1, got ()"),
        ("hidden", (8, 0), "at least 1, got (8, 0)"),
        ("steps", 2**31, "below 2,147,483,648, got 2147483648"),
        ("hidden", (1, 2**31), "below 2,147,483,648, got (1, 2147483648)"),
        ("weight_decay", -1, "finite and at least 0, got -1.0"),
        ("weight_decay", math.inf, "finite and at least 0, got inf"),
        ("weight_decay", 10**400, "finite and at least 0, got inf"),
        ("learning_rate", 0, "finite and above 0, got 0.0"),
        ("learning_rate", math.nan, "finite and above 0, got nan"),
        ("tau", 0.0, "finite and above 0, got 0.0"),
    ],
)
def test_a_setting_out_of_range_is_named(name: str, value: object, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} must be {wanted}')}$"):
        Settings(**{name: value}).check()  # type: ignore[arg-type]


def test_settings_of_another_kind_are_refused() -> None:
    require_config("config of a fit", Settings(), LoopConfig)
    with pytest.raises(TypeError, match=r"^config of a fit must be of class Settings, got int$"):
        require_config("config of a fit", 3, Settings)


# --- files ----------------------------------------------------------------------------------------


def test_what_does_not_fit_is_damage_in_one_line() -> None:
    with pytest.raises(RunError) as error, told_as_damage(Path("a")):
        raise RuntimeError("two\n  lines " + 400 * "x")
    begun = "a is damaged, or of another version: RuntimeError two lines "
    assert str(error.value) == begun + (300 - len("RuntimeError two lines ")) * "x"
    for other in (RunError("as it is"), torch.OutOfMemoryError("as it is"), OSError("as it is")):
        with pytest.raises(type(other), match=r"^as it is$"), told_as_damage(Path("a")):
            raise other


def test_a_file_that_is_not_whole_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(RunError, match=f"^{re.escape(str(path))} is missing$"):
        load_tensors(path)
    leaf = torch.arange(4.0).reshape(2, 2).requires_grad_()
    save_tensors(path, {"x": leaf.t()}, {"step": 3})
    tensors, metadata = load_tensors(path)
    assert tensors["x"].tolist() == [[0, 2], [1, 3]]
    assert metadata == {"step": 3}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=f"^{re.escape(str(path))} is damaged: ") as error:
        load_tensors(path)
    assert len(str(error.value)) <= len(f"{path} is damaged: ") + 300


def test_a_checkpoint_knows_how_long_the_metrics_were(tmp_path: Path) -> None:
    log = JsonLinesLog(tmp_path / "metrics.jsonl")
    state = Checkpoint(tmp_path / "state.safetensors", log)
    state.save({}, {"step": 0})
    assert load_tensors(state.path)[1] == {"step": 0, "metrics": 0}
    log({"loss": 1.0, "other": 2.0}, 7)
    assert json.loads(log.path.read_text()) == {"step": 7, "loss": 1.0, "other": 2.0}
    state.save({}, {"step": 1})
    assert load_tensors(state.path)[1] == {"step": 1, "metrics": log.path.stat().st_size}
    log.rewind(log.position() + 1)  # which the file never had
    assert state.load() == ({}, {"step": 1, "metrics": log.position()})
    save_tensors(state.path, {}, {"step": 1})
    damage = r"state.safetensors is damaged, or of another version: KeyError 'metrics'$"
    with pytest.raises(RunError, match=damage):
        state.load()


def test_snapshots_lie_where_they_are_expected() -> None:
    assert _kept_steps(1, 1) == (0, 1)
    assert _kept_steps(10, 20, most=6) == (0, 1, 2, 5, 10)
    assert _kept_steps(100, 7, most=8) == (0, 1, 3, 10, 32, 35, 70, 100)


def test_snapshots_that_are_none_are_told(tmp_path: Path) -> None:
    for step in (20, 100, 3):
        save_tensors(tmp_path / f"{step}.safetensors", {"x": torch.ones(1)}, {"step": str(step)})
    assert list(load_snapshots(tmp_path)) == [3, 20, 100]
    save_tensors(tmp_path / "a.safetensors", {}, {"step": "three"})
    with pytest.raises(RunError, match=f"^{re.escape(str(tmp_path))} holds a file that is no snap"):
        load_snapshots(tmp_path)
    tensors = {"x": torch.ones(1), "y": torch.tensor([1.0, math.inf])}
    save_tensors(tmp_path / "a.safetensors", tensors, {"step": 1})
    wrong = f"^{re.escape(str(tmp_path))} is damaged: a snapshot holds NaN or infinity$"
    with pytest.raises(RunError, match=wrong):
        load_snapshots(tmp_path)


# --- random numbers, the optimiser ----------------------------------------------------------------


def test_seeds_are_those_of_earlier_versions() -> None:
    """A fit that an older version began is resumed with the same numbers."""
    assert derive_seed(0, "judge") == 3595657130380977614
    step = Step(3, "judge", 7, 1, 2)
    assert step.noise_seed == derive_seed(3, "judge", 7, 1)
    whole = random_indices(1000, (4, 6), generator=seeded(derive_seed(3, "judge", 7)))
    assert torch.equal(step.batch(1000, 4, 6), whole[:, 1::2])
    drawn = torch.rand(3, generator=step.generator(torch.device("cpu")))
    assert torch.equal(
        drawn, torch.rand(3, generator=torch.Generator().manual_seed(step.noise_seed))
    )


def test_the_learning_rate_rises_along_a_line_and_falls_along_a_cosine() -> None:
    assert [WARM.share(i, 40) for i in (0, 9)] == [
        0.05,
        0.5 * (1 + math.cos(math.pi * 9 / 40)) / 2,
    ]
    assert WARM.share(19, 40) == (1 + math.cos(math.pi * 19 / 40)) / 2
    assert WARM.share(30, 40) == PLAIN.share(30, 40) == (1 + math.cos(math.pi * 0.75)) / 2
    assert (PLAIN.share(0, 7), PLAIN.share(7, 7)) == (1, 0)


@pytest.mark.parametrize(("optimiser", "fused"), [(WARM, True), (PLAIN, None)])
def test_the_optimiser_is_made_of_what_is_trained(optimiser: object, fused: bool | None) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[1].weight.requires_grad_(False)
    made = optimiser.new(model, LoopConfig(learning_rate=0.25, weight_decay=0.5))  # type: ignore
    weights, biases = made.param_groups
    assert weights["params"] == [model[0].weight]
    assert [p.shape for p in biases["params"]] == [(3,), (1,)]
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.5, 0)
    assert (weights["lr"], biases["lr"]) == (0.25, 0.25)
    assert made.defaults["fused"] is fused


# --- logs -----------------------------------------------------------------------------------------


def test_tensorboard_is_told_names_values_and_steps(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TensorBoardLog(tmp_path / "board")
    assert not (tmp_path / "board").exists()  # nothing before the first metrics
    log({"judge/loss": 1.0, "judge/other": 3.0}, 3)
    log({"judge/loss": 2.0}, 5)
    (file,) = (tmp_path / "board").iterdir()  # one writer
    events = accumulator.EventAccumulator(str(file))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("judge/loss")] == [(3, 1), (5, 2)]
    assert [(e.step, e.value) for e in events.Scalars("judge/other")] == [(3, 3)]


class _Kernel:
    config = {"IPKernelApp": {}}  # noqa: RUF012


def test_bars_are_shown_on_terminals_and_in_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm.auto")
    made: list[tuple[str, dict[str, object]]] = []
    for kind in ("std", "auto"):
        bar = lambda kind=kind, **given: made.append((kind, given))  # noqa: E731
        monkeypatch.setattr(f"tqdm.{kind}.tqdm", bar)
    asked = {"total": 9, "initial": 2, "desc": "judge", "leave": False}
    monkeypatch.setitem(sys.modules, "IPython", None)
    progress_bar("judge", 9, 2)
    shells = (None, SimpleNamespace(), SimpleNamespace(config={"other": {}}), _Kernel())
    for shell in shells:
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda s=shell: s))
        progress_bar("judge", 9, 2)
    told = [("std", {**asked, "disable": None})] * 4 + [("auto", {**asked, "disable": False})]
    assert made == told
    with quiet_bars():
        progress_bar("judge", 9, 2)
        with quiet_bars(False):
            progress_bar("judge", 9, 2)
        progress_bar("judge", 9, 2)
    assert len(made) == 6
    monkeypatch.setitem(sys.modules, "tqdm", None)
    silent = progress_bar("judge", 9, 2)
    silent.update()
    silent.close()
    assert len(made) == 6


# --- processes ------------------------------------------------------------------------------------


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A group of two processes, of which this is the second unless `rank` says 0."""
    told = SimpleNamespace(rank=1, calls=[], first_says=None)

    def broadcast_object_list(message: list[str | None], source: int) -> None:
        told.calls.append(("objects", list(message), source))
        if told.rank:
            message[0] = told.first_says

    monkeypatch.setattr(group.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(group.dist, "get_rank", lambda: told.rank)
    monkeypatch.setattr(group.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(group.dist, "barrier", lambda: told.calls.append("barrier"))
    monkeypatch.setattr(group.dist, "broadcast_object_list", broadcast_object_list)
    monkeypatch.setattr(group.dist, "broadcast", lambda x, source: x.fill_(source + 5))
    return told


def test_what_the_first_process_raises_is_raised_in_all(joined: SimpleNamespace) -> None:
    done: list[int] = []
    group.first(lambda: done.append(1))
    assert (done, joined.calls) == ([], [("objects", [None], 0)])
    joined.first_says = "no room"
    with pytest.raises(RunError, match=r"^no room$"):
        group.first(lambda: done.append(1))
    joined.rank = 0
    group.first(lambda: done.append(1))
    assert done == [1]
    with pytest.raises(KeyError, match="mine"):
        group.first(lambda: {}["mine"])
    assert joined.calls[-2:] == [("objects", [None], 0), ("objects", ["'mine'"], 0)]


def test_processes_wait_and_agree(joined: SimpleNamespace) -> None:
    group.barrier()
    assert joined.calls == ["barrier"]
    assert group.agree(torch.zeros(2)).tolist() == [5, 5]  # what process 0 has
    assert (group.rank(), group.world_size()) == (1, 2)


def test_a_process_alone_neither_waits_nor_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("barrier", "broadcast", "broadcast_object_list", "get_rank", "get_world_size"):
        monkeypatch.delattr(group.dist, name)
    value, model = torch.ones(2), nn.Linear(1, 1)
    group.barrier()
    assert group.agree(value) is value
    assert group.wrap(model) is model
    assert (group.rank(), group.world_size()) == (0, 1)
    with pytest.raises(KeyError, match="mine"):
        group.first(lambda: {}["mine"])
    with group.quiet_backward(), pytest.warns(UserWarning, match="Grad strides"):
        warnings.warn("Grad strides do not match", stacklevel=1)


def test_of_several_processes_one_warning_is_silent(joined: SimpleNamespace) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with group.quiet_backward():
            warnings.warn("Grad strides do not match bucket view", stacklevel=1)
            warnings.warn("another", stacklevel=1)
    assert [str(w.message) for w in heard] == ["another"]


def test_a_wrapped_objective_has_a_parameter_to_spare(
    joined: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}

    def init(self: nn.Module, module: nn.Module, **settings: object) -> None:
        nn.Module.__init__(self)
        given.update(module=module, **settings)

    monkeypatch.setattr(DistributedDataParallel, "__init__", init)

    class Sum(nn.Linear):
        def forward(self, *inputs: Tensor) -> Tensor:
            return super().forward(sum(inputs))  # type: ignore[arg-type]

    model = Sum(1, 1).double()
    group.wrap(model)
    assert given["find_unused_parameters"] is True
    wrapped = given["module"]
    assert isinstance(wrapped, nn.Module)
    one = torch.ones(1, dtype=torch.float64)
    assert torch.equal(wrapped(one, 2 * one), model(3 * one))
    assert (wrapped.spare.shape, wrapped.spare.dtype) == ((), torch.float64)
    assert wrapped.spare.requires_grad


def test_a_group_ends_with_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(group.dist, "init_process_group", lambda *a, **k: calls.append((a, k)))
    for name in ("barrier", "destroy_process_group"):
        monkeypatch.setattr(group.dist, name, lambda name=name: calls.append(name))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    with group.processes():
        calls.append("work")
    assert calls == [(("gloo",), {}), "work", "barrier", "destroy_process_group"]
    calls.clear()
    with pytest.raises(KeyError), group.processes(torch.device("cuda", 1)):
        {}["mine"]
    given = {"device_id": torch.device("cuda", 1), "timeout": group._PATIENCE}
    assert calls == [(("nccl",), given), "destroy_process_group"]
    assert group._PATIENCE.total_seconds() == 1800
    calls.clear()
    monkeypatch.setenv("WORLD_SIZE", "1")
    with group.processes():
        calls.append("work")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(group.dist, "is_initialized", lambda: True)
    with group.processes():
        calls.append("work")
    assert calls == ["work", "work"]
