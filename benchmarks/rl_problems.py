"""The problems of `rl`: a row a step, a known optimum, and how far a policy is from it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows, load_example
from discrete_grad.fitting import EstimatorConfig, fit_estimator, new_ensemble
from discrete_grad.weighting.tilt import log_partition, table_expectation, table_kl

DATASETS = {"nasbench201": "cifar10", "hpolib": "protein_structure"}
LEARN_ROWS, LEARN_WORST = 1500, 0.8


@dataclass(frozen=True, eq=False)
class Problem:
    """Maximise `E[r] - beta KL(policy || uniform)`; rows in the order of `space.enumerate()`.

    `reward` and `truth` `(rows,)` are in standard deviations of the table's score from its mean.
    """

    space: CategoricalSpace
    reward: Tensor
    truth: Tensor
    beta: float

    @property
    def uniform(self) -> Tensor:
        """Log-probabilities `(rows,)` of the reference."""
        return torch.full_like(self.reward, -math.log(len(self.reward)))

    @property
    def optimum(self) -> float:
        """`beta log Z`, the most that any policy can reach."""
        return self.beta * float(log_partition(self.uniform, self.reward, self.beta))

    def grade(self, log_probs: Tensor) -> dict[str, float]:
        """Exact figures of a policy's law `(rows,)`; `share` is its part of the optimum."""
        log_probs = log_probs.double()
        kl = float(table_kl(log_probs, self.uniform))
        proxy = float(table_expectation(log_probs, self.reward))
        objective = proxy - self.beta * kl
        return {
            "share": objective / self.optimum,
            "objective": objective,
            "proxy": proxy,
            "true": float(table_expectation(log_probs, self.truth)),
            "kl": kl,
        }


def problem(table: str, reward: str, beta: float, seed: int, *, quick: bool = False) -> Problem:
    """The true table as reward, or what an ensemble learnt from 1,500 of its worst 80%."""
    example = load_example(table)
    scores = example.scores[example.datasets.index(DATASETS[table])].double()
    truth = (scores - scores.mean()) / scores.std()
    learned = truth if reward == "true" else _learned(example.space, truth, seed, quick)
    # an own zero, so that the uniform policy is worth nothing and shares are of what is gained
    return Problem(example.space, learned - learned.mean(), truth, beta)


def _learned(space: CategoricalSpace, truth: Tensor, seed: int, quick: bool) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    worst = truth.argsort()[: int(LEARN_WORST * len(truth))]
    seen = worst[torch.randperm(len(worst), generator=noise)[:LEARN_ROWS]]
    codes = space.enumerate()
    # networks, since it is their exploitation that is measured
    usual = EstimatorConfig(members=8, steps=2000, families=("networks",))
    config = replace(usual, steps=40, validate_every=20) if quick else usual
    ensemble = new_ensemble(space, None, config, seed=seed)
    fit_estimator(ensemble, ScoredRows(codes[seen], truth[seen].float()), config=config, seed=seed)
    with torch.no_grad():
        return torch.cat([ensemble(part) for part in codes.split(8192)]).double()


class Graded(Protocol):
    """Exact references for a policy's law."""

    def grade(self, log_probs: Tensor) -> dict[str, float]:
        """Figures of a law `(rows,)`."""


@dataclass
class Path:
    """Worth of a learner along its training, with rows and seconds.

    The clock stands still while the policy is graded.
    """

    problem: Graded
    points: list[dict[str, float]] = field(default_factory=list)
    _started: float = field(default_factory=time.perf_counter)
    _paused: float = 0.0

    def record(self, log_probs: Callable[[], Tensor], rows: int) -> None:
        """Grade the law `(num_rows,)` after so many rows."""
        now = time.perf_counter()
        with torch.no_grad():
            figures = self.problem.grade(log_probs())
        seconds = now - self._started - self._paused
        self.points.append({"rows": float(rows), "seconds": seconds, **figures})
        self._paused += time.perf_counter() - now


def looks(rows: int, batch: int, count: int = 20) -> set[int]:
    """Numbers of rows, about evenly spaced in their logarithm, at which policies are graded."""
    ratio = (rows / batch) ** (1 / (count - 1))
    steps = {round(batch * ratio**i / batch) * batch for i in range(count)}
    return {min(max(step, batch), rows // batch * batch) for step in steps}
