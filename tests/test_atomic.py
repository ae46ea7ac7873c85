"""A file is there whole, or not at all, whatever stops the writing."""

import os
from pathlib import Path

import pytest

from discrete_grad.atomic import open_atomic


class _Stop(BaseException):
    pass


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with open_atomic(path) as file:
            file.write(b"half of the new")
            raise _Stop

    with pytest.raises(_Stop):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_rename_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"), open_atomic(tmp_path / "rows.csv") as file:
        file.write(b"new")
    assert not list(tmp_path.iterdir())


def test_two_writers_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    with open_atomic(path) as mine:
        mine.write(b"mi")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with open_atomic(path) as other:
            other.write(b"other")
        assert path.read_bytes() == b"other"
        mine.write(b"ne")
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]
