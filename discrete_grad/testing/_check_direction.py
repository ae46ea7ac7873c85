"""Checks of where the expected gradient points and how long it is: for every claim, biased or not.

On an f that is 1 on one category of one feature the true gradient is known without enumeration, and
so it is on a product of such functions. With equal logits, whatever treats all categories alike has
a gradient along the true one there, by symmetry; the logits used are nearly equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function
from discrete_grad.testing._comparing import mean_test, outcomes_or_none, require
from discrete_grad.testing._figures import told_apart
from discrete_grad.testing.statistics import MeanTest, Sampler
from discrete_grad.testing.subject import Scene, SkipCheck, Subject
from discrete_grad.testing.unbiased import gradient_sampler

__all__ = ["check_direction", "check_scale"]

COSINE = 0.95  # with logits up to 0.3 apart no method of the library is below 0.99
PILOT = 2_000
MOST = 12  # categories looked at; more only cost time
EXACT = 1e-9  # rounding


@dataclass(frozen=True)
class Probe:
    """A function of the row, and the part of its true gradient that is looked at."""

    what: str
    f: Function
    truth: Tensor  # (D,), 0 outside the part
    part: slice


def check_direction(subject: Subject) -> None:
    """The expected gradient points along the true one, for each category and in each feature."""
    scene = subject.mild
    _require_each(
        subject,
        [*additive_probes(scene), *multilinear_probes(scene)],
        _require_direction,
        _require_mean_direction,
    )


def check_scale(subject: Subject) -> None:
    """The expected gradient is as long as claimed, for each category."""
    _require_each(subject, additive_probes(subject.mild), _require_slope, _require_mean_slope)


def _require_each(
    subject: Subject,
    probes: list[Probe],
    by_enumeration: Callable[[Subject, Probe, Tensor], None],
    by_a_test: Callable[[Subject, Probe, Sampler], None],
) -> None:
    enumerable, scene = True, subject.mild
    for probe in probes:
        exact = outcomes_or_none(subject, scene, probe.f) if enumerable else None
        if exact is not None:
            by_enumeration(subject, probe, exact.gradient)
            continue
        enumerable = False  # nor will the other functions be
        by_a_test(subject, probe, gradient_sampler(subject.method(scene), probe.f, scene.logits))


def _chosen(scene: Scene) -> list[tuple[int, int]]:
    """Feature and category of the probes; one category of two tells the same as the other."""
    pairs = [
        (i, k)
        for i, size in enumerate(scene.space.sizes)
        if 2 <= size <= 4
        for k in range(size if size > 2 else 1)
    ]
    if not pairs:
        raise SkipCheck("no feature has two to four categories: give a factory")
    return pairs[:: math.ceil(len(pairs) / MOST)]


def additive_probes(scene: Scene) -> list[Probe]:
    """For each category an f that is 1 on it and 0 elsewhere; any additive f is a sum of them."""
    space, pi = scene.space, scene.space.softmax(scene.logits)
    probes = []
    for i, k in _chosen(scene):
        column = space.offsets[i] + k
        truth = torch.zeros_like(pi)
        block = slice(space.offsets[i], space.offsets[i] + space.sizes[i])
        truth[block] = -pi[column] * pi[block]
        truth[column] += pi[column]
        name, category = space.names[i], space.categories[i][k]
        what = f"f = 1 where feature {name!r} is {category!r}, else 0"
        probes.append(Probe(what, _Indicator(column), truth, slice(0, space.width)))
    return probes


def multilinear_probes(scene: Scene) -> list[Probe]:
    """One f that doubles with each feature in its second category, looked at feature by feature.

    In each feature's block its derivative is the same up to a positive factor, at whatever row.
    """
    space = scene.space
    features = [i for i, size in enumerate(space.sizes) if 2 <= size <= 4][:MOST]
    f = _Doubling([space.offsets[i] + 1 for i in features])
    with torch.enable_grad():
        leaf = scene.logits.clone().requires_grad_()
        # the mean of a multilinear f is f of the mean
        (truth,) = torch.autograd.grad(f(space.softmax(leaf)), leaf)
    what = "f doubled by each feature in its second category, seen in feature"
    probes = []
    for i in features:
        block = slice(space.offsets[i], space.offsets[i] + space.sizes[i])
        part = torch.zeros_like(truth)
        part[block] = truth[block]
        probes.append(Probe(f"{what} {space.names[i]!r}", f, part, block))
    return probes


class _Indicator:
    """1 on a column of the row, 0 elsewhere."""

    def __init__(self, column: int) -> None:
        self.column = column

    def __call__(self, rows: Tensor) -> Tensor:
        return rows[..., self.column]


class _Doubling:
    """The product of 1 + x over some columns x of the row."""

    def __init__(self, columns: list[int]) -> None:
        self.columns = columns

    def __call__(self, rows: Tensor) -> Tensor:
        return (1 + rows[..., self.columns]).prod(-1)


def _require_direction(subject: Subject, probe: Probe, gradient: Tensor) -> None:
    cosine = _cosine(gradient[probe.part], probe.truth[probe.part])
    require(cosine >= COSINE, _direction_message(probe, "expected", cosine) + ", by enumeration")


def _require_mean_direction(subject: Subject, probe: Probe, draw: Sampler) -> None:
    truth = probe.truth[probe.part]
    # a seed that no chunk of a test has
    pilot = draw(PILOT, -1 - subject.seed).double().mean(0)[probe.part]
    require(pilot.isfinite().all(), f"{probe.what}: the gradient is not finite")
    cosine, along = _cosine(pilot, truth), pilot / pilot.norm().clamp_min(EXACT)
    # where the direction is near enough this is below 0 on average, whatever `along` is; a gradient
    # far too short is for the check of the scale
    weights = COSINE * along - truth / truth.norm()
    weights = weights / torch.maximum(pilot.norm(), 0.1 * truth.norm())
    test = _mean_along(subject, draw, probe.part, weights, scale=2.0)
    near = test.estimated.item() <= test.threshold and pilot.norm() > EXACT * truth.norm()
    require(near, _direction_message(probe, "mean", cosine) + _worth(test))


def _cosine(gradient: Tensor, truth: Tensor) -> float:
    length = gradient.norm() * truth.norm()
    # a gradient of 0 has no direction
    return (gradient @ truth / length).item() if length > EXACT else 0.0


def _direction_message(probe: Probe, kind: str, cosine: float) -> str:
    got, least = told_apart(cosine, COSINE, digits=3)
    return (
        f"{probe.what}: the {kind} gradient has cosine {got} with the true one, at least {least} "
        "is needed"
    )


def _require_slope(subject: Subject, probe: Probe, gradient: Tensor) -> None:
    slope = (gradient @ probe.truth / probe.truth.square().sum()).item()
    _require_claimed(subject, probe, slope, EXACT, ", by enumeration")


def _require_mean_slope(subject: Subject, probe: Probe, draw: Sampler) -> None:
    weights = probe.truth / probe.truth.square().sum()
    # the check of the bias looks closer where exactness is claimed
    scale = min(1.0, 2 * subject.claims.slope[0]) if subject.claims.bias == "biased" else 2.0
    test = _mean_along(subject, draw, probe.part, weights, scale=scale)
    _require_claimed(subject, probe, test.estimated.item(), test.threshold, _worth(test))


def _require_claimed(
    subject: Subject, probe: Probe, slope: float, margin: float, worth: str
) -> None:
    low, high = _range(subject)
    got, least, most = told_apart(slope, low, high, digits=3)
    expected = least if low == high else f"{least} to {most}"
    require(
        low - margin <= slope <= high + margin,
        f"{probe.what}: the expected gradient has {got} times the true one's length along it, "
        f"expected {expected}{worth}",
    )


def _range(subject: Subject) -> tuple[float, float]:
    return subject.claims.slope if subject.claims.bias == "biased" else (1.0, 1.0)


def _mean_along(
    subject: Subject, draw: Sampler, part: slice, weights: Tensor, *, scale: float
) -> MeanTest:
    """Test of the mean of `gradient[part] @ weights` against 0; its estimate and margin count."""

    def along(count: int, seed: int) -> Tensor:
        return (draw(count, seed).double()[:, part] @ weights).unsqueeze(-1)

    return mean_test(subject, along, torch.zeros(1, dtype=torch.float64), scale=scale)


def _worth(test: MeanTest) -> str:
    return (
        f" ({test.samples:,} samples; up to {test.threshold:.3g} too far is taken for chance, so a "
        f"false alarm has probability {test.false_alarm:.1g}; {test.detects:.3g} too far is found "
        f"with probability {test.power:.4f})"
    )
