"""A file is there whole, or not at all, whatever stops the writing."""

import errno
import os
import secrets
from pathlib import Path

import pytest

from discrete_grad.atomic import open_atomic, open_to_append


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


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with open_atomic(path) as mine:
        mine.write(b"mi")
        with open_atomic(path) as other:
            other.write(b"other")
        assert path.read_bytes() == b"other"
        mine.write(b"ne")
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_under_the_hidden_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "rows.csv"
    victim.write_bytes(b"mine")
    monkeypatch.setattr(secrets, "token_hex", lambda count: "guessed")
    (tmp_path / ".rows.csv.guessed.part").symlink_to(victim)
    with pytest.raises(FileExistsError), open_atomic(path) as file:
        file.write(b"theirs")
    assert victim.read_bytes() == b"mine"


def test_hidden_names_cannot_be_foreseen(tmp_path: Path) -> None:
    names = set()
    for _ in range(5):
        with open_atomic(tmp_path / "rows.csv"):
            names |= {path.name for path in tmp_path.glob(".*")}
    assert len(names) == 5


def test_what_is_appended_to_is_no_link(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "metrics.jsonl"
    victim.write_bytes(b"mine")
    path.symlink_to(victim)
    with pytest.raises(OSError, match=r"metrics\.jsonl"), open_to_append(path) as file:
        file.write(b"theirs")
    assert victim.read_bytes() == b"mine"


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with pytest.raises(OSError, match=r"No space left on device.*/rows\.csv'"), open_atomic(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())
