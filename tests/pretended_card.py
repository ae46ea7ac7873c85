"""A CUDA device that is not there: tensors of the CPU that say they are on it.

Everything is computed, on the CPU, so that whole fits run; what torch refuses on a GPU is refused
here: operations on tensors of both devices, `numpy()`, random numbers of the other device's source.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.utils.checkpoint
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CARD = torch.device("cuda", 0)
_HOME = torch.device("cpu")
_MOVES = {Tensor.to, Tensor.cpu, Tensor.cuda}
# what a GPU takes from the CPU: indices of a tensor, and the tensor that is copied
_TAKES = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default,
    torch.ops.aten.index_put.default,
    torch.ops.aten._index_put_impl_.default,
    torch.ops.aten.copy_.default,
}


class _Places:
    """The storages that are on the card, while they live."""

    def __init__(self) -> None:
        self.known: dict[int, StorageWeakRef] = {}
        # whether what torch makes for itself, of no tensor, is on the card: within an operation on
        # tensors that are
        self.inside = False

    @contextmanager
    def within(self, there: bool) -> Iterator[None]:
        """Run a block as an operation on the card, or on the CPU."""
        before, self.inside = self.inside, there
        try:
            yield
        finally:
            self.inside = before

    def has(self, tensor: Tensor) -> bool:
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            tensor = torch._C._functorch.get_unwrapped(tensor)
        if tensor.is_meta:
            return False
        known = self.known.get(tensor.untyped_storage()._cdata)
        return known is not None and not known.expired()

    def put(self, tensor: Tensor, there: bool) -> None:
        storage = tensor.untyped_storage()
        self.known.pop(storage._cdata, None)
        if there:
            self.known[storage._cdata] = StorageWeakRef(storage)


def _tensors(tree: object) -> list[Tensor]:
    # torch's own walk through a tree took half of the time of a fit
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, tuple | list):
        return []
    return [tensor for part in tree for tensor in _tensors(part)]


class _Spread(TorchDispatchMode):
    """What is computed from tensors of the card is on the card."""

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        with torch._C.DisableTorchFunction():  # what is asked here is not about the card
            given = [t for t in _tensors((args, kwargs)) if not t.is_meta]
            on_card = self._on_card(func, given) if given else self.places.inside
            before = {t.untyped_storage()._cdata for t in given}
        result = func(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunction():
            for made in _tensors(result):
                if not made.is_meta and made.untyped_storage()._cdata not in before:
                    self.places.put(made, on_card)
        return result

    def _on_card(self, func: Any, given: list[Tensor]) -> bool:
        """Whether the result is on the card, where the operation may be done at all."""
        there = [self.places.has(t) for t in given]
        if func in _TAKES:
            if not there[0] and any(there) and "copy" not in str(func):
                raise RuntimeError(f"{func}: indices should be on the CPU, as the tensor is")
            return there[0]
        if any(there) and any(t.dim() and not on for t, on in zip(given, there, strict=True)):
            raise RuntimeError(f"Expected all tensors to be on the same device: {func}")
        return any(there)


class _Pretend(TorchFunctionMode):
    """Moves to and from the card, and the device that tensors name."""

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self.places = places

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__" and func.__self__ is Tensor.device:
            return CARD if self.places.has(args[0]) else func(*args, **kwargs)
        if func is Tensor.numpy and self.places.has(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func in _MOVES:
            return self._moved(func, args, kwargs)
        device = kwargs.get("device")
        if device is None or torch.device(device).type == "meta":
            self._check_source(func, args, kwargs)
            with self.places.within(any(map(self.places.has, _tensors((args, kwargs))))):
                return func(*args, **kwargs)
        kwargs["device"], there = _HOME, torch.device(device).type == "cuda"
        result = func(*args, **kwargs)
        for made in _tensors(result):
            self.places.put(made, there)
        self._check_source(func, [result], kwargs)
        return result

    def _check_source(self, func: Any, args: Any, kwargs: Any) -> None:
        source, tensors = kwargs.get("generator"), _tensors(args)
        if isinstance(source, _Source) and func in _DRAWS:
            there = any(map(self.places.has, tensors))
            if there != (source.place.type == "cuda"):
                raise RuntimeError(f"Expected a generator of the tensor's device: {func}")

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        tensor, *rest = args
        there = self.places.has(tensor)
        to = [a for a in (*rest, *kwargs.values()) if isinstance(a, (str, torch.device))]
        to += [CARD if self.places.has(a) else _HOME for a in rest if isinstance(a, Tensor)]
        to += [_HOME] if func is Tensor.cpu else []
        if to and torch.device(to[0]).type == "meta":
            return func(*args, **kwargs)
        kinds = [a for a in (*rest, *kwargs.values()) if isinstance(a, torch.dtype)]
        kinds += [a.dtype for a in rest if isinstance(a, Tensor)]
        result = tensor.to(kinds[0]) if kinds else tensor
        wanted = torch.device(to[0]).type == "cuda" if to else there
        if wanted == there:
            return result
        if result.requires_grad and torch.is_grad_enabled():
            return _Move.apply(result, wanted, self.places)
        copied = result.detach().clone()
        self.places.put(copied, wanted)
        return copied


class _Move(torch.autograd.Function):
    """A copy on the other device, whose gradient comes back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, there: bool, places: _Places) -> Tensor:
        ctx.there, ctx.places = there, places
        copied = tensor.clone()
        places.put(copied, there)
        return copied

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        copied = gradient.clone()
        ctx.places.put(copied, not ctx.there)
        return copied, None, None


class _Source(torch.Generator):
    """A source of random numbers that says it is of a device."""

    place: torch.device

    def __new__(cls, device: str | torch.device = "cpu") -> _Source:
        made: _Source = super().__new__(cls)
        made.place = torch.device(device)
        return made

    def __init__(self, device: str | torch.device = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:
        """The device it was asked for on."""
        return self.place


_DRAWS = {torch.rand, torch.randn, torch.randint, torch.randperm, Tensor.uniform_, Tensor.normal_}


@contextmanager
def pretended_card() -> Iterator[None]:
    """A machine with one CUDA device, as far as tensors go."""
    places = _Places()
    mode, engine = _Pretend(places), torch.autograd._engine_run_backward
    parse, source = torch._C._nn._parse_to, _Source(CARD)

    def run_backward(*args: Any, **kwargs: Any) -> Any:
        # the backward passes that are written in Python name devices, too
        with places.within(True), mode:
            return engine(*args, **kwargs)

    def parse_to(*args: Any, **kwargs: Any) -> Any:
        # a module moved to where a tensor is, which torch reads in C++
        if args and isinstance(args[0], Tensor):
            return args[0].device, args[0].dtype, False, None
        return parse(*args, **kwargs)

    def shape(tensor: Tensor) -> tuple[int, ...]:
        return tuple(tensor.shape)  # without the device, which is read in and outside of the mode

    with ExitStack() as stack:
        for target, name, value in (
            (torch, "Generator", _Source),
            (torch.autograd, "_engine_run_backward", run_backward),
            (torch._C._nn, "_parse_to", parse_to),
            (torch.cuda, "is_available", lambda: True),
            (torch.cuda, "device_count", lambda: 1),
            # torch's optimisers ask its streams, which a build for CUDA refuses without a driver
            (torch.accelerator, "current_accelerator", lambda check_available=False: None),
            (torch.cuda, "default_generators", (source,)),
            (torch.cuda, "get_rng_state", lambda place: source.get_state()),
            (torch.cuda, "set_rng_state", lambda state, place: source.set_state(state)),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        checks = torch.utils.checkpoint._allowed_determinism_checks_to_fns
        stack.enter_context(mock.patch.dict(checks, {"default": shape}))
        stack.enter_context(_Spread(places))
        stack.enter_context(mode)
        yield
