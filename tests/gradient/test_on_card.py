"""Every gradient estimator on a pretended CUDA device: nothing of it is left on the CPU."""

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.sampling import isolated_seed, normal, seeded
from tests.gradient.cases import BINARY_CASES, CASES, Case
from tests.pretended_card import CARD, pretended_card

_HOME = torch.device("cpu")


def gradient_of(case: Case, sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Gradient `(4, D)`, on the CPU, of one call on a device."""
    space = CategoricalSpace.from_sizes(sizes)
    with isolated_seed(0):
        method = case.make(space, samples=case.samples).to(device)
    weight = normal((space.width,), generator=seeded(1)).float().to(device)
    logits = normal((4, space.width), generator=seeded(2)).float().to(device).requires_grad_()
    value = method.expectation(
        lambda rows: (rows @ weight).square(), logits, generator=seeded(3, device)
    )
    assert value.device == device
    value.sum().backward()
    assert logits.grad is not None
    assert logits.grad.device == device
    return logits.grad.cpu()


@pytest.mark.parametrize("case", [*CASES, *BINARY_CASES], ids=lambda case: case.name)
def test_a_gradient_estimator_runs_where_its_logits_are(case: Case) -> None:
    sizes = (2, 2) if case in BINARY_CASES else (2, 3)
    with pretended_card():
        there = gradient_of(case, sizes, CARD)
    torch.testing.assert_close(there, gradient_of(case, sizes, _HOME))
