"""Every malformed input gives one `TableError`: what is wrong and where, in a line a fault.

The messages are those of `malformed.txt`; after a change that is meant, write it anew:

    python -m tests.data.test_malformed
"""

import argparse
import re
import tempfile
import warnings
from pathlib import Path

import pytest

from discrete_grad.data import TableError, TableWarning, output_format, read_table
from discrete_grad.runs._lines import read_lines
from tests.data.malformed import Malformed, good_table, malformed_fits, malformed_generates

MESSAGES = Path(__file__).with_name("malformed.txt")


def options_of(arguments: list[str]) -> argparse.Namespace:
    """The options as the command takes them."""
    parser = argparse.ArgumentParser()
    for name in ("command", "source", "--out", "--contexts", "--rows"):
        parser.add_argument(name)
    parser.add_argument("--score", action="append")
    parser.add_argument("--context", nargs="*", default=())
    parser.add_argument("--features", nargs="*")
    parser.add_argument("--missing", default="error")
    return parser.parse_args(arguments)


def run(arguments: list[str]) -> None:
    """What the commands do with their inputs before any training or drawing."""
    options = options_of(arguments)
    if options.command == "fit":
        columns = {"context": options.context, "features": options.features}
        read_table(options.source, score=options.score, missing=options.missing, **columns)
    else:
        output_format(options.out)
        table = read_table(options.source, score="score", context=["shop", "price"])
        read_lines(options.contexts, table.schema)


def told(arguments: list[str]) -> str:
    """The message, or nothing if the input is accepted."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TableWarning)
            run(arguments)
    except TableError as error:
        return str(error)
    return ""


def cases(folder: Path) -> list[Malformed]:
    """All of them."""
    return [*malformed_fits(folder), *malformed_generates(folder, good_table(folder))]


def test_good_table_is_good(tmp_path: Path) -> None:
    table = read_table(good_table(tmp_path), score="score", context=["shop", "price"])
    assert len(table) == 24
    assert table.context is not None
    assert table.context.shape == (24, 3)


def test_there_are_many_malformed_inputs_with_different_names(tmp_path: Path) -> None:
    names = [case.name for case in cases(tmp_path)]
    assert len(set(names)) == len(names) >= 60


def test_each_malformed_input_is_told_in_a_line_a_fault(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    messages = [(case, told(case.arguments)) for case in cases(tmp_path)]
    assert [(case.name, text) for case, text in messages if case.message not in text] == []
    several = [text for _, text in messages if "\n" in text]
    assert several
    for text in several:
        first, *faults = text.splitlines()
        assert first in (f"the table has {len(faults)} problems:", "the table of contexts has 2")
    assert [text for _, text in messages if len(max(text.splitlines(), key=len)) > 500] == []
    assert MESSAGES.read_text(encoding="utf-8") == listed(messages, tmp_path)
    # the libraries below print nothing of their own
    assert capfd.readouterr() == ("", "")


def listed(messages: list[tuple[Malformed, str]], folder: Path) -> str:
    """Name and message of each case; without the words of pyarrow, which are another's."""
    text = "".join(f"{case.name}: {message}\n" for case, message in messages)
    text = re.sub("(damaged or truncated Parquet file): .*", r"\1: ...", text)
    return text.replace(str(folder), "FOLDER")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        found = [(case, told(case.arguments)) for case in cases(Path(name))]
        MESSAGES.write_text(listed(found, Path(name)), encoding="utf-8")
