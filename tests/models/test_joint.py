"""Rows and contexts as one row of categorical columns."""

from __future__ import annotations

import pytest
import torch

from discrete_grad.models._block_linear import _is_hard
from discrete_grad.models.joint import JointColumns
from discrete_grad.sampling import normal, seeded
from discrete_grad.space import CategoricalSpace, ContextSpec

SPACE = CategoricalSpace.from_sizes((2, 3))
ONE_HOT = ContextSpec({"shop": 3, "day": 2}, ["price"])
EMBEDDED = ContextSpec({"shop": 3, "day": 2}, ["price"], embedded=True)
PRICES = normal((400,), generator=seeded(0))


def joint(spec: ContextSpec) -> JointColumns:
    made = JointColumns(SPACE, spec)
    context = torch.zeros(len(PRICES), spec.width)
    context[:, -1] = PRICES
    made.fit(context)
    return made


def test_columns_are_features_then_categories_then_bins() -> None:
    made = joint(ONE_HOT)
    assert made.sizes == (2, 3, 3, 2, 16)
    assert made.ordered == (False, False, False, False, True)
    context = torch.tensor([[0.0, 0, 1, 1, 0, -9.0], [1.0, 0, 0, 0, 1, 9.0]])
    expected = torch.tensor([[1, 2, 2, 0, 0], [0, 1, 0, 1, 15]])
    assert torch.equal(made(torch.tensor([[1, 2], [0, 1]]), context), expected)
    embedded = joint(EMBEDDED)
    as_codes = torch.tensor([[2.0, 0, -9.0], [0.0, 1, 9.0]])
    assert torch.equal(embedded(torch.tensor([[1, 2], [0, 1]]), as_codes), expected)


def test_every_bin_has_as_many_of_the_rows_it_was_fitted_to() -> None:
    context = torch.zeros(len(PRICES), ONE_HOT.width)
    context[:, -1] = PRICES
    bins = joint(ONE_HOT).context_codes(context)[:, -1]
    assert torch.bincount(bins, minlength=16).tolist() == [
        25 + (i == 0) - (i == 15) for i in range(16)
    ]
    order = PRICES.argsort()
    assert bool((bins[order].diff() >= 0).all())


def test_many_contexts_are_binned_by_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discrete_grad.models.joint._MAX_SORTED", 200)
    context = torch.zeros(len(PRICES), ONE_HOT.width)
    context[:, -1] = PRICES
    bins = joint(ONE_HOT).context_codes(context)[:, -1]
    counts = torch.bincount(bins, minlength=16)
    assert counts.tolist() != [25] * 16
    assert int(counts.min()) > 8


def test_ordered_features_stay_ordered() -> None:
    space = CategoricalSpace({"size": 4, "shade": 2}, ordered=("size",))
    assert JointColumns(space, ONE_HOT).ordered == (True, False, False, False, True)


def test_codes_and_flat_rows_of_any_shape_and_a_context_that_is_broadcast() -> None:
    made, codes = joint(ONE_HOT), SPACE.enumerate().expand(4, 6, 2)
    context = torch.zeros(6, ONE_HOT.width)
    context[:, 1] = context[:, 4] = 1
    value = made(codes, context)
    assert value.shape == (4, 6, 5)
    assert torch.equal(made(SPACE.one_hot(codes), context), value)
    assert torch.equal(value[..., :2], codes)
    assert torch.equal(made(codes[0, 0], context[:0]), value.new_zeros(0, 5))
    narrow = made(codes.to(torch.uint8), context)
    assert torch.equal(narrow, value)
    assert narrow.dtype == torch.long
    alone = JointColumns(SPACE, None)
    assert torch.equal(alone(codes), codes)


@pytest.mark.parametrize("code", [3.0, -1.0])
def test_a_code_of_an_embedded_context_that_does_not_exist_is_named(code: float) -> None:
    with pytest.raises(ValueError, match=rf"'shop' has code {code:.0f}; its codes are 0 to 2"):
        joint(EMBEDDED)(torch.tensor([[1, 2]]), torch.tensor([[code, 0.0, 0.0]]))


def test_a_context_must_be_of_the_spec() -> None:
    with pytest.raises(ValueError, match="takes a context"):
        joint(ONE_HOT)(torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match="takes no context"):
        JointColumns(SPACE, None)(torch.tensor([[1, 2]]), torch.zeros(1, 6))


def test_only_rows_of_zeros_and_ones_are_hard() -> None:
    rows = SPACE.one_hot(SPACE.enumerate())
    assert _is_hard(SPACE, rows, None)
    assert _is_hard(SPACE, rows[:0], None)
    assert _is_hard(SPACE, rows[0], None)
    for changed in (
        [1.0, 0.0, 0.0, 0.0, 0.0],  # one feature has none
        [1.0, 1.0, 0.0, 0.0, 0.0],  # one has two, the other none
        [1.0, 0.0, 1.0, 1.0, 0.0],
        [1.0, 0.0, 0.5, 0.5, 0.0],
        [1.0, 0.0, 1.0, 1e-30, 0.0],
        [1.0, 0.0, 1.0 - 1e-7, 0.0, 0.0],
        [1.0, 0.0, 1.0, -1.0, 1.0],
        [1.0, 0.0, torch.nan, 0.0, 1.0],
    ):
        assert not _is_hard(SPACE, torch.cat([rows, torch.tensor([changed])]), None), changed


def test_what_torch_func_follows_cannot_be_seen() -> None:
    rows, context = SPACE.one_hot(SPACE.enumerate()), torch.zeros(6, 1)
    seen: list[bool] = []

    def callback(row: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        seen.append(_is_hard(SPACE, row, context))
        return row.sum() + context.sum()

    torch.vmap(callback)(rows, context)
    torch.vmap(callback, (None, 0))(rows[0], context)
    torch.vmap(callback, (0, None))(rows, context[0])
    assert seen == [False] * 3
