"""The contract of a gradient estimator: one plain function a clause, which fails by AssertionError.

`test_contract.py` runs each on every case of the table; `test_mutants.py` shows that each can fail.
Everything is exact: the expected gradient is a weighted sum over all rows that could be drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GradientEstimator, Relaxation
from discrete_grad.gradient import base, gumbel_softmax
from discrete_grad.sampling import isolated_seed
from tests.goodness import assert_law
from tests.gradient.cases import CLASSES, Case, Function
from tests.strategies import random_logits

INF = torch.inf
TINY = CategoricalSpace({"a": 2, "b": 3})
RAGGED = CategoricalSpace({"a": 2, "one": 1, "b": 3, "c": 3})
TINY_LOGITS = torch.tensor([0.3, -0.4, 0.9, -0.2, 0.1], dtype=torch.float64)
# the middle category of c is masked
RAGGED_LOGITS = torch.tensor([0.5, -0.3, 1.7, 0.2, -0.9, 0.6, 0.4, -INF, -0.5], dtype=torch.float64)

# --- tools --------------------------------------------------------------------------------------


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def function(space: CategoricalSpace, kind: str, *, seed: int = 0) -> Function:
    """A fixed f of a class of CLASSES: `sum_r prod_i h_ri(x_i)`, whose h sets the class."""
    generator = seeded(seed)
    a, b = (torch.randn(3, space.width, generator=generator, dtype=torch.float64) for _ in "ab")
    power = {"linear": 0, "multilinear": 0, "quadratic": 2, "cubic": 3}[kind]

    def inner(rows: Tensor, weights: Tensor) -> Tensor:
        terms = rows.unsqueeze(-2) * weights.to(rows.dtype)  # (..., 3, D)
        return torch.stack([part.sum(-1) for part in space.split(terms)], -1)  # (..., 3, F)

    def f(rows: Tensor) -> Tensor:
        h = inner(rows, a)
        if power:
            h = h + 0.5 * inner(rows, b) ** power
        return (h.sum(-1) if kind == "linear" else h.prod(-1)).sum(-1)

    return f


class Net(nn.Module):
    """A network with parameters and buffers, in evaluation mode."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__()
        with isolated_seed(0):
            self.first = nn.Linear(space.width, 8).double()
            self.norm = nn.BatchNorm1d(8).double()
            self.last = nn.Linear(8, 1).double()
        self.eval()

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.first(rows.flatten(0, -2)).tanh()
        return self.last(self.norm(hidden)).view(rows.shape[:-1])


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

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "uniform_like", uniform_like)
        yield


@contextmanager
def given_gumbel(space: CategoricalSpace, logits: Tensor, gumbel: Tensor) -> Iterator[None]:
    """Gumbel noise `(N, *batch, D)` for logits `(*batch, D)`; every draw is its argmax."""

    def gumbel_like(logits: Tensor, *, generator: object) -> Tensor:
        assert gumbel.shape == logits.shape
        return gumbel

    with pytest.MonkeyPatch.context() as patch, given_codes(space.argmax(logits + gumbel)):
        patch.setattr(gumbel_softmax, "gumbel_like", gumbel_like)
        yield


def gumbel_noise(case: Case, logits: Tensor, *, seed: int = 0) -> Tensor:
    shape = (case.samples, *logits.shape)
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
    with given_gumbel(space, logits.detach(), gumbel):
        return value_and_gradient(case.estimator(space), f, logits)


def rows_seen(case: Case, space: CategoricalSpace, logits: Tensor, seed: int = 0) -> Tensor:
    """What f is given, `(samples, *batch, D)`."""
    seen = []

    def f(rows: Tensor) -> Tensor:
        seen.append(rows.detach())
        return rows.sum(-1)

    case.estimator(space).expectation(f, logits, generator=seeded(seed))
    (rows,) = seen
    return rows


def truth(space: CategoricalSpace, logits: Tensor, f: Function) -> tuple[Tensor, Tensor]:
    """E[f] and its gradient `(D,)`, from the definition."""
    leaf = logits.detach().clone().requires_grad_()
    rows = space.one_hot(space.enumerate(), dtype=logits.dtype)
    p = torch.where(rows == 1, space.softmax(leaf), 1).prod(-1)
    value = p @ f(rows)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def expected(
    case: Case, space: CategoricalSpace, logits: Tensor, f: Function
) -> tuple[Tensor, Tensor]:
    """Exact expectation of value and gradient: the sum over every tuple of drawn rows."""
    rows = space.enumerate()
    p = space.log_prob(logits, rows).exp()
    rows, p = rows[p > 0], p[p > 0]
    tuples = torch.cartesian_prod(*[torch.arange(len(p))] * case.samples).view(-1, case.samples)
    weights = p[tuples].prod(-1)
    with given_codes(rows[tuples].transpose(0, 1)):
        repeated = logits.expand(len(weights), -1)
        value, gradient = value_and_gradient(case.estimator(space), f, repeated)
    return weights @ value, weights @ gradient


def claims(exact_on: str, kind: str) -> bool:
    order = ("nothing", *CLASSES[1:-1], "everything")
    return order.index(exact_on) >= min(CLASSES.index(kind), 3) and exact_on != "nothing"


# --- 1. forward -----------------------------------------------------------------------------------


def check_rows(case: Case, dtype: torch.dtype) -> None:
    """Rows have dtype and shape of the logits; hard ones are bitwise one-hot; none is masked."""
    logits = RAGGED_LOGITS.to(dtype).expand(200, 2, -1)
    rows = rows_seen(case, RAGGED, logits)
    assert rows.dtype == dtype
    assert rows.shape[1:] == logits.shape
    sums = torch.stack([part.double().sum(-1) for part in RAGGED.split(rows)], -1)
    if case.forward == "soft":
        assert ((rows >= 0) & (rows <= 1)).all()
        assert_close(sums, torch.ones_like(sums), rtol=0, atol=0.02)
    else:
        assert ((rows == 0) | (rows == 1)).all()
        assert (sums == 1).all()
    if case.forward != "all":
        assert (rows[..., 7] == 0).all()


def check_rows_hide_the_surrogate(case: Case) -> None:
    """The forward row is one-hot whatever the size of the surrogate behind it."""
    for scale in (5, 1e3):
        logits = random_logits(RAGGED, (500,), scale=scale).float()
        rows = rows_seen(case, RAGGED, logits)
        if case.forward != "soft":
            assert ((rows == 0) | (rows == 1)).all()


def check_law(case: Case, dtype: torch.dtype) -> None:
    """The declared law, jointly over the features, for few and for many categories."""
    if case.forward == "all":
        return
    few, many = (RAGGED, RAGGED_LOGITS), (CategoricalSpace({"x": 200}), torch.zeros(200))
    for space, logits in (few, many):
        logits = logits.to(dtype)
        rows = rows_seen(case, space, logits.expand(20_000 // case.samples, -1)).flatten(0, 1)
        if case.forward == "argmax":
            assert (space.argmax(rows) == space.argmax(logits)).all()
        elif case.deterministic and case.forward == "soft":
            assert (rows == rows[0]).all()
        else:
            assert_law(space, logits, space.argmax(rows))


# --- 2. sums, shifts, masks -----------------------------------------------------------------------


def check_gradient_is_on_the_simplex(case: Case) -> None:
    """Sums to 0 in each feature, is exactly 0 where masked or K = 1, ignores shifts."""
    logits = RAGGED_LOGITS.expand(20, -1)
    gumbel, f = gumbel_noise(case, logits), function(RAGGED, "cubic")
    value, gradient = given_noise(case, RAGGED, f, logits, gumbel)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 1e-3
    for part in RAGGED.split(gradient):
        assert_close(part.sum(-1), torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (gradient[:, 7] == 0).all()
    assert (gradient[:, 2] == 0).all()
    shift = torch.repeat_interleave(
        torch.tensor([3.0, -7.0, 0.5, 11.0]), torch.tensor(RAGGED.sizes)
    )
    shifted_value, shifted = given_noise(case, RAGGED, f, logits + shift, gumbel)
    assert_close(shifted_value, value, rtol=1e-9, atol=1e-9)
    assert_close(shifted, gradient, rtol=1e-9, atol=1e-9)


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
    order = ("multilinear", "quadratic", "cubic")
    if case.exact_on not in order:
        return
    kind = order[order.index(case.exact_on) + 1]
    f = function(TINY, kind)
    difference = expected(case, TINY, TINY_LOGITS, f)[1] - truth(TINY, TINY_LOGITS, f)[1]
    assert difference.abs().max() > 1e-2


def check_unbiased_for_a_black_box(case: Case) -> None:
    """No df/dx, any table of values: the expected gradient is the true one."""
    table = torch.randn(TINY.num_rows, generator=seeded(), dtype=torch.float64)
    f = base.on_codes(TINY, lambda codes: table[codes[..., 0] * 3 + codes[..., 1]])
    value, gradient = expected(case, TINY, TINY_LOGITS, f)
    true_value, true_gradient = truth(TINY, TINY_LOGITS, f)
    assert_close(value, true_value, rtol=0, atol=1e-12)
    assert_close(gradient, true_gradient, rtol=0, atol=1e-12)


# --- 6. metamorphic -------------------------------------------------------------------------------


def check_permuted_categories(case: Case) -> None:
    """Renaming the categories of each feature permutes the gradient."""
    order = torch.tensor([1, 0, 2, 5, 3, 4, 8, 6, 7])  # new column -> old column
    logits, f = RAGGED_LOGITS.expand(20, -1), function(RAGGED, "cubic")
    gumbel = gumbel_noise(case, logits)
    value, gradient = given_noise(case, RAGGED, f, logits, gumbel)
    back = order.argsort()
    new_value, new_gradient = given_noise(
        case, RAGGED, lambda rows: f(rows[..., back]), logits[..., order], gumbel[..., order]
    )
    assert_close(new_value, value)
    assert_close(new_gradient, gradient[..., order])


def check_permuted_features(case: Case) -> None:
    """The order of the features does not matter."""
    order = torch.tensor([3, 4, 5, 6, 7, 8, 2, 0, 1])  # b, c, one, a
    space = CategoricalSpace({"b": 3, "c": 3, "one": 1, "a": 2})
    logits, f = RAGGED_LOGITS.expand(20, -1), function(RAGGED, "cubic")
    gumbel = gumbel_noise(case, logits)
    value, gradient = given_noise(case, RAGGED, f, logits, gumbel)
    back = order.argsort()
    new_value, new_gradient = given_noise(
        case, space, lambda rows: f(rows[..., back]), logits[..., order], gumbel[..., order]
    )
    assert_close(new_value, value)
    assert_close(new_gradient, gradient[..., order])


def check_padding_counts_for_nothing(case: Case) -> None:
    """Ragged features = equal sizes, the surplus masked: same gradient, 0 in the padding."""
    space = CategoricalSpace({"a": 4, "one": 4, "b": 4, "c": 4})
    columns = torch.tensor([0, 1, 4, 8, 9, 10, 12, 13, 14])
    logits, f = RAGGED_LOGITS.expand(20, -1), function(RAGGED, "cubic")
    gumbel = gumbel_noise(case, logits)
    value, gradient = given_noise(case, RAGGED, f, logits, gumbel)
    padded = torch.full((20, 16), -INF, dtype=torch.float64).index_copy(-1, columns, logits)
    noise = torch.zeros(case.samples, 20, 16, dtype=torch.float64)
    new_value, new_gradient = given_noise(
        case,
        space,
        lambda rows: f(rows[..., columns]),
        padded,
        noise.index_copy(-1, columns, gumbel),
    )
    assert_close(new_value, value)
    assert_close(new_gradient[..., columns], gradient)
    assert (new_gradient.index_fill(-1, columns, 0) == 0).all()


def check_features_are_independent(case: Case) -> None:
    """For an f of one feature alone: the gradient of that feature on its own."""
    logits = RAGGED_LOGITS.expand(20, -1)
    gumbel = gumbel_noise(case, logits)
    edges = (*RAGGED.offsets, RAGGED.width)
    for i, name in enumerate(RAGGED.names):
        part = slice(edges[i], edges[i + 1])
        space = CategoricalSpace({name: RAGGED.sizes[i]})
        f = function(space, "cubic")
        value, gradient = given_noise(
            case, RAGGED, lambda rows, f=f, part=part: f(rows[..., part]), logits, gumbel
        )
        own_value, own = given_noise(case, space, f, logits[..., part], gumbel[..., part])
        assert_close(value, own_value)
        assert_close(gradient[..., part], own)


def check_batch_splits(case: Case) -> None:
    """An element's result does not depend on what else is in the batch."""
    logits = random_logits(RAGGED, (2, 3), masked=True)
    gumbel, f = gumbel_noise(case, logits), function(RAGGED, "cubic")
    value, gradient = given_noise(case, RAGGED, f, logits, gumbel)
    for i, j in ((0, 0), (0, 2), (1, 1)):
        alone = given_noise(case, RAGGED, f, logits[i, j], gumbel[:, i, j])
        assert_close(alone[0], value[i, j])
        assert_close(alone[1], gradient[i, j])


def check_affine_in_f(case: Case) -> None:
    """Value and gradient of 3 f - 2 h are 3 times those of f less 2 times those of h."""
    logits = RAGGED_LOGITS.expand(20, -1)
    gumbel = gumbel_noise(case, logits)
    f, h = function(RAGGED, "cubic"), function(RAGGED, "quadratic", seed=1)
    both = given_noise(case, RAGGED, lambda rows: 3 * f(rows) - 2 * h(rows), logits, gumbel)
    parts = [given_noise(case, RAGGED, function, logits, gumbel) for function in (f, h)]
    for mine, of_f, of_h in zip(both, *parts, strict=True):
        assert_close(mine, 3 * of_f - 2 * of_h, rtol=1e-9, atol=1e-9)


# --- 7. formulas ----------------------------------------------------------------------------------


def check_formula(case: Case) -> None:
    """The gradient given the noise is the published formula, written with explicit matrices."""
    for space, masked in ((TINY, False), (RAGGED, True)):
        logits = random_logits(space, (10,), scale=2, masked=masked)
        gumbel, f = gumbel_noise(case, logits), function(space, "cubic")
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


def check_generator(case: Case) -> None:
    """The generator's state decides the result bitwise; the global state stays."""
    logits, f = random_logits(RAGGED, (30,), masked=True), function(RAGGED, "cubic")
    estimator, before = case.estimator(RAGGED), torch.get_rng_state()
    generator = seeded(1)
    first = value_and_gradient(estimator, f, logits, generator=generator)
    again = value_and_gradient(estimator, f, logits, generator=seeded(1))
    other = value_and_gradient(estimator, f, logits, generator=seeded(2))
    later = value_and_gradient(estimator, f, logits, generator=generator)
    assert torch.equal(before, torch.get_rng_state())
    for mine, same, *different in zip(first, again, other, later, strict=True):
        assert torch.equal(mine, same)
        assert all(torch.equal(mine, theirs) == case.deterministic for theirs in different)
    if case.deterministic:
        assert torch.equal(generator.get_state(), seeded(1).get_state())


def check_layer_takes_a_generator(case: Case) -> None:
    """As a layer too, and without one the global state decides."""
    layer, logits = case.estimator(RAGGED), random_logits(RAGGED, (30,), masked=True)
    assert torch.equal(layer(logits, generator=seeded(1)), layer(logits, generator=seeded(1)))
    with isolated_seed(1):
        first = layer(logits)
    with isolated_seed(1):
        assert torch.equal(first, layer(logits))


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


def check_vmap_draws(case: Case) -> None:
    """Under vmap every element has its own noise."""
    estimator = case.estimator(RAGGED)

    def one(leaf: Tensor) -> Tensor:
        return estimator.expectation(lambda rows: (rows * torch.arange(9)).sum(-1), leaf)

    values = torch.func.vmap(one, randomness="different")(RAGGED_LOGITS.expand(50, -1))
    assert values.isfinite().all()
    assert (len(values.unique()) == 1) == case.deterministic


def check_compile(case: Case, *, backend: str = "aot_eager") -> None:
    """One graph, the same numbers as eager for the same noise, forward and backward."""
    logits, f = random_logits(RAGGED, (5,), masked=True), function(RAGGED, "cubic")
    estimator = case.estimator(RAGGED)
    torch.compiler.reset()
    compiled = torch.compile(estimator.expectation, backend=backend, fullgraph=True)
    results = []
    for expectation in (estimator.expectation, compiled):
        leaf = logits.clone().requires_grad_()
        with isolated_seed(4):
            value = expectation(f, leaf)
        results.append((value.detach(), *torch.autograd.grad(value.sum(), leaf)))
    for mine, expected in zip(*results, strict=True):
        assert_close(mine, expected, rtol=1e-12, atol=1e-12)


def check_export(case: Case) -> None:
    """A layer exports to one program that gives the same rows for the same noise."""
    logits = random_logits(RAGGED, (5,)).float()
    for layer in (case.estimator(RAGGED), case.estimator()):
        program = torch.export.export(layer, (logits,)).module()
        with isolated_seed(4):
            expected = layer(logits)
        with isolated_seed(4):
            assert torch.equal(program(logits), expected)


# --- 9. numerics ----------------------------------------------------------------------------------


def check_finite(case: Case, dtype: torch.dtype) -> None:
    """Finite value and gradient up to |logits| = 1e4, with masks, on any layout."""
    patterns = torch.tensor(
        [
            [1e4] * 9,
            [-1e4] * 9,
            [1e4, -1e4, 1e4, -1e4, 0.0, 1e4, 1e4, -1e4, -1e4],
            [-1e4, 1e4, -1e4, 1e4, -1e4, 1e4, -1e4, 0.0, 1e4],
            [-INF, -1e4, 0.0, -INF, 1e4, -INF, -1e4, -INF, 1e4],
            [0.0, -INF, -1e4, 1e4, 1e4, -INF, -INF, -INF, 0.0],
            [5.0, -5.0, 0.0, 90.0, -90.0, 0.0, 11.0, 12.0, 13.0],
        ],
        dtype=dtype,
    )
    for logits in (patterns, patterns.t().contiguous().t()):
        assert rows_seen(case, RAGGED, logits).isfinite().all()
        value, gradient = value_and_gradient(
            case.estimator(RAGGED), function(RAGGED, "cubic"), logits, generator=seeded()
        )
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert (gradient[logits == -INF] == 0).all()


def check_precision(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    """Half precision gives the float64 result up to its rounding."""
    logits = random_logits(RAGGED, (20,), masked=True).to(dtype)
    gumbel, f = gumbel_noise(case, logits), function(RAGGED, "quadratic")
    value, gradient = given_noise(case, RAGGED, f, logits, gumbel.to(torch.float32))
    true_value, true_gradient = given_noise(case, RAGGED, f, logits.double(), gumbel)
    assert gradient.dtype == dtype
    assert_close(value.double(), true_value, rtol=tolerance, atol=tolerance)
    assert_close(gradient.double(), true_gradient, rtol=tolerance, atol=tolerance)


def check_empty_batch(case: Case) -> None:
    """No rows in, no rows out."""
    f = function(RAGGED, "cubic")
    for shape in ((0,), (3, 0), (0, 3)):
        logits = torch.zeros(*shape, 9)
        value, gradient = value_and_gradient(case.estimator(RAGGED), f, logits)
        assert value.shape == shape
        assert gradient.shape == logits.shape


def check_layout(case: Case) -> None:
    """The strides of the logits change nothing, and the logits are not changed."""
    logits, f = random_logits(RAGGED, (5, 4), masked=True), function(RAGGED, "cubic")
    before = logits.clone()
    value, gradient = value_and_gradient(case.estimator(RAGGED), f, logits, generator=seeded())
    assert torch.equal(logits, before)
    leaf = logits.permute(2, 0, 1).contiguous().requires_grad_()
    strided = leaf.permute(1, 2, 0)
    assert not strided.is_contiguous()
    result = case.estimator(RAGGED).expectation(f, strided, generator=seeded())
    assert torch.equal(result, value)
    assert torch.equal(torch.autograd.grad(result.sum(), leaf)[0].permute(1, 2, 0), gradient)


# --- 10. the estimator behind f -------------------------------------------------------------------


def check_frozen_f(case: Case) -> None:
    """A frozen network stays as it is, and the gradient passes through it."""
    net = Net(RAGGED).requires_grad_(False)
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    logits = random_logits(RAGGED, (30,)).requires_grad_()
    case.estimator(RAGGED).expectation(net, logits, generator=seeded()).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() > 1e-4
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())


def check_f_learns_too(case: Case) -> None:
    """A network that is not frozen gets the gradient of its own mean over the same rows."""
    net, logits = Net(RAGGED), random_logits(RAGGED, (30,)).requires_grad_()
    parameters = list(net.parameters())
    value = case.estimator(RAGGED).expectation(net, logits, generator=seeded()).sum()
    mine = torch.autograd.grad(value, parameters)
    rows = rows_seen(case, RAGGED, logits.detach())
    weights = torch.full((len(rows), 30), 1 / len(rows), dtype=torch.float64)
    if case.forward == "all":
        weights = RAGGED.log_prob(logits.detach(), RAGGED.argmax(rows)).exp()
    expected = torch.autograd.grad((weights * net(rows)).sum(), parameters)
    for ours, theirs in zip(mine, expected, strict=True):
        assert_close(ours, theirs)


def check_layer_is_the_expectation(case: Case) -> None:
    """`f(layer(logits))` is the expectation with one sample, for the same noise."""
    layer, f = case.make(RAGGED, samples=1), function(RAGGED, "cubic")
    assert isinstance(layer, Relaxation)
    logits = random_logits(RAGGED, (5,))
    leaf = logits.clone().requires_grad_()
    value = f(layer(leaf, generator=seeded()))
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    expected = value_and_gradient(layer, f, logits, generator=seeded())
    assert torch.equal(value.detach(), expected[0])
    assert_close(gradient, expected[1])
