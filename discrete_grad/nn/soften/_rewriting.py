"""Rewrite a traced forward: lookups that take both forms of a row."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from discrete_grad.nn.soft_embedding import embed
from discrete_grad.nn.soften._reading import Reads
from discrete_grad.nn.soften._tracing import Tracer, arguments
from discrete_grad.space import CategoricalSpace, is_codes

__all__ = ["rewrite"]


def rewrite(
    graph: fx.Graph,
    tracer: Tracer,
    model: nn.Module,
    space: CategoricalSpace,
    fixed: dict[str, Any],
) -> dict[str, nn.Module]:
    """Rewrite the graph in place; returns the modules that it calls beside the model's own.

    Raises:
        ValueError: for a use of the codes other than by an `nn.Embedding` that fits.
    """
    return _Rewriter(graph, tracer, model, space).run(fixed)


class _Lookup(nn.Module):
    """Embedding of some features of a row in either form; holds no parameters of its own."""

    def __init__(self, space: CategoricalSpace, reads: Reads) -> None:
        super().__init__()
        self.whole = space
        self.reads = reads
        self.part = CategoricalSpace({str(i): space.sizes[f] for i, f in enumerate(reads.features)})

    def forward(self, row: Tensor, weight: Tensor) -> Tensor:
        starts, features = self.reads.starts, list(self.reads.features)
        if is_codes(row):
            codes = row[..., features] + torch.tensor(starts, device=row.device)
            embedded = F.embedding(codes, weight)
        else:
            blocks = self.whole.split(row)
            pairs = zip(starts, self.part.sizes, strict=True)
            table = torch.cat([weight[start : start + size] for start, size in pairs])
            embedded = embed(self.part, torch.cat([blocks[i] for i in features], -1), table)
        return embedded.squeeze(-2) if self.reads.single else embedded


class _Fixed(nn.Module):
    """Refuses a value of an argument that was fixed when the model was traced."""

    def __init__(self, name: str, value: Any) -> None:
        super().__init__()
        self.name, self.value = name, value

    def forward(self, given: Any) -> None:
        if given is not self.value and (self.value is None or given != self.value):
            raise ValueError(
                f"this softened model has {self.name}={self.value!r}, its default; for another "
                "value soften a module whose forward calls the model with it"
            )


class _Rewriter:
    """Replaces the lookups that read the codes, and refuses any other use of them."""

    def __init__(
        self, graph: fx.Graph, tracer: Tracer, model: nn.Module, space: CategoricalSpace
    ) -> None:
        self.model, self.space, self.graph = model, space, graph
        self.held, self.lines = tracer.held, tracer.lines
        self.parts: dict[str, nn.Module] = {}

    def run(self, fixed: dict[str, Any]) -> dict[str, nn.Module]:
        self._check_fixed(fixed)
        row = next(n for n in self.held if n.op == "placeholder")
        for node in list(self.graph.nodes):
            if any(isinstance(self.held.get(n), (Reads, tuple)) for n in node.all_input_nodes):
                self._visit(node, row)
        for node in reversed(list(self.graph.nodes)):
            unread = node in self.held or node.op == "get_attr" or _counts_rows(node)
            if unread and node is not row and not node.users:
                self.graph.erase_node(node)
        self._check_all_read()
        return self.parts

    def _check_fixed(self, fixed: dict[str, Any]) -> None:
        """A module that checks each fixed argument, in place of what fx made for it."""
        inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
        for name, node in zip(arguments(self.model), inputs, strict=False):
            if name not in fixed:
                continue
            for user in [*(u for n in node.users for u in n.users), *node.users]:
                self.graph.erase_node(user)
            node.target = name
            self.parts[f"soft_fixed_{name}"] = _Fixed(name, fixed[name])
            with self.graph.inserting_after(inputs[-1]):
                self.graph.create_node("call_module", f"soft_fixed_{name}", (node,))

    def _check_all_read(self) -> None:
        lookups = [part for part in self.parts.values() if isinstance(part, _Lookup)]
        read = {i for lookup in lookups for i in lookup.reads.features}
        for i, name in enumerate(self.space.names):
            if i not in read:
                model = type(self.model).__name__
                raise ValueError(f"soften: no nn.Embedding of {model} reads feature {name!r}")

    def _visit(self, node: fx.Node, row: fx.Node) -> None:
        if node.op == "call_module":
            self._replace(node, row)
        elif node.op == "output":
            raise self._error(node, "hands on the codes")
        elif isinstance(self.held.get(node), torch.device) or _counts_rows(node):
            node.update_arg(0, row)  # the same for both forms of a row
        elif node not in self.held:
            raise self._error(node, "is not a way of reading the codes that can be followed")

    def _replace(self, node: fx.Node, row: fx.Node) -> None:
        module = self.model.get_submodule(str(node.target))
        reads = self.held.get(node.args[0] if node.args else next(iter(node.kwargs.values())))
        if not isinstance(module, nn.Embedding) or not isinstance(reads, Reads):
            raise self._error(node, "reads the codes; only an nn.Embedding may")
        self._check_table(node, module, reads)
        name = f"soft_lookup_{len(self.parts)}"
        self.parts[name] = _Lookup(self.space, reads)
        with self.graph.inserting_before(node):
            weight = self.graph.create_node("get_attr", f"{node.target}.weight")
            lookup = self.graph.create_node("call_module", name, (row, weight))
        node.replace_all_uses_with(lookup)
        self.graph.erase_node(node)

    def _check_table(self, node: fx.Node, module: nn.Embedding, reads: Reads) -> None:
        if type(module).forward is not nn.Embedding.forward:
            raise self._error(
                node, "has a forward of its own; only nn.Embedding's can be converted"
            )
        if module.max_norm is not None:
            raise self._error(node, "renormalises its weights in place (max_norm)")
        if module._forward_hooks or module._forward_pre_hooks:
            raise self._error(node, "has forward hooks, which would not run")
        if "weight" not in module._parameters:
            raise self._error(node, "computes its weights (a parametrisation)")
        for i, start in zip(reads.features, reads.starts, strict=True):
            last = start + self.space.sizes[i] - 1
            if start < 0 or last >= module.num_embeddings:
                name, rows = self.space.names[i], module.num_embeddings
                raise self._error(
                    node, f"has {rows} rows; feature {name!r} needs rows {start} to {last}"
                )

    def _error(self, node: fx.Node, why: str) -> ValueError:
        model = type(self.model).__name__
        if node.op == "call_module":
            kind = type(self.model.get_submodule(str(node.target))).__name__
            return ValueError(
                f"soften cannot convert {model}: module {node.target!r} ({kind}) {why}"
            )
        name = getattr(node.target, "__name__", node.target)
        read = {i for n in node.all_input_nodes for i in _features(self.held.get(n))}
        which = ", ".join(repr(self.space.names[i]) for i in sorted(read)[:6])
        line = self.lines.get(node, "")
        return ValueError(f"soften cannot convert {model}: {name!r}{line} {why} (feature {which})")


def _features(held: Any) -> tuple[int, ...]:
    if isinstance(held, tuple):
        return tuple(i for reads in held for i in reads.features)
    return held.features if isinstance(held, Reads) else ()


def _counts_rows(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "size" and node.args[1:] == (0,)
