"""Positions: to which row and feature each element of moved codes belongs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Axis", "Strided"]


class Axis(NamedTuple):
    """A run of elements that differ in their row, or in their feature, by equal steps."""

    size: int
    step: int
    of_rows: bool


class Strided(NamedTuple):
    """Positions `first + sum(index * stride)` in codes `(N, F)`, of `shape`.

    Python numbers, as `torch.compile` knows them where it does not know a tensor's values. A method
    returns None for positions that are not of this form.
    """

    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, rows: int, features: int) -> Strided:
        """Those of codes `(N, F)` as they come."""
        return cls(0, (rows, features), (features, 1))

    def tensor(self) -> Tensor:
        """The positions as integers."""
        result = torch.full((), self.first)
        for dim, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            steps = torch.arange(size) * stride
            result = result + steps.view(-1, *(1,) * (len(self.shape) - dim - 1))
        return result.expand(self.shape)

    def item(self, index: Any) -> Strided | None:
        """`codes[index]` for numbers, slices, None and `...`; an IndexError is left to torch."""
        if self._is_column(index):
            size, number = self.shape[1], index[1]
            first = self.first + (number % size) * self.strides[1]
            return Strided(first, self.shape[:1], self.strides[:1])
        parts = index if isinstance(index, tuple) else (index,)
        taken = sum(isinstance(part, (int, slice)) for part in parts)
        known = all(part is None or part is ... or _is_basic(part) for part in parts)
        missing = len(self.shape) - taken
        if not known or missing < 0 or sum(part is ... for part in parts) > 1:
            return None
        if not any(part is ... for part in parts):
            parts = (*parts, ...)
        at = next(i for i, part in enumerate(parts) if part is ...)
        whole = (slice(None),) * missing
        return self._take((*parts[:at], *whole, *parts[at + 1 :]))

    def _is_column(self, index: Any) -> bool:
        """Whether it is `codes[:, number]`, the most frequent."""
        if len(self.shape) != 2 or type(index) is not tuple or len(index) != 2:
            return False
        every, number = index
        size = self.shape[1]
        plain = type(number) is int and type(every) is slice and every == slice(None)
        return plain and -size <= number < size

    def _take(self, parts: Sequence[Any]) -> Strided | None:
        first, shape, strides, dim = self.first, [], [], 0
        for part in parts:
            if part is None:
                shape.append(1)
                strides.append(0)
                continue
            size, stride = self.shape[dim], self.strides[dim]
            dim += 1
            if isinstance(part, slice):
                if part == slice(None):  # without asking for the size, which may be unknown
                    start, count, step = 0, size, 1
                else:
                    start, stop, step = part.indices(size)
                    if step < 1:
                        return None
                    count = max(0, (stop - start + step - 1) // step)
                shape.append(count)
                strides.append(stride * step)
            elif -size <= part < size:
                start = part % size
            else:
                return None
            first += start * stride
        return Strided(first, tuple(shape), tuple(strides))

    def permute(self, dims: Sequence[int]) -> Strided:
        """The dimensions in another order."""
        pick = [d % len(self.shape) for d in dims]
        shape = tuple(self.shape[d] for d in pick)
        return Strided(self.first, shape, tuple(self.strides[d] for d in pick))

    def expand(self, shape: Sequence[int]) -> Strided:
        """Repeated along dimensions of size 1, and along new ones in front."""
        new = len(shape) - len(self.shape)
        sizes, strides = (1,) * new + self.shape, (0,) * new + self.strides
        wanted = tuple(s if w == -1 else w for s, w in zip(sizes, shape, strict=True))
        pairs = zip(sizes, wanted, strides, strict=True)
        return Strided(self.first, wanted, tuple(0 if s != w else t for s, w, t in pairs))

    def view(self, shape: Sequence[int]) -> Strided | None:
        """The same elements under another shape."""
        total = math.prod(self.shape)
        wanted = list(shape)
        if -1 in wanted:
            rest = math.prod([size for size in wanted if size != -1])
            if rest == 0:
                return None
            wanted[wanted.index(-1)] = total // rest
        if math.prod(wanted) != total or total == 0:
            return None
        runs = self._runs()
        strides: list[int] = []
        size, stride = runs.pop() if runs else (1, 0)
        for want in reversed(wanted):
            if want == 1:
                strides.insert(0, 0)
                continue
            while size == 1 and runs:
                size, stride = runs.pop()
            if size % want:
                return None
            strides.insert(0, stride)
            size, stride = size // want, stride * want
        return Strided(self.first, tuple(wanted), tuple(strides))

    def _runs(self) -> list[tuple[int, int]]:
        """Size and stride of dimensions, those that are one run of elements together."""
        runs: list[tuple[int, int]] = []
        for size, stride in zip(self.shape, self.strides, strict=True):
            if size == 1:
                continue
            if runs and runs[-1][1] == size * stride:
                runs[-1] = (runs[-1][0] * size, stride)
            else:
                runs.append((size, stride))
        return runs

    def axes(self, features: int) -> list[list[Axis]] | None:
        """Each dimension as the axes it consists of; None if an axis mixes rows and features."""
        result, reach = [], self.first % features
        for size, stride in zip(self.shape, self.strides, strict=True):
            if size == 1 or stride % features == 0:
                axes = [Axis(size, stride // features, True)]
            elif 0 < stride < features and (size - 1) * stride < features:
                axes = [Axis(size, stride, False)]
            elif features % stride == 0 and size * stride % features == 0:
                per_row = features // stride
                axes = [Axis(size // per_row, 1, True), Axis(per_row, stride, False)]
            else:
                return None
            reach += sum((axis.size - 1) * axis.step for axis in axes if not axis.of_rows)
            result.append(axes)
        return result if reach < features else None

    def features(self, features: int) -> list[int] | None:
        """The features of the elements of a row, in order."""
        axes = self.axes(features)
        if axes is None:
            return None
        steps = [range(0, a.size * a.step, a.step) for dim in axes for a in dim if not a.of_rows]
        return [self.first % features + sum(steps) for steps in itertools.product(*steps)]


def _is_basic(part: Any) -> bool:
    if isinstance(part, slice):
        return all(
            bound is None or type(bound) is int for bound in (part.start, part.stop, part.step)
        )
    return type(part) is int
