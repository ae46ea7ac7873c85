"""Curves from predictions to expected scores: monotone, and right on average."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.data import ScoredRows
from discrete_grad.fitting import EstimatorConfig, ScoreScale, new_ensemble
from discrete_grad.fitting.calibration import Calibration, _isotonic
from discrete_grad.models import Estimator, EstimatorEnsemble
from discrete_grad.runs import FitConfig, _calibrate
from discrete_grad.runs._calibrate import Known, held_out_places, write_calibration
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.checkpoint import load_tensors

VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


def drawn(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_group(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.long)


@given(VALUES, st.integers(0, 9))
def test_isotonic_regression_is_the_nearest_rising_sequence(values: list[float], seed: int) -> None:
    y = torch.tensor(values, dtype=torch.float64)
    weights = drawn(len(y), seed).abs() + 0.1
    found = _isotonic(y, weights)
    assert (found.diff() >= 0).all()
    # the conditions of a projection on a cone: orthogonal to itself, at most 0 to rising steps
    residual = weights * (y - found)
    assert abs(float(residual @ found)) < 1e-6 * (1 + float(weights @ y.square()))
    assert (residual.flip(0).cumsum(0) < 1e-6 * (1 + y.abs().amax())).all()
    assert abs(float(residual.sum())) < 1e-6 * (1 + float(weights @ y.abs()))


def test_rounding_parts_no_equal_predictions() -> None:
    # parts of 13 and of 12 rows, whose means of .1 differ in their last digit
    predicted = torch.full((50,), 0.1, dtype=torch.float64)
    scores = torch.tensor([4.0] * 13 + [1.0] * 12 + [4.0] * 13 + [1.0] * 12)
    curve = Calibration.fit(predicted, scores, one_group(50), 0)
    assert curve is not None
    found = curve.apply(predicted[:1], one_group(1))
    assert found.tolist() == pytest.approx([float(scores.mean())])


def test_estimates_are_right_on_average_where_the_noise_is_skewed() -> None:
    signal, fresh = drawn(4000), drawn(4000, 1)
    skewed = 3 * signal - 5 * drawn(4000, 2).exp()
    curve = Calibration.fit(signal, skewed, one_group(4000), 0)
    assert curve is not None
    estimate = curve.apply(fresh, one_group(4000))
    truth = 3 * fresh - 5 * torch.tensor(0.5).exp()
    error = 1.96 * float(skewed.std()) / 4000**0.5
    assert abs(float((estimate - truth).mean())) < error
    top = fresh > 1.5
    assert abs(float((estimate - truth)[top].mean())) < 4 * error


@given(st.integers(50, 500), st.integers(0, 5), st.integers(1, 400))
def test_a_curve_rises_and_has_no_value_that_is_not_finite(
    count: int, seed: int, levels: int
) -> None:
    # few levels: ties between and within the parts
    predicted = (drawn(count, seed) * levels).round() / levels
    curve = Calibration.fit(predicted.float(), drawn(count, seed + 9), one_group(count), 0)
    assert curve is not None
    asked = torch.linspace(-9, 9, 400)
    found = curve.apply(asked, one_group(400))
    assert found.isfinite().all()
    assert (found.diff() >= -1e-9).all()
    assert_close(curve.apply(asked, one_group(400)), found, rtol=0, atol=0)


def test_equal_predictions_have_the_mean_of_their_scores() -> None:
    predicted = torch.tensor([0.0, 1.0, 2.0]).repeat_interleave(100)
    scores = drawn(300) + 10 * predicted.double()
    curve = Calibration.fit(predicted, scores, one_group(300), 0)
    assert curve is not None
    found = curve.apply(torch.tensor([0.0, 2.0]), one_group(2))
    # the parts at a border mix two levels
    assert_close(found, torch.stack([scores[:100].mean(), scores[200:].mean()]), rtol=0, atol=0.7)


def test_scores_put_together_weigh_by_their_rows() -> None:
    """48 rows are predicted as 0 and have a score of 1; 16 are predicted as 1 and have 0."""
    predicted = (torch.arange(64) >= 48).float()
    curve = Calibration.fit(predicted, 1 - predicted.double(), one_group(64), 0)
    assert curve is not None
    assert curve.apply(torch.tensor([0.0, 1.0]), one_group(2)).tolist() == [0.75, 0.75]


def test_a_group_of_many_rows_has_a_curve_of_its_own() -> None:
    predicted = drawn(650)
    group = torch.tensor([0] * 300 + [1] * 199 + [2] * 151)
    scores = torch.where(group == 0, -5.0 + predicted, predicted)
    curve = Calibration.fit(predicted, scores, group, 2)
    assert curve is not None
    zero = curve.apply(torch.zeros(3), torch.tensor([0, 1, 2]))
    assert float(zero[0]) == pytest.approx(-5.0, abs=0.3)
    # 199 rows are too few: they have the curve of all, whose mean they are not
    assert zero[1] == zero[2]
    assert -4.0 < float(zero[1]) < -1.0


def test_many_rows_of_rare_groups_are_no_group_of_their_own() -> None:
    """Rows of no group, 400 of 700: whoever belongs to none has the curve of all the same."""
    predicted = drawn(700)
    group = torch.tensor([0] * 300 + [1] * 400)
    scores = torch.where(group == 0, -5.0 + predicted, predicted)
    curve = Calibration.fit(predicted, scores, group, 1)
    assert curve is not None
    alone = Calibration.fit(predicted, scores, torch.zeros_like(group), 0)
    assert alone is not None
    assert_close(curve.x[1], alone.x[0], rtol=0, atol=0)
    assert_close(curve.y[1], alone.y[0], rtol=0, atol=0)


def test_too_few_rows_are_not_calibrated() -> None:
    assert Calibration.fit(drawn(49), drawn(49), one_group(49), 0) is None
    assert Calibration.fit(drawn(50), drawn(50), one_group(50), 0) is not None


def test_beyond_the_rows_the_curve_goes_on() -> None:
    predicted = torch.linspace(-1, 1, 400)
    curve = Calibration.fit(predicted, 2 * predicted.double(), one_group(400), 0)
    assert curve is not None
    found = curve.apply(torch.tensor([-3.0, 3.0]), one_group(2))
    assert_close(found, torch.tensor([-6.0, 6.0], dtype=torch.float64), rtol=0, atol=1e-3)


def counted_rows(shops: int) -> tuple[ScoredRows, Tensor, ContextSpec]:
    """Rows of two shops, the scores of which lie far apart; those of a high score count for 9."""
    spec = ContextSpec({"shop": shops})
    context = torch.eye(shops)[torch.arange(2000) % shops]
    truth = drawn(2000).double() + 1000 * context[:, -1].double()
    counts = torch.where(drawn(2000) > 0, 9, 1)
    codes = torch.arange(2000).remainder(6).unsqueeze(1)
    return ScoredRows(codes, torch.zeros(2000), context, counts=counts), truth, spec


def test_rows_held_out_are_calibrated_in_their_own_context_and_by_their_own_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All predictions are 0: the curve of a shop is the weighted mean of its standard scores."""
    rows, truth, spec = counted_rows(2)
    config = FitConfig(estimator=EstimatorConfig(members=2, families=("networks",), hidden=(4,)))
    model = new_ensemble(CategoricalSpace.from_sizes((6,)), spec, config.estimator, seed=0)
    known = Known(model, rows, truth)
    standard = ScoreScale.fit("standard", truth, rows.context, spec)
    monkeypatch.setattr(
        _calibrate,
        "held_out_predictions",
        lambda model, rows, held_out: torch.zeros(held_out.shape),
    )
    path = tmp_path / "calibration.safetensors"
    write_calibration(path, {"estimator": known}, standard, config)
    curve = Calibration(*(load_tensors(path)[0][f"estimator/{side}"] for side in "xy"))
    places = held_out_places("estimator", known, config).flatten()
    scaled, group = standard.apply(truth, rows.context), standard.groups(rows.context, 2000)
    for shop in range(2):
        own = places[group[places] == shop]
        mean = (scaled[own] * rows.counts[own]).sum() / rows.counts[own].sum()
        found = curve.apply(torch.zeros(1), torch.tensor([shop]))
        assert float(found) == pytest.approx(float(mean), abs=1e-5)


def test_the_baseline_counts_a_row_as_often_as_it_was_observed() -> None:
    space = CategoricalSpace.from_sizes((3, 2))
    rows = replace(ScoredRows(space.enumerate(), drawn(6).float()), counts=torch.arange(1, 7))
    again = ScoredRows(rows.codes.repeat_interleave(rows.counts, 0), drawn(6).float())
    again = replace(again, scores=rows.scores.repeat_interleave(rows.counts))
    model, nothing = EstimatorEnsemble([Estimator(space, hidden=(4,))]), torch.zeros(1, 0).long()
    once, often = (
        _calibrate._main_effects(Known(model, part, part.scores), nothing, 0).predictions(
            rows.codes
        )
        for part in (rows, again)
    )
    torch.testing.assert_close(once, often, rtol=0, atol=1e-4)


def test_the_baseline_knows_numeric_contexts() -> None:
    space, spec = CategoricalSpace.from_sizes((2,)), ContextSpec(numeric=["dose"])
    dose = drawn(200).float().unsqueeze(1)
    rows = ScoredRows(torch.arange(200).remainder(2).unsqueeze(1), dose.squeeze(1), dose)
    model = EstimatorEnsemble([Estimator(space, hidden=(4,), context=spec)])
    nothing = torch.zeros(1, 0).long()
    baseline = _calibrate._main_effects(Known(model, rows, rows.scores), nothing, 0)
    told = baseline.predictions(rows.codes, rows.context)[0]
    assert torch.corrcoef(torch.stack([told, rows.scores]))[0, 1] > 0.9


def test_the_baseline_has_not_seen_the_rows_that_it_is_measured_on() -> None:
    """Each row is of a category of its own: of one that was not seen there is nothing to know."""
    space = CategoricalSpace.from_sizes((100,))
    rows = ScoredRows(space.enumerate(), drawn(100).float())
    model = EstimatorEnsemble([Estimator(space, hidden=(4,)) for _ in range(2)])
    held_out = torch.arange(60).view(2, 30)
    measured = _calibrate._measured(Known(model, rows, rows.scores), held_out, 0)
    assert measured["rows"] == 60
    assert abs(measured["baseline"] or 0) < 0.5
