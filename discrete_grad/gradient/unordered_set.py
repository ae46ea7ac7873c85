"""The unordered set estimator: different rows only, drawn without replacement."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function, GradientEstimator, evaluate
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.sampling import gumbel_like
from discrete_grad.space import CategoricalSpace

__all__ = ["UnorderedSet", "weighted_rows"]

MOST_SAMPLES = 12


def _log_completions(log_p: Tensor, log_rest: Tensor) -> Tensor:
    """`log W(A)` `(..., 2^k)` for every subset A of k rows, bit i for row i.

    W(A) is the probability that draws without replacement, A being gone, give the remaining
    rows of the k first, in any order: `W(A) = sum_t p(t) W(A + t) / (1 - p(A))`, and 1 for all k.
    W of no row is p(S), and W({s}) / W({}) is the ratio R(S, s).

    Args:
        log_p: log-probabilities `(..., k)` of the k rows, in nats.
        log_rest: of all other rows together, `(...)`; `-inf` if there are none.
    """
    k = log_p.shape[-1]
    table = {2**k - 1: torch.zeros_like(log_rest)}
    # downwards: A + t is a larger number than A, so its entry is there already
    for gone in range(2**k - 2, -1, -1):
        left = [i for i in range(k) if not gone >> i & 1]
        # 1 - p(A) as the sum of what is left, for the difference would cancel
        mass = torch.cat([log_p[..., left], log_rest.unsqueeze(-1)], -1).logsumexp(-1)
        ways = torch.stack([log_p[..., i] + table[gone | 1 << i] for i in left], -1)
        # no mass left, so that only impossible rows are: they come next for certain
        certain = mass == -math.inf
        table[gone] = (ways.logsumexp(-1) - mass.masked_fill(certain, 0)).masked_fill(certain, 0)
    return torch.stack([table[gone] for gone in range(2**k)], -1)


def weighted_rows(log_p: Tensor, log_rest: Tensor) -> tuple[Tensor, Tensor]:
    """Weight of each row of the set, and its weight in the baseline of each other.

    Returns:
        `p(s) R(S, s)` `(..., k)`; and `p(s') R(S - s, s')` `(..., k, k)` for s and s', in which the
        ratio is 1 for s = s'.
    """
    k = log_p.shape[-1]
    log_w = _log_completions(log_p, log_rest)
    one = log_w[..., [1 << i for i in range(k)]]
    pairs = [[1 << i | 1 << j for j in range(k)] for i in range(k)]
    # for i = j the pair is {i} itself, hence the ratio 1
    two = log_w[..., torch.tensor(pairs, device=log_p.device)]
    weights = (log_p + one - log_w[..., :1]).exp()
    return weights, (log_p.unsqueeze(-2) + two - one.unsqueeze(-1)).exp()


class UnorderedSet(GradientEstimator):
    """Score-function gradient from k different rows, drawn without replacement.

    The gradient is `sum_{s in S} p(s) R(S, s) (f(s) - b(s)) grad log p(s)`, S being the k rows.
    S is drawn without replacement from the joint law of all features, by the k largest of
    `log p + Gumbel noise` over every row of the space. R is the leave-one-out ratio; the baseline
    `b(s) = sum_{s'} p(s') R(S - s, s') f(s')` is built from the same rows. A masked row, drawn
    when no other is left, counts nothing, and f is given the first row in its place.

    **Bias:** none; no variance once S holds every row. **Evaluations of f:** k forward a call.
    **Needs df/dx:** no. **Hyperparameters:** `samples` k = 4, from 2 to 12 (the ratios take 2^k
    steps), all rows of a smaller space; `max_rows` = 100,000, above which it refuses to list the
    rows of the space.

    Reference:
        Kool, van Hoof, Welling (2020), arXiv 2002.06043: the unordered set policy gradient
        with its built-in baseline.

    Example:
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> UnorderedSet(samples=3).expectation(lambda rows: rows[..., 0], logits).detach()
        tensor([0.3333, 0.3333, 0.3333, 0.3333, 0.3333])
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(min(method.samples, space.num_rows)),
        cost_text="min(N, prod K_i) forward",
        needs_derivative=False,
        reference="Kool et al. 2020, 2002.06043",
    )

    min_samples = 2

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        max_rows: int = 100_000,
        samples: int = 4,
    ) -> None:
        super().__init__(space, samples=samples)
        if samples > MOST_SAMPLES:
            raise ValueError(f"UnorderedSet needs samples <= {MOST_SAMPLES}, got {samples}")
        self.max_rows = max_rows

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; f is given the k rows in the order of their draw."""
        space = self.space_of(logits)
        every = space.enumerate(max_rows=self.max_rows, device=logits.device)
        log_p = space.log_prob(logits.detach().double().unsqueeze(-2), every)
        chosen, log_chosen, log_rest = _draw(log_p, gumbel_like(log_p, generator=generator), self)
        weights, shares = weighted_rows(log_chosen, log_rest)
        codes = every[chosen].movedim(-2, 0)
        values = evaluate(f, space.one_hot(codes, dtype=logits.dtype))
        return _surrogate(values, space.log_prob(logits, codes), weights, shares)


def _draw(log_p: Tensor, gumbel: Tensor, method: UnorderedSet) -> tuple[Tensor, Tensor, Tensor]:
    """Indices `(..., k)` of a draw without replacement, their log p, and that of the rest."""
    # the k largest, in falling order, are a draw without replacement in the order of the draw
    chosen = (log_p + gumbel).topk(min(method.samples, log_p.shape[-1]), -1).indices
    log_chosen = log_p.gather(-1, chosen)
    log_rest = log_p.scatter(-1, chosen, -math.inf).logsumexp(-1)
    return torch.where(log_chosen > -math.inf, chosen, chosen[..., :1]), log_chosen, log_rest


def _surrogate(values: Tensor, log_prob: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    """The value; its gradient is the estimate. Values and log-probabilities are `(k, *batch)`."""
    weights, fixed = weights.movedim(-1, 0), values.detach().double()
    baseline = (shares @ fixed.movedim(0, -1).unsqueeze(-1)).squeeze(-1).movedim(-1, 0)
    advantages = (weights * (fixed - baseline)).to(log_prob.dtype)
    terms = weights.to(values.dtype) * values + advantages * (log_prob - log_prob.detach())
    return terms.sum(0)
