"""No pipe and no device is waited for, whatever it is given as."""

import os
import threading
from pathlib import Path

import pytest

from discrete_grad.data import TableError, read_table
from discrete_grad.data.text_files import kind_of_path, read_text
from discrete_grad.runs import read_config, read_rules
from discrete_grad.training import RunError

DEVICE = Path("/dev/zero")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(path := tmp_path / "pipe.csv")
    return path


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.parquet"])
def test_a_table_is_no_pipe(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(TableError, match=rf"{name} is a pipe, not a file"):
        read_table(tmp_path / name, score="score")
    with pytest.raises(TableError, match="/dev/zero is a device, not a file"):
        read_table(DEVICE, score="score")


def test_a_pipe_that_nobody_writes_to_is_told(pipe: Path) -> None:
    table = read_table({"cut": [0, 1], "score": [1.0, 2.0]}, score="score")
    with pytest.raises(RunError, match=r"pipe.csv cannot be read: .*that nobody writes to"):
        read_config(pipe)
    with pytest.raises(RunError, match=r"pipe.csv is no text: .*that nobody writes to"):
        read_rules(pipe, table)


def test_a_device_without_an_end_is_told() -> None:
    with pytest.raises(RunError, match=r"/dev/zero cannot be read: it holds more than"):
        read_config(DEVICE)


def test_a_pipe_that_is_written_to_is_waited_for(pipe: Path) -> None:
    go = threading.Event()

    def write() -> None:
        with pipe.open("w") as file:
            go.wait()
            file.write("seed = 3")

    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that the writer is there
    writer = threading.Thread(target=write)
    writer.start()
    threading.Timer(0.05, go.set).start()
    assert read_config(pipe).seed == 3
    writer.join()
    os.close(reader)


def test_a_file_and_nothing_have_no_kind(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text", encoding="utf-8-sig")
    assert kind_of_path(tmp_path / "a") == kind_of_path(tmp_path / "b") == ""
    assert read_text(tmp_path / "a") == "text"
