"""What is told of an estimator's recipe, of a run whose models are as they were made."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from discrete_grad.runs._recipe import estimator_facts
from tests.runs.small import small_config, small_table
from tests.runs.untrained import untrained


@pytest.mark.parametrize(
    ("maximise", "told"),
    [("rank", "rank"), ("mean", "mean"), ("median", "median"), ("raw", "mean")],
)
def test_the_functional_that_is_maximised_is_named(
    maximise: str, told: str, tmp_path: Path
) -> None:
    run = untrained(small_table(60), tmp_path / "run", small_config(maximise=maximise))
    assert estimator_facts(run)["maximises"] == told


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({20: 1.0, 30: 0.5}, True),
        ({20: 1.0, 27: 0.51, 30: 0.5}, True),  # 27 is 90% of the 30 steps
        ({20: 1.0, 27: 0.505, 30: 0.5}, False),
        ({20: 1.0, 28: 0.4, 30: 0.5}, False),
        ({20: 0.5, 30: 0.5}, False),
        ({20: 0.4, 30: 0.5}, False),
        ({30: 0.5}, False),
        ({10: 1.0, 20: 0.5}, False),
        ({}, False),
    ],
)
def test_still_improving_is_best_at_the_last_step_by_more_than_a_hundredth(
    losses: dict[int, float], expected: bool, tmp_path: Path
) -> None:
    run = untrained(small_table(60), tmp_path / "run", small_config())
    lines = [{"step": step, "estimator/held_out_loss": loss} for step, loss in losses.items()]
    lines += [{"step": 30, "judge/held_out_loss": 9.0}, {"step": 30, "generator/loss": -9.0}]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert estimator_facts(run)["still_improving"] is expected


def test_an_estimator_of_networks_alone_has_its_whole_weight_in_them(tmp_path: Path) -> None:
    alone = replace(small_config().estimator, families=("networks",))
    for name, config in (
        ("alone", small_config(estimator=alone)),
        ("median", small_config(maximise="median")),
    ):
        facts = estimator_facts(untrained(small_table(60), tmp_path / name, config))
        assert facts["families"] == {"networks": 1.0}
