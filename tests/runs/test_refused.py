"""What is refused before anything is trained, so that nothing is left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.data import read_table
from discrete_grad.fitting import GeneratorConfig
from discrete_grad.rules import Fix, Forbid, Rules
from discrete_grad.runs import FitConfig, fit
from discrete_grad.runs.fit import _check
from discrete_grad.space import CategoricalSpace
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table
from tests.runs.snapshots import answers


def changed(**settings: Any) -> FitConfig:
    """Settings with others of the generator."""
    config = small_config()
    return replace(config, generator=replace(config.generator, **settings))


def test_settings_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'Magic': did you mean"):
        fit(small_table(), tmp_path / "run", changed(gradient_estimator="Magic"))
    with pytest.raises(RunError, match="at least 10 rows"):
        fit(small_table().take(range(9)), tmp_path / "run", small_config())
    assert not (tmp_path / "run").exists()


def test_a_coverage_that_lacks_rows_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    wrong = changed(coverage=0.95)
    with pytest.raises(ValueError, match="19 rows to calibrate on, got 3 and 16"):
        fit(small_table(200), tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()
    alone = replace(wrong, estimator=replace(wrong.estimator, members=1))
    with pytest.raises(ValueError, match="2 members"):
        fit(small_table(400), tmp_path / "run", alone)
    assert not (tmp_path / "run").exists()


def test_scores_that_no_report_could_draw_are_told_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    columns = {"cut": [0, 1, 2] * 20, "score": [1.0, -1.5e308, 1e308] * 20}
    with pytest.raises(RunError, match=r"1e\+300 of 0.*'score' reaches 1\.5e\+308: divide it"):
        fit(read_table(columns, score="score"), tmp_path / "run", small_config())
    assert not (tmp_path / "run").exists()


def test_tables_at_the_bounds_pass_the_checks() -> None:
    codes = {"cut": [0, 1, 2] * 4}
    for largest, maximise in ((1e300, "rank"), (10.0, "raw"), (-10.0, "raw")):
        table = read_table({**codes, "score": [largest, 0.0, 1.0] * 4}, score="score")
        _check(table, small_config(maximise=maximise), None, None)
        beyond = replace(table, scores=table.scores * 1.001)
        with pytest.raises(RunError, match=r"scores must lie within|which must lie within 10 of 0"):
            _check(beyond, small_config(maximise=maximise), None, None)
    _check(table.take(range(10)), small_config(maximise="raw"), None, None)
    with pytest.raises(RunError, match=r"^a fit needs at least 10 rows, the table has 9$"):
        _check(table.take(range(9)), small_config(maximise="raw"), None, None)


def test_raw_scores_far_from_0_are_refused(tmp_path: Path) -> None:
    table = small_table(context=False)
    far = replace(table, scores=table.scores + 1000)
    with pytest.raises(RunError, match=r"'score' reaches 100\d.*use rank or mean"):
        fit(far, tmp_path / "run", replace(small_config(), maximise="raw"))
    assert not (tmp_path / "run").exists()


def test_what_a_generator_cannot_be_trained_with_is_told_first(tmp_path: Path) -> None:
    columns = {f"x{i}": [i % 3, 1, 2] * 20 for i in range(1, 30)} | {"score": [0.5, 0.1, 0.9] * 20}
    table = read_table(columns, score="score")
    with pytest.raises(ValueError, match="rows, more than max_rows"):
        fit(table, tmp_path / "run", changed(gradient_estimator="Enumerate"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([Fix("cut", "fair"), Fix("cut", "good"), Fix("size", "True")],
         "these rules together allow no row: Fix('cut', 'fair'), Fix('cut', 'good')"),
        ([Fix("cutt", "fair")], "no feature 'cutt'; did you mean 'cut'?"),
        ([Fix("cut", "fiar")], "feature 'cut' has no category 'fiar'; did you mean 'fair'?"),
        ([Fix("shop", "east")], "context row 2: no row obeys Fix('shop', 'east')"),
        ([Fix("price", "3")], "no feature 'price'"),
        (Rules(CategoricalSpace({"cut": 3}), [Fix("cut", "1")]), "the rules are of "),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_followed_are_told_before_training(
    rules: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(RunError) as caught:
        fit(small_table(), tmp_path / "run", small_config(), rules=rules)
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_gradient_estimator_that_takes_no_rules_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="GumbelSoftmax takes no rules"):
        fit(
            small_table(context=False),
            tmp_path / "run",
            changed(gradient_estimator="GumbelSoftmax"),
            rules=[Forbid({"cut": "fair", "size": "True"})],
        )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trust": 1.0}, "generator.policy autoregressive does not know the probability"),
        ({"diversity": 1.0}, "diversity and trust are: they must be 0"),
        ({"hidden": (8, 16)}, "layers of one width, got"),
        ({"gradient_estimator": "Rebar"}, "takes LeaveOneOut or a relaxation, got Rebar"),
    ],
)
def test_what_a_policy_of_steps_cannot_be_trained_by_is_told_before_training(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="autoregressive") as caught:
        fit(
            small_table(60),
            tmp_path / "run",
            changed(policy="autoregressive", **changes),
        )
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"coverage": 0.8}, "coverage calibrates the score of one aim"),
        ({"policy": "autoregressive"}, "must be 'independent', got 'autoregressive'"),
    ],
)
def test_settings_that_several_aims_do_not_know_are_told(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    columns = {"cut": [0, 1, 2] * 9, "yield": [1.0, 2.0, 3.0] * 9, "cost": [3.0, 2.0, 3.0] * 9}
    config = small_config(generator=GeneratorConfig(steps=5, **change))
    with pytest.raises(RunError, match=told):
        fit(read_table(columns, score=["yield", "cost:min"]), tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_too_few_or_strange_preferences_leave_nothing_behind(tmp_path: Path) -> None:
    table = small_table()
    pairs = answers(table, 4)
    one = pairs.take(torch.tensor([0]))
    strange = replace(pairs, first=pairs.first + 3)
    for given in (one, strange):
        with pytest.raises(ValueError, match=r"preferences|first row"):
            fit(table, tmp_path / "run", small_config(), preferences=given)
        assert not (tmp_path / "run").exists()
