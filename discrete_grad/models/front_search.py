"""Search for rows of which none is better in every aim, all evaluations serving all trade-offs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.grouping import first_rows
from discrete_grad.models.aimed import scalarised, simplex_like
from discrete_grad.models.pareto import non_dominated
from discrete_grad.models.row_pool import row_keys
from discrete_grad.sampling import permutation, seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["best_front"]

# rows whose swaps are looked at together: few, where few evaluations have to be spent well
_LEAST_OPENED, _MOST_OPENED, _STEPS = 4, 64, 2**11
_LAYERS = 256  # rows that are remembered to be opened


@dataclass
class _Found:
    """Rows that were evaluated and may still matter, and the keys of all of them.

    The layer of a row is 0 if none dominates it, 1 if only those do, and so on.
    """

    codes: Tensor
    values: Tensor
    opened: Tensor
    layer: Tensor
    keys: Tensor


@torch.no_grad()
def best_front(
    space: CategoricalSpace,
    starts: Tensor,
    values: Callable[[Tensor], Tensor],
    *,
    evaluations: int,
    allowed: Callable[[Tensor], Tensor] | None = None,
    barred: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Different rows of which none is dominated, and their values: Pareto local search.

    Beginning with the given rows, all single swaps of rows that are not dominated are evaluated,
    again and again; where none is left, those of rows that only these dominate, and so on. Which
    come first is decided by trade-offs drawn at random: of each, the best row is opened. Few rows
    are opened at a time, 4 where there are few evaluations, so that better ones come in between. A
    row is evaluated once. A space of at most so many rows is looked at as a whole.

    Args:
        space: of the rows.
        starts: `(n, F)`, n at least 1, such as draws of a generator at several trade-offs.
        values: codes `(n, F)` -> `(n, K)`, more is better.
        evaluations: of rows at most, at least 1.
        allowed: codes -> boolean `(n,)`, rows that may be looked at; by default all.
        barred: likewise, rows that are never returned, though their swaps may be; by default none.
        seed: draws the trade-offs, and the swaps that are left out where there are too many.

    Returns:
        Codes `(m, F)` and values `(m, K)`.

    Reference:
        Paquete, Chiarandini, Stuetzle (2004), "Pareto local optimum sets in the biobjective
        traveling salesman problem".

    Example:
        >>> space = CategoricalSpace.from_sizes((3, 3))
        >>> def values(codes):
        ...     return torch.stack([codes[:, 0], codes[:, 1] - codes[:, 0]], 1).float()
        >>> codes, _ = best_front(space, torch.zeros(1, 2).long(), values, evaluations=9)
        >>> sorted(codes.tolist())
        [[0, 2], [1, 2], [2, 2]]
    """
    if space.num_rows <= evaluations:
        starts = space.enumerate().to(starts.device)
    found = _first(space, starts, values, allowed, evaluations)
    left = evaluations - len(found.keys)
    noise, count = seeded(seed), min(max(evaluations // _STEPS, _LEAST_OPENED), _MOST_OPENED)
    while left > 0 and space.num_rows > evaluations and not found.opened.all():
        places = _next(found, count, noise)
        found.opened[places] = True
        new, keys = _neighbours(space, found, places, allowed, left, noise)
        if not len(new):
            continue
        left -= len(new)
        found = _joined(found, new, values(new), keys)
    fine = torch.ones_like(found.opened) if barred is None else ~barred(found.codes)
    codes, worth = found.codes[fine], found.values[fine]
    best = non_dominated(worth)
    return codes[best], worth[best]


def _first(
    space: CategoricalSpace,
    starts: Tensor,
    values: Callable[[Tensor], Tensor],
    allowed: Callable[[Tensor], Tensor] | None,
    most: int,
) -> _Found:
    codes = starts.unique(dim=0)
    if allowed is not None:
        codes = codes[allowed(codes)]
    codes = codes[:most]
    worth = torch.cat([values(part) for part in codes.split(2**14)]) if len(codes) else None
    if worth is None:
        worth = starts.new_zeros(0, 1, dtype=torch.float32)
    keys = row_keys(space, codes).sort().values
    opened = torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
    return _layered(codes, worth, opened, keys)


def _next(found: _Found, count: int, noise: torch.Generator) -> Tensor:
    """Places `(n,)` of the next rows to be opened: each is the best one at a random trade-off."""
    closed = ~found.opened
    places = (closed & (found.layer == found.layer[closed].min())).nonzero().squeeze(1)
    if len(places) <= count:
        return places
    front = found.values[found.layer == 0]
    low, high = front.amin(0), front.amax(0)
    scores = (found.values[places] - low) / (high - low).clamp_min(1e-9)
    none = torch.zeros(count, scores.shape[1], dtype=torch.float64)
    weights = simplex_like(none, generator=noise).to(scores).unsqueeze(1)
    best: Tensor = scalarised(scores, weights, "chebyshev").argmax(1)
    return places[best.unique()]


def _neighbours(
    space: CategoricalSpace,
    found: _Found,
    places: Tensor,
    allowed: Callable[[Tensor], Tensor] | None,
    left: int,
    noise: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Single swaps `(n, F)` of rows at places that were not evaluated yet, and their keys."""
    swapped = _all_swaps(space, found.codes[places])
    keys = row_keys(space, swapped)
    keys, first = _once(keys)
    swapped = swapped[first]
    new = ~torch.isin(keys, found.keys)
    if allowed is not None:
        new &= allowed(swapped)
    swapped, keys = swapped[new], keys[new]
    if len(swapped) > left:
        some = permutation(len(swapped), generator=noise)[:left].to(swapped.device)
        swapped, keys = swapped[some], keys[some]
    return swapped, keys


def _all_swaps(space: CategoricalSpace, codes: Tensor) -> Tensor:
    """All rows `(n D, F)` that differ from one of `(n, F)` in at most one feature."""
    sizes = torch.tensor(space.sizes, device=codes.device)
    feature = torch.arange(space.num_features, device=codes.device).repeat_interleave(sizes)
    category = torch.cat([torch.arange(size, device=codes.device) for size in space.sizes])
    rows = codes.unsqueeze(1).repeat(1, space.width, 1)
    place = feature.view(1, -1, 1).expand(len(codes), -1, 1)
    return rows.scatter(2, place, category.view(1, -1, 1).expand_as(place)).flatten(0, 1)


def _once(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Different keys and a place of each."""
    different, group = keys.unique(return_inverse=True)
    return different, first_rows(group)


def _joined(found: _Found, codes: Tensor, worth: Tensor, keys: Tensor) -> _Found:
    """The rows with new ones."""
    opened = torch.cat([found.opened, found.opened.new_zeros(len(keys))])
    codes, worth = torch.cat([found.codes, codes]), torch.cat([found.values, worth])
    return _layered(codes, worth, opened, torch.cat([found.keys, keys]))


def _layered(codes: Tensor, worth: Tensor, opened: Tensor, keys: Tensor) -> _Found:
    """All rows in layers of dominance, those far behind forgotten."""
    order: list[Tensor] = []
    left = torch.arange(len(codes), device=codes.device)
    while len(left) and sum(len(layer) for layer in order) < _LAYERS:
        best = non_dominated(worth[left])
        order.append(left[best])
        left = left[~best]
    kept = torch.cat(order) if order else left
    layer = torch.cat([torch.full_like(part, i) for i, part in enumerate(order)] or [left])
    return _Found(codes[kept], worth[kept], opened[kept], layer, keys)
