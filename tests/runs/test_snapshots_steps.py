"""All that a run that writes step by step tells; see `test_snapshots`."""

from pathlib import Path

import pytest

from tests.runs.test_snapshots import check_run


def test_a_run_that_writes_step_by_step_tells_what_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_run("steps", tmp_path, monkeypatch)
