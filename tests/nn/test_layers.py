"""Feature heads and temperature schedules."""

import copy
import pickle

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GumbelSoftmax
from discrete_grad.nn import (
    ConstantSchedule,
    ExponentialSchedule,
    FeatureHeads,
    LinearSchedule,
    Schedule,
)

SPACE = CategoricalSpace.from_sizes((2, 3, 4))


def test_heads_start_with_about_equal_categories() -> None:
    torch.manual_seed(0)
    heads = FeatureHeads(64, SPACE)
    logits = heads(torch.randn(2, 5, 64))
    assert logits.shape == (2, 5, SPACE.width)
    uniform = torch.full((2, 5), torch.tensor(SPACE.num_rows).log().item())
    assert_close(SPACE.entropy(logits), uniform, atol=0.05, rtol=0)
    assert torch.equal(heads(torch.zeros(64)), torch.zeros(SPACE.width))
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in heads.parameters())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ConstantSchedule(0.5), [0.5, 0.5, 0.5, 0.5]),
        (LinearSchedule(2.0, 1.0, 4), [2.0, 1.75, 1.0, 1.0]),
        (ExponentialSchedule(1.0, 0.0001, 4), [1.0, 0.1, 0.0001, 0.0001]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_schedules(schedule: Schedule, expected: list[float]) -> None:
    for before, steps, value in zip((0, 0, 1, 4), (0, 1, 3, 9), expected, strict=True):
        assert schedule.step == before
        schedule.advance(steps)
        assert schedule() == pytest.approx(value)


def test_a_schedule_shows_where_it_goes() -> None:
    assert repr(LinearSchedule(2, 1, 4)) == "LinearSchedule(start=2.0, end=1.0, steps=4)"


def test_schedule_is_saved_and_moves_the_layer() -> None:
    schedule = ExponentialSchedule(1.0, 0.01, 10)
    layer = GumbelSoftmax(SPACE, tau=schedule, hard=False)
    schedule.advance(10)
    assert layer(torch.zeros(SPACE.width)).amax() > 0.99
    restored = GumbelSoftmax(SPACE, tau=ExponentialSchedule(1.0, 0.01, 10), hard=False)
    restored.load_state_dict(layer.state_dict())
    for copied in (restored, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert copied.tau() == schedule()


@pytest.mark.parametrize(
    "arguments", [(0.0, 1.0, 5), (1.0, -1.0, 5), (1.0, torch.inf, 5), (1.0, 0.5, 0)]
)
def test_schedules_that_make_no_sense(arguments: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="start and end above 0 and steps >= 1"):
        LinearSchedule(*arguments)
