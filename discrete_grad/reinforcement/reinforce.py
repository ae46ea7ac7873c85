"""Reinforcement learning of a policy: one loop for every algorithm."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import Tensor, nn

from discrete_grad.nn.context import check_context
from discrete_grad.policies import Policy
from discrete_grad.policies.conditional import require_features, writes_steps
from discrete_grad.policies.protocol import POLICY_PARTS, has, require
from discrete_grad.reinforcement._contexts import check_contexts
from discrete_grad.reinforcement.policy_objective import PolicyObjective, Potential, Task
from discrete_grad.reinforcement.reinforce_config import ReinforceConfig
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, no_callback, train, trained_parameters
from discrete_grad.weighting.reward import Reward

__all__ = ["PolicyHistory", "Progress", "reinforce"]


@dataclass(frozen=True)
class Progress:
    """Figures of a policy from the last rows drawn; means over rows and contexts.

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


@dataclass(frozen=True, kw_only=True)
class PolicyHistory(History):
    """Course of a policy's training; its held-out loss is minus the objective.

    Example:
        >>> PolicyHistory().progress
        ()
    """

    progress: tuple[Progress, ...] = ()
    """Figures at each of the steps."""


def reinforce(
    policy: Policy,
    reward: Reward,
    context: Tensor | None = None,
    *,
    config: ReinforceConfig | None = None,
    seed: int = 0,
    stage: str = "policy",
    reference: Policy | None = None,
    potential: Potential | None = None,
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> PolicyHistory:
    """Train a policy, in place, to maximise `E[reward] - beta KL(policy || reference)`.

    The optimum is the reference reweighted by `exp(reward / beta)`, where the objective is
    `beta log Z`; `RewardWeighted` has both exactly.

    Args:
        policy: any policy with `parameters()`. Each feature of a row is a step of its own where
            the policy writes feature by feature and the reference has `logits` or does so too;
            otherwise a row is one step.
        reward: codes `(G, *batch, F)`, context -> finite rewards `(G, *batch)`; only its values
            count. An estimator is one; `weighted_reward` and others make more.
        context: `(N, C)`, of which each batch takes some; None without a context.
        config: the algorithm and its settings.
        seed: with `stage` decides every random number.
        stage: name in the log and in the seeds.
        reference: of which a frozen copy is taken, so it may be the policy; None for uniform rows.
        potential: added to the rewards of the steps as a difference, so the optimum stays.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(policy, step)`; see `train`. So far
            `config.rows_used(step, contexts=S)` rows were drawn, in S contexts.

    Returns:
        Losses and figures every `validate_every` steps and after the last.

    Raises:
        ValueError: for settings that do not fit together, a reward that is not finite or of another
            shape, contexts that are not `(N, C)`, a reference of another space, or of another order
            where the KL divergence is `conditional`.
        TypeError: for a policy or a reference that lacks a part.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> policy = Generator(CategoricalSpace.from_sizes((2, 3)))
        >>> config = ReinforceConfig(steps=200, group=16, beta=0.1)
        >>> history = reinforce(policy, lambda rows, context: 1.0 * rows.sum(-1), config=config)
        >>> history.progress[-1].rows, history.progress[-1].reward > 2.9
        (3200, True)
    """
    config = config or ReinforceConfig()
    config.check_algorithm()
    if checkpoint is not None:
        config.check_checkpoints()
    _check_task(policy, reference, context, config)
    trained_parameters(cast(nn.Module, policy))  # values alone would be no use
    task = Task(policy, reward, _frozen(reference), context, potential)
    objective = PolicyObjective(task, config, seed=seed)
    seen = list[Progress]()

    def write(metrics: dict[str, float], step: int) -> None:
        seen.append(Progress(objective.rows_used(step), *objective.last.tolist()))
        numbers = {f"{stage}/{name}": float(n) for name, n in asdict(seen[-1]).items()}
        log(metrics | numbers, step)

    history = train(
        objective,
        config,
        seed=seed,
        stage=stage,
        log=write,
        checkpoint=checkpoint,
        callback=lambda model, step: callback(cast(nn.Module, policy), step),
    )
    return PolicyHistory(**vars(history), progress=tuple(seen))


def _frozen(reference: Policy | None) -> Policy | None:
    frozen = copy.deepcopy(reference)
    if isinstance(frozen, nn.Module):
        frozen.eval().requires_grad_(False)
    return frozen


def _check_task(
    policy: Policy, reference: Policy | None, context: Tensor | None, config: ReinforceConfig
) -> None:
    require("reinforce", policy, *POLICY_PARTS, "parameters")
    models = [policy, *([] if reference is None else [reference])]
    for model in models:
        require("reinforce", model, "space", "log_prob")
        if config.kl == "conditional":
            require_features("reinforce with the conditional kl", model)
        if model.space != policy.space:
            raise ValueError(f"policy and reference differ: {policy.space} and {model.space}")
        if has(model, "context_spec"):
            check_context(context, cast(Any, model).context_spec)
    check_contexts(context)
    orders = {cast(Any, model).order for model in models if writes_steps(model)}
    if config.kl == "conditional" and len(orders) > 1:
        got = " and ".join(map(str, orders))
        raise ValueError(f"the conditional kl compares rows written in one order, got {got}")
