"""Blocks: whatever way a layout takes, the algebra is that of each feature on its own."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, sampling
from discrete_grad.blocks import Layout, Run, jacobian, parts
from discrete_grad.sampling import categorical, uniform_like

CPU = torch.device("cpu")
ALTERNATING = tuple(2 + 7 * i % 9 for i in range(30))
LAYOUTS = {  # sizes -> whether the row is brought in order first
    (5,): False,
    (4,) * 12: False,
    (2, 3) * 3: True,
    (2, 3, 2): False,  # too few blocks to save anything
    ALTERNATING: True,
    (1, 20) * 6: True,
    (300, 500) * 4: False,  # too large to be brought in order
    (300, 40, 300, 2, 2, 2): False,
}


def random(sizes: tuple[int, ...], *batch: int) -> tuple[CategoricalSpace, Tensor]:
    space = CategoricalSpace.from_sizes(sizes)
    generator = torch.Generator().manual_seed(sum(sizes))
    logits = torch.randn(*batch, space.width, dtype=torch.float64, generator=generator)
    masked = logits < -1
    masked[..., torch.tensor(space.offsets)] = False
    return space, logits.masked_fill(masked, -torch.inf)


@pytest.mark.parametrize(("sizes", "gathers"), LAYOUTS.items())
def test_the_way_is_chosen_from_the_sizes(sizes: tuple[int, ...], gathers: bool) -> None:
    layout = Layout(sizes)
    assert layout.gathers is gathers
    assert sum(place.count * place.size for place in layout.places) == sum(sizes)
    if gathers:
        assert len(layout.places) == len(set(sizes))


@pytest.mark.parametrize("sizes", LAYOUTS)
@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 3)])
def test_blocks_and_columns_come_back(sizes: tuple[int, ...], batch: tuple[int, ...]) -> None:
    space, flat = random(sizes, *batch)
    assert torch.equal(space.join(space.blocks(flat)), flat)
    codes = space.argmax(flat)
    assert torch.equal(space.join_columns(space.block_columns(codes)), codes)
    along = codes.unsqueeze(-1).expand(*codes.shape, 2)
    assert torch.equal(space.join_columns(space.block_columns(along, -2), -2), along)
    places = space.places(10**9)
    columns = [place.take_features(codes) for place in places]
    assert torch.equal(space.join_columns(columns), codes)
    assert torch.equal(space.join([place.take(flat) for place in places]), flat)


@pytest.mark.parametrize("rows", [1, 10**9])
@pytest.mark.parametrize("sizes", LAYOUTS)
def test_what_is_put_is_what_was_taken(sizes: tuple[int, ...], rows: int) -> None:
    space, flat = random(sizes, 3)
    written = torch.full_like(flat, 7)
    for place in space.places(rows):
        place.put(written, place.take(flat))
    assert torch.equal(written, flat)


def test_few_rows_of_unequal_features_are_padded() -> None:
    layout = Layout((2, 40, 7))
    (place,) = layout.places_for(1)
    assert (place.count, place.size) == (3, 40)
    block = place.take(torch.zeros(49))
    assert (block == 0).sum(-1).tolist() == [2, 40, 7]
    assert place.take(torch.zeros(49), 5.0).max() == 5
    assert layout.places_for(10_000) == layout.places
    assert isinstance(Layout((4,) * 3).places_for(1)[0], Run)
    assert len(Layout((2, 10**9)).places_for(1)) == 2


@pytest.mark.parametrize("sizes", [(2, 40, 7), (4,) * 3, (2, 10**9)])
def test_an_empty_batch_has_places_and_a_program_those_of_any_batch(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(sizes)
    assert sum(place.count for place in layout.places_for(0)) == len(sizes)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for rows in (0, 1, 10**9):
        assert layout.places_for(rows) == layout.places


@pytest.mark.parametrize("sizes", LAYOUTS)
def test_the_algebra_is_that_of_each_feature(sizes: tuple[int, ...]) -> None:
    space, logits = random(sizes, 4)
    each = logits.split(list(sizes), -1)
    p = torch.cat([part.softmax(-1) for part in each], -1)
    codes = torch.stack([part.argmax(-1) for part in each], -1)
    assert_close(space.softmax(logits), p, rtol=0, atol=1e-15)
    expected = torch.cat([part.log_softmax(-1) for part in each], -1)
    assert_close(space.log_softmax(logits), expected, rtol=0, atol=1e-14)
    assert torch.equal(space.argmax(logits), codes)
    hot = [
        torch.nn.functional.one_hot(c, k).double()
        for c, k in zip(codes.unbind(-1), sizes, strict=True)
    ]
    assert torch.equal(space.one_hot(codes, dtype=torch.float64), torch.cat(hot, -1))
    vector = torch.randn(4, space.width, dtype=torch.float64)
    pairs = zip(p.split(list(sizes), -1), vector.split(list(sizes), -1), strict=True)
    expected = torch.cat([a * (v - (a * v).sum(-1, keepdim=True)) for a, v in pairs], -1)
    assert_close(space.softmax_jacobian(p, vector), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("rows", [4, 200, 3000])
@pytest.mark.parametrize("sizes", LAYOUTS)
def test_a_draw_is_that_of_each_feature(sizes: tuple[int, ...], rows: int) -> None:
    """By the distribution function of each feature, summed one after the other."""
    space, logits = random(sizes, rows)
    uniform = uniform_like(space, logits, generator=torch.Generator().manual_seed(0))
    codes = categorical(space, logits, uniform)
    for i, part in enumerate(logits.split(list(sizes), -1)):
        cumulative = part.softmax(-1).cumsum(-1)
        below = cumulative <= uniform[:, i, None] * cumulative[:, -1:]
        assert torch.equal(codes[:, i], below.sum(-1))


@pytest.mark.parametrize("size", [1, 2, 5, 15])
def test_counting_and_searching_give_the_same_code(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the uniform number falls on the boundary of a category, masked ones included."""
    space = CategoricalSpace.from_sizes([size])
    logits = torch.zeros(size).index_fill(0, torch.arange(1, size, 2), -torch.inf)
    inner = torch.arange(2 * size + 1, dtype=torch.float64) / (2 * size)
    bounds = logits.double().softmax(-1).cumsum(-1)
    uniform = torch.cat([inner, bounds, bounds.nextafter(torch.zeros(()))]).unsqueeze(-1)
    codes = []
    for large in (0, 2**30):
        monkeypatch.setattr(sampling, "_LARGE", large)
        codes.append(categorical(space, logits.expand(len(uniform), -1), uniform))
    assert torch.equal(*codes)
    assert (codes[0] % 2 == 0).all()


@pytest.mark.parametrize("sizes", LAYOUTS)
def test_gradients_of_any_order_pass_through(sizes: tuple[int, ...]) -> None:
    if sum(sizes) > 100:
        pytest.skip("a Jacobian for each number")
    space, logits = random(sizes, 2)
    leaf = logits.masked_fill(logits == -torch.inf, 0).requires_grad_()
    assert torch.autograd.gradcheck(space.softmax, leaf)
    assert torch.autograd.gradgradcheck(space.softmax, leaf)
    assert torch.autograd.gradcheck(lambda x: space.softmax_jacobian(x.softmax(-1), x), leaf)


@pytest.mark.parametrize("sizes", [(2, 3) * 3, (4,) * 12])
def test_vmap_and_compile(sizes: tuple[int, ...]) -> None:
    space, logits = random(sizes, 5)
    assert_close(torch.func.vmap(space.softmax)(logits), space.softmax(logits))
    whole = torch.compile(space.softmax, backend="aot_eager", fullgraph=True)
    assert_close(whole(logits), space.softmax(logits))


@pytest.mark.parametrize("sizes", [(2, 3) * 3, (4,) * 12, (2, 2, 5), (40, 3)])
def test_a_program_computes_the_same(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    space, logits = random(sizes, 5)

    def results() -> list[Tensor]:
        law = space.softmax(logits)
        blocks = space.join([2 * block for block in space.blocks(law)])
        return [law, blocks, space.softmax_jacobian(law, logits.nan_to_num(neginf=0))]

    expected = results()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for found, known in zip(results(), expected, strict=True):
        assert_close(found, known)


@pytest.mark.parametrize("sizes", [(2, 3) * 3, (4,) * 12])
def test_a_space_is_copied_compared_and_pickled(sizes: tuple[int, ...]) -> None:
    space, flat = random(sizes, 2)
    for other in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert other == space
        assert hash(other) == hash(space)
        assert torch.equal(other.softmax(flat), space.softmax(flat))


@pytest.mark.parametrize("size", [3, 40])
def test_a_product_has_the_wider_dtype(size: int) -> None:
    pi, vector = torch.rand(2, size), torch.rand(2, size)
    expected = jacobian(pi.double(), vector.double())
    for law, other in ((pi.double(), vector), (pi, vector.double())):
        assert_close(jacobian(law, other), expected)


def test_few_rows_and_many_have_places_of_their_own() -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    assert [(place.count, place.size) for place in space.places(10)] == [(2, 3)]
    many = space.places(10**7)
    assert [(place.count, place.size) for place in many] == [(1, 2), (1, 3)]


def test_few_and_many_categories_have_the_same_product() -> None:
    for size in (2, 15, 16, 40):
        p, v = torch.rand(3, size), torch.randn(3, size)
        assert_close(jacobian(p, v), p * v - p * (p * v).sum(-1, keepdim=True))
        assert_close(jacobian(p[0], v), p[0] * v - p[0] * (p[0] * v).sum(-1, keepdim=True))


@given(st.integers(0, 300), st.integers(0, 200_000))
def test_parts_cover_a_batch_once_and_fit(length: int, width: int) -> None:
    found = [i for rows in parts(length, width, CPU) for i in range(length)[rows]]
    assert found == list(range(length if width else 0))
    for rows in parts(length, width, CPU):
        count = len(range(length)[rows])
        assert count <= 2 or (count - 1) * width < 2**16
    assert len(list(parts(length, width, torch.device("cuda")))) == min(length, 1)
