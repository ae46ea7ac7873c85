"""Worlds given as tables, and the laws of samplers there: exact, or pooled over many runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from discrete_grad import CategoricalSpace
from discrete_grad.sampling import uniform
from discrete_grad.weighting import ExactTilt, RewardWeighted, WeightedSamples
from discrete_grad.weighting.best_of_n import soft_best_of_n_law
from discrete_grad.weighting.draws import inverse_draw
from discrete_grad.weighting.metropolis import log_acceptance, swap_index
from discrete_grad.weighting.proposals import SwapProposal, informed_swaps, uniform_swaps
from discrete_grad.weighting.value_guidance import Potential

CHUNK = 512  # rows of the table whose swaps are looked at together


def prefix_number(space: CategoricalSpace, prefix: Tensor) -> Tensor:
    """Place `(...)` of prefixes `(..., t)`, t at least 1, among all of their length."""
    return CategoricalSpace.from_sizes(space.sizes[: prefix.shape[-1]]).row_number(prefix)


class TableReference:
    """A law of rows given as a table, the same in every context.

    Args:
        space: the features, in whose order rows are drawn.
        log_probs: `(R,)`, in nats, in the order of `space.enumerate()`.
    """

    def __init__(self, space: CategoricalSpace, log_probs: Tensor) -> None:
        self.space, self.order = space, tuple(range(space.num_features))
        self.log_probs = log_probs.double().log_softmax(0)
        table, self.tables = self.log_probs, list[Tensor]()
        for size in reversed(space.sizes):  # the longest prefix first
            self.tables.insert(0, table.view(-1, size).log_softmax(-1))
            table = table.view(-1, size).logsumexp(-1)

    def log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
        """See `Policy.log_prob`."""
        return self.log_probs[self.space.row_number(codes)]

    def sample(
        self,
        context: Tensor | None = None,
        count: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `Policy.sample`."""
        batch = () if context is None else context.shape[:-1]
        noise = uniform((count * math.prod(batch),), generator=generator)
        codes = self.space.enumerate()[inverse_draw(self.log_probs, noise)]
        return codes.view(count, *batch, -1)

    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
    ) -> Tensor:
        """No feature read yet; see `SequentialPolicy.begin`."""
        return torch.zeros(*batch, 0, dtype=torch.long)

    def advance(self, state: Tensor, previous: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `SequentialPolicy.advance`; the state is the features read, `(*batch, t)`."""
        read = state if previous is None else torch.cat([state, previous.unsqueeze(-1)], -1)
        table = self.tables[read.shape[-1]]
        if not read.shape[-1]:
            return table.expand(*read.shape[:-1], -1), read
        return table[prefix_number(self.space, read)], read

    def select(self, state: Tensor, rows: Tensor) -> Tensor:
        """See `SequentialPolicy.select`."""
        return state.flatten(0, -2)[rows]


class TableReward:
    """A reward given as a table `(R,)`; a flat row is worth the table's multilinear extension."""

    def __init__(self, space: CategoricalSpace, table: Tensor) -> None:
        self.space, self.table = space, table.double()

    def __call__(self, rows: Tensor, context: Tensor | None = None) -> Tensor:
        """Rewards `(...)` of codes `(..., F)` or flat rows `(..., D)`."""
        if not rows.is_floating_point():
            return self.table[self.space.row_number(rows)]
        *others, last = self.space.split(rows.double())
        value = last @ self.table.view(-1, self.space.sizes[-1]).T
        for part in reversed(others):
            value = torch.einsum(
                "...rk,...k->...r", value.unflatten(-1, (-1, part.shape[-1])), part
            )
        return value.squeeze(-1)


class TableTwist:
    """A potential without a context as a twist that is looked up: all prefixes fit in tables."""

    def __init__(self, potential: Potential[Any]) -> None:
        self.space = potential.space
        lengths = range(1, self.space.num_features)
        known = (CategoricalSpace.from_sizes(self.space.sizes[:t]).enumerate() for t in lengths)
        before = [torch.zeros(1, 0, dtype=torch.long), *known]
        self.tables = [potential.following(codes).flatten().double() for codes in before]

    def __call__(self, prefix: Tensor, context: Tensor | None = None) -> Tensor:
        """Log psi; see `Twist`."""
        return self.tables[prefix.shape[-1] - 1][prefix_number(self.space, prefix)]


# --- Markov chains, exactly -----------------------------------------------------------------------


class Transition(NamedTuple):
    """One step of a chain: where each row may have come from, and how likely.

    Args:
        others: numbers `(R, D - F)` of the rows one swap away.
        inflow: `(R, D - F)`, the probability of a step from there to here.
        stay: `(R,)`, the probability of no step.
    """

    others: Tensor
    inflow: Tensor
    stay: Tensor

    def step(self, law: Tensor) -> Tensor:
        """The law `(R,)` a step later."""
        came = embedding_bag(
            self.others, law.unsqueeze(-1), per_sample_weights=self.inflow, mode="sum"
        )
        return law * self.stay + came.squeeze(-1)


@torch.no_grad()
def transition(target: RewardWeighted, proposal: str) -> Transition:
    """The step of `metropolis` on every row at once, from its own pure functions."""
    space, rows = target.space, target.space.enumerate()
    propose: SwapProposal = uniform_swaps(space)
    if proposal == "informed":
        propose = informed_swaps(target)
    log_q = torch.cat([propose(part) for part in rows.split(CHUNK)])
    density = target.log_density(rows)
    found = []
    for start in range(0, len(rows), CHUNK):
        here = torch.arange(start, min(start + CHUNK, len(rows)))
        swaps = space.swaps(rows[here])
        there = space.row_number(swaps)
        home = swap_index(space, swaps, rows[here].unsqueeze(-2))
        found.append((there, home))
    others, home = (torch.cat(parts) for parts in zip(*found, strict=True))
    back = log_q[others, home]
    here = density.unsqueeze(-1)
    leave = (log_q + log_acceptance(here, back, density[others], log_q)).exp()
    return Transition(others, leave[others, home], (1 - leave.sum(-1)).clamp_min(0))


def chain_laws(step: Transition, start: Tensor, most: int) -> Iterator[tuple[int, Tensor]]:
    """The exact laws `(R,)` of a chain after 0, 1, 2, 4, ... steps, up to `most`."""
    law = start
    yield 0, law
    for taken in range(1, most + 1):
        law = step.step(law)
        if taken.bit_count() == 1:
            yield taken, law


# --- sequential Monte Carlo without a twist, exactly ----------------------------------------------


def untwisted_law(exact: ExactTilt, space: CategoricalSpace, count: int, proposal: str) -> Tensor:
    """The law `(R,)` of a row drawn by weight from `twisted_smc` without a twist.

    Weights are equal until the last feature, so nothing is resampled: it is importance sampling of
    rows, or, with the proposal `twisted`, of all but their last feature, which is drawn exactly.
    """
    if proposal == "reference":
        log_law = soft_best_of_n_law(exact.log_reference, exact.reward, exact.beta, count)
        return log_law.exp()
    size = space.sizes[-1]
    prefix = exact.log_reference.view(-1, size).logsumexp(-1)
    density = (exact.log_probs + exact.log_z).view(-1, size)
    log_psi = density.logsumexp(-1) - prefix
    log_law = soft_best_of_n_law(prefix, log_psi, 1.0, count)
    return (log_law.unsqueeze(-1) + density.log_softmax(-1)).exp().flatten()


# --- how far a law is -----------------------------------------------------------------------------


def total_variation(law: Tensor, truth: Tensor) -> float:
    """Half the sum of `|law - truth|` of two laws `(R,)`."""
    return float((law - truth).abs().sum() / 2)


def divergence(law: Tensor, log_truth: Tensor) -> float:
    """`KL(law || truth)` in nats of a law `(R,)` and finite log-probabilities `(R,)`."""
    return float((torch.xlogy(law, law) - law * log_truth).sum())


class Pooled(NamedTuple):
    """Law q of a row drawn by weight from one run, estimated from many runs.

    Args:
        gaps: `(2, R)`, the mean of `weight (1 - Z^ / Z)` of each row, over half the runs each.
        drawn: `(R,)`, the mean of the weights.
        evaluations: of the reward, in one run.
    """

    gaps: Tensor
    drawn: Tensor
    evaluations: int

    def figures(self, exact: ExactTilt) -> dict[str, float]:
        """Total variation and divergence of q, and the plain estimate of the former.

        `E[Z^ weight] = Z truth` for every row, so `q - truth = E[weight (1 - Z^ / Z)]`, which has
        far less noise than `drawn` where log Z is nearly known. By Jensen `tv` is above the true
        one in expectation; `tv_low` is below it: the gap of one half of the runs where the other
        half says that q is too large, less that where it is too small.
        """
        gap, (first, second) = self.gaps.mean(0), self.gaps
        law = (exact.probs + gap).clamp_min(0)
        low = (first.sign() * second + second.sign() * first).sum() / 4
        return {
            "evaluations": float(self.evaluations),
            "tv": float(gap.abs().sum() / 2),
            "tv_low": float(low),
            "kl": divergence(law / law.sum(), exact.log_probs),
            "plain": total_variation(self.drawn, exact.probs),
        }


def pooled(
    run: Callable[[Tensor], WeightedSamples],
    exact: ExactTilt,
    space: CategoricalSpace,
    *,
    runs: int,
    blocks: int,
) -> Pooled:
    """Runs of a sampler whose `exp(log_z)` is unbiased.

    Args:
        run: a context `(B, 1)` of zeros -> samples of B runs.
        exact: the target, without a context.
        space: the features of a row.
        runs: B, at once.
        blocks: how often, in each half.
    """
    gaps, evaluations = torch.zeros(2, space.num_rows).double(), 0
    drawn = torch.zeros(space.num_rows).double()
    for half in [*gaps] * blocks:
        samples = run(torch.zeros(runs, 1))
        assert samples.log_z is not None
        index, weights = space.row_number(samples.codes).flatten(), samples.weights
        short = 1 - (samples.log_z - exact.log_z).exp()
        half.index_add_(0, index, (weights * short).flatten() / (runs * blocks))
        drawn.index_add_(0, index, weights.flatten() / (2 * runs * blocks))
        evaluations = samples.evaluations
    return Pooled(gaps, drawn, evaluations)
