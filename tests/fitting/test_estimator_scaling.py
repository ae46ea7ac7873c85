"""Settings by the number of rows, and runs made before there were families."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import EstimatorConfig, fit_estimator, new_ensemble
from discrete_grad.models import EstimatorEnsemble
from discrete_grad.preferences import PreferenceConfig
from discrete_grad.runs import FitConfig, generate, load_run

OLD_RUN = Path(__file__).parent / "fixtures" / "run_before_families"


@st.composite
def configs(draw: st.DrawFn) -> EstimatorConfig:
    return EstimatorConfig(
        members=draw(st.integers(1, 9)),
        hidden=(draw(st.integers(1, 80)),),
        steps=draw(st.integers(1, 5000)),
        batch_size=draw(st.integers(1, 3000)),
        weight_decay=draw(st.floats(0, 1)),
    )


@given(config=configs(), rows=st.lists(st.integers(1, 10**7), min_size=2, max_size=6))
def test_more_rows_are_given_more_of_everything_but_decay_and_members(
    config: EstimatorConfig, rows: list[int]
) -> None:
    made = [config.for_rows(count) for count in sorted(rows)]
    for few, many in pairwise(made):
        assert few.batch_size <= many.batch_size
        assert few.steps <= many.steps
        assert few.hidden <= many.hidden
        assert few.weight_decay >= many.weight_decay
        assert few.members >= many.members
    for one in made:
        assert config.batch_size <= one.batch_size <= max(1024, config.batch_size)
        assert config.steps <= one.steps <= 5 * config.steps
        assert one.members >= min(2, config.members)
        one.check()


@given(config=configs(), count=st.integers(0, 1500))
def test_up_to_1500_rows_nothing_changes(config: EstimatorConfig, count: int) -> None:
    assert config.for_rows(count) is config


@given(config=configs(), count=st.integers(1, 10**7))
def test_without_scaling_nothing_changes(config: EstimatorConfig, count: int) -> None:
    config = replace(config, scaling=False)
    assert config.for_rows(count) is config


@given(config=configs(), count=st.integers(1501, 10**7))
def test_scaled_once_it_is_not_scaled_again(config: EstimatorConfig, count: int) -> None:
    once = config.for_rows(count)
    assert once.for_rows(count) is once
    untouched = {f.name for f in fields(config)} - {
        *("scaling", "batch_size", "weight_decay", "steps", "hidden", "members")
    }
    assert all(getattr(once, name) == getattr(config, name) for name in untouched)


@pytest.mark.parametrize(
    ("rows", "batch", "steps", "hidden", "members", "decay"),
    [
        (1_500, 64, 1000, (64, 64), 4, 0.3),
        (3_000, 128, 1000, (64, 64), 4, 0.15),
        (15_000, 640, 1000, (128, 128), 4, 0.03),
        (49_999, 1024, 1563, (128, 128), 4, 0.009),
        (50_000, 1024, 1563, (128, 128), 2, 0.009),
        (1_000_000, 1024, 5000, (128, 128), 2, 0.00045),
    ],
)
def test_the_defaults_by_rows(
    rows: int, batch: int, steps: int, hidden: tuple[int, ...], members: int, decay: float
) -> None:
    made = EstimatorConfig().for_rows(rows)
    assert (made.batch_size, made.steps, made.hidden, made.members) == (
        batch,
        steps,
        hidden,
        members,
    )
    assert made.weight_decay == pytest.approx(decay, rel=1e-3)


def test_every_architecture_keeps_a_member() -> None:
    config = EstimatorConfig(members=3, architectures=("mlp", "shallow", "multilinear"))
    assert config.for_rows(10**6).members == 3


def test_a_fit_of_many_rows_is_that_of_its_scaled_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("discrete_grad.fitting.config._USUAL_ROWS", 20)
    space = CategoricalSpace.from_sizes((2, 3))
    codes = space.enumerate().repeat(10, 1)
    rows = ScoredRows(codes, codes.sum(-1) - 1.5)
    config = EstimatorConfig(members=2, hidden=(4,), steps=30, families=("networks",))
    scaled = config.for_rows(60)
    assert scaled.batch_size == 3 * config.batch_size
    found = []
    for c in (config, scaled, replace(config, scaling=False)):
        ensemble = new_ensemble(space, None, c, seed=0, rows=60)
        fit_estimator(ensemble, rows, config=c, seed=0)
        found.append(ensemble.predictions(codes))
    first, second, plain = found
    assert torch.equal(first, second)
    assert not torch.equal(first, plain)


def test_preferences_are_learnt_by_networks_alone_and_not_scaled() -> None:
    config = PreferenceConfig()
    assert config.families == ("networks",)
    assert config.for_rows(10**6) is config


def test_settings_without_families_and_scaling_are_those_from_before() -> None:
    settings = asdict(FitConfig(seed=4))
    for part in ("estimator", "judge", "preference"):
        del settings[part]["families"], settings[part]["scaling"]
    config = FitConfig.from_json(json.dumps(settings))
    for part in (config.estimator, config.judge, config.preference):
        assert part.families == ("networks",)
        assert part.scaling is False
    assert config.seed == 4
    assert FitConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("name", ["members", "steps", "hidden"])
def test_other_settings_may_not_be_missing(name: str) -> None:
    settings = asdict(FitConfig())
    del settings["estimator"][name]
    with pytest.raises(KeyError, match=name):
        FitConfig.from_json(json.dumps(settings))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"families": ()}, r"estimator\.families must be at least 1"),
        ({"families": ("anova", "anova")}, r"estimator\.families has one twice"),
        (
            {"families": ("forest",)},
            r"estimator\.families has 'forest'; there are networks, sequences",
        ),
        (
            {"families": ("kernel", "anova"), "conservative": 0.1},
            "changes networks and sequences alone",
        ),
    ],
)
def test_families_that_cannot_be_are_told(changes: dict[str, Any], told: str) -> None:
    config = FitConfig(estimator=replace(EstimatorConfig(), **changes))
    with pytest.raises(ValueError, match=told):
        config.check()


def test_a_run_from_before_is_loaded_and_generates(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(OLD_RUN, folder)
    run = load_run(folder)
    assert run.config.estimator.families == ("networks",)
    assert type(run.estimator) is type(run.judge) is EstimatorEnsemble
    codes, context = run.table.codes, run.table.context
    # as the version that made it printed them
    scores = torch.tensor([0.1786736, 0.2098542, 0.1816838, 0.1824166])
    judged = torch.tensor([-0.1877914, -0.2049645, -0.2030207, -0.1919651])
    assert_close(run.estimator(codes[:4], context[:4]), scores, rtol=0, atol=1e-6)
    assert_close(run.judge(codes[:4], context[:4]), judged, rtol=0, atol=1e-6)
    likely = run.table.schema.space.argmax(run.generator(context))
    assert likely[:6].tolist() == [[1, 1]] * 6
    columns: dict[str, list[Any]] = {"shop": ["east", "west"], "price": [1.0, 3.0]}
    made = generate(run, columns, run.table.schema.encode_context(columns), rows=2)
    assert made["shop"] == ["east", "east", "west", "west"]
    assert made["in_table"] == [False] * 4


def test_settings_for_so_many_rows() -> None:
    usual = EstimatorConfig(batch_size=100, weight_decay=0.3, steps=700, hidden=(8, 9), members=5)
    adapted = {
        count: (c.batch_size, round(c.weight_decay, 5), c.steps, c.hidden, c.members, c.scaling)
        for count in (1500, 1501, 3000, 14_999, 15_000, 49_999, 50_000, 10**6)
        for c in [usual.for_rows(count)]
    }
    wide = (16, 18)
    assert adapted == {
        1500: (100, 0.3, 700, (8, 9), 5, True),
        1501: (100, 0.2998, 700, (8, 9), 5, False),
        3000: (200, 0.15, 700, (8, 9), 5, False),
        14_999: (1000, 0.03, 700, (8, 9), 5, False),
        15_000: (1000, 0.03, 700, wide, 5, False),
        49_999: (1024, 0.009, 1563, wide, 5, False),
        50_000: (1024, 0.009, 1563, wide, 3, False),
        10**6: (1024, 0.00045, 3500, wide, 3, False),
    }
    large = EstimatorConfig(batch_size=2000, members=2, architectures=("mlp", "shallow"))
    assert large.for_rows(60_000).batch_size == 2000
    assert large.for_rows(60_000).members == 2
    assert usual.for_rows(10**9) == usual.for_rows(10**9).for_rows(10**9)
