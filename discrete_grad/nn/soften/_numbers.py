"""Operations on codes that leave them where they are: casts, offsets, questions about all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from discrete_grad.nn.soften._codes import CONSTANT, Codes, Row, readable, rule
from discrete_grad.nn.soften._followed import Followed, forms, refuse
from discrete_grad.nn.soften._positions import Strided
from discrete_grad.space import is_codes

__all__ = ["bounds"]

Args = tuple[Any, ...]
Named = dict[str, Any]


# --- shape alone --------------------------------------------------------------------------------


@rule(
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size"),
    *("is_contiguous", "is_floating_point", "is_complex", "is_signed", "get_device"),
    *("zeros_like", "ones_like", "empty_like", "full_like"),
    *("rand_like", "randn_like", "randint_like"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor"),
)
def _shape_alone(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    return func(*forms(args), **forms(kwargs))


@rule("len")
def _length(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    return args[0].shape[0]


# --- the same codes -----------------------------------------------------------------------------


@rule("detach", "alias", "requires_grad_")
def _same(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    return args[0]


@rule(*("to", "type", "type_as", "cpu", "cuda", "long", "int", "short", "float", "double"))
def _cast(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    codes, *rest = args
    if not isinstance(codes, Codes):
        return func(*forms(args), **forms(kwargs))
    like = func(codes.form(), *forms(rest), **forms(kwargs))
    if isinstance(like, str):  # codes.type()
        return like
    if like.dtype not in _WIDE:
        return NotImplemented
    if like.device == codes.device:
        kept = like.dtype == codes.dtype
        return codes if kept else codes.moved(codes.at, codes.shift, dtype=like.dtype)
    row = Row(codes.row.flat.to(like.device), codes.row.space)
    shift = codes.shift.to(like.device) if isinstance(codes.shift, Tensor) else codes.shift
    return codes.moved(codes.at, shift, dtype=like.dtype, row=row)


# smaller ones do not hold every code, and torch takes an index of uint8 for a mask
_WIDE = (torch.int64, torch.int32, torch.int16, torch.float32, torch.float64)


@rule("clone")
def _clone(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    return args[0].moved(args[0].at, args[0].shift)


# --- what is the same for all codes ---------------------------------------------------------------


def bounds(codes: Codes) -> tuple[int, int] | None:
    """The least and the largest number that can be among codes; None if it is not known."""
    sizes, shift = codes.row.space.sizes, codes.shift
    if isinstance(shift, int) and isinstance(codes.at, Strided):
        return shift, shift + max([1, *(sizes[i] for i in codes.features())]) - 1
    at, shift = codes.positions(), codes.shifts()
    if not readable(shift) or not readable(at) or not at.numel():
        return None
    widths = torch.where(at == CONSTANT, 1, torch.tensor(sizes)[at % len(sizes)])
    return int(shift.min()), int((shift.cpu() + widths).max()) - 1


@rule("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    """Bounds that no code passes change nothing."""
    codes, *rest = args
    names = {"clamp_min": ("min",), "clamp_max": ("max",)}.get(name, ("min", "max"))
    given = dict(zip(names, rest, strict=False)) | kwargs
    low, high, known = given.get("min"), given.get("max"), bounds(codes)
    if known is None or any(not isinstance(b, (int, float, type(None))) for b in (low, high)):
        return NotImplemented
    if (low is None or low <= known[0]) and (high is None or high >= known[1]):
        return codes
    why = f"has bounds that codes can pass: here they are {known[0]} to {known[1]}"
    raise refuse(name, codes, why)


@rule("lt", "le", "gt", "ge", "eq", "ne")
def _compare(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    """A comparison that has one result for all codes, as `codes >= 0`."""
    codes, other = (*args, *kwargs.values())
    if not isinstance(codes, Codes) or not isinstance(other, (int, float)):
        return NotImplemented
    known = bounds(codes)
    if known is None:
        return NotImplemented
    least, largest = known
    always = {"lt": largest < other, "le": largest <= other, "gt": least > other}
    always |= {"ge": least >= other, "ne": not least <= other <= largest}
    never = {"lt": least >= other, "le": least > other, "gt": largest <= other}
    never |= {"ge": largest < other, "eq": not least <= other <= largest}
    result = True if always.get(name) else False if never.get(name) else None
    if result is None:
        return NotImplemented
    return torch.full((), result, device=codes.device).expand(codes.shape)


@rule("contains")
def _contains(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    found = _compare("eq", Tensor.eq, args, kwargs)
    return found if found is NotImplemented else False


# --- offsets ------------------------------------------------------------------------------------


@rule("add", "radd", "sub", "subtract")
def _offset(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    pair = [*args, *(kwargs[name] for name in ("input", "other") if name in kwargs)]
    if len(pair) != 2 or kwargs.keys() - {"input", "other", "alpha"}:
        return NotImplemented
    down = name in ("sub", "subtract")
    if isinstance(pair[1], Codes):
        if down:
            return NotImplemented
        pair.reverse()
    codes, added = pair
    alpha = kwargs.get("alpha", 1)
    if type(alpha) is not int or not isinstance(codes, Codes):
        return NotImplemented
    return shifted(codes, added, -alpha if down else alpha)


@rule("iadd", "isub", "add_", "sub_")
def _offset_in_place(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    codes, added = args
    if kwargs or not isinstance(codes, Codes):
        return NotImplemented
    if codes.shared:
        why = "changes codes in place that share memory with others; write codes = codes + offset"
        raise refuse(name, codes, why)
    result = shifted(codes, added, -1 if "sub" in name else 1)
    if result is NotImplemented or result.shape != codes.shape:
        return NotImplemented
    codes.shift = result.shift
    return codes


def shifted(codes: Codes, added: Any, times: int = 1) -> Any:
    """The codes with an integer, or a tensor of them, added."""
    if type(added) is int:
        return codes.moved(codes.at, codes.shift + times * added)
    if isinstance(added, Followed) or not isinstance(added, Tensor) or not is_codes(added):
        return NotImplemented
    added = added if times == 1 else added * times
    shape = torch.broadcast_shapes(codes.shape, added.shape)
    shift = codes.shift if isinstance(codes.shift, int) else _thin(codes.shift)
    at = codes.at
    if shape != codes.shape:
        at = at.expand(shape)
    return codes.moved(at, (shift + added).to(codes.device).expand(shape))


def _thin(tensor: Tensor) -> Tensor:
    """Without the repetitions of an expanded tensor, so that a sum is not written out."""
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor
