"""Estimates of a whole fit: right on average, kept with the run, told with what they rest on."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from discrete_grad.data import Table, read_table
from discrete_grad.fitting import EstimatorConfig, GeneratorConfig, ReproductionConfig
from discrete_grad.runs import FitConfig, Run, fit, generate, load_run, write_report
from discrete_grad.runs import _calibrate as calibrate
from discrete_grad.runs._calibrate import _load_calibration
from discrete_grad.runs._recipe import estimator_facts
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table

FEW = EstimatorConfig(members=4, steps=200, hidden=(16,), families=("networks", "anova"))
CONFIG = FitConfig(
    estimator=FEW,
    judge=replace(FEW, members=2),
    reproduction=ReproductionConfig(steps=30),
    generator=GeneratorConfig(steps=30),
    merge_repeats=False,
)
NAMES = ("a", "b", "c", "d")
ROWS = 3000


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows and scores with a long tail of bad luck."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(4, (count, len(NAMES)), generator=generator)
    signal = 2 * codes[:, 0] + 3 * (codes[:, 1] == codes[:, 2])
    luck = torch.randn(count, generator=generator).exp()
    return codes, signal - 8 * luck


def skewed_table(*, minimised: bool = False) -> Table:
    codes, scores = drawn(ROWS, 0)
    columns = {name: codes[:, i] for i, name in enumerate(NAMES)}
    if minimised:
        return read_table({**columns, "cost": -scores}, score="cost:min")
    return read_table({**columns, "score": scores}, score="score")


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A fit to noisy scores of which the mean is far below the median."""
    return fit(skewed_table(), tmp_path_factory.mktemp("skewed") / "run", CONFIG)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run to be copied and damaged."""
    return fit(small_table(), tmp_path_factory.mktemp("small") / "run", small_config())


def unseen() -> tuple[Tensor, Tensor]:
    codes, scores = drawn(20_000, 1)
    return codes, scores.double()


@pytest.mark.parametrize("name", ["estimator", "judge"])
def test_the_mean_of_estimates_is_the_mean_of_the_truth(skewed: Run, name: str) -> None:
    codes, truth = unseen()
    model, to_units = {
        "estimator": (skewed.estimator, skewed.to_units),
        "judge": (skewed.judge, skewed.judge_to_units),
    }[name]
    predicted = model(codes)
    estimates = to_units(predicted)
    # the truth's mean is known to the rows that calibrated: 1,200 or 150
    known = {"estimator": 1200, "judge": 150}[name]
    interval = 1.96 * float((estimates - truth).std()) / known**0.5
    assert abs(float((estimates - truth).mean())) < interval
    # the place on the scale is another thing: where the luck is skewed, a median rather
    inverted = skewed.scale.invert(predicted)
    assert float((inverted - truth).mean()) > interval
    top = estimates > estimates.quantile(0.9)
    assert abs(float((estimates - truth)[top].mean())) < 3 * interval


def test_of_a_minimised_column_the_estimates_are_mirrored(skewed: Run, tmp_path: Path) -> None:
    low = fit(skewed_table(minimised=True), tmp_path / "run", CONFIG)
    codes = unseen()[0][:500]
    predicted, far = skewed.estimator(codes), torch.tensor([300.0, -300.0])
    assert torch.equal(low.estimator(codes), predicted)
    assert torch.equal(skewed.to_units(predicted), -low.to_units(predicted))
    assert low.to_units.outside(far).tolist() == skewed.to_units.outside(far).tolist() == [1, -1]
    assert low.to_units(far)[0] == -skewed.table.scores.max()


def test_rows_that_were_learnt_calibrate_nothing(tmp_path: Path) -> None:
    # luck alone: networks that have learnt the rows by heart, nothing to be told of others
    generator = torch.Generator().manual_seed(0)
    names = [f"f{i}" for i in range(8)]
    codes = torch.randint(6, (400, 8), generator=generator)
    scores = torch.randn(400, generator=generator)
    columns = {name: codes[:, i] for i, name in enumerate(names)} | {"score": scores}
    heart = EstimatorConfig(
        members=2, steps=400, patience=0, weight_decay=0.0, hidden=(64,), families=("networks",)
    )
    config = replace(CONFIG, estimator=heart, judge=heart)
    run = fit(read_table(columns, score="score"), tmp_path / "run", config)
    # seen by the one member or the other, so the ensemble ranks them well
    predicted = run.estimator(run.rows.codes.long())
    assert float(torch.corrcoef(torch.stack([predicted, run.rows.scores]))[0, 1]) > 0.8
    assert run.held_out["spearman"] < 0.25
    assert float(run.to_units(predicted).std()) < 0.5 * float(scores.std())


def test_a_loaded_run_says_the_same_and_fits_nothing(
    skewed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("calibrated again")

    monkeypatch.setattr(calibrate, "write_calibration", never)
    again = load_run(skewed.folder)
    predicted = torch.linspace(-3, 3, 50)
    for mine, other in (
        (skewed.to_units, again.to_units),
        (skewed.judge_to_units, again.judge_to_units),
    ):
        assert mine.calibration is not None
        assert torch.equal(mine(predicted), other(predicted))
    assert estimator_facts(again) == estimator_facts(skewed)


def test_estimator_and_judge_have_each_their_own_curve(skewed: Run) -> None:
    kept = load_file(skewed.folder / "weights" / "calibration.safetensors")
    written = generate(skewed, {}, None, rows=20, new_only=False)
    codes = skewed.table.schema.encode_features(written)
    for name, column, to_units, model in (
        ("estimator", "estimated_score", skewed.to_units, skewed.estimator),
        ("judge", "judge_score", skewed.judge_to_units, skewed.judge),
    ):
        assert torch.equal(to_units.calibration.x, kept[f"{name}/x"])
        assert torch.equal(to_units.calibration.y, kept[f"{name}/y"])
        assert written[column] == pytest.approx(to_units(model(codes)).tolist())
    assert not torch.equal(kept["estimator/x"], kept["judge/x"])


@pytest.mark.slow
def test_a_run_made_before_calibration_is_loaded_with_the_places_on_the_scale(
    small: Run, tmp_path: Path
) -> None:
    run, _ = small, shutil.copytree(small.folder, tmp_path / "run")
    (tmp_path / "run" / "weights" / "calibration.safetensors").unlink()
    with pytest.raises(RunError, match=r"calibration\.safetensors is missing"):
        load_run(tmp_path / "run")
    settings = tmp_path / "run" / "config.json"
    # that version had another word for what is maximised
    settings.write_text(settings.read_text().replace('"maximise"', '"score_scale"'))
    old = load_run(tmp_path / "run")
    assert old.to_units.calibration is None
    assert old.held_out == {}
    scores, context = run.table.scores, run.table.context
    there = old.to_units(old.scale.apply(scores, context), context)
    torch.testing.assert_close(there, scores, rtol=1e-3, atol=1e-3)
    assert write_report(old)["estimator"]["held_out"] == {}


def test_a_damaged_calibration_is_told_in_one_line(small: Run, tmp_path: Path) -> None:
    run, _ = small, shutil.copytree(small.folder, tmp_path / "run")
    path = tmp_path / "run" / "weights" / "calibration.safetensors"
    with pytest.raises(RunError, match="does not fit the run's table"):
        _load_calibration(path, len(run.scale.keys) + 2)
    path.write_bytes(b"nothing")
    with pytest.raises(RunError, match="is damaged"):
        load_run(tmp_path / "run")


def test_the_recipe_is_what_the_models_were_made_of(skewed: Run) -> None:
    facts = estimator_facts(skewed)
    assert facts["maximises"] == "rank"
    assert facts["rows"] == len(skewed.rows)
    assert 2300 < len(skewed.rows) < 2500
    made = FEW.for_rows(len(skewed.rows))
    assert facts["settings"]["batch_size"] == made.batch_size > FEW.batch_size
    assert facts["settings"]["weight_decay"] == made.weight_decay < FEW.weight_decay
    assert facts["families"] == dict(
        zip(("networks", "anova"), skewed.estimator.weights.tolist(), strict=True)  # type: ignore[union-attr,operator]
    )
    held_out = facts["held_out"]
    assert held_out["rows"] == 4 * round(len(skewed.rows) / 8)
    # pairs matter, which single columns do not see
    assert held_out["spearman"] > held_out["baseline"] + 0.02 > 0.2
    report = write_report(skewed)
    assert report["estimator"]["held_out"] == held_out
    assert report["held_out"]["estimator"]["spearman"] == pytest.approx(
        held_out["spearman"], abs=0.06
    )


@pytest.mark.parametrize(
    ("losses", "improving"),
    [
        ([1.0, 0.8, 0.6, 0.5], True),
        ([1.0, 0.8, 0.5, 0.4999], False),
        ([1.0, 0.8, 0.5, 0.6], False),
        ([1.0, 0.8, 0.4], False),
    ],
)
def test_still_improving_is_said_of_a_loss_that_falls_until_the_last_step(
    skewed: Run, losses: list[float], improving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # looks every quarter of the steps; three of them: stopped early
    steps = skewed.config.estimator.for_rows(len(skewed.rows)).steps
    lines = [
        {"step": steps * (i + 1) // 4, "estimator/held_out_loss": loss}
        for i, loss in enumerate(losses)
    ]
    monkeypatch.setattr(Run, "metrics", lambda _: lines)
    assert estimator_facts(skewed)["still_improving"] is improving
