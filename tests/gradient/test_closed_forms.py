"""A layer asks a relaxation's pullback, and nothing else, which faster path it may take."""

from typing import get_args

import pytest

from discrete_grad import CategoricalSpace, GumbelSoftmax, ReinMax, Relaxation, StraightThrough
from discrete_grad.gradient import catalogue
from discrete_grad.gradient.base import ClosedForm
from discrete_grad.nn import ChunkedHead, ConstantSchedule, SoftEmbedding


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


def test_a_relaxation_of_a_known_form_is_one_for_the_chunked_head() -> None:
    embedding = SoftEmbedding(CategoricalSpace({"item": 5}), 2)
    assert isinstance(ChunkedHead(3, embedding, Named()), ChunkedHead)
    with pytest.raises(ValueError, match="ChunkedHead supports"):
        ChunkedHead(3, embedding, GumbelSoftmax())
