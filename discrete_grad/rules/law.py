"""The law of rows that obey rules."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.rules._passes import (
    best_rest,
    class_marginals,
    class_weights,
    log_partition,
    rest_of,
    shares,
)
from discrete_grad.rules._rows import best_rows, chosen_rows, drawn_rows
from discrete_grad.rules._terms import Terms
from discrete_grad.sampling import uniform_like
from discrete_grad.space import CategoricalSpace, can_inspect

__all__ = ["Law"]


class Law:
    """Law `p(x) = prod_i softmax(logits_i)[x_i] 1[x allowed] / Z` of rows that obey rules.

    Everything is exact, up to rounding, and differentiable in the logits as often as asked, rows
    excepted. Made by `Rules.condition`. Half precision is computed in float32; results have the
    dtype of the logits.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.rules import AtMost, Rules
        >>> space = CategoricalSpace({"a": ["no", "yes"], "b": ["no", "yes"]})
        >>> law = Rules(space, [AtMost(1, {"a": "yes", "b": "yes"})]).condition(torch.zeros(4))
        >>> law.log_z().exp(), law.marginals()
        (tensor(0.7500), tensor([0.6667, 0.3333, 0.6667, 0.3333]))
    """

    def __init__(self, terms: Terms, logits: Tensor, context: Tensor | None) -> None:
        self._terms, self._logits, self._context = terms, logits, context
        tensors = terms.automaton.tensors(logits.device)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # a category that never occurs may be far likelier than all that do
        never = tensors.class_of[-terms.space.width :] == len(tensors.places) - 1
        log_p, self._best = _from_the_best(terms.space, wide.masked_fill(never, -math.inf))
        if context is not None:
            # a context is a column whose category is certain
            columns = terms.whole.sizes[: terms.hidden]
            given = [
                (code.unsqueeze(-1) == torch.arange(size, device=code.device)).to(log_p).log()
                for code, size in zip(context.unbind(-1), columns, strict=True)
            ]
            log_p = torch.cat([*given, log_p], -1)
        self._batch = log_p.shape[:-1]
        # (D, B) in what follows: an operation on a row of it is one on the whole batch
        self._log_p = log_p.reshape(math.prod(self._batch), log_p.shape[-1]).t().contiguous()
        # float64 from here on: sums over many layers are large beside what decides a feature
        self._weights = class_weights(tensors, self._log_p).double()
        self._known: Tensor | None = None

    @property
    def _rest(self) -> Tensor:
        """What lies ahead of each state `(T, B)`, a constant; the mode does without it."""
        if self._known is None:  # no cached property: the compiler does not follow one
            with torch.no_grad():
                self._known = rest_of(self._terms.automaton, self._weights.detach())
        return self._known

    def possible(self) -> Tensor:
        """Whether the masks of the logits leave a row that obeys, `(*batch)`."""
        return (self._rest[0] > -math.inf).reshape(self._batch)

    def log_z(self) -> Tensor:
        """Logarithm `(*batch)` of the probability that independent features obey, at most 0."""
        space, wide = self._terms.space, self._logits.to(self._log_p.dtype)
        pairs = zip(self._best, space.blocks(wide), strict=True)
        shares = [(best - block.logsumexp(-1)).sum(-1) for best, block in pairs]
        return self._shaped(self._log_z() + torch.stack(shares).sum(0).flatten())

    def log_prob(self, codes: Tensor) -> Tensor:
        """Log-probability `(...)` in nats of codes `(..., F)`; `-inf` for a forbidden row.

        Raises:
            ValueError: for codes out of range, or that do not broadcast against the batch.
        """
        self._terms.space.check_codes(codes)
        shape = torch.broadcast_shapes(self._batch, codes.shape[:-1])
        own = self._own(self._flat()).expand(*shape, -1)
        index = self._terms.space.columns(codes).expand(*shape, -1)
        total = own.gather(-1, index).double().sum(-1)
        allowed = self._terms.automaton.run(self._whole(codes.expand(*shape, -1)))
        # a forbidden row has no derivative, nor one of a masked category
        fine = allowed & (total > -math.inf)
        log_z = self._log_z().reshape(self._batch)
        return (total - log_z).masked_fill(~fine, -math.inf).to(self._logits.dtype)

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Codes `(count, *batch, F)` drawn from the law.

        Raises:
            ValueError: for a count below 1.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count!r}")
        terms = self._terms
        with torch.no_grad():
            flat = self._log_p.t().expand(count, -1, -1)
            noise = [uniform_like(terms.whole, flat, generator=generator) for _ in "ab"]
            codes = drawn_rows(
                terms.whole,
                terms.automaton,
                self._log_p,
                self._weights,
                self._rest,
                (noise[0], noise[1]),
            )
        return codes[..., terms.hidden :].reshape(count, *self._batch, terms.space.num_features)

    def mode(self) -> Tensor:
        """Codes `(*batch, F)` of the most likely row."""
        terms = self._terms
        with torch.no_grad():
            tensors = terms.automaton.tensors(self._log_p.device)
            weights = class_weights(tensors, self._log_p, largest=True).double()
            rest = best_rest(terms.automaton, weights)
            codes = chosen_rows(terms.whole, terms.automaton, self._log_p, weights, rest)
        return codes[..., terms.hidden :].reshape(*self._batch, terms.space.num_features)

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """The most likely rows, in order, and their log-probabilities in nats.

        Returns:
            Codes `(count, *batch, F)` and log-probabilities `(count, *batch)`. Where masked logits
            leave fewer rows, the others have the log-probability `-inf` and no meaning.

        Raises:
            ValueError: for a count below 1 or above the number of rows allowed.
        """
        terms = self._terms
        # the compiler does not follow the count of rows
        most = count if torch.compiler.is_compiling() else terms.automaton.num_rows
        if not 1 <= count <= most:
            raise ValueError(f"count must lie in [1, {most:,}], the rows allowed, got {count!r}")
        with torch.no_grad():
            codes, scores = best_rows(terms.whole, terms.automaton, self._log_p.double(), count)
            scores = (scores - self._rest[0]).reshape(count, *self._batch)
        codes = codes[..., terms.hidden :].reshape(count, *self._batch, terms.space.num_features)
        return codes, scores.to(self._logits.dtype)

    def marginals(self) -> Tensor:
        """Probability `(*batch, D)` of each category: what `softmax(logits)` is without rules.

        The derivative of the mean of an additive function of the row is that of these.
        """
        return self._own(self._flat_marginals()).to(self._logits.dtype)

    def entropy(self) -> Tensor:
        """Entropy `(*batch)` of the row in nats, in [0, log of the number of rows allowed]."""
        return self._shaped(self._log_z() - self._mean_of(self._log_p))

    def kl(self, other: Law) -> Tensor:
        """`KL(self || other)` `(*batch)` in nats; `inf` where the other forbids what this draws.

        Raises:
            ValueError: for a law of another space or context.
        """
        theirs = other._terms
        if theirs.whole != self._terms.whole or not _same(self._context, other._context):
            raise ValueError("KL compares laws of one space, in equal contexts")
        if other._batch != self._batch:
            raise ValueError(f"KL compares equal batches, got {self._batch} and {other._batch}")
        value = self._mean_of(self._log_p - other._log_p) - self._log_z() + other._log_z()
        beyond = self._terms.beyond(theirs)
        if beyond is not None:
            with torch.no_grad():
                weights = class_weights(beyond.tensors(self._log_p.device), self._log_p).double()
                drawn = rest_of(beyond, weights)[0] > -math.inf
            value = value.masked_fill(drawn, math.inf)
        return self._shaped(value)

    def _log_z(self) -> Tensor:
        return log_partition(self._terms.automaton, self._weights, self._rest)

    def _mean_of(self, flat: Tensor) -> Tensor:
        """Mean `(B,)` of a sum over the row's categories, whose terms are `(D, B)`."""
        p = self._marginals()
        # 0 * -inf would be NaN, in the derivative as well
        return (p * flat.masked_fill(p == 0, 0)).sum(0)

    def _marginals(self) -> Tensor:
        """Marginals `(D, B)`: a class's, times the category's share of it."""
        tensors = self._terms.automaton.tensors(self._log_p.device)
        classes = class_marginals(self._terms.automaton, self._weights, self._rest)
        share = shares(tensors, self._log_p.double(), self._weights)
        return classes[tensors.class_of] * share

    def _flat_marginals(self) -> Tensor:
        return self._marginals().t().reshape(*self._batch, self._terms.whole.width)

    def _flat(self) -> Tensor:
        """Logits `(*batch, D)`, less the best of each feature."""
        return self._log_p.t().reshape(*self._batch, self._terms.whole.width)

    def _own(self, flat: Tensor) -> Tensor:
        """The row's part of a flat tensor of context and row."""
        return flat[..., flat.shape[-1] - self._terms.space.width :]

    def _whole(self, codes: Tensor) -> Tensor:
        """Codes after those of the context."""
        if self._context is None:
            return codes
        return torch.cat([self._context.expand(*codes.shape[:-1], -1).to(codes), codes], -1)

    def _shaped(self, per_row: Tensor) -> Tensor:
        return per_row.reshape(self._batch).to(self._logits.dtype)


def _from_the_best(space: CategoricalSpace, logits: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits less the largest of each feature, a constant that no law depends on; and these."""
    best = [block.detach().amax(-1) for block in space.blocks(logits)]
    best = [part.masked_fill(part == -math.inf, 0) for part in best]
    pairs = zip(space.blocks(logits), best, strict=True)
    return space.join([block - part.unsqueeze(-1) for block, part in pairs]), best


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and (not can_inspect(a) or not can_inspect(b) or torch.equal(a, b))
