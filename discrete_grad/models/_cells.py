"""Cells of tables: those that rows, and their single swaps, look up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.space import CategoricalSpace

__all__ = ["Swaps", "contract", "leading", "swaps_of"]


@dataclass(frozen=True)
class Swaps:
    """Uses of features by groups, P of them, and the E cells that all categories look up."""

    group: Tensor  # (P,)
    feature: Tensor  # (P,)
    step: Tensor  # (P,)
    use: Tensor  # (E,), those of one category one after another
    shift: Tensor  # (E,), from the cell of category 0
    begins: Tensor  # (D,), where those of each category begin


def swaps_of(groups: Tensor, steps: Tensor, space: CategoricalSpace) -> Swaps:
    """Uses of the features by groups `(G, 3)`, whose columns step `(G, 3)` through their tables."""
    group, place = ((groups >= 0) & (groups < space.num_features)).nonzero().unbind(1)
    order = groups[group, place].argsort(stable=True)
    group, place = group[order], place[order]
    feature, step = groups[group, place], steps[group, place]
    counts = torch.bincount(feature, minlength=space.num_features)
    uses = torch.arange(len(group), device=group.device).split(counts.tolist())
    pairs = [*zip(uses, space.sizes, strict=True)]
    use = torch.cat([of.repeat(size) for of, size in pairs])
    # categories in the outer loop: the cells of one category are then a bag of `embedding_bag`
    moves = [torch.outer(torch.arange(size, device=step.device), step[of]) for of, size in pairs]
    shift = torch.cat([move.flatten() for move in moves])
    lengths = torch.cat([c.expand(k) for c, k in zip(counts, space.sizes, strict=True)])
    return Swaps(group, feature, step, use, shift, lengths.cumsum(0) - lengths)


def leading(row: Tensor, context: Tensor | None) -> torch.Size:
    """Leading shape of rows and their contexts together."""
    others = () if context is None else (context.shape[:-1],)
    shape: torch.Size = torch.broadcast_shapes(row.shape[:-1], *others)
    return shape


def contract(table: Tensor, blocks: Sequence[Tensor], codes: Sequence[Tensor]) -> Tensor:
    """A table `(K, ..., C, ..., M)` times blocks `(..., K)`, at codes `(...)`: `(..., M)`."""
    if codes:
        place = codes[0]
        for size, code in zip(table.shape[len(blocks) + 1 : -1], codes[1:], strict=True):
            # the codes of all context columns as one, in mixed radix: a single lookup
            place = place * size + code
        contexts = table.flatten(len(blocks), -2).movedim(-2, 0)
        table = F.embedding(place, contexts.flatten(1)).unflatten(-1, contexts.shape[1:])
    else:
        table, blocks = torch.tensordot(blocks[0], table, 1), blocks[1:]
    for left, block in zip(range(len(blocks), 0, -1), blocks, strict=True):
        table = (block[(..., *[None] * left)] * table).sum(-left - 1)
    return table
