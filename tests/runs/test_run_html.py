"""A run as a notebook and a terminal show it; no fit is needed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.data import read_table
from discrete_grad.rules import Fix
from discrete_grad.runs import Run
from discrete_grad.runs._run_html import run_html, run_text
from tests.runs.small import small_config
from tests.runs.untrained import untrained


def made(folder: Path, score: Any, **options: Any) -> Run:
    codes = torch.cartesian_prod(*[torch.arange(3)] * 4)
    columns = {name: codes[:, i] for i, name in enumerate(["a<b", "b", "c", "d"])}
    columns |= {"yield": codes.sum(1), "cost": codes[:, 0] * codes[:, 1]}
    table = read_table(columns, score=score, features=["a<b", "b", "c", "d"])
    networks = replace(small_config().estimator, families=("networks",))
    config = replace(small_config(estimator=networks, judge=networks), **options)
    return untrained(table, folder / "run", config)


@pytest.mark.parametrize(
    ("score", "maximise", "told"),
    [
        ("yield", "rank", "score: yield, maximised by rank"),
        ("yield:min", "mean", "score: yield, minimised by mean"),
        (["yield", "cost:min"], "rank", "aims: yield:max, cost:min"),
    ],
)
def test_what_rows_are_sought_by_is_told(
    score: Any, maximise: str, told: str, tmp_path: Path
) -> None:
    run = made(tmp_path, score, maximise=maximise)
    assert f"; {told}; rows: 81; " in run_text(run)
    assert f"run: {tmp_path / 'run'}; " in run_text(run)
    assert "rank correlation" not in run_text(run)


def test_facts_are_cells_of_a_table_and_names_are_no_html(tmp_path: Path) -> None:
    run = replace(made(tmp_path, "yield"), held_out={"spearman": 0.8349})
    told = "rank correlation of the estimator with the score"
    assert run_text(run).endswith(f"; {told}: 0.83 on rows that it has not seen")
    page = run_html(run)
    assert "a&lt;b (3)" in page
    assert "a<b" not in page
    assert page.startswith("<table><tr><th style='text-align:left'>run</th><td ")
    assert page.endswith("0.83 on rows that it has not seen</td></tr></table>")
    assert page.count("<tr>") == page.count("</tr>") == run_text(run).count("; ") + 1


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"reference": "mine:model", "name": "Model"}, "mine:model, maximised"),
        ({"reference": None, "name": "Model"}, "Model, maximised"),
    ],
)
def test_a_scorer_of_ones_own_is_named(facts: Any, told: str, tmp_path: Path) -> None:
    run = replace(made(tmp_path, "yield"), scorer_facts=facts)
    assert f"; scorer: {told}; rows" in run_text(run)


def test_rules_are_told_in_words(tmp_path: Path) -> None:
    run = made(tmp_path, "yield")
    rules = untrained(run.table, tmp_path / "ruled", run.config, rules=[Fix("b", "2")])
    assert "; rules" not in run_text(run)
    assert f"; rules: {Fix('b', '2').words()}" in run_text(rules)
