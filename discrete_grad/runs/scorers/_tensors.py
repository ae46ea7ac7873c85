"""Torch modules of one's own as functions of codes and of flat rows."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.models.protocol import dtype_of
from discrete_grad.nn import soften
from discrete_grad.runs.scorers._columns import RowColumns
from discrete_grad.runs.scorers.scorer import Takes
from discrete_grad.space import CategoricalSpace
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


def possible_forms(columns: RowColumns) -> Iterator[tuple[Takes, bool, bool]]:
    """Forms that the columns allow, each in its variants, those that say more first.

    A form is given with whether the encoded context comes with it, and whether whole numbers of
    which some are missing stand for themselves.
    """
    encoded = (True, False) if columns.context else (False,)
    numbers = (True, False) if columns.gaps else (False,)
    for takes in ("dict", "arguments"):
        yield from ((takes, False, kept) for kept in numbers)
    yield from (("codes", shown, kept) for shown in encoded for kept in numbers)
    yield from (("one-hot", shown, False) for shown in encoded)
    if len(set(columns.schema.space.sizes)) == 1:
        yield from (("channels", shown, False) for shown in encoded)


class TorchForm(nn.Module):
    """A module that is called with codes, or flat rows, in the form it takes.

    Args:
        model: frozen.
        columns: of the table.
        takes: the form.
        encoded: whether the encoded context is a second argument.
        kept: whether whole numbers with gaps stand for themselves, and not for their places.
    """

    def __init__(
        self,
        model: nn.Module,
        columns: RowColumns,
        takes: Takes,
        *,
        encoded: bool = False,
        kept: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.columns, self.takes, self.encoded = model, columns, takes, encoded
        self.dtype = dtype_of(model)
        self.numbers = columns.gaps if kept else {}
        space = columns.schema.space
        sizes = zip(space.names, space.sizes, strict=True)
        wide = {n: int(self.numbers[n].max()) + 1 if n in self.numbers else k for n, k in sizes}
        self.space = CategoricalSpace(wide)
        on_codes = takes in ("codes", "dict", "arguments")
        # in a tuple, or the module would be a part of itself
        self.soft = (soften(self, self.space, argument="row"),) if on_codes else ()

    def forward(self, row: Tensor, context: Tensor | None = None) -> Any:
        """Answer to codes `(N, F)`, or to flat rows `(N, D)` where the model takes these."""
        if self.takes in ("dict", "arguments"):
            return self._by_name(row, context)
        if self.takes == "channels":
            row = row.unflatten(-1, (self.space.num_features, -1)).mT
        if not self.encoded or context is None:
            return self.model(row)
        return self.model(row, context.to(self.dtype))

    def answer(self, row: Tensor, context: Tensor | None) -> Any:
        """Answer to codes or flat rows of the table, whichever the model takes."""
        space, flat = self.columns.schema.space, row.is_floating_point()
        if not self.soft:
            return self(
                row.to(self.dtype) if flat else space.one_hot(row, dtype=self.dtype), context
            )
        if not flat:
            return self(self.known_codes(row), context)
        return self.soft[0](self._widened(row) if self.numbers else row, context)

    def known_codes(self, codes: Tensor) -> Tensor:
        """Codes `(N, F)` as the model knows them: whole numbers with gaps are themselves."""
        if not self.numbers:
            return codes
        columns = zip(self.space.names, codes.unbind(-1), strict=True)
        return torch.stack([self._number(*column) for column in columns], -1)

    def _widened(self, flat: Tensor) -> Tensor:
        """Flat rows of the table as those of the model's space, 0 for what the table lacks."""
        table = self.columns.schema.space
        own = [
            self._number(n, torch.arange(k)) for n, k in zip(table.names, table.sizes, strict=True)
        ]
        starts = torch.tensor([0, *self.space.sizes[:-1]]).cumsum(0)
        places = torch.cat([start + one for start, one in zip(starts, own, strict=True)])
        wide = flat.new_zeros(len(flat), self.space.width)
        return wide.index_copy(1, places.to(flat.device), flat)

    def _by_name(self, codes: Tensor, context: Tensor | None) -> Any:
        found = dict(zip(self.space.names, codes.unbind(-1), strict=True))
        for name, column in self.columns.context_tensors(context).items():
            whole = not column.is_floating_point()
            found[name] = self._number(name, column) if whole else column.to(self.dtype)
        if self.takes == "dict":
            return self.model(found)
        return self.model(**_accepted(self.model, found))

    def _number(self, name: str, codes: Tensor) -> Tensor:
        """The numbers of a column with gaps; the codes of another."""
        numbers = self.numbers.get(name)
        return codes if numbers is None else numbers.to(codes.device)[codes]


def _accepted(model: nn.Module, columns: dict[str, Any]) -> dict[str, Any]:
    """Columns that forward has arguments for: all, if it takes any."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return columns
    return {n: columns[n] for n in (p.name for p in parameters) if n in columns}
