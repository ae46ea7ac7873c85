"""Local expectation: every single swap of a drawn row."""

import torch
from torch import Tensor

from discrete_grad.gradient._evaluation import check_max_batch, evaluate_codes
from discrete_grad.gradient.base import Function, GradientEstimator, draw
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.space import CategoricalSpace

__all__ = ["LocalExpectation", "conditional_mean"]


def conditional_mean(space: CategoricalSpace, logits: Tensor, values: Tensor) -> Tensor:
    """`E[f]` with each feature in turn averaged exactly, `(*batch)`.

    The gradient in the logits of feature i is `J_{pi_i} values_i`, the mean over samples.

    Args:
        space: the space, D wide.
        logits: `(*batch, D)`.
        values: `(samples, *batch, D)`: f of a drawn row whose feature i is set to category k.
    """
    pi = space.softmax(logits)
    value = (pi.detach() * values).sum(-1) / space.num_features
    # not divided by F: the features' gradients add up, while their values estimate one number
    surrogate = (pi * values.detach()).sum(-1)
    return (value + (surrogate - surrogate.detach())).mean(0)


class LocalExpectation(GradientEstimator):
    """Exact expectation over each feature, given the others: `J_{pi_i} [f(x_{-i}, k)]_k`.

    f is asked about the drawn row and all its single swaps. A swap to a masked category is never
    evaluated: the drawn row stands in its place. The value is the mean over the features of
    `sum_k pi_ik f(x_{-i}, k)`.

    **Bias:** none; no variance when f is a sum of functions of one feature each.
    **Evaluations of f:** B = 1 + sum (K_i - 1) forward a sample. **Needs df/dx:** no.
    **Hyperparameters:** `samples` N = 1; `max_batch` = None, the most rows one call of f may hold;
    `deduplicate` = False, evaluate equal rows of different samples once (see `evaluate_codes`).

    Reference:
        Titsias, Lazaro-Gredilla (2015), "Local expectation gradients for black box variational
        inference"; arXiv 1503.01494.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> logits = torch.zeros(5, requires_grad=True)
        >>> LocalExpectation(space).expectation(lambda rows: rows[..., 0], logits).backward()
        >>> logits.grad
        tensor([ 0.2500, -0.2500,  0.0000,  0.0000,  0.0000])
    """

    facts = Facts(
        forward="hard",
        bias="none",
        cost=lambda method, space: Cost(method.samples * (1 + space.width - space.num_features)),
        cost_text="N (1 + sum (K_i - 1)) forward",
        needs_derivative=False,
        reference="Titsias & Lazaro-Gredilla 2015, 1503.01494",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        max_batch: int | None = None,
        deduplicate: bool = False,
        samples: int = 1,
    ) -> None:
        super().__init__(space, samples=samples)
        self.max_batch = check_max_batch(max_batch)
        self.deduplicate = deduplicate

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate `E[f(x)]` `(*batch)`; f is given the N drawn rows first, then their swaps."""
        space = self.space_of(logits)
        codes, _ = draw(space, logits.expand(self.samples, *logits.shape), generator)
        rows = torch.cat([codes.unsqueeze(0), _allowed_swaps(space, logits, codes)])
        values = evaluate_codes(
            space,
            f,
            rows.flatten(0, 1),
            dtype=logits.dtype,
            max_batch=self.max_batch,
            deduplicate=self.deduplicate,
        )
        values = values.unflatten(0, (len(rows), self.samples))
        return conditional_mean(space, logits, _by_category(space, codes, values))


def _allowed_swaps(space: CategoricalSpace, logits: Tensor, codes: Tensor) -> Tensor:
    """Swaps `(D - F, *codes.shape)`; where the new category is masked, the row itself."""
    swaps = space.swaps(codes).movedim(-2, 0)
    forbidden = space.log_prob(logits.detach(), swaps) == -torch.inf
    return torch.where(forbidden.unsqueeze(-1), codes, swaps)


def _by_category(space: CategoricalSpace, codes: Tensor, values: Tensor) -> Tensor:
    """`f(x_{-i}, k)` `(..., D)` from f of the row and its swaps, `(1 + D - F, ...)`."""
    pairs = [(i, k) for i, size in enumerate(space.sizes) for k in range(size)]
    feature, category = torch.tensor(pairs, device=codes.device).unbind(-1)
    drawn = codes[..., feature]
    # swaps are ordered by feature, then by category, the drawn one left out; the row is number 0
    number = torch.arange(space.width, device=codes.device) - feature + (category < drawn)
    number = number.masked_fill(category == drawn, 0)
    return values.movedim(0, -1).gather(-1, number)
