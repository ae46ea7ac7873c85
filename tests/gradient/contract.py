"""The contract of a gradient estimator: one plain function a clause, which fails by AssertionError.

What anyone can check is in `discrete_grad.testing`; the clauses here that are no more than a check
of the kit come last. The others need what only the library's own tests can do: hand a method its
noise. With it everything is exact: the expected gradient is a weighted sum over all rows that could
be drawn. `test_contract.py` runs each clause on every case of the table; `test_mutants.py` shows
that each can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GradientEstimator, on_codes
from discrete_grad.gradient import (
    adaptive_imle,
    arms,
    base,
    carms,
    disarm,
    gumbel_rao,
    gumbel_softmax,
    imle,
    rebar,
    reinmax_rao,
)
from discrete_grad.gradient.facts import Bias
from discrete_grad.testing import CHECKS, Claims, Subject, row_function
from discrete_grad.testing import _relations as relations
from discrete_grad.testing._check_random import require_compile, require_vmap
from discrete_grad.testing._relations import Relation
from discrete_grad.testing.exact import exact_value_and_gradient
from discrete_grad.testing.subject import Scene, SkipCheck
from tests.gradient.cases import CLASSES, Case, Function, inner_gumbel
from tests.strategies import random_logits

INF = torch.inf
TINY = CategoricalSpace({"a": 2, "b": 3})
RAGGED = CategoricalSpace({"a": 2, "one": 1, "b": 3, "c": 3})
TINY_LOGITS = torch.tensor([0.3, -0.4, 0.9, -0.2, 0.1], dtype=torch.float64)
# the middle category of c is masked
RAGGED_LOGITS = torch.tensor([0.5, -0.3, 1.7, 0.2, -0.9, 0.6, 0.4, -INF, -0.5], dtype=torch.float64)

SEED = 0  # of all noise; the planted bugs are looked for under another one too

# --- tools --------------------------------------------------------------------------------------


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed + 1000 * SEED)


def function(space: CategoricalSpace, kind: str, *, seed: int = 0) -> Function:
    """A fixed f of a class of CLASSES."""
    return row_function(space, "additive" if kind == "linear" else kind, seed=seed)


def hitting(space: CategoricalSpace, logits: Tensor, codes: Tensor) -> Tensor:
    """Uniform numbers `(..., F)` for which the inverse-CDF draw gives these codes."""
    numbers = []
    for part, code in zip(space.split(logits.double()), codes.unbind(-1), strict=True):
        p = part.softmax(-1)
        middle = p.cumsum(-1) - p / 2
        numbers.append(middle.gather(-1, code.unsqueeze(-1)))
    return torch.cat(numbers, -1)


@contextmanager
def given_codes(codes: Tensor) -> Iterator[None]:
    """Every draw gives codes `(N, *batch, F)`."""

    def uniform_like(space: CategoricalSpace, logits: Tensor, *, generator: object) -> Tensor:
        assert codes.shape == (*logits.shape[:-1], space.num_features)
        return hitting(space, logits.detach(), codes)

    def drawn(space: CategoricalSpace, logits: Tensor, *rest: object) -> Tensor:
        assert codes.shape[1:] == (*logits.shape[:-1], space.num_features)
        return codes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "uniform_like", uniform_like)
        patch.setattr(arms, "draw_antithetic", drawn)
        patch.setattr(carms, "draw_antithetic", drawn)
        patch.setattr(disarm, "draw_opposites", drawn)
        yield


@contextmanager
def given_gumbel(space: CategoricalSpace, logits: Tensor, gumbel: Tensor) -> Iterator[None]:
    """Gumbel noise `(N, *batch, D)` for logits `(*batch, D)`; every draw is its argmax."""

    def gumbel_like(logits: Tensor, *, generator: object) -> Tensor:
        assert gumbel.shape == logits.shape
        return gumbel

    def inner_gumbel_like(logits: Tensor, *, generator: object) -> Tensor:
        assert gumbel.shape == logits.shape[1:]
        return inner_gumbel(gumbel, len(logits))

    def coupled_gumbel_like(logits: Tensor, *, generator: object) -> Tensor:
        assert logits.shape == (2 * len(gumbel), *gumbel.shape[1:])
        return torch.cat([gumbel, inner_gumbel(gumbel, 1)[0]])

    with pytest.MonkeyPatch.context() as patch, given_codes(space.argmax(logits + gumbel)):
        patch.setattr(rebar, "gumbel_like", coupled_gumbel_like)
        patch.setattr(gumbel_softmax, "gumbel_like", gumbel_like)
        for module in (imle, adaptive_imle):
            patch.setattr(module, "gumbel_like", gumbel_like)
        for module in (gumbel_rao, reinmax_rao):
            patch.setattr(module, "gumbel_like", inner_gumbel_like)
        yield


def gumbel_noise(
    case: Case, logits: Tensor, space: CategoricalSpace = RAGGED, *, seed: int = 0
) -> Tensor:
    shape = (case.draws(space, case.samples), *logits.shape)
    u = torch.rand(shape, generator=seeded(seed), dtype=torch.float64)
    return -(-u.log()).log()


def value_and_gradient(
    estimator: GradientEstimator, f: Function, logits: Tensor, **options: torch.Generator
) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = estimator.expectation(f, leaf, **options)
    assert value.shape == logits.shape[:-1]
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def given_noise(
    case: Case, space: CategoricalSpace, f: Function, logits: Tensor, gumbel: Tensor
) -> tuple[Tensor, Tensor]:
    if case.noise == "rows":
        return value_and_gradient(case.estimator(space), f, logits, generator=seeded())
    with given_gumbel(space, logits.detach(), gumbel):
        return value_and_gradient(case.estimator(space), f, logits)


def rows_seen(case: Case, space: CategoricalSpace, logits: Tensor, seed: int = 0) -> Tensor:
    """What f is given, `(samples, *batch, D)`."""
    seen = []

    def f(rows: Tensor) -> Tensor:
        seen.append(rows.detach())
        return rows.sum(-1)

    case.estimator(space).expectation(f, logits, generator=seeded(seed))
    rows, *others = seen
    assert len(others) == case.soft_calls
    return rows


def truth(space: CategoricalSpace, logits: Tensor, f: Function) -> tuple[Tensor, Tensor]:
    """E[f] and its gradient `(D,)`, from the definition."""
    return exact_value_and_gradient(f, logits, space)


def expected(
    case: Case, space: CategoricalSpace, logits: Tensor, f: Function
) -> tuple[Tensor, Tensor]:
    """Exact expectation of value and gradient: the sum over every tuple of drawn rows."""
    if case.outcomes:
        return expected_over(case, space, logits, f)
    rows = space.enumerate()
    p = space.log_prob(logits / case.law_tau, rows).exp()
    rows, p = rows[p > 0], p[p > 0]
    draws = case.draws(space, case.samples)
    tuples = torch.cartesian_prod(*[torch.arange(len(p))] * draws).view(-1, draws)
    weights = p[tuples].prod(-1)
    with given_codes(rows[tuples].transpose(0, 1)):
        repeated = logits.expand(len(weights), -1)
        value, gradient = value_and_gradient(case.estimator(space), f, repeated)
    return weights @ value, weights @ gradient


def expected_over(
    case: Case, space: CategoricalSpace, logits: Tensor, f: Function
) -> tuple[Tensor, Tensor]:
    """The same where the draws are not independent rows."""
    outcomes = case.outcomes(space, logits, case.samples)
    law = outcomes.probabilities
    assert_close(law.sum(), torch.ones_like(law[0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes.target, lambda *arguments, **options: outcomes.drawn)
        value, gradient = value_and_gradient(case.estimator(space), f, logits.expand(len(law), -1))
    return law @ value, law @ gradient


def claims(exact_on: str, kind: str) -> bool:
    order = ("nothing", "additive", "multilinear", "quadratic", "everything")
    return order.index(exact_on) > CLASSES.index(kind)


# --- 3 and 4. bias, exactly -----------------------------------------------------------------------


def check_bias(case: Case) -> None:
    """Zero where exactness is claimed, and not zero just outside the claim."""
    for space, logits in ((TINY, TINY_LOGITS), (RAGGED, RAGGED_LOGITS)):
        for kind in CLASSES:
            f = function(space, kind)
            true_value, true_gradient = truth(space, logits, f)
            value, gradient = expected(case, space, logits, f)
            if claims(case.exact_on, kind):
                assert_close(gradient, true_gradient, rtol=0, atol=1e-11)
            elif kind == "cubic":
                assert (gradient - true_gradient).abs().max() > 1e-2
            if claims(case.value_exact_on, kind):
                assert_close(value, true_value, rtol=0, atol=1e-11)
            elif kind == "cubic":
                assert (value - true_value).abs() > 1e-2


def check_claim_is_tight(case: Case) -> None:
    """The class declared is the largest of the list: the next one is biased."""
    order = ("additive", "multilinear", "quadratic", "cubic")
    if case.exact_on not in order:
        return
    kind = order[order.index(case.exact_on) + 1]
    f = function(TINY, kind)
    difference = expected(case, TINY, TINY_LOGITS, f)[1] - truth(TINY, TINY_LOGITS, f)[1]
    assert difference.abs().max() > 1e-2


def check_unbiased_for_a_black_box(case: Case) -> None:
    """No df/dx, any table of values: the expected gradient is the true one."""
    table = torch.randn(TINY.num_rows, generator=seeded(), dtype=torch.float64)
    f = on_codes(TINY, lambda codes: table[codes[..., 0] * TINY.sizes[1] + codes[..., 1]])
    value, gradient = expected(case, TINY, TINY_LOGITS, f)
    true_value, true_gradient = truth(TINY, TINY_LOGITS, f)
    assert_close(value, true_value, rtol=0, atol=1e-12)
    assert_close(gradient, true_gradient, rtol=0, atol=1e-12)


# --- 6. metamorphic -------------------------------------------------------------------------------


def require_relation(case: Case, relation: Relation, *, values: bool = True) -> None:
    """Value and gradient of both scenes agree, given the noise, which moves with the columns."""
    columns = torch.tensor(relation.columns)
    first, second = (x.logits.expand(20, -1) for x in (relation.first, relation.second))
    outer = torch.zeros(20, max(first.shape[-1], second.shape[-1]), dtype=torch.float64)
    whole = relation.second.space
    gumbel = gumbel_noise(case, outer[:, : whole.width], whole)
    if relation.nothing_else:  # all of the second scene that is more than the first is masked
        own = gumbel_noise(case, first, relation.first.space)
        gumbel = torch.zeros(len(own), *second.shape, dtype=torch.float64)
        gumbel = gumbel.index_copy(-1, columns, own)
    value, gradient = given_noise(
        case, relation.first.space, relation.f, first, gumbel[..., columns]
    )
    other_value, other = given_noise(case, whole, relation.g, second, gumbel)
    if values:
        assert_close(other_value, value)
    assert_close(other[..., columns], gradient)
    if relation.nothing_else:
        assert (other.index_fill(-1, columns, 0) == 0).all()


def check_permuted_categories(case: Case) -> None:
    """Renaming the categories of each feature permutes the gradient."""
    require_relation(case, relations.permuted_categories(Scene(RAGGED, RAGGED_LOGITS)))


def check_permuted_features(case: Case) -> None:
    """The order of the features does not matter."""
    require_relation(case, relations.permuted_features(Scene(RAGGED, RAGGED_LOGITS)))


def check_padding_counts_for_nothing(case: Case) -> None:
    """Ragged features = equal sizes, the surplus masked: same gradient, 0 in the padding."""
    require_relation(case, relations.padded(Scene(RAGGED, RAGGED_LOGITS)))


def check_features_are_independent(case: Case) -> None:
    """For an f of one feature alone: the gradient of that feature on its own."""
    for feature in range(RAGGED.num_features):
        relation = relations.one_feature(Scene(RAGGED, RAGGED_LOGITS), feature)
        # with weights the value is averaged over the other features too
        require_relation(case, relation, values=case.weights is None)


def check_batch_splits(case: Case) -> None:
    """An element's result does not depend on what else is in the batch."""
    logits = random_logits(RAGGED, (2, 3), masked=True)
    gumbel, f = gumbel_noise(case, logits), function(RAGGED, "cubic")
    value, gradient = given_noise(case, RAGGED, f, logits, gumbel)
    for i, j in ((0, 0), (0, 2), (1, 1)):
        alone = given_noise(case, RAGGED, f, logits[i, j], gumbel[:, i, j])
        assert_close(alone[0], value[i, j])
        assert_close(alone[1], gradient[i, j])


# --- 7. formulas ----------------------------------------------------------------------------------


def check_formula(case: Case) -> None:
    """The gradient given the noise is the published formula, written with explicit matrices."""
    for space, masked in ((TINY, False), (RAGGED, True)):
        logits = random_logits(space, (10,), scale=2, masked=masked)
        gumbel, f = gumbel_noise(case, logits, space), function(space, "cubic")
        _, gradient = given_noise(case, space, f, logits, gumbel)
        for i in range(10):
            assert_close(gradient[i], case.formula(space, logits[i], gumbel[:, i], f))


def check_derivatives_of_a_smooth_value(case: Case) -> None:
    """Where the value is smooth given the noise: gradient and second gradient, numerically."""
    logits = random_logits(TINY, (2,))
    gumbel, f = gumbel_noise(case, logits), function(TINY, "cubic")
    estimator = case.estimator(TINY)

    def value(leaf: Tensor) -> Tensor:
        with given_gumbel(TINY, leaf.detach(), gumbel):
            return estimator.expectation(f, leaf)

    assert torch.autograd.gradcheck(value, logits.requires_grad_())
    assert torch.autograd.gradgradcheck(value, logits)


# --- 8. randomness and transforms -----------------------------------------------------------------


def check_vmap(case: Case) -> None:
    """vmap, and vmap over a gradient, equal the batch given the noise."""
    logits, f = random_logits(RAGGED, (6,), masked=True), function(RAGGED, "cubic")
    gumbel = gumbel_noise(case, logits)
    value, gradient = given_noise(case, RAGGED, f, logits, gumbel)
    estimator = case.estimator(RAGGED)

    def one(leaf: Tensor, noise: Tensor) -> Tensor:
        with given_gumbel(RAGGED, leaf.detach(), noise):
            return estimator.expectation(f, leaf)

    assert_close(torch.func.vmap(one, in_dims=(0, 1))(logits, gumbel), value)
    per_row = torch.func.vmap(torch.func.grad(one), in_dims=(0, 1))
    assert_close(per_row(logits, gumbel), gradient)


# --- 9. numerics ----------------------------------------------------------------------------------


def check_precision(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    """Half precision gives the float64 result up to its rounding."""
    logits = random_logits(RAGGED, (20,), masked=True).to(dtype)
    gumbel, f = gumbel_noise(case, logits), function(RAGGED, "quadratic")
    value, gradient = given_noise(case, RAGGED, f, logits, gumbel.to(torch.float32))
    true_value, true_gradient = given_noise(case, RAGGED, f, logits.double(), gumbel)
    assert gradient.dtype == dtype
    assert_close(value.double(), true_value, rtol=tolerance, atol=tolerance)
    gradient = gradient.double()
    if not case.continuous:  # a rounded derivative tips an argmax now and then
        kept = gradient.isclose(true_gradient, rtol=tolerance, atol=tolerance).all(-1)
        assert kept.sum() >= 0.9 * len(kept)
        gradient, true_gradient = gradient[kept], true_gradient[kept]
    assert_close(gradient, true_gradient, rtol=tolerance, atol=tolerance)


# --- clauses that are checks of the kit -----------------------------------------------------------

BIAS: dict[str, Bias] = {
    "nothing": "biased",
    "additive": "exact on additive",
    "multilinear": "exact on multilinear",
    "quadratic": "exact on quadratic",
    "everything": "none",
}
COUPLED = "a feature that f ignores changes the gradient of the others, even in its mean"


def subject(case: Case) -> Subject:
    """The case as the kit wants it."""
    forward = "all rows" if case.forward == "all" else case.forward
    claims = Claims(
        forward="chosen" if case.drawn == "none" else forward,
        bias=BIAS[case.exact_on],
        needs_derivative=case.needs_derivative,
        binary_only=case.estimator().facts.binary_only,
        linear_in_f=case.linear_in_f,
        law_tau=case.law_tau,
        slope=case.slope,
    )
    coupled = not case.local and case.exact_on != "everything"
    skip = {"independent_features": COUPLED} if coupled else {}
    return Subject(case.estimator, facts=claims, name=case.name, skip=skip, seed=SEED)


def kit(name: str, *checks: Callable[[Subject], None]) -> Callable[..., None]:
    """The clause `check_<name>`; a dtype given to it is among those that the checks run."""

    def clause(case: Case, *_: object) -> None:
        for check in checks:
            with suppress(SkipCheck):
                check(subject(case))

    clause.__name__ = f"check_{name}"
    return clause


check_rows = kit("rows", CHECKS["rows"], CHECKS["half_precision"])
check_rows_hide_the_surrogate = kit("rows_hide_the_surrogate", CHECKS["rows_at_large_logits"])
check_law = kit("law", CHECKS["law"], CHECKS["law_of_many_categories"])
check_gradient_is_on_the_simplex = kit(
    "gradient_is_on_the_simplex", CHECKS["sums_to_zero"], CHECKS["masks"], CHECKS["shift"]
)
check_direction_and_scale = kit("direction_and_scale", CHECKS["direction"], CHECKS["scale"])
check_fresh_noise = kit("fresh_noise", CHECKS["fresh_noise"])
check_affine_in_f = kit("affine_in_f", CHECKS["affine_in_f"])
check_generator = kit("generator", CHECKS["generator"], CHECKS["global_noise"])
check_layer_takes_a_generator = kit("layer_takes_a_generator", CHECKS["layer"])
check_vmap_draws = kit("vmap_draws", require_vmap)
check_compile = kit("compile", require_compile)
check_export = kit("export", CHECKS["export"])
check_finite = kit("finite", CHECKS["extreme_logits"])
check_empty_batch = kit("empty_batch", CHECKS["empty_batch"])
check_layout = kit("layout", CHECKS["layout"])
check_frozen_f = kit("frozen_f", CHECKS["frozen_f"])
check_f_learns_too = kit("f_learns_too", CHECKS["f_learns_too"])
check_layer_is_the_expectation = kit("layer_is_the_expectation", CHECKS["layer"])
