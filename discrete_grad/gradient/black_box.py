"""A black box on integer codes as a function of flat rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from discrete_grad.gradient.base import Function
from discrete_grad.space import CategoricalSpace

__all__ = ["NoDerivativeError", "on_codes"]


class NoDerivativeError(ValueError):
    """Function without a derivative in the row; `values` are its values, where they are known."""

    def __init__(self, what: str, values: Tensor | None = None) -> None:
        super().__init__(
            f"{what} has no derivative in the row; use a gradient estimator that needs none, such "
            "as LeaveOneOut, Reinforce or Enumerate"
        )
        self.values = values


def on_codes(
    space: CategoricalSpace, f: Callable[..., Tensor], context: Tensor | None = None
) -> Function:
    """Wrap a black box on integer codes as a function of flat rows.

    Args:
        space: the space of the rows.
        f: maps codes `(..., F)` to values `(...)`; with a context, codes and contexts `(..., C)`.
        context: `(*batch, C)`, one for each element of the batch; f is given it repeated for the
            samples.

    Returns:
        A function of hard flat rows, which pickles if f does. A black box has no df/dx: it raises
        ValueError when it is handed rows that carry a gradient, as every relaxation does, or rows
        of another batch than the context's.

    Example:
        >>> import torch
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> on_codes(space, lambda codes: codes.sum(-1))(space.one_hot(torch.tensor([1, 2])))
        tensor(3)
        >>> f = on_codes(space, lambda codes, c: codes[..., 0] + c[..., 0], torch.tensor([[7.0]]))
        >>> f(space.one_hot(torch.tensor([[[0, 2]], [[1, 2]]])))
        tensor([[7.],
                [8.]])
    """
    return partial(_on_rows, space, f, context)


def of_codes(f: Callable[..., Tensor]) -> Callable[..., Tensor] | None:
    """The function of codes that `on_codes` wrapped without a context; None of any other.

    Example:
        >>> of_codes(on_codes(CategoricalSpace.from_sizes((2, 3)), len)) is len
        True
    """
    if isinstance(f, partial) and f.func is _on_rows and f.args[2] is None:
        codes: Callable[..., Tensor] = f.args[1]
        return codes
    return None


def _on_rows(
    space: CategoricalSpace, f: Callable[..., Tensor], context: Tensor | None, rows: Tensor
) -> Tensor:
    if rows.requires_grad:
        raise NoDerivativeError("a black box on codes")
    codes = space.argmax(rows)
    if context is None:
        return f(codes)
    batch = context.shape[:-1]
    if not context.dim() or rows.shape[:-1][rows.dim() - 1 - len(batch) :] != batch:
        raise ValueError(
            f"the context of a black box must be (*batch, C) for rows (samples, *batch, "
            f"{space.width}), got {tuple(context.shape)} and {tuple(rows.shape)}"
        )
    return f(codes, context.expand(*rows.shape[:-1], -1))
