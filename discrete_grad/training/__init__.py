"""Machinery of training: the loop, checkpoints, processes and logs; it knows no model."""

from discrete_grad.training.checkpoint import Checkpoint, RunError
from discrete_grad.training.config import LoopConfig
from discrete_grad.training.history import History
from discrete_grad.training.logs import JsonLinesLog, TensorBoardLog

__all__ = [
    "Checkpoint",
    "History",
    "JsonLinesLog",
    "LoopConfig",
    "RunError",
    "TensorBoardLog",
]
