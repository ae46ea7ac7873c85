"""Let a pretrained model on codes take flat rows too."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.nn.soften._calls import Call
from discrete_grad.nn.soften._codes import Row
from discrete_grad.nn.soften._followed import Followed, followed_in, following, refuse
from discrete_grad.space import CategoricalSpace, is_codes

__all__ = ["soften"]


def soften(
    model: nn.Module,
    space: CategoricalSpace,
    *,
    argument: str | None = None,
    columns: str | None = None,
    per_row: Sequence[str] | Mapping[str, int] | None = None,
    methods: Sequence[str] = ("to_latent",),
    frozen: bool = False,
) -> nn.Module:
    """Return the model as one that takes codes and flat rows, with the same parameters.

    Codes `(N, F)` go to the model as they are. For a flat row `(N, D)` the model gets codes without
    values that carry the row: what it looks up by them is the product of the row's blocks with the
    table, the expected embedding. It may look them up by `nn.Embedding`, `F.embedding`,
    `nn.EmbeddingBag`, `table[codes]`, `index_select` and `gather`, take them as
    `F.one_hot(codes, size)`, move them (index, slice, stack, split, reshape, ...), cast them, and
    add offsets to them, by which they read other rows of a table. Whatever needs the value of a
    code, such as `codes == 2`, raises TypeError at that line of the model.

    The model runs itself, in the modes, with the noise and the attributes that it has at the call;
    nothing in it is changed. Parameters and buffers are the model's, under their own names, and so
    is the signature. Rows may have any leading dimensions, such as the sample dimension of
    `expectation`: the model sees `(N, F)`, and outputs whose first dimension is N get the row's.
    A one-hot row takes the way of a soft one: to find out that it is one would take longer.

    Args:
        model: the pretrained model.
        space: the features, in the order of the columns of the codes.
        argument: name of forward's argument that holds the codes; the first by default.
        columns: the form in which forward takes the columns `(N,)`, if not as one tensor: `"dict"`
            (by feature's name) or `"tuple"` as one argument, `"args"` one after the other
            (`*columns`), `"kwargs"` by feature's name (`**row`). The softened model takes the row
            in their place.
        per_row: names of the arguments that have an entry for each row `(..., n)`, such as a
            context; or a mapping from the names to the number of dimensions of an entry (0 for one
            number a row). They are repeated along the row's other leading dimensions; all other
            arguments are given to the model as they are. By default `context`, and with rows of
            other than one leading dimension every other tensor must be declared.
        methods: methods of the model that take the row as well, by an argument of the same name or
            their first; those it has not are left out.
        frozen: use the model in evaluation mode and its parameters as constants, whatever `train()`
            is called on it or on what holds it. The model's own modes stay as they are.

    Returns:
        A module with the model's own signature.

    Raises:
        TypeError: if `model` is no module; at a call, if the model needs the value of a code.
        ValueError: for an argument that the model has not; at a call, for a row that does not fit,
            or a table that is too small for a feature.

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
    if per_row is not None and not isinstance(per_row, Mapping):
        per_row = dict.fromkeys(per_row, 1)
    calls = {"forward": Call.of(model.forward, space, argument, columns, per_row)}
    own = calls["forward"].argument if columns not in ("args", "kwargs") else None
    for name in methods:
        if callable(getattr(model, name, None)):
            calls[name] = Call.of(getattr(model, name), space, own, columns, per_row, or_first=True)
    return _build(model, calls, frozen)


def _build(model: nn.Module, calls: dict[str, Call], frozen: bool) -> nn.Module:
    """A module of a class of its own, whose methods have the model's signatures."""
    methods = {name: _method(name, call.signature) for name, call in calls.items()}
    kind = type(f"Soft{type(model).__name__}", (_SoftModel,), methods)
    built: nn.Module = kind(model, calls, frozen)
    return built


def _method(name: str, signature: inspect.Signature) -> Callable[..., Any]:
    def method(self: _SoftModel, *inputs: Any, **named: Any) -> Any:
        return self._follow(name, inputs, named)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [own, *signature.parameters.values()]
    method.__name__ = name
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return method


class _SoftModel(nn.Module):
    """The model itself, with codes that follow a flat row; its parameters and layers are shared."""

    def __init__(self, model: nn.Module, calls: dict[str, Call], frozen: bool) -> None:
        super().__init__()
        for kind in _SHARED:
            setattr(self, kind, getattr(model, kind))
        self.training = model.training and not frozen
        self._soft = (model, calls, frozen)  # in a tuple, or the model would be a part of itself

    def _follow(self, name: str, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        model, calls, frozen = self._soft
        call, run = calls[name], model if name == "forward" else getattr(model, name)
        row, values, named = call.take(inputs, named)
        lead = row.shape[:-1]
        values, named = call.fold(lead, values, named)
        row = row.reshape(-1, row.shape[-1])
        with _constant(model) if frozen else nullcontext():
            if is_codes(row):
                values, named = call.place(row, values, named)
                return _unfold(run(*values, **named), lead)
            return _unfold(_run_soft(model, run, call, row, values, named), lead)

    def train(self, mode: bool = True) -> _SoftModel:
        """Set the model's mode, unless it is frozen."""
        model, _, frozen = self._soft
        if not frozen:
            model.train(mode)
            self.training = mode
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        shared = (*_SHARED, "_soft")
        return _build, self._soft, {n: v for n, v in vars(self).items() if n not in shared}


_SHARED = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def _run_soft(
    model: nn.Module,
    run: Callable[..., Any],
    call: Call,
    flat: Tensor,
    inputs: list[Any],
    named: dict[str, Any],
) -> Any:
    row = Row(flat, call.space)
    # a program that had looked for codes in every module would be bound to all their attributes
    kept = None if torch.compiler.is_compiling() else weakref.ref(row)
    try:
        with following():
            inputs, named = call.place(row.codes(), inputs, named)
            result = run(*inputs, **named)
        returned = list(followed_in(result))
        if returned:
            raise refuse("return", returned, "hands on the codes, which are no tensor")
        return result
    finally:
        del row, inputs, named
        if kept is not None and kept() is not None:
            _put_away(model)


def _put_away(model: nn.Module) -> None:
    """Replace codes that the model has kept by the likeliest ones, as a tensor.

    Codes that carry a row live in a call alone: kept, they would hold its graph, and a model with
    one as a buffer could not be saved.
    """
    for module in model.modules():
        for held in (module.__dict__, module._buffers):
            for name, value in list(held.items()):
                if isinstance(value, Followed):
                    held[name] = value.likeliest()


@contextmanager
def _constant(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode and without derivatives of its parameters."""
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for module in training:
        module.training = False
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


def _unfold(value: Any, lead: torch.Size) -> Any:
    """Outputs with the row's leading dimensions in place of their first."""
    if len(lead) == 1:
        return value
    rows = lead.numel()

    def unfold(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == rows:
            return leaf.reshape((*lead, *leaf.shape[1:]))
        return leaf

    return torch.utils._pytree.tree_map(unfold, value)
