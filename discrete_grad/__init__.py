"""Train a generator of categories through a frozen model that scores them."""

from discrete_grad.gradient import (
    DeterministicStraightThrough,
    Enumerate,
    GradientEstimator,
    GumbelSoftmax,
    LeaveOneOut,
    Reinforce,
    ReinMax,
    Relaxation,
    Softmax,
    StraightThrough,
    on_codes,
)
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = [
    "CategoricalSpace",
    "ContextSpec",
    "DeterministicStraightThrough",
    "Enumerate",
    "GradientEstimator",
    "GumbelSoftmax",
    "LeaveOneOut",
    "ReinMax",
    "Reinforce",
    "Relaxation",
    "Softmax",
    "StraightThrough",
    "on_codes",
]
