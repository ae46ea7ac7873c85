"""The model of what annotators prefer: a reward of every row, and how far to believe an answer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad.gradient import Relaxation
from discrete_grad.models.ensemble import BaseEnsemble
from discrete_grad.models.protocol import require

__all__ = ["PreferenceModel"]

_SPEED = 10


class PreferenceModel(BaseEnsemble):
    """An ensemble whose scores are rewards in log-odds, with ties and annotators' reliabilities.

    Each member has its own reward, width of a tie and reliability of every annotator. A reward is
    known but for a constant in each context, since only rows of one context are compared.

    Args:
        reward: the ensemble that scores rows, M members; kept, not copied. A module of one's own
            is one as the member of an `EstimatorEnsemble`.
        annotators: how many there are, at least 1.
        ties: whether an answer may be a tie.
        reliability: what every annotator's starts at, in (0, 1).
        tie_width: what the width starts at, above 0, in log-odds.

    Raises:
        ValueError: for a number out of range.
        TypeError: for a reward that is no ensemble.

    Example:
        >>> from discrete_grad.models.estimator import Estimator
        >>> from discrete_grad.models.ensemble import EstimatorEnsemble
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> model = PreferenceModel(EstimatorEnsemble([Estimator(space)]), annotators=2)
        >>> rows = space.enumerate()
        >>> model(rows).shape, model.differences(rows[:3], rows[3:]).shape
        (torch.Size([6]), torch.Size([1, 3]))
        >>> model.reliability
        tensor([[0.9000, 0.9000]], grad_fn=<SigmoidBackward0>)
    """

    def __init__(
        self,
        reward: BaseEnsemble,
        *,
        annotators: int = 1,
        ties: bool = True,
        reliability: float = 0.9,
        tie_width: float = 0.2,
    ) -> None:
        require("a PreferenceModel", reward, "predictions", "num_members")
        super().__init__(reward.space, reward.context_spec)
        if annotators < 1 or not 0 < reliability < 1 or not 0 < tie_width < math.inf:
            raise ValueError(
                "annotators must be at least 1, reliability between 0 and 1 and tie_width above 0, "
                f"got {annotators}, {reliability} and {tie_width}"
            )
        members = reward.num_members
        self.reward = reward
        # called biases, because a training decays whatever is called otherwise; a tenth, because
        # free numbers then move about as fast as a network at the same learning rate
        odds = math.log(reliability / (1 - reliability)) / _SPEED
        self.reliability_bias = nn.Parameter(torch.full((members, annotators), odds))
        # log(expm1(w)) is the inverse of softplus
        width = torch.full((members,), math.log(math.expm1(tie_width)) / _SPEED)
        self.tie_bias = nn.Parameter(width) if ties else None

    @property
    def num_members(self) -> int:
        """M."""
        return self.reward.num_members

    @property
    def reliability_odds(self) -> Tensor:
        """`(M, A)`: the log-odds of `reliability`."""
        return _SPEED * self.reliability_bias

    @property
    def reliability(self) -> Tensor:
        """`(M, A)` in (0, 1): probability that an annotator's answer is right."""
        return self.reliability_odds.sigmoid()

    @property
    def tie_width(self) -> Tensor:
        """`(M,)`, in log-odds; 0 without ties."""
        if self.tie_bias is None:
            return self.reliability_bias.new_zeros(self.num_members)
        return F.softplus(_SPEED * self.tie_bias)

    def predictions(
        self, row: Tensor, context: Tensor | None = None, *, own_rows: bool = False
    ) -> Tensor:
        """Reward by every member `(M, ...)`; see `BaseEnsemble.predictions`."""
        return self.reward.predictions(row, context, own_rows=own_rows)

    def sample_predictions(
        self,
        logits: Tensor,
        relaxation: Relaxation,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Reward `(M, ...)` of a drawn row; see `BaseEnsemble.sample_predictions`."""
        return self.reward.sample_predictions(logits, relaxation, context, generator=generator)

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        """The latents of the reward."""
        return self.reward.to_latent(row, context)

    def differences(
        self,
        first: Tensor,
        second: Tensor,
        context: Tensor | None = None,
        *,
        own_rows: bool = False,
    ) -> Tensor:
        """Reward of the first row minus that of the second by every member `(M, ...)`.

        Args:
            first: codes `(..., F)` or flat `(..., D)`.
            second: of the same kind.
            context: `(..., C)` or None, of both rows.
            own_rows: as in `BaseEnsemble.predictions`.
        """
        rows = torch.stack(torch.broadcast_tensors(first, second), -2)
        shared = None if context is None else context.unsqueeze(-2)
        rewards = self.predictions(rows, shared, own_rows=own_rows)
        return rewards[..., 0] - rewards[..., 1]
