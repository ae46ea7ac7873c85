"""Ensembles of several architectures, and the stacked fast path of one."""

import pytest
import torch

from discrete_grad import CategoricalSpace, StraightThrough
from discrete_grad.models import Estimator, EstimatorEnsemble, MixedEnsemble, MultilinearEstimator
from discrete_grad.space import ContextSpec

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
SPEC = ContextSpec({}, ("price",))
ROWS = SPACE.enumerate()
CONTEXT = torch.linspace(-1, 1, len(ROWS)).unsqueeze(-1)


def members(spec=None):
    networks = [Estimator(SPACE, context=spec, dim=3, hidden=(4,)) for _ in range(2)]
    return networks, [MultilinearEstimator(SPACE, context=spec) for _ in range(3)]


@pytest.mark.parametrize("spec", [None, SPEC])
@pytest.mark.parametrize("flat", [False, True])
def test_its_predictions_are_those_of_the_members_in_order(spec, flat):
    groups = members(spec)
    mixed = MixedEnsemble([EstimatorEnsemble(group) for group in groups])
    rows, context = SPACE.one_hot(ROWS) if flat else ROWS, CONTEXT if spec else None
    one_by_one = torch.stack([member(rows, context) for group in groups for member in group])
    torch.testing.assert_close(mixed.predictions(rows, context), one_by_one)
    torch.testing.assert_close(mixed(rows, context), one_by_one.mean(0))
    torch.testing.assert_close(mixed.min(rows, context), one_by_one.amin(0))


@pytest.mark.parametrize("spec", [None, SPEC])
@pytest.mark.parametrize("flat", [False, True])
def test_every_member_scores_its_own_rows(spec, flat):
    groups = members(spec)
    mixed = MixedEnsemble([EstimatorEnsemble(group) for group in groups])
    own = torch.stack([ROWS.roll(i, 0) for i in range(5)])
    context = CONTEXT.expand(5, -1, -1) * torch.arange(5).view(5, 1, 1) if spec else None
    rows = SPACE.one_hot(own) if flat else own
    everyone = [member for group in groups for member in group]
    expected = [
        member(rows[i], None if context is None else context[i])
        for i, member in enumerate(everyone)
    ]
    torch.testing.assert_close(
        mixed.predictions(rows, context, own_rows=True), torch.stack(expected)
    )


def test_a_relaxations_sample_is_one_row_for_all_members():
    mixed = MixedEnsemble([EstimatorEnsemble(group) for group in members()])
    logits = torch.full((6, 7), -50.0).scatter(1, SPACE.columns(ROWS[:6]), 50.0)
    values = mixed.sample_predictions(logits, StraightThrough(SPACE))
    torch.testing.assert_close(values, mixed.predictions(ROWS[:6]))


def test_it_refuses_nothing_and_spaces_that_differ():
    with pytest.raises(ValueError, match="at least one"):
        MixedEnsemble([])
    other = CategoricalSpace.from_sizes((2, 2))
    for spaces in ((SPACE, other), (SPACE, other, SPACE)):
        with pytest.raises(ValueError, match="one space"):
            MixedEnsemble([EstimatorEnsemble([Estimator(s)]) for s in spaces])
