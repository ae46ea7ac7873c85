"""Values of rows by any function of them, each row evaluated once."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor

from discrete_grad.gradient.black_box import of_codes
from discrete_grad.models.protocol import ask, dtype_of, takes_codes
from discrete_grad.sampling import random_indices, seeded
from discrete_grad.space import CategoricalSpace, require_derivatives

__all__ = ["RowFunction", "RowValues"]

# numbers of codes, or of flat rows, that are evaluated at a time: the models make more of them
_CODES, _FLAT, _ROWS = 2**17, 2**20, 8192

Build = Callable[[Tensor], Tensor]
"""Places `(m,)` among some rows -> their codes `(m, F)`."""


class RowFunction:
    """A function of rows, as codes where it takes them, and its slope in the flat row.

    Args:
        f: as `swap_search` takes it.
        space: of the rows.
    """

    def __init__(self, f: Callable[..., Tensor], space: CategoricalSpace) -> None:
        box = of_codes(f)
        self.f, self.space = f if box is None else box, space
        # as far as is known, and as f says
        self.differentiable = box is None and getattr(f, "differentiable", True)
        self._codes = box is not None or takes_codes(f)

    @property
    def at_once(self) -> int:
        """Rows that are evaluated at a time."""
        numbers = _CODES // self.space.num_features if self._codes else _FLAT // self.space.width
        return max(1, min(_ROWS, numbers))

    @torch.no_grad()
    def values(self, codes: Tensor, context: Tensor | None) -> Tensor:
        """Values `(n,)` in float64 of rows `(n, F)`; `-inf` is one, NaN and `inf` are errors."""
        if self._codes:
            found = self.f(codes) if context is None else self.f(codes, context)
        else:
            found = ask(self.f, self.space, (codes,), context)
        if found.shape != codes.shape[:1]:
            raise ValueError(f"f must give values ({len(codes)},), got {tuple(found.shape)}")
        if (bad := found.isnan() | (found == torch.inf)).any():
            place = int(bad.nonzero()[0])
            row = codes[place].tolist()
            value = float(found[place])
            raise ValueError(f"f must be a number or -inf, got {value} at codes {row}")
        return found.double()

    def slopes(self, codes: Tensor, context: Tensor | None) -> Tensor | None:
        """Gradient `(n, D)` in the flat row; None of a function that has none."""
        if not self.differentiable:
            return None
        require_derivatives("a search by the gradient")
        size = max(1, min(_ROWS, _FLAT // self.space.width))
        contexts = [None] * len(codes) if context is None else context.split(size)
        parts = []
        for some, given in zip(codes.split(size), contexts, strict=False):
            slope = self.slopes_at(self.space.one_hot(some, dtype=dtype_of(self.f)), given)
            if slope is None:
                return None
            parts.append(slope)
        return torch.cat(parts)

    def slopes_at(self, flat: Tensor, context: Tensor | None) -> Tensor | None:
        """The same at flat rows `(n, D)`, all at once."""
        if not self.differentiable:
            return None
        flat = flat.detach().requires_grad_()
        with torch.enable_grad():
            total = (self.f(flat) if context is None else self.f(flat, context)).sum()
        slope = None
        if total.requires_grad:  # by the row, or by nothing but f's own parameters
            (slope,) = torch.autograd.grad(total, flat, allow_unused=True)
        self.differentiable = slope is not None
        # exact values decide: a slope that is no number only says nothing
        return None if slope is None else slope.nan_to_num(0.0, 0.0, 0.0)


class RowValues:
    """Values of all rows met, by their keys; see `row_keys`.

    Takes 16 bytes a row. The keys lie in sorted runs, each at least twice as long as the next, so
    that what is added costs the logarithm of their number.

    Args:
        function: of the rows.
        context: of each start, `(N, C)`, or None.
    """

    def __init__(self, function: RowFunction, context: Tensor | None) -> None:
        self._function, self._context = function, context
        self._runs: list[tuple[Tensor, Tensor]] = []
        self._salts: Tensor | None = None
        if context is not None:
            different, place = context.unique(dim=0, return_inverse=True)
            salts = random_indices(2**62, (len(different),), generator=seeded(1))
            self._salts = salts.to(context.device)[place]

    def of(self, starts: Tensor) -> RowValues:
        """The same for some of the starts, `(n,)`; what is known is shared."""
        part = copy(self)
        if self._context is not None and self._salts is not None:
            part._context, part._salts = self._context[starts], self._salts[starts]
        return part

    @property
    def differentiable(self) -> bool:
        """Whether the function may have a gradient."""
        return self._function.differentiable

    def slopes(self, codes: Tensor, where: Tensor) -> Tensor | None:
        """Gradient `(n, D)` at rows `(n, F)` of starts `(n,)`; None of a function without one."""
        context = None if self._context is None else self._context[where]
        return self._function.slopes(codes, context)

    def __call__(
        self, keys: Tensor, where: Tensor, left: Tensor, build: Build
    ) -> tuple[Tensor, Tensor]:
        """Values `(n,)` of rows, and how many were evaluated for each start `(N,)`.

        Args:
            keys: `(n,)`, of the rows.
            where: `(n,)`, the start that each belongs to, in ascending order.
            left: `(N,)`, evaluations that each start may still make; a row beyond them is `-inf`.
            build: their codes.
        """
        keys = keys if self._salts is None else keys + self._salts[where]
        values = self._known(keys)
        first = _first_of_equal(keys) & values.isnan()
        # the number of each row among the new ones of its start
        number = first.cumsum(0)
        before = torch.searchsorted(where, where)
        number = number - (number - first.long())[before]
        paid = (first & (number <= left[where])).nonzero().squeeze(1)
        if len(paid):
            self._add(keys[paid], self._evaluated(paid, where, build))
            values = self._known(keys)
        spent = where[paid].bincount(minlength=len(left))
        return values.masked_fill(values.isnan(), -torch.inf), spent

    def _evaluated(self, paid: Tensor, where: Tensor, build: Build) -> Tensor:
        parts = []
        for some in paid.split(self._function.at_once):
            context = None if self._context is None else self._context[where[some]]
            parts.append(self._function.values(build(some), context))
        return torch.cat(parts)

    def _known(self, keys: Tensor) -> Tensor:
        """Value of each key `(n,)`, NaN where there is none."""
        values = torch.full_like(keys, torch.nan, dtype=torch.float64)
        for run, known in self._runs:
            place = torch.searchsorted(run, keys).clamp_max(len(run) - 1)
            values = torch.where(run[place] == keys, known[place], values)
        return values

    def _add(self, keys: Tensor, values: Tensor) -> None:
        keys, order = keys.sort()
        self._runs.append((keys, values[order]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            (a, b), (c, d) = self._runs[-2:]
            keys, order = torch.cat([a, c]).sort()
            self._runs[-2:] = [(keys, torch.cat([b, d])[order])]


def _first_of_equal(keys: Tensor) -> Tensor:
    """Whether each key `(n,)` has none equal to it before it."""
    ordered, order = keys.sort(stable=True)
    repeated = torch.zeros_like(keys, dtype=torch.bool)
    repeated[1:] = ordered[1:] == ordered[:-1]
    return ~torch.zeros_like(repeated).scatter(0, order, repeated)
