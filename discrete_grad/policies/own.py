"""One's own network as a generator."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.policies.independent import IndependentPolicy
from discrete_grad.space import CategoricalSpace

__all__ = ["OwnGenerator"]


class OwnGenerator(nn.Module, IndependentPolicy):
    """Any network from contexts to logits as a generator, with its parameters.

    Args:
        network: called with contexts `(*batch, C)`, and without contexts with nothing; it returns
            logits `(*batch, D)`, or `(*batch, K)` for each feature: a dict by its name, or a
            sequence in the space's order.
        space: the features.

    Example:
        >>> space = CategoricalSpace({"cut": 3, "colour": 4})
        >>> generator = OwnGenerator(nn.Linear(2, 7), space)
        >>> generator.sample(torch.eye(2), count=5).shape
        torch.Size([5, 2, 2])
    """

    def __init__(self, network: nn.Module, space: CategoricalSpace) -> None:
        super().__init__()
        self.network, self.space = network, space

    def logits(self, context: Tensor | None = None) -> Tensor:
        """Logits `(*batch, D)` for a context `(*batch, C)`.

        Raises:
            ValueError: for an answer of another shape.
            TypeError: for a network that takes other arguments.
        """
        inputs = () if context is None else (context,)
        _check_call(self.network, inputs)
        given = self.network(*inputs)
        logits = given if isinstance(given, Tensor) else self._joined(given)
        lead = () if context is None else tuple(context.shape[:-1])
        if tuple(logits.shape) != (*lead, self.space.width):
            raise ValueError(
                f"{type(self.network).__name__} must give logits {(*lead, self.space.width)} of "
                f"{self.space}, got {tuple(logits.shape)}"
            )
        return logits

    def forward(self, context: Tensor | None = None) -> Tensor:
        """The same as `logits`."""
        return self.logits(context)

    def _joined(self, given: Any) -> Tensor:
        space, name = self.space, type(self.network).__name__
        parts = [given.get(n) for n in space.names] if isinstance(given, Mapping) else [*given]
        if len(parts) != space.num_features:
            raise ValueError(
                f"{name} must give logits of {space.num_features} features, got {len(parts)}"
            )
        found: list[Tensor] = []
        for feature, size, part in zip(space.names, space.sizes, parts, strict=True):
            if not isinstance(part, Tensor) or part.shape[-1] != size:
                got = tuple(part.shape) if isinstance(part, Tensor) else part
                raise ValueError(f"{name} must give {size} logits of {feature!r}, got {got}")
            found.append(part)
        return torch.cat(found, -1)


def _check_call(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """TypeError unless the network takes contexts, or nothing where there are none."""
    try:
        inspect.signature(network.forward).bind(*inputs)
    except TypeError as error:
        what = "contexts (N, C)" if inputs else "nothing, as there is no context"
        name = type(network).__name__
        raise TypeError(f"{name} as a generator is called with {what}: {error}") from error
