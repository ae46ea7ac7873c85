"""Sums of tables: their cells, their groups, their members."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.models import AnovaEnsemble
from discrete_grad.sampling import normal, seeded
from discrete_grad.space import ContextSpec

SPACE = CategoricalSpace.from_sizes((2, 3, 4))
ROWS = SPACE.enumerate()


def random_tables(members: int = 3) -> AnovaEnsemble:
    model = AnovaEnsemble(SPACE, groups=[(1,), (2, 0), (0, 1, 2)], members=members)
    model.cells = normal(model.cells.shape, generator=seeded(0)).float()
    model.offsets = normal((members,), generator=seeded(1)).float()
    return model


def test_a_score_is_the_sum_of_one_cell_of_each_table() -> None:
    model = random_tables()
    one, two, three = model.cells.split([3, 8, 24])
    # the columns of a group are in their order, whatever order it was given in
    two, three = two.view(2, 4, 3), three.view(2, 3, 4, 3)
    a, b, c = ROWS.unbind(-1)
    expected = model.offsets + one[b] + two[a, c] + three[a, b, c]
    assert_close(model.predictions(ROWS), expected.T)
    effects = torch.stack([one[b], two[a, c], three[a, b, c]], 1).mean(-1)
    assert_close(model.to_latent(ROWS), effects)
    assert_close(model.to_latent(SPACE.one_hot(ROWS)), effects)


def test_without_groups_there_are_constants_and_no_slope() -> None:
    model = AnovaEnsemble(SPACE, members=2)
    model.offsets = torch.tensor([1.0, -2.0])
    expected = model.offsets.unsqueeze(1).expand(2, 24)
    row = SPACE.one_hot(ROWS).requires_grad_()
    assert torch.equal(model.predictions(ROWS), expected)
    assert torch.equal(model.predictions(row), expected)
    assert torch.equal(model.predictions(ROWS[0]), model.offsets)
    assert torch.equal(model.predictions(0.5 * row), expected)
    model(row).sum().backward()
    assert torch.equal(row.grad, torch.zeros(24, 9))
    assert model.to_latent(ROWS).shape == model.to_latent(row).shape == (24, 0)


def test_a_feature_of_no_group_has_no_slope() -> None:
    model = AnovaEnsemble(SPACE, groups=[(0, 2)])
    model.cells = normal((8, 1), generator=seeded(0)).float()
    row = SPACE.one_hot(ROWS).requires_grad_()
    model(row).sum().backward()
    assert torch.equal(row.grad[:, 2:5], torch.zeros(24, 3))
    assert bool((row.grad[:, :2] != 0).all())


def test_groups_of_contexts_alone_shift_the_score() -> None:
    spec = ContextSpec({"shop": 3, "day": 2})
    model = AnovaEnsemble(SPACE, context=spec, groups=[(3,), (3, 4), (0, 3)])
    model.cells = normal((3 + 6 + 6, 1), generator=seeded(0)).float()
    context = torch.tensor([0.0, 0, 1, 1, 0])
    table = model.cells.squeeze(1)
    expected = table[2] + table[3 + 4] + table[9 + 3 * ROWS[:, 0] + 2]
    assert_close(model(ROWS, context), expected)
    soft = SPACE.softmax(torch.zeros(9))
    assert_close(model(soft, context), expected.mean())


@pytest.mark.parametrize("group", [(), (0, 0), (3,), (-1,), (0, 1, 2, 3)])
def test_a_group_that_cannot_be_is_told(group: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"1 to 3 different columns of 3, got"):
        AnovaEnsemble(SPACE, groups=[(0,), group])


def test_arranged_anew_it_begins_with_zeros_and_new_slopes() -> None:
    model, row = random_tables(), SPACE.one_hot(ROWS).requires_grad_()
    model(row).sum().backward()
    model.arrange([(0, 1)])
    assert torch.equal(model.cells, torch.zeros(6, 3))
    model.cells = normal((6, 3), generator=seeded(2)).float()
    row.grad = None
    model(row).sum().backward()
    table = model.cells.view(2, 3, 3).mean(-1)
    assert_close(row.grad[:, :2], table[:, ROWS[:, 1]].T)
    assert_close(row.grad[:, 2:5], table[ROWS[:, 0]])
    assert torch.equal(row.grad[:, 5:], torch.zeros(24, 4))


def test_latents_are_linear_in_each_block_too() -> None:
    model = random_tables().double()
    soft = SPACE.softmax(normal((5, 9), generator=seeded(4)))
    chance = SPACE.log_prob(soft.log().unsqueeze(1), ROWS).exp()
    assert_close(model.to_latent(soft), chance @ model.to_latent(ROWS))
