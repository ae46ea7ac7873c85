"""The one training loop."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from discrete_grad.sampling import isolated_seed, random_indices, seeded
from discrete_grad.training import distributed
from discrete_grad.training.checkpoint import Checkpoint, told_as_damage
from discrete_grad.training.config import LoopConfig
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log, progress_bar
from discrete_grad.training.optimiser import WARM, Optimiser

__all__ = ["Callback", "Objective", "Step", "derive_seed", "no_callback", "train"]

Callback = Callable[[nn.Module, int], None]
"""Called as `callback(model, step)`."""


def no_callback(model: nn.Module, step: int) -> None:
    """Do nothing."""


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that require a gradient.

    Raises:
        ValueError: if none does.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            f"no parameter of {type(module).__name__} requires a gradient: it is frozen, as the "
            "models that fits return are; requires_grad_() lets it learn on"
        )
    return parameters


def derive_seed(*parts: object) -> int:
    """A seed for one purpose: the same parts give the same 63-bit number.

    Example:
        >>> derive_seed(0, "judge") != derive_seed(0, "estimator")
        True
    """
    # not hash(), which differs from one Python process to the next; >> 1 fits a signed integer
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class Step:
    """One optimiser step; all its random numbers follow from its fields.

    Nothing is carried from step to step, so a run that is resumed draws what it would have drawn.

    Example:
        >>> step = Step(seed=0, stage="judge", index=5)
        >>> torch.equal(step.batch(100, 4), step.batch(100, 4))
        True
    """

    seed: int
    stage: str
    index: int
    rank: int = 0
    world: int = 1

    def batch(self, count: int, *shape: int) -> Tensor:
        """Indices below `count`, this process's share of `shape` along the last dimension."""
        generator = seeded(derive_seed(self.seed, self.stage, self.index))
        indices = random_indices(count, shape, generator=generator)
        return indices[..., self.rank :: self.world]

    @property
    def noise_seed(self) -> int:
        """Seed of everything else this process draws in the step."""
        return derive_seed(self.seed, self.stage, self.index, self.rank)

    def generator(self, device: torch.device) -> torch.Generator:
        """Source of this process's noise."""
        return seeded(self.noise_seed, device)


class Objective(nn.Module, ABC):
    """Loss of one stage; `model` holds the parameters that are trained.

    What else is part of its state_dict (a running baseline, say) is kept in the checkpoints.
    """

    optimiser: ClassVar[Optimiser] = WARM
    model: nn.Module

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """Loss of one step."""

    @abstractmethod
    def validate(self) -> Tensor | None:
        """Held-out loss, `()`, or `(M,)` for a model of M stacked members; None without one."""

    def finish_gradients(self) -> None:
        """Change the gradients before the optimiser's step; by default, do not."""

    def members(self, name: str) -> slice:
        """Members, of M, that one tensor of the model's state stacks; by default all."""
        return slice(None)


def train(
    objective: Objective,
    config: LoopConfig,
    *,
    seed: int,
    stage: str,
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Minimise the objective; with some patience, its model ends with the best weights seen.

    No parameter but those trained receives a gradient, and none is left.

    Args:
        objective: what to minimise.
        config: steps, learning rate and so on.
        seed: with `stage` decides every random number.
        stage: name, used in the log.
        log: called as `log(metrics, step)` at every look at the held-out rows.
        checkpoint: where the state is saved and, if it was, resumed from.
        callback: called in the first process as `callback(model, step)` before the first step and
            after every step; on resume again for the steps since the checkpoint.

    Returns:
        The losses at every look.

    Raises:
        ValueError: if nothing is to be trained, the loss is no longer finite, or there is patience
            and nothing held out.
    """
    config.check()
    trained_parameters(objective.model)
    if config.batch_size < distributed.world_size():
        raise ValueError(
            f"batch_size {config.batch_size} leaves some of {distributed.world_size()} processes "
            "without a row"
        )
    state, looks = _State(objective, config, stage), dict[int, tuple[float, ...]]()
    saved = checkpoint.load() if checkpoint else None
    if checkpoint and saved:
        with told_as_damage(checkpoint.path):
            state.load(*saved)
    if distributed.rank():
        callback = no_callback
    if not state.step:
        callback(objective.model, 0)
    wrapped = distributed.wrap(objective)
    bar = progress_bar(stage, config.steps, state.step)
    while state.step < config.steps and state.stale < (config.patience or math.inf):
        step = Step(seed, stage, state.step, distributed.rank(), distributed.world_size())
        loss = _step(wrapped, state, step, config)
        callback(objective.model, state.step)
        bar.update()
        if state.step % config.validate_every == 0 or state.step == config.steps:
            looks[state.step] = _look(state, loss, stage)
            names = (f"{stage}/loss", f"{stage}/held_out_loss")[: len(looks[state.step])]
            log(dict(zip(names, looks[state.step], strict=True)), state.step)
        if checkpoint and state.step % config.checkpoint_every == 0:
            if distributed.rank() == 0:
                checkpoint.save(*state.dump())
            distributed.barrier()
    bar.close()
    state.optimizer.zero_grad(set_to_none=True)
    if config.patience:
        state.restore_best()
    return History(
        steps=tuple(looks),
        losses=tuple(losses[0] for losses in looks.values()),
        held_out_losses=tuple(n for losses in looks.values() for n in losses[1:]),
        kept_step=state.best_step if config.patience else state.step,
    )


def _step(wrapped: nn.Module, state: _State, step: Step, config: LoopConfig) -> Tensor:
    for group in state.optimizer.param_groups:
        group["lr"] = config.learning_rate * state.objective.optimiser.share(
            step.index, config.steps
        )
    wrapped.train()
    state.optimizer.zero_grad(set_to_none=True)
    with isolated_seed(step.noise_seed, state.best_loss.device):
        loss: Tensor = wrapped(step)
    with distributed.quiet_backward():
        # what else the loss depends on, as a user's reward, is not ours to change
        loss.backward(inputs=state.parameters)
    state.objective.finish_gradients()
    state.optimizer.step()
    state.step += 1
    return loss.detach()


def _look(state: _State, loss: Tensor, stage: str) -> tuple[float, ...]:
    """Training loss, and the held-out loss where there is one."""
    # of one member, as the held-out loss is, where members are trained by their sum
    losses = [loss.item() / state.best_loss.numel()]
    if (held_out := _validate(state.objective)) is not None:
        losses.append(state.observe(distributed.agree(held_out)))
    _check_finite(stage, state.step, *losses)
    return tuple(losses)


def _check_finite(stage: str, step: int, *losses: float) -> None:
    if not all(map(math.isfinite, losses)):
        raise ValueError(
            f"the {stage} diverged: losses {losses} at step {step}; lower its learning rate"
        )


@torch.no_grad()
def _validate(objective: Objective) -> Tensor | None:
    objective.eval()
    return objective.validate()


class _State:
    """Everything a stage needs to go on: model, optimiser, best weights, counters."""

    def __init__(self, objective: Objective, config: LoopConfig, stage: str) -> None:
        self.objective = objective
        self.model = objective.model
        self.parameters = trained_parameters(self.model)
        self.optimizer = objective.optimiser.new(self.model, config)
        self.patience = config.patience
        self.step = self.stale = self.best_step = 0
        held_out = _validate(objective)  # for the shape alone, () or (M,)
        if held_out is None and config.patience:
            raise ValueError(
                f"{stage} holds nothing out to stop by: patience must be 0, got {config.patience}"
            )
        like = self.parameters[0].new_zeros(()) if held_out is None else held_out
        self.best_loss = torch.full_like(like, math.inf)
        self.best = {name: t.clone() for name, t in self.model.state_dict().items()}

    def observe(self, losses: Tensor) -> float:
        """Keep what improved, member by member, and count the looks without improvement."""
        if not self.patience:
            return losses.mean().item()
        better = losses < self.best_loss
        self.best_loss = torch.where(better, losses, self.best_loss)
        for name, now in self.model.state_dict().items():
            own = better[self.objective.members(name)] if better.dim() else better
            chosen = own.reshape(own.shape + (1,) * (now.dim() - own.dim()))
            self.best[name] = torch.where(chosen, now, self.best[name])
        if better.any():
            self.stale, self.best_step = 0, self.step
        else:
            self.stale += 1
        return losses.mean().item()

    def restore_best(self) -> None:
        """Load the best weights into the model."""
        self.model.load_state_dict(self.best)

    def dump(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of the state."""
        tensors = {"best_loss": self.best_loss}
        tensors |= {f"objective/{name}": t for name, t in self.objective.state_dict().items()}
        tensors |= {f"best/{name}": t for name, t in self.best.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": t for name, t in moments.items()}
        counters = {"step": self.step, "stale": self.stale, "best_step": self.best_step}
        return tensors, counters

    def load(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Take a dumped state over."""
        self.step, self.stale = metadata["step"], metadata["stale"]
        # checkpoints of older versions lack it
        self.best_step = metadata.get("best_step", self.step)
        device = self.best_loss.device
        self.best_loss = tensors["best_loss"].to(device)
        self.best = {name: t.to(device) for name, t in _part(tensors, "best/").items()}
        self.restore_best()  # for their names and shapes alone, which are checked there
        self.objective.load_state_dict(_part(tensors, "objective/"))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer/").items():
            index, _, kind = name.partition("/")
            moments.setdefault(int(index), {})[kind] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors[name] for name in names}
