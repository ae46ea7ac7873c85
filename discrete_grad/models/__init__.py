"""The models: estimators, the aligner and the generator."""

from discrete_grad.models.aligner import Aligner
from discrete_grad.models.anova import AnovaEnsemble
from discrete_grad.models.editing import edit
from discrete_grad.models.edits import Edits
from discrete_grad.models.ensemble import BaseEnsemble, EstimatorEnsemble
from discrete_grad.models.estimator import BaseEstimator, Estimator
from discrete_grad.models.joint import JointColumns
from discrete_grad.models.kernel import KernelEnsemble
from discrete_grad.models.leaves import LeafEnsemble
from discrete_grad.models.likely_rows import most_likely_rows
from discrete_grad.models.mixed_ensemble import MixedEnsemble
from discrete_grad.models.multilinear import MultilinearEstimator
from discrete_grad.models.preference import PreferenceModel
from discrete_grad.models.protocol import RowModel
from discrete_grad.models.row_search import best_rows
from discrete_grad.models.sequence import SequenceEstimator
from discrete_grad.models.stacked import StackedEnsemble
from discrete_grad.models.swap_search import SwapSearch, swap_search

__all__ = [
    "Aligner",
    "AnovaEnsemble",
    "BaseEnsemble",
    "BaseEstimator",
    "Edits",
    "Estimator",
    "EstimatorEnsemble",
    "JointColumns",
    "KernelEnsemble",
    "LeafEnsemble",
    "MixedEnsemble",
    "MultilinearEstimator",
    "PreferenceModel",
    "RowModel",
    "SequenceEstimator",
    "StackedEnsemble",
    "SwapSearch",
    "best_rows",
    "edit",
    "most_likely_rows",
    "swap_search",
]
