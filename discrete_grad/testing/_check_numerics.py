"""Checks of the edges: large logits, half precision, empty and strided batches."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import estimate, expectation
from discrete_grad.testing._check_rows import require_rows
from discrete_grad.testing._comparing import (
    first_bad,
    outcomes_or_none,
    require,
    require_close,
    rows_seen,
)
from discrete_grad.testing.functions import row_function
from discrete_grad.testing.subject import Scene, Subject

__all__ = [
    "check_empty_batch",
    "check_extreme_logits",
    "check_half_precision",
    "check_layout",
]

# of a gradient, relative to its largest component: a few units in the last place of the dtype
TOLERANCE = {torch.bfloat16: 0.12, torch.float16: 0.016}


def extreme_logits(space: CategoricalSpace, dtype: torch.dtype) -> Tensor:
    """Patterns `(n, D)` of logits up to 1e4 in size, and the same with masks."""
    width, firsts = space.width, torch.tensor(space.offsets)
    alternating = 1e4 * (-1) ** torch.arange(width)
    mixed = torch.tensor([0.0, 90.0, -90.0, 11.0, 12.0, 1e4, -1e4]).repeat(width)[:width]
    same = torch.full((width,), 1e4)
    rows = torch.stack([same, -same, alternating, -alternating, mixed, mixed.flip(0)])
    # every second category masked; the first of each feature stays
    masked = (torch.arange(width) % 2 == 1).index_fill(0, firsts, False)
    return torch.cat([rows, rows.masked_fill(masked, -torch.inf)]).to(dtype)


def check_extreme_logits(subject: Subject) -> None:
    """Value and gradient are finite up to |logits| = 1e4, in every precision."""
    space = subject.scene.space
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        logits = extreme_logits(space, dtype)
        f = row_function(space, "cubic")
        value, gradient = estimate(subject.method(), f, logits, seed=subject.seed)
        bad = ~value.isfinite()
        if bad.any():
            row = logits[bad.nonzero()[0]].flatten().tolist()
            raise AssertionError(f"the value is {value[bad][0]} at logits {row} in {dtype}")
        bad = ~gradient.isfinite()
        if bad.any():
            at = logits[tuple(bad.nonzero()[0])].item()
            place = first_bad(space, bad)
            raise AssertionError(
                f"{place}: gradient {gradient[bad][0]} at a logit of {at:g} in {dtype}"
            )
        bad = (logits == -torch.inf) & (gradient != 0)
        if bad.any():
            place, worst = first_bad(space, bad), gradient[bad].abs().max()
            raise AssertionError(
                f"{place} is masked (logit -inf): its gradient must be exactly 0, got {worst:.2g} "
                f"in {dtype}"
            )


def check_half_precision(subject: Subject) -> None:
    """In float16 and bfloat16: rows as claimed, and the gradient of float64 up to rounding."""
    for dtype in (torch.bfloat16, torch.float16):
        scene = Scene(subject.scene.space, subject.scene.logits.to(dtype))
        many = scene.logits.expand(5_000, -1)
        rows = rows_seen(subject.method(), many, seed=subject.seed)
        require_rows(subject, scene, rows, many)
        f = row_function(scene.space)
        _, gradient = estimate(subject.method(), f, many, seed=subject.seed)
        require(gradient.isfinite().all(), f"the gradient must be finite in {dtype}")
        _require_precise(subject, scene)


def _require_precise(subject: Subject, scene: Scene) -> None:
    f, dtype = row_function(scene.space, "quadratic"), scene.logits.dtype
    wide = Scene(scene.space, scene.logits.double())
    exact, half = outcomes_or_none(subject, wide, f), outcomes_or_none(subject, scene, f)
    if exact is None or half is None:
        # other noise in another precision: nothing to compare sample by sample
        return
    what = f"the expected gradient in {dtype} must be that in float64 up to rounding"
    tolerance = TOLERANCE[dtype]
    require_close(scene.space, what, exact.gradient, half.gradient, tolerance=tolerance)


def check_empty_batch(subject: Subject) -> None:
    """No rows in, no rows out."""
    space = subject.scene.space
    for shape in ((0,), (3, 0), (0, 3)):
        logits = torch.zeros(*shape, space.width, dtype=torch.float64)
        # which looks at the shapes
        estimate(subject.method(), row_function(space, "cubic"), logits, seed=subject.seed)


def check_layout(subject: Subject) -> None:
    """The strides of the logits change nothing, and the logits are not changed in place."""
    space = subject.scene.space
    f, logits = row_function(space, "cubic"), subject.scene.logits.repeat(5, 4, 1)
    before = logits.clone()
    value, gradient = estimate(subject.method(), f, logits, seed=subject.seed)
    # in an order in which not even the two dimensions of the batch can be viewed as one
    leaf = logits.permute(2, 1, 0).contiguous().requires_grad_()
    strided = leaf.permute(2, 1, 0)
    with isolated_seed(subject.seed):
        result = expectation(subject.method(), f, strided, seeded(subject.seed))
    (other,) = torch.autograd.grad(result.sum(), leaf)
    require(torch.equal(strided.detach(), before), "the logits were changed in place")
    what = "non-contiguous logits, the same noise: the gradient must stay"
    require_close(space, what, gradient, other.permute(2, 1, 0))
    same = torch.allclose(value, result, rtol=1e-9, atol=1e-9)
    require(same, "non-contiguous logits, the same noise: the value must stay")
