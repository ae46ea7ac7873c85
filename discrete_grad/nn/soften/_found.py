"""What codes find in a table: products of their row's blocks with it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad.nn.soften._codes import CONSTANT, Codes, Row, readable
from discrete_grad.nn.soften._followed import describe, refuse
from discrete_grad.nn.soften._numbers import bounds
from discrete_grad.nn.soften._positions import Axis, Strided
from discrete_grad.nn.soften._products import Table, exact, product, total
from discrete_grad.space import CategoricalSpace

__all__ = ["check_mixable", "look_up", "mapped", "one_hot", "sum_of_rows"]


def look_up(codes: Codes, weight: Tensor, name: str = "look-up") -> Tensor:
    """`weight[codes]`: a table `(R, ...)` gives `(*shape of the codes, ...)`."""
    check_mixable(weight, codes, name)
    table = weight if weight.dim() == 2 else weight.reshape(len(weight), -1)
    found = _found(codes, Table(len(table), table), name)
    return found if weight.dim() == 2 else found.reshape(*codes.shape, *weight.shape[1:])


def check_mixable(source: Tensor, codes: Codes, name: str) -> None:
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
    places = at.view(codes.shape) or at.tensor().view(codes.shape)
    return codes.moved(places, 0, dtype=numbers.dtype, row=row)


def one_hot(codes: Codes, rows: int, name: str = "one_hot") -> Tensor:
    """Soft one-hots `(*shape of the codes, rows)`, of the row's dtype."""
    return _found(codes, Table(rows), name)


def sum_of_rows(codes: Codes, weight: Tensor, name: str) -> Tensor | None:
    """The sum over the features of each row, in one product; None for other positions."""
    row, at = codes.row, codes.at
    count = row.space.num_features
    if not isinstance(at, Strided):
        return None
    dims, features = at.axes(count), at.features(count)
    if dims is None or features is None:
        return None
    axes = [axis for dim in dims for axis in dim]
    if [axis.of_rows for axis in axes] != [True, False] or axes[0].step != 1:
        return None
    starts, table = _starts(codes, axes, features), Table(len(weight), weight)
    if starts is None or isinstance(starts, Tensor):
        return None
    _check(codes, features, starts, table, name)
    with exact(table):
        return total(_rows_of(row, at.first // count, axes[:1]), features, starts, table)


def _found(codes: Codes, table: Table, name: str) -> Tensor:
    with exact(table):
        return _by_form(codes, table, name)


def _by_form(codes: Codes, table: Table, name: str) -> Tensor:
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
    found = product(row, features, starts, table)
    return found.reshape(*at.shape, found.shape[-1])


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
    at = at.to(flat.device)
    sizes = torch.tensor(space.sizes, device=flat.device)[at % len(space.sizes)]
    shifts = codes.shifts()
    inside = (shifts >= 0) & (shifts + torch.where(at < 0, 1, sizes) <= table.rows)
    torch._assert_async(inside.all(), "soften: the table has too few rows for a feature")
    soft = padded[at]
    if isinstance(codes.shift, int):
        wide = F.pad(soft, (codes.shift, table.rows - codes.shift - widest))
    else:
        columns = codes.shift.unsqueeze(-1) + torch.arange(widest, device=flat.device)
        columns = columns.clamp(0, table.rows - 1)  # beyond it all weights are 0
        wide = soft.new_zeros(*soft.shape[:-1], table.rows).scatter_add(-1, columns, soft)
    if table.weight is None:
        return wide
    return table.of(wide.to(table.weight.dtype), 0)
