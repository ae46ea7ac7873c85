"""Layers: embeddings of soft rows, heads, softened models and temperature schedules."""

from discrete_grad.nn.chunked_head import ChunkedHead
from discrete_grad.nn.feature_heads import FeatureHeads
from discrete_grad.nn.schedules import (
    ConstantSchedule,
    ExponentialSchedule,
    LinearSchedule,
    Schedule,
)
from discrete_grad.nn.soft_embedding import SoftEmbedding
from discrete_grad.nn.soften import soften

__all__ = [
    "ChunkedHead",
    "ConstantSchedule",
    "ExponentialSchedule",
    "FeatureHeads",
    "LinearSchedule",
    "Schedule",
    "SoftEmbedding",
    "soften",
]
