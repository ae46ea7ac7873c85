"""I-MLE, fixed and adaptive: sign, size and limits of the finite difference."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import IMLE, AdaptiveIMLE, CategoricalSpace
from discrete_grad.gradient.imle import _relative_step, _target_difference
from tests.gradient import contract
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, function

SIGMAS = 6.5  # a normal variable is that far out with a chance of 8e-11
FOUR = CategoricalSpace({"x": 4})
LOGITS = torch.tensor([0.5, -0.3, 0.1, -math.inf], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 9.0], dtype=torch.float64)


def linear_gradients(estimator: IMLE | AdaptiveIMLE, count: int = 200_000) -> Tensor:
    """Gradients `(count, 4)` of the linear function WEIGHTS, one draw each."""
    logits = LOGITS.expand(count, -1)
    generator = contract.seeded()
    return contract.value_and_gradient(
        estimator, lambda rows: rows @ WEIGHTS, logits, generator=generator
    )[1]


@pytest.mark.parametrize("step", [0.3, 2.0, 10.0])
def test_on_a_linear_function_its_mean_is_the_finite_difference_of_the_softmax(step: float) -> None:
    gradient = linear_gradients(IMLE(FOUR, step=step))
    moved = (LOGITS - step * WEIGHTS).softmax(-1)
    error = gradient.std(0) / math.sqrt(len(gradient))
    difference = (gradient.mean(0) - (LOGITS.softmax(-1) - moved) / step).abs()
    assert (difference <= SIGMAS * error).all()
    assert error.max() < 1e-2


def test_its_sign_is_that_of_the_gradient_and_its_limit_the_gradient_itself() -> None:
    _, true_gradient = contract.truth(FOUR, LOGITS, lambda rows: rows @ WEIGHTS)
    distance = []
    for step in (10.0, 1.0, 0.1, 0.01):  # the mean of the estimate, exactly, by the test above
        mean = (LOGITS.softmax(-1) - (LOGITS - step * WEIGHTS).softmax(-1)) / step
        assert (mean[:3].sign() == true_gradient[:3].sign()).all()
        distance.append((mean - true_gradient).abs().max().item())
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 1e-2


def test_where_nothing_flips_there_is_no_gradient() -> None:
    perturbed = torch.tensor([2.0, 1.0, 0.0, -math.inf], dtype=torch.float64)
    g = torch.tensor([1.0, 0.0, 0.0, -5.0], dtype=torch.float64)
    assert (_target_difference(FOUR, perturbed, g, 0.9) == 0).all()
    expected = torch.tensor([1.0, -1.0, 0.0, 0.0], dtype=torch.float64) / 1.1
    assert_close(_target_difference(FOUR, perturbed, g, 1.1), expected)
    assert (_target_difference(FOUR, perturbed, -g, 10.0) == 0).all()  # the best already


def test_a_smaller_loss_takes_a_smaller_step_in_imle_and_the_same_in_adaptive_imle() -> None:
    logits, f = RAGGED_LOGITS.expand(200, -1), function(RAGGED, "cubic")
    changed = []
    for cls in (IMLE, AdaptiveIMLE):
        whole, small = (
            contract.value_and_gradient(
                cls(RAGGED).eval(), lambda x, c=c: c * f(x), logits, generator=contract.seeded()
            )[1]
            for c in (1.0, 1 / 64)
        )
        changed.append((whole != 0).ne(small != 0).sum().item())
        if cls is AdaptiveIMLE:
            assert_close(small, whole / 64, rtol=1e-12, atol=0)
    assert changed[0] > 100
    assert changed[1] == 0


def test_the_relative_step_ignores_shifts_masks_and_units() -> None:
    generator = contract.seeded()
    v, g = (torch.randn(20, 9, generator=generator, dtype=torch.float64) for _ in "vg")
    v = v.masked_fill(RAGGED_LOGITS == -math.inf, -math.inf)
    beta = torch.tensor(0.7, dtype=torch.float64)
    step = _relative_step(RAGGED, v, g, beta)
    shift = torch.repeat_interleave(torch.tensor([3.0, -1, 2, 5]), torch.tensor(RAGGED.sizes))
    assert_close(_relative_step(RAGGED, v + shift, g - shift, beta), step)
    assert_close(_relative_step(RAGGED, v, g * 8, beta), step / 8)
    other = g.clone()
    other[:, 7] = 1e6  # of the masked category
    assert_close(_relative_step(RAGGED, v, other, beta), step)
    assert (_relative_step(RAGGED, v, g * 0, beta) == 1).all()


@pytest.mark.parametrize("size", [1e-40, 1.0, 1e30])
@pytest.mark.parametrize("beta", [1.0, 1e6])
def test_a_relative_step_is_finite_at_huge_logits_and_any_slope(size: float, beta: float) -> None:
    space = CategoricalSpace.from_sizes((5, 3))
    v = torch.tensor([8e37, -8e37, 8e37, -torch.inf, 8e37, 0.0, -torch.inf, 8e37])
    g = size * torch.tensor([1.0, 0, -2, -3, 1, 0, 1, 0])
    step = _relative_step(space, v, g, torch.tensor(beta))
    assert step.isfinite().all()
    assert _target_difference(space, v, g, step).isfinite().all()


def test_uniform_logits_move() -> None:
    gradient = contract.value_and_gradient(
        AdaptiveIMLE(), lambda rows: rows[..., 0], torch.zeros(100, 4), generator=contract.seeded()
    )[1]
    assert (gradient != 0).any()
    assert gradient.mean(0)[0] > 0


# --- how beta adapts ------------------------------------------------------------------------------


def backward(estimator: AdaptiveIMLE, scale: float = 1.0) -> Tensor:
    f = function(RAGGED, "cubic")
    return contract.value_and_gradient(
        estimator, lambda x: scale * f(x), RAGGED_LOGITS.expand(50, -1), generator=contract.seeded()
    )[1]


def test_beta_rises_while_the_gradient_is_sparser_than_asked_and_falls_while_denser() -> None:
    for beta, density, sign in ((1e-3, 4.0, 1), (5.0, 0.1, -1)):
        estimator = AdaptiveIMLE(RAGGED, beta=beta, density=density, rate=1e-5)
        gradient = backward(estimator)
        found = 0.9 * density + 0.1 * gradient.count_nonzero().item() / 50
        assert_close(estimator.found.item(), found)
        assert_close(estimator.beta.item(), beta + sign * 1e-5, rtol=0, atol=1e-12)


def test_beta_settles_where_the_density_is_the_one_asked_for() -> None:
    estimator = AdaptiveIMLE(RAGGED, density=1.0, rate=0.01)
    f, generator = function(RAGGED, "cubic"), contract.seeded()
    found = []
    for _ in range(400):
        _, gradient = contract.value_and_gradient(
            estimator, f, RAGGED_LOGITS.expand(50, -1), generator=generator
        )
        found.append(gradient.count_nonzero().item() / 50)
    assert abs(sum(found[200:]) / 200 - 1) < 0.15
    assert abs(sum(found[:10]) / 10 - 1) > 0.3


def test_beta_moves_in_training_mode_only_and_never_below_its_floor() -> None:
    estimator = AdaptiveIMLE(RAGGED)
    backward(estimator.eval())
    estimator.train()(RAGGED_LOGITS)  # no gradient asked for
    estimator.expectation(function(RAGGED, "cubic"), torch.zeros(0, 9, requires_grad=True))
    assert estimator.beta == 1
    fixed = AdaptiveIMLE(RAGGED, rate=0.0)
    backward(fixed)
    assert fixed.beta == 1
    falling = AdaptiveIMLE(RAGGED, beta=0.5, density=0.0, rate=10.0)
    backward(falling)
    assert falling.beta == 1e-6
    assert backward(falling).isfinite().all()


def test_a_backward_pass_of_an_earlier_row_uses_the_beta_of_its_forward_pass() -> None:
    estimator = AdaptiveIMLE(RAGGED, rate=0.1)
    alone = backward(copy.deepcopy(estimator))
    leaf = RAGGED_LOGITS.expand(50, -1).clone().requires_grad_()
    value = estimator.expectation(function(RAGGED, "cubic"), leaf, generator=contract.seeded())
    backward(estimator)
    assert torch.equal(torch.autograd.grad(value.sum(), leaf)[0], alone)


def test_training_mode_under_vmap_leaves_beta() -> None:
    estimator, f = AdaptiveIMLE(RAGGED), function(RAGGED, "cubic")

    def one(leaf: Tensor) -> Tensor:
        return estimator.expectation(f, leaf)

    logits = RAGGED_LOGITS.expand(5, -1)
    gradient = torch.func.vmap(torch.func.grad(one), randomness="different")(logits)
    assert gradient.isfinite().all()
    assert estimator.beta == 1


@pytest.mark.slow
def test_training_mode_when_compiled_or_exported_leaves_beta() -> None:
    estimator, f = AdaptiveIMLE(RAGGED), function(RAGGED, "cubic")
    torch.compiler.reset()
    compiled = torch.compile(estimator.expectation, backend="aot_eager", fullgraph=True)
    leaf = RAGGED_LOGITS.expand(5, -1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(compiled(f, leaf).sum(), leaf)
    assert (gradient != 0).any()
    program = torch.export.export(estimator, (torch.zeros(5, 9),)).module()
    assert program(torch.zeros(5, 9)).sum() == 20
    assert estimator.beta == 1


def test_beta_is_saved() -> None:
    estimator, other = AdaptiveIMLE(RAGGED, rate=0.1), AdaptiveIMLE(RAGGED)
    backward(estimator)
    other.load_state_dict(estimator.state_dict())
    assert sorted(estimator.state_dict()) == ["beta", "found"]
    assert other.beta == estimator.beta != 1


@pytest.mark.parametrize("step", [0, -1.0, math.inf, math.nan, None])
def test_bad_step(step: float) -> None:
    with pytest.raises(ValueError, match="step must be a finite number above 0"):
        IMLE(step=step)


@pytest.mark.parametrize(("name", "value"), [("beta", 0), ("density", -1), ("rate", math.nan)])
def test_bad_hyperparameters(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number >= "):
        AdaptiveIMLE(**{name: value})
