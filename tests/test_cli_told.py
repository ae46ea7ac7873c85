"""What commands say of errors, warnings, words and results, and who says it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
import torch

from discrete_grad.cli import commands, entry, main, terminal
from discrete_grad.cli.terminal import first_process, told, told_at_once
from discrete_grad.data import TableWarning
from discrete_grad.data.errors import ManyFaults
from discrete_grad.rules import Observed
from discrete_grad.runs import FewRowsWarning
from discrete_grad.training import RunError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("a\n  b"), "error: a b"),
        (RunError("no run"), "error: no run"),
        (OSError(28, "No space left", "file"), "error: [Errno 28] No space left: 'file'"),
        (ImportError("pip install x"), "error: pip install x"),
        (KeyError("metrics"), "unexpected error: 'metrics'"),
        (RuntimeError(), "unexpected error: RuntimeError"),
        (
            ManyFaults("table", ["one  fault", "two"]),
            "error: table has 2 problems:\n  one fault\n  two",
        ),
    ],
)
def test_an_error_is_one_line_without_a_traceback(
    error: Exception,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(command: commands.Report) -> None:
        raise error

    monkeypatch.setattr(commands.Report, "execute", fails)
    assert main(["report", "run"]) == 2
    assert capsys.readouterr().err == f"discrete-grad: {told}\n"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["report", "run"]) == 2
    assert capsys.readouterr().err == ""  # the first process tells it


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fit", "interrupted; --resume goes on"),
        ("demo", "interrupted; --resume goes on"),
        ("report run", "interrupted"),
    ],
)
def test_an_interruption_says_whether_it_can_go_on(
    command: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(command: Any) -> None:
        raise KeyboardInterrupt

    for kind in (commands.Fit, commands.Demo, commands.Report):
        monkeypatch.setattr(kind, "execute", stopped)
    assert main(command.split()) == 130
    assert capsys.readouterr().err == f"discrete-grad: {said}\n"


def test_the_words_are_those_of_the_process_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["discrete-grad", "--version"])
    monkeypatch.setattr(entry, "version", {"discrete_grad": "1.2.3"}.__getitem__)
    assert main() == 0
    assert capsys.readouterr().out == "discrete-grad 1.2.3\n"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["fit", "--judge.no-scaling"], "judge.scaling"),
        (["fit", "--no-tensorboard"], "tensorboard"),
        (["fit", "--judge-share=0.5"], "judge_share"),
        (["demo", "--maximise", "mean"], "maximise"),
        (["fit", "--maximise", "mean"], None),
        (["fit", "judge_share"], None),
        (["fit", "--unknown"], None),
        (["report", "--judge-share", "1"], None),
        (["--judge-share"], None),
        ([], None),
    ],
)
def test_settings_of_the_file_are_told_from_options(words: list[str], name: str | None) -> None:
    assert entry._setting_of_the_file(words) == name


@pytest.mark.parametrize(
    ("words", "spread"),
    [
        ("fit t --score a b", "fit t --score a --score b"),
        ("fit t --out o --score a b c", "fit t --out o --score a --score b --score c"),
        ("fit t --score a --score b", "fit t --score a --score b"),
        ("fit --score a t", "fit --score a t"),
        ("generate r --score a b", "generate r --score a b"),
        ("fit t --context a b", "fit t --context a b"),
        ("fit", "fit"),
        ("", ""),
    ],
)
def test_scores_are_spread_after_the_table_alone(words: str, spread: str) -> None:
    assert entry._one_score_a_flag(words.split()) == spread.split()


@pytest.mark.parametrize(
    ("size", "rank", "speaks"),
    [
        (None, None, True),
        (None, "1", True),
        ("1", "1", True),
        ("2", None, True),
        ("2", "0", True),
        ("2", "1", False),
    ],
)
def test_one_process_speaks(
    size: str | None, rank: str | None, speaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", size), ("RANK", rank)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert first_process() is speaks


def test_ranked_rows_are_printed_the_best_first(capsys: pytest.CaptureFixture[str]) -> None:
    scored = pandas.DataFrame({"row": [f"r{i}" for i in range(22)], "score": [1 / 3] * 22})
    scored["rank"] = [*range(22, 2, -1), 1, 1]
    terminal.print_ranked(scored)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["row", "score", "rank"]
    assert [line.split() for line in lines[1:4]] == [
        ["r20", "0.3333", "1"],
        ["r21", "0.3333", "1"],
        ["r19", "0.3333", "3"],
    ]
    assert (len(lines), lines[-1]) == (22, "and 2 more: --out FILE writes all")
    terminal.print_ranked(scored.head(20))
    assert len(capsys.readouterr().out.splitlines()) == 21
    ties = pandas.DataFrame({"row": range(200), "rank": [2, 1] * 100})
    terminal.print_ranked(ties)
    shown = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()[1:21]]
    assert shown == list(range(1, 40, 2))  # of equal ranks in the order they were given


def test_what_was_found_and_asked_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    run: Any = SimpleNamespace(scorer_facts={"name": "m"}, scorer_calls=1234)
    terminal.tell_calls(run)
    terminal.tell_found([])
    found = Observed(("a", "b"), torch.tensor([[0, 0]]))
    terminal.tell_found([found, found])
    assert capsys.readouterr().out == (
        "the scorer was asked about 1,234 rows\n"
        "rule: none, as no columns combine sparsely\n"
        f"rule: {found.words()}\nrule: {found.words()}\n"
    )
    run.scorer_facts = {}
    terminal.tell_calls(run)
    assert capsys.readouterr().out == ""


def test_the_report_is_told_in_blocks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ("maximised", "verdict", "beyond", "rules", "together", "estimator", "aims")
    for name in parts:
        given = [] if name in ("rules", "together") else [f"{name}\x1b"]
        monkeypatch.setattr(
            terminal, f"{name}_sentences" if name != "verdict" else name, lambda report, g=given: g
        )
    monkeypatch.setattr(terminal, "format_table", lambda report: f"table of {report}")
    monkeypatch.setattr(terminal, "write_report", lambda run: "a report")
    shares, asked = [0.746, float("nan")], list[Any]()

    def accuracy(*args: Any, **named: Any) -> float:
        asked.extend([*args, named])
        return shares[len(asked) // 3 - 1]

    monkeypatch.setattr(terminal, "held_out_accuracy", accuracy)
    run: Any = SimpleNamespace(folder=Path("run"), preferences=None, preference=None)
    terminal.write_and_print_report(run)
    told = "table of a report\n\nmaximised\\x1b\nverdict\\x1b\nbeyond\\x1b\n\n"
    told += "estimator\\x1b\naims\\x1b\n\n"
    assert capsys.readouterr().out == f"{told}report: run/report.html\n"
    run.preferences = SimpleNamespace(to=lambda device: ["on", device, "it"])
    terminal.write_and_print_report(run)
    assert capsys.readouterr().out == f"{told}report: run/report.html\n"
    run.preference, run.device = "a model", "cpu"
    run.config = SimpleNamespace(preference="its settings", seed=5)
    for said in (
        "members that had not seen them rank 75% as answered.",
        "the held-out ones are all ties, so their share is not known.",
    ):
        terminal.write_and_print_report(run)
        said = f"preferences: 3; {said}\n\n"
        assert capsys.readouterr().out == f"{told}{said}report: run/report.html\n"
    assert asked[:3] == ["a model", ["on", "cpu", "it"], {"config": "its settings", "seed": 5}]


def test_warnings_of_some_kinds_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with told(TableWarning, FewRowsWarning):
        warnings.warn("one", TableWarning, stacklevel=1)
        warnings.warn("one", TableWarning, stacklevel=1)
        warnings.warn("two", FewRowsWarning, stacklevel=1)
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "warning: one\nwarning: one\nwarning: two\n"

    def fails() -> None:
        with told(TableWarning):
            warnings.warn("one", TableWarning, stacklevel=1)
            raise RunError("alone")

    with pytest.raises(RunError):
        fails()
    assert capsys.readouterr().err == ""


def test_warnings_at_once_are_lines_and_others_go_their_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[tuple[Any, ...]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *where, **more: others.append((*where, more))
        with told_at_once(TableWarning, FewRowsWarning):
            for kind in (TableWarning, FewRowsWarning, TableWarning):
                warnings.warn("one\x1b", kind, stacklevel=1)
            assert capsys.readouterr().err == 3 * "warning: one\\x1b\n"
            warnings.showwarning("else", UserWarning, "file.py", 3, line="text")
    assert others == [("else", UserWarning, "file.py", 3, {"line": "text"})]
