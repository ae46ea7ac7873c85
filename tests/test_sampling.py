"""Sampling: exact laws, no impossible category, finite noise, reproducible draws."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import Dim

from discrete_grad import CategoricalSpace, sampling
from discrete_grad.sampling import (
    categorical,
    exponential_like,
    gumbel_like,
    isolated_seed,
    normal,
    permutation,
    random_codes,
    random_indices,
    uniform_like,
)
from tests.goodness import FALSE_ALARM, assert_law, g_test
from tests.pretended_card import CARD, pretended_card
from tests.strategies import DTYPES, random_logits, spaces_and_logits

INF = math.inf
RAGGED = CategoricalSpace.from_sizes((2, 1, 3, 3))
LAST_UNIFORM = 1 - 2**-53  # the largest number below 1 in float64
SIGMAS = 6.2  # of a normal variable: two-sided false alarm 6e-10


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(space: CategoricalSpace, logits: Tensor, count: int, seed: int = 0) -> Tensor:
    logits = logits.expand(count, *logits.shape)
    return categorical(space, logits, uniform_like(space, logits, generator=seeded(seed)))


# --- the law ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("sizes", "logits"),
    [
        ((3,), [0.5, -1.0, 1.5]),
        ((3,), [-INF, 0.0, 0.7]),
        ((2, 1, 3, 3), [0.0, 1.0, 5.0, 0.2, -INF, 1.1, 1.0, -3.0, 0.5]),
        ((4, 4), [0.0] * 8),
    ],
)
def test_categorical_follows_softmax(
    sizes: tuple[int, ...], logits: list[float], dtype: torch.dtype
) -> None:
    space, theta = CategoricalSpace.from_sizes(sizes), torch.tensor(logits, dtype=dtype)
    assert_law(space, theta, draw(space, theta, 20_000))


def test_the_law_test_rejects_a_law_that_is_off() -> None:
    space = CategoricalSpace.from_sizes((3,))
    codes = draw(space, torch.tensor([0.5, -1.0, 1.6]), 20_000)
    with pytest.raises(AssertionError, match="do not follow"):
        assert_law(space, torch.tensor([0.5, -1.0, 1.5 - 0.1]), codes)
    twins = draw(space, torch.zeros(3), 20_000).expand(-1, 2)
    with pytest.raises(AssertionError, match="do not follow"):
        assert_law(CategoricalSpace.from_sizes((3, 3)), torch.zeros(6), twins)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_law_of_fifty_thousand_categories(dtype: torch.dtype) -> None:
    space = CategoricalSpace.from_sizes((50_000,))
    logits = (3 * random_logits(space, generator=1)).to(dtype)
    p = logits.double().softmax(-1)
    codes = torch.cat([draw(space, logits, 100, seed) for seed in range(20)]).squeeze(-1)
    cells = (p.cumsum(-1) * 30).long().clamp_max(29)  # neighbours
    levels = (p.argsort().argsort() * 30) // 50_000  # equals
    for group in (cells, levels):
        law = torch.zeros(30, dtype=torch.float64).index_add_(0, group, p)
        assert g_test(group[codes].bincount(minlength=30), law) > FALSE_ALARM


def test_categorical_inverts_the_distribution_function() -> None:
    space = CategoricalSpace.from_sizes((50_000,))
    logits = 3 * random_logits(space, generator=2)
    uniform = uniform_like(space, logits.expand(200, -1), generator=seeded())
    p = np.exp(logits.numpy() - logits.numpy().max())
    edges = np.array([math.fsum(p[:k]) for k in range(1, 50_001, 500)]) / math.fsum(p)
    codes = categorical(space, logits.expand(200, -1), uniform).squeeze(-1).numpy()
    # a category lies in the slice of the exact distribution function that holds its uniform
    slices = np.searchsorted(edges, uniform.squeeze(-1).numpy(), side="right")
    assert ((codes - 1) // 500 + 1 == slices).all()


@given(spaces_and_logits(dtypes=(torch.float64,), scales=(0.0, 1.0)), st.integers(0, 99))
def test_a_uniform_grid_gives_every_category_its_share(
    drawn: tuple[CategoricalSpace, Tensor], seed: int
) -> None:
    space, logits = drawn
    count = 200
    grid = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    logits = logits.expand(count, *logits.shape)
    uniform = grid.view(-1, *[1] * (logits.dim() - 1)).expand(
        *logits.shape[:-1], space.num_features
    )
    codes = categorical(space, logits, uniform)
    shares = space.one_hot(codes, dtype=torch.float64).sum(0)
    assert ((shares - count * space.softmax(logits[0])).abs() <= 1 + 1e-9).all()


def test_random_codes_are_uniform_over_the_rows() -> None:
    codes = random_codes(RAGGED, 20_000, generator=seeded())
    assert_law(RAGGED, torch.zeros(9), codes)
    assert codes.dtype == torch.int64


def test_random_codes_stay_in_range_at_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sampling, "uniform", lambda shape, **_: torch.full(shape, LAST_UNIFORM, dtype=torch.float64)
    )
    sizes = (*range(1, 200), 2**20 - 1, 2**20, 2**20 + 1, 10**9 + 7)
    codes = random_codes(CategoricalSpace.from_sizes(sizes), 2)
    assert codes[0].tolist() == [size - 1 for size in sizes]


def test_random_indices_and_permutation() -> None:
    indices = random_indices(5, (20_000,), generator=seeded())
    assert g_test(indices.bincount(minlength=5), torch.full((5,), 0.2)) > FALSE_ALARM
    assert sorted(permutation(100, generator=seeded()).tolist()) == list(range(100))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rare_category_keeps_its_place(dtype: torch.dtype) -> None:
    # probability 2e-9, at the end of the distribution function: lost if the softmax were in half
    # precision or the cumulative sum in float32
    space = CategoricalSpace.from_sizes((3,))
    logits = torch.tensor([0.0, 0.0, -19.25], dtype=dtype).expand(2, -1)
    uniform = torch.tensor([[1 - 4e-9], [1 - 1e-9]], dtype=torch.float64)
    assert categorical(space, logits, uniform).tolist() == [[1], [2]]


def test_the_noise_must_fit_the_space() -> None:
    with pytest.raises(ValueError, match=r"must be \(2, 4\), got \(2, 5\)"):
        categorical(RAGGED, torch.zeros(2, 9), torch.zeros(2, 5))


# --- what must never be drawn -----------------------------------------------------------------


EDGES = (0.0, 5e-324, 1e-300, 2**-53, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1 - 2**-24, LAST_UNIFORM, 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nothing", [-INF, -1e4], ids=["masked", "underflow"])
def test_a_category_of_probability_zero_is_never_drawn(dtype: torch.dtype, nothing: float) -> None:
    for size in (1, 2, 3, 4):
        space = CategoricalSpace.from_sizes((size,))
        allowed = [m for m in itertools.product([True, False], repeat=size) if any(m)]
        for mask, level in itertools.product(allowed, (0.0, 0.3, 80.0)):
            # every pattern: the first, the last and all but one forbidden among them
            values = [level * k / size if m else nothing for k, m in enumerate(mask)]
            logits = torch.tensor(values, dtype=dtype).expand(len(EDGES), -1)
            uniform = torch.tensor(EDGES, dtype=torch.float64).unsqueeze(-1)
            for code in categorical(space, logits, uniform).flatten().tolist():
                assert mask[code]


@given(spaces_and_logits(), st.sampled_from(EDGES))
def test_codes_are_in_range_and_allowed_whatever_the_logits(
    drawn: tuple[CategoricalSpace, Tensor], edge: float
) -> None:
    space, logits = drawn
    shape = (*logits.shape[:-1], space.num_features)
    codes = categorical(space, logits, torch.full(shape, edge, dtype=torch.float64))
    assert codes.shape == shape
    assert codes.dtype == torch.int64
    space.check_codes(codes)
    assert (logits[space.one_hot(codes) == 1] > -INF).all()


def test_the_last_category_is_reached() -> None:
    space = CategoricalSpace.from_sizes((3, 2))
    uniform = torch.tensor([[0.0, 0.0], [LAST_UNIFORM] * 2], dtype=torch.float64)
    assert categorical(space, torch.zeros(2, 5), uniform).tolist() == [[0, 0], [2, 1]]


@pytest.mark.parametrize("sizes", [(3, 3, 4), (3, 2, 3, 2), (40, 3)])
@pytest.mark.parametrize("count", [4, 20_000])
@pytest.mark.parametrize("bad", [math.nan, INF, -INF])
def test_a_feature_without_a_law_draws_no_code_of_another(
    sizes: tuple[int, ...], count: int, bad: float
) -> None:
    space = CategoricalSpace.from_sizes(sizes)
    logits = torch.zeros(count, space.width)
    logits[1, sizes[0] : sizes[0] + sizes[1]] = bad
    uniform = uniform_like(space, logits, generator=seeded())
    with pytest.raises(ValueError, match="feature 'x1' has"):
        categorical(space, logits, uniform)
    # as on a GPU, where nobody looks at values
    codes = torch.func.vmap(lambda x, u: categorical(space, x, u))(logits, uniform)
    space.check_codes(codes)
    assert codes[1, 1] == 0
    logits[1] = 0
    fine = torch.arange(count) != 1
    assert torch.equal(codes[fine], categorical(space, logits, uniform)[fine])


# --- Gumbel noise -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_gumbel_noise_is_finite_at_the_edges(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edges(self: Tensor, **_: object) -> Tensor:
        info = torch.finfo(self.dtype)
        values = [0.0, info.smallest_normal / 2, info.smallest_normal, 0.5, 1 - info.eps / 2, 1.0]
        return self.copy_(torch.tensor(values, dtype=self.dtype))

    monkeypatch.setattr(Tensor, "uniform_", edges)
    noise = gumbel_like(torch.zeros(6, dtype=dtype), generator=seeded())
    assert noise.isfinite().all()
    assert (noise.diff() >= 0).all()
    assert noise[0] < -4.4
    assert noise[-1] > 16.6
    waits = exponential_like(torch.zeros(6, dtype=dtype), generator=seeded())
    limits = torch.finfo(dtype)
    least, most = limits.tiny, 1 - limits.eps / 2
    assert waits.dtype == dtype
    assert torch.equal(waits, -torch.tensor([least] * 3 + [0.5, most, most], dtype=dtype).log())
    assert (waits > 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gumbel_noise_is_drawn_in_float32_or_wider(dtype: torch.dtype) -> None:
    noise = gumbel_like(torch.zeros(2, 3, dtype=dtype))
    assert noise.dtype == torch.promote_types(dtype, torch.float32)
    assert noise.shape == (2, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gumbel_moments_and_law(dtype: torch.dtype) -> None:
    count = 200_000
    noise = gumbel_like(torch.zeros(count, dtype=dtype), generator=seeded()).double()
    variance, kurtosis = math.pi**2 / 6, 5.4
    assert abs(noise.mean() - np.euler_gamma) < SIGMAS * math.sqrt(variance / count)
    spread = variance * math.sqrt((kurtosis - 1) / count)
    assert abs(noise.var() - variance) < SIGMAS * spread
    cells = ((-(-noise).exp()).exp() * 50).long().clamp_max(49)
    assert g_test(cells.bincount(minlength=50), torch.full((50,), 0.02)) > FALSE_ALARM


# --- the state of the generators --------------------------------------------------------------


DRAWS: dict[str, Callable[[torch.Generator | None], Tensor]] = {
    "gumbel_like": lambda g: gumbel_like(torch.zeros(4, 9), generator=g),
    "exponential_like": lambda g: exponential_like(torch.zeros(4, 9), generator=g),
    "uniform_like": lambda g: uniform_like(RAGGED, torch.zeros(4, 9), generator=g),
    "normal": lambda g: normal((4, 9), generator=g),
    "uniform": lambda g: sampling.uniform((4, 9), generator=g),
    "random_codes": lambda g: random_codes(RAGGED, 30, generator=g),
    "random_indices": lambda g: random_indices(1000, (30,), generator=g),
    "permutation": lambda g: permutation(30, generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_generator_decides_and_the_global_state_stays(name: str) -> None:
    before = torch.get_rng_state()
    first, second = (DRAWS[name](seeded(5)) for _ in range(2))
    other = DRAWS[name](seeded(6))
    generator = seeded(5)
    _, later = (DRAWS[name](generator) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first, later)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", DRAWS)
def test_without_generator_the_global_state_decides(name: str) -> None:
    with isolated_seed(7):
        first = DRAWS[name](None)
    with isolated_seed(7):
        assert torch.equal(first, DRAWS[name](None))


def test_isolated_seed_restores_the_state_even_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), isolated_seed(0):
        torch.rand(3).tolist()[0] / 0
    assert torch.equal(before, torch.get_rng_state())


def test_shapes_and_ranges_of_plain_numbers() -> None:
    for numbers in (normal((2, 3)), sampling.uniform((2, 3), device=torch.device("cpu"))):
        assert (numbers.shape, numbers.dtype) == ((2, 3), torch.float64)
    indices = random_indices(3, (500, 2), generator=seeded())
    assert (indices.shape, indices.unique().tolist()) == ((500, 2), [0, 1, 2])
    assert permutation(7, generator=seeded()).sort().values.tolist() == list(range(7))
    assert torch.equal(sampling.seeded(5).get_state(), seeded(5).get_state())


def test_uniform_numbers_are_float64_and_one_a_feature() -> None:
    for dtype in DTYPES:
        uniform = uniform_like(RAGGED, torch.zeros(3, 0, 9, dtype=dtype))
        assert uniform.dtype == torch.float64
        assert uniform.shape == (3, 0, 4)


def test_the_draw_carries_no_gradient_and_changes_no_input() -> None:
    logits = torch.zeros(4, 9, requires_grad=True)
    uniform = uniform_like(RAGGED, logits, generator=seeded())
    before = uniform.clone()
    assert not categorical(RAGGED, logits, uniform).requires_grad
    assert not uniform.requires_grad
    assert not gumbel_like(logits).requires_grad
    assert torch.equal(uniform, before)


# --- transforms, with the noise passed in -------------------------------------------------------


class Draw(nn.Module):
    def forward(self, logits: Tensor, uniform: Tensor) -> Tensor:
        return categorical(RAGGED, logits, uniform)


@pytest.fixture
def arguments() -> tuple[Tensor, Tensor]:
    logits = random_logits(RAGGED, (5,), masked=True)
    return logits, uniform_like(RAGGED, logits, generator=seeded())


def test_vmap(arguments: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(torch.func.vmap(Draw())(*arguments), Draw()(*arguments))


def test_compile_without_graph_breaks(arguments: tuple[Tensor, Tensor]) -> None:
    compiled = torch.compile(Draw(), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*arguments), Draw()(*arguments))


def test_export(arguments: tuple[Tensor, Tensor]) -> None:
    exported = torch.export.export(Draw(), arguments).module()
    assert torch.equal(exported(*arguments), Draw()(*arguments))


@pytest.mark.parametrize("sizes", [(2, 1, 3, 3), (40,), (3, 3)])
@pytest.mark.parametrize("batch", [(), (5,), (2, 4), (20_000,)])
def test_a_program_draws_the_same_codes(
    sizes: tuple[int, ...], batch: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = CategoricalSpace.from_sizes(sizes)
    logits = random_logits(space, batch, masked=True)
    noise = uniform_like(space, logits, generator=seeded())
    least = torch.zeros_like(noise)  # which skips the first categories where they are forbidden
    expected = [categorical(space, logits, u) for u in (noise, least)]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.delattr(torch, "searchsorted")  # not every exporter knows it
    for u, codes in zip((noise, least), expected, strict=True):
        assert torch.equal(categorical(space, logits, u), codes)
    again = uniform_like(space, logits, generator=seeded())
    assert torch.equal(again, noise)


class Noise(nn.Module):
    """Each kind of noise from the global source, and the draw."""

    def forward(self, logits: Tensor) -> tuple[Tensor, ...]:
        drawn = categorical(RAGGED, logits, uniform_like(RAGGED, logits))
        return drawn, gumbel_like(logits), exponential_like(logits)


@pytest.mark.parametrize("batch", [Dim("batch"), Dim.AUTO], ids=["named", "auto"])
def test_exported_noise_is_of_any_batch_size_and_of_operations_that_onnx_has(batch: Any) -> None:
    program = torch.export.export(Noise(), (torch.zeros(20_000, 9),), dynamic_shapes=({0: batch},))
    assert program.module()(torch.zeros(4, 9))[0].shape == (4, 4)
    names = " ".join(str(node.target) for node in program.graph.nodes)
    assert "aten.rand" in names
    assert "uniform" not in names
    assert "searchsorted" not in names


def test_noise_without_a_generator_is_that_of_the_global_state() -> None:
    logits = torch.zeros(3, 9, dtype=torch.float64)
    with isolated_seed(5):
        found = uniform_like(RAGGED, logits), gumbel_like(logits), exponential_like(logits)
    with isolated_seed(5):
        u = [torch.rand(shape, dtype=torch.float64) for shape in [(3, 4), (3, 9), (3, 9)]]
    for noise, numbers in zip(found, (u[0], -(-u[1].log()).log(), -u[2].log()), strict=True):
        assert torch.equal(noise, numbers)


@pytest.mark.parametrize("sizes", [(3, 2), (40,)])
def test_many_rows_are_drawn_where_the_logits_are(sizes: tuple[int, ...]) -> None:
    space = CategoricalSpace.from_sizes(sizes)
    logits = normal((20_000, space.width), generator=seeded(0))

    def drawn(device: torch.device) -> Tensor:
        noise = uniform_like(
            space, logits.to(device), generator=torch.Generator(device).manual_seed(1)
        )
        return categorical(space, logits.to(device), noise).cpu()

    with pretended_card():
        there = drawn(CARD)
    assert torch.equal(there, drawn(torch.device("cpu")))


def test_many_samples_are_drawn_in_parts_as_alone() -> None:
    space = CategoricalSpace.from_sizes((20, 20))
    logits = sampling.normal((2, 1000, 40), generator=sampling.seeded(0))
    noise = uniform_like(space, logits, generator=sampling.seeded(1))
    alone = [categorical(space, one, u) for one, u in zip(logits, noise, strict=True)]
    assert torch.equal(categorical(space, logits, noise), torch.stack(alone))


@pytest.mark.parametrize(("noise", "code"), [(0.0, 1), (1 - 2**-53, 2)])
def test_the_least_and_the_greatest_noise_of_many_rows(noise: float, code: int) -> None:
    """Of few categories in many rows, which are counted; the first and the last are impossible."""
    space = CategoricalSpace.from_sizes((4,))
    logits = torch.tensor([-math.inf, 0.3, 0.4, -math.inf]).expand(20_000, 4)
    drawn = categorical(space, logits, torch.full((20_000, 1), noise, dtype=torch.float64))
    assert drawn.eq(code).all()


def test_normal_numbers_come_from_the_generator_alone() -> None:
    state = torch.get_rng_state()
    a, b, c = (sampling.normal((5,), generator=sampling.seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)


CUTS: dict[tuple[int, ...], list[tuple[int, ...]]] = {
    (5, 8): [(5, 8)],  # of one batch dimension
    (3, 2, 4): [(3, 2, 4)],  # fits
    (5, 2, 4): [(2, 2, 4), (2, 2, 4), (1, 2, 4)],
    (2, 5, 4): [(2, 5, 4)],  # few samples of a row each
    (2, 5, 2, 4): 2 * [(2, 2, 4), (2, 2, 4), (1, 2, 4)],  # few samples of a large batch
    (5, 2, 2, 4): [(2, 2, 2, 4), (2, 2, 2, 4), (1, 2, 2, 4)],
    (3, 3, 1, 4): [(2, 3, 1, 4), (1, 3, 1, 4)],
}


@pytest.mark.parametrize("shape", CUTS, ids=str)
def test_the_parts_of_a_large_block(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def parts(count: int, size: int, device: torch.device) -> list[slice]:
        sizes.append(size)
        return [slice(first, first + 2) for first in range(0, count, 2)]

    def invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
        assert probabilities.dtype == torch.float64
        drawn.append(tuple(probabilities.shape))
        return whole(probabilities, uniform)

    sizes: list[int] = []
    drawn: list[tuple[int, ...]] = []
    whole = sampling._invert
    block, u = (torch.rand(size, generator=seeded(0)) for size in (shape, shape[:-1]))
    expected = whole(block.double().softmax(-1), u.double())
    monkeypatch.setattr(sampling, "_invert", invert)
    monkeypatch.setattr(sampling.blocks, "parts", parts)
    monkeypatch.setattr(sampling.blocks, "fits", lambda block: block.numel() <= 24)
    assert torch.equal(sampling._draw(block, u.double(), torch.float64), expected)
    assert drawn == CUTS[shape]
    assert sizes == [math.prod(drawn[0][1:])] * len(sizes)


def test_few_categories_of_many_rows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    few, large = sampling.blocks.FEW, 8 * sampling.blocks.FEW
    monkeypatch.setattr(sampling, "_LARGE", large)
    counted: list[tuple[int, ...]] = []
    monkeypatch.setattr(sampling, "_count", lambda p, u: counted.append(tuple(p.shape)))
    for rows, size in ((large // (few - 1) + 1, few - 1), (8, few), (9, few), (large // 2, 2)):
        sampling._invert(torch.full((rows, size), 1 / size), torch.full((rows,), 0.5))
    assert counted == [(large // (few - 1) + 1, few - 1)]


def test_a_source_that_was_used_forwards_is_refused_backwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used, new = seeded(0), seeded(1)
    for _ in range(2):
        sampling.uniform((2,), generator=used)
    monkeypatch.setattr(sampling, "in_backward", lambda: True)
    told = "a generator= that the forward pass has used cannot be drawn from in a backward pass"
    with pytest.raises(RuntimeError, match=f"^{told}: activation checkpointing, "):
        sampling.uniform((2,), generator=used)
    for _ in range(2):
        sampling.uniform((2,), generator=new)
