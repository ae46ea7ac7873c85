"""Searches for the row to which an estimator gives the highest score, without a generator.

Each takes a space, a score of rows, codes `(N, F)` -> `(N,)`, the number of rows it may ask about,
and a seed; and returns the best row it has asked about, codes `(F,)`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from pymoo.core.mixed import MixedVariableGA
from pymoo.core.problem import Problem
from pymoo.core.variable import Choice
from pymoo.optimize import minimize
from torch import Tensor

from discrete_grad.sampling import isolated_seed, random_codes, seeded
from discrete_grad.space import CategoricalSpace

with warnings.catch_warnings():
    # a dependency of botorch still uses torch.jit
    warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
    from botorch.optim.optimize import optimize_acqf_discrete_local_search

Score = Callable[[Tensor], Tensor]
Search = Callable[[CategoricalSpace, Score, int, int], Tensor]

POPULATION = 50
RESTARTS = 5


class Counted:
    """A score that counts the rows it is asked about, repeated ones each time."""

    def __init__(self, score: Score) -> None:
        self.score, self.count = score, 0

    def __call__(self, codes: Tensor) -> Tensor:
        """The score itself, `(N,)`."""
        self.count += len(codes)
        return self.score(codes)


def random_search(space: CategoricalSpace, score: Score, evaluations: int, seed: int) -> Tensor:
    """The best of uniform rows."""
    rows = random_codes(space, evaluations, generator=seeded(seed))
    return rows[score(rows).argmax()]


def hill_climbing(space: CategoricalSpace, score: Score, evaluations: int, seed: int) -> Tensor:
    """Steepest ascent by single swaps, from another uniform row whenever no swap is better."""
    noise = seeded(seed)
    best, top = torch.empty(0), -math.inf
    here, height = best, -math.inf
    while evaluations > 0:
        begins = height == -math.inf
        rows = random_codes(space, 1, generator=noise) if begins else space.swaps(here)
        rows = rows[:evaluations]
        evaluations -= len(rows)
        values = score(rows)
        value = values.max().item()
        here, height = (rows[values.argmax()], value) if value > height else (here, -math.inf)
        if value > top:
            best, top = rows[values.argmax()], value
    return best


def genetic_algorithm(space: CategoricalSpace, score: Score, evaluations: int, seed: int) -> Tensor:
    """That of pymoo for categorical variables: uniform crossover, random mutation.

    It ends with a generation, and asks about less than one more where offspring repeat parents.
    """
    population = min(POPULATION, evaluations)
    algorithm = MixedVariableGA(pop_size=population)
    found = minimize(_Rows(space, score), algorithm, ("n_eval", evaluations), seed=seed)
    return _codes(space, [found.X])[0]


class _Rows(Problem):  # type: ignore[misc]
    """The score's negative over the rows of a space, as pymoo takes it."""

    def __init__(self, space: CategoricalSpace, score: Score) -> None:
        sizes = zip(space.names, space.sizes, strict=True)
        super().__init__(vars={name: Choice(options=range(k)) for name, k in sizes}, n_obj=1)
        self.space, self.score = space, score

    def _evaluate(self, x: Any, out: dict[str, Any], *_: Any, **__: Any) -> None:
        out["F"] = -self.score(_codes(self.space, x)).double().numpy()


def _codes(space: CategoricalSpace, rows: Any) -> Tensor:
    return torch.tensor([[int(row[name]) for name in space.names] for row in rows])


def local_search(space: CategoricalSpace, score: Score, evaluations: int, seed: int) -> Tensor:
    """BoTorch's: ascents by single swaps from the best of uniform rows.

    It stops at local optima and not at a number of evaluations, so that `evaluations` is met only
    roughly: half of them are spent on the uniform rows.
    """

    def asked(rows: Tensor) -> Tensor:
        return score(rows.squeeze(-2).long())

    with isolated_seed(seed):
        row, _ = optimize_acqf_discrete_local_search(
            asked,  # type: ignore[arg-type]  # any callable will do
            [torch.arange(size, dtype=torch.float64) for size in space.sizes],
            q=1,
            num_restarts=RESTARTS,
            raw_samples=max(RESTARTS, evaluations // 2),
            return_acq_values=False,
        )
    found: Tensor = row[0].long()
    return found


SEARCHES: dict[str, Search] = {
    "random search": random_search,
    "hill climbing": hill_climbing,
    "genetic algorithm (pymoo)": genetic_algorithm,
    "local search (BoTorch)": local_search,
}
