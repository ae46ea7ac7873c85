"""All that runs of a few steps tell, as it was when it was last looked at.

Whatever changes a default, an axis, a seed, the name of a column or a term of a loss changes
something here. `python -m tests.runs.test_snapshots` writes it anew, to be read before it is
committed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.kept_numbers import check_told, keep_told
from tests.runs.snapshots import FITS, prepare
from tests.runs.told import rounds, told, told_untrained

FILE = Path(__file__).parent / "snapshots.json"
CHOICES = ("improvement", "thompson", "optimism", "evolution")


def check_run(name: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Fail unless a run tells what it told; a file asks for each, as they take seconds."""
    prepare(patch)
    check_told(FILE, name, told(FITS[name], folder / "run"))


@pytest.mark.parametrize("choose", CHOICES)
def test_rounds_propose_what_they_proposed(choose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)
    check_told(FILE, choose, rounds(choose))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        prepare(patch)
        found = {name: told(fit, Path(folder) / name / "run") for name, fit in FITS.items()}
        found["untrained"] = told_untrained(Path(folder) / "untrained" / "run")
        keep_told(FILE, found | {choose: rounds(choose) for choose in CHOICES})
