"""Trace a model's forward and tell which values in it hold codes."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import operator
import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn

from discrete_grad.nn.soften._reading import Reads, follow
from discrete_grad.space import CategoricalSpace, is_codes

__all__ = ["Tracer", "arguments", "trace"]


class Tracer(fx.Tracer):
    """Traces the modules that hold embeddings.

    `held` maps a node to `Reads`, to a tuple of them, or, for what does not depend on the inputs'
    values, to the constant it is; `lines` maps it to the user's line that made it.
    """

    proxy_buffer_attributes = True  # or a product of buffers would be frozen at its value now

    def __init__(self, space: CategoricalSpace, argument: str) -> None:
        super().__init__()
        self.argument = argument
        self.held: dict[Any, Any] = {}
        self.lines: dict[Any, str] = {}
        self.path: list[str] = []
        self._whole = Reads(tuple(range(space.num_features)), (0,) * space.num_features)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is called as it is."""
        kinds = (nn.Embedding, nn.EmbeddingBag)
        return isinstance(m, kinds) or not any(isinstance(part, kinds) for part in m.modules())

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Remembers where the trace is, for messages."""
        self.path.append(f"module {self.path_of_module(m)!r} ({type(m).__name__})")
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Integer tensors, such as offsets, stay values that Python may compute with."""
        if isinstance(attr_val, Tensor) and is_codes(attr_val):
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Notes what a new node holds."""
        self.lines[node] = _user_line(traceback.walk_stack(None))
        held = self._hold(node)
        if held is not None:
            self.held[node] = held
        return _Codes(node, self) if isinstance(held, Reads) else super().proxy(node)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Only several columns can be looped over."""
        held = self.held.get(obj.node)
        if not isinstance(held, tuple):
            raise fx.proxy.TraceError("a loop over a tensor; use codes.unbind(-1) or codes[:, i]")
        return iter([operator.getitem(obj, i) for i in range(len(held))])

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Nothing is known of values."""
        raise fx.proxy.TraceError("it branches on the values of a tensor")

    def _known(self, value: Any) -> Any:
        """Content or value of a node's argument; None if it cannot be known."""
        if not isinstance(value, fx.Node):
            return value
        if value.op != "get_attr":
            return self.held.get(value)
        constant = operator.attrgetter(str(value.target))(self.root)
        return constant if isinstance(constant, Tensor) and is_codes(constant) else None

    def _hold(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._whole if node.target == self.argument else None
        if node.op not in ("call_function", "call_method"):
            return None
        if any(isinstance(self.held.get(n), (Reads, tuple)) for n in node.all_input_nodes):
            return follow(node, self._known)
        return self._evaluate(node)

    def _evaluate(self, node: fx.Node) -> Any:
        """An integer tensor made of constants, such as `offsets.to(codes.device)`."""
        values = {n: self._known(n) for n in node.all_input_nodes}
        if not values or any(value is None for value in values.values()):
            return None
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        is_method = node.op == "call_method"
        function: Any = getattr(type(args[0]), str(node.target)) if is_method else node.target
        value = function(*args, **kwargs)
        return value if isinstance(value, Tensor) and is_codes(value) else None


class _Codes(fx.Proxy):
    """A traced value that holds codes; Python may ask what is the same for every batch.

    Codes are `(N, F)` or one column `(N,)`: the softened model sees to it.
    """

    tracer: Tracer

    @property
    def shape(self) -> tuple[Any, ...]:
        reads = self.tracer.held[self.node]
        rows = self.tracer.create_proxy("call_method", "size", (self, 0), {})
        return (rows,) if reads.single else (rows, len(reads.features))

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    @property
    def ndim(self) -> int:
        return 1 if self.tracer.held[self.node].single else 2

    def dim(self) -> int:
        return self.ndim

    @property
    def dtype(self) -> torch.dtype:
        return torch.int64

    def __len__(self) -> int:
        raise fx.proxy.TraceError("len of the codes cannot be followed; use codes.shape[0]")


def arguments(model: nn.Module) -> list[str]:
    """Names of forward's arguments, in order."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters
    return [name for name, parameter in parameters.items() if parameter.kind not in variable]


def trace(
    model: nn.Module, space: CategoricalSpace, argument: str
) -> tuple[fx.Graph, Tracer, dict[str, Any]]:
    """The graph of a model's forward, its tracer, and the arguments fixed at their defaults.

    Python asks for None, for a flag or a mode's name, so an argument with such a default is fixed
    at it, unless the default is None and the forward cannot do with it. The model stays as it was.

    Raises:
        ValueError: for a forward that cannot be traced, or depends on `training` outside a layer.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters}
    fixed: dict[str, Any] = {n: v for n, v in defaults.items() if isinstance(v, (bool, str))}
    absent = {n: None for n, v in defaults.items() if v is None and n != argument}
    try:
        graph, tracer = _trace(model, Tracer(space, argument), fixed | absent, model.training)
        fixed |= absent
    except ValueError:
        if not absent:
            raise
        graph, tracer = _trace(model, Tracer(space, argument), fixed, model.training)
    flipped, other = _trace(model, Tracer(space, argument), fixed, not model.training)
    for ours, theirs in zip_longest(graph.nodes, flipped.nodes):
        if _key(ours) != _key(theirs):
            node, where = (theirs, other) if ours is None or ours.op == "output" else (ours, tracer)
            name = repr(getattr(node.target, "__name__", node.target))
            raise ValueError(
                f"soften cannot convert {type(model).__name__}: {name}{where.lines.get(node, '')} "
                "depends on self.training, which is fixed when traced; use a module (nn.Dropout)"
            )
    return graph, tracer, fixed


def _key(node: fx.Node | None) -> Any:
    return node and (node.op, str(node.target), str(node.args), str(node.kwargs))


def _trace(
    model: nn.Module, tracer: Tracer, fixed: dict[str, Any], training: bool
) -> tuple[fx.Graph, Tracer]:
    with _unchanged(model):
        for module in model.modules():
            module.training = training
        try:
            return tracer.trace(model, fixed or None), tracer
        except Exception as error:
            place = tracer.path[-1] if tracer.path else f"{type(model).__name__}.forward"
            reason = (str(error) or type(error).__name__).splitlines()[0]
            line = _user_line(reversed(list(traceback.walk_tb(error.__traceback__))))
            raise ValueError(f"soften cannot follow {place}{line}: {reason}") from error


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Undo what a trace leaves behind on a model: constants, stored activations, modes.

    Raises:
        ValueError: if the forward changes a buffer of integers: it would not do so when softened.
    """
    before = [(vars(module), dict(vars(module))) for module in model.modules()]
    counters = [(n, b, b._version, b.clone()) for n, b in model.named_buffers() if is_codes(b)]
    try:
        yield
    finally:
        for now, then in before:
            now.clear()
            now.update(then)
        for name, buffer, version, value in counters:
            if buffer._version != version:
                buffer.copy_(value)
                raise ValueError(f"soften: {type(model).__name__}.forward changes buffer {name!r}")


_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parent), contextlib.__file__, "<")


def _user_line(frames: Iterable[tuple[FrameType, int]]) -> str:
    """The first line outside torch and this folder, as ` in '...'`."""
    for frame, number in frames:
        file = frame.f_code.co_filename
        if not file.startswith(_OURS):
            return f" in {linecache.getline(file, number).strip()!r}"
    return ""
