"""From logits to an embedded hard row at once, without the row in between."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.gradient import Pullback
from discrete_grad.sampling import exponential_like, seeded
from discrete_grad.space import CategoricalSpace, block_softmax, is_wrapped

__all__ = ["embed_drawn"]

_PART = 2**17  # numbers worked on at once: few enough that they stay in the cache
_FEW = 16  # categories below which the batch, not the categories, fills the vector registers


def embed_drawn(
    space: CategoricalSpace,
    logits: Tensor,
    weight: Tensor,
    codes: Tensor,
    pullback: Pullback,
    seed: int | None = None,
) -> Tensor:
    """Embedded hard row `(..., F, dim)` whose gradient in the logits is a pullback's.

    Kept for the backward pass are the arguments alone; what depends on the categories is computed
    again there, a part of the batch at a time.

    Args:
        space: the space, D wide.
        logits: `(..., D)`.
        weight: `(D, dim)`, as for `embed`.
        codes: `(..., F)`, drawn from `softmax(logits)`.
        pullback: the gradient estimator's.
        seed: where the noise of a noisy pullback begins.
    """
    embedded: Tensor = _EmbedDrawn.apply(logits, weight, codes, space, pullback, seed)
    return embedded


class _EmbedDrawn(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor,
        weight: Tensor,
        codes: Tensor,
        space: CategoricalSpace,
        pullback: Pullback,
        seed: int | None,
    ) -> Tensor:
        return F.embedding(space.columns(codes), weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        logits, weight, codes, ctx.space, ctx.pullback, ctx.seed = inputs
        ctx.save_for_backward(logits, weight, codes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, weight, codes = ctx.saved_tensors
        to_logits = to_weight = None
        if ctx.needs_input_grad[0]:
            # a derivative of the gradient, and torch.func, need every step written out
            written_out = torch.is_grad_enabled() or is_wrapped(grad)
            way = _at_once if written_out else _by_parts
            rule = _Rule(ctx.pullback, ctx.seed, logits.device)
            to_logits = way(ctx.space, logits, weight, codes, grad, rule)
        if ctx.needs_input_grad[1]:
            rows = ctx.space.columns(codes).flatten()
            to_weight = torch.zeros_like(weight).index_add(0, rows, grad.flatten(0, -2))
        return to_logits, to_weight, None, None, None, None


class _Rule:
    """A pullback with the source of its noise."""

    def __init__(self, pullback: Pullback, seed: int | None, device: torch.device) -> None:
        self.pullback = pullback
        self.generator = None if seed is None else seeded(seed, device)

    def __call__(self, logits: Tensor, pi: Tensor, codes: Tensor, slopes: Tensor) -> Tensor:
        noise = None
        if self.pullback.noisy:
            wide = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
            noise = exponential_like(wide, generator=self.generator)
        return self.pullback.gradient(logits, pi, codes, slopes.to(logits.dtype), noise)


def _at_once(
    space: CategoricalSpace,
    logits: Tensor,
    weight: Tensor,
    codes: Tensor,
    grad: Tensor,
    rule: _Rule,
) -> Tensor:
    """The gradient `(..., D)` in the logits, by operations that can be differentiated."""
    parts = []
    for block, drawn, down, table in zip(
        space.blocks(logits),
        space.block_columns(codes),
        space.block_columns(grad.movedim(-1, -2)),
        space.blocks(weight.t()),
        strict=True,
    ):
        slopes = torch.einsum("...dn,dnk->...nk", down, table)
        parts.append(rule(block, block_softmax(block), drawn, slopes))
    return space.join(parts)


def _by_parts(
    space: CategoricalSpace,
    logits: Tensor,
    weight: Tensor,
    codes: Tensor,
    grad: Tensor,
    rule: _Rule,
) -> Tensor:
    """The same, block by block and part by part of the batch."""
    flat = logits.reshape(-1, space.width)
    codes, grad = codes.reshape(-1, codes.shape[-1]), grad.reshape(-1, *grad.shape[-2:])
    result = torch.empty_like(flat, memory_format=torch.contiguous_format)
    tables = [table.movedim(0, -1) for table in space.blocks(weight.t())]
    # where blocks are copies, all blocks of a part; else all parts of a block
    step = len(flat) if space.blocks_are_views else max(1, _PART // space.width)
    for rows in _slices(len(flat), step):
        blocks = space.blocks(flat[rows])
        views = space.blocks_are_views
        targets = space.blocks(result[rows]) if views else [torch.empty_like(b) for b in blocks]
        sources = zip(
            blocks,
            space.block_columns(codes[rows]),
            space.block_columns(grad[rows].movedim(-1, -2)),
            tables,
            targets,
            strict=True,
        )
        for block, drawn, down, table, target in sources:
            _block(block, drawn, down.movedim(-2, -1), table, target, rule)
        if not views:
            result[rows] = space.join(targets)
    return result.view(logits.shape)


def _block(
    block: Tensor,
    codes: Tensor,
    grad: Tensor,
    table: Tensor,
    target: Tensor,
    rule: _Rule,
) -> None:
    """Write the gradient `(B, n, K)` of one block to `target`.

    Arguments are `(B, n, K)`, `(B, n)`, `(B, n, dim)` and `(n, K, dim)`.
    """
    count, size = table.shape[:2]
    whole = count == 1 and target.dtype == grad.dtype
    if whole:  # one product, or every part would read the table once more
        torch.mm(grad[:, 0], table[0].t(), out=target[:, 0])
    for rows in _slices(len(block), max(1, _PART // (count * size))):
        x, down = block[rows], grad[rows].transpose(0, 1)
        if size < _FEW:
            pi = x.permute(1, 2, 0).contiguous().softmax(1).permute(2, 0, 1)
            slopes = (table @ down.transpose(1, 2)).permute(2, 0, 1)
        else:
            pi = x.softmax(-1)
            slopes = target[rows] if whole else (down @ table.transpose(1, 2)).transpose(0, 1)
        target[rows] = rule(x, pi, codes[rows], slopes)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, length, step)]
