"""From logits to an embedded hard row at once, without the row in between."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad import blocks
from discrete_grad.gradient.base import Pullback
from discrete_grad.nn import _triton_kernels as triton_kernels
from discrete_grad.sampling import exponential_like, seeded
from discrete_grad.space import CategoricalSpace, is_wrapped

__all__ = ["embed_drawn"]


def embed_drawn(
    space: CategoricalSpace,
    logits: Tensor,
    weight: Tensor,
    codes: Tensor,
    pullback: Pullback,
    seed: int | None = None,
    *,
    kernels: bool = False,
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
        seed: where the noise of a noisy pullback, or of the kernels, begins.
        kernels: whether the GPU's kernels drew the row; they then compute the gradient as well.
    """
    rule = _Rule(space, pullback, seed, kernels)
    embedded: Tensor = _EmbedDrawn.apply(logits, weight, codes, rule)
    return embedded


@dataclass(frozen=True)
class _Rule:
    """Backward pass to the logits."""

    space: CategoricalSpace
    pullback: Pullback
    seed: int | None
    kernels: bool

    def noise(self, device: torch.device) -> torch.Generator | None:
        """Source of the noise, from the same beginning in every backward pass."""
        return None if self.seed is None else seeded(self.seed, device)

    def __call__(
        self,
        logits: Tensor,
        pi: Tensor,
        codes: Tensor,
        slopes: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        noise = None
        if self.pullback.noisy:
            wide = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
            noise = exponential_like(wide, generator=generator)
        return self.pullback.gradient(logits, pi, codes, slopes.to(logits.dtype), noise)


class _EmbedDrawn(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, weight: Tensor, codes: Tensor, rule: _Rule) -> Tensor:
        return F.embedding(rule.space.columns(codes), weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.rule = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, weight, codes = ctx.saved_tensors
        to_logits = to_weight = None
        grad = grad.contiguous()  # that of a sum has strides of 0, with which products are slow
        if ctx.needs_input_grad[0]:
            # a derivative of the gradient, and torch.func, need every step written out
            written_out = torch.is_grad_enabled() or is_wrapped(grad)
            fast = _by_kernels if ctx.rule.kernels else _by_parts
            way = _at_once if written_out else fast
            to_logits = way(logits, weight, codes, grad, ctx.rule)
        if ctx.needs_input_grad[1]:
            rows = ctx.rule.space.columns(codes).flatten()
            to_weight = torch.zeros_like(weight).index_add(0, rows, grad.flatten(0, -2))
        return to_logits, to_weight, None, None


# torch asks for it at every call, and to find it anew takes longer than the lookup
_EmbedDrawn.forward.__signature__ = inspect.signature(_EmbedDrawn.forward)  # type: ignore[attr-defined]


def _at_once(logits: Tensor, weight: Tensor, codes: Tensor, grad: Tensor, rule: _Rule) -> Tensor:
    """The gradient `(..., D)` in the logits, by operations that can be differentiated."""
    space, noise, parts = rule.space, rule.noise(logits.device), []
    for block, drawn, down, table in zip(
        space.blocks(logits),
        space.block_columns(codes),
        space.block_columns(grad.movedim(-1, -2)),
        space.blocks(weight.t()),
        strict=True,
    ):
        slopes = torch.einsum("...dn,dnk->...nk", down, table)
        parts.append(rule(block, blocks.softmax(block), drawn, slopes, noise))
    return space.join(parts)


def _by_kernels(logits: Tensor, weight: Tensor, codes: Tensor, grad: Tensor, rule: _Rule) -> Tensor:
    """The same on a GPU, with the noise that drew the codes."""
    form, tau = rule.pullback.form, rule.pullback.tau
    assert form is not None
    return triton_kernels.logits_gradient(
        rule.space, logits, weight, codes, grad, form, tau=tau, seed=rule.seed or 0
    )


def _by_parts(logits: Tensor, weight: Tensor, codes: Tensor, grad: Tensor, rule: _Rule) -> Tensor:
    """The same, block by block and a part of the batch at a time."""
    space, noise = rule.space, rule.noise(logits.device)
    flat, codes = logits.reshape(-1, space.width), codes.reshape(-1, space.num_features)
    grad = grad.reshape(-1, *grad.shape[-2:])
    result = torch.empty_like(flat, memory_format=torch.contiguous_format)
    for place in space.places(len(flat)):
        # features first, as in the product with the embedding
        block = place.take(flat).transpose(0, 1)
        drawn, down = place.take_features(codes).t(), place.take_features(grad, -2).transpose(0, 1)
        # padded by 0, as -inf times an entry of `down` would be inf or NaN
        table = place.take(weight.t(), 0.0).movedim(0, 1)
        slopes = _slopes_of_one(place, table, down, result)
        for rows in blocks.parts(len(flat), place.count * place.size, flat.device):
            part = block[:, rows], drawn[:, rows], down[:, rows]
            ready = None if slopes is None else slopes[:, rows]
            found = _gradient(*part, table, ready, rule, noise)
            place.put(result[rows], found.transpose(0, 1))
    return result.view(logits.shape)


def _slopes_of_one(
    place: blocks.Place, table: Tensor, down: Tensor, result: Tensor
) -> Tensor | None:
    """df/dx `(1, B, K)` of a feature that is alone in its block, where its gradient will stand.

    In one product: each part of the batch would read the feature's embedding once more.
    """
    if place.count > 1 or not isinstance(place, blocks.Run) or result.dtype != down.dtype:
        return None
    slopes = place.columns(result)
    torch.mm(down[0], table[0], out=slopes)
    return slopes.unsqueeze(0)


def _gradient(
    block: Tensor,
    codes: Tensor,
    down: Tensor,
    table: Tensor,
    slopes: Tensor | None,
    rule: _Rule,
    noise: torch.Generator | None,
) -> Tensor:
    """The gradient `(n, B, K)` in the logits of a block.

    Arguments are `(n, B, K)`, `(n, B)`, `(n, B, dim)`, `(n, dim, K)` and, where it is known, df/dx
    `(n, B, K)`.
    """
    if block.shape[-1] >= blocks.FEW:
        slopes = down @ table if slopes is None else slopes
        return rule(block, block.softmax(-1), codes, slopes, noise)
    # with few categories the batch lies innermost
    pi = block.transpose(1, 2).softmax(1).transpose(1, 2)
    slopes = (table.transpose(1, 2) @ down.transpose(1, 2)).transpose(1, 2)
    return rule(block, pi, codes, slopes, noise)
