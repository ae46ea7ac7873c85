"""A disk that is full or read-only is told in one line that names the file; the old state stays."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from discrete_grad.cli import main
from discrete_grad.runs import load_run, prefer, report
from tests.runs.test_damaged import KEPT

SHEET = "cut,shade,size,shop,price,score\nfair,1,False,east,0.5,2.5\n"


@contextmanager
def full() -> Iterator[None]:
    """No file can grow: what is written fails as on a full disk, with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only() -> Iterator[None]:
    """No file can be made; the rights of a folder do not bind whoever runs tests as root."""
    opened = os.open

    def refused(path: str | Path, flags: int, *more: int, **named: int | None) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refused)
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a report and answers, beside rows of an earlier time."""
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(KEPT, tmp_path / "run")
    Path("contexts.csv").write_text("shop,price\neast,0.5\n")
    Path("sheet.csv").write_text(SHEET)
    for name in ("rows.csv", "rows.parquet", "run/report.html", "run/report.json", "net.pt2"):
        Path(name).write_text("old")
    assert answer("1") == 1
    return run


def answer(key: str) -> int:
    run, path = load_run("run"), Path("run/answers.parquet")
    return prefer(run, path, ask=lambda _: key, show=lambda _: None, pairs=1)


def write_a_report() -> None:
    with pytest.MonkeyPatch.context() as patch:  # what is written, not how it is made
        patch.setattr(report, "build_report", lambda *_, **__: {})
        patch.setattr(report, "rows_to_try", lambda run: [])
        patch.setattr(report, "render_html", lambda made: "x" * 100)
        report.write_report(load_run("run"))


WORDS = ["generate", "run", "--contexts", "contexts.csv", "--rows", "2", "--no-new-only"]
WAYS: dict[str, tuple[Callable[[], object], str]] = {
    "generate to CSV": (lambda: main([*WORDS, "--out", "rows.csv"]), "rows.csv"),
    "generate to Parquet": (lambda: main([*WORDS, "--out", "rows.parquet"]), "rows.parquet"),
    "propose": (
        lambda: main(["propose", "run", "--contexts", "contexts.csv", "--out", "rows.csv"]),
        "rows.csv",
    ),
    "tell": (lambda: main(["tell", "run", "sheet.csv"]), "told"),
    "prefer": (lambda: answer("2"), "answers.parquet"),
    "report": (write_a_report, "report.json"),
    "export": (lambda: replace(load_run("run"), rules=None).export("net.pt2"), "net.pt2"),
}


def state() -> dict[str, bytes]:
    """Content of all files, but for locks, which are empty."""
    found = {str(p): p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.endswith(".lock")}


@pytest.mark.parametrize("kind", [full, read_only])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_lost_and_one_line_is_told(
    folder: Path, way: str, kind: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    act, name = WAYS[way]
    before, told = state(), ""
    with kind():
        try:
            ended = act()
        except (ValueError, OSError) as error:
            ended, told = 2, f"discrete-grad: error: {error}\n"
    told = capsys.readouterr().err or told
    assert ended == 2
    assert told.startswith("discrete-grad: error: ")
    assert told.count("\n") == 1
    reason = "File too large" if kind is full else "Read-only file system"
    assert reason in told
    assert name in told or "lock" in told
    assert state() == before
