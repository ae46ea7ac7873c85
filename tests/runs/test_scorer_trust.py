"""A run's folder names a scorer: nothing of it is imported or called unless the caller names it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.cli import main
from discrete_grad.runs import Run, fit, load_run, prefer
from discrete_grad.training import RunError
from discrete_grad.training.checkpoint import load_tensors, save_tensors
from tests.runs.test_scorer import columns, of_frame, table
from tests.runs.test_scorer_runs import quick

SPY = """
from pathlib import Path
Path("imported").touch()
from tests.runs.test_scorer import of_frame
def load():
    Path("called").touch()
    return of_frame
"""
ROWS = {name: column[:2] for name, column in columns().items()}
CONTEXTS = {name: ROWS[name] for name in ("shop", "dose")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("stranger") / "run"
    return fit(table(score=False), folder, quick(), scorer=of_frame)


@pytest.fixture
def stranger(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose settings name a module beside it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("spy_scorer.py").write_text(SPY)
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    name_scorer(folder, "spy_scorer:load")
    yield folder
    sys.modules.pop("spy_scorer", None)


def name_scorer(folder: Path, reference: Any, role: str = "scorer", name: str = "load") -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["scorers"][role] = {"name": name, "reference": reference, "takes": "frame"}
    path.write_text(json.dumps(content))


def nothing_ran() -> bool:
    ran = [name for name in ("imported", "called") if Path(name).exists()]
    return not ran and "spy_scorer" not in sys.modules


def asked(run: Run, folder: Path) -> dict[str, Callable[[], object]]:
    def ask(prompt: str) -> str:
        return "q"

    return {
        "score": lambda: run.score(ROWS),
        "generate": lambda: run.generate(CONTEXTS, rows=1, new_only=False),
        "edit": lambda: run.edit(ROWS, edits=1),
        "swaps": lambda: run.swaps(ROWS),
        "report": run.report,
        "prefer": lambda: prefer(run, folder / "a.parquet", ask=ask, show=print),
    }


def test_no_code_runs_because_a_folder_says_so(stranger: Path) -> None:
    run = load_run(stranger)
    assert nothing_ran()
    for name, ask in asked(run, stranger).items():
        with pytest.raises(RunError, match=r"--scorer spy_scorer:load, in Python load_run\(folder"):
            ask()
        assert nothing_ran(), name
    assert not (stranger / "report.json").exists()


def test_what_asks_no_scorer_works_without_it(stranger: Path, finished: Run) -> None:
    run = load_run(stranger)
    assert "scorer: spy_scorer:load, maximised" in repr(run)
    context = run.table.context[:2]
    noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    drawn = run.policy.sample(context, 3, generator=noise[0])
    expected = finished.policy.sample(context, 3, generator=noise[1])
    assert torch.equal(drawn, expected)
    assert torch.equal(run.table.scores, finished.table.scores)
    run.export("generator.pt2")
    assert run.metrics()
    assert nothing_ran()


def test_the_command_line_names_it_again(
    stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("contexts.csv").write_text("shop,dose\neast,0.1\n")
    words = ["generate", "run", "--contexts", "contexts.csv", "--rows", "1", "--out", "o.csv"]
    words += ["--no-new-only"]
    Path("rows.csv").write_text("shop,dose,cut,shade\neast,0.1,ideal,1\n")
    for command in (words, ["score", "run", "rows.csv"], ["report", "run"], ["prefer", "run"]):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert "--scorer spy_scorer:load" in told
        assert told.count("\n") == 1
        assert nothing_ran()
    assert main(["propose", "run", "--contexts", "contexts.csv", "--out", "o.csv"]) == 2
    assert "which can be asked" in capsys.readouterr().err
    assert nothing_ran()
    assert main([*words, "--scorer", "spy_scorer:load"]) == 0
    assert not nothing_ran()
    assert Path("o.csv").read_text().startswith("shop,dose,cut,shade,estimated_score")


def test_a_judge_is_named_likewise(stranger: Path) -> None:
    name_scorer(stranger, "spy_scorer:load", "judge")
    path = stranger / "scorer.safetensors"
    tensors, metadata = load_tensors(path)
    save_tensors(path, {**tensors, "judge": tensors["estimator"].clone()}, metadata)
    run = load_run(stranger, scorer=of_frame)
    with pytest.raises(RunError, match=r"the judge of .* --judge spy_scorer:load"):
        run.score(ROWS)
    assert nothing_ran()
    run = load_run(stranger, scorer="spy_scorer:load", judge="spy_scorer:load")
    assert run.score(ROWS)["judge_score"].tolist() == pytest.approx(of_frame(frame_of(ROWS)))


def frame_of(rows: dict[str, list[Any]]) -> Any:
    import pandas as pd

    return pd.DataFrame(rows)


@pytest.mark.parametrize("reference", ["os:system;ls", "$(ls)", "a b:c", 3, ["os:abort"], ""])
def test_a_reference_of_a_wrong_form_is_damage(stranger: Path, reference: object) -> None:
    name_scorer(stranger, reference)
    with pytest.raises(RunError, match=r"config.json is damaged.* written package.module:name"):
        load_run(stranger)
    assert nothing_ran()


def test_another_scorer_than_that_of_the_fit_is_refused(stranger: Path) -> None:
    with pytest.raises(RunError, match=r"is not that of the fit: to row 1 of the table"):
        load_run(stranger, scorer=lambda frame: [1.0] * len(frame))
    assert nothing_ran()
