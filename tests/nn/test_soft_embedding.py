"""One embedding per feature: a lookup for codes, the expected embedding for flat rows."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GumbelSoftmax, ReinMax, StraightThrough
from discrete_grad.nn import SoftEmbedding
from tests.strategies import random_logits, spaces

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2, "size": 2})
EXACT = (torch.float64, torch.float32)


@st.composite
def layers_and_codes(draw: st.DrawFn) -> tuple[SoftEmbedding, Tensor]:
    """A layer of a ragged space, and codes with any leading dimensions."""
    space, dim = draw(spaces()), draw(st.integers(1, 4))
    shape = draw(st.sampled_from([(), (0,), (1,), (5,), (2, 3), (2, 0, 1)]))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layer = SoftEmbedding(space, dim).to(draw(st.sampled_from(EXACT)))
    codes = torch.stack([torch.randint(size, shape) for size in space.sizes], -1)
    return layer, codes.to(draw(st.sampled_from([torch.int64, torch.int32, torch.uint8])))


@given(layers_and_codes())
def test_codes_and_one_hot_rows_give_bitwise_the_same(drawn: tuple[SoftEmbedding, Tensor]) -> None:
    layer, codes = drawn
    space, weight = layer.space, layer.weight
    embedded = layer(codes)
    assert embedded.shape == (*codes.shape, weight.shape[1])
    assert embedded.dtype == weight.dtype
    assert torch.equal(layer(space.one_hot(codes, dtype=weight.dtype)), embedded)
    for i, table in enumerate(weight.split(list(space.sizes))):
        assert torch.equal(embedded[..., i, :], table[codes[..., i].long()])


@given(layers_and_codes(), st.integers(0, 2**31))
def test_soft_row_gives_the_expected_embedding(
    drawn: tuple[SoftEmbedding, Tensor], seed: int
) -> None:
    layer, codes = drawn
    space = layer.space
    layer.double()
    row = space.softmax(random_logits(space, codes.shape[:-1], masked=True, generator=seed))
    tables = layer.weight.split(list(space.sizes))
    expected = [
        (p.unsqueeze(-1) * table).sum(-2) for p, table in zip(space.split(row), tables, strict=True)
    ]
    assert_close(layer(row), torch.stack(expected, -2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    layer, codes = SoftEmbedding(SPACE, 4).to(dtype), SPACE.enumerate()
    assert torch.equal(layer(SPACE.one_hot(codes, dtype=dtype)), layer(codes))


def test_non_contiguous_rows() -> None:
    layer, codes = SoftEmbedding(SPACE, 4), SPACE.enumerate()
    expected = layer(codes)
    assert torch.equal(layer(codes.t().contiguous().t()), expected)
    assert torch.equal(layer(SPACE.one_hot(codes).t().contiguous().t()), expected)


def test_gradients() -> None:
    layer = SoftEmbedding(SPACE, 3).double()
    row = SPACE.softmax(random_logits(SPACE, (2,))).requires_grad_()
    weight = layer.weight.detach().clone().requires_grad_()

    def embedded(row: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, row)

    assert torch.autograd.gradcheck(embedded, (row, weight))
    codes = SPACE.enumerate()
    by_codes = torch.autograd.grad(layer(codes).square().sum(), layer.weight)
    by_rows = torch.autograd.grad(
        layer(SPACE.one_hot(codes, dtype=torch.float64)).square().sum(), layer.weight
    )
    assert_close(by_codes, by_rows)


def test_state_and_copies() -> None:
    layer, codes = SoftEmbedding(SPACE, 3), SPACE.enumerate()
    assert list(layer.state_dict()) == ["weight"]
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(codes), layer(codes))
        assert copied.weight is not layer.weight
        assert copied.space == SPACE
    assert "colour: 4" in repr(layer)


def test_vmap_compile_export() -> None:
    layer, codes = SoftEmbedding(SPACE, 3), SPACE.enumerate()
    expected, rows = layer(codes), SPACE.one_hot(codes)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for row in (codes, rows):
        assert torch.equal(torch.vmap(layer)(row), expected)
        assert torch.equal(compiled(row), expected)
        assert torch.equal(torch.export.export(layer, (row,)).module()(row), expected)


def test_rows_that_do_not_fit() -> None:
    layer = SoftEmbedding(SPACE, 3)
    with pytest.raises(ValueError, match="feature 'colour' has code 4; its codes are 0 to 3"):
        layer(torch.tensor([[0, 0, 0, 0], [2, 4, 0, 0]]))
    with pytest.raises(ValueError, match="feature 'size' has code -1"):
        layer(torch.tensor([0, 0, 0, -1]))
    with pytest.raises(ValueError, match=r"codes must be \(..., 4\), got \(2, 3\)"):
        layer(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"a flat row must be \(..., 11\), got \(12,\)"):
        layer(torch.zeros(12))
    with pytest.raises(TypeError, match="a flat row must be a floating tensor"):
        layer(torch.zeros(11, dtype=torch.bool))
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        SoftEmbedding(SPACE, 0)


# --- trained tables -------------------------------------------------------------------------------


def tables(dtype: torch.dtype = torch.float32) -> list[nn.Embedding]:
    return [nn.Embedding(size, 3, dtype=dtype) for size in SPACE.sizes]


@pytest.mark.parametrize("dtype", EXACT)
def test_from_a_list_of_embeddings(dtype: torch.dtype) -> None:
    trained, codes = tables(dtype), SPACE.enumerate()
    expected = torch.stack([t(codes[:, i]) for i, t in enumerate(trained)], 1)
    for layer in (
        SoftEmbedding.from_pretrained(trained),
        SoftEmbedding.from_pretrained(nn.ModuleList(trained), space=SPACE),
    ):
        assert torch.equal(layer(codes), expected)
        assert torch.equal(layer(SPACE.one_hot(codes, dtype=dtype)), expected)
        assert layer.weight.requires_grad
    assert SoftEmbedding.from_pretrained(trained).space == CategoricalSpace.from_sizes(SPACE.sizes)
    frozen = [table.requires_grad_(False) for table in trained]
    assert not SoftEmbedding.from_pretrained(frozen).weight.requires_grad


@pytest.mark.parametrize(
    "offsets", [SPACE.offsets, list(SPACE.offsets), torch.tensor(SPACE.offsets), None], ids=type
)
def test_from_a_single_embedding_shares_its_parameter(offsets: object) -> None:
    table, codes = nn.Embedding(SPACE.width, 3), SPACE.enumerate()
    space = SPACE if offsets is None else None
    layer = SoftEmbedding.from_pretrained(table, space=space, offsets=offsets)
    assert layer.weight is table.weight
    assert layer.space.sizes == SPACE.sizes
    assert torch.equal(layer(codes), table(codes + torch.tensor(SPACE.offsets)))


def test_from_a_single_embedding_laid_out_in_another_way() -> None:
    table, codes = nn.Embedding(20, 3), SPACE.enumerate()
    for offsets in ([12, 0, 6, 6], [0, 3, 7, 9]):  # in any order, overlapping; with rows to spare
        layer = SoftEmbedding.from_pretrained(table, space=SPACE, offsets=offsets)
        assert torch.equal(layer(codes), table(codes + torch.tensor(offsets)))
        assert layer.weight.shape == (SPACE.width, 3)
    frozen = SoftEmbedding.from_pretrained(table.requires_grad_(False), space=SPACE)
    assert not frozen.weight.requires_grad


def test_tables_that_do_not_fit() -> None:
    trained = tables()
    with pytest.raises(ValueError, match=r"embeddings of one dimension, got \[3, 2\]"):
        SoftEmbedding.from_pretrained([nn.Embedding(2, 3), nn.Embedding(2, 2)])
    with pytest.raises(ValueError, match=r"embeddings of one dimension, got \[\]"):
        SoftEmbedding.from_pretrained([])
    with pytest.raises(ValueError, match="3 embeddings do not fit"):
        SoftEmbedding.from_pretrained(trained[:3], space=SPACE)
    trained[1] = nn.Embedding(5, 3)
    with pytest.raises(ValueError, match="feature 'colour' has 4 categories, its embedding 5 rows"):
        SoftEmbedding.from_pretrained(trained, space=SPACE)
    with pytest.raises(ValueError, match="max_norm"):
        SoftEmbedding.from_pretrained([nn.Embedding(3, 3, max_norm=1.0)])


@pytest.mark.parametrize("offsets", [None, [], [1, 3], [0, 5, 3], [0, 0, 3]])
def test_offsets_that_say_nothing(offsets: list[int] | None) -> None:
    with pytest.raises(ValueError, match="offsets that start at 0 and grow"):
        SoftEmbedding.from_pretrained(nn.Embedding(11, 3), offsets=offsets)


def test_offsets_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="feature 'size' needs rows 9 to 10, the table has 10"):
        SoftEmbedding.from_pretrained(nn.Embedding(10, 3), space=SPACE)
    with pytest.raises(ValueError, match="feature 'cut' needs rows -1 to 1"):
        SoftEmbedding.from_pretrained(nn.Embedding(11, 3), space=SPACE, offsets=[-1, 3, 7, 9])
    with pytest.raises(ValueError, match="3 offsets do not fit"):
        SoftEmbedding.from_pretrained(nn.Embedding(11, 3), space=SPACE, offsets=[0, 3, 7])
    with pytest.raises(ValueError, match="feature 'x2' needs at least 1 category"):
        SoftEmbedding.from_pretrained(nn.Embedding(11, 3), offsets=[0, 3, 11])


@pytest.mark.parametrize("relaxation", [StraightThrough, ReinMax, GumbelSoftmax])
def test_logits_of_nan_that_nobody_could_refuse_embed_as_nan(relaxation: type[ReinMax]) -> None:
    space = CategoricalSpace.from_sizes((3, 3, 4))
    layer, logits = SoftEmbedding(space, 2), torch.zeros(3, 10)
    logits[1, 4] = math.nan

    def sample(logits: Tensor) -> Tensor:
        return layer.sample(logits, relaxation(space))

    for batch in (logits, logits.clone().requires_grad_()):
        drawn = torch.func.vmap(sample, randomness="different")(batch)
        expected = torch.zeros(3, 3, 2, dtype=torch.bool)
        expected[1, 1] = True
        assert torch.equal(drawn.isnan(), expected)


def test_a_table_that_features_share_is_kept_once() -> None:
    table, other = nn.Embedding(4, 3), nn.Embedding(4, 3)
    for tables in ([table] * 5, [table, other, table, table, other]):
        layer = SoftEmbedding.from_pretrained(tables)
        assert len(layer.weight) == 4 * len(set(tables))
        codes = torch.randint(4, (6, 5), generator=torch.Generator().manual_seed(1))
        expected = torch.stack([t(codes[:, i]) for i, t in enumerate(tables)], 1)
        assert torch.equal(layer(codes), expected)
        row = layer.space.one_hot(codes)
        assert_close(layer(row), expected)
        logits = (30 * row).requires_grad_()
        drawn = layer.sample(logits, ReinMax(layer.space))
        assert_close(drawn, expected)
        assert torch.autograd.grad(drawn.sum(), logits)[0].any()
    assert SoftEmbedding.from_pretrained([table] * 5).weight is table.weight
    assert copy.deepcopy(layer)(codes).equal(layer(codes))
