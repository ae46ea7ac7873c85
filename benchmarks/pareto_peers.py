"""Searches for a front by known values of all rows: random, NSGA-II (pymoo), qLogNEHVI (BoTorch).

A search returns the numbers of the different rows that it has evaluated, at most so many. One whose
package is not installed is left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.pareto_problems import Problem
from discrete_grad.models.pareto import spread_front

Search = Callable[[Problem, Tensor, Tensor, Tensor, int, int], Tensor]
POPULATION = 100
BASELINE = 16  # rows learnt from that qLogNEHVI begins with
CANDIDATES = 32
SECONDS = 10.0


class _Spent(Exception):
    """The budget is spent."""


class _Meter:
    """Rows that were evaluated, each counted once."""

    def __init__(self, total: int, budget: int) -> None:
        self.seen = torch.zeros(total, dtype=torch.bool)
        self.budget = budget

    def ask(self, numbers: Tensor) -> None:
        """Count rows; raise where they are more than the budget."""
        after = self.seen.clone()
        after[numbers] = True
        if int(after.sum()) > self.budget:
            raise _Spent
        self.seen = after

    @property
    def asked(self) -> Tensor:
        return self.seen.nonzero().squeeze(1)


def by_random(
    problem: Problem, values: Tensor, members: Tensor, known: Tensor, budget: int, seed: int
) -> Tensor:
    """Different rows, drawn alike."""
    order = np.random.default_rng(seed).permutation(len(values))
    return torch.from_numpy(order[:budget])


def by_nsga2(
    problem: Problem, values: Tensor, members: Tensor, known: Tensor, budget: int, seed: int
) -> Tensor:
    """NSGA-II with integer variables, as pymoo's documentation sets it up."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as Minimised
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    meter, sizes = _Meter(len(values), budget), np.array(problem.space.sizes)

    class _Front(Minimised):  # type: ignore[misc]
        def __init__(self) -> None:
            count = values.shape[1]
            super().__init__(n_var=len(sizes), n_obj=count, xl=0, xu=sizes - 1, vtype=int)

        def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
            numbers = problem.numbers(torch.from_numpy(np.asarray(x, dtype=np.int64)))
            meter.ask(numbers)
            out["F"] = -values[numbers].numpy()

    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    generations = 3 * budget // POPULATION
    with contextlib.suppress(_Spent):
        minimize(_Front(), algorithm, ("n_gen", generations), seed=seed, verbose=False)
    return meter.asked


def by_qnehvi(
    problem: Problem, values: Tensor, members: Tensor, known: Tensor, budget: int, seed: int
) -> Tensor:
    """Up to 32 candidates one after another, each by local search of the acquisition."""
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.models.ensemble import EnsembleModel
    from botorch.optim.optimize import optimize_acqf_discrete_local_search

    meter = _Meter(len(values), budget)
    began = spread_front(values[known], BASELINE)
    baseline = problem.space.enumerate()[known[began]].double()
    meter.seen[known[began]] = True  # these were learnt from, and are no evaluations
    meter.budget += len(began)

    class _Ensemble(EnsembleModel):
        num_outputs = values.shape[1]

        def forward(self, X: Tensor) -> Tensor:
            numbers = problem.numbers(X.round().long().flatten(0, -2))
            meter.ask(numbers)
            found = members[:, numbers].double().unflatten(1, X.shape[:-1])
            answer: Tensor = found.movedim(0, X.dim() - 2)
            return answer

    torch.manual_seed(seed)
    choices = [torch.arange(size).double() for size in problem.space.sizes]
    chosen, stop = baseline, time.process_time() + SECONDS
    try:
        for _ in range(CANDIDATES):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                acquisition = qLogNoisyExpectedHypervolumeImprovement(
                    model=_Ensemble(),
                    ref_point=torch.zeros(values.shape[1]).double(),
                    X_baseline=chosen,
                    prune_baseline=False,
                    cache_root=False,
                )
                with torch.no_grad():
                    best, _ = optimize_acqf_discrete_local_search(
                        acquisition,
                        choices,
                        q=1,
                        num_restarts=4,
                        raw_samples=64,
                        max_batch_size=256,
                    )
            chosen = torch.cat([chosen, best])
            if time.process_time() > stop:
                break
    except _Spent:
        pass
    return meter.asked


_PEERS: dict[str, tuple[str, Search]] = {
    "NSGA-II (pymoo)": ("pymoo", by_nsga2),
    "qLogNEHVI (BoTorch)": ("botorch", by_qnehvi),
}
SEARCHES: dict[str, Search] = {
    **{n: f for n, (package, f) in _PEERS.items() if importlib.util.find_spec(package)},
    "random rows": by_random,
}
NAMES = (*_PEERS, "random rows")
"""Of all searches, installed or not."""
