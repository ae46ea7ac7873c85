"""A model's numbers for what comes after each particle, from a state that moves with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from discrete_grad.policies import SequentialPolicy
from discrete_grad.weighting.value_guidance import Potential

__all__: list[str] = []


@dataclass(frozen=True)
class Reader:
    """A policy or a potential that has read the prefixes of all particles, each feature once."""

    model: SequentialPolicy[Any] | Potential[Any]
    state: Any

    @classmethod
    def begin(
        cls,
        model: SequentialPolicy[Any] | Potential[Any],
        context: Tensor | None,
        batch: tuple[int, ...],
    ) -> Reader:
        """Nothing read yet, for particles `batch`, (N, B), of contexts `(B, C)`."""
        return cls(model, model.begin(context, batch=batch))

    def advance(self, codes: Tensor) -> tuple[Tensor, Reader]:
        """Numbers `(N, B, K)` of what may follow `codes` `(N, B, t)`, of which t - 1 are read."""
        previous = codes[..., -1] if codes.shape[-1] else None
        numbers, state = self.model.advance(self.state, previous)
        return numbers, replace(self, state=state)

    def select(self, index: Tensor) -> Reader:
        """With particles `index` `(N, B)` of each context in the place of its own."""
        contexts = index.shape[-1]
        # particle n of context b is row n B + b of the flattened (N, B)
        rows = index * contexts + torch.arange(contexts, device=index.device)
        return replace(self, state=self.model.select(self.state, rows))
