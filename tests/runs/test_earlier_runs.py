"""Runs of earlier versions are read as they were.

Each version wrote the CSV from the same folder with the same options; see `kept_runs`.
"""

import csv
import shutil
from pathlib import Path

import pytest
import torch

from discrete_grad.cli import main
from discrete_grad.runs import load_run
from tests.runs.kept_runs import OPTIONS

FIXTURES = Path(__file__).parent / "fixtures"
SCORES = ("estimated_score", "judge_score")
WORDS = {
    "run_before_rooms": ["--rows", "5", "--seed", "1", "--no-new-only"],
    "run_0_2_0": [*OPTIONS, "--contexts", str(FIXTURES / "run_0_2_0_contexts.csv")],
}


def test_each_kept_run_is_looked_at() -> None:
    assert {path.name for path in FIXTURES.iterdir() if path.is_dir()} == {*WORDS}


@pytest.mark.parametrize("name", WORDS)
def test_a_run_of_an_earlier_version_writes_the_same_rows(name: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "run", tmp_path / "rows.csv"
    shutil.copytree(FIXTURES / name, folder)
    assert main(["generate", str(folder), *WORDS[name], "--out", str(out)]) == 0
    with out.open() as now, (FIXTURES / f"{name}.csv").open() as then:
        rows, expected = list(csv.DictReader(now)), list(csv.DictReader(then))
    assert len(rows) == len(expected) > 0
    for row, old in zip(rows, expected, strict=True):
        for score in SCORES:  # another processor may round otherwise
            assert float(row.pop(score)) == pytest.approx(float(old.pop(score)), rel=1e-4)
        assert row == old


def test_every_kind_of_file_of_an_earlier_run_is_read(tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "run_0_2_0", tmp_path / "run")
    run = load_run(folder)
    assert run.folder == folder / "rounds" / "fits" / "000001"
    assert len(run.table) == 81  # one row was told
    assert run.rules is not None
    assert run.rules.rules[0].words() == "never cut=fair & size=True"
    assert run.preferences is not None
    assert run.preference is not None
    assert run.aligner is not None
    assert len(run.preferences) == 20
    assert torch.tensor([line["step"] for line in run.metrics()]).ge(0).all()
    contexts = {"shop": ["east"], "price": [0.5]}
    proposed, again = (run.propose(contexts, rows=2) for _ in range(2))
    seen = [
        set(map(tuple, made[["cut", "shade", "size"]].to_numpy())) for made in (proposed, again)
    ]
    assert not seen[0] & seen[1]  # those that are out are not proposed again
