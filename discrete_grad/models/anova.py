"""A sum of tables: effects of features, of pairs and of triples of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.models._block_linear import BlockLinearEnsemble
from discrete_grad.models._cells import Swaps, contract, leading, swaps_of
from discrete_grad.space import CategoricalSpace, ContextSpec, is_codes

__all__ = ["AnovaEnsemble"]

_ORDER = 3
_CHUNK = 2**22


class AnovaEnsemble(BlockLinearEnsemble):
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
        self.layout()
        self.cells = torch.zeros(self.first[-1], self.num_members, device=device)

    def layout(self) -> None:
        """First cell of each group's table, and the steps of its columns within it."""
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
        self.begins = torch.tensor(self.first[:-1], dtype=torch.long, device=device)
        # in float64, which is exact here and whose products are much faster than those of integers
        strides = torch.zeros(len(sizes), len(listed), dtype=torch.float64, device=device)
        self.strides = strides.scatter_add_(0, self.columns.T, self.steps.T.double())
        # cached for the groups before
        self.__dict__.pop("swaps", None)

    @property
    def num_members(self) -> int:
        """M."""
        return self.cells.shape[1]

    def places(self, codes: Tensor) -> Tensor:
        """Cell `(..., G)` of each group for joint codes `(..., columns)`."""
        return (codes.double() @ self.strides).long() + self.begins

    def looked_up(self, codes: Tensor) -> Tensor:
        """Scores `(M, ...)` of joint codes `(..., columns)`."""
        if not len(self.groups):
            return self.offsets.view(-1, *(1,) * (codes.dim() - 1)).repeat(1, *codes.shape[:-1])
        flat = codes.reshape(-1, codes.shape[-1])
        part = max(1, _CHUNK // len(self.groups))
        sums = [F.embedding_bag(self.places(c), self.cells, mode="sum") for c in flat.split(part)]
        return (torch.cat(sums) + self.offsets).T.reshape(self.num_members, *codes.shape[:-1])

    def soft(self, row: Tensor, context: Tensor | None) -> Tensor:
        """Scores `(M, ...)` of any flat rows, one group after another."""
        zero = row.new_zeros(*leading(row, context), self.num_members)
        offsets = zero + self.offsets.to(row.dtype)
        return sum(self._effects(row, context), offsets).movedim(-1, 0)

    def _effects(self, row: Tensor, context: Tensor | None) -> Iterator[Tensor]:
        """Each group's part of the scores of any flat rows, of leading shapes that broadcast."""
        known = self.joint.context_codes(context)
        codes = () if known is None else known.unbind(-1)
        blocks, count = self.space.split(row), self.space.num_features
        for index, group in enumerate(self.groups.tolist()):
            table = self.cells[self.first[index] : self.first[index + 1]].to(row.dtype)
            yield contract(
                table.view(*self.shapes[index], -1),
                [blocks[c] for c in group if 0 <= c < count],
                [codes[c - count] for c in group if c >= count],
            )

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """Effect `(..., G)` of each group, the mean over the members."""
        if is_codes(row):
            return self.cells.mean(1)[self.places(self.joint(row, context))]
        zero = row.new_zeros(leading(row, context))
        effects = [zero + effect.mean(-1) for effect in self._effects(row, context)]
        return torch.stack(effects, -1) if effects else zero.unsqueeze(-1)[..., :0]

    def slopes(self, codes: Tensor, gradient: Tensor) -> Tensor:
        """Gradient `(N, D)` at joint codes `(N, columns)` of members' scores weighted `(N, M)`."""
        part = max(1, _CHUNK // max(1, len(self.swaps.use)))
        pairs = zip(codes.split(part), gradient.split(part), strict=True)
        return torch.cat([_slopes(self, c, g) for c, g in pairs])

    @cached_property
    def swaps(self) -> Swaps:
        """The cells that each category of each feature looks up."""
        return swaps_of(self.groups, self.steps, self.space)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # the groups depend on the rows a model was fitted to: they are taken as they are saved
        names = ("groups", "cells", "offsets")
        saved = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
        if len(saved) == len(names) and not self._takes(*saved.values()):
            arguments[-1].append(f"{prefix}groups are not of this model's columns and cells")
            return
        for name, tensor in saved.items():
            setattr(self, name, torch.empty_like(tensor, device=self.cells.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.layout()

    def _takes(self, groups: Tensor, cells: Tensor, offsets: Tensor) -> bool:
        if offsets.dim() != 1 or cells.shape[1:] != offsets.shape:  # the members
            return False
        # a column of -1 is not there, and the 1 is its size
        sizes = torch.tensor([*self.joint.sizes, 1])
        if groups.shape[1:] != (_ORDER,) or not ((groups >= -1) & (groups < len(sizes) - 1)).all():
            return False
        return int(sizes[groups.cpu()].prod(1).sum()) == len(cells)


def _slopes(model: AnovaEnsemble, codes: Tensor, gradient: Tensor) -> Tensor:
    swaps = model.swaps
    # the cell of each use if its feature had category 0, from which `shift` counts
    other = model.places(codes)[:, swaps.group] - codes[:, swaps.feature] * swaps.step
    place = other[:, swaps.use] + swaps.shift
    begins = torch.arange(len(codes), device=codes.device).unsqueeze(1) * place.shape[1]
    bags = (begins + swaps.begins).flatten()
    sums = F.embedding_bag(place.flatten(), model.cells, bags, mode="sum")
    sums = sums.view(len(codes), model.space.width, model.num_members)
    return (sums * gradient.unsqueeze(1).to(sums.dtype)).sum(-1)
