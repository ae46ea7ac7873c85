"""Torch's ways of looking up, by codes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.nn.soften._codes import Codes, rule
from discrete_grad.nn.soften._counts import Counts
from discrete_grad.nn.soften._followed import followed_in, refuse
from discrete_grad.nn.soften._found import check_mixable, look_up, mapped, one_hot, sum_of_rows
from discrete_grad.nn.soften._moves import move
from discrete_grad.space import is_codes

__all__: list[str] = []

Args = tuple[Any, ...]
Named = dict[str, Any]


@rule("embedding")
def _embedding(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    if "indices" in kwargs:  # torch.embedding, whose first argument is the table
        return NotImplemented
    codes, weight, options = _embedding_arguments(*args, **kwargs)
    if not isinstance(codes, Codes):
        return NotImplemented
    return look_up(codes, _prepared(codes, weight, options, "embedding"), "embedding")


def _embedding_arguments(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> tuple[Any, Any, Named]:
    options = dict(padding_idx=padding_idx, max_norm=max_norm, norm_type=norm_type)
    return input, weight, options | dict(scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)


def _prepared(codes: Codes, weight: Tensor, options: Named, name: str) -> Tensor:
    """The table with what its options do to it."""
    learns = torch.is_grad_enabled() and weight.requires_grad
    for option in ("scale_grad_by_freq", "sparse"):
        if options[option] and learns:
            why = f"has {option}=True, which has no meaning for a soft row; freeze its weights"
            raise refuse(name, codes, why)
    if options["max_norm"] is not None:
        # as torch: the norms are no part of the derivative; but nothing is changed in place
        kept = weight.detach()
        norms = kept.norm(options["norm_type"], -1, keepdim=True)
        limit = options["max_norm"]
        scaled = torch.where(norms > limit, kept * (limit / (norms + 1e-7)), kept)
        weight = weight + (scaled - kept) if learns else scaled
    if options["padding_idx"] is not None and learns:
        padding = torch.arange(len(weight), device=weight.device) == options["padding_idx"]
        weight = torch.where(padding.unsqueeze(-1), weight.detach(), weight)
    return weight


@rule("embedding_bag")
def _embedding_bag(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    """The same reduction of the embedded elements, which are looked up by their places."""
    return NotImplemented if "indices" in kwargs else _bag(*args, **kwargs)


def _bag(
    input: Any,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    if not isinstance(input, Codes) or any(followed_in((weight, offsets, per_sample_weights))):
        return NotImplemented
    options: Named = dict(max_norm=max_norm, norm_type=norm_type, padding_idx=padding_idx)
    options |= dict(scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
    weight = _prepared(input, weight, options, "embedding_bag")
    if padding_idx is not None:
        if mode != "sum":
            why = f"leaves out a code (padding_idx={padding_idx}) in the mode {mode!r}"
            raise refuse("embedding_bag", input, why)
        padding = torch.arange(len(weight), device=weight.device) == padding_idx
        weight = weight.masked_fill(padding.unsqueeze(-1), 0)
    if offsets is None and per_sample_weights is None and mode in ("sum", "mean"):
        found = sum_of_rows(input, weight, "embedding_bag")
        if found is not None:
            return found / input.shape[1] if mode == "mean" else found
    embedded = look_up(input, weight, "embedding_bag").reshape(-1, weight.shape[1])
    places = torch.arange(embedded.shape[0], device=embedded.device).view(input.shape)
    return F.embedding_bag(
        places,
        embedded,
        offsets,
        mode=mode,
        per_sample_weights=per_sample_weights,
        include_last_offset=include_last_offset,
    )


@rule("one_hot")
def _one_hot(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    codes = args[0] if args else kwargs["input" if "input" in kwargs else "tensor"]
    rows = args[1] if len(args) > 1 else kwargs.get("num_classes", -1)
    if rows == -1:
        raise refuse("one_hot", codes, "counts the categories in the batch; give num_classes")
    return Counts.of(one_hot(codes, rows), codes.names())


# --- tables that are indexed ----------------------------------------------------------------------


@rule("index_select", "gather", "take_along_dim", "take")
def _select(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    source: Any = args[0] if args else kwargs["input"]
    if isinstance(source, Codes):
        return move(name, func, args, kwargs)
    rest = [*args[1:], *(value for key, value in kwargs.items() if key != "input")]
    index = next((part for part in rest if isinstance(part, Codes)), None)
    dim = 0 if name == "take" else next((part for part in rest if type(part) is int), None)
    if index is None or dim is None or len(rest) != (1 if name == "take" else 2):
        return NotImplemented
    if name in ("gather", "take_along_dim"):
        return _gathered(source, dim % source.dim(), index, name)
    source = source.flatten() if name == "take" else source
    if is_codes(source):
        return mapped(index, source, name)
    if name == "take":
        return look_up(index, source, name)
    return look_up(index, source.movedim(dim, 0), name).movedim(0, dim)


def _gathered(source: Tensor, dim: int, index: Codes, name: str) -> Any:
    """`gather`: the sum over the source's entries along a dimension, weighted by soft one-hots."""
    if index.ndim != source.dim():
        return NotImplemented
    check_mixable(source, index, name)
    soft = one_hot(index, source.shape[dim], name).to(source.dtype)
    if name == "gather":
        for other in range(source.dim()):
            if other != dim:
                source = source.narrow(other, 0, index.shape[other])
    found: Tensor = (soft * source.movedim(dim, -1).unsqueeze(dim)).sum(-1)
    return found


@rule("getitem")
def _item(name: str, func: Any, args: Args, kwargs: Named) -> Any:
    source, index = args
    if isinstance(index, str):
        why = "takes a column by its name; soften(..., columns='dict') gives the model such columns"
        raise refuse(f"codes[{index!r}]", source, why)
    if isinstance(source, Codes):
        return move(name, func, args, kwargs)
    parts = index if isinstance(index, tuple) else (index,)
    tables = [part for part in parts if isinstance(part, (Codes, Tensor, list))]
    if len(tables) == 1 and isinstance(tables[0], Codes):
        at = next(i for i, part in enumerate(parts) if isinstance(part, Codes))
        rest = (*parts[:at], slice(None), *parts[at + 1 :])
        used = sum(part is not None and part is not ... for part in rest)
        before = [part for part in parts[:at] if type(part) is not int]
        dim = len(before)
        if any(part is ... for part in before):
            dim += source.dim() - used - 1
        table = source[rest] if len(rest) > 1 else source
        if is_codes(table):
            return mapped(tables[0], table, "getitem")
        return look_up(tables[0], table.movedim(dim, 0), "getitem").movedim(
            tuple(range(tables[0].ndim)), tuple(range(dim, dim + tables[0].ndim))
        )
    if len(tables) == 2 and len(parts) == 2:
        return _by_two(source, *tables)
    return NotImplemented


def _by_two(source: Tensor, first: Any, second: Any) -> Any:
    """`source[first, second]`, one of them codes or both."""
    if not isinstance(second, Codes):
        return _by_two(source.transpose(0, 1), second, first)
    check_mixable(source, second, "getitem")
    soft = one_hot(second, source.shape[1], "getitem").to(source.dtype)
    if isinstance(first, Codes):
        found, shape = look_up(first, source, "getitem"), first.shape
    else:
        first = torch.as_tensor(first, device=source.device)
        found, shape = source[first], first.shape
    rest = source.shape[2:]
    found = found.reshape(*shape, source.shape[1], math.prod(rest))
    out = torch.broadcast_shapes(shape, second.shape)
    letters = "abcdfghij"[: len(out)]
    terms = []
    for own in (second.shape, shape):
        kept = letters[len(out) - len(own) :]
        terms.append("".join(c for c, size in zip(kept, own, strict=True) if size != 1))
    soft = soft.reshape(*(s for s in second.shape if s != 1), -1)
    found = found.reshape(*(s for s in shape if s != 1), *found.shape[-2:])
    both = "".join(c for c in letters if c in terms[0] or c in terms[1])
    result = torch.einsum(f"{terms[0]}k,{terms[1]}ke->{both}e", soft, found)
    return result.reshape(*out, *rest)
