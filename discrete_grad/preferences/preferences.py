"""Answers to pairs of rows, of which one was preferred."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from discrete_grad.objectives.preference import OUTCOMES
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["Preferences"]


@dataclass(frozen=True, eq=False)
class Preferences:
    """Answers to pairs of rows of one context each.

    Args:
        first: codes `(N, F)`, int64.
        second: codes `(N, F)`.
        outcome: `(N,)`, int64, the codes of `OUTCOMES`.
        context: `(N, C)`, of both rows; None without context columns.
        annotator: `(N,)`, int64, positions in `annotators`; None for a single one.
        annotators: their names; at least one.

    Raises:
        ValueError: for shapes or values that do not fit together; the message names the pair,
            counted from 1.

    Example:
        >>> codes = torch.tensor([[0, 1], [1, 2]])
        >>> pairs = Preferences(codes, codes.flip(0), torch.tensor([0, 2]))
        >>> len(pairs), pairs.has_ties, pairs.take(torch.tensor([0])).has_ties
        (2, True, False)
    """

    first: Tensor
    second: Tensor
    outcome: Tensor
    context: Tensor | None = None
    annotator: Tensor | None = None
    annotators: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        count = len(self.outcome)
        if self.first.dim() != 2 or self.first.shape != self.second.shape:
            got = f"{tuple(self.first.shape)} and {tuple(self.second.shape)}"
            raise ValueError(f"first and second must be codes (N, F) of one shape, got {got}")
        for name in ("first", "context", "annotator"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise ValueError(f"{name} has {len(values)} pairs, outcome {count}")
        _check_codes("outcome", self.outcome, len(OUTCOMES))
        if self.annotator is not None:
            _check_codes("annotator", self.annotator, len(self.annotators))

    def __len__(self) -> int:
        """N."""
        return len(self.outcome)

    @property
    def has_ties(self) -> bool:
        """Whether an answer is a tie."""
        return bool((self.outcome == OUTCOMES.index("tie")).any())

    @property
    def who(self) -> Tensor:
        """`(N,)`: `annotator`, or zeros."""
        return torch.zeros_like(self.outcome) if self.annotator is None else self.annotator

    def take(self, indices: Tensor) -> Preferences:
        """The pairs at indices `(n,)`, in that order."""
        context = None if self.context is None else self.context[indices]
        annotator = None if self.annotator is None else self.annotator[indices]
        first, second, outcome = (x[indices] for x in (self.first, self.second, self.outcome))
        return Preferences(first, second, outcome, context, annotator, self.annotators)

    def to(self, device: torch.device) -> Preferences:
        """The same preferences on a device."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        moved: dict[str, Any] = {n: v.to(device) for n, v in given.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def check_rows(self, space: CategoricalSpace) -> None:
        """Raise ValueError unless the rows are of the space.

        The message names the feature and the pair, counted from 1.
        """
        if self.first.shape[1] != space.num_features:
            got = f"{self.first.shape[1]} features"
            raise ValueError(f"preferences of {got} for a space of {space.num_features}")
        for side, codes in (("first", self.first), ("second", self.second)):
            for name, size, column in zip(space.names, space.sizes, codes.unbind(1), strict=True):
                _check_codes(f"{side} row, feature {name!r}", column, size)

    def check(self, space: CategoricalSpace, spec: ContextSpec | None) -> None:
        """Raise ValueError unless the rows are of the space and the contexts of the spec."""
        self.check_rows(space)
        width = None if self.context is None else self.context.shape[-1]
        if width != (spec.width if spec else None):
            wanted = spec.width if spec else None
            raise ValueError(f"preferences with contexts of width {width}, not {wanted}")


def _check_codes(what: str, codes: Tensor, size: int) -> None:
    bad = ((codes < 0) | (codes >= size)).nonzero()
    if len(bad):
        pair = int(bad[0, 0])
        raise ValueError(f"{what}, pair {pair + 1}: {int(codes[pair])} is not in 0 to {size - 1}")
