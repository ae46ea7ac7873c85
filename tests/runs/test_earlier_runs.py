"""Runs of earlier versions are read as they were."""

import csv
import shutil
from pathlib import Path

import pytest

from discrete_grad.cli import main

FIXTURES = Path(__file__).parent / "fixtures"
SCORES = ("estimated_score", "judge_score")


def test_a_run_of_the_version_before_the_rooms_writes_the_same_rows(tmp_path: Path) -> None:
    """That version wrote the CSV from the same folder with the same options."""
    folder, out = tmp_path / "run", tmp_path / "rows.csv"
    shutil.copytree(FIXTURES / "run_before_rooms", folder)
    options = ["--rows", "5", "--seed", "1", "--no-new-only"]
    assert main(["generate", str(folder), *options, "--out", str(out)]) == 0
    with out.open() as now, (FIXTURES / "run_before_rooms.csv").open() as then:
        rows, expected = list(csv.DictReader(now)), list(csv.DictReader(then))
    assert len(rows) == len(expected) == 5
    for row, old in zip(rows, expected, strict=True):
        for name in SCORES:  # another processor may round otherwise
            assert float(row.pop(name)) == pytest.approx(float(old.pop(name)), rel=1e-5)
        assert row == old
