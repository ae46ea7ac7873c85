"""Functions of rows whose expectation is known exactly, and the logits to differentiate it at.

Every kind of function comes with two extensions between the one-hot rows, which agree on every
one-hot row: its own formula, and another. Where the own formula is multilinear in the features the
other one is bent by a network less its own table; else the other one is the multilinear extension
of the table. No hard row can tell them apart, but df/dx differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows, load_example, read_table
from discrete_grad.fitting import EstimatorConfig, fit_estimator, new_ensemble
from discrete_grad.gradient.base import Function
from discrete_grad.models import MultilinearEstimator
from discrete_grad.sampling import isolated_seed, normal, random_codes, seeded
from discrete_grad.testing import exact_gradient

SIZES = {
    "binary": (2,),
    "bits": (2,) * 6,
    "ragged": (2, 3, 4, 5, 6, 8, 10),
    "wide": (2,) * 5 + (3,) * 6 + (4,),
    "large": (2, 3, 4, 5) * 6,
}
HPOLIB = (2, 2, 4, 3, 3, 6, 2, 6, 6)
MOST_ROWS = 100_000  # of a table
AT_ONCE = 8192  # of them, in one call of a function
GRID = 16  # weights are whole multiples of 1 / GRID, so that sums of them have few values
TERMS = 16
SPREAD = {"additive": 1.0, "quadratic": 1.0, "smooth": 1.0, "rough": 4.0}  # of a term
RATE, SNAPSHOTS = 0.1, (4, 8, 16, 24)  # Adam's, and the steps after which the logits are kept


@dataclass(frozen=True, eq=False)
class Ridge:
    """`sum_r out_r bend(a_r . x)`, a whole multiples of `1 / GRID`: a network of one hidden layer.

    Args:
        space: the space of the rows.
        steps: `GRID * a`, `(terms, D)`, whole numbers.
        out: `(terms,)`.
        bend: applied to each entry.
    """

    space: CategoricalSpace
    steps: Tensor
    out: Tensor
    bend: Callable[[Tensor], Tensor]

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        values: Tensor = self.bend(rows @ (self.steps.T / GRID)) @ self.out
        return values

    def mean(self, pi: Tensor) -> Tensor:
        """Exact expectation for probabilities `(D,)`.

        The law of each `a_r . x` comes from its characteristic function, a product over features.
        """
        factors = self.space.split(self._turns * pi)
        characteristic = torch.stack([part.sum(-1) for part in factors]).prod(0)
        law = torch.fft.fft(characteristic, norm="forward").real
        total: Tensor = (law @ self.bend(self._sums) * self.out).sum()
        return total

    @cached_property
    def _reach(self) -> int:
        parts = self.space.split(self.steps.abs())
        return int(sum(part.amax(-1) for part in parts).max())  # type: ignore[union-attr]

    @cached_property
    def _sums(self) -> Tensor:
        """Possible values of `a_r . x`, in the order of the discrete Fourier transform."""
        reach = self._reach
        numbers = torch.cat([torch.arange(reach + 1), torch.arange(-reach, 0)])
        return numbers.to(self.steps) / GRID

    @cached_property
    def _turns(self) -> Tensor:
        count = 2 * self._reach + 1
        angles = 2 * torch.pi / count * torch.arange(count).to(self.steps)
        angle = self.steps.unsqueeze(1) * angles.unsqueeze(-1)
        return torch.polar(torch.ones_like(angle), angle)


@dataclass(frozen=True, eq=False)
class Motifs:
    """A product over motifs of how much of each is there, so that one swap can take it all away.

    A motif wants one category in each of up to four features; of `m` wanted categories of `n`,
    `floor(2 m / n) / 2` counts. Between the one-hot rows each factor is the polynomial in m through
    these values, or the multilinear function of the row.

    Args:
        wanted: for each motif the places `(n,)` of its categories in a flat row.
        multilinear: which of the two.
    """

    wanted: list[Tensor]
    multilinear: bool = False

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        factor = _expected if self.multilinear else _interpolated
        return torch.stack([factor(rows[..., places]) for places in self.wanted]).prod(0)

    def mean(self, pi: Tensor) -> Tensor:
        """Exact expectation for probabilities `(D,)`: the motifs share no feature."""
        return Motifs(self.wanted, multilinear=True)(pi)


def _levels(count: int) -> Tensor:
    return (2 * torch.arange(count + 1) // count).double() / 2


def _interpolated(found: Tensor) -> Tensor:
    count = found.shape[-1]
    powers = torch.arange(count + 1).double()
    coefficients = torch.linalg.solve(powers.unsqueeze(-1) ** powers, _levels(count))
    levels: Tensor = found.sum(-1, keepdim=True) ** powers.long() @ coefficients
    return levels


def _expected(found: Tensor) -> Tensor:
    """The mean level, each category being there with its own probability `(..., n)`."""
    law = [torch.ones_like(found[..., 0])]
    for p in found.unbind(-1):
        more = [0 * p, *(share * p for share in law)]
        fewer = [*(share * (1 - p) for share in law), 0 * p]
        law = [a + b for a, b in zip(more, fewer, strict=True)]
    return torch.stack(law, -1) @ _levels(found.shape[-1])


@dataclass(frozen=True, eq=False)
class Multilinear:
    """The multilinear extension of a table of every row's value; at a soft row the expectation.

    Args:
        space: the space of the rows.
        values: `(num_rows,)`, in the order of `space.enumerate()`.
    """

    space: CategoricalSpace
    values: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        if ((rows == 0) | (rows == 1)).all():
            return self._looked_up(rows)
        return self.mean(rows.flatten(0, -2)).view(rows.shape[:-1])

    def mean(self, pi: Tensor) -> Tensor:
        """Exact expectation `(...)` for probabilities `(D,)` or `(n, D)`."""
        *parts, last = self.space.split(pi.reshape(-1, self.space.width))
        left = self.values.view(-1, last.shape[-1]) @ last.T
        for part in reversed(parts):
            left = (left.view(-1, part.shape[-1], len(part)) * part.T).sum(1)
        return left[0].view(pi.shape[:-1])

    def _looked_up(self, rows: Tensor) -> Tensor:
        """The same at hard rows; the derivative in a category is the value with it put there."""
        sizes, feature, category = self.space.sizes, *self._columns
        stride = torch.tensor([prod(sizes[i + 1 :]) for i in range(len(sizes))])
        codes = self.space.argmax(rows.detach())
        index = (codes * stride).sum(-1)
        values = self.values[index]
        if not rows.requires_grad:
            return values
        swapped = index.unsqueeze(-1) + (category - codes[..., feature]) * stride[feature]
        return values + ((rows - rows.detach()) * self.values[swapped]).sum(-1)

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor]:
        pairs = [(i, k) for i, size in enumerate(self.space.sizes) for k in range(size)]
        feature, category = torch.tensor(pairs).unbind(-1)
        return feature, category


@dataclass(frozen=True, eq=False)
class Problem:
    """A function of flat rows, of mean 0 and deviation 1 over the rows, and its expectation.

    Args:
        space: the space of the rows.
        f: what the gradient estimators are given.
        mean: the exact expectation for probabilities `(D,)`.
    """

    space: CategoricalSpace
    f: Function
    mean: Callable[[Tensor], Tensor]

    def gradient(self, logits: Tensor) -> Tensor:
        """Exact gradient `(n, D)` of the expectation in logits `(n, D)`."""
        leaf = logits.detach().clone().requires_grad_()
        total = torch.stack([self.mean(pi) for pi in self.space.softmax(leaf)]).sum()
        return torch.autograd.grad(total, leaf)[0]

    def disagreement(self, logits: Tensor) -> float | None:
        """Relative distance of the gradient at `(D,)` from that of enumeration; None if too big."""
        if self.space.num_rows > MOST_ROWS:
            return None
        first, second = self.gradient(logits[None])[0], exact_gradient(self.f, logits, self.space)
        return float((first - second).norm() / first.norm())

    def logits(self, kind: str, seed: int) -> Tensor:
        """Logits `(n, D)`: `flat`, `peaked`, or snapshots of exact ascent from flat logits."""
        if kind == "peaked":
            return 2 * normal((1, self.space.width), generator=seeded(seed))
        logits = torch.zeros(1, self.space.width, dtype=torch.float64)
        return logits if kind == "flat" else self._ascent(logits)

    def _ascent(self, logits: Tensor) -> Tensor:
        optimiser, kept = torch.optim.Adam([logits], lr=RATE, maximize=True), []
        for step in range(max(SNAPSHOTS)):
            logits.grad = self.gradient(logits)
            optimiser.step()
            if step + 1 in SNAPSHOTS:
                kept.append(logits.clone())
        return torch.cat(kept)


def make_problem(where: str, kind: str, extension: str, seed: int, *, steps: int) -> Problem:
    """The problem of a space, a kind of function, `own` or `other` extension, and a seed.

    Args:
        where: a name of `SIZES`, or `hpolib`.
        kind: `additive`, `multilinear`, `quadratic`, `smooth`, `rough`, `motifs` or `estimator`.
        extension: as told above.
        seed: of the function; of an estimator the data set, its rows and its training.
        steps: of an estimator's training.
    """
    space = CategoricalSpace.from_sizes(SIZES.get(where, HPOLIB))
    own, mean = _own(space, kind, seed, steps)
    linear = kind in ("additive", "multilinear")
    return extended(space, own, mean, extension, seed, linear=linear)


def extended(
    space: CategoricalSpace,
    own: Function,
    mean: Callable[[Tensor], Tensor] | None,
    extension: str,
    seed: int,
    *,
    linear: bool,
) -> Problem:
    """The problem of a function, with its own formula between the one-hot rows or the other.

    Args:
        space: the space of the rows.
        own: the function, by its own formula.
        mean: its expectation for probabilities `(D,)`; None for that of the table of all rows.
        extension: `own` or `other`.
        seed: of the network by which the other extension of a multilinear function is bent.
        linear: whether the own formula is multilinear.
    """
    table = space.num_rows <= MOST_ROWS
    codes = space.enumerate() if table else random_codes(space, 4096, generator=seeded(seed))
    rows = space.one_hot(codes, dtype=torch.float64)
    with torch.no_grad():
        values = torch.cat([own(part) for part in rows.split(AT_ONCE)])
    f, centre, scale = own, values.mean(), values.std(correction=0)
    if extension == "other" and linear:
        bend = _ridge(space, "smooth", seeded(1000 + seed))
        factor = scale / bend(rows).std()
        f = _sum(bend, Multilinear(space, values / factor - bend(rows)), factor)
    elif extension == "other":
        multilinear = Multilinear(space, values)
        f = Motifs(own.wanted, multilinear=True) if isinstance(own, Motifs) else multilinear
    mean = mean or Multilinear(space, values).mean
    return Problem(space, _scaled(f, centre, scale), _scaled(mean, centre, scale))


def _scaled(f: Function, centre: Tensor, scale: Tensor) -> Function:
    return lambda rows: (f(rows) - centre) / scale


def _sum(first: Function, second: Function, factor: Tensor) -> Function:
    return lambda rows: (first(rows) + second(rows)) * factor


def _own(
    space: CategoricalSpace, kind: str, seed: int, steps: int
) -> tuple[Function, Callable[[Tensor], Tensor] | None]:
    """The kind's own formula, and its expectation where that has one."""
    noise = seeded(seed)
    if kind == "estimator":
        return _trained(space, seed, steps), None
    if kind == "multilinear":
        with isolated_seed(seed):
            model = MultilinearEstimator(space).double().requires_grad_(False)
        return model, model
    if kind == "motifs":
        motifs = Motifs(_wanted(space, noise))
        return motifs, motifs.mean
    ridge = _ridge(space, kind, noise)
    return ridge, ridge.mean


def _ridge(space: CategoricalSpace, kind: str, noise: torch.Generator) -> Ridge:
    terms = 1 if kind == "additive" else TERMS
    spread = SPREAD[kind] / space.num_features**0.5
    steps = (GRID * spread * normal((terms, space.width), generator=noise)).round()
    out = torch.ones(terms).double() if kind == "additive" else normal((terms,), generator=noise)
    bends: dict[str, Callable[[Tensor], Tensor]] = {"additive": torch.clone}
    bends["quadratic"] = torch.square
    return Ridge(space, steps, out, bends.get(kind, torch.tanh))


def _wanted(space: CategoricalSpace, noise: torch.Generator) -> list[Tensor]:
    count = 1 if space.num_features < 4 else 2 if space.num_features < 12 else 3
    row = random_codes(space, 1, generator=noise)[0] + torch.tensor(space.offsets)
    return [row[motif::count][:4] for motif in range(count)]


def _trained(space: CategoricalSpace, seed: int, steps: int) -> Function:
    """An estimator of a real table, in float64."""
    codes, scores = real_table(seed)
    config = EstimatorConfig(members=1, steps=steps, families=("networks",))
    ensemble = new_ensemble(space, None, config, seed=seed)
    fit_estimator(ensemble, ScoredRows(codes, scores.float()), config=config, seed=seed)
    return ensemble.double()


def real_table(seed: int) -> tuple[Tensor, Tensor]:
    """Codes `(1500, 9)` of HPOLib and scores `(1500,)` of mean 0 and deviation 1."""
    name = ("protein_structure", "naval_propulsion", "slice_localization")[seed % 3]
    example = load_example("hpolib", [name])
    columns = example.training_rows(1500, worst=1.0, seed=seed, dataset=name)
    table = read_table(columns, score="score", features=example.features)
    return table.codes, (table.scores - table.scores.mean()) / table.scores.std()
