"""Gaussian processes: correlations of rows, and the sums of them."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.models import KernelEnsemble
from discrete_grad.models.joint import JointColumns
from discrete_grad.models.kernel import log_correlations
from discrete_grad.sampling import normal, seeded

SPACE = CategoricalSpace({"a": 3, "b": 5}, ordered=("b",))
ROWS = SPACE.enumerate()
ALIKE = torch.tensor([[0.3, 0.9, 0.4], [0.2, 0.7, 0.5]])


def placed(members: int = 3) -> KernelEnsemble:
    model = KernelEnsemble(SPACE, members=members)
    weights = normal((6, members), generator=seeded(0)).float()
    model.place(ALIKE, ROWS[::2][:6], weights, torch.arange(float(members)))
    return model


def test_correlations_are_those_of_the_formula() -> None:
    joint = JointColumns(SPACE, None)
    blocks = log_correlations(joint, ALIKE, [torch.arange(3), torch.tensor([4, 0])])
    # unordered: the share that falls with the distance counts for nothing
    differ = torch.full((3, 3), 0.3).fill_diagonal_(1.0)
    assert_close(blocks[0].exp(), differ)
    distance = torch.tensor([[4, 0], [3, 1], [2, 2], [1, 3], [0, 4]]) / 4
    near = 0.7 * torch.exp(-distance / 0.5) + 0.3 * (distance == 0)
    assert_close(blocks[1].exp(), 0.2 + 0.8 * near)


def test_a_column_of_one_category_says_nothing() -> None:
    space = CategoricalSpace({"a": 1, "b": 2}, ordered=("a",))
    blocks = log_correlations(JointColumns(space, None), ALIKE, [torch.zeros(2).long()] * 2)
    assert torch.equal(blocks[0], torch.zeros(1, 2))


def test_a_score_is_the_weighted_sum_of_correlations() -> None:
    model = placed()
    blocks = log_correlations(model.joint, ALIKE, [torch.arange(3), torch.arange(5)])
    product = torch.ones(())
    for block, rows, points in zip(blocks, ROWS.T, model.points.T, strict=True):
        product = product * block.exp()[rows][:, points]
    expected = product @ model.weights + model.offsets
    assert_close(model.predictions(ROWS), expected.T)
    for rows in (ROWS, SPACE.one_hot(ROWS)):
        assert_close(model.to_latent(rows), product)
    assert_close(product.diagonal(offset=0)[:1], torch.ones(1))  # the first row is the first point


def test_before_it_is_fitted_it_knows_nothing() -> None:
    assert torch.equal(KernelEnsemble(SPACE, members=2).predictions(ROWS), torch.zeros(2, 15))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cast_it_computes_in_the_new_type(dtype: torch.dtype) -> None:
    model = placed().to(dtype)
    row = SPACE.one_hot(ROWS, dtype=dtype).requires_grad_()
    value = model(row)
    assert value.dtype == dtype
    value.sum().backward()
    assert row.grad.dtype == dtype
    assert_close(value.float(), placed()(ROWS))
