"""The strategies give what they promise, reach what they should, and shrink to small examples."""

from __future__ import annotations

import importlib
import math
import sys

import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from discrete_grad import CategoricalSpace
from discrete_grad.sampling import normal, seeded
from discrete_grad.testing import (
    RowFunction,
    categorical_spaces,
    code_rows,
    functions,
    logits,
    row_function,
    seeds,
    soft_rows,
    strategies,
)
from discrete_grad.testing.functions import FAMILIES

SPACE = CategoricalSpace({"cut": 3, "one": 1, "colour": 4})
BATCHES = st.sampled_from([(), (0,), (2,), (2, 3)])
QUICK = settings(derandomize=True, database=None, max_examples=2_000)


@given(categorical_spaces(min_features=2, max_features=3, min_size=2, max_size=4))
def test_spaces(space: CategoricalSpace) -> None:
    assert 2 <= space.num_features <= 3
    assert all(2 <= size <= 4 for size in space.sizes)


@given(categorical_spaces(), BATCHES, st.booleans(), st.booleans(), st.data())
def test_logits(
    space: CategoricalSpace, batch: tuple[int, ...], masks: bool, extremes: bool, data
) -> None:
    drawn = data.draw(logits(space, batch=batch, masks=masks, extremes=extremes, max_magnitude=2))
    assert drawn.shape == (*batch, space.width)
    assert drawn.dtype == torch.float64
    space.check_logits(drawn)  # no NaN, no +inf, a category of each feature allowed
    finite = drawn[drawn.isfinite()]
    assert masks or len(finite) == drawn.numel()
    assert (finite.abs() <= (1e4 if extremes else 2)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@given(data=st.data())
def test_logits_of_every_dtype_and_layout(data, dtype: torch.dtype) -> None:
    drawn = data.draw(logits(SPACE, batch=(2, 2), dtype=dtype, extremes=True, contiguous=False))
    assert drawn.dtype == dtype
    assert not drawn.is_contiguous()
    assert not drawn.isnan().any()


@pytest.mark.parametrize(
    "event",
    [
        lambda x: x.isinf().any(),
        lambda x: not x.isinf().any(),
        lambda x: x[0] == x[1] != 0,
        lambda x: (x[x.isfinite()].abs() == 1e4).any(),
        lambda x: x.isinf().sum() == 5,
    ],
    ids=["masks", "none masked", "ties", "extremes", "all masked but one of each"],
)
def test_logits_reach(event) -> None:
    find(logits(SPACE, extremes=True), event, settings=QUICK)


def test_logits_shrink_to_zero_and_to_one_mask() -> None:
    assert (find(logits(SPACE), lambda x: True, settings=QUICK) == 0).all()
    masked = find(logits(SPACE), lambda x: x.isinf().any(), settings=QUICK)
    assert masked.isinf().sum() == 1
    assert (masked[masked.isfinite()] == 0).all()
    large = find(logits(SPACE), lambda x: (x > 1).any(), settings=QUICK)
    assert large.max() == 1.125
    assert (large != 0).sum() == 1


def test_spaces_shrink() -> None:
    space = find(categorical_spaces(), lambda space: space.num_rows > 3, settings=QUICK)
    assert space.sizes in ((4,), (2, 2))
    assert find(categorical_spaces(), lambda space: True, settings=QUICK).sizes == (1,)


def test_masks_can_be_left_out() -> None:
    few = settings(QUICK, max_examples=200)
    with pytest.raises(NoSuchExample):
        find(logits(SPACE, masks=False), lambda x: x.isinf().any(), settings=few)


@given(categorical_spaces(), BATCHES, st.data())
def test_rows(space: CategoricalSpace, batch: tuple[int, ...], data) -> None:
    codes = data.draw(code_rows(space, batch=batch))
    assert codes.shape == (*batch, space.num_features)
    space.check_codes(codes)
    soft = data.draw(soft_rows(space, batch=batch, dtype=torch.float32))
    assert soft.shape == (*batch, space.width)
    assert soft.dtype == torch.float32
    for part in space.split(soft):
        torch.testing.assert_close(part.sum(-1), torch.ones(batch))


def test_rows_shrink() -> None:
    codes = find(code_rows(SPACE), lambda codes: codes[2] > 1, settings=QUICK)
    assert codes.tolist() == [0, 0, 2]
    zero = find(soft_rows(SPACE), lambda row: (row == 0).any(), settings=QUICK)
    assert (zero == 0).sum() == 1


@given(seeds())
def test_seeds(seed: int) -> None:
    torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
@settings(max_examples=10)
def test_functions(data, family: str) -> None:
    f = data.draw(functions(SPACE, family=family))
    rows = data.draw(soft_rows(SPACE, batch=(3, 2)))
    assert f(rows).shape == (3, 2)
    assert f(rows).dtype == torch.float64
    assert f(rows.float()).dtype == torch.float32
    assert f(rows).isfinite().all()
    assert "RowFunction(CategoricalSpace(" in repr(f)


def test_functions_shrink_to_one_weight() -> None:
    f = find(functions(SPACE, family="additive"), lambda f: f(torch.ones(8)) > 1, settings=QUICK)
    assert f.first.shape == (1, 8)
    assert (f.first != 0).sum() == 1
    assert f.first.max() == 1.25


# along a line on which only one feature's block changes, a function of a family is a polynomial
@pytest.mark.parametrize(
    ("family", "degree"), [("additive", 1), ("multilinear", 1), ("quadratic", 2), ("cubic", 3)]
)
def test_families_have_the_degree_in_each_block_that_they_claim(family: str, degree: int) -> None:
    f = row_function(SPACE, family)
    steps = torch.linspace(0, 1, degree + 2, dtype=torch.float64)
    start = torch.linspace(-1, 1, 8, dtype=torch.float64)
    for feature, part in enumerate(SPACE.split(torch.ones(8, dtype=torch.float64))):
        moved = torch.zeros(8, dtype=torch.float64)
        moved.narrow(0, SPACE.offsets[feature], len(part)).copy_(
            part * torch.arange(1, 1 + len(part))
        )
        values = f(start + steps.unsqueeze(-1) * moved)
        for _ in range(degree):
            values = values.diff()
        assert values.abs().max() > 1e-3
        assert values.diff().abs().max() < 1e-9 * values.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_values_by_the_formula(family: str) -> None:
    """That of `RowFunction`, by loops over terms and features."""
    noise = torch.Generator().manual_seed(2)
    first, second, rows = (
        torch.randn(n, 8, generator=noise, dtype=torch.float64) for n in (2, 2, 5)
    )
    power = {"quadratic": 2, "cubic": 3}.get(family)
    expected = []
    for row in rows:
        terms = []
        for a, b in zip(first, second, strict=True):
            parts = zip(SPACE.split(a), SPACE.split(b), SPACE.split(row), strict=True)
            h = [float(u @ x + ((v @ x) ** power / 2 if power else 0)) for u, v, x in parts]
            along = a @ row
            terms.append(
                {
                    "additive": sum(h),
                    "mlp": float(b[0] * along.tanh()),
                    "rough": float(b[0] * (4 * along).cos()),
                }.get(family, math.prod(h))
            )
        expected.append(sum(terms))
    f = RowFunction(SPACE, family, first, second)  # type: ignore[arg-type]
    torch.testing.assert_close(f(rows), torch.tensor(expected, dtype=torch.float64))


def test_the_weights_of_drawn_functions_are_double() -> None:
    f = find(functions(SPACE, family="cubic"), lambda f: True, settings=QUICK)
    assert (f.first.dtype, f.second.dtype) == (torch.float64, torch.float64)  # type: ignore[attr-defined]


def test_the_weights_are_drawn_from_the_seed() -> None:
    noise = seeded(4)
    first, second = (normal((3, 8), generator=noise) for _ in range(2))
    f = row_function(SPACE, "quadratic", seed=4)
    assert torch.equal(f.first, first)  # type: ignore[attr-defined]
    assert torch.equal(f.second, second)  # type: ignore[attr-defined]
    other = RowFunction(SPACE, "cubic", *(normal((3, 8), generator=seeded(0)),) * 2)
    assert torch.equal(row_function(SPACE).first, other.first)  # type: ignore[attr-defined]
    assert row_function(SPACE).family == "cubic"  # type: ignore[attr-defined]


def test_only_the_additive_family_is_additive() -> None:
    a, b = SPACE.one_hot(torch.tensor([[0, 0, 0], [1, 0, 2]]), dtype=torch.float64)
    cut, colour = torch.cat([b[:3], a[3:]]), torch.cat([a[:3], b[3:]])
    for family in FAMILIES:
        f = row_function(SPACE, family)
        interaction = (f(a) + f(b) - f(cut) - f(colour)).abs()
        assert (interaction > 1e-3) == (family != "additive")


def test_weights_are_quarters_up_to_2_of_at_most_two_terms() -> None:
    weights: set[float] = set()
    terms: set[int] = set()

    @settings(QUICK, max_examples=200, phases=[Phase.generate])
    @given(functions(CategoricalSpace.from_sizes((2, 1)), family="quadratic"))
    def draw(f: RowFunction) -> None:
        weights.update((4 * f.first).flatten().tolist())
        assert f.second.shape == f.first.shape
        terms.add(len(f.first))

    draw()
    assert weights == set(range(-8, 9))
    assert terms == {1, 2}


def test_an_unknown_family() -> None:
    for call in (row_function, functions):
        with pytest.raises(ValueError, match=r"family must be one of additive, .*got 'square'"):
            call(SPACE, family="square")  # type: ignore[arg-type]


def test_a_function_says_what_it_is() -> None:
    weights = torch.ones(1, 8)
    assert repr(RowFunction(SPACE, "additive", weights, weights)).endswith(
        f"'additive', {[[1.0] * 8]})"
    )


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "discrete_grad.testing.strategies"
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'discrete_grad\[testing\]'"):
        importlib.import_module(name)


def test_the_largest_feature_that_can_be_enumerated() -> None:
    assert strategies._largest(1, 1, 1) == 1
    assert strategies._largest(1, 1, 5) == 5
    assert strategies._largest(10**6, 1, 5) == 0


def test_a_seed_is_at_least_0_and_below_2_to_the_31() -> None:
    for beyond in (lambda seed: seed < 0, lambda seed: seed >= 2**31):
        with pytest.raises(NoSuchExample):
            find(strategies.seeds(), beyond)
    assert find(strategies.seeds(), lambda seed: seed >= 0) == 0
