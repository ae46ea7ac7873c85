"""Random moves of codes, joins and offsets: what a softened model finds is what the model does."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften
from discrete_grad.nn.soften._codes import Row
from discrete_grad.nn.soften._followed import following
from discrete_grad.nn.soften._positions import Strided

SIZES = ((3, 2, 3, 4), (3, 3, 3, 3), (2, 3, 3, 3), (3, 3, 2, 2))
SPACES = [CategoricalSpace.from_sizes(sizes) for sizes in SIZES]
ROWS = 3
TABLE = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

Move = Callable[[Any], Any]


@st.composite
def places(draw: st.DrawFn, shape: tuple[int, ...]) -> Move:
    """A move within the codes."""
    dim = draw(st.integers(0, len(shape) - 1))
    size = shape[dim]
    kinds: dict[str, Move] = {
        "flip": lambda x: x.flip(dim),
        "roll": lambda x: torch.roll(x, 1, dim),
        "last": lambda x: x.transpose(dim, -1),
        "line": lambda x: x.reshape(-1),
        "flat": lambda x: x.flatten(0, -1).unsqueeze(0),
        "deep": lambda x: x.unsqueeze(dim),
        "thin": lambda x: x.squeeze(),
        "wide": lambda x: x.unsqueeze(dim).expand(*shape[:dim], 2, *shape[dim:]),
        "twice": lambda x: x.repeat_interleave(2, dim),
        "stack": lambda x: torch.stack([x, x.flip(0)], dim),
        "join": lambda x: torch.cat([x, x.narrow(dim, 0, 1)], dim),
        "halves": lambda x: torch.cat(x.chunk(2, dim)[::-1], dim),
        "contiguous": lambda x: x.contiguous(),
    }
    if size > 1:
        first = draw(st.integers(0, size - 1))
        order = torch.tensor(draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3)))
        kinds |= {
            "part": lambda x: x.narrow(dim, first, size - first),
            "step": lambda x: x.movedim(dim, 0)[::2],
            "order": lambda x: x.index_select(dim, order),
            "listed": lambda x: x.movedim(dim, 0)[order.tolist()],
        }
        if len(shape) > 1:
            kinds["one"] = lambda x: x.select(dim, first)
    return kinds[draw(st.sampled_from(sorted(kinds)))]


@st.composite
def numbers(draw: st.DrawFn, shape: tuple[int, ...]) -> Move:
    """An offset, or numbers in place of some codes."""
    dim = draw(st.integers(0, len(shape) - 1))
    each = torch.tensor(draw(st.lists(st.integers(0, 6), min_size=shape[dim], max_size=shape[dim])))
    each = each.view(-1, *(1,) * (len(shape) - dim - 1))
    kinds: dict[str, Move] = {
        "number": lambda x: x + 3,
        "offsets": lambda x: x + each,
        "less": lambda x: x + 5 - 5,
        "hidden": lambda x: torch.where(each > 3, 7, x),
        "filled": lambda x: x.masked_fill(each > 4, 1),
        "token": lambda x: torch.cat([torch.full_like(x.narrow(dim, 0, 1), 5), x], dim),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]


@st.composite
def chains(draw: st.DrawFn) -> list[Move]:
    """Moves one after the other; they are chosen by the shape that the ones before leave."""
    codes, chain = torch.zeros(ROWS, 4, dtype=torch.int64), []
    for _ in range(draw(st.integers(1, 5))):
        if not codes.dim() or codes.numel() > 200:
            break
        shape = tuple(codes.shape)
        move = draw(st.one_of(places(shape), numbers(shape)))
        codes = move(codes)
        chain.append(move)
    return chain


class Model(nn.Module):
    def __init__(self, chain: list[Move], look_up: Move) -> None:
        super().__init__()
        self.chain, self.look_up = chain, look_up

    def forward(self, codes: Tensor) -> Any:
        for move in self.chain:
            codes = move(codes)
        return (self.look_up(codes),)  # in a tuple, as it may have any shape


LOOKUPS: dict[str, Move] = {
    "embedding": lambda x: F.embedding(x, TABLE),
    "indexed": lambda x: TABLE[x],
    "one_hot": lambda x: F.one_hot(x, 60).double(),
}


@given(st.sampled_from(SPACES), chains(), st.sampled_from(sorted(LOOKUPS)), st.integers(0, 1000))
def test_what_is_found(space: CategoricalSpace, chain: list[Move], look_up: str, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(space.sizes)
    codes = [(torch.rand(ROWS, 4, generator=random) * sizes).long() for _ in range(2)]
    model = Model(chain, LOOKUPS[look_up])
    soft = soften(model, space)
    first, second = (model(code)[0].double() for code in codes)
    hot = [space.one_hot(code, dtype=torch.float64) for code in codes]
    assert_close(soft(hot[0])[0], first)
    # a look-up is linear in the row: in between it is the mean
    assert_close(soft(0.25 * hot[0] + 0.75 * hot[1])[0], 0.25 * first + 0.75 * second)


OFFSETS = (
    [0, 3, 6, 9],
    [0, 0, 0, 0],
    [0, 3, 3, 0],
    [5, 1, 2, 9],
    [0, 3, 6, 0],
    [2, 2, 5, 8],
    [0, 1, 2, 3],
    [4, 7, 10, 12],
)
FORMS: dict[str, Move] = {
    "as it comes": lambda x: x,
    "reversed": lambda x: x.flip(1),
    "stacked": lambda x: torch.stack([x, x[:, [1, 2, 3, 0]]], 1),
    "another for each row": lambda x: x + 10 * torch.arange(ROWS).unsqueeze(1),
    "stacked, another for each row": lambda x: (
        torch.stack([x, x.flip(1)], 1) + 10 * torch.arange(ROWS).view(-1, 1, 1)
    ),
    "in one line": lambda x: x.reshape(-1),
    "numbers in between": lambda x: torch.where(torch.arange(4) % 2 == 1, 7, x),
    "no column": lambda x: x[:, torch.arange(0)],
    "a column, moved four times": lambda x: x[:, 1:2] + torch.tensor([0, 5, 5, 10]),
    "its data": lambda x: x.data,
}


@pytest.mark.parametrize("space", SPACES, ids=lambda space: str(space.sizes))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("offsets", OFFSETS, ids=str)
def test_offsets(space: CategoricalSpace, form: Move, offsets: list[int]) -> None:
    codes = (torch.rand(ROWS, 4) * torch.tensor(space.sizes)).long()
    row = space.one_hot(codes, dtype=torch.float64)
    for look_up in LOOKUPS.values():
        model = Model([lambda x: x + torch.tensor(offsets), form], look_up)
        assert_close(soften(model, space)(row)[0], model(codes)[0])


@pytest.mark.parametrize("space", SPACES, ids=lambda space: str(space.sizes))
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(space: CategoricalSpace, mode: str) -> None:
    codes = torch.tensor([[0, 1, 2, 3], [2, 0, 1, 2], [1, 1, 0, 0]]) % torch.tensor(space.sizes)
    row = space.one_hot(codes, dtype=torch.float64)
    parts = (slice(None), slice(1, 3), slice(0, 1), [2, 0, 3])
    for offsets, part in itertools.product(OFFSETS, parts):
        moves = [lambda x, o=offsets: x + torch.tensor(o), lambda x, p=part: x[:, p]]
        model = Model(moves, lambda x: F.embedding_bag(x, TABLE, mode=mode))
        assert_close(soften(model, space)(row)[0], model(codes)[0])


BY_NAME: dict[str, Move] = {
    "transpose": lambda x: x.transpose(dim0=1, dim1=0),
    "transpose by one": lambda x: x.transpose(0, dim1=1),
    "permute": lambda x: torch.permute(x, dims=(1, 0)),
    "expand": lambda x: x[:1].expand(size=(2, 4)),
    "view": lambda x: x.view(size=(2, 6)),
    "reshape": lambda x: torch.reshape(x, shape=(2, 6)),
    "flatten": lambda x: x.unsqueeze(dim=1).flatten(start_dim=1, end_dim=2),
    "flatten from": lambda x: x.view(1, ROWS, 2, 2).flatten(start_dim=2),
    "flatten to": lambda x: x.view(1, ROWS, 2, 2).flatten(end_dim=1),
    "squeeze": lambda x: x.view(ROWS, 1, 4, 1).squeeze(dim=1),
    "squeeze some": lambda x: x.view(ROWS, 1, 4, 1).squeeze(dim=(1, 3)),
    "select": lambda x: x.select(dim=1, index=2),
    "narrow": lambda x: x.narrow(dim=1, start=1, length=2),
    "unbind": lambda x: torch.cat(x.unbind(dim=1)[1:3]),
    "unbind rows": lambda x: torch.cat(x.unbind()[1:]),
    "split": lambda x: torch.cat(x.split(split_size=3, dim=1)[::-1], 1),
    "split of torch": lambda x: torch.split(x, split_size_or_sections=3, dim=1)[1],
    "split in sections": lambda x: x.split(split_size=[1, 3], dim=1)[1],
    "split rows": lambda x: x.split(2)[0],
    "chunk": lambda x: x.chunk(chunks=3, dim=1)[1],
    "chunk rows": lambda x: x.chunk(2)[1],
    "split with sizes": lambda x: x.split_with_sizes(split_sizes=[1, 3], dim=1)[1],
    "swap axes": lambda x: x.view(ROWS, 2, 2).swapaxes(axis0=2, axis1=0),
    "swap dims": lambda x: torch.swapdims(x.view(ROWS, 2, 2), dim0=1, dim1=0),
}


@pytest.mark.parametrize(
    "move",
    [
        lambda x: torch.where(condition=torch.eye(ROWS, 4) > 0, input=x, other=1),
        lambda x: torch.where(torch.eye(ROWS, 4) > 0, x, other=x.flip(1)),
    ],
)
def test_where_by_the_names_of_its_arguments(move: Move) -> None:
    space, model = SPACES[1], Model([move], LOOKUPS["embedding"])
    codes = torch.tensor([[0, 1, 2, 0], [2, 0, 1, 2], [1, 1, 0, 1]])
    soft = soften(model, space)
    assert_close(soft(space.one_hot(codes, dtype=torch.float64))[0], model(codes)[0])
    wrong = soften(Model([lambda x: torch.where(x > -1, x, x, out=x)], LOOKUPS["embedding"]), space)
    with pytest.raises(TypeError, match="soften: 'where'"):
        wrong(space.one_hot(codes, dtype=torch.float64))


@pytest.mark.parametrize("move", BY_NAME.values(), ids=BY_NAME.keys())
def test_moves_whose_arguments_are_named_or_left_out(move: Move) -> None:
    space, codes = SPACES[0], torch.tensor([[0, 1, 2, 3], [2, 0, 1, 2], [1, 1, 0, 0]])
    model = Model([lambda x: x + torch.tensor([0, 3, 5, 8]), move], LOOKUPS["embedding"])
    row = space.one_hot(codes, dtype=torch.float64)
    assert torch.equal(soften(model, space)(row)[0], model(codes)[0])


REGULAR: dict[str, Move] = {
    **{name: move for name, move in BY_NAME.items() if "unbind" not in name and name != "split"},
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "swapdims": lambda x: torch.swapdims(x, 0, 1),
    "t": lambda x: x.t(),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "column": lambda x: x[:, 2],
    "row": lambda x: x[1],
    "cells": lambda x: x[:, None, 1:3],
    "every second": lambda x: x[::2, ..., ::3],
    "ravel": lambda x: x.ravel(),
    "iterated": lambda x: list(x)[2],
    "part of unbind": lambda x: x.unbind(1)[3],
    "part of split": lambda x: x.split(3, 1)[1],
    "part of split_with_sizes": lambda x: x.split_with_sizes([1, 3], 1)[1],
    "squeezed whole": lambda x: x[:, :1].squeeze(),
    "cast": lambda x: x.int().unsqueeze(0),
    "plus": lambda x: (x + 3)[:, 1],
}


@pytest.mark.parametrize("move", REGULAR.values(), ids=REGULAR.keys())
def test_positions_stay_regular(move: Move) -> None:
    """By which look-ups stay products of blocks; any other way is slow, and right all the same."""
    positions = torch.arange(ROWS * 4).view(ROWS, 4)
    codes = Row(torch.zeros(ROWS, SPACES[0].width), SPACES[0]).codes()
    with following():
        moved = move(codes)
    assert isinstance(moved.at, Strided)
    assert torch.equal(moved.positions() + moved.shift, move(positions))
