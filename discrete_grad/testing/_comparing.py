"""Rows that f is given, and comparisons that name feature and category, shared by the checks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import Method, estimate, expectation
from discrete_grad.testing._figures import told_apart
from discrete_grad.testing._relations import Relation
from discrete_grad.testing.exact import NotEnumerableError, Outcomes, outcomes
from discrete_grad.testing.statistics import MeanTest, Plan, Sampler, compare_mean
from discrete_grad.testing.subject import Scene, SkipCheck, Subject
from discrete_grad.testing.unbiased import category_name, describe, gradient_sampler

__all__ = [
    "first_bad",
    "mean_test",
    "outcomes_or_none",
    "require",
    "require_close",
    "require_enumerable",
    "require_mean",
    "require_relation",
    "rows_seen",
]

DRAWS = 50_000


def require(condition: bool | Tensor, message: str) -> None:
    """Fail with a message."""
    if not condition:
        raise AssertionError(message)


def first_bad(space: CategoricalSpace, bad: Tensor) -> str:
    """Feature and category of the first true entry of `bad` `(..., D)`."""
    return category_name(space, int(bad.nonzero()[0][-1]))


def require_close(
    space: CategoricalSpace, what: str, expected: Tensor, got: Tensor, *, tolerance: float = 1e-9
) -> None:
    """Fail unless two tensors `(..., D)` agree up to `tolerance` of the largest entry."""
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    bad = ~((got.double() - expected.double()).abs() <= tolerance * scale)
    if bad.any():
        place = tuple(bad.nonzero()[0].tolist())
        wanted, came = told_apart(expected[place].item(), got[place].item())
        raise AssertionError(f"{what}: {first_bad(space, bad)}: expected {wanted}, got {came}")


def require_enumerable(scene: Scene) -> None:
    """Skip the check where the truth cannot be known."""
    if scene.space.num_rows > 100_000:
        raise SkipCheck("its space is too large to enumerate: give a factory")


class _Seen(Exception):
    """Raised by f once it has been called: what a method does with the values takes longer."""


def rows_seen(method: Method, logits: Tensor, *, seed: int) -> Tensor:
    """First rows `(samples, *batch, D)` given to f; a method that calls f otherwise is skipped.

    A control variate may ask f about other rows afterwards.
    """
    seen: list[Tensor] = []

    def f(rows: Tensor) -> Tensor:
        seen.append(rows.detach())
        raise _Seen

    with isolated_seed(seed), suppress(_Seen):
        expectation(method, f, logits.detach().clone().requires_grad_(), seeded(seed))
    if not seen:
        raise AssertionError("f was not called")
    if seen[0].shape[1:-1] != logits.shape[:-1]:
        raise SkipCheck("f is called on rows that cannot be told apart by element of the batch")
    return seen[0]


def outcomes_or_none(subject: Subject, scene: Scene, f: Function) -> Outcomes | None:
    """The exact law of the method's results where the drawn rows decide them."""
    if scene.space.num_rows > DRAWS:
        return None
    try:
        return outcomes(
            subject.method(scene),
            f,
            scene.logits,
            space=scene.space,
            seed=subject.seed,
            max_draws=DRAWS,
        )
    except NotEnumerableError:
        return None


def mean_test(subject: Subject, sampler: Sampler, expected: Tensor, scale: float) -> MeanTest:
    """A test that finds a tenth of `scale`, or what 100,000 samples allow."""
    plan = Plan(detects=0.1 * scale or 0.1, max_samples=2 * DRAWS, seed=subject.seed)
    for factor in (1, 2, 4, 8):
        try:
            return compare_mean(sampler, expected, replace(plan, detects=factor * plan.detects))
        except ValueError:
            continue
    raise SkipCheck("the gradient spreads too much for 100,000 samples to say anything")


def require_mean(
    subject: Subject, scene: Scene, sampler: Sampler, expected: Tensor, *, scale: float
) -> None:
    """Fail unless the mean of the draws `(n, D)` is `expected` `(D,)`."""
    test = mean_test(subject, sampler, expected, scale)
    if test.failed.any():
        raise AssertionError(describe(subject.name, scene.space, test, subject.seed))


def require_relation(subject: Subject, relation: Relation, what: str) -> None:
    """Fail unless the expected gradients of both scenes match."""
    columns, space = list(relation.columns), relation.first.space
    first = outcomes_or_none(subject, relation.first, relation.f)
    second = outcomes_or_none(subject, relation.second, relation.g) if first else None
    if first and second:
        require_close(space, what, first.gradient, second.gradient[columns])
    else:
        _require_same_mean(subject, relation, what)
    if relation.nothing_else:
        _require_nothing_else(subject, relation)


def _require_same_mean(subject: Subject, relation: Relation, what: str) -> None:
    columns, zero = list(relation.columns), torch.zeros_like(relation.first.logits)
    samplers = [
        gradient_sampler(subject.method(scene), f, scene.logits)
        for scene, f in ((relation.first, relation.f), (relation.second, relation.g))
    ]

    def difference(count: int, seed: int) -> Tensor:
        # seeds of their own: the same noise would mean something else in another space
        return samplers[1](count, seed + 500_000)[:, columns] - samplers[0](count, seed)

    scale = samplers[0](2_000, subject.seed).mean(0).abs().max().item()
    test = mean_test(subject, difference, zero, scale)
    if test.failed.any():
        message = describe(subject.name, relation.first.space, test, subject.seed)
        raise AssertionError(
            f"{what}; the difference has mean 0 if it is right. As it is, {message}"
        )


def _require_nothing_else(subject: Subject, relation: Relation) -> None:
    scene, seed = relation.second, subject.seed
    _, gradient = estimate(
        subject.method(scene), relation.g, scene.logits.expand(200, -1), seed=seed
    )
    other = gradient.index_fill(-1, torch.tensor(relation.columns), 0)
    if (other != 0).any():
        place, worst = first_bad(scene.space, other != 0), other.abs().max()
        raise AssertionError(f"{place}: padding (logit -inf) must have gradient 0, got {worst:.2g}")
