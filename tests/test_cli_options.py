"""The options of the commands: few, in groups, and winning over the file of `--config`."""

import io
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from discrete_grad.cli import main
from discrete_grad.cli.commands import COMMANDS
from discrete_grad.cli.options import FitRun, Goal, Quality, option_names
from discrete_grad.cli.parsing import WrongWords, parsed
from discrete_grad.runs import FitConfig, config_text, read_config
from discrete_grad.runs.settings import flatten, settings
from tests.data.malformed import good_table

MOST_OPTIONS = 25
FILE = """
seed = 7
maximise = "mean"
[estimator]
members = 3
hidden = [4]
[generator]
entropy = 0.5
"""


def shown(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The text of `--help`."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def options(text: str) -> list[str]:
    """The options that a text of `--help` explains, by their indentation; `--help` is one."""
    return re.findall(r"^  (?:-\w, )?(--[a-z][a-z._-]*)", text, flags=re.MULTILINE)


def titles(text: str) -> list[str]:
    """The titles of the groups of options."""
    return re.findall(r"^ (\w+) options +$", text, flags=re.MULTILINE)


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> FitConfig:
    """The configuration that `--print-config` writes."""
    capsys.readouterr()
    assert main(["fit", *arguments, "--print-config"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    path = Path("printed.toml")
    path.write_text(captured.out, encoding="utf-8")
    return read_config(path)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("fit.toml")
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_few_options_in_groups(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(command, capsys)
    assert "--help" in options(text)
    assert "--debug" in options(text)
    assert len(options(text)) <= MOST_OPTIONS, options(text)
    assert titles(text)


def test_help_of_fit_has_the_groups_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("fit", capsys)
    assert titles(text) == ["table", "context", "goal", "rules", "quality", "run"]
    # no option is shown twice
    assert len(set(options(text))) == len(options(text))
    assert {"--score", "--context", "--maximise", "--scorer", "--config"} <= {*options(text)}


def test_options_are_settings_with_their_types_texts_and_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = re.sub(r"\s+", " ", shown("fit", capsys))
    names = option_names(FitRun(), Goal(), Quality())
    assert len(names) == 5
    for name in names:
        setting = settings()[name]
        default = flatten(FitConfig())[name]
        kind = "{" + ",".join(setting.choices) + "}" if setting.choices else ""
        flag = "--" + name.replace("_", "-")
        assert f"{flag} {kind or setting.type.__name__.upper()} {setting.text}" in text
        assert f"{setting.text} (default: {default})" in text


def test_names_of_options_are_unambiguous() -> None:
    names = [name.replace(".", "_") for name in settings()]
    assert len(set(names)) == len(names)


def test_print_config_writes_the_defaults_and_needs_no_table(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed([], capsys) == FitConfig()
    assert printed(["t.csv", "--score", "a", "--out", "new"], capsys) == FitConfig()
    assert sorted(path.name for path in Path().iterdir()) == ["fit.toml", "printed.toml"]


def test_a_file_decides_and_options_win_over_it(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_file = read_config(file)
    assert (of_file.seed, of_file.estimator.members, of_file.judge.members) == (7, 3, 2)
    assert printed(["--config", "fit.toml"], capsys) == of_file
    # an option that is given as its default wins, too
    given = ["--seed", "0", "--maximise", "rank", "--estimator.steps", "50"]
    both = printed([*given, "--generator.entropy", "0", "--config", "fit.toml"], capsys)
    assert (both.seed, both.maximise, both.estimator.steps) == (0, "rank", 50)
    assert both.generator.entropy == 0
    assert both.estimator.hidden == (4,)


@pytest.mark.parametrize("name", sorted(option_names(FitRun(), Goal(), Quality())))
def test_every_option_reaches_its_setting(
    name: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = settings()[name].type
    value = {int: 5, float: 0.25, str: "Softmax"}.get(kind, "median")
    config = printed([f"--{name.replace('_', '-')}", str(value)], capsys)
    usual = flatten(FitConfig())
    changed = {key: v for key, v in flatten(config).items() if v != usual[key]}
    assert changed == {name: value}


@pytest.mark.parametrize(
    ("option", "word"),
    [("--maximise", "foo"), ("--seed", "None"), ("--seed", "a"), ("--generator.entropy", "a")],
)
def test_no_message_names_a_value_that_cannot_be_given(
    option: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--print-config", option, word]) == 2
    told = capsys.readouterr().err
    assert option in told
    assert word in told
    assert "None" not in told.replace(f"'{word}'", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fit --foo", "Unrecognized options: --foo; see discrete-grad fit --help"),
        ("generate", "Missing from discrete-grad generate: RUN --out FILE; see "),
        ("fit t.csv --out", "Missing value for argument '--out'. Expected 1 values; see "),
        ("generate run --row 3 --out x.csv", "Perhaps you meant: --rows INT; see "),
        ("fitt", "Unrecognized options: fitt; Available subcommands: fit, generate, score, "),
        ("", "Expected one of {fit, generate, score, propose, tell, prefer, report, demo}; see "),
    ],
)
def test_wrong_words_are_told_in_one_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    told = capsys.readouterr()
    assert told.err.startswith("discrete-grad: error: ")
    assert message in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


class _Utf8(io.StringIO):
    encoding = "utf-8"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("words", ["fit --foo", "generate", "tell", "fit --maximise bad"])
def test_the_terminal_changes_no_message(
    words: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Utf8, "encoding", encoding)
    monkeypatch.setattr(sys, "stdout", _Utf8())
    with pytest.raises(WrongWords) as told:
        parsed(words.split())
    assert re.fullmatch(r"[\w '\"(),:;.-]+ see discrete-grad \w+ --help", str(told.value))


def test_a_wrong_option_or_file_prints_no_configuration(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["--seed", "-1"], "seed must lie in [0, 2**63), got -1"),
        (["--config", "absent.toml"], "the configuration absent.toml does not exist"),
        (["--estimator.steps", "0"], "estimator.steps must be at least 1, got 0"),
    ):
        assert main(["fit", *arguments, "--print-config"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err == f"discrete-grad: error: {message}\n"


def test_the_run_folder_keeps_the_configuration_and_resumes_with_the_same_alone(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = Path(__file__).parent / "runs" / "quick.toml"
    arguments = ["fit", str(good_table(Path())), "--score", "score", "--context", "shop", "price"]
    arguments += ["--config", str(quick), "--out", "run"]
    assert main([*arguments, "--seed", "3"]) == 0
    kept = FitConfig.from_json(
        json.dumps(json.loads(Path("run/config.json").read_text())["config"])
    )
    assert kept.seed == 3
    assert kept.reproduction.steps == 20
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 2
    assert "run was begun with seed = 3, not 0" in capsys.readouterr().err
    assert tomllib.loads(config_text(kept))["seed"] == 3
    Path("kept.toml").write_text(config_text(kept))
    arguments[arguments.index(str(quick))] = "kept.toml"
    assert main([*arguments, "--resume"]) == 0


def test_nothing_is_written_for_a_wrong_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("[estimator]\nmemebrs = 3\n")
    table = good_table(Path())
    before = sorted(Path().iterdir())
    arguments = ["fit", str(table), "--score", "score", "--context", "shop", "price"]
    assert main([*arguments, "--config", "fit.toml", "--out", "run"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "discrete-grad: error: estimator.memebrs in fit.toml: did you mean estimator.members?\n"
    )
    assert sorted(Path().iterdir()) == before


def test_a_switch_that_turns_off_shows_no_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert "default: True" not in shown("generate", capsys)
