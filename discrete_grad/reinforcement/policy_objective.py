"""The objective of reinforcement learning: its loss in one optimiser step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from discrete_grad.policies import Policy
from discrete_grad.policies.protocol import device_of, drawn_rows, require
from discrete_grad.reinforcement._rollout import (
    Rollout,
    RowLaw,
    Steps,
    check_costs,
    check_rewards,
)
from discrete_grad.reinforcement._rollout_loss import policy_loss, step_costs, with_advantages
from discrete_grad.reinforcement.algorithms import ALGORITHMS
from discrete_grad.reinforcement.reinforce_config import ReinforceConfig
from discrete_grad.reinforcement.replay import RowMemory, memory_weights
from discrete_grad.reinforcement.rewards import RunningScale
from discrete_grad.reinforcement.value import ContextValue, StepValue
from discrete_grad.sampling import isolated_seed, normal, permutation, random_indices, seeded
from discrete_grad.training.loop import Objective, Step, derive_seed
from discrete_grad.weighting import effective_size
from discrete_grad.weighting.reward import Reward, reward_tensor

__all__ = ["PolicyObjective", "Potential", "Task"]

Potential = Callable[[Tensor, Tensor | None], Tensor]
"""`(codes (G, *batch, F), context)` -> `(G, *batch, T)`, before each step of a row."""

_KEPT = 0.9  # of the running mean of the rewards, at each batch


@dataclass(frozen=True)
class Task:
    """The task set to a policy; no module, so that nothing of it is saved twice."""

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
        self.algorithm = ALGORITHMS[config.algorithm]
        self.steps = Steps.of(task.policy, task.reference)
        parts: dict[str, nn.Module] = {"policy": cast(nn.Module, task.policy)}
        if self.algorithm.advantages is None:
            with isolated_seed(derive_seed(seed, "value")):
                parts["value"] = _new_value(task, self.steps, config)
        self.model = nn.ModuleDict(parts)
        self.kept: deque[Rollout] = deque(maxlen=config.replay)
        device = device_of(task.policy, None)
        learns_values = self.algorithm.advantages is None
        needs_scale = learns_values or self._scales_rewards
        self.scale = RunningScale().to(device) if needs_scale else None
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
        """Clip them, the policy's and the values' apart: one must not shorten the other."""
        if self.config.clip_norm:
            for part in self.model.children():
                nn.utils.clip_grad_norm_(part.parameters(), self.config.clip_norm)

    def forward(self, step: Step) -> Tensor:
        """Loss of one step."""
        config, place = self.config, step.index % self.config.updates
        fresh = self._collect(step) if place == 0 else None
        rollout = self._chosen(step, place)
        if fresh is not None and config.minibatches == 1:
            law, kl = fresh  # that by which the rows were judged serves once more
        else:
            law = self.steps.read(self.task.policy, rollout.codes, rollout.context)
            kl = self._divergences(law, rollout.reference)
            if self.algorithm.judges_again:
                rollout = self._judged(rollout, self._costs(rollout, law, kl))
        values = self._values(rollout)
        unit = self._value_unit()
        loss, weights = policy_loss(rollout, law, config, kl=kl, values=values, unit=unit)
        self.last[4] = effective_size(weights.log()).mean()
        return loss

    def _divergences(self, law: RowLaw, reference: RowLaw) -> Tensor | None:
        """Of each step, where the config asks for them."""
        asked = self.config.kl == "conditional"
        return self.steps.divergences(law, reference) if asked else None

    def _costs(self, rollout: Rollout, law: RowLaw, kl: Tensor | None) -> Tensor:
        known = None if kl is None else kl.detach()
        return step_costs(rollout, law.detach(), self.config, kl=known)

    def _chosen(self, step: Step, place: int) -> Rollout:
        """The rows of one step: those just drawn first, then any of those kept."""
        parts, epoch = self.config.minibatches, place // self.config.minibatches
        # the step in which the epoch began: its minibatches share a seed, hence one permutation
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
        if self.algorithm.advantages is not None:
            return None
        assert self.scale is not None
        values: Tensor = self.model.get_submodule("value")(rollout.codes, rollout.context)
        # the network learns numbers about 0 and 1, whatever the reward's origin and unit
        return values if self._scales_rewards else self.scale.inverse(values)

    @property
    def _scales_rewards(self) -> bool:
        return self.config.reward_scale == "running"

    def _value_unit(self) -> Tensor | None:
        """Unit in which the values' errors count; None for 1."""
        return None if self.scale is None or self._scales_rewards else self.scale.deviation

    def _collect(self, step: Step) -> tuple[RowLaw, Tensor | None]:
        """Draw rows and judge them; returns their log-probabilities and divergences."""
        policy, config = self.task.policy, self.config
        index, context = self._contexts(step)
        seen = self._with_noise(context, step)
        with torch.no_grad():
            noise = step.generator(device_of(policy, None))
            codes = drawn_rows(policy, seen, config.group, generator=noise)
            rewards = self._rewards(codes, context)
            rows, worth, alive = self._with_known(index, codes, rewards)
        with torch.set_grad_enabled(config.minibatches == 1):
            law = self.steps.read(policy, rows, seen)
            reference = self._reference(rows, seen, law)
            kl = self._divergences(law, reference)
        with torch.no_grad():
            rollout = self._rollout(rows, seen, worth, law.detach(), reference, alive)
            costs = self._costs(rollout, law, kl)
            net = (rollout.rewards - costs.sum(-1))[: rollout.drawn].mean().double()
            if not step.index:  # or the first step would take the reward's origin for an advantage
                self.baseline.copy_(net)
            self.kept.append(self._judged(rollout, costs))
            self.baseline.copy_(_KEPT * self.baseline + (1 - _KEPT) * net)
            self._note(rollout, rewards)
        return law, kl

    @torch.no_grad()
    def _reference(self, rows: Tensor, context: Tensor | None, law: RowLaw) -> RowLaw:
        """The rows' log-probabilities under the reference; without one, rows are uniform."""
        if self.task.reference is not None:
            return self.steps.read(self.task.reference, rows, context)
        uniform = law.steps.new_zeros(self.steps.space.width)
        return self.steps.of_logits(uniform, rows)

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
        rewards = reward_tensor(self.task.reward(codes, context), codes)
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
        law: RowLaw,
        reference: RowLaw,
        alive: Tensor | None,
    ) -> Rollout:
        potential, drawn, weights = self.task.potential, self.config.group, None
        if alive is not None:
            known = law.steps[drawn:].sum(-1)
            weights = memory_weights(rows[:drawn], rows[drawn:], known, alive)
        scaled = self.scale(rewards) if self.scale and self._scales_rewards else rewards
        check_costs(law.steps - reference.steps, rows)
        return Rollout(
            rows,
            context,
            scaled.to(law.steps),
            law.steps,
            reference,
            weights=weights,
            potentials=None if potential is None else potential(rows, context),
            drawn=drawn,
        )

    @torch.no_grad()
    def _judged(self, rollout: Rollout, costs: Tensor) -> Rollout:
        """With the advantages of the policy whose steps cost so much."""
        baseline, values = self.baseline.to(costs), self._values(rollout)
        return with_advantages(rollout, costs, self.config, values=values, baseline=baseline)

    def _note(self, rollout: Rollout, rewards: Tensor) -> None:
        """Note the means of `Progress` of the rows just drawn."""
        drawn, beta = rollout.drawn, self.config.beta
        row = rollout.log_probs.sum(-1)
        kl = (row - rollout.reference.steps.sum(-1))[:drawn].mean()
        scaled = rollout.rewards[:drawn].mean()
        means = [rewards.mean().to(kl), kl, -row[:drawn].mean(), scaled - beta * kl]
        self.last[:4] = torch.stack(means)


def _new_value(task: Task, steps: Steps, config: ReinforceConfig) -> nn.Module:
    """Of each prefix of a row, or of its context alone where a row is one step."""
    if task.contexts is not None:
        require(f"reinforce by {config.algorithm}", task.policy, "context_spec")
    spec = getattr(task.policy, "context_spec", None)
    value: nn.Module
    if steps.order is None:
        value = ContextValue(spec, hidden=config.value_hidden)
    else:
        value = StepValue(steps.space, spec, order=steps.order, hidden=config.value_hidden)
    return value.to(next(cast(nn.Module, task.policy).parameters()))
