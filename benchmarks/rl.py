"""Reinforcement learning against a known optimum: rows and time to come near it, and hacking.

A policy writes rows, a reward judges them, and `E[r] - beta KL(policy || uniform)` is to be
maximised, of which the optimum is `beta log Z`. The reward is the true table, or an ensemble learnt
from 1,500 rows of its worst 80%, which the policy then exploits. Beside our algorithms stand
stable-baselines3's PPO and A2C, and TorchRL's ClipPPOLoss.

    python -m benchmarks.rl
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import tyro
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.rl_problems import DATASETS, Path, Problem, looks, problem
from benchmarks.rl_tables import BEST_FACTORISED, plot, tables
from discrete_grad.policies import AutoregressiveGenerator, Generator, Policy
from discrete_grad.reinforcement import ReinforceConfig, reinforce, table_reward
from discrete_grad.sampling import isolated_seed
from discrete_grad.weighting import exact_log_probs

REWARDS = ("true", "learned", "learned, free")
_REUSED = {"learning_rate": 5e-3, "epochs": 8, "replay": 1000}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "reinforce": _REUSED,
    "leave_one_out": _REUSED,
    "group_relative": _REUSED,
    "a2c": {**_REUSED, "gae_decay": 1.0},
    "ppo": {"learning_rate": 1e-2, "epochs": 8, "gae_decay": 1.0, "group": 512},
    "advantage_weighted": {**_REUSED, "temperature": 0.3},
}
FACTORISED: dict[str, dict[str, Any]] = {
    "leave_one_out": {"learning_rate": 3e-2, "epochs": 4, "replay": 1000},
    "a2c": {"learning_rate": 5e-2, "epochs": 4, "replay": 1000, "gae_decay": 1.0},
    "ppo": {"learning_rate": 3e-2, "epochs": 4, "gae_decay": 1.0},
}
PEERS = (
    "stable-baselines3 PPO",
    "stable-baselines3 PPO, tuned",
    "stable-baselines3 A2C",
    "stable-baselines3 A2C, tuned",
    "TorchRL ClipPPOLoss",
)
FORGETTING = ("ppo", "TorchRL ClipPPOLoss")
FREE = 0.01  # beta of the runs that exploit a learned reward, nearly without a leash


@dataclass(frozen=True)
class Config(harness.Config):
    """Share of the known optimum against rows and time."""

    seeds: int = 10
    """Seeds 0, 1, ... of each method with the true reward."""
    learned_seeds: int = 5
    """Of each with a learned reward, which the seed decides as well."""
    methods: tuple[str, ...] = ()
    """Only these; by default all."""
    rows: int = 51_200
    """Rows that a policy may write, half of them with a learned reward; twice as many where each
    batch is used and forgotten."""
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
        keys = [(table, "true", BEST_FACTORISED, 0) for table in DATASETS]
        keys += [
            (table, reward, name, seed)
            for reward in REWARDS
            for seed in range(config.seeds if reward == "true" else config.learned_seeds)
            for table in DATASETS
            for name in methods()
            if reward == "true" or name in ALGORITHMS
        ]
    wanted = [key for key in keys if not config.methods or key[2] in config.methods]
    return [Cell("/".join(map(str, key)), (config, *key)) for key in wanted]


def measure(config: Config, table: str, reward: str, method: str, seed: int) -> dict[str, Any]:
    """The path of one run."""
    kind, _, free = reward.partition(", ")
    beta = FREE if free else config.beta
    asked = problem(table, kind, beta, seed, quick=config.quick)
    rows = config.rows * (2 if method in FORGETTING else 1) // (1 if kind == "true" else 2)
    rows = 2048 if config.quick else rows
    at = looks(rows, 512)
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
            policy = Generator(asked.space)
    settings = (FACTORISED if factorised else ALGORITHMS)[algorithm]
    config = ReinforceConfig(algorithm=algorithm, beta=asked.beta, **settings)
    steps = rows // config.group * config.updates
    config = replace(config, steps=steps, validate_every=config.updates)
    path = Path(asked)

    def callback(_: nn.Module, step: int) -> None:
        rows = config.rows_used(step, contexts=1)
        if rows in at and step % config.updates == 0:
            path.record(lambda: law(policy), rows)

    reward = table_reward(asked.space, asked.reward.float())
    reinforce(policy, reward, config=config, callback=callback, seed=seed)
    return path


def best_factorised(asked: Problem, starts: int = 8, steps: int = 300) -> Path:
    """Best that independent features reach, of some starts, by the exact gradient."""
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
    path.record(lambda: max(found, key=lambda law: asked.grade(law)["objective"]), 0)
    return path


def law(policy: Policy) -> Tensor:
    """Log-probabilities of all rows."""
    return exact_log_probs(policy)


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
