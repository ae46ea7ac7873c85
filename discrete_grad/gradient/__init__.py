"""Gradient estimators: methods that differentiate `E[f(row)]` in the logits."""

from discrete_grad.gradient.base import GradientEstimator, Relaxation, on_codes
from discrete_grad.gradient.deterministic_straight_through import DeterministicStraightThrough
from discrete_grad.gradient.enumerate import Enumerate
from discrete_grad.gradient.gumbel_softmax import GumbelSoftmax
from discrete_grad.gradient.leave_one_out import LeaveOneOut
from discrete_grad.gradient.reinforce import Reinforce
from discrete_grad.gradient.reinmax import ReinMax
from discrete_grad.gradient.softmax import Softmax
from discrete_grad.gradient.straight_through import StraightThrough

__all__ = [
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
