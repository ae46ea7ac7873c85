"""Blocks: features of equal size, worked on in one batched operation."""

from discrete_grad.blocks.algebra import FEW, fits, jacobian, log_softmax, parts, softmax
from discrete_grad.blocks.layout import Layout
from discrete_grad.blocks.places import Padded, Place, Run, Scattered

__all__ = [
    "FEW",
    "Layout",
    "Padded",
    "Place",
    "Run",
    "Scattered",
    "fits",
    "jacobian",
    "log_softmax",
    "parts",
    "softmax",
]
