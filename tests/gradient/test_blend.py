"""The weights of Blend: what they are learned from, and what they may not touch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from discrete_grad import (
    Blend,
    CategoricalSpace,
    Darn,
    DoubleControlVariate,
    GradientEstimator,
    LeaveOneOut,
    Softmax,
    StraightThrough,
    on_codes,
)
from discrete_grad.gradient import _blend_parts, _blend_weights, blend
from discrete_grad.gradient._blend_parts import NAMES, UNBIASED, Parts, gradients, spreads
from discrete_grad.gradient._blend_weights import (
    QUADRATIC,
    UNIT,
    _limit,
    _shrunk,
    best_weights,
    common_weights,
)
from discrete_grad.testing import exact_gradient
from discrete_grad.training.distributed import rank
from tests.gradient import contract
from tests.gradient.cases import Function, derivative, jacobian, softmax
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function
from tests.strategies import random_logits
from tests.two_processes import in_two_processes

COUNT = len(NAMES)
CUBIC = function(TINY, "cubic")
TWINS: dict[str, Callable[..., GradientEstimator]] = {
    "leave_one_out": LeaveOneOut,
    "double_control_variate": DoubleControlVariate,
    "straight_through": StraightThrough,
    "darn": Darn,
    "mean_field": Softmax,
}


def with_weights(weights: Tensor, *, samples: int = 2, space: CategoricalSpace = TINY) -> Blend:
    method = Blend(space, samples=samples).eval()
    method.weight.copy_(weights)
    return method


def only(name: str, *, samples: int = 2, space: CategoricalSpace = TINY) -> Blend:
    weights = torch.tensor([float(other == name) for other in NAMES])
    return with_weights(weights, samples=samples, space=space)


def tuples(samples: int) -> tuple[Tensor, Tensor]:
    """Codes `(samples, n, F)` of every tuple of rows of TINY, and their probabilities `(n,)`."""
    rows = TINY.enumerate()
    places = torch.cartesian_prod(*[torch.arange(len(rows))] * samples)
    p = TINY.log_prob(TINY_LOGITS, rows).exp()
    return rows[places].transpose(0, 1), p[places].prod(-1)


def of_every_tuple(method: GradientEstimator, f: Function, samples: int) -> tuple[Tensor, Tensor]:
    """The gradient `(n, D)` of every tuple, and the probabilities `(n,)`."""
    codes, p = tuples(samples)
    with contract.given_codes(codes):
        return contract.value_and_gradient(method, f, TINY_LOGITS.expand(len(p), -1))[1], p


def trained(samples: int = 4, calls: int = 10, f: Function = CUBIC) -> Blend:
    method = Blend(TINY, averaged=1, samples=samples)
    for seed in range(calls):
        logits = TINY_LOGITS.expand(8, -1)
        method.expectation(f, logits, generator=contract.seeded(seed))
    return method


# --- the components -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TWINS)
def test_a_component_is_the_gradient_estimator_of_its_name(name: str) -> None:
    f, logits = function(RAGGED, "cubic"), random_logits(RAGGED, (20,), masked=True)
    twin, mine = TWINS[name](RAGGED, samples=3), only(name, samples=3, space=RAGGED)
    expected = contract.value_and_gradient(twin, f, logits, generator=contract.seeded())[1]
    found = contract.value_and_gradient(mine, f, logits, generator=contract.seeded())[1]
    assert_close(found, expected, rtol=0, atol=1e-13)


def corrected(values: Tensor, scores: Tensor) -> Tensor:
    n = len(values)
    baselines = torch.stack([(values.sum() - value) / (n - 1) for value in values])
    return (values - baselines) @ scores / n


def test_the_other_components_are_their_formulas() -> None:
    codes = torch.tensor([[0, 1], [1, 2], [1, 0]])
    hard, pi = TINY.one_hot(codes, dtype=torch.float64), softmax(TINY, TINY_LOGITS)
    scores, f = hard - pi, CUBIC
    g, g0 = derivative(f, hard), derivative(f, pi)
    mean_field = corrected(f(hard) - scores @ g0, scores) + jacobian(TINY, pi) @ g0
    own = corrected(f(hard) - (scores * g).sum(-1), scores)
    for part in (slice(0, 2), slice(2, 5)):
        own[part] += ((g * scores)[:, part].sum(-1, keepdim=True) * scores[:, part]).mean(0)
    for name, expected in (("mean_field_control_variate", mean_field), ("own_slopes", own)):
        with contract.given_codes(codes):
            found = contract.value_and_gradient(only(name, samples=3), f, TINY_LOGITS)[1]
        assert_close(found, expected, rtol=0, atol=1e-13)


def check_bias_of_fixed_weights() -> None:
    """That of the linear combination, component by component, by enumeration."""
    truth = exact_gradient(CUBIC, TINY_LOGITS, TINY)
    weights = torch.tensor([0.5, -0.3, 0.2, 0.4, -0.1, 0.1, 0.2], dtype=torch.float64)
    combined, p = of_every_tuple(with_weights(weights), CUBIC, 2)
    biases = []
    for name in NAMES:
        gradient, _ = of_every_tuple(only(name), CUBIC, 2)
        biases.append(p @ gradient - truth)
    largest = torch.stack(biases).abs().amax(-1)
    assert (largest[:UNBIASED] < 1e-12).all()
    assert (largest[UNBIASED:] > 1e-2).all()
    assert_close(p @ combined - truth, weights @ torch.stack(biases), rtol=0, atol=1e-12)


def test_bias_of_fixed_weights() -> None:
    check_bias_of_fixed_weights()


def quadratic(rows: Tensor) -> Tensor:
    matrix = torch.randn(5, 5, generator=contract.seeded(), dtype=torch.float64)
    return ((rows @ matrix) * rows).sum(-1)


def test_own_slopes_are_exact_on_quadratic_functions() -> None:
    gradient, p = of_every_tuple(only("own_slopes"), quadratic, 2)
    assert_close(p @ gradient, exact_gradient(quadratic, TINY_LOGITS, TINY), rtol=0, atol=1e-12)


def test_biases_on_quadratic_functions_are_multiples_of_one() -> None:
    truth = exact_gradient(quadratic, TINY_LOGITS, TINY)
    biases = []
    for name in NAMES:
        gradient, p = of_every_tuple(only(name), quadratic, 2)
        biases.append(p @ gradient - truth)
    one = biases[NAMES.index("straight_through")]
    assert one.norm() > 0.01 * truth.norm()
    expected = torch.tensor(QUADRATIC, dtype=torch.float64).unsqueeze(-1) * one
    assert_close(torch.stack(biases), expected, rtol=0, atol=1e-12)
    difference = torch.tensor(UNIT, dtype=torch.float64) @ torch.stack(biases)
    assert_close(difference, one, rtol=0, atol=1e-12)


# --- what a call tells ----------------------------------------------------------------------------


def check_measured_covariance(samples: int = 5) -> None:
    """On average that of the components: exactly for plain means, else nearly."""
    codes, p = tuples(samples)
    hard = TINY.one_hot(codes, dtype=torch.float64)
    logits = TINY_LOGITS.expand(len(p), -1)
    slopes, pi = derivative(CUBIC, hard), TINY.softmax(logits)
    parts = gradients(TINY, logits, hard, CUBIC(hard), slopes, derivative(CUBIC, pi))
    root, components = p.sqrt().unsqueeze(-1), parts.components
    found, products = spreads(TINY, Parts(parts.terms * root, components * root))
    centred = components - torch.einsum("knd,n->kd", components, p).unsqueeze(1)
    differences = components - components[1]
    for i, block in enumerate((slice(0, 2), slice(2, 5))):
        expected = torch.einsum("knd,lnd,n->kl", *2 * [centred[..., block]], p)
        plain = [NAMES.index(name) for name in ("straight_through", "darn")]
        mine = found[i] / samples
        assert_close(mine[plain][:, plain], expected[plain][:, plain])
        assert_close(mine.diagonal(), expected.diagonal(), rtol=0.25, atol=1e-12)
        squares = torch.einsum("knd,lnd,n->kl", *2 * [differences[..., block]], p)
        assert_close(products[i], squares)


def test_measured_covariance() -> None:
    check_measured_covariance()


def measured(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A covariance and a bias `(3, 7, 7)`."""
    noise = torch.randn(3, COUNT, 2 * COUNT, generator=contract.seeded(seed), dtype=torch.float64)
    vectors = 3 * torch.randn(3, COUNT, 2, generator=contract.seeded(seed + 1)).double()
    vectors[:, :UNBIASED] = 0
    return noise @ noise.mT / (2 * COUNT), vectors @ vectors.mT


def check_least_error() -> None:
    """With everything known for sure no other weights that add up to 1 have a smaller error."""
    covariance, bias = measured()
    errors = covariance + bias
    weights = best_weights(covariance, bias, torch.tensor(1e12, dtype=torch.float64), 2, 1)
    assert_close(weights.sum(-1), torch.ones(3, dtype=torch.float64))
    ones = torch.ones(3, COUNT, dtype=torch.float64)
    best = torch.linalg.solve(errors, ones)
    best = best / best.sum(-1, keepdim=True)
    least, mine = (torch.einsum("fk,fkl,fl->f", w, errors, w) for w in (best, weights))
    assert (mine <= 1.001 * least).all()


def test_least_error() -> None:
    check_least_error()


def check_bias_within_noise_counts_for_nothing() -> None:
    covariance, bias = measured()
    elements = torch.tensor(200.0, dtype=torch.float64)
    none = best_weights(covariance, 0 * bias, elements, 9, 1)
    chance = best_weights(covariance, 1e-3 * bias, elements, 9, 1)
    sure = best_weights(covariance, 10 * bias, elements, 9, 1)
    assert_close(chance, none)
    assert (sure[:, UNBIASED:].abs().sum(-1) < 0.7 * none[:, UNBIASED:].abs().sum(-1)).all()


def test_bias_within_noise_counts_for_nothing() -> None:
    check_bias_within_noise_counts_for_nothing()


def test_an_average_over_the_batch_trusts_the_unbiased_more() -> None:
    covariance, bias = measured()
    elements = torch.tensor(1e6, dtype=torch.float64)
    alone, averaged = (best_weights(covariance, bias, elements, 9, n) for n in (1, 64))
    biases = [torch.einsum("fk,fkl,fl->", w, bias, w) for w in (alone, averaged)]
    assert biases[1] < 0.1 * biases[0]


def test_logits_of_shared_parameters_are_averaged() -> None:
    parameters = TINY_LOGITS.clone().requires_grad_()
    learned = []
    for shared in (False, True):
        method = Blend(TINY, averaged=1, samples=3)
        for seed in range(30):
            logits = parameters.expand(16, -1)
            logits = logits if shared else logits.detach()
            method.expectation(CUBIC, logits, generator=contract.seeded(seed))
        learned.append(sum(method.weights()[name] for name in NAMES[:UNBIASED]))
        assert torch.equal(method.weight[0], method.weight[1]) == shared  # of both features
    assert learned[1] > learned[0] + 0.1


def test_common_weights_hedge_against_a_bias_that_the_noise_may_hide() -> None:
    covariance, _ = measured()
    direction = torch.tensor(QUADRATIC, dtype=torch.float64)
    few, many = (
        common_weights(
            covariance, torch.zeros_like(covariance), torch.tensor(n).double(), 9, averaged=128
        )
        for n in (100.0, 1e12)
    )
    assert (few == few[0]).all()
    assert_close(few.sum(-1), torch.ones_like(few[:, 0]))
    assert (few @ direction).abs().max() < 0.1 * (many @ direction).abs().max()


@pytest.mark.parametrize(("averaged", "deviations"), [(1, 5.0), (4, 2.5), (64, 2.0)])
def test_a_bias_counts_from_fewer_standard_errors_on_where_more_is_averaged(
    averaged: int, deviations: float
) -> None:
    assert _limit(torch.tensor(8.0), averaged).item() == pytest.approx(deviations / 2)


def test_products_of_components_shrink_by_what_was_measured() -> None:
    covariance = torch.tensor([[[1.0, 0.5], [0.5, 2.0]]])
    for samples, share in ((2, 2 / 3), (3, 1 / 2), (9, 1 / 5)):
        expected = torch.tensor([[[1.0, 0.5 - 0.5 * share], [0.5 - 0.5 * share, 2.0]]])
        assert_close(_shrunk(covariance, torch.tensor(2.0), samples), expected)


def test_few_elements_have_the_weights_of_all_features() -> None:
    covariance, bias = measured()
    few, many = (
        best_weights(covariance, bias, torch.tensor(n, dtype=torch.float64), 9, 1)
        for n in (1.0, 1e9)
    )
    assert few.var(0).sum() < 0.2 * many.var(0).sum()


def test_a_feature_of_small_gradients_keeps_weights_of_its_own() -> None:
    covariance, bias = measured()
    covariance[0] *= 1e-6
    some, many = (
        best_weights(covariance, 0 * bias, torch.tensor(n, dtype=torch.float64), 9, 1)[0]
        for n in (160.0, 1e9)
    )
    assert (some - many).norm() < 0.3  # those of the other features are .5 away


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_weights_of_any_scale(scale: float) -> None:
    covariance, bias = measured()
    elements = torch.tensor(100.0, dtype=torch.float64)
    found = best_weights(scale * covariance, scale * bias, elements, 9, 1)
    expected = (
        best_weights(covariance, bias, elements, 9, 1) if scale else torch.full_like(found, 1 / 7)
    )
    assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_rows_that_are_all_alike_leave_the_weights_finite() -> None:
    # there is no noise, and the slopes there and at the soft row differ for sure
    zeros = torch.zeros(2, COUNT, COUNT, dtype=torch.float64)
    bias = zeros.clone()
    bias[:, -1, -1] = 1.0
    found = best_weights(zeros, bias, torch.tensor(8.0, dtype=torch.float64), 2, 1)
    assert_close(found.sum(-1), torch.ones(2, dtype=torch.float64))


# --- learning -------------------------------------------------------------------------------------


def test_the_weights_come_from_earlier_calls_alone() -> None:
    method = trained(calls=20)
    frozen, logits = copy.deepcopy(method).eval(), TINY_LOGITS.expand(6, -1)
    mine = contract.value_and_gradient(method, CUBIC, logits, generator=contract.seeded())
    expected = contract.value_and_gradient(frozen, CUBIC, logits, generator=contract.seeded())
    assert all(torch.equal(a, b) for a, b in zip(mine, expected, strict=True))
    assert not torch.equal(method.weight, frozen.weight)


def test_what_earlier_calls_measured_fades() -> None:
    """The sums of weights, whose squares fade twice as fast, say how many elements were seen."""
    method, alone, counts = Blend(TINY), Blend(TINY), [6, 2, 3]
    fading = [blend.DECAY**age for age in (2, 1, 0)]
    covariance = torch.zeros_like(method.covariance)
    for seed, (count, share) in enumerate(zip(counts, fading, strict=True)):
        alone.seen.zero_(), alone.covariance.zero_()
        for one in (method, alone):
            logits = TINY_LOGITS.expand(count, -1)
            contract.value_and_gradient(one, CUBIC, logits, generator=contract.seeded(seed))
        assert alone.seen.tolist() == [count, count]
        covariance += share * alone.covariance
    assert_close(method.covariance, covariance)
    sums = [sum(n * w**power for n, w in zip(counts, fading, strict=True)) for power in (1, 2)]
    assert method.seen.tolist() == pytest.approx(sums)


def test_a_second_call_knows_its_own_rows() -> None:
    # at even logits all but one of the components are exact here, and a little beside them none is
    space = CategoricalSpace.from_sizes((2,) * 40)
    logits = torch.zeros(80, dtype=torch.float64)
    moved = logits.clone()
    moved[1::2] = 0.05
    truth, method = exact_of_squares(moved), Blend(space, samples=64)
    contract.value_and_gradient(method, squares, logits, generator=contract.seeded())
    _, found = contract.value_and_gradient(method, squares, moved, generator=contract.seeded(1))
    assert (found - truth).norm() < 3 * truth.norm()


def squares(rows: Tensor) -> Tensor:
    """Sum of (x_i - .499)^2 over binary features, whose slopes at 0 and 1 have opposite signs."""
    return (rows[..., 1::2] - 0.499).square().sum(-1)


def exact_of_squares(logits: Tensor) -> Tensor:
    ones = logits.unflatten(-1, (-1, 2)).softmax(-1)[..., 1]
    slope = 0.002 * ones * (1 - ones)
    return torch.stack([-slope, slope], -1).flatten()


def test_learning_lowers_the_error() -> None:
    truth = exact_gradient(CUBIC, TINY_LOGITS, TINY)

    def error(method: Blend) -> float:
        gradient, p = of_every_tuple(method.eval(), CUBIC, 3)
        return (p @ (gradient - truth).square().sum(-1)).item()

    learned = error(trained(samples=3, calls=60))
    assert learned < 0.5 * error(Blend(TINY, samples=3))
    assert learned < min(error(only(name, samples=3)) for name in NAMES)


@pytest.mark.parametrize("kind", ["additive", "multilinear"])
def test_exact_where_the_mean_field_is(kind: str) -> None:
    f = function(RAGGED, kind)
    logits, method = RAGGED_LOGITS.expand(8, -1), Blend(RAGGED)
    for seed in range(20):
        method.expectation(f, logits, generator=contract.seeded(seed))
    _, gradient = contract.value_and_gradient(method, f, logits, generator=contract.seeded())
    truth = exact_gradient(f, RAGGED_LOGITS, RAGGED)
    assert ((gradient - truth).norm(dim=-1) < 1e-2 * truth.norm()).all()


def test_weights_learned_from_one_element_do_no_harm() -> None:
    # of three rows: what looks like two components whose errors cancel is chance
    space = CategoricalSpace.from_sizes((2, 3, 4, 5, 6))
    matrix = torch.randn(20, 16, generator=contract.seeded(), dtype=torch.float64)
    logits, sizes = torch.zeros(20, dtype=torch.float64), torch.zeros(2)
    for seed in range(30):
        method, noise = Blend(space, samples=3), contract.seeded(seed)
        for call in range(2):
            found = contract.value_and_gradient(
                method, lambda rows: (rows @ matrix).tanh().sum(-1), logits, generator=noise
            )
            sizes[call] += found[1].square().sum()
    assert sizes[1] < 2 * sizes[0]


def test_a_state_goes_on_bitwise() -> None:
    method, again = trained(), Blend(TINY, averaged=1, samples=4)
    again.load_state_dict(method.state_dict())
    for seed in range(3):
        logits = random_logits(TINY, (5,), generator=seed)
        pair = [
            contract.value_and_gradient(m, CUBIC, logits, generator=contract.seeded(seed))
            for m in (method, again)
        ]
        assert torch.equal(pair[0][1], pair[1][1])
    assert all(map(torch.equal, method.state_dict().values(), again.state_dict().values()))


def frozen_calls(method: Blend, logits: Tensor) -> dict[str, Callable[[], object]]:
    f = function(TINY, "cubic")
    mapped = torch.func.vmap(partial(method.expectation, f), randomness="different")
    return {
        "evaluation mode": lambda: copy.copy(method).eval().expectation(f, logits),
        "vmap": lambda: mapped(logits),
        "grad": lambda: torch.func.grad(lambda x: method.expectation(f, x).sum())(logits),
        "grad of f": lambda: torch.func.grad(
            lambda scale: method.expectation(lambda rows: f(rows) * scale, logits).sum()
        )(torch.ones(())),
        "an empty batch": lambda: method.expectation(f, logits[:0]),
        "no number": lambda: method.expectation(lambda rows: f(rows) * torch.nan, logits),
    }


@pytest.mark.parametrize("call", frozen_calls(Blend(), torch.zeros(1, 5)))
def test_nothing_is_learned_in(call: str) -> None:
    method = trained()
    before = copy.deepcopy(method.state_dict())
    frozen_calls(method, random_logits(TINY, (4,)))[call]()
    assert all(map(torch.equal, method.state_dict().values(), before.values()))


def test_activation_checkpointing_is_refused() -> None:
    method, logits = Blend(TINY), TINY_LOGITS.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="outside what is checkpointed"):
        # the slopes of the rows already make it compute again
        checkpoint(lambda x: method.expectation(CUBIC, x), logits, use_reentrant=False)


def learned(batch: slice) -> list[Tensor]:
    """What one call on some elements of a batch of two, of three samples each, leaves behind."""
    codes, logits = TINY.enumerate().unflatten(0, (3, 2)), TINY_LOGITS.expand(2, -1)
    method = Blend(TINY, samples=3)
    with contract.given_codes(codes[:, batch]):
        method.expectation(CUBIC, logits[batch])
    return list(method.buffers())


def learn_one_element() -> None:
    torch.save(learned(slice(rank(), rank() + 1)), f"buffers-{rank()}.pt")


@pytest.mark.slow
def test_processes_learn_from_the_rows_of_all(tmp_path: Path) -> None:
    in_two_processes(tmp_path, learn_one_element)
    for place in (0, 1):
        found = torch.load(tmp_path / f"buffers-{place}.pt")
        for mine, expected in zip(found, learned(slice(None)), strict=True):
            assert_close(mine, expected)


# --- an f without a derivative --------------------------------------------------------------------


def test_without_a_derivative_it_is_leave_one_out() -> None:
    calls = []

    def stepped(rows: Tensor) -> Tensor:
        calls.append(len(rows))
        return CUBIC(rows).detach()

    box = on_codes(TINY, lambda codes: codes.sum(-1).double())
    logits = random_logits(TINY, (6,))
    for f in (box, stepped):
        method, twin = trained(), LeaveOneOut(TINY, samples=4)
        state = copy.deepcopy(method.weight)
        mine = contract.value_and_gradient(method, f, logits, generator=contract.seeded())
        expected = contract.value_and_gradient(twin, f, logits, generator=contract.seeded())
        assert_close(mine, expected, rtol=0, atol=1e-14)
        assert method.weights() == {name: float(name == "leave_one_out") for name in NAMES}
        assert torch.equal(method.weight, state)
        method.expectation(CUBIC, logits)
        assert method.weights()["leave_one_out"] != 1
    assert calls == [4, 4]  # once by each method


def test_an_error_of_f_is_not_taken_for_a_missing_derivative() -> None:
    def broken(rows: Tensor) -> Tensor:
        raise ValueError("of f's own")

    with pytest.raises(ValueError, match="of f's own"):
        Blend(TINY).expectation(broken, TINY_LOGITS)


@pytest.mark.parametrize("averaged", [0, 1.5, True])
def test_averaged_is_a_number_of_calls(averaged: object) -> None:
    with pytest.raises(ValueError, match="averaged must be an integer >= 1"):
        Blend(TINY, averaged=averaged)  # type: ignore[arg-type]


def test_more_calls_averaged_trust_the_unbiased_more() -> None:
    learned = []
    for averaged in (1, 64):
        method = Blend(TINY, averaged=averaged, samples=3)
        for seed in range(30):
            method.expectation(CUBIC, TINY_LOGITS.expand(16, -1), generator=contract.seeded(seed))
        learned.append(sum(method.weights()[name] for name in NAMES[:UNBIASED]))
    assert learned[1] > learned[0] + 0.1


def test_weights_by_name_add_up_to_one() -> None:
    assert set(Blend(TINY).weights()) == set(NAMES)
    assert sum(trained().weights().values()) == pytest.approx(1)


# --- planted bugs ---------------------------------------------------------------------------------


def no_baseline(values: Tensor) -> Tensor:
    return values - values.mean(0)


def over_n(space: object, parts: Parts) -> tuple[Tensor, Tensor]:
    covariance, products = _blend_parts.spreads(space, parts)  # type: ignore[arg-type]
    return covariance * (1 - 1 / parts.terms.shape[1]), products


def weights_of_the_other_feature(space: object, parts: object, weights: Tensor) -> Tensor:
    return _blend_parts.weighted_sum(space, parts, weights.flip(-1))  # type: ignore[arg-type]


def every_bias_counts(bias: Tensor, noise: Tensor, limit: Tensor) -> Tensor:
    return bias


def no_bias_counts(bias: Tensor, noise: Tensor, limit: Tensor) -> Tensor:
    return 0 * bias


def equal_weights(errors: Tensor) -> Tensor:
    return torch.full_like(errors[..., 0], 1 / errors.shape[-1])


MUTANTS = [
    (_blend_parts, "less_the_others", no_baseline, check_bias_of_fixed_weights),
    (blend, "weighted_sum", weights_of_the_other_feature, check_bias_of_fixed_weights),
    (_blend_weights, "_sure", every_bias_counts, check_bias_within_noise_counts_for_nothing),
    (_blend_weights, "_sure", no_bias_counts, check_bias_within_noise_counts_for_nothing),
    (_blend_weights, "_sure", no_bias_counts, check_least_error),
    (_blend_weights, "_least", equal_weights, check_least_error),
]


@pytest.mark.parametrize(("module", "name", "bug", "check"), MUTANTS)
def test_a_planted_bug_is_caught(
    module: object,
    name: str,
    bug: Callable[..., Tensor],
    check: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, name, bug)
    with pytest.raises(AssertionError):
        check()


def test_a_covariance_over_n_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "spreads", over_n)
    with pytest.raises(AssertionError):
        check_measured_covariance()
