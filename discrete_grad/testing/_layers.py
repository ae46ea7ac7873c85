"""Layers that have no `expectation` of their own: plain functions and forward-only modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.gradient.base import Function, evaluate
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import takes_generator

__all__ = ["as_layer", "is_row_function", "of_each_feature"]

Row = Callable[..., Tensor]
"""Logits `(..., D)` -> row `(..., D)`, perhaps with a keyword `generator`."""


class _Layer(nn.Module):
    """A layer whose expectation is f of one row."""

    def __init__(self, row: Row, space: CategoricalSpace | None) -> None:
        super().__init__()
        self.row = row
        self.space = space

    def forward(self, logits: Tensor) -> Tensor:
        return self.row(logits)

    def expectation(self, f: Function, logits: Tensor) -> Tensor:
        return evaluate(f, self.forward(logits.unsqueeze(0))).mean(0)


class _SeededLayer(_Layer):
    """The same for one that takes a generator."""

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return self.row(logits, generator=generator)

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        return evaluate(f, self.forward(logits.unsqueeze(0), generator=generator)).mean(0)


class _Joined:
    """A function of one feature's logits, called on each feature."""

    def __init__(self, row: Row, space: CategoricalSpace) -> None:
        self.row = row
        self.space = space

    def __call__(self, logits: Tensor) -> Tensor:
        return torch.cat([self.row(part) for part in self.space.split(logits)], -1)


class _SeededJoined(_Joined):
    def __call__(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        parts = self.space.split(logits)
        return torch.cat([self.row(part, generator=generator) for part in parts], -1)


def as_layer(row: Row, space: CategoricalSpace | None) -> nn.Module:
    """A module with `forward` and `expectation`; it takes a generator where `row` does."""
    call = row.forward if isinstance(row, nn.Module) else row
    return (_SeededLayer if takes_generator(call) else _Layer)(row, space)


def of_each_feature(row: Row, space: CategoricalSpace) -> nn.Module:
    """The layer that calls a function of one feature's logits on each feature of a space."""
    joined = _SeededJoined if takes_generator(row) else _Joined
    return as_layer(joined(row, space), space)


def is_row_function(given: Any) -> bool:
    """Whether a callable turns logits into a row; a factory `make(space)` does not."""
    try:
        with isolated_seed(0):
            return isinstance(given(torch.zeros(2, 3, dtype=torch.float64)), Tensor)
    except Exception:  # a factory may say anything to logits in place of a space
        return False
