"""Expectations of a gradient estimator without error: every outcome, weighted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function
from discrete_grad.grouping import first_rows
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import Method, Recorder, estimate, space_of
from discrete_grad.testing._goodness import g_test, joint_law

__all__ = [
    "NotEnumerableError",
    "Outcomes",
    "exact_bias",
    "exact_gradient",
    "exact_variance",
    "outcomes",
]

FALSE_ALARM = 1e-9  # of the test of the law
ENOUGH = 20_000  # draws for the test of the law to see what matters
MISSED = 1e-12  # chance that an outcome is not drawn at all


class NotEnumerableError(ValueError):
    """The expected gradient is no finite sum over drawn rows; the message says why.

    Example:
        >>> issubclass(NotEnumerableError, ValueError)
        True
    """


@dataclass(frozen=True)
class Outcomes:
    """Every different result of a gradient estimator on one `(D,)` of logits.

    Args:
        probabilities: `(T,)`, sum 1.
        values: `(T,)`.
        gradients: `(T, D)`.

    Example:
        >>> half = torch.tensor([0.5, 0.5])
        >>> Outcomes(half, half, torch.tensor([[1.0], [3.0]])).gradient
        tensor([2.])
    """

    probabilities: Tensor
    values: Tensor
    gradients: Tensor

    @property
    def value(self) -> Tensor:
        """Expected value."""
        return self.probabilities @ self.values

    @property
    def gradient(self) -> Tensor:
        """Expected gradient `(D,)`."""
        return self.probabilities @ self.gradients

    @property
    def variance(self) -> Tensor:
        """Variance `(D,)` of each component of the gradient."""
        return self.probabilities @ (self.gradients - self.gradient) ** 2


def exact_gradient(f: Function, logits: Tensor, space: CategoricalSpace) -> Tensor:
    """Gradient `(D,)` of `E[f(x)]` in the logits, from the definition, over every row.

    Args:
        f: maps flat rows `(n, D)` to values `(n,)`; needs no derivative.
        logits: `(D,)`.
        space: small enough to enumerate.

    Raises:
        ValueError: for more than a million rows.

    Example:
        >>> space = CategoricalSpace.from_sizes((2,))
        >>> exact_gradient(lambda rows: rows[..., 0], torch.zeros(2), space)
        tensor([ 0.2500, -0.2500])
    """
    return exact_value_and_gradient(f, logits, space)[1]


def exact_value_and_gradient(
    f: Function, logits: Tensor, space: CategoricalSpace
) -> tuple[Tensor, Tensor]:
    """`E[f(x)]` and its gradient `(D,)`."""
    rows = space.one_hot(space.enumerate(device=logits.device), dtype=logits.dtype)
    p = joint_law(space, logits).to(logits.dtype)
    with torch.no_grad():
        # f may be infinite on a row that is never drawn
        values = torch.where(p > 0, f(rows).to(logits.dtype), 0)
    # the derivative of log p(x) is x - softmax(logits)
    return p @ values, (p * values) @ (rows - space.softmax(logits.detach()))


def exact_bias(
    method: Method,
    f: Function,
    logits: Tensor,
    *,
    space: CategoricalSpace | None = None,
    seed: int = 0,
) -> Tensor:
    """Expected gradient minus the exact one, `(D,)`, if the drawn rows determine the gradient.

    The method is run until every tuple of rows has been drawn; the gradient of each is weighted by
    the tuple's exact probability, so nothing of the noise is left. The law of the rows, and that
    equal rows give equal gradients, is tested on the way.

    Args:
        method: the gradient estimator.
        f: maps flat rows `(samples, *batch, D)` to values `(samples, *batch)`.
        logits: `(D,)`, best in float64.
        space: None means the method's own, or one feature.
        seed: of the draws.

    Raises:
        NotEnumerableError: if the gradient depends on more than independent hard rows from
            `softmax(logits)`, or there are too many tuples of them.

    Example:
        >>> from discrete_grad import StraightThrough
        >>> logits = torch.tensor([0.5, 0.0], dtype=torch.float64)
        >>> bias = exact_bias(StraightThrough(), lambda rows: rows[..., 0], logits)
        >>> bool(bias.abs().max() < 1e-15)
        True
    """
    space = space_of(method, logits, space)
    found = outcomes(method, f, logits, space=space, seed=seed)
    return found.gradient - exact_gradient(f, logits, space)


def exact_variance(
    method: Method,
    f: Function,
    logits: Tensor,
    *,
    space: CategoricalSpace | None = None,
    seed: int = 0,
) -> Tensor:
    """Variance `(D,)` of each component of the gradient; arguments as in `exact_bias`.

    Example:
        >>> from discrete_grad import LeaveOneOut
        >>> logits = torch.zeros(2, dtype=torch.float64)
        >>> exact_variance(LeaveOneOut(samples=2), lambda rows: rows[..., 0], logits)
        tensor([0.0625, 0.0625], dtype=torch.float64)
    """
    return outcomes(method, f, logits, space=space, seed=seed).variance


def outcomes(
    method: Method,
    f: Function,
    logits: Tensor,
    *,
    space: CategoricalSpace | None = None,
    seed: int = 0,
    max_draws: int = 100_000,
) -> Outcomes:
    """Every outcome of the method on logits `(D,)`; see `exact_bias`.

    Args:
        method: the gradient estimator.
        f: the function averaged.
        logits: `(D,)`.
        space: None means the method's own, or one feature.
        seed: of the draws.
        max_draws: elements of the batch that may be run.

    Raises:
        NotEnumerableError: as in `exact_bias`.

    Example:
        >>> from discrete_grad import ReinMax
        >>> found = outcomes(ReinMax(), lambda rows: rows[..., 0], torch.zeros(3))
        >>> found.probabilities
        tensor([0.3333, 0.3333, 0.3333], dtype=torch.float64)
    """
    space = space_of(method, logits, space)
    law = joint_law(space, logits)
    rows, values, gradients = _run(method, f, logits, 64, seed)
    if (rows == rows[:, :1]).all() and not _might_be_chance(space, rows, law):
        _require_same(gradients, gradients[:1].expand_as(gradients))
        return Outcomes(torch.ones(1, dtype=torch.float64), *_wide(values[:1], gradients[:1]))
    if _is_hard(space, rows):
        # noise beyond the rows mostly shows already here, before the many draws
        _require_same(gradients, gradients[_first_alike(rows)])
    count = _draws_needed(space, rows, law, max_draws)
    rows, values, gradients = _run(method, f, logits, count, seed)
    return _grouped(space, rows, values, gradients, law)


def _run(
    method: Method, f: Function, logits: Tensor, count: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    recorder = Recorder(f)
    values, gradients = estimate(method, recorder, logits.expand(count, -1), seed=seed)
    if not gradients.isfinite().all():
        raise AssertionError("the gradient is not finite")
    rows = recorder.rows((count,))
    if rows is None:
        shapes = ", ".join(str(tuple(call.shape)) for call in recorder.calls[:3])
        raise NotEnumerableError(
            f"f must be given rows (samples, {count}, {logits.shape[-1]}) to tell which row "
            f"belongs to which element of the batch, got {shapes or 'no call'}"
        )
    return rows, values, gradients


def _is_hard(space: CategoricalSpace, rows: Tensor) -> bool:
    sums = torch.stack([part.sum(-1) for part in space.split(rows)])
    return bool(((rows == 0) | (rows == 1)).all() and (sums == 1).all())


def _first_alike(rows: Tensor) -> Tensor:
    """For each element `(n,)` of rows `(samples, n, D)` the first with the same rows."""
    _, group = rows.movedim(1, 0).flatten(1).unique(dim=0, return_inverse=True)
    return first_rows(group)[group]


def _might_be_chance(space: CategoricalSpace, rows: Tensor, law: Tensor) -> bool:
    """Whether independent draws could all have come out the same."""
    if not _is_hard(space, rows):
        return False
    p = law[space.row_number(space.argmax(rows[:, 0]))].prod()
    # a law of a single row, up to rounding, leaves nothing to chance
    return bool(1 - p > 1e-12 and p ** rows.shape[1] > FALSE_ALARM)


def _draws_needed(space: CategoricalSpace, rows: Tensor, law: Tensor, most: int) -> int:
    if not _is_hard(space, rows):
        raise NotEnumerableError("f was given soft rows that differ from draw to draw")
    each, possible = len(rows), int((law > 0).sum())
    needed = draws_needed(law, each)
    if each * math.log(possible) > math.log(most):
        raise NotEnumerableError(f"{possible:,}^{each} tuples of rows are too many")
    if needed > most:
        raise NotEnumerableError(
            f"to draw the rarest of {possible**each:,} tuples of rows takes {needed:,.0f} draws, "
            f"more than max_draws={most:,}"
        )
    return min(math.ceil(max(needed, ENOUGH)), most)


def draws_needed(law: Tensor, samples: int) -> float:
    """Draws that bring up every tuple of rows, but for a chance of `MISSED`."""
    possible = law[law > 0]
    # n draws miss an outcome with a probability of at most e^(-n p); of all of them these add up
    misses = samples * math.log(len(possible)) - math.log(MISSED)
    # in logarithms: the number may overflow
    return math.exp(min(math.log(misses) - samples * possible.min().log().item(), 700.0))


def _grouped(
    space: CategoricalSpace, rows: Tensor, values: Tensor, gradients: Tensor, law: Tensor
) -> Outcomes:
    numbers = space.row_number(space.argmax(rows))
    if not _is_hard(space, rows) or (law[numbers] == 0).any():
        raise NotEnumerableError("f was given soft rows, or a row of probability 0")
    allowed = (law > 0).nonzero().squeeze(-1)
    index = torch.zeros(rows.shape[1], dtype=torch.long)
    p = torch.ones(1, dtype=torch.float64)
    for drawn in torch.searchsorted(allowed, numbers):
        # tuples are numbered in mixed radix, as `outer` and `flatten` order their probabilities
        index = index * len(allowed) + drawn
        p = torch.outer(p, law[allowed]).flatten()
    counts = index.bincount(minlength=len(p))
    if (counts == 0).any() or g_test(counts, p) < FALSE_ALARM:
        raise NotEnumerableError("the rows are not independent draws from softmax(logits)")
    first = torch.full((len(p),), len(index)).scatter_reduce(
        0, index, torch.arange(len(index)), "amin"
    )
    _require_same(gradients, gradients[first][index])
    return Outcomes(p, *_wide(values[first], gradients[first]))


def _require_same(gradients: Tensor, expected: Tensor) -> None:
    scale = expected.abs().max().item() if expected.numel() else 0.0
    # equal rows may be rounded differently at different places of a batch
    rounding = 64 * torch.finfo(gradients.dtype).eps * max(scale, 1.0)
    if not (gradients - expected).abs().max() <= rounding:
        raise NotEnumerableError("equal rows gave different gradients: more noise than the rows")


def _wide(values: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    return values.double(), gradients.double()
