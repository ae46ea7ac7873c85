"""A temperature that is learned while categories are masked."""

import pytest
import torch
from torch import nn

from discrete_grad import (
    CategoricalSpace,
    DecoupledStraightThrough,
    GappedStraightThrough,
    GradientEstimator,
    GumbelRao,
    GumbelSoftmax,
    ReinMax,
    ReinMaxRao,
    Relax,
    Softmax,
)
from discrete_grad.nn._chunked import expect_chunked
from discrete_grad.sampling import seeded

SPACE = CategoricalSpace.from_sizes((3, 4))
LOGITS = torch.tensor([0.3, -torch.inf, 0.1, 1.0, -torch.inf, -0.5, 0.2], dtype=torch.float64)
WEIGHTS = torch.linspace(-1, 1, SPACE.width, dtype=torch.float64)
METHODS = [Softmax, GumbelSoftmax, ReinMax, GumbelRao, GappedStraightThrough, ReinMaxRao]


class Learned(nn.Module):
    """A temperature that is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.tensor(1.2, dtype=torch.float64))

    def forward(self) -> torch.Tensor:
        return self.tau


def slope(method: GradientEstimator, tau: Learned) -> torch.Tensor:
    """Derivative in tau of the value that a surrogate of the method has."""
    row = method(LOGITS.expand(50, -1), generator=seeded(0))
    (found,) = torch.autograd.grad((row @ WEIGHTS).square().sum(), tau.tau)
    return found


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_a_learned_temperature_has_a_gradient_where_categories_are_masked(
    cls: type[GradientEstimator],
) -> None:
    tau = Learned()
    assert slope(cls(SPACE, tau=tau), tau).isfinite()


def test_so_has_that_of_the_backward_pass() -> None:
    tau = Learned()
    assert slope(DecoupledStraightThrough(SPACE, tau_b=tau), tau).isfinite()


def test_it_is_that_of_the_categories_left() -> None:
    """As without the masked categories at all."""
    kept = LOGITS.isfinite()
    slopes = []
    for space, logits, weights in (
        (SPACE, LOGITS, WEIGHTS),
        (CategoricalSpace.from_sizes((2, 3)), LOGITS[kept], WEIGHTS[kept]),
    ):
        tau = Learned()
        value = (Softmax(space, tau=tau)(logits) @ weights).square()
        slopes += torch.autograd.grad(value, tau.tau)
    torch.testing.assert_close(*slopes)


def test_a_chunked_mean_has_one_with_a_masked_bias() -> None:
    space = CategoricalSpace.from_sizes((4,))
    tau = torch.tensor(0.7, requires_grad=True)
    bias = torch.tensor([0.0, -torch.inf, 0.5, 0.1])
    weight, head = torch.arange(8.0).view(4, 2), torch.linspace(-1, 1, 4).unsqueeze(1)
    mean = expect_chunked(space, torch.ones(1), weight, head=head, bias=bias, tau=tau, chunk=3)
    (found,) = torch.autograd.grad(mean.sum(), tau)
    assert found.isfinite()


def test_an_empty_control_variate_is_the_one_that_is_used() -> None:
    given = torch.nn.Sequential()
    assert Relax(SPACE, control_variate=given).control_variate is given
