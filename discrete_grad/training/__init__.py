"""Training: one loop, three fits, and the run directory that holds the whole job."""

from discrete_grad.training.aligner import fit_aligner
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.config import (
    AlignerConfig,
    EstimatorConfig,
    FitConfig,
    GeneratorConfig,
    LoopConfig,
    ReproductionConfig,
)
from discrete_grad.training.estimator import fit_estimator, new_ensemble
from discrete_grad.training.generate import FewRowsWarning, check_columns, generate, polished_row
from discrete_grad.training.generator import (
    Guides,
    fit_generator,
    fit_reproduction,
    make_gradient_estimator,
)
from discrete_grad.training.logs import JsonLinesLog, TensorBoardLog
from discrete_grad.training.mining import Mined, mine, with_swaps
from discrete_grad.training.pessimism import PessimisticScore, conformal_pessimism
from discrete_grad.training.report import write_report
from discrete_grad.training.rows import Rows
from discrete_grad.training.run import Run, fit, load_run
from discrete_grad.training.score_scale import ScoreScale

__all__ = [
    "AlignerConfig",
    "EstimatorConfig",
    "FewRowsWarning",
    "FitConfig",
    "GeneratorConfig",
    "Guides",
    "JsonLinesLog",
    "LoopConfig",
    "Mined",
    "PessimisticScore",
    "ReproductionConfig",
    "Rows",
    "Run",
    "RunError",
    "ScoreScale",
    "TensorBoardLog",
    "check_columns",
    "conformal_pessimism",
    "fit",
    "fit_aligner",
    "fit_estimator",
    "fit_generator",
    "fit_reproduction",
    "generate",
    "load_run",
    "make_gradient_estimator",
    "mine",
    "new_ensemble",
    "polished_row",
    "with_swaps",
    "write_report",
]
