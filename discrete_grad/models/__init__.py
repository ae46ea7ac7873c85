"""The models: estimators, the aligner and the generator."""

from discrete_grad.models.aligner import Aligner
from discrete_grad.models.anova import AnovaEnsemble
from discrete_grad.models.autoregressive import AutoregressiveGenerator, known_mask
from discrete_grad.models.conditional import (
    Policy,
    chosen_log_probs,
    conditional_logits,
    in_steps,
    num_steps,
)
from discrete_grad.models.ensemble import BaseEnsemble, EstimatorEnsemble
from discrete_grad.models.estimator import BaseEstimator, Estimator
from discrete_grad.models.generator import Generator
from discrete_grad.models.joint import JointColumns
from discrete_grad.models.kernel import KernelEnsemble
from discrete_grad.models.leaves import LeafEnsemble
from discrete_grad.models.likely_rows import most_likely_rows
from discrete_grad.models.local_search import single_swap_ascent
from discrete_grad.models.mixed_ensemble import MixedEnsemble
from discrete_grad.models.multilinear import MultilinearEstimator
from discrete_grad.models.preference import PreferenceModel
from discrete_grad.models.row_search import best_rows
from discrete_grad.models.sequence import SequenceNetwork
from discrete_grad.models.sequential import SequentialPolicy, log_prob_by_steps
from discrete_grad.models.stacked import StackedEnsemble
from discrete_grad.models.value import ContextValue, StepValue

__all__ = [
    "Aligner",
    "AnovaEnsemble",
    "AutoregressiveGenerator",
    "BaseEnsemble",
    "BaseEstimator",
    "ContextValue",
    "Estimator",
    "EstimatorEnsemble",
    "Generator",
    "JointColumns",
    "KernelEnsemble",
    "LeafEnsemble",
    "MixedEnsemble",
    "MultilinearEstimator",
    "Policy",
    "PreferenceModel",
    "SequenceNetwork",
    "SequentialPolicy",
    "StackedEnsemble",
    "StepValue",
    "best_rows",
    "chosen_log_probs",
    "conditional_logits",
    "in_steps",
    "known_mask",
    "log_prob_by_steps",
    "most_likely_rows",
    "num_steps",
    "single_swap_ascent",
]
