"""Positions at equal distances against the same moves of a tensor."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from discrete_grad.nn.soften._positions import Axis, Strided

ROWS, FEATURES = 4, 6
BASE = torch.arange(ROWS * FEATURES).view(ROWS, FEATURES)


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    parts: list[Any] = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        if draw(st.booleans()):
            parts.append(None)
        number = st.integers(-size, size - 1) if size else st.just(slice(None))
        piece = st.builds(slice, st.integers(-7, 7), st.integers(-7, 7), st.integers(1, 3))
        parts.append(draw(st.one_of(number, piece, st.just(slice(None)))))
    if draw(st.booleans()):
        parts.append(...)
    return tuple(parts)


@st.composite
def moves(draw: st.DrawFn) -> tuple[Strided, torch.Tensor]:
    """Some moves after each other, of positions and of a tensor."""
    at, tensor = Strided.of(ROWS, FEATURES), BASE
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["item", "permute", "view", "expand"]))
        moved: Strided | None
        if kind == "item":
            index = draw(indices(tuple(tensor.shape)))
            moved, then = at.item(index), tensor[index]
        elif kind == "permute":
            dims = draw(st.permutations(range(tensor.dim())))
            moved, then = at.permute(dims), tensor.permute(dims)
        elif kind == "view":
            size = tensor.numel()
            wide = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0] or [1]))
            shape = draw(st.sampled_from([(-1,), (wide, -1), (-1, 1, wide)])) if size else (0,)
            moved, then = at.view(shape), tensor.reshape(shape)
        else:
            shape = (2, *(3 if size == 1 else -1 for size in tensor.shape))
            moved, then = at.expand(shape), tensor.expand(shape)
        if moved is None:
            break
        at, tensor = moved, then
    return at, tensor


@given(moves())
def test_moves(pair: tuple[Strided, torch.Tensor]) -> None:
    at, tensor = pair
    assert at.shape == tensor.shape
    assert torch.equal(at.tensor(), tensor)


@given(moves())
def test_axes(pair: tuple[Strided, torch.Tensor]) -> None:
    at, tensor = pair
    axes, features = at.axes(FEATURES), at.features(FEATURES)
    if axes is None or features is None or not tensor.numel():
        return
    flat = [axis for dim in axes for axis in dim]
    whole = tensor.reshape([axis.size for axis in flat])
    rows = torch.tensor(at.first // FEATURES)
    for dim, axis in enumerate(flat):
        if axis.of_rows:
            steps = torch.arange(axis.size) * axis.step
            rows = rows + steps.view(-1, *(1,) * (len(flat) - dim - 1))
    assert torch.equal(rows.expand(whole.shape), whole // FEATURES)
    order = sorted(range(len(flat)), key=lambda i: flat[i].of_rows)  # features first
    found = (whole % FEATURES).permute(order).reshape(len(features), -1)
    assert torch.equal(found, torch.tensor(features).unsqueeze(1).expand_as(found))


WHOLE = Strided.of(ROWS, FEATURES)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (WHOLE, (0, (4, 6), (6, 1))),
        (WHOLE.item((slice(None), 2)), (2, (4,), (6,))),
        (WHOLE.item((slice(None), -1)), (5, (4,), (6,))),
        (WHOLE.item((slice(None), 6)), None),  # an IndexError is left to torch
        (WHOLE.item(1), (6, (6,), (1,))),
        (WHOLE.item(-4), (0, (6,), (1,))),
        (WHOLE.item(4), None),
        (WHOLE.item(slice(1, 3)), (6, (2, 6), (6, 1))),
        (WHOLE.item(slice(1, None, 2)), (6, (2, 6), (12, 1))),
        (WHOLE.item(slice(3, 1)), (18, (0, 6), (6, 1))),
        (WHOLE.item((..., slice(1, 6, 2))), (1, (4, 3), (6, 2))),
        (WHOLE.item((None, ..., 3)), (3, (1, 4), (0, 6))),
        (WHOLE.item((0, 0, 0)), None),
        (WHOLE.item((..., ...)), None),
        (WHOLE.item([0, 1]), None),
        (WHOLE.item(True), None),
        (WHOLE.item(torch.tensor([0])), None),
        (WHOLE.item((slice(torch.tensor(0), 1),)), None),
        (WHOLE.permute((1, 0)), (0, (6, 4), (1, 6))),
        (WHOLE.permute((-1, -2)), (0, (6, 4), (1, 6))),
        (Strided(2, (4, 1), (6, 1)).expand((3, -1, 5)), (2, (3, 4, 5), (0, 6, 0))),
        (WHOLE.view((2, 12)), (0, (2, 12), (12, 1))),
        (WHOLE.view((4, 1, 2, 3)), (0, (4, 1, 2, 3), (6, 0, 3, 1))),
        (WHOLE.view((-1,)), (0, (24,), (1,))),
        (WHOLE.view((5, -1)), None),
        (WHOLE.view((7, 4)), None),
        (WHOLE.permute((1, 0)).view((-1,)), None),
        (Strided(0, (4, 2), (6, 1)).view((2, 2, 2)), (0, (2, 2, 2), (12, 6, 1))),
        (Strided(0, (4, 2), (6, 1)).view((8,)), None),
        (Strided(3, (), ()).view((1, 1)), (3, (1, 1), (0, 0))),
        (Strided(3, (1, 1), (5, 5)).view(()), (3, (), ())),
    ],
)
def test_which_moves_stay_regular(found: Strided | None, expected: tuple[Any, ...] | None) -> None:
    assert found == (None if expected is None else Strided(*expected))


@pytest.mark.parametrize(
    ("at", "axes", "features"),
    [
        (WHOLE, [[Axis(4, 1, True)], [Axis(6, 1, False)]], [0, 1, 2, 3, 4, 5]),
        (Strided(8, (2, 2), (12, 3)), [[Axis(2, 2, True)], [Axis(2, 3, False)]], [2, 5]),
        (Strided(8, (2, 3), (12, 2)), None, None),  # the last would be of the next row
        (Strided(1, (4, 1), (6, 0)), [[Axis(4, 1, True)], [Axis(1, 0, True)]], [1]),
        (Strided(0, (24,), (1,)), [[Axis(4, 1, True), Axis(6, 1, False)]], [0, 1, 2, 3, 4, 5]),
        (Strided(1, (6,), (2,)), [[Axis(2, 1, True), Axis(3, 2, False)]], [1, 3, 5]),
        (Strided(0, (7,), (2,)), None, None),
        (Strided(0, (4,), (4,)), None, None),
        (Strided(0, (2, 3), (0, 1)), [[Axis(2, 0, True)], [Axis(3, 1, False)]], [0, 1, 2]),
    ],
)
def test_axes_by_hand(
    at: Strided, axes: list[list[Axis]] | None, features: list[int] | None
) -> None:
    assert at.axes(FEATURES) == axes
    assert at.features(FEATURES) == features
