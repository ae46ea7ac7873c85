"""Stand-ins for tensors of integers, to which the operations on them come."""

from __future__ import annotations

import functools
import itertools
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import GetSetDescriptorType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = [
    "Followed",
    "TensorLike",
    "change_in",
    "describe",
    "followed_in",
    "following",
    "known",
    "refuse",
]


class Followed:
    """A stand-in for a tensor of integers; subclasses say what becomes of operations."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return follow(func, args, kwargs or {})

    @property
    def shape(self) -> torch.Size:
        """Of the integers."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model takes them for."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the row lies."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def form(self) -> Tensor:
        """A plain tensor of the same shape, dtype and device, without values."""
        return torch.empty((), dtype=self.dtype, device=self.device).expand(self.shape)

    def names(self) -> list[str]:
        """The features that it stands for."""
        raise NotImplementedError

    def likeliest(self) -> Tensor:
        """Plain integers in its place: those of the likeliest row."""
        raise NotImplementedError

    @staticmethod
    def operate(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Result of an operation; `NotImplemented` for one that cannot be followed."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        kind = getattr(Tensor, name)  # an AttributeError says what torch's would
        return functools.partial(_method, kind, self) if callable(kind) else self.asked(name)

    def asked(self, name: str) -> Any:
        """What a tensor's property is."""
        if name in _PROPERTIES:
            return getattr(self.form(), name)
        if name in ("T", "mT"):
            return follow(Tensor.transpose, (self, -2, -1), {}) if self.ndim > 1 else self
        if name == "data":
            return self
        raise refuse(f".{name}", (self,))

    def __hash__(self) -> int:
        raise refuse("hash", (self,))

    def __format__(self, specification: str) -> str:
        return repr(self)

    def __repr__(self) -> str:
        kind = type(self).__name__.removeprefix("_Tensor").lower()
        return f"{kind} {tuple(self.shape)} of a soft row ({', '.join(self.names()[:6])})"


_PROPERTIES = {
    *("is_cuda", "is_cpu", "is_mps", "is_meta", "is_sparse", "is_quantized", "is_nested", "layout"),
    *("requires_grad", "grad", "grad_fn", "is_leaf", "itemsize", "names"),
}
_OPERATORS = (
    "getitem setitem delitem len iter contains bool int float complex index array "
    "add radd iadd sub rsub isub mul rmul imul matmul rmatmul truediv rtruediv itruediv "
    "floordiv rfloordiv ifloordiv mod rmod pow rpow neg pos abs invert and rand or ror xor rxor "
    "lshift rshift eq ne lt le gt ge reversed"
)


def _method(kind: Any, *args: Any, **kwargs: Any) -> Any:
    return follow(kind, args, kwargs)


def _operator(name: str) -> Callable[..., Any]:
    def method(self: Followed, *args: Any) -> Any:
        return follow(getattr(Tensor, name), (self, *args), {})

    method.__name__ = name
    return method


for _name in _OPERATORS.split():
    setattr(Followed, f"__{_name}__", _operator(f"__{_name}__"))


class TensorLike(Tensor):
    """Makes a stand-in a tensor for whoever asks, one without data: `class T(Stand, TensorLike)`.

    Operations come to the stand-in before they come to torch; what torch itself would do with a
    tensor's data is refused.
    """

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raise refuse(str(func), (args, kwargs or {}))


def following() -> TorchFunctionMode:
    """Sees operations that torch does not ask an argument about, as `table[codes]`."""
    return _Compiled() if torch.compiler.is_compiling() else _Following()


class _Following(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        for kind in types:
            if issubclass(kind, Followed):
                return follow(func, args, kwargs or {})
        return func(*args, **kwargs) if kwargs else func(*args)


class _Compiled(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if any(True for _ in followed_in((args, kwargs))):  # it does not tell types within lists
            return follow(func, args, kwargs)
        if func is Tensor.unflatten:  # which calls super(), where torch.compile does not follow
            return torch.unflatten(*args, **kwargs)
        return func(*args, **kwargs)


def follow(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Result of an operation, some of whose arguments are stand-ins.

    Raises:
        TypeError: if it needs the value of a code.
    """
    if func not in _NAMES:  # torch.compile knows a function as a key, but not its name
        owner = getattr(func, "__self__", None)
        if len(args) == 1 and isinstance(owner, (GetSetDescriptorType, property)):
            return args[0].asked(str(getattr(owner, "__name__", getattr(owner, "fget", owner))))
        raise refuse(_name_of(func), (args, kwargs))
    name = _NAMES[func]
    first = args[0] if args and isinstance(args[0], Followed) else next(followed_in((args, kwargs)))
    result = first.operate(name, func, args, kwargs)
    if result is NotImplemented:
        raise refuse(name, (args, kwargs))
    return result


_NAMES: dict[Any, str] = {}
_CASTS = ("int", "float")  # as operators they ask for a value


def known(*names: str) -> tuple[str, ...]:
    """Operations that are followed, by name: as functions, methods and operators of torch."""
    for name, owner in itertools.product(names, (torch, F, Tensor)):
        for attribute in (name,) if name in _CASTS else (name, f"__{name}__"):
            found = getattr(owner, attribute, None)
            if callable(found):
                _NAMES[found] = name
    return names


def _name_of(func: Any) -> str:
    """Name of an operation that is not followed, for messages."""
    name: str = getattr(func, "__name__", "this operation")
    return name if torch.compiler.is_compiling() else name.removeprefix("__").removesuffix("__")


def followed_in(value: Any) -> Iterator[Followed]:
    """The stand-ins among arguments."""
    if isinstance(value, Followed):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from followed_in(part)
    elif isinstance(value, dict):
        yield from followed_in(list(value.values()))


def change_in(value: Any, change: Callable[[Any], Any]) -> Any:
    """Arguments with their stand-ins changed."""
    if isinstance(value, Followed):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)([change_in(part, change) for part in value])
    if isinstance(value, dict):
        return {key: change_in(part, change) for key, part in value.items()}
    return value


def forms(value: Any) -> Any:
    """Arguments with a tensor of the same shape in place of each stand-in."""
    return change_in(value, lambda followed: followed.form())


def refuse(name: str, arguments: Any, why: str = "") -> TypeError:
    """The error for what cannot be followed: the operation, the user's line, the way out."""
    why = why or "needs the value of a code, which a soft row does not have"
    return TypeError(
        f"{describe(name, arguments)} {why}. Codes may be looked up in tables, taken as F.one_hot, "
        "moved, and given offsets. If the model cannot do with that, take it as a black box, "
        "on_codes(space, model), with a gradient estimator that needs no derivative of f, such as "
        "LeaveOneOut; or embed the row by a SoftEmbedding and give that to the model where it "
        "takes embeddings (inputs_embeds)"
    )


def describe(name: str, arguments: Any) -> str:
    """The operation, the user's line and the features, as messages begin."""
    names = dict.fromkeys(n for codes in followed_in(arguments) for n in codes.names())
    which = ", ".join(map(repr, list(names)[:6])) + (", ..." if len(names) > 6 else "")
    return f"soften: {name!r}{_user_line()} (feature {which})"


_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")


def _user_line() -> str:
    """The innermost line outside torch and this folder, as ` in '...'`."""
    if torch.compiler.is_compiling():
        return ""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return ""
    return f" in {linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()!r}"
