"""What the tests of Rebar and Relax share: proofs that noise that is continuous leaves no bias.

Two categories: the noise matters through one number of the draw and one of the draw given it, and
quadrature gives the expectation. More: a statistical test that knows its power.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, GradientEstimator
from discrete_grad.gradient import rebar
from tests.gradient import contract
from tests.gradient.cases import Function

BINARY = CategoricalSpace({"x": 2})
FALSE_ALARM = 1e-9  # of one statistical test, over the choice of its seed
NORMAL = torch.distributions.Normal(
    torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
)


@contextmanager
def given_pair(noise: Tensor) -> Iterator[None]:
    """Noise `(2, N, *batch, D)`: of the draw, and of the draw given its argmax."""

    def gumbel_like(logits: Tensor, *, generator: object) -> Tensor:
        assert logits.shape == noise.flatten(0, 1).shape
        return noise.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebar, "gumbel_like", gumbel_like)
        yield


def quadrature(method: GradientEstimator, f: Function, logits: Tensor, count: int) -> Tensor:
    """The expected gradient `(2,)` of one binary feature, by a lattice over the unit square.

    Only differences of two Gumbel numbers matter, of logistic law. The error falls like
    log(count) / count.
    """
    index = torch.arange(count, dtype=torch.float64) + 0.5
    square = torch.stack([index / count, (index * (5**0.5 - 1) / 2) % 1])
    noise = torch.stack([square.logit(), torch.zeros_like(square)], -1).unsqueeze(1)
    with given_pair(noise):
        _, gradient = contract.value_and_gradient(method, f, logits.expand(count, -1))
    return gradient.mean(0)


def check_mean(gradients: Tensor, true: Tensor, *, detects: float) -> None:
    """Fail if the mean of `gradients` `(n, D)` is not the true one.

    A right mean fails with chance FALSE_ALARM, Bonferroni over the entries. The power is computed:
    an entry that is off by `detects` is found with chance 0.999 or more, or the test is too weak
    and fails as such.
    """
    moving = gradients.std(0) > 0
    assert (gradients[:, ~moving] == true[~moving]).all()
    error = gradients.std(0)[moving] / len(gradients) ** 0.5
    threshold = -NORMAL.icdf(torch.tensor(FALSE_ALARM / 2 / len(error), dtype=torch.float64))
    power = NORMAL.cdf(detects / error - threshold)
    assert power.min() > 0.999, f"too weak: power {power.min():.3f}"
    sigmas = (gradients.mean(0) - true)[moving].abs() / error
    assert sigmas.max() < threshold, f"off by {sigmas.max():.1f} standard errors"


def squared_norm(
    make: Callable[[], GradientEstimator], f: Function, logits: Tensor, noise: Tensor
) -> Tensor:
    """`|gradient|^2` `(*batch)` given the noise."""
    with given_pair(noise):
        return contract.value_and_gradient(make(), f, logits)[1].square().sum(-1)


def pair_noise(logits: Tensor, *, samples: int = 1, seed: int = 0) -> Tensor:
    u = torch.rand(
        (2, samples, *logits.shape), generator=contract.seeded(seed), dtype=torch.float64
    )
    return -(-u.log()).log()
