"""All that a run of several aims tells; see `test_snapshots`."""

from pathlib import Path

import pytest

from tests.runs.test_snapshots import check_run


def test_a_run_of_several_aims_tells_what_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_run("aims", tmp_path, monkeypatch)
