"""Checks of the gradient: on the simplex, as biased as claimed, the same however it is asked."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function
from discrete_grad.gradient.black_box import on_codes
from discrete_grad.sampling import normal, seeded
from discrete_grad.testing import _relations as relations
from discrete_grad.testing._calling import Recorder, estimate
from discrete_grad.testing._comparing import (
    first_bad,
    outcomes_or_none,
    require,
    require_close,
    require_enumerable,
    require_mean,
    require_relation,
)
from discrete_grad.testing.exact import exact_gradient
from discrete_grad.testing.functions import Family, row_function
from discrete_grad.testing.subject import Scene, SkipCheck, Subject
from discrete_grad.testing.unbiased import gradient_sampler

__all__ = [
    "check_affine_in_f",
    "check_batch",
    "check_bias",
    "check_black_box",
    "check_independent_features",
    "check_masks",
    "check_padding",
    "check_permuted_categories",
    "check_permuted_features",
    "check_shift",
    "check_sums_to_zero",
]

CLAIMED: dict[str, tuple[Family, ...]] = {
    "biased": (),
    "exact on additive": ("additive",),
    "exact on multilinear": ("additive", "multilinear"),
    "exact on quadratic": ("additive", "multilinear", "quadratic"),
    "none": ("additive", "multilinear", "quadratic", "cubic", "mlp", "rough"),
}


def check_sums_to_zero(subject: Subject) -> None:
    """The gradient of every sample sums to 0 in each feature; a feature of one category has 0."""
    scene = subject.scene
    _, gradient = estimate(
        subject.method(),
        row_function(scene.space, "cubic"),
        scene.logits.expand(200, -1),
        seed=subject.seed,
    )
    require(gradient.isfinite().all(), "the gradient must be finite, got NaN or infinity")
    require((gradient != 0).any(), "the gradient is 0 everywhere; f is not constant")
    scale = max(1.0, gradient.abs().max().item())
    for name, part in zip(scene.space.names, scene.space.split(gradient), strict=True):
        worst = part.sum(-1).abs().max().item()
        require(
            worst <= 1e-9 * scale,
            f"feature {name!r}: the gradient must sum to 0 over its categories, got {worst:.3g}",
        )
        if part.shape[-1] == 1:
            require((part == 0).all(), f"feature {name!r} has one category: its gradient must be 0")


def check_masks(subject: Subject) -> None:
    """A masked category is never drawn and has gradient exactly 0."""
    scene = _masked(subject.scene)
    method, f = subject.method(), row_function(scene.space, "cubic")
    _, gradient = estimate(method, f, scene.logits.expand(200, -1), seed=subject.seed)
    bad = ~gradient.isfinite()
    if bad.any():
        raise AssertionError(f"{first_bad(scene.space, bad)}: NaN where some logits are -inf")
    bad = (scene.logits == -torch.inf) & (gradient != 0)
    if bad.any():
        place, worst = first_bad(scene.space, bad), gradient[bad].abs().max()
        raise AssertionError(
            f"{place} is masked (logit -inf): its gradient must be exactly 0, got {worst:.2g}"
        )


def _masked(scene: Scene) -> Scene:
    """The last category of the widest feature masked, and what was."""
    size = max(scene.space.sizes)
    feature = scene.space.sizes.index(size)
    if size < 2:
        raise SkipCheck("every feature has one category")
    logits = scene.logits.clone()
    logits[scene.space.offsets[feature] + size - 1] = -torch.inf
    return Scene(scene.space, logits)


def check_shift(subject: Subject) -> None:
    """Adding a number to all logits of a feature changes nothing."""
    scene, f = subject.scene, row_function(subject.scene.space, "cubic")
    # another number for each feature, of either sign
    numbers = [3.0 * (-1) ** i * (i + 1) for i in range(scene.space.num_features)]
    shift = torch.repeat_interleave(torch.tensor(numbers), torch.tensor(scene.space.sizes))
    results = [
        estimate(subject.method(), f, logits.expand(50, -1), seed=subject.seed)
        for logits in (scene.logits, scene.logits + shift)
    ]
    what = "logits shifted by a number per feature, the same noise: the gradient must stay"
    require_close(scene.space, what, results[0][1], results[1][1], tolerance=1e-7)
    same = torch.allclose(results[0][0], results[1][0], rtol=1e-7, atol=1e-7)
    require(same, "logits shifted by a number per feature, the same noise: the value must stay")


def check_bias(subject: Subject) -> None:
    """No bias on the functions the method claims to be exact on."""
    families = CLAIMED[subject.claims.bias]
    if not families:
        raise SkipCheck("claims to be biased")
    scene = _enumerable(subject)
    for family in families:
        require_unbiased(subject, family, scene)


def _enumerable(subject: Subject) -> Scene | None:
    """The first scene on which every draw can be enumerated, which no f changes."""
    for scene in subject.scenes:
        if outcomes_or_none(subject, scene, row_function(scene.space, "additive")) is not None:
            return scene
    return None


def require_unbiased(subject: Subject, family: Family, enumerable: Scene | None) -> None:
    """By enumeration on a scene where that is possible, else by a statistical test."""
    scene = enumerable or subject.scene
    f = row_function(scene.space, family)
    exact = outcomes_or_none(subject, scene, f) if enumerable is not None else None
    if exact is None:
        return _require_unbiased_mean(subject, scene, f)
    what = f"expected gradient, f {family}, by enumeration"
    truth = exact_gradient(f, scene.logits, scene.space)
    return require_close(scene.space, what, truth, exact.gradient)


def _require_unbiased_mean(subject: Subject, scene: Scene, f: Function) -> None:
    require_enumerable(scene)
    truth = exact_gradient(f, scene.logits, scene.space)
    sampler = gradient_sampler(subject.method(scene), f, scene.logits)
    require_mean(subject, scene, sampler, truth, scale=truth.abs().max().item())


def check_black_box(subject: Subject) -> None:
    """Without df/dx: any table of values on integer codes will do."""
    if subject.claims.needs_derivative:
        raise SkipCheck("needs df/dx")
    scene = subject.scenes[min(1, len(subject.scenes) - 1)]
    require_enumerable(scene)
    table = normal((scene.space.num_rows,), generator=seeded(subject.seed))
    f = on_codes(scene.space, lambda codes: table[scene.space.row_number(codes)])
    exact, truth = outcomes_or_none(subject, scene, f), exact_gradient(f, scene.logits, scene.space)
    if subject.claims.bias != "none":
        estimate(subject.method(scene), f, scene.logits, seed=subject.seed)
    elif exact is not None:
        what = "expected gradient, f a black box on codes, by enumeration"
        require_close(scene.space, what, truth, exact.gradient)
    else:
        _require_unbiased_mean(subject, scene, f)


def check_permuted_categories(subject: Subject) -> None:
    """Renaming the categories permutes the gradient."""
    relation = relations.permuted_categories(subject.scene)
    require_relation(subject, relation, "renaming the categories must permute the gradient")


def check_permuted_features(subject: Subject) -> None:
    """The order of the features does not matter."""
    subject.require_factory()
    relation = relations.permuted_features(subject.scene)
    require_relation(subject, relation, "another order of the features must permute the gradient")


def check_padding(subject: Subject) -> None:
    """Ragged features are equal ones whose surplus is masked."""
    subject.require_factory()
    if subject.claims.binary_only:
        raise SkipCheck("binary features cannot be padded")
    relation = relations.padded(subject.scene)
    require_relation(subject, relation, "masked padding must change nothing")


def check_independent_features(subject: Subject) -> None:
    """For an f of one feature alone: the gradient of that feature on its own."""
    subject.require_factory()
    for feature, size in enumerate(subject.scene.space.sizes):
        if size > 1:
            what = "an f of one feature alone must give the gradient of that feature on its own"
            require_relation(subject, relations.one_feature(subject.scene, feature), what)


def check_batch(subject: Subject) -> None:
    """An element's result does not depend on what else is in the batch."""
    scene, f = subject.scene, row_function(subject.scene.space, "cubic")
    changed = scene.logits.repeat(8, 1)
    changed[1::2] = scene.logits.nan_to_num(neginf=0.0).flip(0)
    recorders = Recorder(f), Recorder(f)
    first, second = (
        estimate(subject.method(), recorder, logits, seed=subject.seed)[1][::2]
        for recorder, logits in zip(recorders, (scene.logits.repeat(8, 1), changed), strict=True)
    )
    if torch.allclose(first, second, rtol=1e-9, atol=1e-9):
        return
    rows = [recorder.rows((8,)) for recorder in recorders]
    if rows[0] is not None and rows[1] is not None and not _same(rows[0][:, ::2], rows[1][:, ::2]):
        raise SkipCheck("the noise of an element depends on the logits of the others")
    what = "other elements of the batch changed, the same noise: an element's gradient must stay"
    require_close(scene.space, what, first, second)


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)


def check_affine_in_f(subject: Subject) -> None:
    """The result for 3 f - 2 h is 3 times that for f less 2 times that for h, given the noise."""
    if not subject.claims.linear_in_f:
        raise SkipCheck("claims not to be linear in f")
    scene = subject.scene
    f, h = row_function(scene.space, "cubic"), row_function(scene.space, "quadratic", seed=1)
    functions: tuple[Function, ...] = (lambda rows: 3 * f(rows) - 2 * h(rows), f, h)
    both, of_f, of_h = (
        estimate(subject.method(), function, scene.logits.expand(50, -1), seed=subject.seed)
        for function in functions
    )
    what = "the gradient of 3 f - 2 h must be 3 times that of f less 2 times that of h"
    require_close(scene.space, what, 3 * of_f[1] - 2 * of_h[1], both[1])
    fine = torch.allclose(both[0], 3 * of_f[0] - 2 * of_h[0], rtol=1e-9, atol=1e-9)
    require(fine, "the value of 3 f - 2 h must be 3 times that of f less 2 times that of h")
