"""Calls that each command makes, with every option given and with none."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest

from discrete_grad.cli import commands, main, rounds, terminal, trusted
from discrete_grad.data import TableWarning
from discrete_grad.fitting import FarContextWarning
from discrete_grad.runs import FewRowsWarning, FitConfig, config_text
from discrete_grad.runs._refit import RefitWarning

Calls = list[tuple[Any, ...]]


class FakeRun:
    """A run that notes what is asked of it."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.table = SimpleNamespace(schema="schema")
        self.scorer_facts: dict[str, str] = {"name": "m"}
        self.scorer_calls = 1234

    def at(self, tradeoff: dict[str, float]) -> FakeRun:
        self.calls.append(("at", tradeoff))
        return self

    def score(self, rows: Path) -> pandas.DataFrame:
        self.calls.append(("score", rows))
        return pandas.DataFrame({"cut": ["b", None], "rank": [2, 1]})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What the commands call from here on, in order; nothing of it is done."""
    made: Calls = []
    run = FakeRun(made)
    given = SimpleNamespace(table="table", rules="rules", preferences="preferences")
    answers = {
        "read_input": given,
        "fit": "done",
        "choose_device": "a device",
        "listed": ["listed"],
        "load_run": run,
        "worded_rules": ["worded"],
        "read_lines": "lines",
        "rows_of_lines": "written",
        "edit_rows": "edited",
        "prefer": 7,
        "refitted": run,
        "load_example": SimpleNamespace(
            features=["a", "b"], training_rows=lambda *a, **k: ("rows", a, k)
        ),
        "read_table": "a table",
        "propose_rows": None,
    }

    def noted(name: str, module: Any) -> None:
        def call(*args: Any, **named: Any) -> Any:
            made.append((name, *args, named) if named else (name, *args))
            return answers.get(name)

        monkeypatch.setattr(module, name, call)

    @contextlib.contextmanager
    def processes(device: str) -> Iterator[None]:
        made.append(("processes", device))
        yield
        made.append(("processes end",))

    for name in (*list(answers)[:4], *list(answers)[5:10], "load_example", "read_table"):
        noted(name, commands)
    for name in ("write_rows", "tell_found", "tell_calls", "print_ranked"):
        noted(name, commands)
    noted("write_and_print_report", commands)
    noted("load_run", trusted)
    for name in ("load_run", "read_lines", "refitted", "propose_rows", "write_rows"):
        noted(name, rounds)
    monkeypatch.setattr(commands, "processes", processes)
    monkeypatch.setattr(commands, "first", lambda work: work())
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return made


def test_fit_hands_on_every_option(calls: Calls) -> None:
    words = "fit t.csv --score a:min b --context c --features d e --exclude f --missing drop "
    words += "--unseen drop --feasible ok --preferences p.parquet --rules r.toml --fix d=1 "
    words += "--forbid e=2 --observed auto --scorer m:n --resume --device cpu --seed 3 "
    words += "--maximise mean --generator.steps 9 --out o"
    assert main(words.split()) == 0
    read = {
        "score": ("a:min", "b"),
        "context": ("c",),
        "features": ("d", "e"),
        "exclude": ("f",),
        "missing": "drop",
        "unseen": "drop",
        "feasible": "ok",
        "preferences": Path("p.parquet"),
        "rules": Path("r.toml"),
        "fix": ("d=1",),
        "forbid": ("e=2",),
        "observed": ("auto",),
    }
    *others, (fit, table, out, config, named), report, end = calls
    assert others == [
        ("choose_device", "cpu"),
        ("read_input", Path("t.csv"), read),
        ("listed", "rules"),
        ("tell_found", ["listed"]),
        ("processes", "a device"),
    ]
    assert (fit, table, out) == ("fit", "table", Path("o"))
    assert (config.seed, config.maximise, config.generator.steps) == (3, "mean", 9)
    assert named == {
        "rules": "rules",
        "preferences": "preferences",
        "scorer": "m:n",
        "resume": True,
        "device": "a device",
    }
    assert (report, end) == (("write_and_print_report", "done"), ("processes end",))


def test_fit_without_options_has_the_defaults(calls: Calls) -> None:
    assert main(["fit", "t.csv", "--score", "a", "--out", "o"]) == 0
    assert calls[0] == ("choose_device", "auto")
    read = calls[1][2]
    assert read["score"] == ("a",)
    assert (read["features"], read["rules"], read["feasible"]) == (None, (), None)
    assert (read["missing"], read["unseen"], read["preferences"]) == ("error", "keep", None)
    assert [call[0] for call in calls[2:4]] == ["processes", "fit"]
    assert calls[3][3] == FitConfig()
    assert calls[3][4]["scorer"] is None
    assert calls[3][4]["resume"] is False
    calls.clear()
    assert main(["fit", "t.csv", "--out", "o"]) == 0
    assert calls[1][2]["score"] == ()
    calls.clear()
    # the scorer gives the score, and the table may have none
    assert main(["fit", "t.csv", "--out", "o", "--scorer", "m:n"]) == 0
    assert calls[1][2]["score"] is None


@pytest.mark.parametrize(
    ("words", "module", "name", "kinds"),
    [
        ("fit t --score a --out o", commands, "read_input", (TableWarning,)),
        ("fit t --score a --out o", commands, "fit", (RefitWarning,)),
        ("generate r --out o.csv", commands, "rows_of_lines", (FarContextWarning, FewRowsWarning)),
        ("propose r --out o.csv", rounds, "propose_rows", (FarContextWarning, FewRowsWarning)),
    ],
)
def test_warnings_of_a_command_are_lines(
    words: str,
    module: Any,
    name: str,
    kinds: tuple[type[Warning], ...],
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = getattr(module, name)

    def warning(*args: Any, **named: Any) -> Any:
        for kind in (*kinds, *kinds):
            warnings.warn(kind.__name__, kind, stacklevel=1)
        return done(*args, **named)

    monkeypatch.setattr(module, name, warning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(words.split()) == 0
    assert capsys.readouterr().err == 2 * "".join(f"warning: {k.__name__}\n" for k in kinds)


def test_the_configuration_is_printed_as_it_is_and_nothing_is_called(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--print-config", "--seed", "3"]) == 0
    assert capsys.readouterr() == (config_text(FitConfig(seed=3)), "")
    assert calls == []


def test_generate_hands_on_every_option(calls: Calls) -> None:
    words = "generate run --contexts c.csv --rows 5 --tradeoff a=.7,b=.3 --diversity 2 "
    words += "--no-new-only --rules r.toml --fix d=1 --forbid e=2 --observed auto --only-seen "
    words += "--within 2 --of 3 --scorer m:n --judge m:j --seed 4 --device cpu --out o.csv"
    assert main(words.split()) == 0
    models = {"device": "cpu", "scorer": "m:n", "judge": "m:j"}
    assert calls[0] == ("load_run", Path("run"), models)
    name, asked, table = calls[1]
    assert (name, table.schema) == ("worded_rules", "schema")
    assert vars(asked) == {
        "rules": Path("r.toml"),
        "fix": ("d=1",),
        "forbid": ("e=2",),
        "observed": ("auto",),
        "only_seen": True,
        "within": 2,
        "of": "3",
    }
    assert calls[2:4] == [
        ("tell_found", ["worded"]),
        ("read_lines", Path("c.csv"), "schema"),
    ]
    name, run, lines, named = calls[4]
    assert (name, run.table, lines) == ("rows_of_lines", table, "lines")
    assert named == {
        "rows": 5,
        "seed": 4,
        "diversity": 2,
        "new_only": False,
        "rules": ["worded"],
        "share": (0, 1),
        "tradeoff": {"a": 0.7, "b": 0.3},
        "front": None,
    }
    assert calls[5:] == [("write_rows", Path("o.csv"), "written"), ("tell_calls", run)]


def test_generate_without_options_has_the_defaults(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")  # left by another program: there is one process
    assert main(["generate", "run", "--front", "6", "--out", "o.parquet"]) == 0
    assert calls[0] == ("load_run", Path("run"), {"device": "auto", "scorer": None, "judge": None})
    assert calls[2] == ("read_lines", None, "schema")
    named = calls[3][3]
    assert (named["rows"], named["seed"], named["diversity"], named["new_only"]) == (8, 0, 1, True)
    assert (named["share"], named["tradeoff"], named["front"]) == ((0, 1), None, 6)
    assert calls[4] == ("write_rows", Path("o.parquet"), "written")
    calls.clear()
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main(["generate", "run", "--out", "o.parquet"]) == 0
    assert calls[3][3]["share"] == (1, 3)
    assert calls[4][1] == Path("o.part-00001-of-00003.parquet")


def test_edits_are_made_at_a_trade_off_or_not(calls: Calls) -> None:
    words = ["generate", "run", "--edit", "e.csv", "--edits", "4", "--seed", "5", "--out", "o.csv"]
    assert main(words) == 0
    (loaded, worded, (name, run, path, named), *rest) = calls
    assert (loaded[0], worded[0], name, path) == (
        "load_run",
        "worded_rules",
        "edit_rows",
        Path("e.csv"),
    )
    assert named == {"edits": 4, "rules": ["worded"], "seed": 5}
    assert rest == [("write_rows", Path("o.csv"), "edited"), ("tell_calls", run)]
    calls.clear()
    assert main([*words, "--tradeoff", "a=1"]) == 0
    assert calls[2] == ("at", {"a": 1.0})
    assert calls[3][0] == "edit_rows"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rows 0", "--rows must be at least 1, got 0"),
        (
            "--edit e --contexts c",
            "--edit does not go together with --contexts: the file of --edit has them",
        ),
        (
            "--edit e --front 3",
            "--edit does not go together with --front: --tradeoff names one",
        ),
        (
            "--edit e --rows 3",
            "--edit does not go together with --rows: --edits says how many there are of each "
            "given row",
        ),
        (
            "--edit e --diversity 2",
            "--edit does not go together with --diversity: the rows of one given row differ in "
            "their number of changes",
        ),
    ],
)
def test_options_of_generate_that_do_not_fit(
    words: str, message: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "run", *words.split(), "--out", "o.csv"]) == 2
    assert capsys.readouterr().err == f"discrete-grad: error: {message}\n"
    assert calls == []


def test_edits_take_one_process(
    calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["generate", "run", "--edit", "e", "--out", "o.parquet"]) == 2
    told = "discrete-grad: error: --edit does not go together with several processes\n"
    assert capsys.readouterr().err == told


def test_scores_are_printed_or_written(calls: Calls) -> None:
    words = "score run rows.csv --device cpu --scorer m:n --tradeoff a=1"
    assert main(words.split()) == 0
    models = {"device": "cpu", "scorer": "m:n", "judge": None}
    assert calls[:3] == [
        ("load_run", Path("run"), models),
        ("at", {"a": 1.0}),
        ("score", Path("rows.csv")),
    ]
    assert calls[3][0] == "print_ranked"
    assert list(calls[3][1]["rank"]) == [2, 1]
    calls.clear()
    assert main(["score", "run", "rows.csv", "--out", "o.csv"]) == 0
    assert calls[1:] == [
        ("score", Path("rows.csv")),
        ("write_rows", Path("o.csv"), {"cut": ["b", None], "rank": [2, 1]}),
    ]
    calls.clear()
    assert main(["score", "run", "rows.csv", "--out", "o.txt"]) == 2
    assert calls == []


def test_preferences_are_asked_for_by_the_terminal(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "prefer run --out p.parquet --annotator ann --pairs 3 --seed 4 --scorer m:n"
    assert main(words.split()) == 0
    assert calls[0] == ("load_run", Path("run"), {"device": "cpu", "scorer": "m:n", "judge": None})
    name, _, path, named = calls[1]
    assert (name, path) == ("prefer", Path("p.parquet"))
    how = {"ask": input, "show": terminal.say}
    assert named == {**how, "annotator": "ann", "pairs": 3, "seed": 4}
    told = "7 answers kept, in p.parquet: fit --preferences p.parquet learns from them\n"
    assert capsys.readouterr().out == told
    assert main(["prefer", "run"]) == 0
    assert calls[3][2] == Path("run/preferences.parquet")
    assert calls[3][3] == {**how, "annotator": "me", "pairs": 20, "seed": 0}


def test_the_report_is_of_the_loaded_run(calls: Calls) -> None:
    assert main("report run --device cpu --judge m:j".split()) == 0
    assert calls[0] == ("load_run", Path("run"), {"device": "cpu", "scorer": None, "judge": "m:j"})
    assert calls[1][0] == "write_and_print_report"
    assert isinstance(calls[1][1], FakeRun)


def test_the_demo_fits_its_family(calls: Calls) -> None:
    assert main("demo --family nasbench201 --rows 30 --seed 5 --device cpu --out o".split()) == 0
    assert calls[0] == ("load_example", "nasbench201")
    named = {"score": "score", "context": ["dataset:categorical"], "features": ["a", "b"]}
    assert calls[1] == ("read_table", ("rows", (30,), {"seed": 5}), named)
    assert calls[2:4] == [("choose_device", "cpu"), ("processes", "a device")]
    fit, table, out, config, named = calls[4]
    assert (fit, table, out, config) == ("fit", "a table", Path("o"), FitConfig(seed=5))
    source = {"example": "nasbench201"}
    assert named == {"resume": True, "source": source, "device": "a device"}
    assert calls[5:] == [("write_and_print_report", "done"), ("processes end",)]
    calls.clear()
    assert main(["demo"]) == 0
    assert calls[0] == ("load_example", "hpolib")
    assert calls[1][1] == ("rows", (1500,), {"seed": 0})
    assert calls[4][2] == Path("runs/demo")


def test_rows_are_proposed(calls: Calls) -> None:
    words = "propose run --rows 4 --contexts c.csv --explore .5 --device cpu --out o.csv"
    assert main(words.split()) == 0
    assert calls[0] == ("load_run", Path("run"), {"device": "cpu"})
    assert calls[1][0] == "refitted"
    assert calls[2] == ("read_lines", Path("c.csv"), "schema")
    name, run, lines, named = calls[3]
    assert (name, lines) == ("propose_rows", "lines")
    assert isinstance(run, FakeRun)
    named["write"]("made")
    assert calls[4] == ("write_rows", Path("o.csv"), "made")
    del named["write"]
    assert named == {"rows": 4, "explore": 0.5}
    calls.clear()
    assert main(["propose", "run", "--out", "o.csv"]) == 0
    assert (calls[0][2], calls[2][1]) == ({"device": "auto"}, None)
    assert {key: calls[3][3][key] for key in ("rows", "explore")} == {"rows": 16, "explore": 1.0}
    calls.clear()
    assert main(["propose", "run", "--out", "o.txt"]) == 2
    assert calls == []


def test_what_was_measured_is_kept_and_fitted_to(
    calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = SimpleNamespace(told=[0] * 9, failed=2, open=3)
    asked: list[Any] = []
    monkeypatch.setattr(rounds, "keep", lambda *args: (asked.extend(args), (4, sheet))[1])
    fitted = SimpleNamespace(table=[0] * 31, folder="run/round")
    monkeypatch.setattr(rounds, "refitted", lambda run: (asked.append(run), fitted)[1])
    assert main("tell run t.csv --measurement may --device cpu".split()) == 0
    assert calls == [("load_run", Path("run"), {"device": "cpu"})]
    assert asked[1:3] == [Path("t.csv"), "may"]
    assert asked[3] is asked[0]
    assert capsys.readouterr().out == (
        "kept 4 measurements; 5 were known, 2 rows failed, 3 are not measured yet\n"
        "fitted to 31 rows, in run/round\n"
    )
