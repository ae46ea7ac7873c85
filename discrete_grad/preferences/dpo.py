"""Direct preference optimisation: a policy fitted to preferences without a reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from discrete_grad.objectives import dpo_loss
from discrete_grad.policies import Policy
from discrete_grad.policies.protocol import has, require, row_log_probs
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.sampling import permutation, seeded
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.config import LoopConfig
from discrete_grad.training.history import History
from discrete_grad.training.logs import Log, no_log
from discrete_grad.training.loop import Callback, Objective, Step, derive_seed, no_callback, train

__all__ = ["DPOConfig", "fit_dpo"]


@dataclass(frozen=True, kw_only=True)
class DPOConfig(LoopConfig):
    """Direct preference optimisation.

    Example:
        >>> DPOConfig(beta=0.5).flip
        0.0
    """

    beta: float = 1.0
    """Weight of the KL divergence from the reference, in the reward's unit (log-odds) a nat."""
    flip: float = 0.0
    """Probability, in [0, 1/2), that a preference was given the wrong way round."""
    noise: Literal["mixture", "robust", "conservative"] = "mixture"
    """Treatment of such preferences; see `dpo_loss`."""
    tie_width: float = 0.2
    """Width of a tie, in log-odds, if there are ties."""
    held_out: float = 0.125
    """Share of the pairs held out for early stopping, in (0, 1)."""
    steps: int = 1000
    learning_rate: float = 1e-2


def fit_dpo(
    policy: Policy,
    preferences: Preferences,
    reference: Policy,
    *,
    config: DPOConfig,
    seed: int,
    stage: str = "dpo",
    log: Log = no_log,
    checkpoint: Checkpoint | None = None,
    callback: Callback = no_callback,
) -> History:
    """Train a policy on preferences directly.

    Args:
        policy: trained in place, then frozen: any policy with `parameters()`.
        preferences: at least 2.
        reference: what the policy is kept near; not trained. A copy of the policy as it was.
        config: training.
        seed: decides every random number.
        stage: name in the log and in the seeds.
        log: called as `log(metrics, step)`; see `train`.
        checkpoint: where the state is saved and resumed from; see `train`.
        callback: called as `callback(model, step)`; see `train`.

    Returns:
        The losses.

    Raises:
        ValueError: for fewer than 2 pairs, a pair that is impossible under the policy or the
            reference, or a number out of range.
        TypeError: for a policy or a reference that lacks a part.

    Reference:
        as `dpo_loss`.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> rows = space.enumerate().repeat(10, 1)
        >>> outcome = (rows.sum(-1) < rows.roll(1, 0).sum(-1)).long()
        >>> pairs = Preferences(rows, rows.roll(1, 0), outcome)
        >>> policy, reference = Generator(space), Generator(space)
        >>> history = fit_dpo(policy, pairs, reference, config=DPOConfig(steps=100), seed=0)
        >>> space.argmax(policy()).tolist()
        [1, 2]
    """
    if len(preferences) < 2 or not 0 < config.held_out < 1:
        raise ValueError(
            "needs 2 pairs and held_out between 0 and 1, got "
            f"{len(preferences)} and {config.held_out}"
        )
    require("fit_dpo", policy, "log_prob", "parameters")
    require("fit_dpo", reference, "space", "log_prob")
    preferences.check_rows(reference.space)
    if has(policy, "context_spec"):
        preferences.check(reference.space, cast(Any, policy).context_spec)
    _possible_log_probs(policy, preferences, "policy")
    log_reference = _possible_log_probs(reference, preferences, "reference")
    model = cast(nn.Module, policy)
    objective = _DPOObjective(model, preferences, log_reference, config, seed, stage)
    history = train(
        objective, config, seed=seed, stage=stage, log=log, checkpoint=checkpoint, callback=callback
    )
    model.requires_grad_(False).eval()
    return history


def _pair_log_probs(policy: Policy, pairs: Preferences) -> Tensor:
    """`(2, N)`, of the first and of the second rows."""
    return row_log_probs(policy, torch.stack([pairs.first, pairs.second]), pairs.context)


@torch.no_grad()
def _possible_log_probs(policy: Policy, pairs: Preferences, name: str) -> Tensor:
    log_p = _pair_log_probs(policy, pairs)
    bad = (~log_p.isfinite()).any(0).nonzero()
    if len(bad):
        raise ValueError(f"pair {int(bad[0]) + 1} holds a row the {name} never draws")
    return log_p


class _DPOObjective(Objective):
    model: nn.Module

    def __init__(
        self,
        model: nn.Module,
        pairs: Preferences,
        log_reference: Tensor,
        config: DPOConfig,
        seed: int,
        stage: str,
    ) -> None:
        super().__init__()
        self.model = model
        self.pairs, self.log_reference, self.config = pairs, log_reference, config
        self.width = config.tie_width if pairs.has_ties else 0.0
        order = permutation(len(pairs), generator=seeded(derive_seed(seed, stage, "rows")))
        size = min(max(1, round(len(pairs) * config.held_out)), len(pairs) - 1)
        self.held_out, self.kept = order[:size], order[size:]

    def forward(self, step: Step) -> Tensor:
        """Loss of a batch of pairs."""
        return self._loss(self.kept[step.batch(len(self.kept), self.config.batch_size)])

    def validate(self) -> Tensor:
        """Loss of the held-out pairs."""
        return self._loss(self.held_out)

    def _loss(self, picked: Tensor) -> Tensor:
        pairs, config = self.pairs.take(picked), self.config
        return dpo_loss(
            _pair_log_probs(cast(Policy, self.model), pairs),
            self.log_reference[:, picked],
            pairs.outcome,
            beta=config.beta,
            flip=config.flip,
            noise=config.noise,
            tie_width=self.width,
        ).mean()
