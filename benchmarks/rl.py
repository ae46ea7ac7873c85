"""Reinforcement learning against a known optimum: rows and time to come near it, and hacking.

A policy writes rows, a reward judges them, and `E[r] - beta KL(policy || uniform)` is to be
maximised, of which the optimum is `beta log Z`. The reward is the true table, or an ensemble learnt
from 1,500 rows of its worst 80%, which the policy then exploits. Beside our algorithms stand
stable-baselines3's PPO and A2C, and TorchRL's ClipPPOLoss.

    python -m benchmarks.rl
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.rl_problems import DATASETS, Path, Problem, looks, problem
from benchmarks.rl_tables import BEST_FACTORISED, plot, tables
from discrete_grad.models import AutoregressiveGenerator, Generator, Policy
from discrete_grad.sampling import isolated_seed
from discrete_grad.training import ReinforceConfig, reinforce, table_reward
from discrete_grad.weighting import exact_log_probs

REWARDS = ("true", "learned")
ALGORITHMS: dict[str, dict[str, Any]] = {
    "reinforce": {},
    "leave_one_out": {},
    "group_relative": {},
    "a2c": {},
    "ppo": {},
    "advantage_weighted": {},
}
FACTORISED = ("leave_one_out", "a2c", "ppo")
PEERS = (
    "stable-baselines3 PPO",
    "stable-baselines3 PPO, tuned",
    "stable-baselines3 A2C",
    "stable-baselines3 A2C, tuned",
    "TorchRL ClipPPOLoss",
)
FREE = 0.01  # beta of the runs that exploit a learned reward, nearly without a leash


@dataclass(frozen=True)
class Config(harness.Config):
    """Share of the known optimum against rows and time."""

    seeds: int = 10
    """Seeds 0, 1, ... of each method; of the learned reward too."""
    methods: tuple[str, ...] = ()
    """Only these; by default all."""
    rows: int = 200_000
    """Rows that a policy that draws feature after feature may write."""
    factorised_rows: int = 50_000
    """Rows of the others."""
    beta: float = 0.1
    """In standard deviations of the table's score."""


def methods() -> list[str]:
    """Every method: ours, ours with independent features, peers."""
    return [*ALGORITHMS, *(f"{name}, factorised" for name in FACTORISED), *PEERS]


def cells(config: Config) -> list[Cell]:
    """A cell for each table, reward, method and seed; peers have the true reward alone."""
    if config.quick:
        names = ("leave_one_out", "ppo, factorised", *PEERS[::2])
        keys = [("nasbench201", "true", name, 0) for name in names]
        keys.append(("nasbench201", "learned", "leave_one_out", 0))
    else:
        keys = [
            (table, reward, name, seed)
            for seed in range(config.seeds)
            for table in DATASETS
            for reward in (*REWARDS, "learned, free")
            for name in methods()
            if reward == "true" or name in ALGORITHMS
        ]
        keys += [(table, "true", BEST_FACTORISED, 0) for table in DATASETS]
    wanted = [key for key in keys if not config.methods or key[2] in config.methods]
    return [Cell("/".join(map(str, key)), (config, *key)) for key in wanted]


def measure(config: Config, table: str, reward: str, method: str, seed: int) -> dict[str, Any]:
    """The path of one run."""
    kind, _, free = reward.partition(", ")
    beta = FREE if free else config.beta
    asked = problem(table, kind, beta, seed, quick=config.quick)
    factorised = method.endswith(", factorised") or method.startswith("stable")
    rows = config.factorised_rows if factorised else config.rows
    rows = 2048 if config.quick else rows
    at = looks(rows, 256)
    if method == BEST_FACTORISED:
        path = best_factorised(asked)
    elif method in PEERS:
        from benchmarks.rl_peers import peer  # slow to import

        path = peer(method, asked, seed, rows, at)
    else:
        path = trained(asked, method, seed, rows, at)
    return {"optimum": asked.optimum, "path": path.points}


def trained(asked: Problem, method: str, seed: int, rows: int, at: set[int]) -> Path:
    """One run of an algorithm of ours."""
    algorithm, _, factorised = method.partition(", ")
    with isolated_seed(seed):
        policy: Policy = AutoregressiveGenerator(asked.space)
        if factorised:
            policy = Generator(None, asked.space)
    group = 256
    options: dict[str, Any] = {"algorithm": algorithm, "group": group, **ALGORITHMS[algorithm]}
    config = ReinforceConfig(beta=asked.beta, **options)
    config = ReinforceConfig(
        beta=asked.beta,
        steps=rows // group * config.updates,
        validate_every=config.updates,
        **options,
    )
    path, seen = Path(asked), set[int]()

    def look(policy: Policy, rows: int) -> None:
        if rows in at and rows not in seen:
            seen.add(rows)
            path.look(lambda: law(policy), rows)

    reward = table_reward(asked.space, asked.reward.float())
    reinforce(policy, reward, config, look=look, seed=seed)
    return path


def best_factorised(asked: Problem, starts: int = 8, steps: int = 300) -> Path:
    """What independent features can reach: the best of some starts, by the exact gradient."""
    space, found = asked.space, list[Tensor]()
    for seed in range(starts):
        noise = torch.Generator().manual_seed(seed)
        logits = torch.randn(space.width, dtype=torch.float64, generator=noise) / 2
        adam = torch.optim.Adam([logits.requires_grad_()], 0.1)
        for _ in range(steps):
            log_probs = space.log_prob(logits, space.enumerate())
            worth = asked.reward - asked.beta * (log_probs - asked.uniform)
            adam.zero_grad()
            (-(log_probs.exp() * worth).sum()).backward()
            adam.step()
        found.append(space.log_prob(logits.detach(), space.enumerate()))
    path = Path(asked)
    path.look(lambda: max(found, key=lambda law: asked.grade(law)["objective"]), 0)
    return path


def law(policy: Policy) -> Tensor:
    """Log-probabilities of all rows."""
    if isinstance(policy, AutoregressiveGenerator):
        return exact_log_probs(policy)
    with torch.no_grad():
        return policy.space.log_prob(policy().double(), policy.space.enumerate())


BENCHMARK = Benchmark(
    name="rl",
    title="Reinforcement learning against a known optimum",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
