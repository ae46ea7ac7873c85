"""What a run's report knows beyond what `build_report` measures."""

from pathlib import Path

import pytest

from discrete_grad.runs import fit, write_report
from tests.runs.small import small_config, small_table


def test_a_runs_contexts_are_perturbed_by_its_own_spread(tmp_path: Path) -> None:
    report = write_report(fit(small_table(), tmp_path / "run", small_config()))
    part = report["robustness"]
    assert (part["policy"], part["measure"], part["contexts"]) == ("generator", "judged", 32)
    assert {tuple(entry["columns"]) for entry in part["perturbed"]} == {("price",), ("shop",)}
    likely = next(e for e in report["average"] if e["name"] == "generator, most likely row")
    assert part["clean"]["row"][0] == pytest.approx(likely["judged"], abs=0.5)
    assert 'id="robustness"' in (tmp_path / "run" / "report.html").read_text()


def test_a_run_without_contexts_has_none_to_perturb(tmp_path: Path) -> None:
    report = write_report(fit(small_table(context=False), tmp_path / "run", small_config()))
    assert report["robustness"] is None
