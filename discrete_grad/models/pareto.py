"""Rows of which none is better in everything: which they are, and some that stand for all."""

from __future__ import annotations

from itertools import combinations_with_replacement

import torch
from torch import Tensor

from discrete_grad.grouping import first_rows
from discrete_grad.sampling import seeded, uniform

__all__ = ["non_dominated", "spread_front", "tradeoff_grid"]

_POINTS = 2**14
_LEAST_GAIN = 5e-4


def non_dominated(values: Tensor) -> Tensor:
    """Whether no other row is at least as good in every value and better in one, `(N,)`.

    Args:
        values: `(N, K)`, more is better.

    Example:
        >>> non_dominated(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5], [1.0, 0.0]]))
        tensor([ True,  True, False,  True])
    """
    fine = torch.ones(len(values), dtype=torch.bool, device=values.device)
    # the best sums first: what they dominate need not be compared with others
    order = values.sum(1).argsort(descending=True)
    left = order
    while len(left):
        first, left = left[0], left[1:]
        if fine[first]:
            worse = (values[left] <= values[first]).all(1) & (values[left] < values[first]).any(1)
            fine[left[worse]] = False
            left = left[~worse]
    return fine


def spread_front(values: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Places of at most so many rows that are not dominated, spread over the whole front.

    The best of each column come first; then each adds most to the part of the box between the worst
    and the best value of each column that is dominated, measured at 16,384 random points. Rows that
    would add less than 1 part in 2,000 are left out.

    Args:
        values: `(N, K)`, more is better; N at least 1.
        count: at least 1.
        seed: of the points.

    Returns:
        Places `(n,)` in the order of the first value, the best first; equal rows once.

    Example:
        >>> values = torch.tensor([[1.0, 0.0], [0.6, 0.6], [0.0, 1.0], [0.3, 0.3]])
        >>> spread_front(values, 2).tolist()
        [0, 2]
    """
    places = non_dominated(values).nonzero().squeeze(1)
    first = _distinct(values[places])
    places = places[first]
    front = values[places].double()
    low, high = front.amin(0), front.amax(0)
    scaled = (front - low) / (high - low).clamp_min(1e-12)
    noise = uniform((_POINTS, front.shape[1]), generator=seeded(seed)).to(front)
    covers = torch.cat([(noise <= row).all(1).unsqueeze(0) for row in scaled])
    chosen: list[int] = []
    missing = torch.ones(len(noise), dtype=torch.bool, device=front.device)
    ends = [*dict.fromkeys(front.argmax(0).tolist())]
    while len(chosen) < min(count, len(places)):
        gain = (covers & missing).sum(1)
        best = ends[len(chosen)] if len(chosen) < len(ends) else int(gain.argmax())
        if len(chosen) >= len(ends) and gain[best] < _LEAST_GAIN * _POINTS:
            break
        chosen.append(best)
        missing &= ~covers[best]
    kept = places[torch.tensor(chosen, device=places.device)]
    return kept[values[kept, 0].argsort(descending=True, stable=True)]


def _distinct(values: Tensor) -> Tensor:
    """Place of the first of each of the different rows, in the order they are given."""
    group = values.unique(dim=0, return_inverse=True)[1]
    return first_rows(group).sort().values


def tradeoff_grid(aims: int, count: int) -> Tensor:
    """At least so many trade-offs `(T, aims)` at equal distances over the simplex, ends included.

    Example:
        >>> tradeoff_grid(2, 3)
        tensor([[1.0000, 0.0000],
                [0.5000, 0.5000],
                [0.0000, 1.0000]])
        >>> len(tradeoff_grid(3, 32))
        36
    """
    steps = 1
    while len(lattice := list(combinations_with_replacement(range(aims), steps))) < count:
        steps += 1
    places = torch.tensor(lattice)
    return torch.stack([(places == aim).sum(1) for aim in range(aims)], 1) / steps
