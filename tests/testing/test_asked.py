"""Checks ask often enough, and over a wide enough range, for a fault that few draws show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.testing import Claims, _check_numerics, run_checks
from tests.testing.bugs import LAYER, RULED, SCORE, Layer, Ruled, Score
from tests.testing.test_messages import SMALL, changed

SEEDS = (0, 1)
RARE = 5  # column of the category of "size" that one draw in ten has
FIRST = torch.eye(9, dtype=torch.float64)[0]
drawn: list[Tensor] = []


def rare(like: Tensor, column: int = RARE) -> Tensor:
    """Whether each element `(..., 1)` drew the rare category."""
    return (drawn[-1][0, ..., column : column + 1] == 1).expand(*like.shape[:-1], 1)


def of_padding(gradient: Tensor) -> Tensor:
    """A gradient of the last category, to which "colour" is padded, in one draw of six."""
    if gradient.shape[-1] == 9:  # as it is without padding
        return gradient
    last = SMALL * torch.eye(16, dtype=torch.float64)[3]
    return torch.where(rare(gradient, 9), gradient + last, gradient)


class Remembering(Layer):
    """Keeps the rows that it draws."""

    def combine(self, hard: Tensor, surrogate: Tensor) -> Tensor:
        drawn.append(hard.detach())
        return super().combine(hard, surrogate)


FAULTS: dict[str, dict[str, Callable[..., Any]]] = {
    "rows": {"rows": lambda r: torch.where(r[..., RARE : RARE + 1] == 1, r + SMALL, r)},
    "sums_to_zero": {"gradient": lambda g, x: torch.where(rare(g), g + SMALL * FIRST, g)},
    # the check masks the rare one; the one before it has one draw in four
    "masks": {
        "gradient": lambda g, x: torch.where(rare(g, RARE - 1) & (x == -torch.inf), g + SMALL, g)
    },
    "padding": {"gradient": lambda g, x: of_padding(g)},
    "shift": {"gradient": lambda g, x: torch.where(rare(g), g * (1 + SMALL * x[..., :1]), g)},
    "affine_in_f": {"gradient": lambda g, x: torch.where(rare(g), g + SMALL * g * g, g)},
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("check", FAULTS)
def test_a_fault_of_one_draw_in_ten_is_found(check: str, seed: int) -> None:
    method = changed(Remembering, **FAULTS[check])
    (result,) = run_checks(method, facts=LAYER, only=[check], seed=seed)
    assert result.status == "failed"


asked: list[Tensor] = []


class Recorded(Ruled):
    """Keeps the logits that it is given."""

    def expectation(self, f, logits, *, generator=None):
        asked.append(logits.detach().clone())
        return super().expectation(f, logits, generator=generator)


def logits_of(check: str, method: Any = Recorded, facts: Claims = RULED) -> list[Tensor]:
    asked.clear()
    (result,) = run_checks(method, facts=facts, only=[check])
    assert result.status == "passed"
    return list(asked)


def test_logits_of_both_signs_and_every_size() -> None:
    usual, large = logits_of("rows_at_large_logits")
    for logits, size in ((usual, 5), (large, 1000)):
        assert logits.max() > 0.99 * size
        assert logits.min() < -0.99 * size
        assert logits.abs().max() <= size
    for logits in logits_of("extreme_logits"):
        assert logits.max() > 9900
        assert logits[logits.isfinite()].min() < -9900
        masked = (logits == -torch.inf).any(-1)
        assert masked.any()
        assert not masked.all()
    plain, shifted = logits_of("shift")
    moved = (shifted - plain).nan_to_num()  # each feature by another number, of either sign
    assert moved[0].unique().tolist() == [-12, -6, 0, 3, 9]


def test_each_precision_is_asked_about() -> None:
    both = {torch.float64, torch.float32}
    assert {logits.dtype for logits in logits_of("rows")} == both
    every = {*both, torch.bfloat16, torch.float16}
    assert {logits.dtype for logits in logits_of("extreme_logits")} == every
    assert {x.dtype for x in logits_of("half_precision")} == every - {torch.float32}
    many = logits_of("law_of_many_categories")
    assert {logits.dtype for logits in many} == {torch.float64, torch.bfloat16}


def test_batches_without_an_element_in_each_place() -> None:
    shapes = [logits.shape[:-1] for logits in logits_of("empty_batch")]
    assert shapes == [(0,), (3, 0), (0, 3)]


def test_a_black_box_is_asked_about_the_second_scene_or_the_only_one() -> None:
    class Blind(Score):
        def expectation(self, f, logits, *, generator=None):
            asked.append(logits.detach())
            return super().expectation(f, logits, generator=generator)

    alone = Blind(CategoricalSpace({"x": 3}))
    for method, width in ((Blind, 5), (alone, 3)):
        assert {x.shape[-1] for x in logits_of("black_box", method, SCORE)} == {width}


def test_extreme_logits_by_hand() -> None:
    large, small, inf = 1e4, -1e4, torch.inf
    rows = [
        [large] * 5,
        [small] * 5,
        [large, small, large, small, large],
        [small, large, small, large, small],
        [0.0, 90.0, -90.0, 11.0, 12.0],
        [12.0, 11.0, -90.0, 90.0, 0.0],
    ]
    # every second one is masked, but for the first of a feature
    masked = [[*row[:3], -inf, row[4]] for row in rows]
    for row in masked:
        row[1] = -inf
    space = CategoricalSpace.from_sizes((2, 3))
    found = _check_numerics.extreme_logits(space, torch.float32)
    assert torch.equal(found, torch.tensor(rows + masked))
    ends = _check_numerics.extreme_logits(CategoricalSpace.from_sizes((8,)), torch.float64)[4]
    assert ends.tolist() == [0.0, 90.0, -90.0, 11.0, 12.0, large, small, 0.0]
    assert ends.dtype == torch.float64
    assert (
        len(_check_numerics.extreme_logits(CategoricalSpace.from_sizes((1, 1)), torch.float16))
        == 12
    )
