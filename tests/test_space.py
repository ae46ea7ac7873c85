"""The space: construction, shapes, per-feature algebra, log-probabilities, enumeration."""

import copy
import dataclasses
import itertools
import json
import math
import pickle
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.space import can_inspect, is_codes
from discrete_grad.space.tensors import code_dtype, in_backward, require_derivatives
from tests.strategies import DTYPES, TOLERANCE, random_logits, spaces, spaces_and_logits

INF = math.inf
DIAMOND = CategoricalSpace({"cut": ["fair", "good", "ideal"], "colour": 7})
SMALL = CategoricalSpace.from_sizes((2, 1, 3, 3))

NAMES = st.text(min_size=1, max_size=8)
VOCABULARIES = st.lists(st.text(max_size=6), min_size=1, max_size=5, unique=True)
FEATURES = st.dictionaries(NAMES, st.integers(1, 9) | VOCABULARIES, min_size=1, max_size=5)


def per_feature(space: CategoricalSpace, logits: Tensor) -> list[Tensor]:
    """The blocks cut by hand, in float64: the reference of every test below."""
    edges = list(itertools.accumulate(space.sizes, initial=0))
    return [logits[..., a:b].double() for a, b in itertools.pairwise(edges)]


def random_rows(space: CategoricalSpace, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(k, shape, generator=generator) for k in space.sizes], -1)


# --- construction -----------------------------------------------------------------------------


def test_properties() -> None:
    assert DIAMOND.names == ("cut", "colour")
    assert (DIAMOND.num_features, DIAMOND.sizes, DIAMOND.width) == (2, (3, 7), 10)
    assert (DIAMOND.num_rows, DIAMOND.offsets) == (21, (0, 3))
    assert DIAMOND.categories == (("fair", "good", "ideal"), tuple("0123456"))
    assert DIAMOND.vocabularies == (("fair", "good", "ideal"), None)
    assert repr(DIAMOND) == "CategoricalSpace(cut: 3, colour: 7)"


def test_long_space_is_shown_shortened() -> None:
    assert repr(CategoricalSpace.from_sizes((2,) * 9)).endswith("x5: 2, ... 3 more)")


def test_num_rows_is_exact_beyond_any_integer_type() -> None:
    assert CategoricalSpace.from_sizes((10,) * 50).num_rows == 10**50


@given(FEATURES)
def test_round_trips(features: dict[str, int | list[str]]) -> None:
    space = CategoricalSpace(features)
    copies = [
        CategoricalSpace.from_json(space.to_json()),
        pickle.loads(pickle.dumps(space)),
        copy.deepcopy(space),
        CategoricalSpace(dict(features)),
    ]
    for other in copies:
        assert other == space
        assert hash(other) == hash(space)
        assert other.categories == space.categories
        assert torch.equal(
            other.argmax(torch.eye(space.width)), space.argmax(torch.eye(space.width))
        )
    assert json.loads(space.to_json())[0]["name"] == next(iter(features))


@pytest.mark.parametrize(
    "other",
    [
        {"colour": 7, "cut": ["fair", "good", "ideal"]},
        {"cut": ["fair", "ideal", "good"], "colour": 7},
        {"cut": 3, "colour": 7},
        {"cut": ["fair", "good", "ideal"], "colour": 8},
    ],
)
def test_names_order_and_categories_tell_spaces_apart(other: dict[str, int | list[str]]) -> None:
    assert CategoricalSpace(other) != DIAMOND
    assert len({CategoricalSpace(other), DIAMOND, copy.deepcopy(DIAMOND)}) == 2


def test_space_is_frozen_and_keeps_no_reference_to_its_input() -> None:
    categories = ["a", "b"]
    space = CategoricalSpace({"x": categories})
    categories.append("c")
    assert space.sizes == (2,)
    with pytest.raises(dataclasses.FrozenInstanceError):
        space.sizes = (3,)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("features", "error", "words"),
    [
        ([2, 3], TypeError, "from_sizes"),
        ({}, ValueError, "at least one feature"),
        ({"": 2}, ValueError, "non-empty string, got ''"),
        ({3: 2}, ValueError, "non-empty string, got 3"),
        ({"ok": 2, "cut": 0}, ValueError, "feature 'cut' needs at least 1 category, got size 0"),
        ({"ok": 2, "cut": -1}, ValueError, "feature 'cut'.*size -1"),
        ({"ok": 2, "cut": []}, ValueError, "feature 'cut' has no category"),
        ({"ok": 2, "cut": ["a", "b", "a"]}, ValueError, "feature 'cut' has a category twice"),
        ({"ok": 2, "cut": "fair"}, TypeError, "feature 'cut' needs a size or a list"),
        ({"ok": 2, "cut": 2.0}, TypeError, "feature 'cut' needs a size or a list"),
        ({"ok": 2, "cut": True}, TypeError, "feature 'cut' needs a size or a list"),
        ({"ok": 2, "cut": None}, TypeError, "feature 'cut' needs a size or a list"),
        ({"ok": 2, "cut": ["a", 1]}, TypeError, "feature 'cut': categories are strings, got 1"),
    ],
)
def test_bad_features(features: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        CategoricalSpace(features)  # type: ignore[arg-type]


# --- shapes -----------------------------------------------------------------------------------


@given(spaces_and_logits())
def test_blocks_split_and_join(drawn: tuple[CategoricalSpace, Tensor]) -> None:
    space, logits = drawn
    blocks = space.blocks(logits)
    assert torch.equal(space.join(blocks), logits)
    reference = list(per_feature(space, logits))
    for split, expected in zip(space.split(logits), reference, strict=True):
        assert torch.equal(split.double(), expected)
    # the features in the order of the blocks, told by numbers that are their own
    order = torch.cat(space.block_columns(torch.arange(space.num_features))).tolist()
    parts = [part for block in blocks for part in block.unbind(-2)]
    for mine, feature in zip(parts, order, strict=True):
        assert torch.equal(mine.double(), reference[feature])
    codes = random_rows(space, tuple(logits.shape[:-1]))
    assert torch.equal(space.join_columns(space.block_columns(codes)), codes)


def test_equal_sizes_are_one_block_and_a_view() -> None:
    space = CategoricalSpace.from_sizes((4,) * 50)
    flat = torch.zeros(3, 200)
    (block,) = space.blocks(flat)
    block[0, 7, 2] = 1
    assert flat[0, 30] == 1


@given(spaces_and_logits(), st.sampled_from(["softmax", "log_softmax"]))
def test_softmax_is_the_loop_over_features(
    drawn: tuple[CategoricalSpace, Tensor], name: str
) -> None:
    space, logits = drawn
    before = logits.clone()
    result = getattr(space, name)(logits)
    expected = torch.cat([getattr(p, name)(-1) for p in per_feature(space, logits)], -1)
    tolerance = TOLERANCE[logits.dtype]
    assert_close(result.double(), expected, rtol=tolerance, atol=tolerance)
    assert result.dtype == logits.dtype
    assert torch.equal(logits, before)
    masked = result[logits == -INF]
    assert (masked == (0 if name == "softmax" else -INF)).all()


@given(spaces_and_logits(dtypes=(torch.float64,), scales=(1.0,)), st.integers(0, 99))
def test_softmax_jacobian(drawn: tuple[CategoricalSpace, Tensor], seed: int) -> None:
    space, logits = drawn
    p = space.softmax(logits)
    vector = random_logits(space, tuple(logits.shape[:-1]), generator=seed)
    parts = []
    for q, v in zip(per_feature(space, p), per_feature(space, vector), strict=True):
        jacobian = torch.diag_embed(q) - q.unsqueeze(-1) * q.unsqueeze(-2)
        parts.append((jacobian @ v.unsqueeze(-1)).squeeze(-1))
    assert_close(space.softmax_jacobian(p, vector), torch.cat(parts, -1))


@given(spaces_and_logits())
def test_argmax_is_the_loop_over_features(drawn: tuple[CategoricalSpace, Tensor]) -> None:
    space, logits = drawn
    expected = torch.stack([part.argmax(-1) for part in per_feature(space, logits)], -1)
    assert torch.equal(space.argmax(logits), expected)
    assert space.argmax(logits).dtype == torch.int64


def test_argmax_takes_the_first_among_equals() -> None:
    assert SMALL.argmax(torch.zeros(2, 9)).tolist() == [[0, 0, 0, 0]] * 2


@given(spaces(), st.sampled_from([(), (0,), (3,), (2, 2)]), st.sampled_from(DTYPES))
def test_one_hot_and_argmax_are_inverse(
    space: CategoricalSpace, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    codes = random_rows(space, shape)
    row = space.one_hot(codes, dtype=dtype)
    assert row.shape == (*shape, space.width)
    assert row.dtype == dtype
    assert set(row.unique().tolist()) <= {0.0, 1.0}
    assert (row.sum(-1) == space.num_features).all()
    assert torch.equal(space.argmax(row), codes)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_codes_of_any_integer_type(dtype: torch.dtype) -> None:
    codes = random_rows(SMALL, (5,))
    logits = random_logits(SMALL, (5,))
    short = codes.to(dtype)
    assert torch.equal(SMALL.one_hot(short), SMALL.one_hot(codes))
    assert torch.equal(SMALL.log_prob(logits, short), SMALL.log_prob(logits, codes))
    assert torch.equal(SMALL.swaps(short), SMALL.swaps(codes))


def test_codes_from_a_strided_table() -> None:
    codes = random_rows(SMALL, (5,))
    strided = torch.stack([codes, codes - 1], -1)[..., 0]
    assert not strided.is_contiguous()
    assert torch.equal(SMALL.one_hot(strided), SMALL.one_hot(codes))
    assert torch.equal(SMALL.swaps(strided), SMALL.swaps(codes))


# --- log-probability, entropy, divergence -------------------------------------------------------


@given(spaces_and_logits(scales=(0.0, 1.0, 30.0, 1e3)), st.integers(0, 99))
def test_log_prob_is_the_sum_over_features_in_either_form(
    drawn: tuple[CategoricalSpace, Tensor], seed: int
) -> None:
    space, logits = drawn
    codes = random_rows(space, tuple(logits.shape[:-1]), seed)
    parts = [
        part.log_softmax(-1).gather(-1, column.unsqueeze(-1)).squeeze(-1)
        for part, column in zip(per_feature(space, logits), codes.unbind(-1), strict=True)
    ]
    expected = torch.stack(parts, -1).sum(-1)
    tolerance = TOLERANCE[logits.dtype]
    for row in (codes, space.one_hot(codes, dtype=logits.dtype)):
        log_p = space.log_prob(logits, row)
        assert log_p.dtype == logits.dtype
        assert_close(log_p.double(), expected, rtol=tolerance, atol=2 * tolerance)


@given(
    spaces_and_logits(dtypes=(torch.float64,), scales=(0.0, 1.0, 30.0), max_features=4, max_size=4)
)
def test_probabilities_of_all_rows_sum_to_one(drawn: tuple[CategoricalSpace, Tensor]) -> None:
    space, logits = drawn
    rows = space.enumerate()
    rows = rows.view(-1, *[1] * (logits.dim() - 1), space.num_features)
    total = space.log_prob(logits, rows).exp().sum(0)
    assert_close(total, torch.ones(logits.shape[:-1], dtype=torch.float64))


def test_log_prob_broadcasts_rows_against_logits() -> None:
    logits, rows = random_logits(SMALL, (3,)), random_rows(SMALL, (5, 1))
    table = SMALL.log_prob(logits, rows)
    assert table.shape == (5, 3)
    assert_close(table[4, 2], SMALL.log_prob(logits[2], rows[4, 0]))
    assert SMALL.log_prob(logits[0], rows).shape == (5, 1)


def test_log_prob_of_zero_times_minus_infinity_is_zero_in_value_and_gradient() -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    logits = torch.tensor([0.0, -INF, 1.0, -INF, 2.0], dtype=torch.float64, requires_grad=True)
    for row in (torch.tensor([0, 2]), torch.tensor([1.0, 0, 0, 0, 1], dtype=torch.float64)):
        value = space.log_prob(logits, row)
        assert_close(value.item(), -math.log1p(math.exp(-1)))
        (grad,) = torch.autograd.grad(value, logits)
        p = 1 / (1 + math.e)
        assert_close(grad.tolist(), [0.0, 0.0, -p, 0.0, p])
    (grad,) = torch.autograd.grad(space.log_prob(logits, space.softmax(logits).detach()), logits)
    assert_close(grad, torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-15)


def test_log_prob_of_a_masked_category_is_minus_infinity() -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    logits = torch.tensor([0.0, -INF, 0.0, 0.0, 0.0])
    assert space.log_prob(logits, torch.tensor([1, 0])) == -INF
    assert space.log_prob(logits, torch.tensor([0.0, 1, 1, 0, 0])) == -INF
    assert space.log_prob(logits, torch.tensor([0.5, 0.5, 1, 0, 0])) == -INF


@given(
    spaces_and_logits(
        dtypes=(torch.float64,), scales=(0.0, 1.0, 30.0, 1e4), copies=2, max_features=4, max_size=4
    )
)
def test_entropy_and_divergence_are_the_sums_over_all_rows(
    drawn: tuple[CategoricalSpace, Tensor, Tensor],
) -> None:
    space, p, q = drawn
    rows = space.enumerate().view(-1, *[1] * (p.dim() - 1), space.num_features)
    log_p, log_q = space.log_prob(p, rows), space.log_prob(q, rows)
    drawn_rows = log_p.exp() > 0
    entropy = -(log_p.exp() * log_p).where(drawn_rows, torch.zeros(())).sum(0)
    divergence = (log_p.exp() * (log_p - log_q)).where(drawn_rows, torch.zeros(())).sum(0)
    assert_close(space.entropy(p), entropy, rtol=1e-9, atol=1e-9)
    assert_close(space.kl_divergence(p, q), divergence, rtol=1e-9, atol=1e-9)
    assert (space.entropy(p) >= 0).all()
    assert (space.entropy(p) <= math.log(space.num_rows) + 1e-12).all()
    assert (space.kl_divergence(p, q) >= -1e-12).all()
    assert (space.kl_divergence(p, p) == 0).all()


@given(spaces_and_logits(scales=(0.0, 1.0, 30.0, 1e4), batches=((), (3,)), copies=2))
def test_entropy_and_divergence_have_finite_gradients(
    drawn: tuple[CategoricalSpace, Tensor, Tensor],
) -> None:
    space, p, q = drawn
    p = p.detach().requires_grad_()
    q = q.masked_fill(q == -INF, 0).detach().requires_grad_()
    (grad,) = torch.autograd.grad(space.entropy(p).sum(), p)
    assert grad.isfinite().all()
    assert (grad[p == -INF] == 0).all()
    for grad in torch.autograd.grad(space.kl_divergence(p, q).sum(), (p, q)):
        assert grad.isfinite().all()


def test_uniform_entropy_is_log_num_rows() -> None:
    assert_close(SMALL.entropy(torch.zeros(9, dtype=torch.float64)).item(), math.log(18))


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ([0.0, 0.0], [0.0, -INF], INF),  # q forbids what p draws
        ([0.0, -INF], [0.0, 0.0], math.log(2)),
        ([0.0, -INF], [0.0, -INF], 0.0),  # both forbid
        ([0.0, -INF], [-INF, 0.0], INF),
        ([0.0, -1e4], [0.0, -INF], 0.0),  # a probability that rounds to 0 is never drawn
        ([0.0, -1e4], [0.0, 0.0], math.log(2)),
        ([0.0, 0.0], [0.0, -1e4], 5e3 - math.log(2)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_divergence_at_the_edges(
    p: list[float], q: list[float], expected: float, dtype: torch.dtype
) -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    rest = [1.0, 2.0, 3.0]
    both = [torch.tensor([*head, *rest], dtype=dtype) for head in (p, q)]
    assert_close(space.kl_divergence(*both).item(), expected, rtol=1e-5, atol=1e-6)


# --- enumeration and neighbours ---------------------------------------------------------------


@given(spaces(max_features=4, max_size=4))
def test_enumerate_is_the_product_with_the_last_feature_fastest(space: CategoricalSpace) -> None:
    rows = space.enumerate(max_rows=space.num_rows)
    assert rows.dtype == torch.int64
    assert rows.tolist() == [list(r) for r in itertools.product(*map(range, space.sizes))]


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [((10,) * 5000, "about 10^5000"), ((10,) * 50, "about 10^50"), ((101, 100), "10,100")],
)
def test_enumerate_refuses_a_large_space(sizes: tuple[int, ...], rows: str) -> None:
    space = CategoricalSpace.from_sizes(sizes)
    with pytest.raises(ValueError, match=re.escape(f"{rows} rows, more than max_rows=10,000")):
        space.enumerate(max_rows=10_000)


@given(spaces(max_features=4, max_size=4), st.integers(0, 99))
def test_swaps_are_the_rows_at_distance_one(space: CategoricalSpace, seed: int) -> None:
    codes = random_rows(space, (2, 3), seed)
    swaps = space.swaps(codes)
    assert swaps.shape == (2, 3, space.width - space.num_features, space.num_features)
    for row, found in zip(codes.view(6, -1), swaps.flatten(0, 1), strict=True):
        expected = [
            [*row[:i].tolist(), k, *row[i + 1 :].tolist()]
            for i, size in enumerate(space.sizes)
            for k in range(size)
            if k != row[i]
        ]
        assert found.tolist() == expected
    assert (space.hamming(swaps, codes.unsqueeze(-2)) == 1).all()


@given(spaces(), st.integers(0, 99))
def test_hamming_of_either_form(space: CategoricalSpace, seed: int) -> None:
    a, b = random_rows(space, (4,), seed), random_rows(space, (4,), seed + 1)
    expected = [sum(x != y for x, y in zip(*pair, strict=True)) for pair in zip(a, b, strict=True)]
    forms = itertools.product((a, space.one_hot(a)), (b, space.one_hot(b)))
    for x, y in forms:
        assert space.hamming(x, y).tolist() == [int(e) for e in expected]
    assert (space.hamming(a, a) == 0).all()


# --- transforms -------------------------------------------------------------------------------


def algebra(logits: Tensor, other: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
    """Every tensor function of the space, for the transforms below."""
    p = SMALL.softmax(logits)
    return (
        p,
        SMALL.log_softmax(logits),
        SMALL.softmax_jacobian(p, other),
        SMALL.argmax(logits),
        SMALL.one_hot(codes),
        SMALL.log_prob(logits, codes),
        SMALL.log_prob(logits, p),
        SMALL.entropy(logits),
        SMALL.kl_divergence(logits, other),
        SMALL.hamming(codes, p),
        SMALL.swaps(codes),
    )


ARGUMENTS = (random_logits(SMALL, (4,), masked=True), random_logits(SMALL, (4,)))


def test_vmap() -> None:
    arguments = (*ARGUMENTS, random_rows(SMALL, (4,)))
    results = torch.func.vmap(algebra)(*arguments)
    for mine, expected in zip(results, algebra(*arguments), strict=True):
        assert_close(mine, expected, rtol=0, atol=1e-14)


def test_compile_without_graph_breaks() -> None:
    arguments = (*ARGUMENTS, random_rows(SMALL, (4,)))
    results = torch.compile(algebra, backend="aot_eager", fullgraph=True)(*arguments)
    for mine, expected in zip(results, algebra(*arguments), strict=True):
        assert_close(mine, expected, rtol=0, atol=1e-14)


def test_checks_step_aside_where_values_cannot_be_read() -> None:
    seen = []

    def callback(logits: Tensor) -> Tensor:
        SMALL.check_logits(logits)
        seen.append(can_inspect(logits))
        return logits.sum()

    callback(ARGUMENTS[1])
    torch.func.vmap(callback)(ARGUMENTS[1])
    torch.func.vmap(torch.func.grad(callback))(ARGUMENTS[1])
    torch.func.vmap(torch.func.jacrev(callback))(ARGUMENTS[1])
    assert seen == [True, False, False, False]
    assert not can_inspect(torch.zeros(1, device="meta"))


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "error", "words"),
    [
        (torch.zeros(2, 9), ValueError, r"logits must be \(\.\.\., 10\), got \(2, 9\).*cut: 3"),
        (torch.zeros(2, 11), ValueError, r"must be \(\.\.\., 10\), got \(2, 11\)"),
        (torch.zeros(()), ValueError, r"got \(\)"),
        (torch.zeros(10, dtype=torch.long), TypeError, "floating tensor.*got torch.int64"),
        ([0.0] * 10, TypeError, "floating tensor.*got list"),
        (torch.tensor([0.0] * 3 + [-INF] * 7), ValueError, "'colour' has every category masked"),
        (torch.tensor([-INF] * 3 + [0.0] * 7), ValueError, "'cut' has every category masked"),
        (torch.tensor([0.0, math.nan, *[0.0] * 8]), ValueError, "'cut' has a logit of nan"),
        (torch.tensor([*[0.0] * 9, INF]), ValueError, "'colour' has a logit of inf"),
        # of two faults the first one
        (torch.tensor([INF, *[0.0] * 8, math.nan]), ValueError, "'cut' has a logit of inf"),
    ],
)
def test_bad_logits(logits: Tensor, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        DIAMOND.check_logits(logits)


def test_one_bad_row_of_a_batch_is_found() -> None:
    logits = torch.zeros(4, 5, 10)
    logits[2, 3, 3:] = -INF
    with pytest.raises(ValueError, match="feature 'colour'"):
        DIAMOND.check_logits(logits)


@pytest.mark.parametrize(
    ("codes", "error", "words"),
    [
        (torch.tensor([1, 7]), ValueError, "feature 'colour' has code 7; its codes are 0 to 6"),
        (torch.tensor([[0, 0], [-1, 0]]), ValueError, "feature 'cut' has code -1.*0 to 2"),
        # of two faults the first one
        (torch.tensor([[0, 9], [-1, 0]]), ValueError, "feature 'colour' has code 9; its codes"),
        (torch.tensor([1, 2, 3]), ValueError, r"codes must be \(\.\.\., 2\), got \(3,\)"),
        (torch.tensor([1]), ValueError, r"codes must be \(\.\.\., 2\), got \(1,\)"),
        (torch.tensor(1), ValueError, r"codes must be \(\.\.\., 2\), got \(\)"),
        (torch.tensor([1.0, 2.0]), TypeError, "codes must be integers.*got torch.float32"),
        (torch.tensor([True, False]), TypeError, "codes must be integers.*got torch.bool"),
    ],
)
@pytest.mark.parametrize("use", ["check_codes", "one_hot", "swaps"])
def test_bad_codes(codes: Tensor, error: type[Exception], words: str, use: str) -> None:
    with pytest.raises(error, match=words):
        getattr(DIAMOND, use)(codes)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (torch.tensor([1, 7]), "feature 'colour' has code 7"),
        (torch.tensor([1]), r"codes must be \(\.\.\., 2\)"),
        (torch.zeros(1), r"flat row must be \(\.\.\., 10\)"),
        (torch.zeros(9), r"flat row must be \(\.\.\., 10\)"),
    ],
)
def test_a_row_that_does_not_fit_never_broadcasts(row: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DIAMOND.log_prob(torch.zeros(10), row)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "entropy", "argmax", "split", "blocks"])
@pytest.mark.parametrize("width", [9, 11])
def test_a_flat_tensor_of_another_width_is_never_cut_short(name: str, width: int) -> None:
    with pytest.raises(ValueError, match=rf"\(\.\.\., 10\), got \(2, {width}\)"):
        getattr(DIAMOND, name)(torch.zeros(2, width))


def test_hamming_refuses_rows_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\), got \(1,\)"):
        DIAMOND.hamming(torch.tensor([0, 1]), torch.tensor([1]))


# --- forms of a row, contexts -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_integers_are_codes(dtype: torch.dtype) -> None:
    assert is_codes(torch.zeros(2, dtype=dtype))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool, torch.complex64])
def test_other_types_are_not_codes(dtype: torch.dtype) -> None:
    assert not is_codes(torch.zeros(2, dtype=dtype))


def test_context_spec() -> None:
    spec = ContextSpec({"shop": ["east", "west"], "month": 12}, ["price", "size"])
    assert spec.names == ("shop", "month", "price", "size")
    assert spec.width == 2 + 12 + 2
    assert spec == pickle.loads(pickle.dumps(spec))
    assert hash(spec) == hash(copy.deepcopy(spec))
    assert ContextSpec(numeric=["price"]).width == 1
    assert ContextSpec({"shop": 2}).names == ("shop",)


@pytest.mark.parametrize(
    ("categorical", "numeric"), [({}, ()), (None, ()), ({"a": 2}, ["a"]), (None, ["a", "a"])]
)
def test_bad_context_spec(categorical: dict[str, int] | None, numeric: list[str]) -> None:
    with pytest.raises(ValueError, match="columns with different names"):
        ContextSpec(categorical, numeric)


@given(spaces())
def test_a_row_number_is_a_place_in_the_enumeration(space: CategoricalSpace) -> None:
    assert torch.equal(space.row_number(space.enumerate()), torch.arange(space.num_rows))


def test_row_numbers_need_codes_and_a_space_that_can_be_numbered() -> None:
    with pytest.raises(ValueError, match="3"):
        CategoricalSpace.from_sizes((2, 3)).row_number(torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="too many"):
        CategoricalSpace.from_sizes((10,) * 19).row_number(torch.zeros(19).long())


def test_order_is_part_of_a_space_only_where_there_is_any() -> None:
    features = {"cut": ["fair", "good"], "size": 3}
    plain, none, some = (CategoricalSpace(features, ordered=names) for names in ((), [], ["size"]))
    assert plain.ordered == (False, False)
    assert some.ordered == (False, True)
    assert plain == none == CategoricalSpace(features)
    assert hash(plain) == hash(none)
    assert plain != some
    assert "ordered" not in plain.to_json() + repr(plain)
    assert repr(some) == "CategoricalSpace(cut: 2, size: 3 ordered)"
    for again in (CategoricalSpace.from_json(some.to_json()), pickle.loads(pickle.dumps(some))):
        assert again == some
        assert again.ordered == some.ordered


@pytest.mark.parametrize("ordered", ["cut", ["colour"], ["cut", "colour"]])
def test_what_is_ordered_is_a_feature(ordered: Any) -> None:
    with pytest.raises(ValueError, match="ordered lists names of features"):
        CategoricalSpace({"cut": 2}, ordered=ordered)


# --- limits and small parts -----------------------------------------------------------------------


def test_rows_are_numbered_as_far_as_64_bits_reach() -> None:
    most = CategoricalSpace.from_sizes((2,) * 62)
    assert int(most.row_number(torch.ones(62, dtype=torch.long))) == 2**62 - 1
    one_more = CategoricalSpace.from_sizes((2,) * 63)
    with pytest.raises(ValueError, match=r"9\.2e\+18 rows, too many"):
        one_more.row_number(torch.zeros(63, dtype=torch.long))


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (1, torch.uint8),
        (256, torch.uint8),
        (257, torch.int16),
        (2**15, torch.int16),
        (2**15 + 1, torch.int32),
    ],
)
def test_codes_are_stored_in_the_smallest_type_that_holds_them(
    size: int, kind: torch.dtype
) -> None:
    assert code_dtype(size) == kind
    assert torch.iinfo(kind).max >= size - 1


def test_what_a_swap_promises_is_the_difference_to_the_own_category() -> None:
    flat = torch.randn(3, DIAMOND.width, generator=torch.Generator().manual_seed(0))
    codes = torch.tensor([[0, 6], [2, 0], [1, 3]])
    gains = DIAMOND.swap_gains(flat, codes)
    for row, (cut, colour) in enumerate(codes.tolist()):
        assert_close(gains[row, :3], flat[row, :3] - flat[row, cut])
        assert_close(gains[row, 3:], flat[row, 3:] - flat[row, 3 + colour])


def test_a_context_that_is_embedded_holds_codes_and_numbers() -> None:
    spec = ContextSpec({"shop": 300, "day": 7}, ["price"], embedded=True)
    context = torch.tensor([[299.0, 6.0, -0.5], [0.0, 1.0, 2.0]])
    assert spec.width == 3
    assert spec.codes(context).tolist() == [[299, 6], [0, 1]]
    assert spec.numbers(context).tolist() == [[-0.5], [2.0]]
    one_hot = ContextSpec({"shop": 3, "day": 2}, ["price"])
    assert one_hot.codes(torch.tensor([0.0, 0, 1, 1, 0, 9])).tolist() == [2, 0]
    assert one_hot.numbers(torch.tensor([0.0, 0, 1, 1, 0, 9])).tolist() == [9.0]


@pytest.mark.parametrize(
    ("columns", "told"), [({}, "got none"), ({"shop": 2**24 + 1}, r"got \(16777217,\)")]
)
def test_only_codes_that_float32_counts_are_embedded(columns: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match=f"at most 2\\^24 categories, {told}"):
        ContextSpec(columns or None, ["price"], embedded=True)
    assert ContextSpec({"shop": 2**24}, embedded=True).width == 1


def test_a_backward_pass_is_known_from_within() -> None:
    seen: list[bool] = []
    leaf = torch.zeros(2, requires_grad=True)
    leaf.register_hook(lambda grad: seen.append(in_backward()))
    assert not in_backward()
    leaf.sum().backward()
    assert seen == [True]
    assert not in_backward()


def test_derivatives_are_asked_for_where_they_are_not_kept() -> None:
    require_derivatives("a relaxation")
    with torch.no_grad():
        require_derivatives("a relaxation")
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match=r"a relaxation needs .*use torch\.no_grad\(\) instead"),
    ):
        require_derivatives("a relaxation")


def test_a_number_of_rows_with_16_digits_is_told_by_its_power() -> None:
    for count, told in ((15, "about 10^15"), (14, "100,000,000,000,000")):
        message = f"the space has {told} rows, more than max_rows=1,000,000; "
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            CategoricalSpace.from_sizes((10,) * count).enumerate(max_rows=1_000_000)


def test_a_column_too_few_is_told() -> None:
    space = CategoricalSpace({"cut": 2, "shade": 3})
    with pytest.raises(ValueError, match=r"a per-feature tensor .*\(2, 1\)"):
        space.block_columns(torch.zeros(2, 1))
