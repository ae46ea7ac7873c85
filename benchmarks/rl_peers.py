"""stable-baselines3's PPO and A2C, and TorchRL's ClipPPOLoss, on the problems of `rl`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential
from tensordict.nn import TensorDictModule as Module
from torch import Tensor, nn
from torchrl.objectives import ClipPPOLoss

from benchmarks.rl_problems import Path, Problem
from discrete_grad.sampling import isolated_seed, seeded

ENVIRONMENTS = 64
SB3: dict[str, tuple[type[Any], dict[str, Any]]] = {
    # their defaults, but for the entropy coefficient, which makes the objective this one's
    "stable-baselines3 PPO": (PPO, {"n_steps": 32, "batch_size": 64}),
    "stable-baselines3 PPO, tuned": (
        PPO,
        {
            "n_steps": 4,
            "batch_size": 256,
            "n_epochs": 4,
            "learning_rate": lambda left: 3e-3 * left,
            # standardised advantages outweigh the entropy, and the policy collapses
            "normalize_advantage": False,
        },
    ),
    "stable-baselines3 A2C": (A2C, {}),
    "stable-baselines3 A2C, tuned": (
        A2C,
        {"n_steps": 4, "learning_rate": lambda left: 3e-3 * left},
    ),
}
TORCHRL = "TorchRL ClipPPOLoss"
PEERS = (*SB3, TORCHRL)


class RowEnvironments(VecEnv):
    """So many one-step episodes side by side: an action writes a row, the reward is its score."""

    def __init__(self, problem: Problem, count: int) -> None:
        self.table = problem.reward.float().numpy()
        self.sizes = problem.space.sizes
        self.seen = np.zeros((count, 1), dtype=np.float32)
        super().__init__(
            count,
            gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32),
            gymnasium.spaces.MultiDiscrete(list(problem.space.sizes)),
        )

    def reset(self) -> np.ndarray[Any, Any]:
        """The one state there is."""
        return self.seen

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Rows `(count, F)`."""
        self.rewards = self.table[np.ravel_multi_index(tuple(actions.T), self.sizes)]

    def step_wait(self) -> Any:
        """Every episode is over."""
        done = np.ones(self.num_envs, dtype=bool)
        return self.seen, self.rewards, done, [{} for _ in range(self.num_envs)]

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """No environment has attributes of its own but a render mode."""
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """See `get_attr`."""
        raise AttributeError(attr_name)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """See `get_attr`."""
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """None is."""
        return [False] * self.num_envs


class _Looks(BaseCallback):
    """Grades the policy whenever it has been updated after one of the numbers of rows."""

    def __init__(self, problem: Problem, path: Path, at: set[int]) -> None:
        super().__init__()
        self.space, self.path, self.left = problem.space, path, sorted(at)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.grade()

    def grade(self) -> None:
        if not self.left or self.num_timesteps < self.left[0]:
            return
        self.left = [rows for rows in self.left if rows > self.num_timesteps]
        self.path.record(self._law, self.num_timesteps)

    def _law(self) -> Tensor:
        policy: Any = self.model.policy
        parts = policy.get_distribution(torch.zeros(1, 1)).distribution
        logits = torch.cat([part.logits for part in parts], -1).double()
        return self.space.log_prob(logits, self.space.enumerate())


def stable_baselines(name: str, problem: Problem, seed: int, rows: int, at: set[int]) -> Path:
    """Their algorithm with a policy of independent categories."""
    algorithm, options = SB3[name]
    environments = RowEnvironments(problem, ENVIRONMENTS)
    with isolated_seed(seed):
        model = algorithm(
            "MlpPolicy",
            environments,
            ent_coef=problem.beta,
            seed=seed,
            device="cpu",
            **options,
        )
        model.set_logger(Logger(None, []))  # the one it would make leaves a folder behind
        path = Path(problem)
        callback = _Looks(problem, path, at)
        model.learn(rows, callback=callback)
        callback.grade()
    return path


class _NextCategory(nn.Module):
    """Logits `(..., K)` of the next category given a prefix; -1e4 beyond a feature's own size."""

    mask: Tensor

    def __init__(self, problem: Problem, hidden: int) -> None:
        super().__init__()
        sizes, width = problem.space.sizes, problem.space.width
        self.body = nn.Sequential(
            nn.Linear(width + len(sizes), hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, max(sizes)),
        )
        legal = torch.arange(max(sizes)) < torch.tensor(sizes).unsqueeze(-1)
        # finite, since their distributions multiply a logit by its probability
        self.register_buffer("mask", torch.where(legal, 0.0, -1e4))

    def forward(self, observation: Tensor) -> Tensor:
        step: Tensor = observation[..., -len(self.mask) :]
        logits: Tensor = self.body(observation) + step @ self.mask
        return logits


def torchrl(problem: Problem, seed: int, rows: int, at: set[int], batch: int = 256) -> Path:
    """A loop of our own around their loss: a feature is a step, the KL a part of the reward."""
    noise, hidden = seeded(seed), 64
    with isolated_seed(seed):
        network = _NextCategory(problem, hidden)
        actor = ProbabilisticTensorDictSequential(
            Module(network, in_keys=["observation"], out_keys=["logits"]),
            ProbabilisticTensorDictModule(
                in_keys=["logits"],
                out_keys=["action"],
                distribution_class=torch.distributions.Categorical,
                return_log_prob=True,
            ),
        )
        width = problem.space.width + problem.space.num_features
        value = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        critic = Module(value, in_keys=["observation"], out_keys=["state_value"])
        loss = ClipPPOLoss(actor, critic, entropy_bonus=False, normalize_advantage=True)
    optimiser = torch.optim.Adam(loss.parameters(), 3e-3)
    steps = rows // batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    path = Path(problem)
    for step in range(1, steps + 1):
        data = _collected(problem, network, value, batch, noise)
        for part in _minibatches(data, epochs=4, count=4, noise=noise):
            found = loss(part)
            total = found["loss_objective"] + found["loss_critic"]
            optimiser.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
            optimiser.step()
        schedule.step()
        if step * batch in at:
            path.record(lambda: _law(problem, network), step * batch)
    return path


@torch.no_grad()
def _collected(
    problem: Problem, network: nn.Module, value: nn.Module, batch: int, noise: torch.Generator
) -> TensorDict:
    """Transitions `(batch * F)` of rows drawn from the policy, with their advantages."""
    observation = _start(problem, batch)
    seen, actions, log_probs = list[Tensor](), list[Tensor](), list[Tensor]()
    for feature in range(problem.space.num_features):
        log_p = network(observation).log_softmax(-1)
        action = torch.multinomial(log_p.exp(), 1, generator=noise)
        seen.append(observation)
        log_probs.append(log_p.gather(-1, action).squeeze(-1))
        actions.append(action.squeeze(-1))
        observation = _moved(problem, observation, feature, actions[-1])
    log_p = torch.stack(log_probs, -1)
    sizes = torch.tensor(problem.space.sizes, dtype=log_p.dtype)
    rewards = -problem.beta * (log_p + sizes.log())
    rewards[:, -1] += problem.reward[problem.space.row_number(torch.stack(actions, -1))].float()
    states = torch.stack(seen, 1)
    values = value(states).squeeze(-1)
    advantages = _advantages(rewards, values, decay=0.95)
    entries = {
        "observation": states,
        "action": torch.stack(actions, -1),
        "action_log_prob": log_p,
        "advantage": advantages.unsqueeze(-1),
        "value_target": (advantages + values).unsqueeze(-1),
        "state_value": values.unsqueeze(-1),
    }
    flat = {name: entry.flatten(0, 1) for name, entry in entries.items()}
    return TensorDict(flat, batch_size=[log_p.numel()])


def _advantages(rewards: Tensor, values: Tensor, decay: float) -> Tensor:
    """Generalised advantage estimates `(batch, F)` of episodes that end with their last step."""
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    errors, carried = rewards + following - values, torch.zeros_like(values[:, 0])
    found = list[Tensor]()
    for error in reversed(errors.unbind(1)):
        carried = error + decay * carried
        found.insert(0, carried)
    return torch.stack(found, 1)


def _minibatches(
    data: TensorDict, *, epochs: int, count: int, noise: torch.Generator
) -> Iterator[TensorDict]:
    for _ in range(epochs):
        for index in torch.randperm(len(data), generator=noise).chunk(count):
            yield data[index]


def _start(problem: Problem, batch: int) -> Tensor:
    """Nothing written, the first feature to come: one-hot row and one-hot step."""
    observation = torch.zeros(batch, problem.space.width + problem.space.num_features)
    observation[:, problem.space.width] = 1
    return observation


def _moved(problem: Problem, observation: Tensor, feature: int, action: Tensor) -> Tensor:
    space, rows = problem.space, torch.arange(len(observation))
    moved = observation.clone()
    moved[rows, sum(space.sizes[:feature]) + action] = 1
    moved[:, space.width :] = 0
    if feature + 1 < space.num_features:
        moved[:, space.width + feature + 1] = 1
    return moved


def _law(problem: Problem, network: nn.Module) -> Tensor:
    """Log-probabilities of all rows, each prefix read once."""
    observation, log_probs = _start(problem, 1), torch.zeros(1)
    for feature, size in enumerate(problem.space.sizes):
        log_p = network(observation).log_softmax(-1)[:, :size]
        log_probs = (log_probs.unsqueeze(-1) + log_p).flatten()
        every = torch.arange(size).repeat(len(observation))
        observation = _moved(problem, observation.repeat_interleave(size, 0), feature, every)
    return log_probs


def peer(name: str, problem: Problem, seed: int, rows: int, at: set[int]) -> Path:
    """One run of a peer."""
    if name == TORCHRL:
        return torchrl(problem, seed, rows, at)
    return stable_baselines(name, problem, seed, rows, at)
