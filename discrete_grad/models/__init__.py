"""The models: estimators, the aligner and the generator."""

from discrete_grad.models.aligner import Aligner
from discrete_grad.models.ensemble import BaseEnsemble, EstimatorEnsemble
from discrete_grad.models.estimator import BaseEstimator, Estimator
from discrete_grad.models.generator import Generator, distinct_rows
from discrete_grad.models.local_search import single_swap_ascent
from discrete_grad.models.mixed_ensemble import MixedEnsemble
from discrete_grad.models.multilinear import MultilinearEstimator

__all__ = [
    "Aligner",
    "BaseEnsemble",
    "BaseEstimator",
    "Estimator",
    "EstimatorEnsemble",
    "Generator",
    "MixedEnsemble",
    "MultilinearEstimator",
    "distinct_rows",
    "single_swap_ascent",
]
