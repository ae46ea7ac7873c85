"""A policy learns from another one: its conditionals, or its good rows."""

from __future__ import annotations

import copy
import math
from typing import Literal, cast

import torch
from torch import Tensor, nn

from discrete_grad.policies import Policy, conditional_logits
from discrete_grad.policies.conditional import require_features, writes_steps
from discrete_grad.policies.independent import is_independent
from discrete_grad.policies.protocol import device_of, drawn_rows, require
from discrete_grad.reinforcement._contexts import (
    batch_index,
    check_contexts,
    context_name,
    taken,
)
from discrete_grad.reinforcement._regression import regression_loss
from discrete_grad.reinforcement.distill_config import DistillConfig
from discrete_grad.sampling import seeded, uniform
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.config import require_config
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, Step, derive_seed, no_callback, train
from discrete_grad.training.step_loss import StepLoss
from discrete_grad.weighting import WeightedSamples
from discrete_grad.weighting.draws import inverse_draw, take_samples
from discrete_grad.weighting.importance import equal_weights
from discrete_grad.weighting.reward import Reward, rewards_of

__all__ = ["distill_guidance", "distill_rows"]


def distill_guidance(
    student: Policy,
    teacher: Policy,
    context: Tensor | None = None,
    *,
    config: DistillConfig | None = None,
    seed: int = 0,
    stage: str = "distill guidance",
    prefixes: Literal["teacher", "student"] = "teacher",
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Train a policy, in place, to draw like a guided policy with one call per feature.

    Lowers `KL(teacher || student)` over the whole vocabulary of each feature, on prefixes that the
    teacher draws: an unbiased estimate of the divergence of rows. A frozen copy of the teacher is
    taken first, so a guided policy can be distilled into the policy it guides.

    Args:
        student: what is trained, with `parameters()` and, as the teacher, with `logits` or the
            parts of a `SequentialPolicy`; where both write step by step, in the same order.
        teacher: `Guided`, `ValueGuided` or any other.
        context: `(N, C)`, the contexts learned from; None without.
        config: 50 steps by default.
        seed: with `stage` decides every random number.
        stage: name in the log and in the seeds.
        prefixes: whose rows the prefixes are of; the student's own are those it will meet, but the
            loss is then no divergence of rows.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses, by default of each step, in nats a row.

    Raises:
        ValueError: for another space or order, or a student that forbids what the teacher draws.
        TypeError: for a policy that lacks a part.

    Reference:
        Peysakhovich and Berman (2026), arXiv 2604.15577; Agarwal et al. (2024), arXiv 2306.13649,
        for the student's prefixes.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import AutoregressiveGenerator
        >>> from discrete_grad.weighting import TablePotential, ValueGuided
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> model = AutoregressiveGenerator(space)
        >>> rows = space.enumerate()
        >>> potential = TablePotential(space, model.log_prob(rows).detach(), rows.sum(-1))
        >>> losses = distill_guidance(model, ValueGuided(model, potential)).losses
        >>> losses[-1] < losses[0] / 10
        True
    """
    config = DistillConfig(steps=50) if config is None else config
    require_config("config of distill_guidance", config, DistillConfig)
    _check_pair(student, teacher, prefixes)
    check_contexts(context)
    teacher = copy.deepcopy(teacher)
    source = teacher if prefixes == "teacher" else student

    def loss(step: Step) -> Tensor:
        shown = taken(context, batch_index(context, step, config))
        with torch.no_grad():
            noise = step.generator(device_of(student, context))
            codes = drawn_rows(source, shown, config.samples, generator=noise)
            wanted = conditionals(teacher, codes, shown)
        own = conditionals(student, codes, shown)
        return student.space.kl_divergence(wanted, own).mean()

    return train(
        StepLoss(cast(nn.Module, student), loss),
        config,
        seed=seed,
        stage=stage,
        log=log,
        checkpoint=checkpoint,
        callback=callback,
    )


def conditionals(policy: Policy, codes: Tensor, context: Tensor | None) -> Tensor:
    """Log-probabilities `(..., D)` of each feature given those before it, but for a constant each.

    Args:
        policy: one for `conditional_logits`.
        codes: `(..., *batch, F)`.
        context: `(*batch, C)`, or None.
    """
    logits = conditional_logits(policy, codes, context)
    return logits.double().expand(*codes.shape[:-1], -1) if is_independent(policy) else logits


def distill_rows(
    student: Policy,
    teacher: Policy,
    reward: Reward,
    context: Tensor | None = None,
    *,
    config: DistillConfig | None = None,
    seed: int = 0,
    stage: str = "distill rows",
    pool: int = 256,
    keep: float = 0.1,
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Train a policy, in place, on the best of the rows that another one draws.

    The teacher draws once, before the first step. The student, which may be smaller, of another
    kind or the teacher itself, then maximises the likelihood of the rows that are kept.

    Args:
        student: what is trained: any policy with `parameters()`.
        teacher: what draws the rows.
        reward: codes `(S, *batch, F)`, context -> `(S, *batch)`; `-inf` forbids a row.
        context: `(N, C)`, the contexts learned from; None without.
        config: steps, rows and learning rate.
        seed: with `stage` decides every random number.
        stage: name in the log and in the seeds.
        pool: rows drawn for each context.
        keep: share of them, in (0, 1], that is kept: the best in each context.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses, by default of each step: the mean `-log p` of the rows kept, in nats.

    Raises:
        ValueError: for a share out of range, another space, a reward that is no number, a context
            whose rows are all forbidden, or a student that forbids a row kept.
        TypeError: for a policy that lacks a part.

    Reference:
        Gulcehre et al. (2023), arXiv 2308.08998: one round of growing and improving.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import AutoregressiveGenerator, Generator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> teacher, student = AutoregressiveGenerator(space), Generator(space)
        >>> def reward(rows, context):
        ...     return 1.0 * rows.sum(-1)
        >>> _ = distill_rows(student, teacher, reward, config=DistillConfig(steps=100))
        >>> space.argmax(student())
        tensor([1, 2])
    """
    config = DistillConfig() if config is None else config
    require_config("config of distill_rows", config, DistillConfig)
    config.check()
    if pool < 1 or not 0 < keep <= 1:
        raise ValueError(f"needs a row of pool and keep in (0, 1], got {pool} and {keep}")
    require("distill_rows", student, "space", "log_prob", "parameters")
    require("distill_rows", teacher, "space", "sample")
    _check_spaces(student, teacher)
    check_contexts(context)
    size, pool_seed = max(1, math.ceil(keep * pool)), (seed, stage, "pool")
    kept = [
        _best_rows(teacher, reward, part, pool, size, where=where, seed=pool_seed)
        for where, part in _parts(context, config.batch_size)
    ]
    dim = 0 if context is None else 1
    codes = torch.cat([rows for rows, _ in kept], dim)
    log_weights = torch.cat([weights for _, weights in kept], dim)

    def loss(step: Step) -> Tensor:
        index = batch_index(context, step, config)
        rows = codes if index is None else codes[:, index]
        weights = log_weights if index is None else log_weights[:, index]
        shape = (config.samples, *weights.shape[1:])
        noise = uniform(shape, device=rows.device, generator=step.generator(rows.device))
        drawn = take_samples(rows, inverse_draw(weights, noise))
        samples = WeightedSamples(drawn, equal_weights(drawn), 0)
        return regression_loss(student, samples, taken(context, index), index)

    return train(
        StepLoss(cast(nn.Module, student), loss),
        config,
        seed=seed,
        stage=stage,
        log=log,
        checkpoint=checkpoint,
        callback=callback,
    )


def _parts(context: Tensor | None, size: int) -> list[tuple[int, Tensor | None]]:
    """Parts of the contexts `(N, C)`, each with its first place."""
    if context is None:
        return [(0, None)]
    return [(size * i, part) for i, part in enumerate(context.split(size))]


@torch.no_grad()
def _best_rows(
    teacher: Policy,
    reward: Reward,
    context: Tensor | None,
    pool: int,
    size: int,
    *,
    where: int,
    seed: tuple[object, ...],
) -> tuple[Tensor, Tensor]:
    """Codes `(size, *batch, F)`, best first, and log-weights, `-inf` for a forbidden row."""
    device = device_of(teacher, context)
    noise = seeded(derive_seed(*seed, where), device)
    codes = drawn_rows(teacher, context, pool, generator=noise)
    values = rewards_of(reward, codes, context)
    best, order = values.sort(stable=True, dim=0, descending=True)
    if (best[0] == -math.inf).any():
        place = tuple((best[0] == -math.inf).nonzero()[0].tolist())
        name = context_name(torch.arange(where, where + best[0].numel()), place)
        raise ValueError(f"{name}: all {pool} rows drawn are forbidden; draw more")
    allowed = torch.zeros_like(best[:size]).masked_fill(best[:size] == -math.inf, -math.inf)
    return take_samples(codes, order[:size]), allowed


def _check_spaces(student: Policy, teacher: Policy) -> None:
    if student.space != teacher.space:
        raise ValueError(
            f"student and teacher have different spaces: {student.space}, {teacher.space}"
        )


def _check_pair(student: Policy, teacher: Policy, prefixes: str) -> None:
    if prefixes not in ("teacher", "student"):
        raise ValueError(f"prefixes must be 'teacher' or 'student', got {prefixes!r}")
    require("distill_guidance", student, "space", "parameters")
    require("distill_guidance", teacher if prefixes == "teacher" else student, "sample")
    for policy in (student, teacher):
        require_features("distill_guidance", policy)
    _check_spaces(student, teacher)
    orders = [getattr(policy, "order", None) for policy in (student, teacher)]
    if all(map(writes_steps, (student, teacher))) and orders[0] != orders[1]:
        got = f"{orders[0]} and {orders[1]}"
        raise ValueError(f"student and teacher must read in the same order, got {got}")
