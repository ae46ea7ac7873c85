"""Codes that carry their flat row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from discrete_grad.nn.soften._followed import Followed, TensorLike, known
from discrete_grad.nn.soften._positions import Strided
from discrete_grad.space import CategoricalSpace, is_wrapped

__all__ = ["CONSTANT", "Codes", "Row", "readable", "rule"]

CONSTANT = -1  # in place of a position or feature: an element that is a number of its own

Rule = Callable[[str, Any, tuple[Any, ...], dict[str, Any]], Any]
_RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the way in which operations of these names on codes are followed."""

    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(known(*names), function))
        return function

    return register


class Row:
    """A flat row `(N, D)` that codes `(N, F)` stand for, split but once."""

    def __init__(self, flat: Tensor, space: CategoricalSpace) -> None:
        self.flat, self.space = flat, space
        self._parts: dict[bool, tuple[Tensor, ...]] = {}

    def part(self, feature: int) -> Tensor:
        """The block `(N, K)` of a feature."""
        # what is split under torch.no_grad() has no gradient later, either
        kind = torch.is_grad_enabled()
        if kind not in self._parts:
            self._parts[kind] = self.flat.split(list(self.space.sizes), -1)
        return self._parts[kind][feature]

    def codes(self) -> Codes:
        """The codes as they enter the model."""
        at = Strided.of(self.flat.shape[0], self.space.num_features)
        # torch.compile follows Python objects, but no tensors without data
        kind = Codes if torch.compiler.is_compiling() else _TensorCodes
        return kind(self, at, 0, torch.int64)


class Codes(Followed):
    """Integers without values: of each element is known which block of a row it stands for.

    Attributes:
        row: the row.
        at: position of each element in codes `(N, F)`: `row * F + feature`, and `CONSTANT` for a
            number that is no code; a tensor where they are not at equal distances.
        shift: what is added to each code; the value of a number that is no code.
        shared: whether other codes are views of these.
    """

    def __init__(
        self, row: Row, at: Strided | Tensor, shift: int | Tensor, dtype: torch.dtype
    ) -> None:
        self.row, self.at, self.shift, self._dtype = row, at, shift, dtype
        self.shared = False

    @property
    def shape(self) -> torch.Size:
        """Of the integers."""
        return torch.Size(self.at.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model takes the codes for."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Where the row lies."""
        return self.row.flat.device

    def likeliest(self) -> Tensor:
        """The codes of the likeliest row."""
        codes = self.row.space.argmax(self.row.flat.detach()).flatten()
        at = self.positions().to(codes.device)
        return (torch.where(at == CONSTANT, 0, codes[at]) + self.shifts()).to(self.dtype)

    @staticmethod
    def operate(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Result of an operation by its rule."""
        found = _RULES.get(name)
        return NotImplemented if found is None else found(name, func, args, kwargs)

    def moved(
        self,
        at: Strided | Tensor,
        shift: int | Tensor,
        *,
        dtype: torch.dtype | None = None,
        row: Row | None = None,
    ) -> Codes:
        """Others of the same row, or of another."""
        return type(self)(row or self.row, at, shift, dtype or self._dtype)

    def positions(self) -> Tensor:
        """`at` as a tensor."""
        return self.at if isinstance(self.at, Tensor) else self.at.tensor()

    def shifts(self) -> Tensor:
        """`shift` as a tensor of the codes' shape."""
        if isinstance(self.shift, Tensor):
            return self.shift
        return torch.tensor(self.shift, device=self.device).expand(self.shape)

    def features(self) -> list[int]:
        """The features among these, as far as it can be told."""
        count = self.row.space.num_features
        if isinstance(self.at, Tensor):
            if not readable(self.at):
                return list(range(count))
            found: list[int] = (self.at[self.at != CONSTANT] % count).unique().tolist()
            return found
        return sorted(set(self.at.features(count) or range(count)))

    def names(self) -> list[str]:
        """The names of the features among these."""
        return [self.row.space.names[i] for i in self.features()]


class _TensorCodes(Codes, TensorLike):  # type: ignore[misc, override]
    @staticmethod
    def __new__(
        cls: type[_TensorCodes], row: Row, at: Strided | Tensor, shift: Any, dtype: torch.dtype
    ) -> _TensorCodes:
        codes: _TensorCodes = Tensor._make_wrapper_subclass(
            cls, tuple(at.shape), dtype=dtype, device=row.flat.device
        )
        return codes


def readable(tensor: Tensor) -> bool:
    """Whether a tensor's values are there for Python to read."""
    if torch.compiler.is_compiling() or is_wrapped(tensor):
        return False
    return type(tensor).__name__ != "FakeTensor"
