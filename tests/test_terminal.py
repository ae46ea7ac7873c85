"""Nothing that is in a table acts upon the terminal, and every seed decides what it should."""

import builtins
from pathlib import Path
from typing import Any

import pytest

from discrete_grad.cli import commands, main
from discrete_grad.cli.terminal import harmless, say
from discrete_grad.data import read_table
from discrete_grad.runs import _proposals as proposals
from discrete_grad.runs import fit
from tests.runs.small import small_config

EVIL = "\x1b[2Jfair\x9b31m\u202e"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cut = [EVIL, "good", "ideal"] * 40
    columns = {"cut": cut, "shade": [i % 7 for i in range(120)]}
    columns |= {"shop": [(EVIL, "b")[i // 3 % 2] for i in range(120)]}
    columns |= {"score": [i % 3 + 0.1 * (i % 7) for i in range(120)]}
    folder = tmp_path_factory.mktemp("terminal") / "run"
    fit(read_table(columns, score="score", context="shop"), folder, small_config())
    return folder


def test_words_that_act_are_spelled_out() -> None:
    assert harmless("a\tb\nc é 漢") == "a\tb\nc é 漢"
    assert harmless(EVIL) == r"\x1b[2Jfair\x9b31m\u202e"


def test_errors_and_output_go_where_they_belong(capsys: pytest.CaptureFixture[str]) -> None:
    say("fine")
    say("wrong", error=True)
    assert capsys.readouterr() == ("fine\n", "wrong\n")


@pytest.mark.parametrize("command", ["report", "prefer", "score"])
def test_categories_do_not_reach_the_terminal_as_they_are(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(f"cut,shade,shop\n{EVIL},1,b\n", encoding="utf-8")
    answers = iter(["1", "1", "q"])
    monkeypatch.setattr(builtins, "input", lambda prompt: next(answers))
    more = {"score": [str(rows)], "prefer": ["--out", str(tmp_path / "a.parquet")]}
    assert main([command, str(folder), *more.get(command, [])]) == 0
    told = capsys.readouterr().out
    assert not {*"\x1b\x9b\u202e"} & {*told}
    assert r"\x1b[2J" in told


def shown_pairs(folder: Path, out: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> str:
    words = ["prefer", str(folder), "--pairs", "2", "--seed", str(seed), "--out", str(out)]
    assert main(words) == 0
    return capsys.readouterr().out.split("answers kept")[0]


def test_the_seed_of_prefer_decides_the_pairs(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(builtins, "input", lambda prompt: "1")
    first, again, other = (
        shown_pairs(folder, tmp_path / f"{i}.parquet", seed, capsys)
        for i, seed in enumerate((0, 0, 1))
    )
    assert first == again != other


def test_the_seed_of_generate_reaches_the_search(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, best_rows = [], proposals.best_rows

    def spy(*arguments: Any, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        return best_rows(*arguments, seed=seed, **options)

    monkeypatch.setattr(proposals, "best_rows", spy)
    contexts = tmp_path / "contexts.csv"
    contexts.write_text("shop\nb\n")
    words = ["generate", str(folder), "--contexts", str(contexts), "--rows", "1", "--no-new-only"]
    for seed in ("0", "0", "1"):
        assert main([*words, "--seed", seed, "--out", str(tmp_path / "rows.csv")]) == 0
    assert seeds[0] == seeds[1] != seeds[2]


def test_the_seed_of_the_demo_decides_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    class Rows:
        features = ("cut",)

        def training_rows(self, count: int, *, seed: int) -> None:
            asked.append((count, seed))
            raise ValueError("enough")

    monkeypatch.setattr(commands, "load_example", lambda family: Rows())
    for seed in ("3", "4"):
        out = str(tmp_path / seed)
        assert main(["demo", "--rows", "20", "--seed", seed, "--out", out]) == 2
    assert asked == [(20, 3), (20, 4)]
