"""Settings of reinforcement learning of a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from discrete_grad.objectives.policy_gradient import WeightRule
from discrete_grad.reinforcement.algorithms import ALGORITHMS
from discrete_grad.training.config import LoopConfig

__all__ = ["ReinforceConfig"]


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(LoopConfig):
    """Training of a policy that maximises `E[reward] - beta KL(policy || reference)`.

    Where rewards are dear, `epochs=8, replay=1000` uses each row again and again; ppo takes its
    epochs without a replay.

    Example:
        >>> config = ReinforceConfig(algorithm="ppo", epochs=4, minibatches=2)
        >>> config.updates, config.rows_used(16, contexts=1)
        (8, 512)
    """

    algorithm: str = "leave_one_out"
    """Algorithm: `reinforce` subtracts the running mean of the rewards, `leave_one_out` the mean of
    the context's other rows; `group_relative` standardises rewards within a context; `a2c` and
    `ppo` learn values, by the mean and deviation of all rewards so far; `advantage_weighted` is
    weighted regression. A constant in the rewards changes none of them. See `ALGORITHMS`."""
    group: int = 256
    """Number of rows drawn for each context at once."""
    epochs: int = 1
    """Optimiser steps (or passes in minibatches) for each time that rows are drawn. The first takes
    the rows just drawn; in the others importance weights, or PPO's ratio, correct for their age."""
    minibatches: int = 1
    """Number of parts of a group; each is an optimiser step of an epoch."""
    replay: int = 1
    """Number of the last groups that are kept; every later epoch takes one of them at random."""
    beta: float = 0.1
    """Weight of the KL divergence from the reference, in the reward's unit a nat."""
    kl: Literal["k1", "k2", "k3", "conditional"] = "k1"
    """Estimate of the KL divergence; see `discrete_grad.objectives.policy_kl.kl_k1` and so on."""
    kl_in: Literal["reward", "loss"] = "reward"
    """Place of the KL divergence. The gradient is unbiased with k1 in the reward, with k2 in the
    loss, and with `conditional` in the reward (its part at each prefix is always in the loss), and
    biased otherwise."""
    entropy: float = 0.0
    """Weight of the policy's entropy, in the reward's unit a nat."""
    diversity: float = 0.0
    """Weight of the expected Hamming distance of two rows, in the reward's unit a feature."""
    clip: float = 0.2
    """Largest distance of PPO's probability ratio from 1 that counts."""
    weight_bound: float = 2.0
    """Upper bound of the importance weights of rows that are used again."""
    weight_rule: WeightRule = "clip"
    """Treatment of weights above `weight_bound`."""
    gae_decay: float = 0.95
    """Lambda of the advantages of `a2c` and `ppo`, in [0, 1]; at 1 the gradient is unbiased."""
    gamma: float = 1.0
    """Discount a step of `a2c` and `ppo`, in [0, 1]; below 1 the optimum is another."""
    temperature: float = 1.0
    """Temperature of `advantage_weighted`, in the reward's unit."""
    value_weight: float = 0.5
    """Weight of the value loss."""
    value_hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the value network."""
    reward_scale: Literal["raw", "running"] = "raw"
    """Scale of the rewards: `running` standardises them by all rewards so far."""
    advantage_scale: Literal["raw", "batch"] = "raw"
    """Scale of the advantages: `batch` standardises them over all rows drawn at once."""
    memory: int = 0
    """Number of the best rows kept for each context and used in every step, each by its exact
    probability."""
    context_noise: float = 0.0
    """Standard deviation of the Gaussian noise on the contexts that the policy sees."""
    clip_norm: float = 1.0
    """Largest norm of the policy's gradient, and of the values'; 0 for no limit."""
    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 1e-2
    validate_every: int = 100
    # the objective of one batch is no reason to prefer its weights
    patience: int = 0

    @property
    def updates(self) -> int:
        """Optimiser steps for each time that rows are drawn."""
        return self.epochs * self.minibatches

    def rows_used(self, step: int, *, contexts: int) -> int:
        """Rows drawn in the first so many steps, for so many contexts a step."""
        return -(-step // self.updates) * self.group * contexts

    def check_algorithm(self) -> None:
        """Raise ValueError for settings that do not fit together; `reinforce` calls it first."""
        self.check()
        for name, options in (
            ("algorithm", tuple(ALGORITHMS)),
            ("kl", ("k1", "k2", "k3", "conditional")),
            ("kl_in", ("reward", "loss")),
            ("reward_scale", ("raw", "running")),
            ("advantage_scale", ("raw", "batch")),
        ):
            if getattr(self, name) not in options:
                raise ValueError(f"{name} must be one of {options}, got {getattr(self, name)!r}")
        algorithm = ALGORITHMS[self.algorithm]
        least = max(algorithm.least_group, 3 if self.diversity else 1)
        if self.group < least:
            raise ValueError(f"{self.algorithm} needs a group of {least} or more, got {self.group}")
        if self.group % self.minibatches:
            raise ValueError(f"minibatches must divide group {self.group}, got {self.minibatches}")
        if self.gae_decay > 1 or self.gamma > 1:
            got = f"{self.gae_decay} and {self.gamma}"
            raise ValueError(f"gae_decay and gamma must lie in [0, 1], got {got}")
        if self.replay > 1 and (not algorithm.judges_again or self.epochs == 1):
            never = ", ".join(name for name, a in ALGORITHMS.items() if not a.judges_again)
            raise ValueError(f"a replay needs epochs, and another algorithm than {never}")
        if self.memory and (self.diversity or self.minibatches > 1):
            raise ValueError("a memory goes with neither diversity nor minibatches")

    def check_checkpoints(self) -> None:
        """Raise ValueError where a checkpoint could be without the rows that the next step uses."""
        if self.replay > 1 or self.checkpoint_every % self.updates:
            raise ValueError(
                "a checkpoint holds no rows: it needs replay 1, got "
                f"{self.replay}, and checkpoint_every a multiple of epochs x minibatches, got "
                f"{self.checkpoint_every} and {self.updates}"
            )
