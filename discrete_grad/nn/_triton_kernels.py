# mypy: allow-untyped-defs, allow-incomplete-defs
"""Triton kernels for CUDA: draw a row and pull a gradient back, and write neither pi nor df/dx.

Features whose sizes round up to the same power of two share a launch; one longer than a tile is
looped over, with an online softmax. The noise is counter-based: it depends on the seed, the row,
the feature and the category alone, and is drawn again where needed. Sums are in float32.

Reference:
    Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3" (Philox). That the Gumbel
    argmax decomposes over tiles: FlashSampling (2026), arXiv 2603.15854.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, get_args

import torch
from torch import Tensor

from discrete_grad.gradient.base import ClosedForm
from discrete_grad.space import CategoricalSpace

try:  # comes with torch where torch is built for CUDA
    import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
except ImportError:
    triton = None

__all__ = [
    "available",
    "draw",
    "logits_gradient",
]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_TILE = 1024  # numbers of a tile of the kernel that draws
_ROWS = 32  # rows of a tile of the gradient's kernel, which share the embedding they read
_DRAWN = (4, 1024)  # categories of a tile, least and most; a counter gives four numbers
_PULLED = (16, 64)  # the same for the gradient: least for a product, most for the registers
_CHUNK = 32  # numbers of an embedding multiplied at once, at most
_PRECISION = "ieee"  # of a product in float32, as torch has it by default


def _kernel(function: Callable[..., Any]) -> Any:  # of arguments that have Triton's own types
    return triton.jit(function) if triton else function


@_kernel
def _gumbel(seed, row, feature, first, BLOCK: tl.constexpr):
    """Gumbel noise `(N, BLOCK)` of rows `(N,)` and features `(N,)`, from category `first` on."""
    four = (first // 4 + tl.arange(0, BLOCK // 4)).to(tl.uint32)[None, :]
    zero = four * 0 + (row * 0).to(tl.uint32)[:, None]
    low, high = row.to(tl.uint32)[:, None] + zero, (row >> 32).to(tl.uint32)[:, None] + zero
    a, b, c, d = tl.philox(seed, four + zero, feature.to(tl.uint32)[:, None] + zero, low, high)
    bits = tl.interleave(tl.interleave(a, c), tl.interleave(b, d))
    u = tl.minimum((bits.to(tl.float32) + 0.5) * 2.0**-32, 1 - 2.0**-24)  # bits round to 2^32
    # the race is won by the small ones of the exponential numbers, and u is finest near 0: hence
    # -log(1 - u) and not -log(u), by its series where 1 - u would round
    series = u * (1 + u * (0.5 + u * (0.3333333333 + u * 0.25)))
    return -tl.log(tl.where(u < 0.03125, series, -tl.log(1 - u)))


@_kernel
def _shift(begin, size, BLOCK: tl.constexpr):
    """The largest `(N,)` of the logits at `begin`, if noise would be lost beside it, or else 0."""
    best = tl.zeros_like(size).to(tl.float32) - 3.4028234663852886e38
    for first in range(0, tl.max(size, 0), BLOCK):
        k = first + tl.arange(0, BLOCK)[None, :]
        inside = k < size[:, None]
        x = tl.load(begin[:, None] + k, mask=inside, other=float("-inf")).to(tl.float32)
        best = tl.maximum(best, tl.max(x, 1))
    # as in `gradient._tempered`
    return tl.where((tl.abs(best) <= 64.0) | (size == 0), 0.0, best)


@_kernel
def _draw_kernel(
    logits, codes, normaliser, noise, seed, offsets, features, count, rows, stride, width,
    num_features, WANTED: tl.constexpr, ITEMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # an item is a feature of a row; the feature varies fastest, so that a tile is contiguous
    begin = tl.program_id(0).to(tl.int64) * ITEMS
    place = (begin % count).to(tl.int32) + tl.arange(0, ITEMS)
    row = begin // count + place // count
    feature = tl.load(features + place % count)
    start = tl.load(offsets + feature)
    size = tl.where(row < rows, tl.load(offsets + feature + 1) - start, 0)
    key = tl.load(seed)
    code, total = tl.zeros([ITEMS], tl.int32), tl.zeros([ITEMS], tl.float32)
    shift = _shift(logits + row * stride + start, size, BLOCK)
    # the least number and not -inf, or a tile that is masked whole would give inf - inf
    peak, best = total - 3.4028234663852886e38, total - float("inf")
    for first in range(0, tl.max(size, 0), BLOCK):
        k = first + tl.arange(0, BLOCK)[None, :]
        inside = k < size[:, None]
        gumbel = _gumbel(key, row, feature, first, BLOCK)
        if WANTED == "noise":
            tl.store(noise + (row * width + start)[:, None] + k, gumbel, mask=inside)
        else:
            at = (row * stride + start)[:, None] + k
            x = tl.load(logits + at, mask=inside, other=float("-inf")).to(tl.float32)
            noisy = x - shift[:, None] + gumbel
            top = tl.max(noisy, 1)
            code = tl.where(top > best, first + tl.argmax(noisy, 1), code)
            best = tl.maximum(best, top)
            if WANTED == "normaliser":
                higher = tl.maximum(peak, tl.max(x, 1))
                total = total * tl.exp(peak - higher) + tl.sum(tl.exp(x - higher[:, None]), 1)
                peak = higher
    at = row * num_features + feature
    if WANTED != "noise":
        tl.store(codes + at, code.to(tl.int64), mask=row < rows)
    if WANTED == "normaliser":
        tl.store(normaliser + at, peak + tl.log(total), mask=row < rows)


@_kernel
def _gradient_kernel(
    logits, weight, codes, grad, result, seed, offsets, features, count, rows, stride, width,
    num_features, dim, weight_stride, grad_row, grad_feature, tau,
    METHOD: tl.constexpr, PRECISION: tl.constexpr, ONE_TILE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    feature = tl.load(features + program % count)
    row = (program // count).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    start = tl.load(offsets + feature)
    size = tl.load(offsets + feature + 1) - start
    alive, of = (row < rows)[:, None], tl.zeros([ROWS], tl.int32) + feature
    code = tl.load(codes + row * num_features + feature, mask=row < rows, other=0)[:, None]
    key = tl.load(seed)
    down = (grad + row * grad_row + feature.to(tl.int64) * grad_feature)[:, None]
    total, x = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, BLOCK], tl.float32)
    shift = total
    if METHOD == "gumbel_softmax":
        shift = _shift(logits + row * stride + start, tl.where(row < rows, size, 0), BLOCK)
    weighted, there, mean, slopes, peak = total, total, total, x, total - 3.4028234663852886e38
    for last in tl.static_range(2):
        for first in range(0, BLOCK if ONE_TILE else size, BLOCK):
            k = first + tl.arange(0, BLOCK)
            inside = alive & (k < size)[None, :]
            if not (ONE_TILE and last):
                at = (row * stride + start)[:, None] + k[None, :]
                x = tl.load(logits + at, mask=inside, other=float("-inf")).to(tl.float32)
                if METHOD == "gumbel_softmax":
                    x = (x - shift[:, None] + _gumbel(key, row, of, first, BLOCK)) / tau
                table = (weight + (start + k).to(tl.int64) * weight_stride)[None, :]
                slopes = tl.zeros([ROWS, BLOCK], tl.float32)
                for begin in range(0, dim, CHUNK):
                    d = begin + tl.arange(0, CHUNK)
                    g = tl.load(down + d[None, :], mask=alive & (d < dim)[None, :], other=0.0)
                    here = (k < size)[None, :] & (d < dim)[:, None]
                    w = tl.load(table + d[:, None], mask=here, other=0.0)
                    slopes = tl.dot(g, w, slopes, input_precision=PRECISION)
            drawn = k[None, :] == code
            if last:
                p = tl.exp(x - peak[:, None]) / total[:, None]
                if METHOD == "reinmax":
                    step = tl.where(drawn, (there - mean)[:, None], 0.0)
                    pulled = (p * (slopes - there[:, None]) + step) / 2
                else:
                    pulled = p * (slopes - mean[:, None]) / tau
                at = (row * width + start)[:, None] + k[None, :]
                tl.store(result + at, pulled, mask=inside)
            else:
                higher = tl.maximum(peak, tl.max(x, 1))
                shrink, e = tl.exp(peak - higher), tl.exp(x - higher[:, None])
                total = total * shrink + tl.sum(e, 1)
                weighted = weighted * shrink + tl.sum(e * slopes, 1)
                there += tl.sum(tl.where(drawn, slopes, 0.0), 1)
                peak = higher
        mean = weighted / total


def available(tensor: Tensor) -> bool:
    """Whether the kernels take a tensor: its device and dtype, and Triton is there."""
    return tensor.is_cuda and tensor.dtype in _DTYPES and triton is not None


def draw(space: CategoricalSpace, logits: Tensor, seed: int | Tensor) -> Tensor:
    """Exact draw of every feature from `softmax(logits)`: the argmax of `logits + gumbels(...)`.

    Args:
        space: the space, D wide.
        logits: `(..., D)` in float32, bfloat16 or float16.
        seed: where the noise begins, at least 0; an integer tensor `()` is read on the device.

    Returns:
        Codes `(..., F)`.

    Raises:
        ImportError: without Triton.
        TypeError, ValueError: for logits that do not fit.
    """
    return _draw(space, logits, seed, "codes")[0]


def _sample_softmax(
    space: CategoricalSpace, logits: Tensor, seed: int | Tensor
) -> tuple[Tensor, Tensor]:
    """`draw`, and the logarithm of the softmax's denominator `(..., F)` in nats, in float32."""
    return _draw(space, logits, seed, "normaliser")[:2]


def _gumbels(space: CategoricalSpace, logits: Tensor, seed: int | Tensor) -> Tensor:
    """The Gumbel noise `(..., D)` in float32 that `draw` adds to these logits."""
    return _draw(space, logits, seed, "noise")[2]


def logits_gradient(
    space: CategoricalSpace,
    logits: Tensor,
    weight: Tensor,
    codes: Tensor,
    grad: Tensor,
    method: ClosedForm,
    *,
    tau: float = 1.0,
    seed: int | Tensor = 0,
) -> Tensor:
    """A method's gradient `(..., D)` in the logits: its pullback of `grad` and the embedding.

    Args:
        space: the space, D wide.
        logits: `(..., D)`, as for `draw`.
        weight: `(D, dim)`, as for `embed`.
        codes: `(..., F)`, from `draw`.
        grad: `(..., F, dim)`, the gradient in the embedded row.
        method: ReinMax is the one at tau = 1, Gumbel-softmax the hard one.
        tau: temperature of Gumbel-softmax, above 0.
        seed: of Gumbel-softmax, what the codes were drawn with.

    Raises:
        ImportError: without Triton.
        TypeError, ValueError: for tensors that do not fit one another.
    """
    space.check_codes(codes)
    if weight.dim() != 2 or len(weight) != space.width or weight.dtype not in _DTYPES:
        got = f"{tuple(weight.shape)} of {weight.dtype}"
        raise ValueError(f"weight must be ({space.width}, dim) in at most float32, got {got}")
    shape = (*logits.shape[:-1], space.num_features, weight.shape[1])
    if codes.shape != shape[:-1] or grad.shape != shape:
        got = f"{tuple(codes.shape)} and {tuple(grad.shape)}"
        raise ValueError(f"codes must be {shape[:-1]} and grad {shape}, got {got}")
    tempered = tau == 1 or method == "gumbel_softmax"
    if method not in get_args(ClosedForm) or not tau > 0 or not tempered:
        raise ValueError(f"no such method, or no such tau of it: {method!r}, {tau}")
    rows = _rows(space, logits)
    result, start = torch.empty_like(rows, memory_format=torch.contiguous_format), _seed(seed, rows)
    # in a product, Triton's interpreter takes the bits of a bfloat16 for an integer
    bits = weight.dtype == torch.bfloat16 and not weight.is_cuda
    table, dim = _tight(weight.detach().float() if bits else weight.detach()), weight.shape[1]
    down = _tight(grad.detach().to(table.dtype).reshape(-1, space.num_features, dim))
    drawn = codes.reshape(-1, space.num_features).long().contiguous()
    with torch.cuda.device_of(rows):
        offsets, groups = _plan(space.sizes, rows.device, *_PULLED)
        for block, features, longest in groups if len(rows) else ():
            _gradient_kernel[(len(features) * triton.cdiv(len(rows), _ROWS),)](
                rows, table, drawn, down, result, start, offsets, features, len(features),
                len(rows), rows.stride(0), space.width, space.num_features, dim, table.stride(0),
                down.stride(0), down.stride(1), float(tau),
                METHOD=method, PRECISION=_PRECISION, ONE_TILE=longest <= block, ROWS=_ROWS,
                BLOCK=block, CHUNK=min(_CHUNK, max(16, triton.next_power_of_2(dim))),
                num_warps=8 if block > 16 else 4,
            )  # fmt: skip
    return result.view(logits.shape)


def _draw(
    space: CategoricalSpace, logits: Tensor, seed: int | Tensor, wanted: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes and normaliser `(..., F)` and noise `(..., D)`, those not wanted left as they are."""
    rows, shape = _rows(space, logits), (*logits.shape[:-1], space.num_features)
    codes = torch.empty(shape, dtype=torch.long, device=rows.device)
    normaliser = torch.empty(shape if wanted == "normaliser" else 0, device=rows.device)
    noise = torch.empty(logits.shape if wanted == "noise" else 0, device=rows.device)
    with torch.cuda.device_of(rows):
        offsets, groups = _plan(space.sizes, rows.device, *_DRAWN)
        for block, features, _ in groups if len(rows) else ():
            items = max(1, _TILE // block)
            _draw_kernel[(triton.cdiv(len(rows) * len(features), items),)](
                rows, codes, normaliser, noise, _seed(seed, rows), offsets, features, len(features),
                len(rows), rows.stride(0), space.width, space.num_features,
                WANTED=wanted, ITEMS=items, BLOCK=block,
            )  # fmt: skip
    return codes, normaliser, noise


@lru_cache(maxsize=64)  # a copy to the device waits for what runs there
def _plan(
    sizes: tuple[int, ...], device: torch.device, least: int, most: int
) -> tuple[Tensor, list[tuple[int, Tensor, int]]]:
    """Offsets `(F + 1,)`, and of each launch: categories of a tile, features, the largest size."""
    groups: dict[int, list[int]] = {}
    for feature, size in enumerate(sizes):
        block = min(most, max(least, 1 << (size - 1).bit_length()))
        groups.setdefault(block, []).append(feature)
    int32 = partial(torch.tensor, dtype=torch.int32, device=device)
    found = [(b, int32(fs), max(sizes[f] for f in fs)) for b, fs in sorted(groups.items())]
    return int32([0, *itertools.accumulate(sizes)]), found


def _rows(space: CategoricalSpace, logits: Tensor) -> Tensor:
    if triton is None:
        raise ImportError("the kernels need Triton: pip install triton")
    space.check_logits(logits)
    if logits.dtype not in _DTYPES:
        raise TypeError(f"the kernels take float32, bfloat16 and float16, got {logits.dtype}")
    return _tight(logits.detach().reshape(-1, space.width))


def _tight(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _seed(seed: int | Tensor, rows: Tensor) -> Tensor:
    # on the device: as a number it would be waited for if random, and compiled in if it is 1
    kept = seed if isinstance(seed, Tensor) else torch.full((), seed, device=rows.device)
    return kept.to(rows.device, torch.long)
