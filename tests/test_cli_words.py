"""Words of the command line: what the parser is told, and what its boxes say."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

from discrete_grad.cli import main, parsing
from discrete_grad.cli.checks import check_rows
from discrete_grad.cli.options import DemoRun, FitRun, Goal, Rows, _option, fit_config, option_names
from discrete_grad.cli.parsing import WrongWords, _inside, _line, parsed
from discrete_grad.runs import FitConfig
from discrete_grad.runs.settings import settings
from discrete_grad.training import RunError


def test_help_of_the_command_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert text.startswith("usage: discrete-grad [-h]")
    assert (
        "Train a generator of categories through a frozen model that scores them. discrete-grad "
        "--version tells the version."
    ) in text


def test_what_the_parser_says_besides_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}

    def talking(commands: Any, **named: Any) -> str:
        given.update(named)
        print("a note", file=sys.stderr)
        return "command"

    monkeypatch.setattr(tyro.extras, "subcommand_cli_from_dict", talking)
    assert parsed(["fit", "x"]) == "command"  # type: ignore[comparison-overlap]
    assert capsys.readouterr() == ("", "a note\n")
    assert (given["args"], given["prog"]) == (["fit", "x"], "discrete-grad")
    assert given["config"] == (tyro.conf.FlagCreatePairsOff,)


@pytest.mark.parametrize(
    ("words", "help_of"), [(["fit", "report"], "discrete-grad fit"), (["no"], "discrete-grad")]
)
def test_the_help_that_is_named_is_that_of_the_command(
    words: list[str], help_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(commands: Any, **named: Any) -> None:
        print("╭─ Title ─╮\n│ it is wrong. │\n╰─╯", file=sys.stderr)
        raise SystemExit(2)

    monkeypatch.setattr(parsing.tyro.extras, "subcommand_cli_from_dict", refusing)
    with pytest.raises(WrongWords) as told:
        parsed(words)
    assert str(told.value) == f"it is wrong; see {help_of} --help"


def test_a_box_is_one_line() -> None:
    box = [
        "╭─ Errors ───────╮",
        "│ \x1b[31mFirst\x1b[0m part │",
        "│ goes on.       │",
        "│ ────────────── │",
        "│ Second:        │",
        "│     deep       │",
        "│         help   │",
        "│                │",
        "│ -------------- │",
        "│ Argument helptext: no │",
        "│ ── │",
        "│ For full helptext, see │",
        "╰────────────────╯",
    ]
    assert _line("\n".join(box)) == "First part goes on; Second: deep"
    assert _line("╭─ E ─╮\n╰─╯") == "the options are wrong"
    # without UTF-8 there is no frame
    assert _line("usage\n\n  Wrong.\n  --\n  So\n      is this\n          help\n") == (
        "Wrong; So is this"
    )
    assert _inside(["a", "b", "  c", "  d"]) == ["c", "d"]
    assert _inside([" │ c │ ", "d"]) == ["c "]


def test_an_option_is_made_of_its_setting() -> None:
    for name, metavar, default in (
        ("seed", "INT", "0"),
        ("maximise", "{rank,mean,median,raw}", "rank"),
    ):
        made, setting = _option(name), settings()[name]
        assert made.name == name
        assert made.help == setting.text
        assert made.metavar == metavar
        assert made.constructor_factory() is setting.type
        assert made.help_behavior_hint == f"(default: {default})"


def test_options_that_are_settings_are_found_by_their_names() -> None:
    groups = (FitRun(seed=3, out=Path("o")), Goal(generator_entropy=0.5))
    assert option_names(*groups) == {"seed": 3, "maximise": None, "generator.entropy": 0.5}
    assert option_names() == {}
    assert fit_config(None, *groups) == FitConfig.from_json(
        fit_config(None, DemoRun(seed=3), Goal(generator_entropy=0.5)).to_json()
    )


def test_a_file_that_is_not_there_and_an_option_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        fit_config(tmp_path / "none.toml")
    with pytest.raises(ValueError, match=r"^seed must lie in \[0, 2\*\*63\), got -1$"):
        fit_config(None, FitRun(seed=-1))
    (tmp_path / "a.toml").write_text("seed = 7\nmaximise = 'mean'\n")
    config = fit_config(tmp_path / "a.toml", FitRun(seed=0))
    assert (config.seed, config.maximise) == (0, "mean")


def test_a_reader_that_has_seen_enough_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["fit", "--help"], ["fit", "--print-config"]):
        read, write = os.pipe()
        os.close(read)
        with open(write, "w", encoding="utf-8") as closed:
            monkeypatch.setattr(sys, "stdout", closed)
            assert main(words) == 0


@pytest.mark.parametrize(
    ("rows", "processes", "told"),
    [
        (Rows(rows=0), 1, "--rows must be at least 1, got 0"),
        (Rows(rows=1, front=4), 1, "--front does not go together with --rows"),
        (Rows(edit=Path("e"), diversity=2), 2, "--edit does not go together with several proc"),
        (Rows(edit=Path("e"), rows=8, diversity=2), 1, "--edit does not go together with --rows: "),
        (Rows(edit=Path("e"), front=0), 1, "--edit does not go together with --front: --tradeoff"),
        (Rows(edit=Path("e"), diversity=2), 1, "--edit does not go together with --diversity: "),
        (Rows(edit=Path("e"), contexts=Path("c")), 1, "together with --contexts: the file of"),
    ],
)
def test_options_that_do_not_go_together_are_named(rows: Rows, processes: int, told: str) -> None:
    with pytest.raises(RunError, match=re.escape(told)):
        check_rows(rows, processes)


def test_options_that_go_together() -> None:
    for rows in (Rows(edit=Path("e")), Rows(rows=1, contexts=Path("c")), Rows(front=4)):
        check_rows(rows, 1)
