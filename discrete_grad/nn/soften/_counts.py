"""Soft counts where the model has integers, until it takes them for floating numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from discrete_grad.nn.soften._followed import Followed, TensorLike, change_in, forms, known

__all__ = ["Counts"]

_FORM = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "get_device"),
    *("is_floating_point", "is_complex"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones", "new_tensor"),
}
_CASTS = {
    *("to", "type", "type_as", "float", "double", "half", "bfloat16", "long", "int", "short"),
    *("cpu", "cuda"),
}
_KEPT = {
    *("getitem", "view", "reshape", "flatten", "unflatten", "transpose", "permute", "movedim"),
    *("unsqueeze", "squeeze", "cat", "concat", "stack", "expand", "repeat", "contiguous", "clone"),
    *("select", "narrow", "unbind", "split", "chunk", "t", "flip", "index_select", "detach"),
    *("swapaxes", "swapdims", "view_as", "reshape_as", "expand_as", "tensor_split", "iter"),
    *("sum", "cumsum", "add", "radd", "sub", "rsub", "mul", "rmul", "neg", "prod", "amax"),
    *("mean", "truediv", "div", "matmul", "mm", "bmm", "einsum"),
}
known(*_FORM, *_CASTS, *_KEPT)
_TO_FLOATING = {"mean", "truediv", "div"}
_PRODUCTS = {"matmul", "mm", "bmm", "einsum"}  # which promote no dtypes


class Counts(Followed):
    """A soft count: `F.one_hot` and sums of it.

    It is a plain tensor after a cast to a floating dtype, and beside floating numbers.
    """

    def __init__(self, value: Tensor, features: list[str], dtype: torch.dtype) -> None:
        self.value, self.features, self._dtype = value, features, dtype

    @classmethod
    def of(cls, value: Tensor, features: list[str], dtype: torch.dtype = torch.int64) -> Counts:
        """Of a soft one-hot."""
        kind = Counts if torch.compiler.is_compiling() else _TensorCounts
        return kind(value, features, dtype)

    @property
    def shape(self) -> torch.Size:
        """Of the counts."""
        return self.value.shape

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model takes the counts for."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Where the row lies."""
        return self.value.device

    def names(self) -> list[str]:
        """The features that are counted."""
        return self.features

    def likeliest(self) -> Tensor:
        """The counts, rounded."""
        return self.value.detach().round().to(self.dtype)

    @staticmethod
    def operate(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Result of an operation that integers and soft counts have in common."""
        first = args[0] if args else None
        if name in _FORM:
            return func(*forms(args), **forms(kwargs))
        if name == "len":
            return args[0].shape[0]
        if name in _CASTS:
            return _cast(func, args, kwargs) if isinstance(first, Counts) else NotImplemented
        return _kept(name, func, args, kwargs) if name in _KEPT else NotImplemented


class _TensorCounts(Counts, TensorLike):  # type: ignore[misc, override]
    @staticmethod
    def __new__(
        cls: type[_TensorCounts], value: Tensor, features: list[str], dtype: torch.dtype
    ) -> _TensorCounts:
        counts: _TensorCounts = Tensor._make_wrapper_subclass(
            cls, value.shape, dtype=dtype, device=value.device
        )
        return counts


def _cast(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    counts: Counts = args[0]
    like = func(counts.form(), *args[1:], **kwargs)
    if isinstance(like, str):
        return like
    if like.dtype == torch.bool or like.is_complex():
        return NotImplemented
    if like.is_floating_point():
        return func(counts.value, *args[1:], **kwargs)
    return Counts.of(counts.value.to(like.device), counts.features, like.dtype)


def _kept(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = _all((args, kwargs))
    if any(isinstance(value, Followed) and not isinstance(value, Counts) for value in found):
        return NotImplemented
    beside = [v for v in found if type(v) is not bool and _is_floating(v)]
    wide = next((v.dtype for v in beside if isinstance(v, Tensor)), None)

    def value(counts: Counts) -> Tensor:
        return counts.value if wide is None else counts.value.to(wide)

    if name in _PRODUCTS and wide is None:
        soft = next(v.value.dtype for v in found if isinstance(v, Counts))
        args, kwargs = _floating((args, kwargs), soft)
    result = func(*change_in(args, value), **change_in(kwargs, value))
    if beside or name in _TO_FLOATING or kwargs.get("dtype", torch.int64).is_floating_point:
        return result
    names = [n for v in found if isinstance(v, Counts) for n in v.features]
    if isinstance(result, Tensor):
        return Counts.of(result, names)
    parts = [Counts.of(part, names) for part in result]
    return iter(parts) if name == "iter" else type(result)(parts)


def _all(value: Any) -> list[Any]:
    if isinstance(value, Followed) or not isinstance(value, (tuple, list, dict)):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [leaf for part in parts for leaf in _all(part)]


def _floating(value: Any, dtype: torch.dtype) -> Any:
    """With the integer tensors in it in a floating dtype."""
    if isinstance(value, (tuple, list)):
        return type(value)(_floating(part, dtype) for part in value)
    if isinstance(value, dict):
        return {key: _floating(part, dtype) for key, part in value.items()}
    plain = isinstance(value, Tensor) and not isinstance(value, Followed)
    return value.to(dtype) if plain else value


def _is_floating(value: Any) -> bool:
    if isinstance(value, Followed):
        return False
    return isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point())
