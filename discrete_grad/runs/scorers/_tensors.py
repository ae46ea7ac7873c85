"""Torch modules of one's own as functions of codes and of flat rows."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.nn import soften
from discrete_grad.runs.scorers._columns import RowColumns
from discrete_grad.runs.scorers.scorer import Takes
from discrete_grad.training.checkpoint import RunError

__all__ = ["TorchForm", "frozen_copy", "possible_forms"]


def frozen_copy(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy in evaluation mode, without gradients of its parameters; the model stays as it is."""
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        raise RunError(
            f"the scorer {type(model).__name__} cannot be copied, and a fit must not change it: "
            f"{error}"
        ) from error
    return copied.to(device).requires_grad_(False).eval()


def possible_forms(model: nn.Module, columns: RowColumns) -> list[tuple[Takes, bool]]:
    """Forms that forward's arguments allow, each with and without the encoded context."""
    sizes = set(columns.schema.space.sizes)
    wanted: list[Takes] = ["codes", "one-hot"]
    if len(sizes) == 1:
        wanted.append("channels")
    encoded = [True, False] if columns.context else [False]
    forms: list[tuple[Takes, bool]] = [(form, c) for form in wanted for c in encoded]
    return [*forms, ("dict", False), ("arguments", False)]


class TorchForm(nn.Module):
    """A module that is called with codes, or flat rows, in the form it takes.

    Args:
        model: frozen.
        columns: of the table.
        takes: the form.
        encoded: whether the encoded context is a second argument.
    """

    def __init__(self, model: nn.Module, columns: RowColumns, takes: Takes, encoded: bool) -> None:
        super().__init__()
        self.model, self.columns, self.takes, self.encoded = model, columns, takes, encoded
        self.on_codes = takes in ("codes", "dict", "arguments")
        self.soft: nn.Module | None = None
        if self.on_codes:
            self.soft = soften(self, columns.schema.space, argument="row")

    def forward(self, row: Tensor, context: Tensor | None = None) -> Any:
        """Answer to codes `(N, F)`, or to flat rows `(N, D)` where the model takes these."""
        if self.takes in ("dict", "arguments"):
            return self._by_name(row, context)
        if self.takes == "channels":
            row = row.unflatten(-1, (self.columns.schema.space.num_features, -1)).mT
        return self.model(row, context) if self.encoded else self.model(row)

    def answer(self, row: Tensor, context: Tensor | None) -> Any:
        """Answer to codes or flat rows, whichever the model takes."""
        space = self.columns.schema.space
        if row.is_floating_point() == (not self.on_codes):
            return self(row, context)
        if self.soft is None:
            return self(space.one_hot(row), context)
        return self.soft(row, context)

    def _by_name(self, codes: Tensor, context: Tensor | None) -> Any:
        found = self.columns.tensors(codes, context)
        numeric = {column.name for column in self.columns.numeric}
        named = {n: v.float() if n in numeric else v for n, v in found.items()}
        if self.takes == "dict":
            return self.model(named)
        return self.model(**_accepted(self.model, named))


def _accepted(model: nn.Module, columns: dict[str, Any]) -> dict[str, Any]:
    """Columns that forward has arguments for: all, if it takes any."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return columns
    return {n: columns[n] for n in (p.name for p in parameters) if n in columns}
