"""Numbers of every way to train a policy by rewards, as they were when they were last looked at.

A few steps each, with settings that are no defaults, contexts, references and rewards far from 0:
whatever changes a term of a loss, an axis or a seed changes some number.
`python -m tests.reinforcement.test_snapshots` writes them anew, to be read before they are
committed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad.gradient import GradientEstimator, LeaveOneOut, StraightThrough
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.reinforcement import (
    DistillConfig,
    ReinforceConfig,
    RunningScale,
    adversarial_reward,
    distill,
    distill_guidance,
    distill_rows,
    reinforce,
)
from discrete_grad.sampling import isolated_seed
from discrete_grad.weighting import RewardWeighted
from tests.fitting.small_rows import CONTEXT, SHOWN, SPACE, SPEC
from tests.kept_numbers import Case, check_numbers, keep_numbers

FILE = Path(__file__).parent / "snapshots.json"
SHORT: dict[str, Any] = {"steps": 4, "batch_size": 3, "validate_every": 2, "learning_rate": 0.05}
CONTEXTS = CONTEXT[:7]


def reward(codes: Tensor, context: Tensor | None) -> Tensor:
    """From 10 to 22 or so; twice as steep in one of the shops."""
    worth = 3 * (codes * torch.tensor([1.0, -0.5, 0.7])).sum(-1)
    return 15 + worth * (1 if context is None else 0.5 + context[..., 0])


def rewards_of_flat(rows: Tensor, context: Tensor | None) -> Tensor:
    """The same with a derivative."""
    worth = rows @ torch.tensor([0, 3, 6, 0, -1.5, -3, -4.5, 0, 2.1])
    return worth * (1 if context is None else 0.5 + context[..., 0])


def steps(seed: int) -> Any:
    with isolated_seed(seed):
        return AutoregressiveGenerator(SPACE, SPEC, hidden=(5,), order=["size", "cut", "shade"])


def independent(seed: int, *, bare: bool = False) -> Any:
    with isolated_seed(seed):
        return Generator(SPACE, None if bare else SPEC, hidden=(5,))


def told(history: Any, policy: Any, context: Tensor | None = CONTEXTS[:6]) -> list[Any]:
    progress = [list(vars(one).values()) for one in getattr(history, "progress", ())]
    losses = [history.losses, history.held_out_losses, [history.kept_step]]
    return [*losses, *progress, policy.log_prob(SHOWN[:6], context)]


def policy(
    algorithm: str, *, by_steps: bool = True, bare: bool = False, **changes: Any
) -> list[Any]:
    """Training by an algorithm; against a reference where the policy has contexts."""
    made = steps(1) if by_steps else independent(1, bare=bare)
    reference = None if bare else (steps(2) if by_steps else independent(2))
    potential = changes.pop("potential", None)
    settings = SHORT | {"group": 8, "beta": 0.3, "value_hidden": (4,)} | changes
    config = ReinforceConfig(algorithm=algorithm, **settings)
    context = None if bare else CONTEXTS
    history = reinforce(
        made, reward, context, config=config, seed=3, reference=reference, potential=potential
    )
    return told(history, made, None if bare else CONTEXTS[:6])


def potential(codes: Tensor, context: Tensor | None) -> Tensor:
    place = torch.arange(3.0).expand(*codes.shape[:-1], 3)
    return place * codes[..., :1]


def distilled(method: Any, *, by_steps: bool = False, **options: Any) -> list[Any]:
    """Training towards a target whose beta is another one in each context."""
    made, reference = (steps(4), steps(5)) if by_steps else (independent(4), independent(5))
    worth = rewards_of_flat if options.pop("flat", False) else reward
    target = RewardWeighted(reference, worth, torch.linspace(1.0, 4.0, len(CONTEXTS)))
    config = DistillConfig(**SHORT, samples=6)
    made_by = distill(made, target, CONTEXTS, method=method, config=config, seed=6, **options)
    return told(made_by, made)


def through(estimator: GradientEstimator, **options: Any) -> list[Any]:
    return distilled("reverse", gradient_estimator=estimator, **options)


def rows() -> list[Any]:
    made, config = steps(7), DistillConfig(**SHORT, samples=5)
    history = distill_rows(
        made, independent(8), reward, CONTEXTS, pool=9, keep=0.4, config=config, seed=9
    )
    return told(history, made)


def guidance(**options: Any) -> list[Any]:
    made, config = steps(10), DistillConfig(**SHORT, samples=5)
    history = distill_guidance(made, steps(11), CONTEXTS, config=config, seed=12, **options)
    return told(history, made)


class Linear(torch.nn.Module):
    """A reward with weights of its own, one of which is never asked."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self.unasked = torch.nn.Parameter(torch.tensor([3.0]))

    def forward(self, codes: Tensor, context: Tensor | None) -> Tensor:
        worth = codes.to(self.slopes.dtype) @ self.slopes
        return worth if context is None else worth * context[..., 2] - context[..., 0]


def adversarial() -> list[Any]:
    made = adversarial_reward(Linear(), context_radius=0.2, weight_radius=0.1)
    return [made(SHOWN[:6], CONTEXTS[:6]), made(SHOWN[:6], None)]


def scale() -> list[Any]:
    made = RunningScale()
    for part in (torch.tensor([5.0]), torch.tensor([[7.0, 4.0], [9.0, 9.0]]), torch.empty(0)):
        if part.numel():
            made.update(part)
    values = torch.tensor([1.0, 8.0])
    return [[*made.state_dict().values()], [made.deviation], made(values), made.inverse(values)]


CASES: dict[str, Case] = {
    "leave one out": lambda: policy(
        "leave_one_out", kl="k3", kl_in="loss", entropy=0.2, diversity=0.1, clip_norm=0.0
    ),
    "reinforce": lambda: policy(
        "reinforce", by_steps=False, context_noise=0.3, memory=3, epochs=2, kl="k2", kl_in="loss"
    ),
    "reinforce, bare": lambda: policy("reinforce", by_steps=False, bare=True, memory=2, epochs=2),
    "reinforce, conditional": lambda: policy(
        "reinforce",
        by_steps=False,
        kl="conditional",
        kl_in="loss",
        memory=3,
        epochs=4,
        beta=40.0,
        learning_rate=0.3,
    ),
    "group": lambda: policy(
        "group_relative",
        minibatches=2,
        epochs=2,
        advantage_scale="batch",
        kl_in="loss",
        weight_bound=1.01,
        weight_rule="drop",
    ),
    "group, memory": lambda: policy("group_relative", memory=2, entropy=0.1, kl="k3"),
    "a2c": lambda: policy(
        "a2c", potential=potential, gamma=0.9, gae_decay=0.7, kl="conditional", value_weight=0.3
    ),
    "a2c, parts": lambda: policy(
        "a2c", minibatches=2, epochs=2, kl="conditional", kl_in="loss", replay=2
    ),
    "a2c, memory": lambda: policy("a2c", by_steps=False, memory=3, epochs=2, value_weight=2.0),
    "ppo": lambda: policy(
        "ppo", minibatches=2, epochs=2, clip=0.01, reward_scale="running", gae_decay=0.5
    ),
    "advantage weighted": lambda: policy(
        "advantage_weighted", temperature=0.8, memory=3, epochs=3, replay=2, advantage_scale="batch"
    ),
    "forward": lambda: distilled("forward"),
    "forward, own rows": lambda: distilled("forward", by_steps=True, proposal="policy", clip=1.5),
    "reverse": lambda: distilled("reverse"),
    "reverse, steps": lambda: distilled("reverse", by_steps=True),
    "reverse, leave one out": lambda: through(LeaveOneOut(SPACE, samples=4)),
    "reverse, through rows": lambda: through(StraightThrough(SPACE, samples=3), flat=True),
    "reverse, through steps": lambda: through(StraightThrough(samples=3), by_steps=True, flat=True),
    "exact": lambda: distilled("exact"),
    "exact, reverse": lambda: distilled("exact", by_steps=True, direction="reverse"),
    "rows": rows,
    "guidance": guidance,
    "guidance, own prefixes": lambda: guidance(prefixes="student"),
    "adversarial": adversarial,
    "scale": scale,
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_as_before(name: str) -> None:
    check_numbers(FILE, name, CASES[name])


if __name__ == "__main__":
    keep_numbers(FILE, CASES)
