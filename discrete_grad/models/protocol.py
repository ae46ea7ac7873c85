"""The protocol of all models of rows, and the check that a model has the parts that are needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from discrete_grad.space import CategoricalSpace, is_codes

__all__ = ["RowModel"]

_NUMBERS = 2**22  # of flat rows that are made of codes at a time


@runtime_checkable
class RowModel(Protocol):
    """A model of rows; your own model needs only this method.

    One's own is called with flat rows `(N, D)` and, in a context, `(N, C)`: what a softened model
    and a network of one-hot rows both take. Other parts are used where a model has them:

    - `to_latent(row, context)`, `(N, L)`: what an `Aligner` projects;
    - `space` and `context_spec`: the features and the context columns, where they are not given.

    Several of one's own are one ensemble as members of an `EstimatorEnsemble`.

    Example:
        >>> isinstance(nn.Linear(5, 1), RowModel)
        True
    """

    def __call__(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
        """Score `(N,)` of flat rows `(N, D)`, in contexts `(N, C)` if it is given any."""


_CALLS = {
    "forward": "forward(row, context)",
    "to_latent": "to_latent(row, context)",
    "predictions": "predictions(row, context)",
    "std": "std(row, context)",
    "project": "project(row, context)",
    "parameters": "parameters()` of an `nn.Module",
}
"""Parts that are called; the others are values."""


def has(model: object, part: str) -> bool:
    """Whether a model has a part, by name; a tensor with that name does not count.

    Example:
        >>> has(nn.Linear(2, 2), "forward"), has(nn.Linear(2, 2), "to_latent")
        (True, False)
    """
    if part == "forward":
        return callable(model)
    if part == "parameters":
        return isinstance(model, nn.Module)
    found = getattr(model, part, None)
    # a second softened view of a model may be its latents; any other layer has a name by chance
    by_chance = isinstance(found, nn.Module) and part != "to_latent"
    return found is not None and (part not in _CALLS or (callable(found) and not by_chance))


def require(user: str, model: object, *parts: str) -> None:
    """Raise TypeError, naming the first part that is missing, unless a model has them all.

    Args:
        user: what needs the model, the subject of the message.
        model: any object.
        parts: names of attributes.

    Example:
        >>> require("an aligner", nn.Linear(2, 2), "to_latent")
        Traceback (most recent call last):
        TypeError: an aligner needs a model with `to_latent(row, context)`; Linear has none
    """
    for part in parts:
        if not has(model, part):
            wanted = f"`{_CALLS.get(part, part)}`"
            raise TypeError(f"{user} needs a model with {wanted}; {type(model).__name__} has none")


def space_of(user: str, model: object, space: CategoricalSpace | None) -> CategoricalSpace:
    """The space that is given, or else the model's own.

    Raises:
        TypeError: where there is neither.
        ValueError: where the two differ.

    Example:
        >>> space_of("an aligner", nn.Linear(2, 2), None)
        Traceback (most recent call last):
        TypeError: an aligner needs the features, and Linear has no `space`: give `space=`
    """
    name, own = type(model).__name__, getattr(model, "space", None)
    if not isinstance(own, CategoricalSpace):
        own = space
    if own is None:
        raise TypeError(f"{user} needs the features, and {name} has no `space`: give `space=`")
    if space is not None and space != own:
        raise ValueError(f"{user} is for rows of {space}, and {name} for rows of {own}")
    return own


def dtype_of(model: object) -> torch.dtype:
    """Type of a model's first floating parameter or buffer; torch's default without any.

    Example:
        >>> dtype_of(nn.Linear(2, 2).double()), dtype_of(torch.sin)
        (torch.float64, torch.float32)
    """
    state = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    floating = (t.dtype for t in state if t.is_floating_point())
    return next(floating, torch.get_default_dtype())


def takes_codes(f: Callable[..., Tensor]) -> bool:
    """Whether a function says that it takes codes, too, which are then never made flat rows.

    Example:
        >>> takes_codes(torch.sum)
        False
    """
    return bool(getattr(f, "takes_codes", False))


def ask(
    f: Callable[..., Tensor],
    space: CategoricalSpace,
    rows: Sequence[Tensor],
    context: Tensor | None,
    *,
    like: object = None,
    width: str = "",
) -> Tensor:
    """Call one's own function with flat rows `(N, D)` and contexts `(N, C)`.

    Args:
        f: called as `f(*rows)`, with a context as `f(*rows, context)`.
        space: the features.
        rows: each codes `(..., F)` or flat `(..., D)`; one for a score, two for their likeness.
        context: `(..., C)`, or None; broadcast against the rows, as these against each other.
        like: module whose type the flat rows take that are made of codes; by default f.
        width: name of the answer's last dimension, if it has one beside N.

    Returns:
        What f says, `(...)` or `(..., L)`.

    Raises:
        TypeError: for an f that does not take what it is given.
        ValueError: for rows or a context that do not fit, or an answer of another shape.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = torch.tensor([[1, 2]])
        >>> ask(lambda row, c: row[:, 1] * c[:, 0], space, (codes,), torch.ones(4, 1))
        tensor([1., 1., 1., 1.])
    """
    for row in rows:
        if not is_codes(row):
            space.check_flat(row, what="a flat row")
    given = [*rows] if context is None else [*rows, context]
    _check_call(f, given)
    lead = _common_shape(given)
    folded = [t.expand(*lead, t.shape[-1]).reshape(lead.numel(), t.shape[-1]) for t in given]
    dtype = dtype_of(f if like is None else like)
    answers = []
    size = _at_once(f, space, rows, lead)
    for part in zip(*(t.split(size) for t in folded), strict=True):
        flat = [space.one_hot(t, dtype=dtype) if is_codes(t) else t for t in part[: len(rows)]]
        answers.append(f(*flat, *part[len(rows) :]))
        _check_answer(f, answers[-1], len(part[0]), width)
    return torch.cat(answers).unflatten(0, lead) if lead else torch.cat(answers).squeeze(0)


def _common_shape(given: Sequence[Tensor]) -> torch.Size:
    """Leading shape that rows and context are repeated to; ValueError where they do not fit."""
    try:
        shape: torch.Size = torch.broadcast_shapes(*(tensor.shape[:-1] for tensor in given))
    except RuntimeError as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in given)
        raise ValueError(f"rows and context must go together, got {shapes}") from error
    return shape


def _at_once(f: object, space: CategoricalSpace, rows: Sequence[Tensor], lead: torch.Size) -> int:
    """Rows of a call: flat ones are in memory already, those made of codes are not.

    A module in training is asked about the whole batch: it may take statistics of it.
    """
    trained = torch.is_grad_enabled() and getattr(f, "training", False)
    whole = trained or not all(is_codes(row) for row in rows)
    return max(1, lead.numel() if whole else _NUMBERS // space.width)


def _check_call(f: Callable[..., Any], given: Sequence[Tensor]) -> None:
    """TypeError unless f takes so many positional arguments; where Python can tell."""
    called = f.forward if isinstance(f, nn.Module) else f
    try:
        inspect.signature(called).bind(*given)
    except ValueError:  # a function of C without a signature
        return
    except TypeError as error:
        raise TypeError(
            f"{_name(f)} is called with {len(given)} tensors, rows before a context: {error}"
        ) from error


def _check_answer(f: Callable[..., Any], answer: object, count: int, width: str) -> None:
    wanted = f"({count}, {width})" if width else f"({count},)"
    shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    if not isinstance(answer, Tensor) or answer.dim() != 1 + bool(width) or len(answer) != count:
        raise ValueError(f"{_name(f)} must answer {count} rows by a tensor {wanted}, got {shape}")


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__qualname__", type(f).__name__)
