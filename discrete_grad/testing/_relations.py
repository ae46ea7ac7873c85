"""Two ways to say the same: scenes that must give the same value and matching gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from discrete_grad.gradient.base import Function
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing.functions import row_function
from discrete_grad.testing.subject import Scene

__all__ = ["Relation", "one_feature", "padded", "permuted_categories", "permuted_features"]


@dataclass(frozen=True)
class Relation:
    """Column k of the first scene is column `columns[k]` of the second, which may have more.

    Args:
        first: a scene.
        f: its function.
        second: the other scene.
        g: its function, equal to f on matching rows.
        columns: for each column of the first scene its place in the second.
        nothing_else: whether the other columns of the second scene have exactly no gradient.

    Example:
        >>> from discrete_grad.testing.subject import SCENES
        >>> padded(SCENES[1]).second.space
        CategoricalSpace(colour: 4, size: 4)
    """

    first: Scene
    f: Function
    second: Scene
    g: Function
    columns: tuple[int, ...]
    nothing_else: bool = False


def _moved(scene: Scene, features: dict[str, int], columns: tuple[int, ...]) -> Relation:
    """The columns of a scene at new places; what is left over is masked."""
    f = row_function(scene.space, "cubic")
    space = CategoricalSpace(features)
    logits = scene.logits.new_full((space.width,), -torch.inf)
    moved = logits.index_copy(-1, torch.tensor(columns), scene.logits)

    def g(rows: torch.Tensor) -> torch.Tensor:
        return f(rows[..., list(columns)])

    return Relation(scene, f, Scene(space, moved), g, columns, nothing_else=True)


def _features(space: CategoricalSpace) -> dict[str, int]:
    return dict(zip(space.names, space.sizes, strict=True))


def permuted_categories(scene: Scene) -> Relation:
    """The categories of every feature in reversed order."""
    pairs = zip(scene.space.offsets, scene.space.sizes, strict=True)
    columns = tuple(start + size - 1 - k for start, size in pairs for k in range(size))
    return _moved(scene, _features(scene.space), columns)


def permuted_features(scene: Scene) -> Relation:
    """The last feature first, the others after it."""
    names = (scene.space.names[-1], *scene.space.names[:-1])
    sizes = _features(scene.space)
    space = CategoricalSpace({name: sizes[name] for name in names})
    starts = dict(zip(space.names, space.offsets, strict=True))
    columns = tuple(starts[name] + k for name in scene.space.names for k in range(sizes[name]))
    return _moved(scene, _features(space), columns)


def padded(scene: Scene) -> Relation:
    """Every feature with the same number of categories, one more than the largest has."""
    widest = max(scene.space.sizes) + 1
    sizes = enumerate(scene.space.sizes)
    columns = tuple(i * widest + k for i, size in sizes for k in range(size))
    return _moved(scene, dict.fromkeys(scene.space.names, widest), columns)


def one_feature(scene: Scene, feature: int) -> Relation:
    """A feature on its own, and the whole scene with an f of that feature alone."""
    start, size = scene.space.offsets[feature], scene.space.sizes[feature]
    alone = CategoricalSpace({scene.space.names[feature]: size})
    f = row_function(alone, "cubic")

    def g(rows: torch.Tensor) -> torch.Tensor:
        return f(rows[..., start : start + size])

    first = Scene(alone, scene.logits[start : start + size])
    return Relation(first, f, scene, g, tuple(range(start, start + size)))
