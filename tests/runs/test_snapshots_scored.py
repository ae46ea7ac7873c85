"""All that a run by a scorer of one's own tells; see `test_snapshots`."""

from pathlib import Path

import pytest

from tests.runs.test_snapshots import check_run


def test_a_run_by_a_scorer_tells_what_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_run("scored", tmp_path, monkeypatch)
