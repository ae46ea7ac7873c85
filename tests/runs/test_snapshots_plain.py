"""All that a run without contexts tells; see `test_snapshots`."""

from pathlib import Path

import pytest

from tests.runs.test_snapshots import check_run


def test_a_run_without_contexts_tells_what_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_run("plain", tmp_path, monkeypatch)
