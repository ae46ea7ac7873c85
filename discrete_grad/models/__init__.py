"""The models: estimators, the aligner and the generator."""

from discrete_grad.models.aligner import Aligner
from discrete_grad.models.ensemble import EstimatorEnsemble
from discrete_grad.models.estimator import BaseEstimator, Estimator
from discrete_grad.models.generator import Generator, distinct_rows
from discrete_grad.models.multilinear import MultilinearEstimator

__all__ = [
    "Aligner",
    "BaseEstimator",
    "Estimator",
    "EstimatorEnsemble",
    "Generator",
    "MultilinearEstimator",
    "distinct_rows",
]
