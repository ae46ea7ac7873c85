"""A second family of functions: models that a user has, each fitted to a table.

`benchmarks.problems` was at hand while the gradient estimators were written; these functions were
not. Every kind has two extensions between the one-hot rows, as there. The table is a real one
(`hpolib`), or 1,500 rows of sparse interactions with noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from typing import Any

import torch
from sklearn.ensemble import GradientBoostingRegressor
from torch import Tensor, nn

from benchmarks.problems import HPOLIB, Problem, extended, real_table
from discrete_grad import CategoricalSpace
from discrete_grad.gradient.base import Function
from discrete_grad.nn import SoftEmbedding
from discrete_grad.sampling import isolated_seed, normal, random_codes, seeded

SECOND_SIZES = {"ragged": (2, 3, 4, 5, 6, 8, 10), "letters": (4,) * 8, "hpolib": HPOLIB}
SECOND_KINDS = ("interactions", "attention", "convolution", "trees", "kernel")
ROWS, NOISE = 1500, 0.3  # of a table; deviation of the noise, that of the scores without it being 1
WIDTH, HEADS = 16, 2  # of the networks
BATCH, RATE = 256, 0.01  # of their training by Adam
TREES, DEPTH = 60, 3
SHARPNESS = 4.0  # of a soft split
CENTRES, DECAY, NUGGET = 400, 0.5, 0.1  # of the kernel


@dataclass(frozen=True, eq=False)
class Interactions:
    """A sum of tables of one, two and three features: multilinear.

    Args:
        space: the space of the rows.
        tables: the features of each, and its values, a dimension a feature.
    """

    space: CategoricalSpace
    tables: list[tuple[tuple[int, ...], Tensor]]

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`, or the expectation at probabilities."""
        blocks, total = self.space.split(rows), torch.zeros_like(rows[..., 0])
        for features, table in self.tables:
            letters = "abc"[: len(features)]
            inputs = ",".join(f"...{letter}" for letter in letters)
            own = (blocks[feature] for feature in features)
            total = total + torch.einsum(f"{inputs},{letters}->...", *own, table)
        return total


class Attention(nn.Module):
    """One block of self-attention over the features, their mean, and a linear head."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__()
        self.embedding = SoftEmbedding(space, WIDTH)
        self.place = nn.Parameter(torch.randn(space.num_features, WIDTH))
        self.project = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        tokens = self.embedding(rows) + self.place
        heads = self.project(tokens).unflatten(-1, (3, HEADS, WIDTH // HEADS))
        query, key, value = heads.transpose(-4, -2).unbind(-3)  # (..., heads, features, width)
        found = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + found.transpose(-3, -2).flatten(-2)
        values: Tensor = self.head((tokens + self.mix(tokens)).mean(-2)).squeeze(-1)
        return values


class Convolution(nn.Module):
    """Two convolutions over the places of a sequence, and the greatest entry of each channel."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__()
        (self.letters,) = set(space.sizes)
        self.first = nn.Conv1d(self.letters, WIDTH, 3, padding=1)
        self.second = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        places = rows.reshape(-1, rows.shape[-1] // self.letters, self.letters)
        found = self.second(self.first(places.mT).relu()).relu().amax(-1)
        values: Tensor = self.head(found).view(rows.shape[:-1])
        return values


@dataclass(frozen=True, eq=False)
class SoftTrees:
    """Boosted trees whose splits are logistic between the one-hot rows, and exact at these.

    Args:
        left: `(D, splits)`, 1 for the categories that go left.
        paths: `(leaves, depth)`, what is multiplied on the way to a leaf: a split's number for its
            left side, `splits` more for its right side, twice `splits` for nothing.
        values: `(leaves,)`.
    """

    left: Tensor
    paths: Tensor
    values: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        steep = torch.tanh(torch.tensor(SHARPNESS / 4)).to(rows)
        left = (1 + torch.tanh(SHARPNESS / 2 * (rows @ self.left - 0.5)) / steep) / 2
        sides = torch.cat([left, 1 - left, torch.ones_like(left[..., :1])], -1)
        share = reduce(torch.mul, (sides[..., step] for step in self.paths.T))
        values: Tensor = share @ self.values
        return values


@dataclass(frozen=True, eq=False)
class Kernel:
    """The mean of a Gaussian process: a weighted sum of `exp(-DECAY * features that differ)`.

    Args:
        centres: one-hot rows `(n, D)`.
        weights: `(n,)`.
        features: their number.
    """

    centres: Tensor
    weights: Tensor
    features: int

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        values: Tensor = self.similar(rows) @ self.weights
        return values

    def similar(self, rows: Tensor) -> Tensor:
        """Kernel `(..., n)` with each centre."""
        return torch.exp(DECAY * (rows @ self.centres.T - self.features))


def make_second(where: str, kind: str, extension: str, seed: int, *, steps: int) -> Problem:
    """The problem of a space, a kind of function, `own` or `other` extension, and a seed.

    Args:
        where: a name of `SECOND_SIZES`.
        kind: one of `SECOND_KINDS`; `convolution` in `letters` alone.
        extension: `own` formula between the one-hot rows, or the `other`: the multilinear one, of
            `interactions` one that is bent.
        seed: of the table, its rows and the training.
        steps: of the training of a network.
    """
    space = CategoricalSpace.from_sizes(SECOND_SIZES[where])
    if kind == "interactions":
        own = _interactions(space, seed)
        return extended(space, own, own, extension, seed, linear=True)
    table = real_table(seed) if where == "hpolib" else _noisy_table(space, seed)
    fits: dict[str, _Fit] = {"trees": _trees, "kernel": _kernel}
    fitted = fits.get(kind, _network(kind, steps))(space, *table, seed)
    return extended(space, fitted, None, extension, seed, linear=False)


def _interactions(space: CategoricalSpace, seed: int) -> Interactions:
    """As many tables of pairs as there are features, half as many of triples."""
    noise, count = seeded(seed), space.num_features
    singles: list[tuple[int, ...]] = [(feature,) for feature in range(count)]
    drawn = [_features(count, 2, noise) for _ in range(count)]
    drawn += [_features(count, 3, noise) for _ in range(count // 2)]
    shapes = [[space.sizes[feature] for feature in group] for group in [*singles, *drawn]]
    tables = [normal(tuple(shape), generator=noise) for shape in shapes]
    return Interactions(space, list(zip([*singles, *drawn], tables, strict=True)))


def _features(count: int, size: int, noise: torch.Generator) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=noise)[:size].tolist())


def _noisy_table(space: CategoricalSpace, seed: int) -> tuple[Tensor, Tensor]:
    """Codes `(ROWS, F)` and scores `(ROWS,)` of mean 0 and deviation 1."""
    noise = seeded(2000 + seed)
    codes = random_codes(space, ROWS, generator=noise)
    clean = _interactions(space, seed)(space.one_hot(codes, dtype=torch.float64))
    scores = clean / clean.std() + NOISE * normal((ROWS,), generator=noise)
    return codes, (scores - scores.mean()) / scores.std()


_Fit = Callable[[CategoricalSpace, Tensor, Tensor, int], Function]
"""From the space, codes, scores and a seed."""


def _network(kind: str, steps: int) -> _Fit:
    def fitted(space: CategoricalSpace, codes: Tensor, scores: Tensor, seed: int) -> Function:
        rows, targets, noise = space.one_hot(codes), scores.float(), seeded(seed)
        with isolated_seed(seed):
            network = (Attention if kind == "attention" else Convolution)(space)
        optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
        for _ in range(steps):
            some = torch.randint(len(rows), (BATCH,), generator=noise)
            optimiser.zero_grad()
            (network(rows[some]) - targets[some]).square().mean().backward()
            optimiser.step()
        return network.double().requires_grad_(False)

    return fitted


def _kernel(space: CategoricalSpace, codes: Tensor, scores: Tensor, seed: int) -> Kernel:
    centres = space.one_hot(codes[:CENTRES], dtype=torch.float64)
    kernel = Kernel(centres, torch.zeros(len(centres)).double(), space.num_features)
    gram = kernel.similar(centres) + NUGGET * torch.eye(len(centres)).double()
    weights = torch.linalg.solve(gram, scores[:CENTRES].double())
    return Kernel(centres, weights, space.num_features)


def _trees(space: CategoricalSpace, codes: Tensor, scores: Tensor, seed: int) -> SoftTrees:
    """scikit-learn's boosted trees, which take the codes for numbers."""
    model = GradientBoostingRegressor(n_estimators=TREES, max_depth=DEPTH, random_state=seed)
    grown = [tree.tree_ for tree in model.fit(codes.numpy(), scores.numpy()).estimators_[:, 0]]
    splits = [(t, node) for t in grown for node in range(t.node_count) if t.feature[node] >= 0]
    number = {(id(tree), node): place for place, (tree, node) in enumerate(splits)}
    left = torch.stack([_left(space, tree, node) for tree, node in splits], 1)
    leaves = list(chain.from_iterable(_leaves(tree, 0, ()) for tree in grown))
    nothing, paths = 2 * len(splits), []
    for tree, _, path in leaves:
        steps = [number[id(tree), node] + len(splits) * right for node, right in path]
        paths.append(steps + [nothing] * (DEPTH - len(steps)))
    values = [model.learning_rate * tree.value[leaf, 0, 0] for tree, leaf, _ in leaves]
    return SoftTrees(left, torch.tensor(paths), torch.tensor(values).double())


def _left(space: CategoricalSpace, tree: Any, node: int) -> Tensor:
    """1 for the categories `(D,)` that go left at a split."""
    goes, start = torch.zeros(space.width).double(), space.offsets[int(tree.feature[node])]
    goes[start : start + int(tree.threshold[node]) + 1] = 1
    return goes


_Path = tuple[tuple[int, bool], ...]


def _leaves(tree: Any, node: int, path: _Path) -> list[tuple[Any, int, _Path]]:
    """The tree, its leaves, and the splits on the way to each with whether it goes right."""
    sides = (int(tree.children_left[node]), int(tree.children_right[node]))
    if sides[0] < 0:
        return [(tree, node, path)]
    found = (_leaves(tree, child, (*path, (node, right == 1))) for right, child in enumerate(sides))
    return list(chain.from_iterable(found))
