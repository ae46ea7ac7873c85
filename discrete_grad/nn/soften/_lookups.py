"""Look-ups by codes: products of their row with what is looked up."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.nn.soften._codes import CONSTANT, Codes, Row, readable, rule
from discrete_grad.nn.soften._counts import Counts
from discrete_grad.nn.soften._followed import describe, followed_in, refuse
from discrete_grad.nn.soften._moves import bounds, move
from discrete_grad.nn.soften._positions import Axis, Strided
from discrete_grad.nn.soften._products import Table, exact, product, total
from discrete_grad.space import CategoricalSpace, is_codes

__all__ = ["look_up"]

Args = tuple[Any, ...]
Named = dict[str, Any]


# --- the product --------------------------------------------------------------------------------


def look_up(codes: Codes, weight: Tensor, name: str = "look-up") -> Tensor:
    """`weight[codes]`: a table `(R, ...)` gives `(*shape of the codes, ...)`."""
    _check_mixable(weight, codes, name)
    table = weight if weight.dim() == 2 else weight.reshape(len(weight), -1)
    found = _found(codes, Table(len(table), table), name)
    return found if weight.dim() == 2 else found.reshape(*codes.shape, *weight.shape[1:])


def _check_mixable(source: Tensor, codes: Codes, name: str) -> None:
    if not source.is_floating_point() and not source.is_complex():
        kind = str(source.dtype).removeprefix("torch.")
        raise refuse(name, codes, f"looks up {kind} values, of which there is no mixture")


def mapped(codes: Codes, numbers: Tensor, name: str) -> Codes:
    """`numbers[codes]` for a table `(R,)` of integers: other codes of the same row."""
    known, least = readable(numbers) and bounds(codes), 0
    if not known or numbers.dim() != 1 or bool((numbers < 0).any()):
        raise refuse(name, codes, "looks up integers that are no list of known codes")
    least, largest = known
    if least < 0 or largest >= len(numbers):
        raise ValueError(
            f"{describe(name, codes)}: the table has {len(numbers)} rows, the codes need rows "
            f"{least} to {largest}"
        )
    steps = numbers[least : largest + 1].cpu() - torch.arange(least, largest + 1)
    if bool((steps == steps[0]).all()):  # the numbers only start elsewhere
        return codes.moved(codes.at, codes.shift + int(steps[0]))
    soft = one_hot(codes, len(numbers), name).reshape(-1, len(numbers))
    size = int(numbers.max()) + 1
    flat = soft.new_zeros(soft.shape[0], size).index_add(1, numbers.to(soft.device), soft)
    row = Row(flat, CategoricalSpace({"+".join(codes.names()): size}))
    at = Strided.of(flat.shape[0], 1)
    found = type(codes)(
        row, at.view(codes.shape) or at.tensor().view(codes.shape), 0, numbers.dtype
    )
    return found


def one_hot(codes: Codes, rows: int, name: str = "one_hot") -> Tensor:
    """Soft one-hots `(*shape of the codes, rows)`, of the row's dtype."""
    return _found(codes, Table(rows), name)


def _found(codes: Codes, table: Table, name: str) -> Tensor:
    if isinstance(codes.at, Strided):
        found = _column(codes, codes.at, table, name)
        found = _regular(codes, codes.at, table, name) if found is None else found
        if found is not None:
            return found
    at = codes.positions()
    if not readable(at) or not readable(codes.shifts()):
        return _unknown(codes, at, table)
    found = _row_by_row(codes, at, table, name)
    return _one_by_one(codes, at, table, name) if found is None else found


def _column(codes: Codes, at: Strided, table: Table, name: str) -> Tensor | None:
    """For a column of the codes as it comes, `codes[:, i]`: the most frequent."""
    row, count = codes.row, codes.row.space.num_features
    if at.strides != (count,) or at.first >= count or isinstance(codes.shift, Tensor):
        return None
    if at.shape[0] != row.flat.shape[0]:
        return None
    _check(codes, [at.first], [codes.shift], table, name)
    with exact(table):
        return table.of(row.part(at.first), codes.shift)


def _regular(codes: Codes, at: Strided, table: Table, name: str) -> Tensor | None:
    """For positions at equal distances; None if the shifts differ from row to row."""
    row, count = codes.row, codes.row.space.num_features
    dims, features = at.axes(count), at.features(count)
    if dims is None or features is None:
        return None
    axes = [axis for dim in dims for axis in dim]
    starts = _starts(codes, axes, features)
    if starts is None:
        return None
    _check(codes, features, starts, table, name)
    rows = [axis for axis in axes if axis.of_rows and axis.step != 0]
    found = product(_rows_of(row, at.first // count, rows), features, starts, table)
    sizes = [axis.size for axis in rows] + [axis.size for axis in axes if not axis.of_rows]
    found = found.reshape(*sizes, found.shape[-1])
    # rows come first in the product, and repetitions not at all
    order = sorted(range(len(axes)), key=lambda i: (not axes[i].of_rows, i))
    for place, i in enumerate(order):
        if axes[i].of_rows and axes[i].step == 0:
            found = found.unsqueeze(place)
    back = sorted(range(len(order)), key=order.__getitem__)
    if back != list(range(len(back))):
        found = found.permute(*back, -1)
    if any(axis.step == 0 and axis.size != 1 for axis in axes):
        found = found.expand(*(axis.size for axis in axes), -1)
    return found if len(axes) == len(at.shape) else found.reshape(*at.shape, found.shape[-1])


def _rows_of(row: Row, first: int, axes: list[Axis]) -> Row:
    """The rows that axes run through."""
    flat = row.flat
    if len(axes) == 1 and axes[0].step == 1:
        whole = first == 0 and axes[0].size == flat.shape[0]
        return row if whole else Row(flat[first : first + axes[0].size], row.space)
    if not axes:
        return Row(flat[first : first + 1], row.space)
    sizes = tuple(axis.size for axis in axes)
    at = Strided(first, sizes, tuple(axis.step for axis in axes)).tensor()
    return Row(flat[at.flatten().to(flat.device)], row.space)


def _starts(codes: Codes, axes: list[Axis], features: list[int]) -> list[int] | Tensor | None:
    """The shift of each feature; None if it is not the same in all rows."""
    shift = codes.shift
    if not isinstance(shift, Tensor):
        return [shift] * len(features)
    if len(axes) != shift.dim():
        shift = shift.reshape([axis.size for axis in axes])
    for dim, axis in enumerate(axes):
        if not axis.of_rows:
            continue
        if axis.size == 0:
            return [0] * len(features)
        one = shift.narrow(dim, 0, 1)
        if axis.size > 1 and shift.stride(dim) != 0:
            if not readable(shift) or not bool((one == shift).all()):
                return None
        shift = one
    shift = shift.flatten()
    if readable(shift) and shift.device.type == "cpu":
        return [int(value) for value in shift.tolist()]
    return shift.to(torch.int64)


def _check(
    codes: Codes, features: list[int], starts: list[int] | Tensor, table: Table, name: str
) -> None:
    if isinstance(starts, Tensor):
        return
    space = codes.row.space
    for feature, start in zip(features, starts, strict=True):
        size = 1 if feature == CONSTANT else space.sizes[feature]
        if start < 0 or start + size > table.rows:
            which = "a number" if feature == CONSTANT else f"feature {space.names[feature]!r}"
            raise ValueError(
                f"{describe(name, codes)}: the table has {table.rows} rows; {which} needs rows "
                f"{start} to {start + size - 1}"
            )


def _row_by_row(codes: Codes, at: Tensor, table: Table, name: str) -> Tensor | None:
    """For the same features in each of some rows one after the other; else None."""
    if at.dim() == 0 or at.numel() == 0:
        return None
    count, shifts = codes.row.space.num_features, codes.shifts()
    steps = torch.arange(len(at)).view(-1, *(1,) * (at.dim() - 1)) * count
    first = at[:1]
    same = torch.where(first < 0, first, first + steps)
    if not torch.equal(same, at) or not bool((shifts == shifts[:1]).all()):
        return None
    places, known = first.flatten(), first[first != CONSTANT]
    rows = (known // count).unique()
    if len(rows) != 1:
        return None
    features = torch.where(places < 0, places, places % count).tolist()
    starts = [int(shift) for shift in shifts[0].flatten().tolist()]
    _check(codes, features, starts, table, name)
    row = _rows_of(codes.row, int(rows), [Axis(len(at), 1, True)])
    return product(row, features, starts, table).reshape(*at.shape, -1)


def _one_by_one(codes: Codes, at: Tensor, table: Table, name: str) -> Tensor:
    """For any positions: those of the same feature and shift together."""
    space, flat = codes.row.space, codes.row.flat
    at, shifts = at.flatten(), codes.shifts().flatten().cpu()
    feature = torch.where(at < 0, at, at % space.num_features)
    pairs = torch.stack([feature, torch.where(at < 0, 0, shifts)], -1)
    kinds, which = pairs.unique(dim=0, return_inverse=True)
    parts, order = [], []
    for i, (number, start) in enumerate(kinds.tolist()):
        members = (which == i).nonzero().flatten()
        order.append(members)
        if number == CONSTANT:
            part = table.of_numbers(shifts[members].to(flat.device), codes.row)
        else:
            _check(codes, [number], [start], table, name)
            rows = codes.row.part(number)[(at[members] // space.num_features).to(flat.device)]
            part = table.of(rows, start)
        parts.append(part)
    if not parts:
        width = table.rows if table.weight is None else table.weight.shape[1]
        return flat.new_zeros(*codes.shape, width, dtype=_dtype(table, flat))
    joined = torch.cat(parts)
    back = torch.cat(order).argsort().to(joined.device)
    return joined[back].reshape(*codes.shape, -1)


def _dtype(table: Table, flat: Tensor) -> torch.dtype:
    return flat.dtype if table.weight is None else table.weight.dtype


def _unknown(codes: Codes, at: Tensor, table: Table) -> Tensor:
    """For positions that are not known, as under `torch.compile`: by way of soft one-hots."""
    space, flat = codes.row.space, codes.row.flat
    widest = min(max(space.sizes), table.rows)
    blocks = [F.pad(block, (0, widest - block.shape[-1])) for block in space.split(flat)]
    number = F.one_hot(torch.zeros(1, dtype=torch.int64, device=flat.device), widest)
    # the last is that of numbers, whose position is -1
    padded = torch.cat([torch.stack(blocks, 1).flatten(0, 1), number.to(flat.dtype)])
    soft = padded[at.to(flat.device)]
    if isinstance(codes.shift, int):
        wide = F.pad(soft, (codes.shift, table.rows - codes.shift - widest))
    else:
        columns = codes.shift.unsqueeze(-1) + torch.arange(widest, device=flat.device)
        columns = columns.clamp(0, table.rows - 1)  # beyond it all weights are 0
        wide = soft.new_zeros(*soft.shape[:-1], table.rows).scatter_add(-1, columns, soft)
    if table.weight is None:
        return wide
    return table.of(wide.to(table.weight.dtype), 0)


# --- torch's look-ups ---------------------------------------------------------------------------


@rule("embedding")
def _embedding(name: str, func: Any, args: Args, kwargs: Named) -> Any:
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
    return _bag(*args, **kwargs)


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
        found = _bag_of_rows(input, weight)
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


def _bag_of_rows(codes: Codes, weight: Tensor) -> Tensor | None:
    """The sum over the features of each row, in one product; None for other positions."""
    row, at = codes.row, codes.at
    count = row.space.num_features
    dims = at.axes(count) if isinstance(at, Strided) else None
    if dims is None or [axis.of_rows for dim in dims for axis in dim] != [True, False]:
        return None
    axes, features = [axis for dim in dims for axis in dim], at.features(count)
    starts = _starts(codes, axes, features)
    if starts is None or isinstance(starts, Tensor) or axes[0].step != 1:
        return None
    _check(codes, features, starts, Table(len(weight)), "embedding_bag")
    return total(_rows_of(row, at.first // count, axes[:1]), features, starts, weight)


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
    source, *rest = args if args else (kwargs.get("input"),)
    if isinstance(source, Codes):
        return move(name, func, args, kwargs)
    index = kwargs.get(
        "indices" if name == "take_along_dim" else "index", rest[-1] if rest else None
    )
    dim = kwargs.get("dim", next((part for part in rest if type(part) is int), None))
    if name == "take_along_dim" and rest:
        index = rest[0]
    if name == "take":
        source = source.flatten()
        return mapped(index, source, name) if is_codes(source) else look_up(index, source, name)
    if not isinstance(index, Codes) or dim is None:
        return NotImplemented
    if name == "index_select":
        if is_codes(source):
            return mapped(index, source, name)
        return look_up(index, source.movedim(dim, 0), name).movedim(0, dim)
    return _gathered(source, dim % source.dim(), index, name)


def _gathered(source: Tensor, dim: int, index: Codes, name: str) -> Tensor:
    """`gather`: the sum over the source's entries along a dimension, weighted by soft one-hots."""
    if index.ndim != source.dim():
        return NotImplemented
    _check_mixable(source, index, name)
    soft = one_hot(index, source.shape[dim], name).to(source.dtype)
    if name == "gather":
        for other in range(source.dim()):
            if other != dim:
                source = source.narrow(other, 0, index.shape[other])
    return (soft * source.movedim(dim, -1).unsqueeze(dim)).sum(-1)


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
    _check_mixable(source, second, "getitem")
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
