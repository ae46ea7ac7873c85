"""Single swaps of a row: their exact effect on a score, and what its gradient predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.evaluation.in_parts import in_parts, rows_at_once
from discrete_grad.models.protocol import dtype_of, space_of, takes_codes
from discrete_grad.space import CategoricalSpace, require_derivatives

__all__ = ["SwapEffects", "swap_effects"]

_ROUNDING = 16  # in units of the last place


@dataclass(frozen=True, eq=False)
class SwapEffects:
    """The effects of all single swaps of some rows.

    Args:
        space: the features.
        codes: the rows `(N, F)`.
        exact: `(N, D)`, `f(row with feature i set to category k) - f(row)`; 0 at the row's own
            categories.
        predicted: `(N, D)`, the same to first order, by the gradient at the row.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> effects = swap_effects(lambda row: row[:, 1], torch.tensor([[0, 2]]), space=space)
        >>> effects.swapped.tolist()
        [[False, True, True, True, False]]
    """

    space: CategoricalSpace
    codes: Tensor
    exact: Tensor
    predicted: Tensor

    @property
    def swapped(self) -> Tensor:
        """`(N, D)`, where there is a swap: everywhere but at the row's own categories."""
        return self.space.one_hot(self.codes) == 0


def swap_effects(
    f: Callable[..., Tensor],
    codes: Tensor,
    context: Tensor | None = None,
    *,
    space: CategoricalSpace | None = None,
    dtype: torch.dtype | None = None,
    max_rows: int = 8192,
) -> SwapEffects:
    """The exact effect of every single swap, and the effect that the gradient predicts.

    The prediction is `g[i, k] - g[i, own]`, g the gradient of f in the flat row at the hard row:
    what a method that differentiates f at hard rows believes of a swap. Effects within the rounding
    of f or of its gradient count as 0.

    **Evaluations of f:** `N (D - F + 1)` for the exact effects, `max_rows` at a time, and N with a
    backward pass for the prediction.

    Args:
        f: an estimator, an ensemble of them, or one's own model or function of flat rows `(n, D)`
            with values `(n,)`; with a context it is called as `f(rows, context)`.
        codes: the rows `(N, F)`, N >= 1.
        context: `(N, C)`, or None.
        space: the features; by default those of f, if it has a `space`.
        dtype: of the flat rows; by default that of f's parameters.
        max_rows: rows that f is given at a time, at most; fewer of wide rows. At least 1.

    Raises:
        TypeError: without a space, or for codes that are no integers.
        ValueError: for shapes that do not fit, codes out of range, values or gradients that are not
            finite, or a function without a gradient in the flat row.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> def f(row):  # the second swap is worth more once the first is done
        ...     return row[:, 1] * (1 + 5 * row[:, 3]) + row[:, 3]
        >>> effects = swap_effects(f, torch.tensor([[1, 0]]), space=space)
        >>> effects.exact.tolist(), effects.predicted.tolist()
        ([[-1.0, 0.0, 0.0, 6.0]], [[-1.0, 0.0, 0.0, 6.0]])
    """
    space = space_of("swap_effects", f, space)
    _check(space, codes, context, max_rows)
    dtype = dtype or dtype_of(f)
    here, gradient = _value_and_gradient(f, space, codes, context, dtype, max_rows)
    step = torch.finfo(here.dtype).eps * _ROUNDING
    own = space.one_hot(codes) != 0
    exact = torch.zeros(own.shape, dtype=here.dtype, device=codes.device)
    if space.width > space.num_features:
        there = _values_of_swaps(f, space, codes, context, dtype, max_rows)
        exact[~own] = (there - here.unsqueeze(-1)).flatten()
        exact = _snapped(exact, step * there.abs().amax(-1, keepdim=True))
    promised = space.swap_gains(gradient, codes)
    predicted = _snapped(promised, step * gradient.abs().amax(-1, keepdim=True))
    return SwapEffects(space, codes, exact, predicted)


def _snapped(effects: Tensor, limit: Tensor) -> Tensor:
    """A feature that f ignores would otherwise have its rounding errors ranked."""
    return effects.masked_fill(effects.abs() <= limit, 0)


def _check(space: CategoricalSpace, codes: Tensor, context: Tensor | None, max_rows: int) -> None:
    space.check_codes(codes)
    if codes.dim() != 2 or not len(codes):
        raise ValueError(f"codes must be (N, F) with N >= 1, got {tuple(codes.shape)}")
    if context is not None and (context.dim() != 2 or len(context) != len(codes)):
        raise ValueError(f"context must be ({len(codes)}, C), got {tuple(context.shape)}")
    if max_rows < 1:
        raise ValueError(f"max_rows must be at least 1, got {max_rows}")


def _values_of_swaps(
    f: Callable[..., Tensor],
    space: CategoricalSpace,
    codes: Tensor,
    context: Tensor | None,
    dtype: torch.dtype,
    max_rows: int,
) -> Tensor:
    """Values `(N, D - F)` of every row with one swap, in the order of `space.swaps`."""
    count = space.width - space.num_features
    max_rows = rows_at_once(space.num_features if takes_codes(f) else space.width, max_rows)

    def score(rows: Tensor, contexts: Tensor | None) -> Tensor:
        given = rows if takes_codes(f) else space.one_hot(rows, dtype=dtype)
        with torch.no_grad():
            return _finite(space, rows, _call(f, given, contexts), "f")

    parts = torch.arange(len(codes)).split(max(1, max_rows // count))
    values = []
    for part in parts:  # all swaps of a row are laid out at once, as codes
        swaps = space.swaps(codes[part]).flatten(0, 1)
        repeated = None if context is None else context[part].repeat_interleave(count, 0)
        values.append(in_parts(score, swaps, repeated, rows=max_rows))
    return torch.cat(values).reshape(len(codes), count)


def _value_and_gradient(
    f: Callable[..., Tensor],
    space: CategoricalSpace,
    codes: Tensor,
    context: Tensor | None,
    dtype: torch.dtype,
    max_rows: int,
) -> tuple[Tensor, Tensor]:
    """Values `(N,)` of the rows and its gradient `(N, D)` in the flat row."""
    require_derivatives("a prediction of swaps by the gradient")
    values, gradients = [], []
    max_rows = rows_at_once(space.width, max_rows)
    for rows, contexts in _parts(codes, context, max_rows):
        flat = space.one_hot(rows, dtype=dtype).requires_grad_()
        with torch.enable_grad():
            value = _call(f, flat, contexts)
            total = value.sum()
        gradient = None
        if total.requires_grad:  # by the row, or by nothing but f's own parameters
            (gradient,) = torch.autograd.grad(total, flat, allow_unused=True)
        if gradient is None:
            raise ValueError("f has no gradient in the flat row, so it predicts no swap")
        values.append(_finite(space, rows, value.detach(), "f"))
        gradients.append(_finite(space, rows, gradient, "the gradient of f"))
    return torch.cat(values), torch.cat(gradients)


def _parts(
    codes: Tensor, context: Tensor | None, max_rows: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    contexts = [None] * len(codes) if context is None else context.split(max_rows)
    yield from zip(codes.split(max_rows), contexts, strict=False)


def _call(f: Callable[..., Tensor], row: Tensor, context: Tensor | None) -> Tensor:
    value = f(row) if context is None else f(row, context)
    if value.shape != row.shape[:-1]:
        raise ValueError(f"f must give values {tuple(row.shape[:-1])}, got {tuple(value.shape)}")
    return value


def _finite(space: CategoricalSpace, codes: Tensor, values: Tensor, what: str) -> Tensor:
    if not values.isfinite().all():
        place = int((~values.isfinite()).nonzero()[0, 0])
        labels = zip(space.names, space.categories, codes[place].tolist(), strict=True)
        row = ", ".join(f"{name}={categories[code]}" for name, categories, code in labels)
        raise ValueError(f"{what} must be finite, got {values[place].tolist()} at the row {row}")
    return values
