"""Calls of a softened model: where the row stands among the arguments, and what goes with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from discrete_grad.nn.soften._codes import Codes
from discrete_grad.space import CategoricalSpace, is_codes

__all__ = ["Call"]

_FORMS = ("dict", "tuple", "args", "kwargs")
_SEPARATE = ("args", "kwargs")
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Call:
    """A method of the model as one that takes a row.

    Attributes:
        space: the features.
        signature: of the softened method.
        names: its arguments that may be given by position, in order.
        argument: name of the one that holds the row.
        columns: the form in which the model takes the columns; None for one tensor.
        per_row: dimensions of a row's entry, by argument; None if the user has not said.
    """

    space: CategoricalSpace
    signature: inspect.Signature
    names: tuple[str, ...]
    argument: str
    columns: str | None
    per_row: dict[str, int] | None

    @classmethod
    def of(
        cls,
        method: Callable[..., Any],
        space: CategoricalSpace,
        argument: str | None,
        columns: str | None,
        per_row: Mapping[str, int] | None,
        *,
        or_first: bool = False,
    ) -> Call:
        """Read the method's signature; `or_first`: the first argument, if it has not this one.

        Raises:
            ValueError: for an argument or a form of columns that does not exist.
        """
        if columns not in (None, *_FORMS):
            raise ValueError(f"columns must be one of {', '.join(_FORMS)}, got {columns!r}")
        signature = inspect.signature(method)
        if columns in _SEPARATE:
            if argument is not None:
                raise ValueError(f"columns={columns!r} are no single argument, got {argument=}")
            signature, argument = _with_row(signature, space, columns), "row"
        parameters = signature.parameters.values()
        names = tuple(p.name for p in parameters if p.kind not in _VARIABLE)
        if argument not in names:
            if not names or (argument is not None and not or_first and columns not in _SEPARATE):
                raise ValueError(
                    f"{method.__qualname__} has no argument {argument!r}, only {list(names)}"
                )
            argument = names[0]
        given = None if per_row is None else dict(per_row)
        return cls(space, signature, names, argument, columns, given)

    def take(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Tensor, Any, Any]:
        """The row, and the arguments with None in its place."""
        position, rest = self.names.index(self.argument), dict(named)
        values = list(inputs)
        if self.argument in rest:
            row = rest[self.argument]
            rest[self.argument] = None
        elif len(values) > position:
            row, values[position] = values[position], None
        else:
            raise TypeError(f"forward needs the row: argument {self.argument!r}")
        if isinstance(row, Tensor) and is_codes(row):
            self.space.check_codes(row)
        else:
            self.space.check_flat(row, what="a flat row")
        return row, values, rest

    def fold(
        self, lead: torch.Size, inputs: list[Any], named: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments for N rows: those with an entry for each row are repeated to N."""
        names = (*self.names, *(f"number {i}" for i in range(len(self.names), len(inputs))))
        values = [self._fold(n, v, lead) for n, v in zip(names, inputs, strict=False)]
        return values, {name: self._fold(name, value, lead) for name, value in named.items()}

    def _fold(self, name: str, value: Any, lead: torch.Size) -> Any:
        declared = {"context": 1} if self.per_row is None else self.per_row
        if name in declared:
            own = declared[name]
            return _change_tensors(value, lambda leaf: _repeat(name, leaf, own, lead))
        if self.per_row is None and len(lead) != 1 and name != self.argument:
            _change_tensors(value, lambda leaf: self._undeclared(name, leaf, lead))
        return value

    def _undeclared(self, name: str, leaf: Tensor, lead: torch.Size) -> Tensor:
        if leaf.dim():
            raise ValueError(
                f"argument {name!r} comes with rows of leading dimensions {tuple(lead)}; say "
                f"whether it has an entry for each row: soften(..., per_row=[{name!r}]), or "
                "per_row=[] if all rows share it"
            )
        return leaf

    def place(
        self, codes: Tensor | Codes, inputs: list[Any], named: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments with the codes in the form that the model takes."""
        form: Any = codes
        if self.columns is not None:
            form = codes.unbind(-1)
            if self.columns in ("dict", "kwargs"):
                form = dict(zip(self.space.names, form, strict=True))
        values, rest = list(inputs), dict(named)
        if self.columns in _SEPARATE:
            if "row" in rest:
                del rest["row"]
            else:
                del values[0]
            if self.columns == "args":
                return [*form, *values], rest
            return values, {**form, **rest}
        if self.argument in rest:
            rest[self.argument] = form
        else:
            values[self.names.index(self.argument)] = form
        return values, rest


def _with_row(
    signature: inspect.Signature, space: CategoricalSpace, columns: str
) -> inspect.Signature:
    """The signature with a row in place of the columns."""
    parameters = list(signature.parameters.values())
    if columns == "kwargs":
        rest = [p for p in parameters if p.name not in space.names]
        rest = [p for p in rest if p.kind is not inspect.Parameter.VAR_KEYWORD]
    else:
        plain = [p for p in parameters if p.kind not in _VARIABLE]
        variable = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
        count = sum(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in plain)
        if not variable and count < space.num_features:
            raise ValueError(f"columns='args' needs {space.num_features} arguments, got {count}")
        taken = plain[: space.num_features if not variable else count]
        names = {p.name for p in taken if p.kind is not inspect.Parameter.KEYWORD_ONLY}
        rest = [p for p in parameters if p.name not in names]
        rest = [p for p in rest if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    row = inspect.Parameter("row", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return signature.replace(parameters=[row, *rest])


def _repeat(name: str, value: Tensor, own: int, lead: torch.Size) -> Tensor:
    """An argument with an entry for each of the rows `lead`, as `(N, ...)`."""
    given = value.shape[: value.dim() - own]
    if value.dim() < own or len(given) > len(lead):
        raise ValueError(
            f"argument {name!r} has shape {tuple(value.shape)}; it needs {own} dimensions for a "
            f"row's entry, after at most those of the rows, {tuple(lead)}"
        )
    for size, rows in zip(reversed(given), reversed(lead), strict=False):
        if size != rows and size != 1:
            raise ValueError(
                f"argument {name!r} is for rows {tuple(given)}, the rows are {tuple(lead)}"
            )
    entry = value.shape[len(given) :]
    return value.expand((*lead, *entry)).reshape((lead.numel(), *entry))


def _change_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return torch.utils._pytree.tree_map(
        lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, value
    )
