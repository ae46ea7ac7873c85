"""Operations that move codes, or join them with others and with numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from discrete_grad.nn.soften._codes import CONSTANT, Codes, readable, rule
from discrete_grad.nn.soften._followed import Followed, followed_in, forms, refuse
from discrete_grad.nn.soften._positions import Strided
from discrete_grad.space import is_codes

__all__ = ["move"]

Args = tuple[Any, ...]
Named = dict[str, Any]


def _sizes(rest: Sequence[Any], named: Named, *names: str) -> list[int]:
    """Sizes or dimensions, given one by one, as a sequence, or by name."""
    for name in names:
        if name in named:
            rest = (named[name],)
    if len(rest) == 1 and not isinstance(rest[0], int):
        rest = rest[0]
    return list(rest)


def _option(position: int, rest: Sequence[Any], named: Named, name: str, default: Any) -> Any:
    return rest[position] if len(rest) > position else named.get(name, default)


def _pieces(at: Strided, dim: int, sizes: Sequence[int]) -> list[Strided | None]:
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    parts = []
    for stop, size in zip(stops, sizes, strict=True):
        index = [slice(None)] * len(at.shape)
        index[dim] = slice(stop - size, stop)
        parts.append(at.item(tuple(index)))
    return parts


def _in_steps(size: int, step: int) -> list[int]:
    whole = [step] * (size // step)
    return [*whole, size % step] if size % step else whole


def _strided(name: str, at: Strided, rest: Sequence[Any], named: Named) -> Any:
    """The positions after a move, or several of them; None if they are not known to be regular."""
    if name == "getitem":
        return at.item(rest[0])
    ndim = len(at.shape)
    if name in ("transpose", "swapaxes", "swapdims", "t", "adjoint"):
        dims = list(range(ndim))
        a = _option(0, rest, named, "dim0", named.get("axis0", 0))
        b = _option(1, rest, named, "dim1", named.get("axis1", 1))
        dims[a], dims[b] = dims[b], dims[a]
        return at.permute(dims)
    if name == "permute":
        return at.permute(_sizes(rest, named, "dims"))
    if name == "expand":
        return at.expand(_sizes(rest, named, "size"))
    if name in ("view", "reshape"):
        return at.view(_sizes(rest, named, "shape"))
    if name in ("flatten", "ravel"):
        start = _option(0, rest, named, "start_dim", 0) % max(ndim, 1)
        stop = _option(1, rest, named, "end_dim", -1) % max(ndim, 1)
        merged = math.prod(at.shape[start : stop + 1])
        return at.view((*at.shape[:start], merged, *at.shape[stop + 1 :]))
    if name == "unsqueeze":
        dim = _option(0, rest, named, "dim", None) % (ndim + 1)
        return at.item((*(slice(None),) * dim, None))
    if name == "squeeze":
        dim = _option(0, rest, named, "dim", None)
        only = range(ndim) if dim is None else [d % ndim for d in _sizes((dim,), {})]
        index = [0 if d in only and at.shape[d] == 1 else slice(None) for d in range(ndim)]
        return at.item(tuple(index))
    return _cut(name, at, rest, named)


def _cut(name: str, at: Strided, rest: Sequence[Any], named: Named) -> Any:
    """The same for moves that take a part along a dimension."""
    if name == "select":
        dim = _option(0, rest, named, "dim", None) % len(at.shape)
        return at.item((*(slice(None),) * dim, _option(1, rest, named, "index", None)))
    if name == "narrow":
        dim = _option(0, rest, named, "dim", None) % len(at.shape)
        start = _option(1, rest, named, "start", None)
        part = slice(start, start + _option(2, rest, named, "length", None))
        return at.item((*(slice(None),) * dim, part)) if type(start) is int and start >= 0 else None
    if name == "unbind":
        dim = _option(0, rest, named, "dim", 0) % len(at.shape)
        return [at.item((*(slice(None),) * dim, i)) for i in range(at.shape[dim])]
    if name in ("split", "split_with_sizes", "chunk"):
        dim = _option(1, rest, named, "dim", 0) % len(at.shape)
        option = "chunks" if name == "chunk" else "split_sizes"  # `split` gives its own by place
        amount = _option(0, rest, named, option, None)
        size = at.shape[dim]
        if name == "chunk":
            amount = max(1, -(-size // amount))
        sizes = _in_steps(size, amount) if isinstance(amount, int) else list(amount)
        return _pieces(at, dim, sizes) if sum(sizes) == size else None
    return None


_MOVES = (
    *("transpose", "swapaxes", "swapdims", "t", "adjoint", "permute", "expand", "view", "reshape"),
    *("flatten", "ravel", "unsqueeze", "squeeze", "select", "narrow", "unbind", "split", "chunk"),
    *("split_with_sizes", "tensor_split", "hsplit", "vsplit", "dsplit", "unflatten", "movedim"),
    *("moveaxis", "flip", "fliplr", "flipud", "roll", "rot90", "repeat", "tile", "broadcast_to"),
    *("repeat_interleave", "masked_select"),
    *("diagonal", "unfold", "atleast_1d", "atleast_2d", "atleast_3d", "contiguous", "view_as"),
    *("expand_as", "reshape_as", "slice_scatter"),
)


def move(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    """The codes at their new places."""
    named = dict(kwargs)
    codes = args[0] if args else named.pop("input", None)
    rest = args[1:]
    if not isinstance(codes, Codes):
        if name in _SHAPED_LIKE:
            return func(*forms(args), **kwargs)
        return NotImplemented
    rest, named = forms(rest) if name in _SHAPED_LIKE else rest, named
    if name == "view":
        if any(isinstance(part, torch.dtype) for part in (*rest, *named.values())):
            return NotImplemented
        func = Tensor.reshape  # positions and shifts may lie otherwise in memory than codes
        rest, named = (_sizes(rest, named, "size"),), {}
    at = _strided(name, codes.at, rest, named) if isinstance(codes.at, Strided) else None
    if at is None or (isinstance(at, list) and None in at):
        if any(followed_in((rest, named))):
            return NotImplemented
        at = func(codes.positions(), *_on_host(rest), **_on_host(named))
    shift: Any = codes.shift
    if isinstance(shift, Tensor):
        shift = func(shift, *rest, **named)
    codes.shared = True
    if isinstance(at, (tuple, list)) and not isinstance(at, Strided):
        shifts = shift if isinstance(shift, (tuple, list)) else [shift] * len(at)
        return tuple(_view(codes, a, s) for a, s in zip(at, shifts, strict=True))
    return _view(codes, at, shift)


_SHAPED_LIKE = ("view_as", "expand_as", "reshape_as")


def _view(codes: Codes, at: Strided | Tensor, shift: int | Tensor) -> Codes:
    view = codes.moved(at, shift)
    view.shared = True
    return view


def _on_host(value: Any) -> Any:
    """Positions are kept on the host, so what selects among them must lie there."""
    if isinstance(value, Tensor):
        return value.cpu()
    if type(value) in (tuple, list):
        return type(value)([_on_host(part) for part in value])
    return {k: _on_host(v) for k, v in value.items()} if isinstance(value, dict) else value


rule(*_MOVES)(move)


@rule("iter")
def _iterate(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    return iter(move("unbind", Tensor.unbind, args, {}))


# --- several codes, and numbers among them --------------------------------------------------------


@rule(
    *("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack"),
    *("row_stack", "where", "masked_fill", "broadcast_tensors"),
)
def _join(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    if name == "broadcast_tensors" and len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = tuple(args[0])
    if name == "where":
        known = [key for key in ("condition", "input", "other") if key in kwargs]
        if len(known) < len(kwargs):
            return NotImplemented
        args, kwargs = (*args, *(kwargs[key] for key in known)), {}
    if name == "where" and isinstance(args[0], Tensor) and not isinstance(args[0], Codes):
        condition, *rest = args
    elif name == "masked_fill":
        source, mask, value = (*args, *kwargs.values())
        func, condition, rest = torch.where, mask, [value, source]
    else:
        condition, rest = None, list(args)
    if isinstance(condition, Followed) or (len(args) == 1 and name == "where"):
        return NotImplemented
    kwargs = {} if name == "masked_fill" else kwargs
    if condition is not None:
        rest = [torch.tensor(part) if type(part) is int else part for part in rest]
    first = cast(Codes, next(followed_in((rest, kwargs))))
    if not all(_fits(part, first) for part in _leaves((rest, kwargs))):
        return NotImplemented
    masks = [] if condition is None else [condition]
    at = func(*_on_host(masks), *_numbers(rest, _place), **_numbers(kwargs, _place))
    shift = func(
        *masks,
        *_numbers(rest, lambda v: _value(v, first)),
        **_numbers(kwargs, lambda v: _value(v, first)),
    )
    if name == "broadcast_tensors":
        pairs = zip(args, at, shift, strict=True)
        return tuple(first.moved(a, s) if isinstance(v, Codes) else s for v, a, s in pairs)
    return first.moved(at, shift)


def _leaves(value: Any) -> list[Any]:
    if type(value) in (tuple, list):
        return [leaf for part in value for leaf in _leaves(part)]
    if isinstance(value, dict):
        return [leaf for key, part in value.items() if key != "dim" for leaf in _leaves(part)]
    return [value]


def _fits(part: Any, first: Codes) -> bool:
    if isinstance(part, Followed):
        return isinstance(part, Codes) and part.row is first.row
    return type(part) is int or (isinstance(part, Tensor) and is_codes(part))


def _numbers(value: Any, change: Callable[[Any], Tensor]) -> Any:
    if isinstance(value, (Codes, Tensor)):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)([_numbers(part, change) for part in value])
    return {k: _numbers(v, change) for k, v in value.items()} if isinstance(value, dict) else value


def _place(value: Codes | Tensor) -> Tensor:
    if isinstance(value, Codes):
        return value.positions()
    return torch.full(value.shape, CONSTANT)


def _value(value: Codes | Tensor, first: Codes) -> Tensor:
    return value.shifts() if isinstance(value, Codes) else value.to(first.device)


@rule("setitem")
def _put(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    codes, index, value = args
    if not isinstance(codes, Codes) or any(followed_in(index)) or not _fits(value, codes):
        return NotImplemented
    if codes.shared:
        why = "changes codes in place that share memory with others; clone them first"
        raise refuse(name, codes, why)
    flags = isinstance(index, Tensor) and index.dtype == torch.bool
    if flags and readable(index) and not index.any():
        return None  # and the codes stay regular
    at, shift = codes.positions().clone(), codes.shifts().clone()
    at[_on_host(index)] = value.positions() if isinstance(value, Codes) else CONSTANT
    shift[index] = value.shifts() if isinstance(value, Codes) else value
    codes.at, codes.shift = at, shift
    return None
