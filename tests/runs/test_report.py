"""What a run's report knows beyond what `build_report` measures."""

from pathlib import Path

import pytest
import torch

from discrete_grad.data import read_table
from discrete_grad.runs import fit, write_report
from discrete_grad.runs.report import _subject
from tests.runs.small import small_config, small_table
from tests.runs.untrained import untrained


@pytest.mark.slow
def test_a_runs_contexts_are_perturbed_by_its_own_spread(tmp_path: Path) -> None:
    report = write_report(fit(small_table(), tmp_path / "run", small_config()))
    part = report["robustness"]
    assert (part["policy"], part["measure"], part["contexts"]) == ("generator", "judged", 32)
    assert {tuple(entry["columns"]) for entry in part["perturbed"]} == {("price",), ("shop",)}
    likely = next(e for e in report["average"] if e["name"] == "generator, most likely row")
    assert part["clean"]["row"][0] == pytest.approx(likely["judged"], abs=0.5)
    assert 'id="robustness"' in (tmp_path / "run" / "report.html").read_text()


def test_a_run_without_contexts_has_none_to_perturb(tmp_path: Path) -> None:
    run = untrained(small_table(context=False), tmp_path / "run", small_config())
    assert write_report(run)["robustness"] is None


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_measured_is_the_table_in_the_users_units(tmp_path: Path, sign: int) -> None:
    codes, shop = torch.cartesian_prod(*[torch.arange(4)] * 3), torch.arange(64) % 2
    score = sign * (codes.sum(1) + 0.5 * shop)
    columns = {"a": codes[:, 0], "b": codes[:, 1], "c": codes[:, 2], "shop": shop, "yield": score}
    named = "yield" if sign > 0 else "yield:min"
    table = read_table(columns, score=named, context=["shop:categorical"])
    subject = _subject(untrained(table, tmp_path / "run", small_config()))
    assert (subject.observed.score_name, subject.observed.sign) == ("yield", sign)
    assert subject.observed.scores.tolist() == score.tolist()
    assert subject.observed.codes.tolist() == codes.tolist()
    shown = subject.contexts[subject.observed.context]
    assert shown.argmax(1).tolist() == shop.tolist()
    assert subject.contexts_in_table == 2


@pytest.mark.slow
def test_judge_and_estimator_are_graded_on_rows_they_have_not_seen(tmp_path: Path) -> None:
    """By ranks that are counted here."""
    run = fit(small_table(), tmp_path / "run", small_config())
    found = write_report(run)["held_out"]
    sides = {"estimator": (run.estimator, run.judge_rows), "judge": (run.judge, run.rows)}
    for name, (model, rows) in sides.items():
        times = torch.ones(len(rows)) if rows.counts is None else rows.counts
        places = torch.arange(len(rows)).repeat_interleave(times.long())
        assert found[name]["of"] == len(places)
        predicted = model(rows.codes.long(), rows.context).double()[places]
        truth = rows.scores.double()[places]
        error = (predicted - truth).square().mean().sqrt().item()
        assert found[name]["rmse"] == pytest.approx(error, rel=1e-4)
        ranks = torch.stack([_ranks(predicted), _ranks(truth)])
        assert found[name]["spearman"] == pytest.approx(ranks.corrcoef()[0, 1].item(), abs=1e-4)


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Mean places of equal values."""
    below = (values < values[:, None]).sum(1)
    return below + (values == values[:, None]).sum(1) / 2
