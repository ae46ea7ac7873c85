"""Gradient estimators: methods that differentiate `E[f(row)]` in the logits."""

from discrete_grad.gradient.adaptive_imle import AdaptiveIMLE
from discrete_grad.gradient.arms import Arms
from discrete_grad.gradient.base import (
    GradientEstimator,
    Pullback,
    Relaxation,
    SelfSamplingFunction,
)
from discrete_grad.gradient.black_box import on_codes
from discrete_grad.gradient.blend import Blend
from discrete_grad.gradient.carms import Carms
from discrete_grad.gradient.catalogue import catalogue, table
from discrete_grad.gradient.centred_reinmax import CentredReinMax
from discrete_grad.gradient.darn import Darn
from discrete_grad.gradient.decoupled_straight_through import DecoupledStraightThrough
from discrete_grad.gradient.deterministic_straight_through import DeterministicStraightThrough
from discrete_grad.gradient.disarm import Disarm
from discrete_grad.gradient.double_control_variate import DoubleControlVariate
from discrete_grad.gradient.entmax import Entmax
from discrete_grad.gradient.entropy_weighted import EntropyWeighted
from discrete_grad.gradient.enumerate import Enumerate
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.gradient.gapped_straight_through import GappedStraightThrough
from discrete_grad.gradient.gumbel_rao import GumbelRao
from discrete_grad.gradient.gumbel_softmax import GumbelSoftmax
from discrete_grad.gradient.imle import IMLE
from discrete_grad.gradient.indecater import IndeCateR
from discrete_grad.gradient.leave_one_out import LeaveOneOut
from discrete_grad.gradient.local_expectation import LocalExpectation
from discrete_grad.gradient.low_variance_reinmax import LowVarianceReinMax
from discrete_grad.gradient.rebar import Rebar
from discrete_grad.gradient.recommend import Recommendation, recommend
from discrete_grad.gradient.reinforce import Reinforce
from discrete_grad.gradient.reinmax import ReinMax
from discrete_grad.gradient.reinmax_rao import ReinMaxRao
from discrete_grad.gradient.relax import Relax
from discrete_grad.gradient.rodeo import Rodeo
from discrete_grad.gradient.softmax import Softmax
from discrete_grad.gradient.straight_through import StraightThrough
from discrete_grad.gradient.sum_and_sample import SumAndSample
from discrete_grad.gradient.unordered_set import UnorderedSet

__all__ = [
    "IMLE",
    "AdaptiveIMLE",
    "Arms",
    "Blend",
    "Carms",
    "CentredReinMax",
    "Cost",
    "Darn",
    "DecoupledStraightThrough",
    "DeterministicStraightThrough",
    "Disarm",
    "DoubleControlVariate",
    "Entmax",
    "EntropyWeighted",
    "Enumerate",
    "Facts",
    "GappedStraightThrough",
    "GradientEstimator",
    "GumbelRao",
    "GumbelSoftmax",
    "IndeCateR",
    "LeaveOneOut",
    "LocalExpectation",
    "LowVarianceReinMax",
    "Pullback",
    "Rebar",
    "Recommendation",
    "ReinMax",
    "ReinMaxRao",
    "Reinforce",
    "Relax",
    "Relaxation",
    "Rodeo",
    "SelfSamplingFunction",
    "Softmax",
    "StraightThrough",
    "SumAndSample",
    "UnorderedSet",
    "catalogue",
    "on_codes",
    "recommend",
    "table",
]
