"""Exact enumeration: the truth, where the space allows it."""

import math

import torch
from torch import Tensor

from discrete_grad.gradient._evaluation import check_max_batch, evaluate_codes
from discrete_grad.gradient.base import Function, GradientEstimator, space_under
from discrete_grad.gradient.facts import Cost, Facts
from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace

__all__ = ["Enumerate"]


class Enumerate(GradientEstimator):
    """The exact expectation `sum_x p(x) f(x)` over every row, and its exact gradient.

    **Bias:** none, and no variance. **Evaluations of f:** prod K_i forward a call, each row once
    for every sample. **Needs df/dx:** no. **Hyperparameters:** `max_rows` = 1,000,000, above which
    it refuses; `max_batch` = None, the most rows one call of f may hold (see `evaluate_codes`);
    there is no noise, so `samples` above 1 only serve an f that is random itself.
    **With rules:** over every row that obeys, one evaluation each.

    Reference:
        The definition of the expectation.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> Enumerate(space).expectation(lambda rows: rows[..., 0], torch.zeros(4))
        tensor(0.5000)
    """

    facts = Facts(
        forward="all rows",
        bias="none",
        cost=lambda method, space: Cost(method.samples * (method.rules or space).num_rows),
        cost_text="N prod K_i forward",
        needs_derivative=False,
        with_rules="none",
        reference="definition",
    )

    def __init__(
        self,
        space: CategoricalSpace | None = None,
        *,
        max_rows: int = 1_000_000,
        max_batch: int | None = None,
        samples: int = 1,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(space_under(rules, space), samples=samples)
        self.rules = rules
        self.max_rows = max_rows
        self.max_batch = check_max_batch(max_batch)
        # at once, since the compiler does not follow the list's making
        few = rules is not None and rules.num_rows <= max_rows
        self._obeying = rules.enumerate(max_rows=max_rows) if rules is not None and few else None

    def expectation(
        self, f: Function, logits: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Exact `E[f(x)]` `(*batch)`; f is given `(samples * num_rows, *batch, D)`."""
        space = self.space_of(logits)
        codes = self._rows(space, logits.device)
        codes = codes.repeat(self.samples, 1)
        codes = codes.view(-1, *[1] * (logits.dim() - 1), space.num_features)
        codes = codes.expand(-1, *logits.shape[:-1], -1)
        values = evaluate_codes(space, f, codes, dtype=logits.dtype, max_batch=self.max_batch)
        if self.rules is None:
            log_p = space.log_prob(logits, codes)
        else:
            log_p = self.rules.condition(logits).log_prob(codes)
        # a forbidden row has no say, even where f is infinite there
        return (log_p.exp() * values.masked_fill(log_p == -math.inf, 0)).sum(0) / self.samples

    def _rows(self, space: CategoricalSpace, device: torch.device) -> Tensor:
        if self._obeying is not None:
            return self._obeying.to(device)
        rows = space if self.rules is None else self.rules
        return rows.enumerate(max_rows=self.max_rows).to(device)
