"""Only the generator is fitted anew where only its settings changed, as if the fit were new."""

import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from discrete_grad.rules import Fix, Forbid
from discrete_grad.runs import FitConfig, Run, fit, load_run
from discrete_grad.runs import _folder as folder_module
from discrete_grad.runs._refit import RefitWarning, changed_settings, forget_stages
from discrete_grad.runs.settings import flatten, with_settings
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table, weights_of

TABLE = small_table(60, context=False)
RULES = [Forbid({"cut": "fair", "size": "True"})]
STEPS = {f"{part}.steps": 20 for part in ("estimator", "judge", "generator", "reproduction")}
BEGUN = with_settings(small_config(), STEPS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(TABLE, tmp_path_factory.mktemp("refit") / "run", BEGUN, source={"made": "here"})


def content(folder: Path) -> dict[str, bytes]:
    """All that a fit keeps, but for where it came from."""
    files = {path for path in folder.rglob("*") if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name != "config.json"
    }


def as_new(folder: Path, config: FitConfig, **options: Any) -> dict[str, bytes]:
    """What a fit of these settings keeps that had a folder of its own."""
    fit(TABLE, folder, config, **options)
    return content(folder)


@pytest.mark.parametrize(
    ("changes", "rules", "redone"),
    [
        ({"generator.entropy": 0.3}, (), {"generator"}),
        ({}, RULES, {"generator"}),
        ({"generator.hidden": (8,)}, (), {"reference", "naive", "generator"}),
        ({"generator.alignment": 0.5, "aligner.steps": 20}, (), {"aligner", "generator"}),
        ({"generator.policy": "autoregressive"}, (), {"independent", "generator"}),
    ],
    ids=["entropy", "rules", "hidden", "alignment", "policy"],
)
def test_only_what_changed_is_fitted_anew_and_ends_as_a_new_fit(
    run: Run, tmp_path: Path, changes: dict[str, Any], rules: list[Any], redone: set[str]
) -> None:
    folder, config = shutil.copytree(run.folder, tmp_path / "run"), with_settings(BEGUN, changes)
    (folder / "report.html").write_text("of the first generator")
    before, seen = weights_of(folder), list[str]()

    def log(metrics: dict[str, float], step: int) -> None:
        seen.extend(name.partition("/")[0] for name in metrics)

    with pytest.warns(RefitWarning, match="fitted anew") as told:
        again = fit(TABLE, folder, config, rules=rules, resume=True, log=log)
    assert len(told) == 1
    assert set(seen) == redone
    assert content(folder) == as_new(tmp_path / "new", config, rules=rules)
    assert weights_of(folder)["estimator.safetensors"] == before["estimator.safetensors"]
    loaded = load_run(folder)
    assert (loaded.config, loaded.source) == (again.config, {"made": "here"})
    # nothing is left to do
    fit(TABLE, folder, config, rules=rules, resume=True)


def test_every_setting_but_that_of_a_log_is_one_that_changes_a_fit() -> None:
    others = {bool: lambda value: not value, str: lambda value: f"{value}, too"}
    for name, value in flatten(BEGUN).items():
        other = others.get(type(value), lambda value: 7 if value is None else value + value)(value)
        other = 1 if other == value else other  # of 0
        changed = changed_settings({"config": BEGUN}, with_settings(BEGUN, {name: other}))
        assert changed == ({} if name == "tensorboard" else {name: (value, other)})


def test_rules_are_taken_away_and_changed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fit(TABLE, folder, BEGUN, rules=RULES)
    for rules in ([Fix("cut", "good")], []):
        with pytest.warns(RefitWarning):
            fit(TABLE, folder, BEGUN, rules=rules, resume=True)
        loaded = load_run(folder).rules
        assert (loaded is None) == (not rules)
        assert loaded is None or list(loaded.rules) == rules


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, "seed = 0, not 5"),
        ({"estimator.dim": 8, "generator.entropy": 0.3}, "estimator.dim = 4, not 8"),
        ({"judge.steps": 21}, "judge.steps = 20, not 21"),
        # it sets rows aside that the estimators otherwise learn from
        ({"generator.coverage": 0.7}, "generator.coverage = 0.0, not 0.7"),
    ],
)
def test_other_changes_are_refused_and_nothing_is_touched(
    run: Run, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "run")
    before = content(folder)
    with pytest.raises(RunError, match=message):
        fit(TABLE, folder, with_settings(BEGUN, changes), resume=True)
    with pytest.raises(RunError, match="if only settings of the generator or rules changed"):
        fit(TABLE, folder, replace(BEGUN), rules=RULES)
    with pytest.raises(RunError, match="of another table"):
        fit(small_table(61, context=False), folder, BEGUN, rules=RULES, resume=True)
    assert content(folder) == before


class Killed(BaseException):
    """As a kill at that moment would leave the folder."""


def killing(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Stop before the n-th change to the folder: a file removed, or one written."""
    calls = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            return change(*given, **options)

        return call

    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    for name in ("write_atomically", "save_tensors"):
        monkeypatch.setattr(folder_module, name, counted(getattr(folder_module, name)))


def test_stages_are_forgotten_from_the_last_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any moment, no stage is left whose forerunner is gone."""
    order = ["judge", "estimator", "reference", "naive", "aligner", "generator"]
    (tmp_path / "weights").mkdir()
    left = list[int]()
    for at in range(1, 14):
        for name in order:
            (tmp_path / "weights" / f"{name}.safetensors").touch()
        with monkeypatch.context() as patch, warnings.catch_warnings(), suppress(Killed):
            warnings.simplefilter("ignore", RefitWarning)
            killing(patch, at)
            forget_stages(tmp_path, "reference")
        kept = {path.stem for path in (tmp_path / "weights").iterdir()}
        assert kept == set(order[: len(kept)])
        left.append(len(kept))
    assert left == sorted(left, reverse=True)
    assert set(left) == {6, 5, 4, 3, 2}


def test_nothing_that_the_generator_before_left_stays(tmp_path: Path) -> None:
    """Such as snapshots of more steps than the next one has."""
    gone = ["trail/000007", "state/generator", "weights/generator", "weights/independent"]
    paths = [tmp_path / f"{name}.safetensors" for name in ("weights/estimator", *gone)]
    paths += [tmp_path / name for name in ("guidance.json", "report.html", "report.json")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with pytest.warns(RefitWarning, match="fitted anew"):
        forget_stages(tmp_path, "independent")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == paths[:1]


@pytest.mark.parametrize("goes_on", ["before", "after"])
def test_killed_at_any_moment_either_fit_can_be_gone_on_with(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: str
) -> None:
    config = with_settings(BEGUN, {"generator.entropy": 0.3})
    wanted, rules = {"before": (BEGUN, []), "after": (config, RULES)}[goes_on]
    expected = as_new(tmp_path / "expected", wanted, rules=rules)
    moments = 0
    for at in (2, 3, 6, 9, 12, 15):
        folder = shutil.copytree(run.folder, tmp_path / f"run{at}")
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", RefitWarning)
            killing(patch, at)
            with pytest.raises((Killed, Trains)) as ended:
                fit(TABLE, folder, config, rules=RULES, resume=True, log=_trains)
        if ended.type is Trains:
            break
        moments += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RefitWarning)
            fit(TABLE, folder, wanted, rules=rules, resume=True)
        kept = content(folder)
        assert expected.items() <= kept.items()
        assert kept.keys() - expected.keys() <= {"rules.toml"}
        assert load_run(folder).config == wanted
    assert moments >= 3


class Trains(Exception):
    """The training began."""


def _trains(metrics: dict[str, float], step: int) -> None:
    raise Trains
