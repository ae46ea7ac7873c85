"""Positions at equal distances against the same moves of a tensor."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from discrete_grad.nn.soften._positions import Strided

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
