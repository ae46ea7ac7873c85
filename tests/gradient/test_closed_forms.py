"""A layer asks a relaxation's pullback, and nothing else, which faster path it may take."""

from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GumbelSoftmax, ReinMax, Relaxation, StraightThrough
from discrete_grad.gradient import catalogue
from discrete_grad.gradient.base import ClosedForm
from discrete_grad.nn import ChunkedHead, ConstantSchedule, SoftEmbedding
from discrete_grad.sampling import normal, seeded
from tests.gradient.contract import given_codes


class Named(StraightThrough):
    """A user's own, whose gradient is that of its parent."""


@pytest.mark.parametrize(
    ("relaxation", "form", "tau"),
    [
        (StraightThrough(), "straight_through", 1.0),
        (Named(), "straight_through", 1.0),
        (ReinMax(), "reinmax", 1.0),
        (ReinMax(tau=1.3), None, 1.0),
        (GumbelSoftmax(tau=0.5), "gumbel_softmax", 0.5),
        (GumbelSoftmax(tau=ConstantSchedule(0.5)), None, 1.0),
    ],
)
def test_the_form_of_each_gradient(relaxation: Relaxation, form: str | None, tau: float) -> None:
    pullback = relaxation.pullback()
    assert pullback is not None
    assert (pullback.form, pullback.tau) == (form, tau)


def test_every_form_is_that_of_a_relaxation() -> None:
    methods = [cls() for cls in catalogue().values() if issubclass(cls, Relaxation)]
    pullbacks = [method.pullback() for method in methods]
    forms = [pullback.form for pullback in pullbacks if pullback and pullback.form]
    assert sorted(forms) == sorted(get_args(ClosedForm))


METHODS = [cls for cls in catalogue().values() if issubclass(cls, Relaxation)]
EXACT = [cls for cls in METHODS if (pull := cls().pullback()) and not pull.noisy]


@pytest.mark.parametrize("method", [*EXACT, partial(ReinMax, tau=1.5)])
def test_a_pullback_is_the_gradient_of_the_layer(method: Callable[..., Relaxation]) -> None:
    """For every category that may be drawn, with one that may not."""
    codes = torch.arange(4).unsqueeze(-1)
    logits = normal((5,), generator=seeded(0)).index_fill(0, torch.tensor(4), -torch.inf)
    logits, slopes = (
        logits.expand(4, 5).clone().requires_grad_(),
        normal((4, 5), generator=seeded(1)),
    )
    with given_codes(codes):
        (method(CategoricalSpace({"x": 5}))(logits) * slopes).sum().backward()
    pull, fixed = method().pullback(), logits.detach().unsqueeze(-2)
    assert pull is not None
    for again in (True, False):  # whether it may be differentiated again
        with torch.set_grad_enabled(again):
            found = pull.gradient(fixed, fixed.softmax(-1), codes, slopes.unsqueeze(-2), None)
        assert_close(found.squeeze(-2), logits.grad, rtol=0, atol=1e-12)


def test_a_relaxation_of_a_known_form_is_one_for_the_chunked_head() -> None:
    embedding = SoftEmbedding(CategoricalSpace({"item": 5}), 2)
    assert isinstance(ChunkedHead(3, embedding, Named()), ChunkedHead)
    with pytest.raises(ValueError, match="ChunkedHead supports"):
        ChunkedHead(3, embedding, GumbelSoftmax())
