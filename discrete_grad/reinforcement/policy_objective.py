"""Loss of reinforcement learning in one optimiser step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from discrete_grad.policies import (
    AutoregressiveGenerator,
    Policy,
    chosen_log_probs,
    conditional_logits,
    to_steps,
)
from discrete_grad.reinforcement.reinforce_config import ReinforceConfig
from discrete_grad.reinforcement.replay import RowMemory, memory_weights
from discrete_grad.reinforcement.rewards import RunningScale
from discrete_grad.reinforcement.rollouts import (
    Rollout,
    check_costs,
    check_rewards,
    policy_loss,
    step_costs,
    with_advantages,
)
from discrete_grad.reinforcement.value import ContextValue, StepValue
from discrete_grad.sampling import isolated_seed, normal, permutation, random_indices, seeded
from discrete_grad.training.loop import Objective, Step, derive_seed
from discrete_grad.weighting import Reward, as_reference, effective_size

__all__ = ["PolicyObjective", "Potential", "Task"]

Potential = Callable[[Tensor, Tensor | None], Tensor]
"""`(codes (G, *batch, F), context)` -> `(G, *batch, T)`, before each step of a row."""

_WITH_VALUES = ("a2c", "ppo")
_KEPT = 0.9  # of the running mean of the rewards, at each batch


@dataclass(frozen=True)
class Task:
    """Task of a policy; no module, so that nothing of it is saved twice."""

    policy: Policy
    reward: Reward
    reference: Policy | None
    contexts: Tensor | None
    potential: Potential | None


class PolicyObjective(Objective):
    """Rows are drawn every `config.updates` steps and kept for the steps to come.

    Args:
        task: what is asked.
        config: the algorithm.
        seed: decides the value network's first weights.
    """

    baseline: Tensor
    last: Tensor

    def __init__(self, task: Task, config: ReinforceConfig, *, seed: int) -> None:
        super().__init__()
        self.task, self.config = task, config
        parts: dict[str, nn.Module] = {"policy": task.policy}
        if config.algorithm in _WITH_VALUES:
            with isolated_seed(derive_seed(seed, "value")):
                parts["value"] = _new_value(task.policy, config)
        self.model = nn.ModuleDict(parts)
        self.kept: deque[Rollout] = deque(maxlen=config.replay)
        device = _parameter(task.policy).device
        self.scale = RunningScale().to(device) if config.reward_scale == "running" else None
        self.memory: RowMemory | None = None
        if config.memory:
            contexts = 1 if task.contexts is None else len(task.contexts)
            memory = RowMemory(task.policy.space, config.memory, contexts)
            self.memory = memory.to(device)
        # processes share buffers over what connects their devices
        self.register_buffer("baseline", torch.zeros((), dtype=torch.float64, device=device))
        # reward, divergence, entropy, objective, effective size: as in Progress
        self.register_buffer("last", torch.zeros(5, dtype=torch.float64, device=device))

    def rows_used(self, step: int) -> int:
        """Rows drawn in the first so many steps."""
        contexts = 1 if self.task.contexts is None else self.config.batch_size
        return self.config.rows_used(step, contexts=contexts)

    def validate(self) -> Tensor:
        """Minus the objective of the last rows drawn."""
        return -self.last[3].float()

    def finish_gradients(self) -> None:
        """Clip them."""
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)

    def forward(self, step: Step) -> Tensor:
        """Loss of one step."""
        policy, config, place = self.task.policy, self.config, step.index % self.config.updates
        fresh = self._collect(step) if place == 0 else None
        rollout = self._chosen(step, place)
        if fresh is not None and config.minibatches == 1:
            logits = fresh  # those that judged the rows serve once more
        else:
            logits = conditional_logits(policy, rollout.codes, rollout.context)
            if config.algorithm != "ppo":  # which keeps to the advantages it began with
                rollout = self._judged(rollout, logits.detach())
        values = self._values(rollout)
        loss, weights = policy_loss(policy, rollout, logits, config, values=values)
        self.last[4] = effective_size(weights.log()).mean()
        return loss

    def _chosen(self, step: Step, place: int) -> Rollout:
        """The rows of one step: those just drawn first, then any of those kept."""
        parts, epoch = self.config.minibatches, place // self.config.minibatches
        begun = step.index - place + epoch * parts
        noise = seeded(derive_seed(step.seed, step.stage, "epoch", begun, step.rank))
        kept, which = self.kept, -1
        if epoch and len(kept) > 1:
            which = int(random_indices(len(kept), (1,), generator=noise))
        if parts == 1:
            return kept[which]
        rows = permutation(self.config.group, generator=noise)[place % parts :: parts]
        return kept[which].part(rows.to(kept[which].codes.device))

    def _values(self, rollout: Rollout) -> Tensor | None:
        if self.config.algorithm not in _WITH_VALUES:
            return None
        values: Tensor = self.model.get_submodule("value")(rollout.codes, rollout.context)
        return values

    def _collect(self, step: Step) -> Tensor:
        """Draw rows and judge them; returns the policy's logits at them."""
        policy, config = self.task.policy, self.config
        index, context = self._contexts(step)
        seen = self._with_noise(context, step)
        noise = step.generator(_parameter(policy).device)
        codes = as_reference(policy).sample(seen, config.group, generator=noise)
        rewards = self._rewards(codes, context)
        rows, worth, alive = self._with_known(index, codes, rewards)
        with torch.set_grad_enabled(config.minibatches == 1):
            logits = conditional_logits(policy, rows, seen)
        with torch.no_grad():
            rollout = self._rollout(rows, seen, worth, logits.detach(), alive)
            self.kept.append(self._judged(rollout, logits.detach()))
            self._note(rollout, logits.detach(), rewards, first=not step.index)
        return logits

    def _contexts(self, step: Step) -> tuple[Tensor, Tensor | None]:
        """Places `(B,)` of this batch's contexts, `(1,)` without any, and the contexts."""
        contexts = self.task.contexts
        if contexts is None:
            return torch.zeros(1, dtype=torch.long), None
        index = step.batch(len(contexts), self.config.batch_size).to(contexts.device)
        return index, contexts[index]

    def _with_noise(self, context: Tensor | None, step: Step) -> Tensor | None:
        if context is None or not self.config.context_noise:
            return context
        noise = seeded(derive_seed(step.noise_seed, "context"))
        moves = normal(tuple(context.shape), generator=noise).to(context)
        return context + self.config.context_noise * moves

    @torch.no_grad()
    def _rewards(self, codes: Tensor, context: Tensor | None) -> Tensor:
        rewards = self.task.reward(codes, context)
        check_rewards(rewards, codes)
        if self.scale is not None:
            self.scale.update(rewards)
        return rewards

    def _with_known(
        self, index: Tensor, codes: Tensor, rewards: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The rows drawn and those known before, their rewards, and which of the latter exist."""
        if self.memory is None:
            return codes, rewards, None
        flat = (-1, len(index), codes.shape[-1])
        known, worth = self.memory.recall(index)
        self.memory.keep(index, codes.reshape(flat), rewards.reshape(flat[:2]))
        known, worth = known.reshape(-1, *codes.shape[1:]), worth.reshape(-1, *rewards.shape[1:])
        alive = worth > -torch.inf
        # an empty place holds a row that was drawn, of no weight
        known = torch.where(alive.unsqueeze(-1), known, codes[:1])
        worth = torch.where(alive, worth, 0).to(rewards.dtype)
        return torch.cat([codes, known]), torch.cat([rewards, worth]), alive

    def _rollout(
        self,
        rows: Tensor,
        context: Tensor | None,
        rewards: Tensor,
        logits: Tensor,
        alive: Tensor | None,
    ) -> Rollout:
        policy, task, drawn = self.task.policy, self.task, self.config.group
        log_probs = to_steps(policy, chosen_log_probs(policy.space, logits, rows))
        reference, weights = logits.new_zeros(policy.space.width), None
        if task.reference is not None:
            reference = conditional_logits(task.reference, rows, context)
        if alive is not None:
            known = log_probs[drawn:].sum(-1)
            weights = memory_weights(rows[:drawn], rows[drawn:], known, alive)
        scaled = rewards if self.scale is None else self.scale(rewards)
        rollout = Rollout(
            rows,
            context,
            scaled.to(logits),
            log_probs,
            reference,
            weights=weights,
            potentials=None if task.potential is None else task.potential(rows, context),
            drawn=drawn,
        )
        check_costs(log_probs - rollout.reference_steps(policy), rows)
        return rollout

    @torch.no_grad()
    def _judged(self, rollout: Rollout, logits: Tensor) -> Rollout:
        """With the advantages of the policy that has these logits."""
        costs = step_costs(self.task.policy, rollout, logits, self.config)
        baseline = self.baseline.to(logits) if self.config.algorithm == "reinforce" else None
        values = self._values(rollout)
        return with_advantages(rollout, costs, self.config, values=values, baseline=baseline)

    def _note(self, rollout: Rollout, logits: Tensor, rewards: Tensor, *, first: bool) -> None:
        """Statistics of the rows just drawn: the running mean, and the means of `Progress`."""
        policy, config, drawn = self.task.policy, self.config, rollout.drawn
        costs = step_costs(policy, rollout, logits, config).sum(-1)
        net = (rollout.rewards - costs)[:drawn].mean().double()
        self.baseline.copy_(net if first else _KEPT * self.baseline + (1 - _KEPT) * net)
        row = rollout.log_probs.sum(-1)
        kl = (row - rollout.reference_steps(policy).sum(-1))[:drawn].mean()
        scaled = rollout.rewards[:drawn].mean()
        means = [rewards.mean().to(kl), kl, -row[:drawn].mean(), scaled - config.beta * kl]
        self.last[:4] = torch.stack(means)


def _parameter(policy: Policy) -> Tensor:
    return next(policy.parameters())


def _new_value(policy: Policy, config: ReinforceConfig) -> nn.Module:
    value: nn.Module
    if isinstance(policy, AutoregressiveGenerator):
        value = StepValue(
            policy.space, policy.context_spec, order=policy.order, hidden=config.value_hidden
        )
    else:
        value = ContextValue(policy.context_spec, hidden=config.value_hidden)
    return value.to(_parameter(policy))
