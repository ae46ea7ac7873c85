"""How much each check asks of a method: the batches, and the least and largest logit in them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.testing import run_checks
from tests.testing.bugs import RULED, SCORE, Ruled, Score

asked: list[Tensor] = []


class Recorded(Ruled):
    """Keeps the logits that it is given."""

    def expectation(self, f, logits, *, generator=None):
        if not torch._C._functorch.is_functorch_wrapped_tensor(logits):
            asked.append(logits.detach().clone())
        return super().expectation(f, logits, generator=generator)


def shown(logits: Tensor) -> str:
    shape = "x".join(map(str, logits.shape))
    numbers = logits[logits.isfinite()].double()
    extremes = f" {numbers.min():.3g} to {numbers.max():.3g}" if len(numbers) else ""
    return f"{shape} {str(logits.dtype).removeprefix('torch.')}{extremes}"


# the outcomes are enumerated from 20,000 draws, after 64 that show whether they can be
ASKED = {
    "law": ["2x9 float64 -0.6 to 1.3", "20000x9 float64 -0.6 to 1.3"],
    "law_of_many_categories": [
        "2x200 float64 0 to 0",
        "8000x200 float64 0 to 0",
        "8000x200 bfloat16 0 to 0",
    ],
    "rows": ["200x2x9 float64 -0.6 to 1.3", "200x2x9 float32 -0.6 to 1.3"],
    "rows_at_large_logits": ["500x9 float32 -5 to 5", "500x9 float32 -1e+03 to 1e+03"],
    "value": ["64x9 float64 -0.6 to 1.3", "20000x9 float64 -0.6 to 1.3"],
    "direction": ["64x7 float64 -0.2 to 0.2", "20000x7 float64 -0.2 to 0.2"],
    "scale": ["64x7 float64 -0.2 to 0.2", "20000x7 float64 -0.2 to 0.2"],
    "affine_in_f": ["50x9 float64 -0.6 to 1.3"],
    "batch": ["8x9 float64 -0.6 to 1.3"],
    "bias": ["64x9 float64 -0.6 to 1.3", "20000x9 float64 -0.6 to 1.3"],
    "independent_features": [
        "64x2 float64 -0.2 to 0.4",
        "20000x2 float64 -0.2 to 0.4",
        "64x9 float64 -0.6 to 1.3",
        "20000x9 float64 -0.6 to 1.3",
        "64x3 float64 -0.6 to 0.5",
        "20000x3 float64 -0.6 to 0.5",
        "64x3 float64 -0.3 to 0.3",
        "20000x3 float64 -0.3 to 0.3",
    ],
    "masks": ["200x9 float64 -0.6 to 1.3"],
    "padding": [
        "64x9 float64 -0.6 to 1.3",
        "20000x9 float64 -0.6 to 1.3",
        "64x16 float64 -0.6 to 1.3",
        "20000x16 float64 -0.6 to 1.3",
        "200x16 float64 -0.6 to 1.3",
    ],
    "permuted_categories": [
        "64x9 float64 -0.6 to 1.3",
        "20000x9 float64 -0.6 to 1.3",
        "200x9 float64 -0.6 to 1.3",
    ],
    "permuted_features": [
        "64x9 float64 -0.6 to 1.3",
        "20000x9 float64 -0.6 to 1.3",
        "200x9 float64 -0.6 to 1.3",
    ],
    "shift": ["50x9 float64 -0.6 to 1.3", "50x9 float64 -12.3 to 9.5"],
    "sums_to_zero": ["200x9 float64 -0.6 to 1.3"],
    "fresh_noise": ["4x4x7 float64 -0.2 to 0.2"],
    "generator": ["30x9 float64 -0.6 to 1.3"],
    "global_noise": ["30x9 float64 -0.6 to 1.3"],
    "empty_batch": ["0x9 float64", "3x0x9 float64", "0x3x9 float64"],
    "extreme_logits": [
        "12x9 float64 -1e+04 to 1e+04",
        "12x9 float32 -1e+04 to 1e+04",
        "12x9 bfloat16 -9.98e+03 to 9.98e+03",
        "12x9 float16 -1e+04 to 1e+04",
    ],
    "half_precision": [
        "5000x9 bfloat16 -0.602 to 1.3",
        "64x9 float64 -0.602 to 1.3",
        "20000x9 float64 -0.602 to 1.3",
        "64x9 bfloat16 -0.602 to 1.3",
        "20000x9 bfloat16 -0.602 to 1.3",
        "5000x9 float16 -0.6 to 1.3",
        "64x9 float64 -0.6 to 1.3",
        "20000x9 float64 -0.6 to 1.3",
        "64x9 float16 -0.6 to 1.3",
        "20000x9 float16 -0.6 to 1.3",
    ],
    "layout": ["5x4x9 float64 -0.6 to 1.3"],
    "f_learns_too": ["200x9 float64 -0.6 to 1.3"],
    "frozen_f": ["30x9 float64 -0.6 to 1.3"],
    "wrong_f": ["4x9 float64 -0.6 to 1.3"],
    "all_masked": ["3x9 float64 0 to 0"],
    "copies": ["5x9 float64 -0.6 to 1.3"],
    "layer": ["5x9 float64 -0.6 to 1.3"],
    "pickle": ["5x9 float64 -0.6 to 1.3"],
    "wrong_logits": ["3x9 float64 0 to 0", "3x9 int64 0 to 0", "3x8 float64 0 to 0"],
    "rules": ["500x8 float64 -0.6 to 0.5"],
    "rules_gradient": ["2000x8 float64 -0.6 to 0.5", "7970x8 float64 -0.6 to 0.5"],
    "rules_law": ["20000x8 float64 -0.6 to 0.5"],
}


@pytest.mark.parametrize("check", ASKED)
def test_what_is_asked(check: str) -> None:
    asked.clear()
    (result,) = run_checks(Recorded, facts=RULED, only=[check])
    assert result.status == "passed"
    assert list(dict.fromkeys(map(shown, asked))) == ASKED[check]


def test_a_black_box_is_asked_about_the_second_scene_or_the_only_one() -> None:
    class Blind(Score):
        def expectation(self, f, logits, *, generator=None):
            asked.append(logits.detach())
            return super().expectation(f, logits, generator=generator)

    for method in (Blind, Blind(CategoricalSpace({"x": 3}))):
        asked.clear()
        (result,) = run_checks(method, facts=SCORE, only=["black_box"])
        assert result.status == "passed"
        width = 5 if method is Blind else 3
        assert {logits.shape[-1] for logits in asked} == {width}
