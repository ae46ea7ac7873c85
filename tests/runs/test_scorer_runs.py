"""Fits by scorers from beginning to end: references, judges, resuming, rules, older folders."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import discrete_grad
from discrete_grad.cli import main
from discrete_grad.data import read_table
from discrete_grad.rules import Fix
from discrete_grad.runs import FewRowsWarning, FitConfig, Run, fit, load_run
from discrete_grad.training import RunError
from discrete_grad.training.checkpoint import load_tensors, save_tensors
from tests.pretended_card import CARD, pretended_card
from tests.runs.small import weights_of
from tests.runs.test_scorer import BEST, ByName, Compares, best_rows, columns, few, of_frame, table

QUICK = """
reproduction.steps = 10
[generator]
steps = 10
gradient_estimator = "LeaveOneOut"
"""
MODULE = """
def load():
    return lambda frame: 10.0 * frame["shade"] + frame["cut"].str.len()
"""


def quick(**changes: Any) -> FitConfig:
    """Few steps, directly."""
    config = few(gradient_estimator="LeaveOneOut", **changes)
    return replace(config, generator=replace(config.generator, steps=20))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a table of text, contexts and a module with a scorer."""
    monkeypatch.chdir(tmp_path)
    Path("my_scorer.py").write_text(MODULE)
    made = columns(score=False)
    lines = [",".join(made), *(",".join(map(str, row)) for row in zip(*made.values(), strict=True))]
    Path("rows.csv").write_text("\n".join(lines))
    Path("quick.toml").write_text(QUICK)
    Path("contexts.csv").write_text("shop,dose\neast,0.1\n")
    yield tmp_path
    sys.modules.pop("my_scorer", None)


def test_the_command_line_imports_the_scorer_and_asks_it_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = [
        "fit",
        "rows.csv",
        "--context",
        "shop",
        "dose",
        "--config",
        "quick.toml",
        "--out",
        "run",
    ]
    assert main([*fitted, "--scorer", "my_scorer:load"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Scorer: my_scorer:load, which takes numbers; no estimator was trained." in told
    assert "There is no judge" in told
    named = ["--scorer", "my_scorer:load"]
    arguments = ["generate", "run", "--contexts", "contexts.csv", "--rows", "2", "--out", "o.csv"]
    arguments += named
    assert main([*arguments, "--no-new-only"]) == 0
    assert "the scorer was asked about" in capsys.readouterr().out
    lines = Path("o.csv").read_text().splitlines()
    assert lines[0] == "shop,dose,cut,shade,estimated_score,beyond_observed,in_table"
    assert lines[1].startswith("east,0.1,ideal,3,35.0,")
    Path("given.csv").write_text("shop,dose,cut,shade\neast,0.1,ideal,2\n")
    edit = ["generate", "run", "--edit", "given.csv", "--edits", "1", "--out", "e.csv"]
    assert main([*edit, *named]) == 0
    edited = "given_row,edits,shop,dose,cut,shade,score_before,estimated_score,beyond_observed,"
    assert Path("e.csv").read_text().startswith(edited)  # and no judge's score
    assert not list(here.rglob("*.pkl"))
    Path("my_scorer.py").unlink()
    sys.modules.pop("my_scorer")
    assert main(arguments) == 2
    assert "the scorer my_scorer:load cannot be imported in" in capsys.readouterr().err
    assert main(fitted) == 2
    assert "name the column to be maximised, or give a scorer" in capsys.readouterr().err


def test_a_judge_is_named_in_the_configuration(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("my_scorer.py").write_text(
        f"{MODULE}\n\ndef judge():\n    return lambda f: -1 * f.shade\n"
    )
    Path("judged.toml").write_text(f'judge_scorer = "my_scorer:judge"\n{QUICK}')
    fitted = ["fit", "rows.csv", "--config", "judged.toml", "--context", "shop", "dose"]
    assert main([*fitted, "--out", "run", "--scorer", "my_scorer:load"]) == 0
    assert "The judge was given, too" in " ".join(capsys.readouterr().out.split())
    run = load_run("run", scorer="my_scorer:load", judge="my_scorer:judge")
    frame = run.score({"shop": ["east"], "dose": [0.1], "cut": ["ideal"], "shade": [3]})
    assert frame["judge_score"].tolist() == [-3.0]
    scored = ["fit", "rows.csv", "--config", "judged.toml", "--score", "shade", "--out", "other"]
    assert main(scored) == 2
    assert "a judge is given along with a scorer, and there is none" in capsys.readouterr().err


def test_a_judge_may_be_given(tmp_path: Path) -> None:
    judge = ByName()
    run = discrete_grad.fit(table(), tmp_path / "run", quick(), scorer=of_frame, judge=judge)
    assert run.scorer_facts["judge"] == "given"
    assert not (run.folder / "weights" / "judge.safetensors").exists()
    scored = run.score({name: column[:4] for name, column in columns().items()})
    assert scored["judge_score"].tolist() == pytest.approx(columns()["price"][:4])
    assert scored["estimated_score"].tolist() == pytest.approx(columns()["price"][:4])
    assert "The judge was given, too" in run.report().read_text()
    with pytest.raises(RunError, match=r"the judge of .*run, ByName, was given as an object"):
        load_run(run.folder, scorer=of_frame).score({n: c[:4] for n, c in columns().items()})
    with pytest.raises(RunError, match="a judge is given along with a scorer, and there is none"):
        fit(table(), tmp_path / "other", quick(), judge=judge)


def test_a_trained_judge_knows_the_scores_and_not_the_scorer(tmp_path: Path) -> None:
    def nothing(frame: Any) -> Any:
        return frame["dose"] + (frame["cut"] == "fair")

    run = fit(table(), tmp_path / "run", quick(), scorer=nothing)
    assert (run.folder / "weights" / "judge.safetensors").exists()
    assert run.has_judge
    assert run.scorer_facts["agreement"] < 0.2


def test_a_column_that_is_minimised_minimises_the_scorer(tmp_path: Path) -> None:
    rows = read_table(columns(), score="price:min", context=["shop:categorical", "dose"])
    run = fit(rows, tmp_path / "run", few(), scorer=ByName())
    for shop, (cut, shade) in best_rows(run).items():
        assert cut != BEST[shop][0]
        assert shade != BEST[shop][1]
    scored = run.score({name: column[:4] for name, column in columns().items()})
    assert scored["estimated_score"].tolist() == pytest.approx(columns()["price"][:4])


class Killed(Exception):
    """What stops a fit."""


@pytest.mark.parametrize("at", [("student", 10), ("direct", 10), ("generator", 0)])
def test_a_fit_that_is_resumed_ends_with_the_same_weights(
    at: tuple[str, int], whole: Run, tmp_path: Path
) -> None:
    def killed(metrics: dict[str, float], step: int) -> None:
        if any(name.startswith(at[0]) for name in metrics) and step >= at[1]:
            raise Killed

    config = whole.config
    if at[0] == "generator":  # before the draws are compared
        fit(table(), tmp_path / "run", config, scorer=of_frame)
        (tmp_path / "run" / "weights" / "generator.safetensors").unlink()
    else:
        with pytest.raises(Killed):
            fit(table(), tmp_path / "run", config, scorer=of_frame, log=killed)
    with pytest.raises(RunError, match="unfinished"):
        load_run(tmp_path / "run", scorer=of_frame)
    again = fit(table(), tmp_path / "run", config, scorer=of_frame, resume=True)
    assert weights_of(again.folder) == weights_of(whole.folder)
    assert again.scorer_facts["comparison"] == whole.scorer_facts["comparison"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A fit of few steps that nothing disturbs, by both ways without a derivative."""
    config = quick()
    loop = replace(config.generator, gradient_estimator="ReinMax", checkpoint_every=5)
    estimator = replace(config.estimator, steps=20, checkpoint_every=5, families=("networks",))
    config = replace(config, generator=loop, estimator=estimator)
    return fit(table(), tmp_path_factory.mktemp("whole") / "run", config, scorer=of_frame)


def check_comparison(run: Run) -> None:
    """The generator is that of the two whose draws the scorer scored higher."""
    facts = run.scorer_facts
    chosen = facts["comparison"]["chosen"]
    means = {way: facts["comparison"][way]["mean"] for way in ("distilled", "direct")}
    assert means[chosen] == max(means.values()) > min(means.values())
    assert facts["calls"]["student"] <= facts["calls"]["direct"]
    kept, of_chosen = (
        load_tensors(run.folder / "weights" / f"{name}.safetensors")[0]
        for name in ("generator", chosen)
    )
    assert all(torch.equal(kept[name], of_chosen[name]) for name in kept)


def test_without_a_derivative_two_ways_are_compared(whole: Run, tmp_path: Path) -> None:
    check_comparison(whole)
    same = load_run(whole.folder, scorer=of_frame)
    context = whole.table.context
    torch.testing.assert_close(same.generator(context), whole.generator(context))
    module = fit(table(), tmp_path / "run", whole.config, scorer=Compares())
    check_comparison(module)
    assert "codes[:, 0] == 2" in module.scorer_facts["why_not"]


def test_rows_are_edited_by_a_scorer_without_a_derivative(whole: Run) -> None:
    given = {"cut": "fair", "shade": 0, "shop": "east", "dose": 0.1}
    edited = whole.edit(given, edits=2)
    scored = whole.score(edited[list(given)])
    assert edited["estimated_score"].tolist() == scored["estimated_score"].tolist()
    assert [edited[name].iloc[-1] for name in ("cut", "shade")] == [*BEST["east"]]


def test_a_scorer_is_not_asked_about_no_rows(whole: Run) -> None:
    first = {name: columns()[name][0] for name in ("shop", "dose")}
    with pytest.warns(FewRowsWarning):
        assert len(whole.generate(first, rows=1, within=0, of=1)) == 0


def test_resuming_by_another_scorer_is_refused(whole: Run, tmp_path: Path) -> None:
    again = {"table": table(), "folder": whole.folder, "config": whole.config, "resume": True}
    with pytest.raises(RunError, match="is a fit by another scorer or judge, or by none"):
        fit(**again, scorer=ByName())
    with pytest.raises(RunError, match="is a fit by another scorer or judge, or by none"):
        fit(**again)

    loop = replace(whole.config.generator, steps=21)
    changed = {**again, "config": replace(whole.config, generator=loop)}
    with pytest.raises(RunError, match=r"steps = 20, not 21; .*by a scorer .* the generator's too"):
        fit(**changed, scorer=globals()["of_frame"])

    def of_frame(frame: Any) -> Any:  # of the same name, with other answers
        return frame["dose"]

    with pytest.raises(RunError, match=r"another scorer|of_frame is not that of the fit"):
        fit(**again, scorer=of_frame)
    with pytest.raises(RunError, match="was fitted without a judge"):
        load_run(whole.folder, scorer=whole.estimator, judge=ByName())


def test_rules_hold_in_both_ways(whole: Run, tmp_path: Path) -> None:
    rules = [Fix("cut", "fair")]
    run = fit(table(), tmp_path / "run", whole.config, scorer=of_frame, rules=rules)
    drawn = run.policy.sample(run.table.context[:4], 50)
    assert set(run.table.schema.decode_features(drawn.flatten(0, 1))["cut"]) == {"fair"}
    assert set(run.scorer_facts["comparison"]) == {"distilled", "direct", "chosen"}


def test_an_autoregressive_generator_asks_the_scorer(tmp_path: Path) -> None:
    config = quick(policy="autoregressive", hidden=(16, 16))
    run = fit(table(), tmp_path / "run", config, scorer=of_frame)
    assert run.independent is not None
    assert set(run.scorer_facts["calls"]) >= {"independent", "generator"}


def test_what_needs_more_than_a_score_is_refused_at_once(tmp_path: Path) -> None:
    for name, value in (("alignment", 0.1), ("coverage", 0.8)):
        with pytest.raises(RunError, match=f"generator.{name} needs .* the scorer of_frame"):
            fit(table(), tmp_path / "run", quick(**{name: value}), scorer=of_frame)
    with pytest.raises(RunError, match=r"answers 1 for every row of the table: there is nothing"):
        fit(table(), tmp_path / "run", quick(), scorer=lambda frame: [1.0] * len(frame))
    with pytest.raises(RunError, match="the table has no score: name its column, or give a scorer"):
        fit(table(score=False), tmp_path / "run", quick())
    assert not (tmp_path / "run").exists()


def test_the_folder_says_by_whom_it_was_fitted(whole: Run) -> None:
    settings = json.loads((whole.folder / "config.json").read_text())
    said = {"name": "of_frame", "reference": None, "takes": "frame"}
    assert settings["scorers"] == {"scorer": said}
    (whole.folder / "scorer.json").write_text("[]")
    with pytest.raises(RunError, match=r"scorer.json is damaged"):
        load_run(whole.folder, scorer=of_frame)
    save_tensors(whole.folder / "scorer.safetensors", {"estimator": torch.ones(3)}, {})
    with pytest.raises(RunError, match=r"scorer.safetensors does not fit the run's table"):
        load_run(whole.folder, scorer=of_frame)


@pytest.mark.parametrize("scorer", [ByName(), of_frame], ids=["module", "frame"])
def test_a_fit_on_a_card_asks_the_scorer_where_it_computes(scorer: Any, tmp_path: Path) -> None:
    rows = {name: column[:4] for name, column in columns().items()}
    method = "LeaveOneOut" if scorer is of_frame else "ReinMax"
    config = quick()
    short = {"steps": 4, "checkpoint_every": 100}
    parts = {n: replace(getattr(config, n), **short) for n in ("judge", "reproduction")}
    generator = replace(config.generator, gradient_estimator=method, **short)
    config = replace(config, generator=generator, **parts)
    with pretended_card():
        run = fit(table(), tmp_path / "run", config, scorer=scorer, device="cuda")
        there = run.score(rows)["estimated_score"].tolist()
        assert run.device == CARD
    assert there == pytest.approx(columns()["price"][:4])
    here = load_run(run.folder, scorer=scorer).score(rows)["estimated_score"].tolist()
    assert here == pytest.approx(there)
