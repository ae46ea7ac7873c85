"""The model of preferences: differences of rewards, and what it knows of annotators."""

import pickle

import pytest
import torch

from discrete_grad.models import Estimator, EstimatorEnsemble, MixedEnsemble, PreferenceModel
from discrete_grad.models import MultilinearEstimator as Multilinear
from discrete_grad.space import CategoricalSpace, ContextSpec

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
SPEC = ContextSpec(numeric=["price", "weight"])


def model(*, spec: ContextSpec | None = SPEC, mixed: bool = False) -> PreferenceModel:
    ensemble = EstimatorEnsemble([Estimator(SPACE, context=spec, dim=3) for _ in range(3)])
    other = EstimatorEnsemble([Multilinear(SPACE, context=spec) for _ in range(2)])
    return PreferenceModel(MixedEnsemble([ensemble, other]) if mixed else ensemble, annotators=4)


@pytest.mark.parametrize("mixed", [False, True])
def test_codes_and_flat_rows_differ_alike_in_every_context(mixed: bool) -> None:
    made = model(mixed=mixed)
    rows = SPACE.enumerate()
    first, second, context = rows, rows.roll(1, 0), torch.randn(len(rows), 2)
    found = made.differences(first, second, context)
    for i, row in enumerate(rows):
        alone = made.predictions(row, context[i]) - made.predictions(second[i], context[i])
        assert torch.allclose(found[:, i], alone, atol=1e-6)
    flat = made.differences(SPACE.one_hot(first), SPACE.one_hot(second), context)
    assert torch.allclose(found, flat, atol=1e-6)
    assert torch.allclose(found, -made.differences(second, first, context), atol=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_each_member_may_have_rows_of_its_own(mixed: bool) -> None:
    made = model(mixed=mixed)
    members = made.num_members
    pick = torch.randint(12, (2, members, 5))
    first, second = SPACE.enumerate()[pick]
    context = torch.randn(members, 5, 2)
    own = made.differences(first, second, context, own_rows=True)
    for m in range(members):
        alone = made.differences(first[m], second[m], context[m])[m]
        assert torch.allclose(own[m], alone, atol=1e-6)


def test_it_starts_where_it_is_told_and_can_be_kept() -> None:
    made = PreferenceModel(model().reward, annotators=4, reliability=0.7, tie_width=0.3)
    assert torch.allclose(made.reliability, torch.full((3, 4), 0.7))
    assert torch.allclose(made.tie_width, torch.full((3,), 0.3))
    again = pickle.loads(pickle.dumps(made))
    rows = SPACE.enumerate()
    assert torch.equal(again(rows, torch.ones(2)), made(rows, torch.ones(2)))
    without = PreferenceModel(model().reward, ties=False)
    assert without.tie_width.tolist() == [0, 0, 0]
    assert "tie_bias" not in without.state_dict()


@pytest.mark.parametrize(
    "changes", [{"annotators": 0}, {"reliability": 1.0}, {"reliability": 0.0}, {"tie_width": 0.0}]
)
def test_numbers_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        PreferenceModel(model().reward, **changes)
