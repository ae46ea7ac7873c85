"""From a latent vector to the logits of every feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from discrete_grad.space import CategoricalSpace

__all__ = ["FeatureHeads"]


class FeatureHeads(nn.Module):
    """One linear head a feature, `(..., in_features) -> logits (..., D)`, as a single product.

    The weights start small and the biases at 0, so every category starts about equally likely.

    Args:
        in_features: length of the latent vector.
        space: the space.

    Example:
        >>> FeatureHeads(16, CategoricalSpace({"cut": 3, "colour": 7}))(torch.zeros(5, 16)).shape
        torch.Size([5, 10])
    """

    def __init__(self, in_features: int, space: CategoricalSpace) -> None:
        super().__init__()
        self.space = space
        self.linear = nn.Linear(in_features, space.width)
        with torch.no_grad():
            self.linear.weight.mul_(0.1)
            self.linear.bias.zero_()

    def forward(self, latent: Tensor) -> Tensor:
        """Logits `(..., D)` of a latent vector `(..., in_features)`."""
        logits: Tensor = self.linear(latent)
        return logits

    if TYPE_CHECKING:  # as in `Relaxation`
        __call__ = forward
