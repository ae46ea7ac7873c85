"""Reinforcement learning of a policy: one loop for every algorithm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import Tensor, nn

from discrete_grad.fitting.descent import check_contexts
from discrete_grad.nn.context import check_context
from discrete_grad.policies import AutoregressiveGenerator, Generator, Policy
from discrete_grad.reinforcement.policy_objective import PolicyObjective, Potential, Task
from discrete_grad.reinforcement.reinforce_config import ReinforceConfig
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import train, trained_parameters
from discrete_grad.weighting import Reward

__all__ = ["PolicyCallback", "Progress", "reinforce"]

PolicyCallback = Callable[[Policy, int], None]
"""Called as `callback(policy, rows_used)`."""


@dataclass(frozen=True)
class Progress:
    """Means over the rows and contexts that a policy drew last.

    Example:
        >>> Progress(rows=256, reward=1.0, kl=2.0, entropy=3.0, objective=0.8, effective_size=256.0)
        Progress(rows=256, reward=1.0, kl=2.0, entropy=3.0, objective=0.8, effective_size=256.0)
    """

    rows: int
    """Rows drawn so far."""
    reward: float
    """In the reward's unit, before any scaling."""
    kl: float
    """Divergence from the reference in nats, estimated by k1."""
    entropy: float
    """Of a row, in nats."""
    objective: float
    """Scaled reward less beta times the divergence."""
    effective_size: float
    """Of the weights of the rows of one context in the last optimiser step, in rows."""


def reinforce(
    policy: Policy,
    reward: Reward,
    config: ReinforceConfig | None = None,
    *,
    reference: Policy | None = None,
    context: Tensor | None = None,
    potential: Potential | None = None,
    seed: int = 0,
    stage: str = "policy",
    log: Log = no_log,
    callback: PolicyCallback | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[Progress]:
    """Train a policy, in place, to maximise `E[reward] - beta KL(policy || reference)`.

    The optimum is the reference reweighted by `exp(reward / beta)`, where the objective is
    `beta log Z`; `RewardWeighted` has both exactly.

    Args:
        policy: a `Generator` or an `AutoregressiveGenerator`.
        reward: codes `(G, *batch, F)`, context -> finite rewards `(G, *batch)`; only its values
            count. An estimator is one; `weighted_reward` and others make more.
        config: the algorithm and its settings.
        reference: of which a frozen copy is taken, so it may be the policy; None for uniform rows.
        context: `(N, C)`, of which each batch takes some; None without a context.
        potential: added to the rewards of the steps as a difference, so the optimum stays.
        seed: with `stage` decides every random number.
        stage: name, used in the log.
        log: called as `log(metrics, step)`.
        callback: called before the first step, every `validate_every` steps and after the last.
        checkpoint: where the state is saved and, if it was, resumed from.

    Returns:
        What was seen every `validate_every` steps and after the last.

    Raises:
        ValueError: for settings that do not fit together, a reward that is not finite or of another
            shape, contexts that are not `(N, C)`, a reference of another space.
        TypeError: for another policy or reference.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> policy = Generator(None, CategoricalSpace.from_sizes((2, 3)))
        >>> config = ReinforceConfig(steps=200, group=16, beta=0.1)
        >>> progress = reinforce(policy, lambda rows, context: 1.0 * rows.sum(-1), config)
        >>> progress[-1].rows, progress[-1].reward > 2.9
        (3200, True)
    """
    config = config or ReinforceConfig()
    config.check_algorithm()
    if checkpoint is not None:
        config.check_checkpoints()
    _check_task(policy, reference, context)
    trained_parameters(policy)  # values alone would be no use
    frozen = None if reference is None else copy.deepcopy(reference).eval().requires_grad_(False)
    task = Task(policy, reward, frozen, context, potential)
    objective = PolicyObjective(task, config, seed=seed)
    seen = list[Progress]()

    def write(metrics: dict[str, float], step: int) -> None:
        seen.append(Progress(objective.rows_used(step), *objective.last.tolist()))
        numbers = {f"{stage}/{name}": float(n) for name, n in asdict(seen[-1]).items()}
        log(metrics | numbers, step)

    def called(model: nn.Module, step: int) -> None:
        if callback is not None and (step % config.validate_every == 0 or step == config.steps):
            callback(policy, objective.rows_used(step))

    train(
        objective,
        config,
        seed=seed,
        stage=stage,
        log=write,
        checkpoint=checkpoint,
        callback=called,
    )
    return seen


def _check_task(policy: Policy, reference: Policy | None, context: Tensor | None) -> None:
    for model in [policy, *([] if reference is None else [reference])]:
        if not isinstance(model, Generator | AutoregressiveGenerator):
            wanted = "a Generator or an AutoregressiveGenerator"
            raise TypeError(f"policy and reference are {wanted}, got {type(model).__name__}")
        if model.space != policy.space:
            raise ValueError(f"policy and reference differ: {policy.space} and {model.space}")
        check_context(context, model.context_spec)
    check_contexts(context)
