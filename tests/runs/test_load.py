"""A run is loaded, not made again; and runs of versions that kept less are made up for."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.data import Table
from discrete_grad.runs import FitConfig, Run, fit, load_run
from discrete_grad.runs import _stages as stages
from discrete_grad.runs._prepared import Observations
from discrete_grad.runs._stages import STAGES
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table, weights_of

KEPT = ("prepared.safetensors", "guidance.json")


def with_coverage() -> FitConfig:
    config = small_config()
    generator = replace(config.generator, coverage=0.7, alignment=0.5)
    return replace(config, generator=generator)


def never(*arguments: Any, **options: Any) -> None:
    raise AssertionError("only a fit does this")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(small_table(), tmp_path_factory.mktemp("module") / "run", with_coverage())


def same(one: Run, other: Run) -> None:
    assert one.pessimism == other.pessimism > 0
    assert one.reward_unit == other.reward_unit
    for name in ("rows", "judge_rows"):
        first, second = vars(getattr(one, name)), vars(getattr(other, name))
        for column, values in first.items():
            assert values is None or torch.equal(values, second[column])
            assert (values is None) == (second[column] is None)
            assert values is None or values.dtype == second[column].dtype
    predicted, context = torch.linspace(-3, 3, 50), one.table.context[:50]
    assert torch.equal(one.to_units(predicted, context), other.to_units(predicted, context))
    scores = one.table.scores[:50]
    assert torch.equal(one.scale.apply(scores, context), other.scale.apply(scores, context))


def test_loading_computes_neither_scale_nor_split_nor_pessimism(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Observations", "conformal_pessimism", "reward_unit", "write_calibration"):
        monkeypatch.setattr(stages, name, never)
    same(run, load_run(run.folder))


@pytest.mark.parametrize("missing", [KEPT, KEPT[:1], KEPT[1:]], ids=str)
def test_a_run_that_kept_neither_is_loaded_all_the_same(
    run: Run, tmp_path: Path, missing: tuple[str, ...]
) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    for name in missing:
        (tmp_path / "run" / name).unlink()
    before = {path for path in (tmp_path / "run").rglob("*")}
    same(run, load_run(tmp_path / "run"))
    assert {path for path in (tmp_path / "run").rglob("*")} == before


def test_a_fit_reads_no_table_back(tmp_path: Path) -> None:
    table = small_table(60, context=False)
    assert fit(table, tmp_path / "run", small_config()).table is table


def test_every_stage_of_a_fit_is_declared_once(run: Run) -> None:
    names = [stage.name for stage in STAGES]
    assert len(set(names)) == len(names)
    assert set(names) <= set(Run.__dataclass_fields__)
    logged = [name for line in run.metrics() for name in line if name != "step"]
    order = list(dict.fromkeys(name.split("/")[0] for name in logged))
    assert order == [name for name in names if name not in ("preference", "independent")]
    kept = {f"{name}.safetensors" for name in (*order, "calibration")}
    assert set(weights_of(run.folder)) == kept


@pytest.mark.parametrize("fault", [b"", b"{}", b'{"pessimism": null, "reward_unit": 1}'])
@pytest.mark.parametrize("name", KEPT)
def test_damage_to_what_is_kept_is_told_in_one_line(
    run: Run, tmp_path: Path, name: str, fault: bytes
) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(fault)
    with pytest.raises(RunError, match=name) as told:
        load_run(tmp_path / "run")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("pessimism", "unit"), [("NaN", "1"), ("-1", "1"), ("Infinity", "1"), ("0", "0"), ("0", "NaN")]
)
def test_guidance_out_of_range_is_damage(
    run: Run, tmp_path: Path, pessimism: str, unit: str
) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    text = f'{{"pessimism": {pessimism}, "reward_unit": {unit}}}'
    (tmp_path / "run" / "guidance.json").write_text(text)
    with pytest.raises(RunError, match=r"guidance\.json is damaged: numbers out of range"):
        load_run(tmp_path / "run")


def test_what_another_table_was_prepared_to_is_refused(run: Run, tmp_path: Path) -> None:
    other = small_table(60, context=False)
    columns = replace(other, schema=replace(other.schema, features=other.schema.features[:2]))
    fewer = Table(columns.schema, other.codes[:, :2], other.scores, None)
    fit(fewer, tmp_path / "other", small_config())
    shutil.copytree(run.folder, tmp_path / "run")
    shutil.copy(tmp_path / "other" / KEPT[0], tmp_path / "run" / KEPT[0])
    with pytest.raises(RunError, match=r"prepared\.safetensors does not fit the run's table"):
        load_run(tmp_path / "run")


def test_both_sides_and_what_is_set_aside_are_the_whole_table() -> None:
    table = small_table()
    seen = Observations(table, with_coverage())
    places = torch.cat([seen.mine, seen.judged, seen.aside])
    assert torch.equal(places.sort().values, torch.arange(len(table)))
    assert len(seen.aside) == round(0.1 * (len(seen.aside) + len(seen.mine)))


def test_the_pessimism_is_calibrated_on_what_was_set_aside(run: Run) -> None:
    seen = Observations(run.table, run.config)
    rows, learnt = seen.scored.take(seen.aside), seen.scored.take(seen.mine)
    known = learnt.codes.shape[0] if run.rows.counts is None else int(run.rows.counts.sum())
    assert known == len(seen.mine)
    predicted = run.estimator.predictions(rows.codes, rows.context)
    spread = predicted.var(0, correction=0).sqrt()
    needed = ((predicted.mean(0) - rows.scores) / spread).sort().values
    rank = math.ceil(0.7 * (len(seen.aside) + 1))
    assert run.pessimism == pytest.approx(needed[rank - 1].item(), rel=1e-3)


def test_the_generator_is_trained_with_the_guidance_that_was_kept(
    run: Run,
) -> None:
    models = {name: getattr(run, name) for name in ("estimator", "judge", "reference", "aligner")}
    work = stages.Work(
        run.folder, run.config, run.table, run.source, None, run.device, models=models
    )
    training: Any = stages.trained(work, run.config.generator)
    assert training.keywords["config"].pessimism == run.pessimism != run.config.generator.pessimism
    vars(work)["guidance"] = {"pessimism": 0.25, "reward_unit": 3.0}
    training = stages.trained(work, run.config.generator)
    assert training.keywords["config"].pessimism == 0.25
    assert training.keywords["frozen"].reward_unit == 3.0
