"""All that is made with a run that was not trained; see `test_snapshots`."""

from pathlib import Path

import pytest

from tests.kept_numbers import check_told
from tests.runs.snapshots import prepare
from tests.runs.test_snapshots import FILE
from tests.runs.told import told_untrained


def test_a_run_that_was_not_trained_tells_what_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(monkeypatch)
    check_told(FILE, "untrained", told_untrained(tmp_path / "run"))
