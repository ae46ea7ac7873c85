"""Entmax: sparse soft rows, from softmax to sparsemax."""

import torch
from torch import Tensor

from discrete_grad.gradient._numbers import as_number
from discrete_grad.gradient.base import Relaxation, widened
from discrete_grad.gradient.facts import Facts, a_sample
from discrete_grad.space import CategoricalSpace

__all__ = ["Entmax", "entmax"]

# 2^-40 is below the rounding of float32; for float64 the two steps of Newton do the rest
BISECTIONS = 40


def entmax(space: CategoricalSpace, logits: Tensor, alpha: float) -> Tensor:
    """`argmax_p p . logits + H_alpha(p)` over the simplex of every feature, `(..., D)`.

    H_alpha is the Tsallis entropy `sum (p - p^alpha) / (alpha (alpha - 1))`. The solution is
    `max((alpha - 1) logits - threshold, 0)^(1 / (alpha - 1))`, as in arXiv 1905.05702.

    Example:
        >>> entmax(CategoricalSpace.from_sizes((3,)), torch.tensor([1.0, 0.5, -1.0]), 2.0)
        tensor([0.7500, 0.2500, 0.0000])
    """
    # contiguous: the last bit of a power may depend on the strides
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).contiguous()
    blocks = [_entmax_block(block, alpha) for block in space.blocks(wide)]
    return space.join(blocks).to(logits.dtype)


def _entmax_block(logits: Tensor, alpha: float) -> Tensor:
    best = widened(logits).amax(-1, keepdim=True)
    # 1 below the best entry nothing has probability, so nothing below that need be told apart;
    # the clamp also takes -inf away, and its derivative with it
    scores = ((logits - best) * (alpha - 1)).clamp_min(-1)
    threshold = _threshold(scores.detach(), alpha)
    # Newton's method at the root moves nothing but gives the threshold its derivatives, the first
    # by one step and those up to the third by two; it also mends the rounding of the search
    for _ in range(2):
        p, slope = _powers(scores, threshold, alpha)
        threshold = threshold + (p.sum(-1, keepdim=True) - 1) / slope.sum(-1, keepdim=True)
    return _powers(scores, threshold, alpha)[0]


def _powers(scores: Tensor, threshold: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """`max(scores - threshold, 0)^(1 / (alpha - 1))` and its slope, without 0 in a derivative."""
    power = 1 / (alpha - 1)
    inside = ~(scores <= threshold)  # so written, NaN stays NaN instead of a row of zeros
    height = torch.where(inside, scores - threshold, 1)
    slope = power * height ** (power - 1)
    return torch.where(inside, height**power, 0), torch.where(inside, slope, 0)


def _threshold(scores: Tensor, alpha: float) -> Tensor:
    """The threshold at which the probabilities sum to 1, for scores in [-1, 0], best 0."""
    if alpha == 2:
        return _sparsemax_threshold(scores)
    return _entmax15_threshold(scores) if alpha == 1.5 else _searched_threshold(scores, alpha)


def _sparsemax_threshold(scores: Tensor) -> Tensor:
    ordered, count = _descending(scores)
    candidates = (ordered.cumsum(-1) - 1) / count
    return _last_inside(candidates, ordered)


def _entmax15_threshold(scores: Tensor) -> Tensor:
    # the sum of (score - t)^2 over the largest k is k (mean - t)^2 + the squares about the mean
    ordered, count = _descending(scores)
    mean = ordered.cumsum(-1) / count
    # the difference of two large sums may round to less than 0
    about = (ordered.square().cumsum(-1) - count * mean.square()).clamp_min(0)
    # 1 - about < 0 beyond the support: the candidate is then the mean, not below the k-th score
    candidates = mean - ((1 - about) / count).clamp_min(0).sqrt()
    return _last_inside(candidates, ordered)


def _descending(scores: Tensor) -> tuple[Tensor, Tensor]:
    count = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype, device=scores.device)
    return scores.sort(-1, descending=True).values, count


def _last_inside(candidates: Tensor, ordered: Tensor) -> Tensor:
    """The candidate of the largest support whose members all lie above it."""
    support = (ordered > candidates).sum(-1, keepdim=True)
    # the best score, 0, lies above its candidate, -1: 0 members are met with NaN logits alone
    return candidates.gather(-1, support.clamp_min(1) - 1)


def _searched_threshold(scores: Tensor, alpha: float) -> Tensor:
    # at -1 the best category alone has probability 1, at 0 none has any
    low, power = -torch.ones_like(scores[..., :1]), 1 / (alpha - 1)
    for halving in range(1, BISECTIONS + 1):
        middle = low + 0.5**halving
        enough = ((scores - middle).clamp_min(0) ** power).sum(-1, keepdim=True) >= 1
        low = torch.where(enough, middle, low)
    # not the middle: at low the sum is at least 1, so Newton's division finds a slope above 0
    return low


class Entmax(Relaxation):
    """The soft row `entmax(logits)`: like a softmax, with unlikely categories at exactly 0.

    alpha = 2 is sparsemax; as alpha falls to 1 it becomes `Softmax`. The derivative is that of the
    map itself, so categories at 0 get none.

    **Bias:** biased, even when f is linear: the row is not the mean of `softmax(logits)`.
    **Evaluations of f:** 1 forward, 1 backward a sample. **Needs df/dx:** yes.
    **Hyperparameters:** `alpha` = 1.5, in [1.05, 2]. There is no noise: `samples` above 1 only
    serve an f that is random itself.

    Reference:
        Martins, Astudillo (2016), arXiv 1602.02068 (alpha = 2); Peters, Niculae, Martins (2019),
        arXiv 1905.05702.

    Example:
        >>> Entmax(alpha=2.0)(torch.tensor([1.0, 0.5, -1.0]))
        tensor([0.7500, 0.2500, 0.0000])
    """

    facts = Facts(
        forward="soft",
        bias="biased",
        slope=(1.4, 2.0),
        cost=a_sample,
        cost_text="N forward, N backward",
        needs_derivative=True,
        reference="Martins & Astudillo 2016, 1602.02068; Peters et al. 2019, 1905.05702",
    )

    def __init__(
        self, space: CategoricalSpace | None = None, *, alpha: float = 1.5, samples: int = 1
    ) -> None:
        super().__init__(space, samples=samples)
        number = as_number(alpha)
        if number is None or not 1.05 <= number <= 2:
            raise ValueError(f"alpha must lie in [1.05, 2], got {alpha!r}; 1 would be Softmax()")
        self.alpha = number

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Soft row `(..., D)` for logits `(..., D)`; `generator` is not used."""
        return entmax(self.space_of(logits), logits, self.alpha)
