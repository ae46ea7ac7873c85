"""Exact conditionals and exact values on spaces that can be enumerated: they grade all guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from discrete_grad.policies import Policy, SequentialPolicy, log_prob_by_steps
from discrete_grad.policies.protocol import has
from discrete_grad.policies.sequence import feature_order
from discrete_grad.space import CategoricalSpace, is_codes
from discrete_grad.weighting.guidance import AttributeSet
from discrete_grad.weighting.tilt import table_expectation, table_kl
from discrete_grad.weighting.value_guidance import Potential

__all__ = ["TablePolicy", "TablePotential", "exact_grade", "exact_log_probs"]


@dataclass(frozen=True)
class _Place:
    """Prefix and its attribute vector, 0 for none."""

    prefix: Tensor
    cell: Tensor
    position: int = 0

    def select(self, rows: Tensor) -> _Place:
        return _Place(self.prefix.flatten()[rows], self.cell.flatten()[rows], self.position)


class TablePolicy(SequentialPolicy[_Place]):
    """Exact p(x_t | x_<t, y) and p(x_t | x_<t) of a joint table of rows and attributes.

    Where an attribute vector excludes a prefix, what would follow is undefined: p(x_t | x_<t) is
    taken, so that this vector has no say. After a prefix that is impossible altogether, the
    categories are equally likely.

    Args:
        space: the features, few enough rows to enumerate.
        log_joint: `(num_rows, S)`, log p(row, y) up to a constant, rows in the order of
            `space.enumerate()`.
        vectors: `(S, A)`, all different.
        order: names or positions of the features, in the order of reading; None for the space's.

    Raises:
        ValueError: for shapes that do not fit, or a table that is impossible altogether.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> attributes = torch.tensor([[0], [0], [1], [0]])
        >>> policy = TablePolicy.from_rows(space, torch.zeros(4), attributes)
        >>> policy.conditional(torch.tensor([1]), None, torch.tensor([1])).exp()
        tensor([1., 0.], dtype=torch.float64)
    """

    def __init__(
        self,
        space: CategoricalSpace,
        log_joint: Tensor,
        vectors: Tensor,
        *,
        order: Sequence[str | int] | None = None,
    ) -> None:
        expected = (space.num_rows, len(vectors))
        if log_joint.shape != expected or vectors.dim() != 2:
            got = f"{tuple(log_joint.shape)} and {tuple(vectors.shape)}"
            raise ValueError(f"the table must be {expected} for vectors (S, A), got {got}")
        total = log_joint.double().logsumexp((0, 1))
        if not total.isfinite():
            raise ValueError(f"log_joint must have a finite sum, got log {float(total)}")
        self.space, self.order = space, feature_order(space, order)
        joint = log_joint.double() - total
        self.support = AttributeSet(vectors, joint.logsumexp(0).exp())
        joint = torch.cat([joint.logsumexp(-1, keepdim=True), joint], -1)  # 0: no attributes
        levels = prefix_sums(space, joint, self.order)
        self._log_probs = [
            _conditionals(levels[t], levels[t + 1].unflatten(0, (-1, space.sizes[i])))
            for t, i in enumerate(self.order)
        ]

    @classmethod
    def from_rows(
        cls,
        space: CategoricalSpace,
        log_prob: Tensor,
        attributes: Tensor,
        *,
        order: Sequence[str | int] | None = None,
    ) -> TablePolicy:
        """Of rows with log-probabilities `(num_rows,)` and one attribute vector each `(., A)`."""
        vectors, which = attributes.unique(dim=0, return_inverse=True)
        own = which.unsqueeze(-1) == torch.arange(len(vectors), device=which.device)
        joint = torch.where(own, log_prob.double().unsqueeze(-1), -math.inf)
        return cls(space, joint, vectors, order=order)

    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
    ) -> _Place:
        """See `SequentialPolicy.begin`; there is no context, and every vector must be one of S."""
        if context is not None:
            raise ValueError(f"a table takes no context, got {tuple(context.shape)}")
        device = self.support.vectors.device
        cell = torch.zeros(batch, dtype=torch.long, device=device)
        if attributes is not None:
            found = self._cell(attributes)
            cell = (found if known is None else found * known).expand(batch)
        return _Place(torch.zeros(batch, dtype=torch.long, device=device), cell)

    def advance(self, state: _Place, previous: Tensor | None) -> tuple[Tensor, _Place]:
        """See `SequentialPolicy.advance`; the previous feature must be codes."""
        prefix = _longer(self, state.prefix, previous, state.position)
        log_probs = self._log_probs[state.position][prefix, :, state.cell]
        return log_probs, _Place(prefix, state.cell, state.position + 1)

    def select(self, state: _Place, rows: Tensor) -> _Place:
        """See `SequentialPolicy.select`."""
        return state.select(rows)

    def log_prob(
        self, codes: Tensor, context: Tensor | None = None, attributes: Tensor | None = None
    ) -> Tensor:
        """Log-probability `(...)` in nats of codes `(..., F)`."""
        return log_prob_by_steps(self, codes, context, attributes)

    def _cell(self, attributes: Tensor) -> Tensor:
        vectors = self.support.vectors
        same = (attributes.unsqueeze(-2) == vectors).all(-1)
        if not same.any(-1).all():
            wrong = attributes[~same.any(-1)][0].tolist()
            raise ValueError(f"attributes must be among the table's {len(vectors)}, got {wrong}")
        return same.long().argmax(-1) + 1


class TablePotential(Potential[_Place]):
    """`log E[e^w | x_<=t]` exactly, w a number for each row.

    With `w = r / beta` this is the value V / beta of the reward-weighted distribution, and guidance
    by it at gamma 1 is that distribution. With `w = log r` it is `log E[r | prefix]`, and guidance
    by it at gamma is the target Q^gamma of reward-weighted classifier-free guidance. Tables of S
    contexts answer batches `(..., S)` of these contexts, in their order.

    Args:
        space: the features, few enough rows to enumerate.
        log_prob: `(num_rows,)`, of the policy that is guided; `(num_rows, S)` for S contexts.
        log_weight: of the same shape, w; `-inf` for a worthless row.
        order: as the policy's.

    Raises:
        ValueError: for shapes that do not fit, NaN or `+inf`.

    Reference:
        Zhao et al. (2024), arXiv 2404.17546, section 3; Peysakhovich and Berman (2026),
        arXiv 2604.15577.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> potential = TablePotential(space, torch.zeros(4), torch.tensor([0.0, 0.0, 1.0, 1.0]))
        >>> potential.advance(potential.begin(batch=()), None)[0]
        tensor([0., 1.], dtype=torch.float64)
    """

    def __init__(
        self,
        space: CategoricalSpace,
        log_prob: Tensor,
        log_weight: Tensor,
        *,
        order: Sequence[str | int] | None = None,
    ) -> None:
        _check_tables(space, log_prob, log_weight)
        self.space, self.order = space, feature_order(space, order)
        self.contexts = tuple(log_prob.shape[1:])
        base, weight = log_prob.double().view(len(log_prob), -1), log_weight.double()
        joint = base + weight.view_as(base)
        below = prefix_sums(space, base, self.order)[1:]
        above = prefix_sums(space, joint, self.order)[1:]
        self._means = [
            (a - b.masked_fill(b.isinf(), 0)).unflatten(0, (-1, space.sizes[i]))  # -inf, not NaN
            for a, b, i in zip(above, below, self.order, strict=True)
        ]

    def begin(self, context: Tensor | None = None, *, batch: tuple[int, ...]) -> _Place:
        """See `Potential.begin`."""
        given = () if context is None else batch[-1:]
        if given != self.contexts:
            wanted = f"those of batches (..., {self.contexts[0]})" if self.contexts else "none"
            got = None if context is None else tuple(context.shape)
            raise ValueError(f"this table's contexts: {wanted}; got {got} in a batch {batch}")
        device = self._means[0].device
        start = torch.zeros(batch, dtype=torch.long, device=device)
        cell = start + torch.arange(*self.contexts, device=device) if self.contexts else start
        return _Place(start, cell)

    def advance(self, state: _Place, previous: Tensor | None) -> tuple[Tensor, _Place]:
        """See `Potential.advance`."""
        prefix = _longer(self, state.prefix, previous, state.position)
        values = self._means[state.position][prefix, :, state.cell]
        return values, _Place(prefix, state.cell, state.position + 1)

    def select(self, state: _Place, rows: Tensor) -> _Place:
        """See `Potential.select`."""
        return state.select(rows)


def exact_grade(policy: Policy, reference: Policy, reward: Tensor) -> tuple[Tensor, Tensor]:
    """Expected reward and `KL(policy || reference)` in nats, over all rows.

    Args:
        policy: what is graded.
        reference: what it came from.
        reward: `(num_rows,)`, in the order of `space.enumerate()`.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> policy = TablePolicy.from_rows(space, torch.zeros(4), torch.zeros(4, 1))
        >>> [float(figure) for figure in exact_grade(policy, policy, torch.arange(4.0))]
        [1.5, 0.0]
    """
    log_p, log_q = exact_log_probs(policy), exact_log_probs(reference)
    return table_expectation(log_p, reward), table_kl(log_p, log_q)


@torch.no_grad()
def exact_log_probs(policy: Policy, context: Tensor | None = None) -> Tensor:
    """Log-probabilities `(num_rows,)` of all rows; of a `SequentialPolicy` each prefix once.

    Args:
        policy: any, over few enough rows to enumerate.
        context: one, `(C,)`; None without a context.

    Example:
        >>> from discrete_grad.policies import AutoregressiveGenerator
        >>> exact_log_probs(AutoregressiveGenerator(CategoricalSpace.from_sizes((2, 3)))).shape
        torch.Size([6])
    """
    if not has(policy, "conditional"):
        return policy.log_prob(policy.space.enumerate(), context)
    return _by_prefixes(cast(SequentialPolicy[Any], policy), context)


def _by_prefixes(policy: SequentialPolicy[Any], context: Tensor | None) -> Tensor:
    space, order = policy.space, policy.order
    total, sizes = torch.zeros(1), [space.sizes[i] for i in order]
    for position in range(len(order)):
        read = CategoricalSpace.from_sizes(sizes[:position]) if position else None
        prefixes = torch.zeros(1, 0).long() if read is None else read.enumerate()
        total = (total.unsqueeze(-1) + policy.conditional(prefixes, context)).flatten()
    places = [order.index(i) for i in range(len(order))]  # the inverse of the order
    in_space_order: Tensor = total.unflatten(0, sizes).permute(places).flatten()
    return in_space_order


def prefix_sums(
    space: CategoricalSpace, log_values: Tensor, order: tuple[int, ...]
) -> list[Tensor]:
    """`log sum` over all rows with a prefix, `(prefixes, S)` for each length 0 to F.

    Args:
        space: the space.
        log_values: `(num_rows, S)`.
        order: the order of the features; the last read varies fastest.
    """
    level = log_values.unflatten(0, space.sizes).permute(*order, space.num_features)
    levels = [level]
    for dim in reversed(range(space.num_features)):
        levels.append(levels[-1].logsumexp(dim))
    return [level.reshape(-1, log_values.shape[-1]) for level in reversed(levels)]


def _check_tables(space: CategoricalSpace, log_prob: Tensor, log_weight: Tensor) -> None:
    rows, shape = space.num_rows, log_prob.shape
    if shape != log_weight.shape or shape[:1] != (rows,) or len(shape) > 2:
        got = f"{tuple(shape)} and {tuple(log_weight.shape)}"
        raise ValueError(f"both tables must be ({rows},) or ({rows}, S), got {got}")
    if not (log_weight < math.inf).all():
        raise ValueError("log_weight must be numbers or -inf, got NaN or inf")


def _conditionals(parents: Tensor, children: Tensor) -> Tensor:
    """Log-probabilities `(prefixes, K, S + 1)`, with the stand-ins for what is undefined."""
    impossible = (parents == -math.inf).unsqueeze(1)
    log_probs = children - parents.unsqueeze(1).masked_fill(impossible, 0)
    uniform = -math.log(children.shape[1])
    base = log_probs[..., :1].masked_fill(impossible[..., :1], uniform)
    return torch.where(impossible, base, log_probs)


def _longer(
    owner: TablePolicy | TablePotential, prefix: Tensor, previous: Tensor | None, position: int
) -> Tensor:
    if previous is None:
        return prefix
    if not is_codes(previous):
        raise TypeError(f"a table has no soft rows: it reads codes, got {previous.dtype}")
    return prefix * owner.space.sizes[owner.order[position - 1]] + previous  # mixed radix
