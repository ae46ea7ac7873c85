"""Sum and sample: the most likely rows exactly, one draw for all others."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function, GradientEstimator, evaluate
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.sampling import categorical, uniform_like
from discrete_grad.space import CategoricalSpace

__all__ = [
    "SumAndSample",
]


def _most_likely(space: CategoricalSpace, log_p: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most likely rows, found exactly in a space of any size.

    The head of a row among the best of all rows is among the best heads of its length, for its
    features are independent: so `count` heads are kept from feature to feature.

    Args:
        space: the space, D wide.
        log_p: log-probabilities `(..., D)`, from `space.log_softmax`.
        count: rows wanted; a smaller space gives all of its own.

    Returns:
        Codes `(..., count, F)` and log-probabilities `(..., count)`, falling.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> log_p = space.log_softmax(torch.tensor([0.0, 1.0, 2.0, 0.0, 1.5]))
        >>> _most_likely(space, log_p, 3)[0].tolist()
        [[1, 0], [1, 2], [0, 0]]
    """
    scores = log_p.new_zeros(*log_p.shape[:-1], 1)
    codes = log_p.new_zeros(*scores.shape, 0, dtype=torch.long)
    for part in space.split(log_p):
        size = part.shape[-1]
        joint = (scores.unsqueeze(-1) + part.unsqueeze(-2)).flatten(-2)
        scores, index = joint.topk(min(count, joint.shape[-1]), -1)
        head = (index // size).unsqueeze(-1).expand(*index.shape, codes.shape[-1])
        codes = torch.cat([codes.gather(-2, head), (index % size).unsqueeze(-1)], -1)
    return codes, scores


def _draw_another(space: CategoricalSpace, p: Tensor, taken: Tensor, uniform: Tensor) -> Tensor:
    """One row from the law p, given that it is none of the rows `taken`.

    Feature by feature: a category keeps its probability less that of the taken rows which go on
    from the categories drawn so far through it.

    Args:
        space: the space, D wide.
        p: probabilities `(..., D)`.
        taken: codes `(..., count, F)`, all different.
        uniform: `(..., F)` in [0, 1), from `uniform_like`.

    Returns:
        Codes `(..., F)`; any row at all if every possible row is taken.
    """
    columns = list(zip(space.split(p), taken.unbind(-1), uniform.unbind(-1), strict=True))
    steps = [part.gather(-1, column) for part, column, _ in columns]
    # probability of the features from i on, of each taken row
    tails = [torch.stack(steps[i:]).prod(0) for i in range(len(steps))]
    follows, codes = torch.ones_like(steps[0], dtype=torch.bool), []
    for (part, column, number), tail in zip(columns, tails, strict=True):
        gone = torch.zeros_like(part).scatter_add(-1, column, tail * follows)
        # a sum of taken rows may round to more than the category's own probability
        left = (part - gone).clamp_min(0)
        # every row that goes on from here is taken: any category will do, as the draw counts 0
        left = torch.where(left.sum(-1, keepdim=True) > 0, left, part)
        one = CategoricalSpace({"x": part.shape[-1]})
        code = categorical(one, left.log(), number.unsqueeze(-1))
        follows = follows & (column == code)
        codes.append(code)
    return torch.cat(codes, -1)


class SumAndSample(GradientEstimator):
    """Exact sum over the most likely rows, and one draw from all others.

    The gradient is
    `sum_{s in C} p(s) (f(s) - b) grad log p(s) + (1 - p(C)) (f(x) - b) grad log p(x)`.
    C holds the k - 1 most likely rows and x is one draw from all others; b is the mean of f over
    C, which does not depend on x. The error is small where the logits are sharp.

    **Bias:** none; no variance once C holds every row. **Evaluations of f:** k forward a call.
    **Needs df/dx:** no. **Hyperparameters:** `samples` k = 4, at least 2.

    A row that is masked, or drawn when none is left, counts nothing, and f is given the most likely
    row in its place.

    Reference:
        Liang et al. (2018), arXiv 1807.02322, and Liu et al. (2019), arXiv 1810.04777, as
        generalised by Kool, van Hoof, Welling (2020), arXiv 2002.06043. The baseline is ours.

    Example:
        >>> logits = torch.tensor([9.0, 0.0, 0.0], requires_grad=True)
        >>> value = SumAndSample(samples=3).expectation(lambda rows: rows[..., 0], logits)
        >>> torch.allclose(value, logits.softmax(-1)[0])
        True
    """

    facts = Facts(
        forward="chosen",
        bias="none",
        cost=lambda method, space: Cost(min(method.samples - 1, space.num_rows) + 1),
        cost_text="min(N - 1, prod K_i) + 1 forward",
        needs_derivative=False,
        reference="Liang et al. 2018, 1807.02322; Liu et al. 2019, 1810.04777",
    )

    min_samples = 2

    def __init__(self, space: CategoricalSpace | None = None, *, samples: int = 4) -> None:
        super().__init__(space, samples=samples)

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; f is given the rows of C, most likely first, and x."""
        space = self.space_of(logits)
        # float64: 1 - p(C) cancels where the logits are sharp
        log_p = space.log_softmax(logits.detach().double())
        best, log_best = _most_likely(space, log_p, self.samples - 1)
        uniform = uniform_like(space, logits, generator=generator)
        other = _draw_another(space, log_p.exp(), best, uniform)
        p_best = log_best.exp()
        rest = (1 - p_best.sum(-1, keepdim=True)).clamp_min(0)
        # neither a masked row nor a row of C drawn again, for want of another, counts
        known = (other.unsqueeze(-2) == best).all(-1).any(-1, keepdim=True)
        rest = rest.masked_fill(known, 0)
        weights = torch.cat([p_best, rest], -1)
        codes = torch.cat([best, other.unsqueeze(-2)], -2)
        codes = torch.where((weights > 0).unsqueeze(-1), codes, best[..., :1, :]).movedim(-2, 0)
        values = evaluate(f, space.one_hot(codes, dtype=logits.dtype))
        # log_best[0] is finite, so a masked row of C gets 0, not NaN
        share = log_best.softmax(-1).movedim(-1, 0)
        return _surrogate(values, space.log_prob(logits, codes), weights.movedim(-1, 0), share)


def _surrogate(values: Tensor, log_prob: Tensor, weights: Tensor, share: Tensor) -> Tensor:
    """The value; its gradient is the estimate. All are `(k, *batch)`, the draw last.

    `share` `(k - 1, *batch)` is the law within C, of which the baseline is the mean.
    """
    fixed = values.detach().double()
    advantages = (weights * (fixed - (share * fixed[:-1]).sum(0))).to(log_prob.dtype)
    terms = weights.to(values.dtype) * values + advantages * (log_prob - log_prob.detach())
    return terms.sum(0)
