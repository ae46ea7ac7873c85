"""Checks of the rows that f is given, and of the value."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function
from discrete_grad.sampling import seeded
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import estimate
from discrete_grad.testing._comparing import (
    first_bad,
    mean_test,
    outcomes_or_none,
    require,
    require_enumerable,
    rows_seen,
)
from discrete_grad.testing._figures import told_apart
from discrete_grad.testing._goodness import g_test, joint_counts, joint_law
from discrete_grad.testing.exact import exact_value_and_gradient
from discrete_grad.testing.functions import row_function
from discrete_grad.testing.subject import Scene, SkipCheck, Subject

__all__ = [
    "check_law",
    "check_law_of_many_categories",
    "check_rows",
    "check_rows_at_large_logits",
    "check_value",
    "require_rows",
]

FALSE_ALARM = 1e-9
SOFT = ("mixed", "soft")
HALF = {torch.float16, torch.bfloat16}


def require_rows(subject: Subject, scene: Scene, rows: Tensor, logits: Tensor) -> None:
    """Rows have dtype and shape of the logits, are one-hot where claimed, and never masked."""
    dtype, space, width = logits.dtype, scene.space, scene.space.width
    require(rows.dtype == dtype, f"f must be given rows of {dtype} like the logits: {rows.dtype}")
    require(rows.shape[-1] == width, f"rows must be (..., {width}), got {tuple(rows.shape)}")
    if subject.claims.forward in SOFT:
        _require_inside(space, rows)
    else:
        _require_one_hot(space, rows)
    masked = (logits == -torch.inf) & (rows != 0)
    if subject.claims.forward != "all rows" and masked.any():
        raise AssertionError(f"{first_bad(space, masked)} is masked (logit -inf) but was drawn")


def _sums(space: CategoricalSpace, rows: Tensor) -> Tensor:
    return torch.stack([part.double().sum(-1) for part in space.split(rows)], -1)


def _require_one_hot(space: CategoricalSpace, rows: Tensor) -> None:
    bad = (rows != 0) & (rows != 1)
    if bad.any():
        value, *_ = told_apart(rows[tuple(bad.nonzero()[0])].item(), 0.0, 1.0)
        raise AssertionError(
            f"a hard row holds 0 and 1 alone, bitwise: {first_bad(space, bad)} is {value} in "
            f"{rows.dtype}"
        )
    sums = _sums(space, rows)
    if (sums != 1).any():
        place = (sums != 1).nonzero()[0]
        name, count = space.names[int(place[-1])], sums[tuple(place)].item()
        raise AssertionError(f"feature {name!r} must have one category a row, got {count:g}")


def _require_inside(space: CategoricalSpace, rows: Tensor) -> None:
    bad = ~((rows >= 0) & (rows <= 1))
    if bad.any():
        value, *_ = told_apart(rows[tuple(bad.nonzero()[0])].item(), 0.0, 1.0)
        raise AssertionError(f"{first_bad(space, bad)}: soft rows lie in [0, 1], got {value}")
    off = (_sums(space, rows) - 1).abs()
    tolerance = 0.02 if rows.dtype in HALF else 1e-4
    if (off > tolerance).any():
        name = space.names[int((off > tolerance).nonzero()[0][-1])]
        raise AssertionError(f"feature {name!r}: a soft row must sum to 1, off by {off.max():.2g}")


def check_rows(subject: Subject) -> None:
    """Rows given to f are as claimed, in float64 and float32."""
    for dtype in (torch.float64, torch.float32):
        logits = subject.scene.logits.to(dtype).expand(200, 2, -1)
        rows = rows_seen(subject.method(), logits, seed=subject.seed)
        require_rows(subject, subject.scene, rows, logits)


def check_rows_at_large_logits(subject: Subject) -> None:
    """A hard row is one-hot whatever the size of the surrogate behind it."""
    if subject.claims.forward in SOFT:
        raise SkipCheck("claims soft rows")
    generator = seeded(subject.seed)
    for scale in (5, 1e3):
        noise = torch.rand(500, subject.scene.space.width, generator=generator)
        logits = scale * (2 * noise - 1)
        rows = rows_seen(subject.method(), logits, seed=subject.seed)
        require_rows(subject, subject.scene, rows, logits)


def check_law(subject: Subject) -> None:
    """Hard rows follow softmax(logits), jointly over the features; argmax rows are the argmax."""
    if subject.claims.forward not in ("hard", "argmax"):
        raise SkipCheck(f"claims the forward {subject.claims.forward!r}, which is no draw")
    require_law(subject, subject.scene, torch.float64)


def check_law_of_many_categories(subject: Subject) -> None:
    """The law of 200 equal categories, in bfloat16 too."""
    subject.require_factory()
    if subject.claims.forward != "hard" or subject.claims.binary_only:
        raise SkipCheck("draws no hard rows of many categories")
    scene = Scene(CategoricalSpace({"x": 200}), torch.zeros(200, dtype=torch.float64))
    for dtype in (torch.float64, torch.bfloat16):
        require_law(subject, scene, dtype, draws=8_000)


def require_law(subject: Subject, scene: Scene, dtype: torch.dtype, *, draws: int = 20_000) -> None:
    """Fail unless the first row of every sample follows the law claimed."""
    logits, space = scene.logits.to(dtype), scene.space
    _require_draws(subject, scene, draws)
    # one row an element: the rows of one element may depend on each other
    rows = rows_seen(subject.method(scene), logits.expand(draws, -1), seed=subject.seed)[0]
    codes = space.argmax(rows)
    if subject.claims.forward == "argmax":
        bad = (codes != space.argmax(logits)).any(0)
        name = space.names[int(bad.nonzero()[0])] if bad.any() else ""
        require(not bad.any(), f"feature {name!r}: the row must be the most likely category")
        return
    # the facts of the library have no temperature of the law
    law = logits.double() / getattr(subject.claims, "law_tau", 1.0)
    _require_marginals(space, codes, law, dtype)
    if space.num_rows > draws // 20:
        return
    p_value = g_test(joint_counts(space, codes), joint_law(space, law))
    require(
        p_value > FALSE_ALARM,
        f"each feature follows softmax(logits), but jointly they do not: p = {p_value:.1e} over "
        f"{draws:,} rows; are the features drawn with the same noise?",
    )


def _require_draws(subject: Subject, scene: Scene, draws: int) -> None:
    """Skip the check where f is asked about more rows than are drawn, or far too many."""
    method = subject.method(scene)
    rows = len(rows_seen(method, scene.logits.expand(2, -1), seed=subject.seed))
    samples = getattr(method, "samples", rows)
    if rows > samples:
        raise SkipCheck(f"f is given {rows} rows for {samples} samples: not all of them are drawn")
    if rows * draws * scene.space.width > 100_000_000:
        raise SkipCheck(f"f is given {rows} rows a call: too many to count {draws:,} of each")


def _require_marginals(
    space: CategoricalSpace, codes: Tensor, logits: Tensor, dtype: torch.dtype
) -> None:
    draws = len(codes)
    for i, part in enumerate(space.split(logits)):
        law, counts = part.softmax(-1), codes[:, i].bincount(minlength=space.sizes[i])
        p_value = g_test(counts, law)
        if p_value > FALSE_ALARM / space.num_features:
            continue
        k = int((counts / draws - law).abs().argmax())
        probability, drawn = told_apart(law[k].item(), counts[k].item() / draws, digits=4)
        raise AssertionError(
            f"feature {space.names[i]!r} does not follow softmax(logits) in {dtype}: category "
            f"{space.categories[i][k]!r} has probability {probability}, drawn {counts[k]:,} times "
            f"in {draws:,} rows ({drawn}), p = {p_value:.1e}"
        )


def check_value(subject: Subject) -> None:
    """The value is the mean of f over rows that follow softmax(logits)."""
    if subject.claims.forward not in ("hard", "chosen", "all rows"):
        raise SkipCheck(f"claims the forward {subject.claims.forward!r}: no claim on the value")
    if getattr(subject.claims, "law_tau", 1.0) != 1:
        raise SkipCheck("claims rows from another law than softmax(logits)")
    scene = subject.scene
    require_enumerable(scene)
    f = row_function(scene.space, "cubic")
    truth, _ = exact_value_and_gradient(f, scene.logits, scene.space)
    exact = outcomes_or_none(subject, scene, f)
    if exact is None:
        return _require_mean_value(subject, f, truth)
    fine = (exact.value - truth).abs() <= 1e-9 * max(1.0, truth.abs().item())
    expected, got = told_apart(truth.item(), exact.value.item())
    return require(fine, f"the value must have mean E[f] = {expected}, got {got}")


def _require_mean_value(subject: Subject, f: Function, truth: Tensor) -> None:
    method, logits = subject.method(), subject.scene.logits

    def sampler(count: int, seed: int) -> Tensor:
        values, _ = estimate(method, f, logits.expand(count, -1), seed=seed)
        return values.unsqueeze(-1)

    test = mean_test(subject, sampler, truth.view(1), max(truth.abs().item(), 0.1))
    expected, got = told_apart(truth.item(), test.estimated.item())
    require(
        not test.failed.any(),
        f"the value must have mean E[f] = {expected}, got {got} +- "
        f"{test.error.item():.2g} over {test.samples:,} samples",
    )
