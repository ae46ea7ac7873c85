"""Next-feature laws after each particle: from a state that moves with the particles, or afresh."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from discrete_grad.policies import SequentialPolicy
from discrete_grad.weighting.reference import AutoregressiveReference
from discrete_grad.weighting.value_guidance import Potential

__all__: list[str] = []

Model = SequentialPolicy[Any] | Potential[Any] | AutoregressiveReference


@dataclass(frozen=True)
class Reader:
    """A model that has read the prefixes of all particles.

    A `SequentialPolicy` or `Potential` keeps a state, so that each feature is read once; any other
    reference is asked for the `conditional` of whole prefixes, F (F - 1) / 2 features in all.
    """

    model: Model
    context: Tensor | None
    state: Any = None

    @classmethod
    def begin(cls, model: Model, context: Tensor | None, batch: tuple[int, ...]) -> Reader:
        """Nothing read yet, for particles `batch`, (N, B), of contexts `(B, C)`."""
        if isinstance(model, SequentialPolicy | Potential):
            return cls(model, context, model.begin(context, batch=batch))
        return cls(model, context)

    def advance(self, codes: Tensor) -> tuple[Tensor, Reader]:
        """Numbers `(N, B, K)` of what may follow `codes` `(N, B, t)`, of which t - 1 are read."""
        if not isinstance(self.model, SequentialPolicy | Potential):
            return self.model.conditional(codes, self.context), self
        previous = codes[..., -1] if codes.shape[-1] else None
        numbers, state = self.model.advance(self.state, previous)
        return numbers, replace(self, state=state)

    def select(self, index: Tensor) -> Reader:
        """With particles `index` `(N, B)` of each context in the place of its own."""
        if not isinstance(self.model, SequentialPolicy | Potential):
            return self
        contexts = index.shape[-1]
        rows = index * contexts + torch.arange(contexts, device=index.device)
        return replace(self, state=self.model.select(self.state, rows))
