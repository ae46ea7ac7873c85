"""Perturbed contexts: noise, other categories, and values beyond the observed range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from discrete_grad.evaluation.contexts import TrainingContexts

__all__ = ["ContextNoise", "perturb", "perturbations"]

Kind = Literal["noise", "replaced", "below", "above"]

_SIZES = (0.1, 0.3, 1.0)
_BEYOND = (1.0, 3.0)
_MAX_ALONE = 16


@dataclass(frozen=True)
class _Perturbation:
    """One way to perturb a context; the other columns stay as they are.

    Args:
        kind: `noise` adds Gaussian noise to numeric columns, `replaced` gives categorical columns
            another category, `below` and `above` set numeric columns beyond the observed range.
        size: standard deviations of the training contexts, of the noise or beyond the least or
            largest value; for `replaced`, the probability of each column.
        columns: of one of the two sorts.

    Example:
        >>> _Perturbation("above", 3.0, ("price",)).columns
        ('price',)
    """

    kind: Kind
    size: float
    columns: tuple[str, ...]


@dataclass(frozen=True)
class ContextNoise:
    """Noise of the perturbations of `(n, S)` contexts; every perturbation uses the same.

    Args:
        normal: `(n, S, numeric columns)`, standard normal.
        chance: `(n, S, categorical columns)` in [0, 1): below the rate, a category is replaced.
        other: `(n, S, categorical columns)` in [0, 1): by which of the others.

    Example:
        >>> ContextNoise(torch.zeros(2, 3, 1), torch.zeros(2, 3, 0), torch.zeros(2, 3, 0)).shape
        (2, 3)
    """

    normal: Tensor
    chance: Tensor
    other: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, S)`."""
        return tuple(self.normal.shape[:2])


def perturbations(training: TrainingContexts) -> list[_Perturbation]:
    """All numeric or all categorical columns together, by size; then the columns one at a time.

    A column with a single value is left alone: nothing says how far to push it. Of more than 16
    columns of a sort, the first 16 are also perturbed alone.

    Args:
        training: the training contexts.

    Returns:
        Without repetition; nothing if no column can be perturbed.
    """
    numeric, categorical = varying_columns(training)
    together = [_Perturbation("noise", size, numeric) for size in _SIZES if numeric]
    together += [_Perturbation("replaced", size, categorical) for size in _SIZES if categorical]
    together += _beyond(numeric, _BEYOND)
    alone = [_Perturbation("noise", 1.0, (name,)) for name in numeric[:_MAX_ALONE]]
    alone += [_Perturbation("replaced", 1.0, (name,)) for name in categorical[:_MAX_ALONE]]
    for name in numeric[:_MAX_ALONE]:
        alone += _beyond((name,), _BEYOND[-1:])
    return list(dict.fromkeys([*together, *alone]))


def varying_columns(training: TrainingContexts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The numeric columns with different values, and the categorical ones of two categories up."""
    spec = training.spec
    # not by the deviation, which of equal values may be a rounding error above 0
    ranges = zip(spec.numeric, training.low, training.high, strict=True)
    numeric = tuple(name for name, low, high in ranges if low < high)
    space = spec.categorical
    sizes = [] if space is None else zip(space.names, space.sizes, strict=True)
    return numeric, tuple(name for name, size in sizes if size > 1)


def _beyond(columns: tuple[str, ...], sizes: Sequence[float]) -> list[_Perturbation]:
    if not columns:
        return []
    sides: tuple[Kind, Kind] = ("below", "above")
    return [_Perturbation(side, size, columns) for size in sizes for side in sides]


def perturb(
    contexts: Tensor, change: _Perturbation, training: TrainingContexts, noise: ContextNoise
) -> Tensor:
    """Perturbed contexts `(n, S, C)` of contexts `(S, C)`.

    Args:
        contexts: as the spec of the training contexts describes them.
        change: what is done to them.
        training: the training contexts, for deviations and ranges.
        noise: of shape `(n, S)`.

    Example:
        >>> from discrete_grad.space import ContextSpec
        >>> spec = ContextSpec(numeric=["price"])
        >>> training = TrainingContexts(spec, torch.tensor([[1.0], [3.0]]))
        >>> noise = ContextNoise(torch.ones(1, 1, 1), torch.zeros(1, 1, 0), torch.zeros(1, 1, 0))
        >>> shown = torch.tensor([[2.0]])
        >>> for kind in ("noise", "below", "above"):
        ...     perturb(shown, _Perturbation(kind, 3.0, ("price",)), training, noise).item()
        5.0
        -2.0
        6.0
    """
    spec = training.spec
    sizes = () if spec.categorical is None else spec.categorical.sizes
    widths = [*spec.block_sizes, *(1 for _ in spec.numeric)]
    blocks = contexts.expand(*noise.shape, -1).split(widths, -1)
    parts = []
    for place, (name, block) in enumerate(zip(spec.names, blocks, strict=True)):
        if name not in change.columns:
            parts.append(block)
        elif place < len(sizes):
            parts.append(_replaced(block, sizes[place], change.size, noise, place))
        else:
            parts.append(_moved(block, change, training, noise, place - len(sizes)))
    return torch.cat(parts, -1).to(contexts.dtype)


def _replaced(block: Tensor, size: int, rate: float, noise: ContextNoise, place: int) -> Tensor:
    """One-hot `(n, S, K)` or codes `(n, S, 1)`: each of the other categories is as probable."""
    one_hot = block.shape[-1] == size
    step = 1 + (noise.other[..., place] * (size - 1)).long()
    codes = ((block.argmax(-1) if one_hot else block.squeeze(-1).long()) + step) % size
    other = torch.eye(size)[codes] if one_hot else codes.unsqueeze(-1)
    other = other.to(block.dtype)
    return torch.where(noise.chance[..., place, None] < rate, other, block)


def _moved(
    block: Tensor,
    change: _Perturbation,
    training: TrainingContexts,
    noise: ContextNoise,
    place: int,
) -> Tensor:
    step = change.size * training.deviation[place]
    if change.kind == "noise":
        return block + step * noise.normal[..., place, None]
    edge = training.low[place] - step if change.kind == "below" else training.high[place] + step
    return torch.full_like(block, edge)
