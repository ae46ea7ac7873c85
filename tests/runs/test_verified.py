"""A run that is loaded is what was fitted: what was changed, damaged or led astray is refused."""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import Tensor

from discrete_grad.cli import main
from discrete_grad.runs import Run, fit, load_run, report
from discrete_grad.runs._lock import only_process
from discrete_grad.training import RunError
from discrete_grad.training.checkpoint import load_tensors, save_tensors
from tests.runs.small import small_config, small_table, weights_of

Change = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("verified") / "run"
    return fit(small_table(context=False), folder, small_config())


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Path:
    return shutil.copytree(finished.folder, tmp_path / "run")


class _Stop(Exception):
    """What ends a fit, or a report."""


def change(path: Path, name: str, how: Change) -> None:
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors | {name: how(tensors[name])}, metadata)


def a_float(path: Path) -> str:
    """Name of a tensor of more than one number, of those that stay as they are."""
    tensors, _ = load_tensors(path)
    return next(name for name, t in tensors.items() if t.dtype == torch.float32 and t.numel() > 1)


def spoilt(value: float) -> Change:
    return lambda tensor: tensor.index_fill(0, torch.tensor([0]), value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("stage", ["judge", "estimator", "generator"])
def test_weights_that_are_not_finite_are_refused(copied: Path, stage: str, value: float) -> None:
    path = copied / "weights" / f"{stage}.safetensors"
    change(path, name := a_float(path), spoilt(value))
    with pytest.raises(RunError, match=rf"{stage}.safetensors is damaged: {name} holds NaN"):
        load_run(copied)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32])
def test_weights_of_another_type_are_refused(copied: Path, dtype: torch.dtype) -> None:
    path = copied / "weights" / "judge.safetensors"
    change(path, a_float(path), lambda tensor: tensor.to(dtype))
    with pytest.raises(RunError, match=rf"must be torch.float32, got {dtype}"):
        load_run(copied)


def test_a_judge_of_nan_tells_no_score(finished: Run) -> None:
    with pytest.raises(ValueError, match="NaN or infinity, which is no score"):
        finished.judge_to_units(torch.tensor([0.0, torch.nan]))


@pytest.mark.parametrize("name", ["scores", "codes"])
def test_changed_rows_are_refused(copied: Path, name: str) -> None:
    change(copied / "rows.safetensors", name, lambda tensor: tensor.flip(0))
    with pytest.raises(RunError, match=r"rows.safetensors or schema.json was changed after the"):
        load_run(copied)


def test_a_changed_schema_is_refused(copied: Path) -> None:
    path = copied / "schema.json"
    path.write_text(path.read_text().replace("fair", "rare"))
    with pytest.raises(RunError, match=r"schema.json was changed after the fit"):
        load_run(copied)


@pytest.mark.parametrize(
    ("part", "setting", "value"),
    [
        ("judge", "members", 10**9),
        ("estimator", "dim", 10**9),
        ("generator", "hidden", [10**9]),
        ("reproduction", "steps", 10**9),
    ],
)
def test_sizes_are_bounded_by_the_weights(
    copied: Path, part: str, setting: str, value: object
) -> None:
    path = copied / "config.json"
    content = json.loads(path.read_text())
    content["config"][part][setting] = value
    path.write_text(json.dumps(content))
    if part == "reproduction":  # no size of a model
        load_run(copied)
        return
    with pytest.raises(RunError, match=r"does not fit the run's settings: a size of 1,000,000,000"):
        load_run(copied)


def test_a_size_may_be_as_large_as_the_weights(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = import_module("discrete_grad.runs.load")
    held = sum(path.stat().st_size for path in (finished.folder / "weights").iterdir())
    held -= (finished.folder / "weights" / "calibration.safetensors").stat().st_size
    largest = max(finished.config.aligner.projection_dim, *finished.config.preference.hidden)
    monkeypatch.setattr(load, "_UNUSED", largest - held)
    load_run(finished.folder)
    monkeypatch.setattr(load, "_UNUSED", largest - held - 1)
    with pytest.raises(RunError, match=rf"a size of {largest} is too much, in \w+\.\w+$"):
        load_run(finished.folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"judge": {"hidden": [4000] * 4}},
        {"estimator": {"hidden": [4000] * 4, "families": ["networks"]}},
        {"estimator": {"members": 900, "dim": 900, "hidden": [900, 900]}},
    ],
)
def test_products_of_sizes_are_bounded_by_the_weights(
    copied: Path, changes: dict[str, dict[str, object]]
) -> None:
    path = copied / "config.json"
    content = json.loads(path.read_text())
    for part, sizes in changes.items():
        content["config"][part] |= {"scaling": False, **sizes}
    path.write_text(json.dumps(content))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunError, match=r"does not fit the run's settings, which make a far larger"):
        load_run(copied)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB


def test_a_run_names_the_version_that_made_it(finished: Run) -> None:
    content = json.loads((finished.folder / "config.json").read_text())
    assert content["version"] == version("discrete_grad")


@pytest.mark.parametrize("name", ["trail", "weights", "rounds", "rounds/fits", "metrics.jsonl"])
def test_nothing_is_written_through_a_link(copied: Path, tmp_path: Path, name: str) -> None:
    victim, link = tmp_path / "victim", copied / name
    if link.exists():
        link.rename(victim)
    elif name.startswith("rounds"):
        victim.mkdir()
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim)
    (copied / "weights" / "generator.safetensors").unlink()
    before = {p.name: p.read_bytes() for p in [victim, *victim.rglob("*")] if p.is_file()}
    for action in (
        lambda: load_run(copied),
        lambda: fit(small_table(context=False), copied, small_config(), resume=True),
    ):
        with pytest.raises(RunError, match=f"{name} is a link, which a fit does not follow"):
            action()
    after = {p.name: p.read_bytes() for p in [victim, *victim.rglob("*")] if p.is_file()}
    assert after == before


@pytest.mark.parametrize(
    "name", ["config.json", "rows.safetensors", "weights/judge.safetensors", "metrics.jsonl", "x"]
)
def test_a_pipe_in_the_folder_is_told(copied: Path, name: str) -> None:
    (copied / name).unlink(missing_ok=True)
    os.mkfifo(copied / name)
    with pytest.raises(RunError, match=rf"{name} is a pipe, not a file"):
        load_run(copied)


def test_the_folder_itself_may_be_a_link(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copied)
    load_run(tmp_path / "link")
    fit(small_table(context=False), tmp_path / "link", small_config(), resume=True)


HOLDER = (
    "import fcntl, os, sys\n"
    "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_SH)\n"
    "print('held', flush=True)\nsys.stdin.read()"
)
HELD = r"another process fits in .*run, or writes its report: wait for it"


@contextlib.contextmanager
def another_process_in(folder: Path) -> Iterator[None]:
    """A process that holds the lock of a run, and is killed: the system takes the lock from it."""
    words = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield
        other.kill()


def test_two_fits_of_one_folder_are_refused(copied: Path) -> None:
    (copied / "weights" / "generator.safetensors").unlink()
    before = weights_of(copied)
    with another_process_in(copied), pytest.raises(RunError, match=HELD):
        fit(small_table(context=False), copied, small_config(), resume=True)
    assert weights_of(copied) == before
    fit(small_table(context=False), copied, small_config(), resume=True)


def test_a_report_is_not_written_while_another_process_is_at_it(copied: Path) -> None:
    run = load_run(copied)
    (copied / "report.html").write_text("old")
    with another_process_in(copied), pytest.raises(RunError, match=HELD):
        run.report()
    assert (copied / "report.html").read_text() == "old"
    assert not (copied / "report.json").exists()


def test_a_report_holds_the_lock_until_it_is_written(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(copied)

    def made(*_: object, **__: object) -> dict[str, object]:
        with pytest.raises(RunError, match=HELD), only_process(copied):
            pass
        raise _Stop

    monkeypatch.setattr(report, "build_report", made)
    with pytest.raises(_Stop):
        run.report()
    with only_process(copied):  # it is free again
        pass


def test_what_is_told_during_a_fit_is_kept_and_fitted_to_later(copied: Path) -> None:
    run, rows = load_run(copied), {"cut": ["fair"], "shade": [1], "size": [True], "score": [9.5]}
    with another_process_in(copied), pytest.raises(RunError, match=HELD):
        run.tell(rows)
    assert len(run.tell(rows).table) == len(run.table) + 1


def test_a_fit_holds_the_lock_until_it_ends(tmp_path: Path) -> None:
    held = []

    def log(metrics: dict[str, float], step: int) -> None:
        opened = os.open(tmp_path / "run", os.O_RDONLY)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.append(step)
        finally:
            os.close(opened)

    def stop(metrics: dict[str, float], step: int) -> None:
        log(metrics, step)
        raise _Stop

    with pytest.raises(_Stop):
        fit(small_table(context=False), tmp_path / "run", small_config(), log=stop)
    assert held
    opened = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(opened)


def test_a_rank_without_processes_silences_no_error(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    words = ["generate", str(copied), "--rows", "2", "--no-new-only"]
    assert main([*words, "--out", str(copied / "rows.csv")]) == 0
    assert len((copied / "rows.csv").read_text().splitlines()) == 3
    (copied / "config.json").unlink()
    assert main(["report", str(copied)]) == 2
    assert "config.json is missing" in capsys.readouterr().err


def without_metadata(path: Path) -> None:
    tensors, _ = load_tensors(path)
    save_tensors(path, tensors, {})


def as_list(path: Path) -> None:
    tensors, _ = load_tensors(path)
    save_tensors(path, tensors, [1])  # type: ignore[arg-type]


def flat(path: Path) -> None:
    tensors, metadata = load_tensors(path)
    save_tensors(path, {name: t.flatten()[:1] for name, t in tensors.items()}, metadata)


def nothing(path: Path) -> None:
    save_tensors(path, {}, {})


@pytest.mark.parametrize("fault", [without_metadata, as_list, flat, nothing])
@pytest.mark.parametrize(
    "name",
    [
        "prepared.safetensors",
        "rows.safetensors",
        "trail/000000.safetensors",
        *(f"weights/{stage}.safetensors" for stage in ("calibration", "judge", "generator")),
    ],
)
def test_whatever_a_file_holds_no_error_is_unexpected(
    copied: Path, capsys: pytest.CaptureFixture[str], name: str, fault: Callable[[Path], None]
) -> None:
    fault(copied / name)
    words = ["generate", str(copied), "--rows", "1", "--no-new-only"]
    main([*words, "--out", str(copied / "rows.csv")])
    with contextlib.suppress(RunError):
        (copied / "weights" / "naive.safetensors").unlink()
        fit(small_table(context=False), copied, small_config(), resume=True)
    told = capsys.readouterr().err
    assert "unexpected" not in told
    assert len(told.splitlines()) <= 1


@pytest.mark.parametrize(
    "wrong", ["[]", '{"config": []}', '{"config": {}, "source": {}, "table": ""}', "3", '"a"']
)
@pytest.mark.parametrize("key", [None, "rules", "scorers", "preferences", "config"])
def test_settings_of_a_wrong_form_are_told(copied: Path, key: str | None, wrong: str) -> None:
    path = copied / "config.json"
    content = json.loads(path.read_text())
    made = json.loads(wrong) if key is None else content | {key: json.loads(wrong)}
    path.write_text(json.dumps(made))
    with pytest.raises(RunError) as told:
        load_run(copied)
    assert "\n" not in str(told.value)


def test_a_checkpoint_of_another_stage_is_damage(copied: Path) -> None:
    (copied / "weights" / "generator.safetensors").unlink()
    state = copied / "state" / "generator.safetensors"
    for tensors, metadata in (({}, {}), ({}, {"metrics": 0}), ({}, {"metrics": 0, "step": "x"})):
        save_tensors(state, tensors, metadata)
        with pytest.raises(RunError, match=r"state/generator\.safetensors is damaged"):
            fit(small_table(context=False), copied, small_config(), resume=True)
