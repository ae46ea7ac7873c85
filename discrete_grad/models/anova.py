"""A sum of tables: effects of features, of pairs and of triples of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.gradient import Relaxation
from discrete_grad.models.ensemble import BaseEnsemble
from discrete_grad.models.joint import JointColumns, is_hard
from discrete_grad.space import CategoricalSpace, ContextSpec, can_inspect, is_codes

__all__ = ["AnovaEnsemble"]

_ORDER = 3
_CHUNK = 2**24


class AnovaEnsemble(BaseEnsemble):
    """M functional ANOVA models: each row's score is a sum over groups of at most 3 columns.

    A group has a table with a cell for every combination of its columns' categories. The sum is
    linear in each feature's block, so the value at a soft row of probabilities is the expected
    score of independent features, and the gradient at a hard row says what each single swap
    changes. Context columns belong to groups as features do (see `JointColumns`).

    Args:
        space: the features of a row.
        context: the context columns; None for a model of rows alone.
        groups: columns of each group, counted over the features and then the context columns.
        members: M.

    Raises:
        ValueError: for a group that is empty, has more than 3 columns, or names a column twice or
            one that does not exist.

    Reference:
        Functional ANOVA: Hooker (2007), "Generalized functional ANOVA diagnostics".

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> model = AnovaEnsemble(space, groups=[(0,), (0, 1)])
        >>> model.cells.shape
        torch.Size([8, 1])
        >>> model.cells[2:] = torch.arange(6.0).unsqueeze(-1)
        >>> model(torch.tensor([[1, 2]])), model(torch.full((1, 5), 0.5))
        (tensor([5.]), tensor([3.7500]))
    """

    groups: Tensor
    cells: Tensor
    offsets: Tensor

    def __init__(
        self,
        space: CategoricalSpace,
        *,
        context: ContextSpec | None = None,
        groups: Sequence[Sequence[int]] = (),
        members: int = 1,
    ) -> None:
        super().__init__(space, context)
        self.joint = JointColumns(space, context)
        self.register_buffer("groups", torch.empty(0, _ORDER, dtype=torch.long))
        self.register_buffer("cells", torch.empty(0, members))
        self.register_buffer("offsets", torch.zeros(members))
        self.arrange(groups)

    def arrange(self, groups: Sequence[Sequence[int]]) -> None:
        """Take these groups, with tables of zeros."""
        for group in groups:
            inside = all(0 <= c < len(self.joint.sizes) for c in group)
            if not 0 < len(set(group)) == len(group) <= _ORDER or not inside:
                raise ValueError(
                    f"a group is 1 to {_ORDER} different columns of {len(self.joint.sizes)}, "
                    f"got {tuple(group)}"
                )
        padded = [[*sorted(group), -1, -1][:_ORDER] for group in groups]
        device = self.cells.device
        self.groups = torch.tensor(padded, dtype=torch.long, device=device).reshape(-1, _ORDER)
        self._layout()
        self.cells = torch.zeros(self.first[-1], self.num_members, device=device)

    def _layout(self) -> None:
        """Where each group's table begins, and the steps of its columns within it."""
        sizes, listed, device = self.joint.sizes, self.groups.tolist(), self.groups.device
        self.shapes = [[sizes[c] for c in group if c >= 0] for group in listed]
        self.first = [0]
        for shape in self.shapes:
            self.first.append(self.first[-1] + math.prod(shape))
        steps = [[math.prod(shape[i + 1 :]) for i in range(len(shape))] for shape in self.shapes]
        # a column that is not there counts as the first one, by steps of 0
        self.columns = self.groups.clamp_min(0)
        padded = [[*step, 0, 0][:_ORDER] for step in steps]
        self.steps = torch.tensor(padded, dtype=torch.long, device=device).reshape(-1, _ORDER)
        self.__dict__.pop("swap_entries", None)

    @property
    def num_members(self) -> int:
        """M."""
        return self.cells.shape[1]

    def places(self, codes: Tensor) -> Tensor:
        """Cell `(..., G)` of each group for joint codes `(..., columns)`."""
        device = codes.device
        place = torch.tensor(self.first[:-1], dtype=torch.long, device=device)
        for i in range(_ORDER):
            column, step = self.columns[:, i].to(device), self.steps[:, i].to(device)
            place = place + codes[..., column] * step
        return place

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Score by every member `(M, ...)`; see `BaseEnsemble.predictions`."""
        if own_rows:
            return self._own(row, context)
        if is_codes(row):
            self.space.check_codes(row)
            return self._looked_up(self.joint(row, context))
        self.space.check_flat(row, what="a flat row")
        if can_inspect(row) and is_hard(self.space, row):
            codes = self.joint(row.detach(), context)
            shape = (*codes.shape[:-1], self.space.width)
            scores: Tensor = _AtHardRow.apply(row.expand(shape), codes, self)
            return scores
        return self._contracted(row, context)

    def _own(self, row: Tensor, context: Tensor | None) -> Tensor:
        parts = []
        for member in range(len(row)):
            own = None if context is None else context[member]
            parts.append(self.predictions(row[member], own)[member])
        return torch.stack(parts)

    def _looked_up(self, codes: Tensor) -> Tensor:
        """Scores `(M, ...)` of joint codes `(..., columns)`."""
        if not len(self.groups):
            return self.offsets.view(-1, *(1,) * (codes.dim() - 1)).repeat(1, *codes.shape[:-1])
        flat = codes.reshape(-1, codes.shape[-1])
        part = max(1, _CHUNK // len(self.groups))
        sums = [F.embedding_bag(self.places(c), self.cells, mode="sum") for c in flat.split(part)]
        return (torch.cat(sums) + self.offsets).T.reshape(self.num_members, *codes.shape[:-1])

    def _contracted(self, row: Tensor, context: Tensor | None) -> Tensor:
        """Scores `(M, ...)` of any flat rows, one group after another."""
        blocks = list(self.space.split(row))
        known = self.joint.context_codes(context)
        if known is not None:
            sizes = self.joint.sizes[len(blocks) :]
            blocks += [
                F.one_hot(code, size).to(row.dtype)
                for code, size in zip(known.unbind(-1), sizes, strict=True)
            ]
        total = self.offsets.to(row.dtype)
        for index, group in enumerate(self.groups.tolist()):
            table = self.cells[self.first[index] : self.first[index + 1]].to(row.dtype)
            total = total + _contract(
                table, self.shapes[index], [blocks[c] for c in group if c >= 0]
            )
        shape = torch.broadcast_shapes(*[block.shape[:-1] for block in blocks])
        return total.expand(*shape, self.num_members).movedim(-1, 0)

    def sample_predictions(
        self,
        logits: Tensor,
        relaxation: Relaxation,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Score `(M, ...)` of a drawn row; see `BaseEnsemble.sample_predictions`."""
        return self.predictions(relaxation(logits, generator=generator), context)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Effect `(..., G)` of each group, the mean over the members, of the likeliest codes."""
        return self.cells.mean(1)[self.places(self.joint(row, context))]

    @cached_property
    def swap_entries(self) -> tuple[Tensor, ...]:
        """Each category of each row feature of each group: group, feature, category and step."""
        entries = [
            (index, column, category, step)
            for index, group in enumerate(self.groups.tolist())
            for column, step in zip(group, self.steps[index].tolist(), strict=True)
            if 0 <= column < self.space.num_features
            for category in range(self.joint.sizes[column])
        ]
        table = torch.tensor(entries, dtype=torch.long, device=self.cells.device)
        return table.reshape(-1, 4).unbind(1)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # the groups depend on the rows a model was fitted to: they are taken as they are saved
        for name in ("groups", "cells", "offsets"):
            if isinstance(saved := state_dict.get(prefix + name), Tensor):
                setattr(self, name, torch.empty_like(saved, device=self.cells.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)  # type: ignore[arg-type]
        self._layout()


def _contract(table: Tensor, shape: Sequence[int], blocks: Sequence[Tensor]) -> Tensor:
    """A table `(cells, M)` times the blocks `(..., K)` of its columns: `(..., M)`."""
    value = blocks[0] @ table.view(shape[0], -1)
    for size, block in zip(shape[1:], blocks[1:], strict=True):
        value = (block.unsqueeze(-1) * value.unflatten(-1, (size, -1))).sum(-2)
    return value


class _AtHardRow(torch.autograd.Function):
    """The same sum at one-hot rows: cells are looked up, also for the gradient."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, codes: Tensor, model: AnovaEnsemble) -> Tensor:
        ctx.save_for_backward(codes)
        ctx.model, ctx.dtype = model, row.dtype
        return model._looked_up(codes).to(row.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (codes,) = ctx.saved_tensors
        model: AnovaEnsemble = ctx.model
        flat, share = codes.reshape(-1, codes.shape[-1]), gradient.flatten(1).T
        entries = model.swap_entries
        part = max(1, _CHUNK // max(1, len(entries[0]) * model.num_members))
        pairs = zip(flat.split(part), share.split(part), strict=True)
        slopes = torch.cat([_slopes(model, entries, c, g) for c, g in pairs])
        return slopes.view(*codes.shape[:-1], -1).to(ctx.dtype), None, None


def _slopes(
    model: AnovaEnsemble, entries: tuple[Tensor, ...], codes: Tensor, gradient: Tensor
) -> Tensor:
    """Gradient `(N, D)` at joint codes `(N, columns)` of the members' sum weighted `(N, M)`."""
    group, column, category, step = entries
    place = model.places(codes)[:, group] + (category - codes[:, column]) * step
    value = (model.cells[place] * gradient.unsqueeze(1).to(model.cells.dtype)).sum(-1)
    starts = torch.tensor(model.space.offsets, device=codes.device)
    slopes = value.new_zeros(len(codes), model.space.width)
    return slopes.index_add_(1, starts[column] + category, value)
