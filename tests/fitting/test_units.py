"""Predictions in the user's units never leave the observed scores unseen."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.data import Schema, Vocabulary
from discrete_grad.fitting import ScoreScale
from discrete_grad.fitting.calibration import Calibration
from discrete_grad.fitting.units import ScoreUnits

SHOP = Vocabulary("shop", ("east", "west", "new"))
CUT = Vocabulary("cut", (1, 2))


def two_shops() -> tuple[Tensor, Tensor]:
    """Scores 0 to 1 in the east, 1000 to 1010 in the west; 3 rows of a new shop at 5000."""
    context = torch.eye(3)[[0] * 100 + [1] * 100 + [2] * 3]
    east, west = torch.linspace(0, 1, 100), torch.linspace(1000, 1010, 100)
    return torch.cat([east, west, torch.full((3,), 5000.0)]).double(), context


def units(
    kind: str, *, minimised: bool = False, calibration: Calibration | None = None
) -> ScoreUnits:
    schema = Schema((CUT,), (SHOP,), "price", minimised=("price",) if minimised else ())
    scores, context = two_shops()
    spec = schema.context_spec
    scale, standard = (ScoreScale.fit(k, scores, context, spec) for k in (kind, "standard"))
    return ScoreUnits(schema, scale, standard, calibration)


@pytest.mark.parametrize("kind", ["rank", "standard"])
@pytest.mark.parametrize("minimised", [False, True])
def test_far_predictions_are_the_nearest_observed_score_and_marked(
    kind: str, minimised: bool
) -> None:
    to_units, sign = units(kind, minimised=minimised), -1 if minimised else 1
    predicted = torch.tensor([-50.0, 0.0, 50.0]).repeat(3)
    context = torch.eye(3).repeat_interleave(3, 0)
    found = to_units(predicted, context)
    low, high = found[[0, 3, 6]], found[[2, 5, 8]]
    # a shop of few rows is bounded by the table
    assert_close(low, sign * torch.tensor([0.0, 1000.0, 0.0]).double(), rtol=1e-9, atol=1e-9)
    assert_close(high, sign * torch.tensor([1.0, 1010.0, 5000.0]).double(), rtol=1e-9, atol=1e-9)
    # 1 is better than all that was observed, whichever way the column is wanted
    assert to_units.outside(predicted, context).tolist() == [-1, 0, 1] * 3


def test_the_best_and_the_worst_observed_score_are_not_marked() -> None:
    to_units = units("rank")
    scores, context = two_shops()
    scaled = to_units.scale.apply(scores, context)
    assert not to_units.outside(scaled, context).any()


def test_a_calibrated_prediction_is_an_expected_score_of_its_context() -> None:
    halved = Calibration(
        torch.linspace(-2, 2, 32).double().expand(3, -1),
        torch.linspace(-1, 1, 32).double().expand(3, -1),
    )
    to_units = units("rank", calibration=halved)
    context = torch.eye(3)[[0, 1]]
    scores = two_shops()[0]
    deviation = torch.stack([scores[:100].std(correction=0), scores[100:200].std(correction=0)])
    mean = torch.stack([scores[:100].mean(), scores[100:200].mean()])
    found = to_units(torch.tensor([1.0, 1.0]), context)
    assert_close(found, mean + deviation / 2, rtol=1e-6, atol=1e-6)
    assert to_units.outside(torch.tensor([9.0, -9.0]), context).tolist() == [1, -1]


def test_no_row_is_no_score() -> None:
    assert len(units("rank")(torch.zeros(0), torch.zeros(0, 3))) == 0


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_beyond_the_observed_scores_is_relative_to_their_range(unit: float) -> None:
    scores = unit * torch.linspace(0, 1, 101).double()
    scale, standard = (ScoreScale.fit(k, scores, None, None) for k in ("rank", "standard"))
    to_units = ScoreUnits(Schema((CUT,), (), "price"), scale, standard)
    best = scale.apply(scores[-1:])
    # the range is 3.5 scaled: a thousandth of it is beyond, rounding is not
    assert to_units.outside(torch.cat([best, best + 1e-7, best + 3.5e-3])).tolist() == [0, 0, 1]


@pytest.mark.parametrize("minimised", [False, True])
def test_exact_predictions_are_given_as_they_are_to_the_digits_they_have(minimised: bool) -> None:
    kept = units("raw", minimised=minimised)
    exact = ScoreUnits(kept.schema, kept.scale, kept.standard, exact=True)
    context, sign = torch.eye(3)[[0, 1, 1]], -1 if minimised else 1
    wanted = torch.tensor([33.0, 1005.125, -9.0], dtype=torch.float64)
    predicted = exact.standard.apply(wanted, context)
    # beyond what was observed, and without the rounding of float32
    assert exact(predicted, context).tolist() == [33.0 * sign, 1005.125 * sign, -9.0 * sign]
    assert exact.outside(predicted, context).tolist() == [1, 0, -1]
