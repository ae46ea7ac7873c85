"""The gradient of an embedded row of very many categories, a chunk of them at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Embedded", "parts"]


def parts(size: int, chunk: int) -> list[slice]:
    """The chunks of so many categories."""
    return [slice(start, min(start + chunk, size)) for start in range(0, size, chunk)]


class Embedded(torch.autograd.Function):
    """Hands on what was embedded; its gradients come from the logits, computed again."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        weight, out, centre = inputs[3:6]
        handed: Tensor = (centre if out is None else out).to(weight.dtype).clone()
        return handed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.form, ctx.chunk = inputs
        ctx.save_for_backward(*tensors[:4], *tensors[5:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        asked = ctx.needs_input_grad[:4]
        with torch.autocast(grad.device.type, enabled=False):
            results = _gradients(ctx.saved_tensors, grad, asked, ctx.form, ctx.chunk)
        return *results, None, None, None, None, None, None


def _gradients(
    saved: tuple[Any, ...], grad: Tensor, asked: tuple[bool, ...], form: str | None, chunk: int
) -> list[Tensor | None]:
    """Gradients in `flat`, `head`, `bias` and `weight`, where they are asked for.

    That in the logits is `pi (g - centre . grad)` with g = weight @ grad: the centre is the mean
    embedding, for ReinMax the drawn one. There the drawn category takes what is missing to a sum
    of 0, and everything is halved.
    """
    flat, head, bias, weight, centre, codes, norm = saved
    tables = zip((flat, head, bias, weight), asked, strict=True)
    results = [torch.zeros_like(table) if wanted else None for table, wanted in tables]
    to_flat, to_head, to_bias, to_weight = results
    down = grad.to(flat.dtype)
    if codes is not None and to_weight is not None:
        _add_rows(to_weight, codes, down)
        to_weight = None
    if to_weight is None and not any(asked[:3]):
        return results
    slope = down / 2 if form == "reinmax" else down
    shift = -(slope * centre).sum(-1, keepdim=True)
    total = torch.zeros_like(shift)
    for part in parts(len(head), chunk):
        rows = head[part].to(flat.dtype)
        pi = torch.addmm(bias[part] - norm, flat, rows.t()).exp_()
        if to_weight is not None:
            to_weight[part] = pi.t() @ down
        if not any(asked[:3]):
            continue
        step = torch.addmm(shift, slope, weight[part].to(flat.dtype).t()).mul_(pi)
        total += step.sum(-1, keepdim=True)
        if to_flat is not None:
            to_flat.addmm_(step, rows)
        if to_head is not None:
            to_head[part] = step.t() @ flat
        if to_bias is not None:
            to_bias[part] = step.sum(0)
    if form == "reinmax" and codes is not None:
        if to_flat is not None:
            to_flat.addcmul_(total, head[codes].to(flat.dtype), value=-1)
        if to_head is not None:
            _add_rows(to_head, codes, -total * flat)
        if to_bias is not None:
            to_bias.index_add_(0, codes, -total.squeeze(-1))
    return results


def _add_rows(table: Tensor, codes: Tensor, rows: Tensor) -> None:
    """Add rows `(B, n)` to those of a table `(K, n)`; each of these is rounded once."""
    found, order = codes.sort()
    # number of each code among the different ones, by an operation of known shape
    place = torch.cat([found.new_zeros(1), (found.diff() != 0).long()])[: len(found)].cumsum(0)
    sums = torch.zeros_like(rows).index_add_(0, place, rows[order])[place]
    table[found] = (table[found] + sums).to(table.dtype)  # equal codes write equal rows
