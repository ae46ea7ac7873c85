"""What the host gives to Triton's kernels, seen without running one: grids, tensors, tiles."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, GumbelSoftmax, ReinMax, Softmax
from discrete_grad.nn import SoftEmbedding
from discrete_grad.nn import _triton_kernels as kernels
from discrete_grad.sampling import random_indices, seeded

pytest.importorskip("triton")

# of 1, 5 and 17 categories in tiles of 4, 8 and 32 for a draw; all in 16 or 32 for a gradient
SPACE = CategoricalSpace.from_sizes((5, 17, 1))
ROWS = 300
Launch = tuple[tuple[int, ...], tuple[Any, ...], dict[str, Any]]


class Recorder:
    """A kernel that keeps its launches."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *given, **named: self.launches.append((grid, given, named))


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(kernels, "_draw_kernel", recorder)
    return recorder


@pytest.fixture
def pulling(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(kernels, "_gradient_kernel", recorder)
    return recorder


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (kernels.draw, "codes"),
        (kernels._sample_softmax, "normaliser"),
        (kernels._gumbels, "noise"),
    ],
)
def test_draws(drawing: Recorder, call: Callable[..., Any], wanted: str) -> None:
    logits = torch.randn(2, ROWS // 2, SPACE.width)
    found = call(SPACE, logits, 3)
    tiles = [(grid, given[6].tolist(), named) for grid, given, named in drawing.launches]
    assert tiles == [
        ((2,), [2], {"WANTED": wanted, "ITEMS": 256, "BLOCK": 4}),
        ((3,), [0], {"WANTED": wanted, "ITEMS": 128, "BLOCK": 8}),
        ((10,), [1], {"WANTED": wanted, "ITEMS": 32, "BLOCK": 32}),
    ]
    for _, given, _ in drawing.launches:
        rows, codes, normaliser, noise, seed, offsets, features, *numbers = given
        assert torch.equal(rows, logits.reshape(ROWS, SPACE.width))
        assert (codes.shape, codes.dtype) == ((2, ROWS // 2, 3), torch.int64)
        assert normaliser.shape == ((2, ROWS // 2, 3) if wanted == "normaliser" else (0,))
        assert noise.shape == (logits.shape if wanted == "noise" else (0,))
        assert {normaliser.dtype, noise.dtype} == {torch.float32}
        assert (seed.shape, seed.dtype, seed.item()) == ((), torch.int64, 3)
        assert offsets.tolist() == [0, 5, 22, 23]
        assert (offsets.dtype, features.dtype) == (torch.int32, torch.int32)
        assert numbers == [1, ROWS, SPACE.width, SPACE.width, 3]
    _, (_, codes, normaliser, noise, *_), _ = drawing.launches[0]
    expected = {"codes": codes, "normaliser": (codes, normaliser), "noise": noise}[wanted]
    pairs = zip(found, expected, strict=True) if wanted == "normaliser" else [(found, expected)]
    assert all(mine is theirs for mine, theirs in pairs)


def test_features_of_one_tile_share_a_launch(drawing: Recorder) -> None:
    space = CategoricalSpace.from_sizes((5, 3, 8, 4, 2000))
    kernels.draw(space, torch.zeros(3, space.width), 0)
    assert [(given[6].tolist(), named["BLOCK"]) for _, given, named in drawing.launches] == [
        ([1, 3], 4),
        ([0, 2], 8),
        ([4], 1024),
    ]
    assert [grid for grid, *_ in drawing.launches] == [(1,), (1,), (3,)]
    assert [given[7] for _, given, _ in drawing.launches] == [2, 2, 1]


def test_a_seed_on_the_device_stays_there_and_strides_are_told(drawing: Recorder) -> None:
    wide = torch.randn(4, 2 * SPACE.width)
    seed = torch.tensor(7)
    kernels.draw(SPACE, wide[:, : SPACE.width], seed)
    _, given, _ = drawing.launches[0]
    assert given[4] is seed
    assert given[0].data_ptr() == wide.data_ptr()
    assert given[9:11] == (2 * SPACE.width, SPACE.width)
    kernels.draw(SPACE, torch.randn(SPACE.width, 4).T, seed)
    assert drawing.launches[-1][1][0].is_contiguous()


def test_no_rows_are_no_launch(drawing: Recorder, pulling: Recorder) -> None:
    none = torch.zeros(0, SPACE.width)
    codes = kernels.draw(SPACE, none, 0)
    weight, grad = torch.zeros(SPACE.width, 2), torch.zeros(0, 3, 2)
    found = kernels.logits_gradient(SPACE, none, weight, codes, grad, "reinmax")
    assert (codes.shape, found.shape) == ((0, 3), none.shape)
    assert drawing.launches == pulling.launches == []


@pytest.mark.parametrize(("dim", "chunk"), [(5, 16), (16, 16), (17, 32), (70, 32)])
def test_gradients(pulling: Recorder, dim: int, chunk: int) -> None:
    logits = torch.randn(2, 35, SPACE.width)
    weight, grad = torch.randn(SPACE.width, dim), torch.randn(2, 35, 3, dim)
    codes = torch.zeros(2, 35, 3, dtype=torch.int32)
    found = kernels.logits_gradient(
        SPACE, logits, weight, codes, grad, "gumbel_softmax", tau=0.5, seed=9
    )
    assert found.shape == logits.shape
    common = {"METHOD": "gumbel_softmax", "PRECISION": "ieee", "ONE_TILE": True, "ROWS": 32}
    tiles = [(grid, given[7].tolist(), named) for grid, given, named in pulling.launches]
    assert tiles == [
        ((6,), [0, 2], {**common, "BLOCK": 16, "CHUNK": chunk, "num_warps": 4}),
        ((3,), [1], {**common, "BLOCK": 32, "CHUNK": chunk, "num_warps": 8}),
    ]
    for (_, given, _), count in zip(pulling.launches, (2, 1), strict=True):
        rows, table, drawn, down, result, seed, offsets, _, *numbers = given
        assert torch.equal(rows, logits.reshape(70, SPACE.width))
        assert torch.equal(table, weight)
        assert (drawn.shape, drawn.dtype, drawn.is_contiguous()) == ((70, 3), torch.int64, True)
        assert torch.equal(down, grad.reshape(70, 3, dim))
        assert result.data_ptr() == found.data_ptr()
        assert (seed.item(), offsets.tolist()) == (9, [0, 5, 22, 23])
        strides = [dim, 3 * dim, dim]
        assert numbers == [count, 70, SPACE.width, SPACE.width, 3, dim, *strides, 0.5]


def test_dtypes_and_strides_of_gradients(pulling: Recorder) -> None:
    logits = torch.randn(SPACE.width, 6).T.bfloat16()
    weight, grad = torch.randn(4, SPACE.width).T, torch.randn(6, 4, 3).transpose(1, 2).double()
    codes = torch.zeros(6, 3, dtype=torch.int64)
    found = kernels.logits_gradient(SPACE, logits, weight.half(), codes, grad, "reinmax")
    assert (found.dtype, found.is_contiguous()) == (torch.bfloat16, True)
    _, (rows, table, _, down, *_), named = pulling.launches[0]
    assert (rows.dtype, table.dtype, down.dtype) == (torch.bfloat16, torch.float16, torch.float16)
    assert [tensor.stride(-1) for tensor in (rows, table, down)] == [1, 1, 1]
    assert named["METHOD"] == "reinmax"
    assert pulling.launches[0][1][-1] == 1.0  # tau
    assert pulling.launches[0][1][5].item() == 0  # the seed
    kernels.logits_gradient(SPACE, logits, weight.bfloat16(), codes, grad, "reinmax")
    _, (_, table, _, down, *_), _ = pulling.launches[-1]
    assert (table.dtype, down.dtype) == (torch.float32, torch.float32)  # for the interpreter


def test_long_features_take_several_tiles(pulling: Recorder) -> None:
    space = CategoricalSpace.from_sizes((64, 65))
    logits, codes = torch.zeros(1, 129), torch.zeros(1, 2, dtype=torch.int64)
    weight, grad = torch.zeros(129, 1), torch.zeros(1, 2, 1)
    kernels.logits_gradient(space, logits, weight, codes, grad, "straight_through")
    ((_, given, named),) = pulling.launches
    assert (given[7].tolist(), named["BLOCK"], named["ONE_TILE"]) == ([0, 1], 64, False)
    one = CategoricalSpace({"x": 64})
    kernels.logits_gradient(
        one, logits[:, :64], weight[:64], codes[:, :1], grad[:, :1], "straight_through"
    )
    assert pulling.launches[-1][2]["ONE_TILE"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"weight": torch.zeros(22, 2)},
            "weight must be (23, dim) in at most float32, got (22, 2) of torch.float32",
        ),
        (
            {"weight": torch.zeros(23)},
            "weight must be (23, dim) in at most float32, got (23,) of torch.float32",
        ),
        (
            {"weight": torch.zeros(23, 2).double()},
            "weight must be (23, dim) in at most float32, got (23, 2) of torch.float64",
        ),
        (
            {"codes": torch.zeros(5, 3).long()},
            "codes must be (4, 3) and grad (4, 3, 2), got (5, 3) and (4, 3, 2)",
        ),
        (
            {"grad": torch.zeros(4, 3, 1)},
            "codes must be (4, 3) and grad (4, 3, 2), got (4, 3) and (4, 3, 1)",
        ),
        ({"method": "softmax"}, "no such method, or no such tau of it: 'softmax', 1.0"),
        ({"tau": 0.5}, "no such method, or no such tau of it: 'reinmax', 0.5"),
        (
            {"tau": 0.0, "method": "gumbel_softmax"},
            "no such method, or no such tau of it: 'gumbel_softmax', 0.0",
        ),
        ({"logits": torch.zeros(4, 22)}, "logits must be (..., 23), got (4, 22)"),
        (
            {"logits": torch.zeros(4, 23).double()},
            "the kernels take float32, bfloat16 and float16, got torch.float64",
        ),
        ({"codes": torch.full((4, 3), 17)}, "feature 'x0' has code 17; its codes are 0 to 4"),
    ],
)
def test_what_does_not_fit(pulling: Recorder, changes: dict[str, Any], message: str) -> None:
    fine: dict[str, Any] = {
        "logits": torch.zeros(4, SPACE.width),
        "weight": torch.zeros(SPACE.width, 2),
        "codes": torch.zeros(4, 3, dtype=torch.int64),
        "grad": torch.zeros(4, 3, 2),
        "method": "reinmax",
    }
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        kernels.logits_gradient(SPACE, **{**fine, **changes})
    assert pulling.launches == []


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    logits: Tensor = torch.zeros(1, SPACE.width)
    assert not kernels.available(logits)  # on the CPU
    monkeypatch.setattr(kernels, "triton", None)
    with pytest.raises(ImportError, match=r"^the kernels need Triton: pip install triton$"):
        kernels.draw(SPACE, logits, 0)

    def plain() -> None: ...

    assert kernels._kernel(plain) is plain


def test_a_drawn_embedding_by_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward pass draws by them, and the backward pass has the seed of that draw."""
    layer, given, drawn = SoftEmbedding(SPACE, 2), [], torch.tensor([[4, 16, 0], [0, 3, 0]])
    seeds: list[int] = []

    def draw(space: CategoricalSpace, logits: Tensor, seed: int) -> Tensor:
        seeds.append(seed)
        return drawn

    def pulled(*tensors: Any, **options: Any) -> Tensor:
        given.append((tensors, options))
        return torch.full((2, SPACE.width), 7.0)

    monkeypatch.setattr(kernels, "available", lambda tensor: True)
    monkeypatch.setattr(kernels, "draw", draw)
    monkeypatch.setattr(kernels, "logits_gradient", pulled)
    logits = torch.zeros(2, SPACE.width, requires_grad=True)
    for method, tau in ((GumbelSoftmax(SPACE, tau=0.5), 0.5), (ReinMax(SPACE), 1.0)):
        found = layer.sample(logits, method, generator=seeded(1), kernels=True)
        assert torch.equal(found, layer(drawn))
        (gradient,) = torch.autograd.grad(found.sum(), logits)
        assert (gradient == 7).all()
        (space, *tensors, form), options = given.pop()
        expected = (logits, layer.weight, drawn, torch.ones(2, 3, 2))
        assert all(map(torch.equal, tensors, expected))
        assert space is SPACE
        assert form == ("gumbel_softmax" if tau == 0.5 else "reinmax")
        # only Gumbel-softmax draws its noise again
        assert options == {"tau": tau, "seed": seeds[-1]}
    assert seeds == [int(random_indices(2**62, (), generator=seeded(1)))] * 2
    layer.sample(logits.detach(), Softmax(SPACE), kernels=True)  # which has no kernel
    assert len(seeds) == 2
