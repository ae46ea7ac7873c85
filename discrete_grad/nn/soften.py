"""Let a pretrained model on codes take flat rows too."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from discrete_grad.nn.soft_embedding import embed
from discrete_grad.space import CategoricalSpace, is_codes

__all__ = ["soften"]


def soften(model: nn.Module, space: CategoricalSpace, *, argument: str | None = None) -> nn.Module:
    """Return the model as one that takes codes and flat rows, with the same parameters.

    The model's forward is followed from the argument that holds the codes `(..., F)` to the
    `nn.Embedding`s that read them; each becomes a lookup that also takes the feature's block of a
    flat row. Read so far: a column (`codes[:, i]`, `codes[..., i]`, `codes.select`, `unbind`),
    several columns (`codes[..., 1:3]`), the whole with offsets added (`table(codes + offsets)`) or
    without (features that share a table), each with casts to integers between. A table may have
    more rows than its feature has categories (a row for "unknown", say); they are not used.

    Everything else stays as it is and keeps its name in the state_dict; nothing is frozen: call
    `.requires_grad_(False)` and `.eval()` on the result (which are the model's own parameters).

    Args:
        model: the pretrained model; its forward must be traceable by `torch.fx`.
        space: the features, in the order of the columns of the codes.
        argument: name of forward's argument that holds the codes; the first by default.

    Returns:
        A module with the model's own signature.

    Raises:
        TypeError: if `model` is no module.
        ValueError: if the model cannot be converted: which module, and why.

    Example:
        >>> class Model(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.cut, self.colour = nn.Embedding(3, 4), nn.Embedding(7, 4)
        ...         self.score = nn.Linear(8, 1)
        ...     def forward(self, codes):
        ...         parts = [self.cut(codes[:, 0]), self.colour(codes[:, 1])]
        ...         return self.score(torch.cat(parts, -1)).squeeze(-1)
        >>> space = CategoricalSpace({"cut": 3, "colour": 7})
        >>> model = Model()
        >>> soft, codes = soften(model, space), torch.tensor([[2, 6]])
        >>> torch.equal(model(codes), soft(codes))
        True
        >>> torch.allclose(model(codes), soft(space.one_hot(codes)))
        True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"soften needs a module, got {type(model).__name__}")
    graph = _trace(model)
    lookups = _Rewriter(model, space, graph).run(argument)
    parts: dict[str, Any] = dict(lookups)
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr") and node.target not in parts:
            parts[node.target] = operator.attrgetter(node.target)(model)
    softened = fx.GraphModule(parts, graph, class_name=f"Soft{type(model).__name__}")
    return softened.train(model.training)


class _Lookup(nn.Module):
    """Embedding of some features of a row in either form; holds no parameters of its own."""

    def __init__(self, space: CategoricalSpace, reads: _Reads) -> None:
        super().__init__()
        self.whole = space
        self.reads = reads
        self.part = CategoricalSpace({space.names[i]: space.sizes[i] for i in reads.features})

    def forward(self, row: Tensor, weight: Tensor) -> Tensor:
        if is_codes(row):
            self.whole.check_codes(row)
            codes = row[..., list(self.reads.features)]
            starts = torch.tensor(self.reads.starts, device=row.device)
            embedded = F.embedding(codes + starts, weight)
        else:
            self.whole.check_flat(row, what="a flat row")
            blocks = self.whole.split(row)
            pairs = zip(self.reads.starts, self.part.sizes, strict=True)
            table = torch.cat([weight[start : start + size] for start, size in pairs])
            flat = torch.cat([blocks[i] for i in self.reads.features], -1)
            embedded = embed(self.part, flat, table)
        return embedded.squeeze(-2) if self.reads.single else embedded


@dataclass(frozen=True)
class _Reads:
    """What a traced value holds: columns of the codes, each with an offset added."""

    features: tuple[int, ...]
    starts: tuple[int, ...]
    single: bool = False

    def pick(self, index: int | slice) -> _Reads:
        if isinstance(index, slice):
            return replace(self, features=self.features[index], starts=self.starts[index])
        return _Reads((self.features[index],), (self.starts[index],), single=True)


class _Tracer(fx.Tracer):
    """Traces only modules that hold embeddings and remembers where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.record_stack_traces = True
        self.path: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Embedding):
            return True
        return not any(isinstance(part, nn.Embedding) for part in m.modules())

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self.path.append(f"{self.path_of_module(m)!r} ({type(m).__name__})")
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()
        return result


def _trace(model: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    try:
        return tracer.trace(model)
    except Exception as error:
        place = f"module {tracer.path[-1]}" if tracer.path else f"{type(model).__name__}.forward"
        raise ValueError(
            f"soften cannot follow {place}: {str(error).splitlines()[0]}; "
            "its forward must not branch on the values of tensors"
        ) from error


class _Rewriter:
    """Follows the codes through the graph and replaces the lookups that read them."""

    def __init__(self, model: nn.Module, space: CategoricalSpace, graph: fx.Graph) -> None:
        self.model, self.space, self.graph = model, space, graph
        self.reads: dict[Any, Any] = {}  # node -> _Reads, or a tuple of them after unbind
        self.lookups: dict[str, _Lookup] = {}

    def run(self, argument: str | None) -> dict[str, _Lookup]:
        row = self._placeholder(argument)
        count = self.space.num_features
        self.reads[row] = _Reads(tuple(range(count)), (0,) * count)
        for node in list(self.graph.nodes):
            if "training" in node.kwargs:
                raise self._error(node, "fixes its training mode when traced; use its nn.Module")
            if any(parent in self.reads for parent in node.all_input_nodes):
                self._visit(node, row)
        for node in reversed(list(self.reads)):
            if node is not row and not node.users:
                self.graph.erase_node(node)
        self._check_all_read()
        return self.lookups

    def _placeholder(self, argument: str | None) -> fx.Node:
        inputs = {str(node.target): node for node in self.graph.nodes if node.op == "placeholder"}
        name = next(iter(inputs), None) if argument is None else argument
        if name not in inputs:
            raise ValueError(
                f"{type(self.model).__name__}.forward has no argument {name!r}, only {list(inputs)}"
            )
        placeholder: fx.Node = inputs[name]
        return placeholder

    def _check_all_read(self) -> None:
        read = {i for lookup in self.lookups.values() for i in lookup.reads.features}
        for i, name in enumerate(self.space.names):
            if i not in read:
                model = type(self.model).__name__
                raise ValueError(f"soften: no nn.Embedding of {model} reads feature {name!r}")

    def _visit(self, node: fx.Node, row: fx.Node) -> None:
        if node.op == "call_module":
            self._replace(node, row)
        elif not _asks_for_batch_size(node):
            followed = _follow(node, self.reads, self.model)
            if followed is None:
                raise self._error(node, "is not a way of reading the codes that can be followed")
            self.reads[node] = followed

    def _replace(self, node: fx.Node, row: fx.Node) -> None:
        module = self.model.get_submodule(str(node.target))
        reads = self.reads.get(node.args[0] if node.args else next(iter(node.kwargs.values())))
        if type(module) is not nn.Embedding or not isinstance(reads, _Reads):
            raise self._error(node, "reads the codes; only an nn.Embedding may")
        if module.max_norm is not None:
            raise self._error(node, "renormalises its weights in place (max_norm)")
        for i, start in zip(reads.features, reads.starts, strict=True):
            last = start + self.space.sizes[i] - 1
            if start < 0 or last >= module.num_embeddings:
                name, rows = self.space.names[i], module.num_embeddings
                raise self._error(
                    node, f"has {rows} rows; feature {name!r} needs rows {start} to {last}"
                )
        name = f"soft_lookup_{len(self.lookups)}"
        self.lookups[name] = _Lookup(self.space, reads)
        with self.graph.inserting_before(node):
            weight = self.graph.create_node("get_attr", f"{node.target}.weight")
            lookup = self.graph.create_node("call_module", name, (row, weight))
        node.replace_all_uses_with(lookup)
        self.graph.erase_node(node)

    def _error(self, node: fx.Node, why: str) -> ValueError:
        model = type(self.model).__name__
        if node.op == "call_module":
            kind = type(self.model.get_submodule(str(node.target))).__name__
            place = f"module {node.target!r} ({kind})"
            return ValueError(f"soften cannot convert {model}: {place} {why}")
        name = getattr(node.target, "__name__", node.target)
        return ValueError(f"soften cannot convert {model}: {name!r}{_source_line(node)} {why}")


def _source_line(node: fx.Node) -> str:
    """The user's line that made a node, as ` in '...'`."""
    lines = (node.stack_trace or "").splitlines()
    frames = list(zip(lines[::2], lines[1::2], strict=False))
    ours = (str(Path(torch.__file__).parent), __file__)
    code = [line.strip() for file, line in frames if not any(path in file for path in ours)]
    return f" in {code[-1]!r}" if code else ""


_CASTS = {"long", "int", "to", "type", "contiguous", "clone"}


def _follow(node: fx.Node, known: dict[Any, Any], model: nn.Module) -> Any:
    """What a node holds if its inputs hold codes; None if that cannot be told."""
    name = str(getattr(node.target, "__name__", node.target))
    source = known.get(node.args[0])
    if name in _CASTS:
        return source
    if name in ("add", "iadd") and len(node.args) == 2:
        codes, other = node.args if isinstance(source, _Reads) else reversed(node.args)
        return _shift(known.get(codes), other, model)
    if name == "getitem":
        return _getitem(source, node.args[1])
    if not isinstance(source, _Reads) or source.single:
        return None
    arguments = [*node.args[1:], *node.kwargs.values()]
    if name == "unbind" and arguments in ([-1], [1]):
        return tuple(source.pick(i) for i in range(len(source.features)))
    if name == "select" and arguments[0] in (-1, 1) and isinstance(arguments[1], int):
        return source.pick(arguments[1])
    return None


def _getitem(source: Any, index: Any) -> Any:
    if isinstance(source, tuple):
        return source[index]
    if not isinstance(source, _Reads) or source.single:
        return None
    if not isinstance(index, tuple) or len(index) < 2 or not isinstance(index[-1], (int, slice)):
        return None
    whole = all(part is Ellipsis or part == slice(None) for part in index[:-1])
    return source.pick(index[-1]) if whole else None


def _shift(source: Any, other: Any, model: nn.Module) -> _Reads | None:
    """The codes with a constant added: one number, or one a feature."""
    if isinstance(other, fx.Node):
        if other.op != "get_attr":
            return None
        other = operator.attrgetter(str(other.target))(model)
        if not isinstance(other, Tensor) or other.is_floating_point():
            return None
        other = other.flatten().tolist()
    if not isinstance(source, _Reads) or not isinstance(other, (int, list)):
        return None
    count = len(source.features)
    added = [other] * count if isinstance(other, int) else other
    added = added * count if len(added) == 1 else added
    if len(added) != count:
        return None
    return replace(source, starts=tuple(a + b for a, b in zip(source.starts, added, strict=True)))


def _asks_for_batch_size(node: fx.Node) -> bool:
    """`codes.size(0)` or `codes.shape[0]`, the same for both forms of a row."""
    if node.target == "size":
        return node.args[1:] == (0,)
    if node.target is getattr and node.args[1] == "shape":
        return all(u.target is operator.getitem and u.args[1] == 0 for u in node.users)
    return False
