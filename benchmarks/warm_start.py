"""Reinforcement learning from a distilled guided policy against learning from scratch.

A conditional model of a table's rows knows p(row | attributes); its p(row) is the base policy. For
a reward function of the attributes, unseen in training, the guided model is distilled into a copy
of the base for 50 steps, which asks for no reward of a row. Then the same reinforcement learning
starts from the base and from the copy. `E[r] - beta KL(policy || base)` is graded exactly, and its
optimum is known.

    python -m benchmarks.warm_start
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import tyro
from torch import Tensor

from benchmarks import guidance, harness
from benchmarks.guidance import conditional_model, fifths, reward_functions
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.rl_problems import Path, looks
from benchmarks.warm_start_tables import GROUP, TITLES, Figures, Points, plot, tables
from discrete_grad.data import load_example
from discrete_grad.policies import AutoregressiveGenerator, Policy
from discrete_grad.reinforcement import (
    DistillConfig,
    ReinforceConfig,
    distill_guidance,
    reinforce,
    table_reward,
)
from discrete_grad.sampling import permutation, seeded
from discrete_grad.weighting import AttributeSet, Guidance, Guided, beta_for_kl, exact_log_probs
from discrete_grad.weighting.tilt import coldest, log_partition, table_expectation, table_kl

KINDS = ("mean", "trade-off", "cell")  # of the reward functions, in turn
LOOKS = 40


@dataclass(frozen=True)
class Config(harness.Config):
    """Rows that a distilled warm start saves."""

    seeds: int = 5
    """Training sets, models and runs: seeds 0, 1, ..."""
    rewards: int = 4
    """Reward functions of each table, the first of those of the guidance benchmark."""
    kl: float = 2.5
    """Divergence of the optimum from the base policy in nats, which decides beta."""
    gamma: float = 2.0
    """Strength of the guidance."""
    distill_steps: int = 50
    """Of the distillation."""
    steps: int = 1000
    """Updates of each run, at 64 rows."""
    learning_rate: float = 3e-3
    """Of both runs: the best of 1e-3, 3e-3 and 1e-2 from scratch, on seed 100 and 400 updates."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Maximise `E[r] - beta KL(policy || base)`; laws and rewards `(rows,)` of all rows."""

    base: Tensor
    reward: Tensor
    beta: float

    def grade(self, log_probs: Tensor) -> dict[str, float]:
        """Exact figures of a law; `share` of the way from the base, 0, to the optimum, 1."""
        start = float(table_expectation(self.base, self.reward))
        optimum = self.beta * float(log_partition(self.base, self.reward, self.beta))
        mean = float(table_expectation(log_probs, self.reward))
        kl = float(table_kl(log_probs, self.base))
        share = (mean - self.beta * kl - start) / (optimum - start)
        return {"share": share, "reward": mean, "kl": kl}


def cells(config: Config) -> list[Cell]:
    """A cell for each table and seed: one model serves all reward functions."""
    seeds = range(1 if config.quick else config.seeds)
    names = list(TITLES)[:1] if config.quick else list(TITLES)
    return [Cell(f"{name}/{seed}", (config, name, seed)) for seed in seeds for name in names]


def measure(config: Config, table: str, seed: int) -> Figures:
    """Figures of each reward function."""
    example, noise = load_example(table), seeded(seed)
    attributes = fifths(example)
    rows = permutation(len(attributes), generator=noise)[: guidance.Config.rows]
    codes, seen = example.space.enumerate()[rows], attributes[rows].float() / 2 - 1
    learnt = guidance.Config(quick=config.quick)
    model = conditional_model(learnt, example, codes, seen, seed)
    support = AttributeSet.from_rows(seen, size=learnt.vectors, generator=noise)
    base, count = exact_log_probs(model).double(), 2 if config.quick else config.rewards
    found = {}
    for i, reward in enumerate(reward_functions(attributes, count)):
        asked = posed(base, reward(attributes), config.kl)
        guided = Guided(
            model,
            support,
            reward(2 * support.vectors.double() + 2),
            guidance=Guidance(gamma=config.gamma),
        )
        found[f"{KINDS[i % 3]} {i // 3 + 1}"] = compared(config, model, guided, asked, seed)
    return found


def posed(base: Tensor, reward: Tensor, kl: float) -> Problem:
    """With the beta at which the optimum is so far from the base, or half as far as it can be."""
    most = float(table_kl(coldest(base, reward), base))
    return Problem(base, reward, float(beta_for_kl(base, reward, min(kl, most / 2))))


def compared(
    config: Config, model: AutoregressiveGenerator, guided: Guided, asked: Problem, seed: int
) -> Figures:
    """The paths of both runs, and what the distillation took."""
    warm, began = copy.deepcopy(model).requires_grad_(True), time.perf_counter()
    settings = DistillConfig(steps=config.distill_steps)
    losses = distill_guidance(warm, guided, config=settings, seed=seed)
    seconds = time.perf_counter() - began
    scratch = copy.deepcopy(model).requires_grad_(True)
    return {
        "beta": asked.beta,
        "distill_seconds": seconds,
        "distill_losses": [losses[0], losses[-1]],
        "scratch": learned(config, scratch, model, asked, seed),
        "warm": learned(config, warm, model, asked, seed),
    }


def learned(
    config: Config,
    policy: AutoregressiveGenerator,
    base: AutoregressiveGenerator,
    asked: Problem,
    seed: int,
) -> Points:
    """Train a policy, in place; its path. The clock stands still while it is graded."""
    steps = 20 if config.quick else config.steps
    at, path = {0} | looks(steps * GROUP, GROUP, LOOKS), Path(asked)

    def callback(_: Policy, rows: int) -> None:
        if rows in at:
            path.record(lambda: exact_log_probs(policy).double(), rows)

    settings = ReinforceConfig(
        algorithm="leave_one_out",
        group=GROUP,
        steps=steps,
        beta=asked.beta,
        learning_rate=config.learning_rate,
        validate_every=1,
    )
    reward = table_reward(policy.space, asked.reward.float())
    reinforce(policy, reward, config=settings, reference=base, callback=callback, seed=seed)
    return path.points


BENCHMARK = Benchmark(
    name="warm_start",
    title="Reinforcement learning from a distilled guided policy",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
