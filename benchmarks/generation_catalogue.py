"""The gradient estimators that `generation_methods` compares, each made from space and samples."""

from __future__ import annotations

from collections.abc import Callable

from discrete_grad import (
    Blend,
    CentredReinMax,
    DeterministicStraightThrough,
    GradientEstimator,
    GumbelSoftmax,
    LeaveOneOut,
    Reinforce,
    ReinMax,
    Softmax,
    StraightThrough,
)
from discrete_grad.gradient import catalogue
from discrete_grad.space import CategoricalSpace

Make = Callable[[CategoricalSpace, int], GradientEstimator]

COMMON: dict[str, Make] = {
    "Softmax": lambda space, n: Softmax(space),
    "GumbelSoftmax(hard=False)": lambda space, n: GumbelSoftmax(space, hard=False, samples=n),
    "GumbelSoftmax": lambda space, n: GumbelSoftmax(space, samples=n),
    "GumbelSoftmax(tau=0.5)": lambda space, n: GumbelSoftmax(space, tau=0.5, samples=n),
    "StraightThrough": lambda space, n: StraightThrough(space, samples=n),
    "DeterministicStraightThrough": lambda space, n: DeterministicStraightThrough(space),
    "ReinMax": lambda space, n: ReinMax(space, samples=n),
    "CentredReinMax": lambda space, n: CentredReinMax(space, samples=max(2, n)),
    # a soft row is one of its evaluations
    "Blend": lambda space, n: Blend(space, samples=max(2, n - 1)),
    "Reinforce": lambda space, n: Reinforce(space, samples=n),
    "LeaveOneOut": lambda space, n: LeaveOneOut(space, samples=max(2, n)),
}
EVERY_CATEGORY = ("IndeCateR", "LocalExpectation")  # a sample of theirs asks about each
LEFT_OUT = ("Arms", "Disarm", "Enumerate", "UnorderedSet")


def others() -> dict[str, Make]:
    """The methods of the catalogue that are not among the common ones."""
    classes = {name: cls for name, cls in catalogue().items() if name not in (*COMMON, *LEFT_OUT)}
    return {name: _maker(name, cls) for name, cls in classes.items()}


def _maker(name: str, cls: type[GradientEstimator]) -> Make:
    return lambda space, n: cls(space, samples=1 if name in EVERY_CATEGORY else n)
