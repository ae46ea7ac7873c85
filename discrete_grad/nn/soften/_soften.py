"""Let a pretrained model on codes take flat rows too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from discrete_grad.nn.soften._rewriting import rewrite
from discrete_grad.nn.soften._tracing import arguments, trace
from discrete_grad.space import CategoricalSpace, is_codes

__all__ = ["soften"]


def soften(model: nn.Module, space: CategoricalSpace, *, argument: str | None = None) -> nn.Module:
    """Return the model as one that takes codes and flat rows, with the same parameters.

    The model's forward is traced, and the argument that holds the codes `(N, F)` is followed to the
    `nn.Embedding`s that read it; each becomes a lookup that also takes the feature's block of a
    flat row. Columns may be read one by one (`codes[:, i]`, `unbind`, `select`, `split`, `.T`),
    several at once (`codes[:, 1:3]`), or all, by one table, with constants added to them
    (`table(codes + offsets)`) or without; and cast to other integers. A table may have more rows
    than its feature has categories (one for "unknown", say): they are not used.

    The result consists of the model's own layers under their own names: parameters, buffers and the
    modes of layers are shared, and the state_dict is the model's. Nothing is frozen: call
    `.requires_grad_(False).eval()` on it. Rows may have any leading dimensions, such as the sample
    dimension of `expectation`: the model sees `(N, F)`. Arguments whose default is None, a flag or
    a string are fixed at it, unless a None cannot be done with.

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
    return _SoftModel(model, space, argument)


class _SoftModel(nn.Module):
    """The model's own layers, run by a forward whose lookups take both forms of a row."""

    def __init__(self, model: nn.Module, space: CategoricalSpace, argument: str | None) -> None:
        super().__init__()
        names = arguments(model)
        if not names or argument not in (*names, None):
            name = type(model).__name__
            raise ValueError(f"{name}.forward has no argument {argument!r}, only {names}")
        if model._forward_hooks or model._forward_pre_hooks:
            name = type(model).__name__
            raise ValueError(f"soften: {name} has forward hooks, which would not run")
        argument = names[0] if argument is None else argument
        graph, tracer, fixed = trace(model, space, argument)
        lookups = rewrite(graph, tracer, model, space, fixed)
        for kind in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            setattr(self, kind, getattr(model, kind).copy())
        for name, lookup in lookups.items():
            self.add_module(name, lookup)
        used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
        for constant, name in tracer.tensor_attrs.items():  # tensors that are no buffers
            if isinstance(constant, Tensor) and name in used and "." not in name:
                self.register_buffer(name, constant, persistent=False)
        self.training = model.training
        self._soft = (model, space, names.index(argument), argument)
        self._run: Callable[..., Any] = type(fx.GraphModule(self, graph)).forward

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The model's forward; leading dimensions `(..., F)` and `(..., D)` become one for it."""
        _, space, position, argument = self._soft
        if argument not in named and len(inputs) <= position:
            raise TypeError(f"forward needs the row: argument {argument!r}")
        row = named[argument] if argument in named else inputs[position]
        if isinstance(row, Tensor) and is_codes(row):
            space.check_codes(row)
        else:
            space.check_flat(row, what="a flat row")
        lead = row.shape[:-1]
        if len(lead) == 1:
            return self._run(self, *inputs, **named)
        inputs = tuple(_fold(value, lead) for value in inputs)
        named = {name: _fold(value, lead) for name, value in named.items()}
        return _unfold(self._run(self, *inputs, **named), lead)

    def __reduce__(self) -> tuple[Any, ...]:
        model, space, _, argument = self._soft
        # the forward is made anew from the model: generated code does not pickle
        state = {name: v for name, v in vars(self).items() if name not in ("_soft", "_run")}
        return _SoftModel, (model, space, argument), state

    def __deepcopy__(self, memo: dict[int, Any]) -> _SoftModel:
        build, arguments, state = copy.deepcopy(self.__reduce__(), memo)
        copied: _SoftModel = build(*arguments)
        memo[id(self)] = copied
        copied.__setstate__(state)
        return copied


def _fold(value: Any, lead: torch.Size) -> Any:
    """A row, or what comes with it, with its leading dimensions as one `(N, ...)`.

    A tensor without the first of them (the sample dimension, say) is repeated along it.
    """
    if not isinstance(value, Tensor):
        return value
    for own in (lead[skip:] for skip in range(len(lead) or 1)):
        if value.shape[: len(own)] == own:
            rest = value.shape[len(own) :]
            return value.expand((*lead, *rest)).reshape((lead.numel(), *rest))
    return value


def _unfold(value: Any, lead: torch.Size) -> Any:
    if isinstance(value, Tensor) and value.shape[:1] == (lead.numel(),):
        return value.reshape((*lead, *value.shape[1:]))
    return tuple(_unfold(v, lead) for v in value) if isinstance(value, tuple) else value
