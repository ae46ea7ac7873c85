"""The rows that a run proposes for many contexts, as codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from discrete_grad.models import best_rows
from discrete_grad.models.row_search import contexts_at_once
from discrete_grad.policies.obeying import ObeyingPolicy
from discrete_grad.runs._guides import RunPolicy, guiding_logits, row_log_prob, spelt_draws
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._polish import polished_starts
from discrete_grad.runs._row_score import row_score, scores_by_estimator
from discrete_grad.runs._seen_rows import SeenRows
from discrete_grad.runs._trust import trusted, trusted_starts
from discrete_grad.space import CategoricalSpace
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.logs import progress_bar
from discrete_grad.training.loop import derive_seed

__all__ = ["Proposals", "evaluations_of_each", "propose", "share_of"]

# numbers of codes whose rows the estimator scores: shared out over the contexts, within bounds of
# rows for each of them
_CODES, _MOST, _LEAST, _LEAST_A_ROW = 2**22, 2**17, 64, 8
# of a function of one's own, which may be slow
_MOST_ASKED = 2**14
# the first row is one of the best so many
_AGREED = 16


class Proposals(NamedTuple):
    """Rows for neighbouring contexts, on the CPU.

    Example:
        >>> Proposals._fields
        ('codes', 'where', 'seen', 'contexts', 'tradeoffs', 'values')
    """

    codes: Tensor
    """`(n, F)`, those of a context together, the best first."""
    where: Tensor
    """`(n,)`, the number of each row's context."""
    seen: Tensor
    """`(n,)`, whether the table has the row in that context."""
    contexts: range
    """The contexts' numbers."""
    tradeoffs: Tensor | None = None
    """`(n, K)`, at which each was found, where it is not the run's own."""
    values: Tensor | None = None
    """`(n,)`, what the estimator predicts of each, where the search has asked it."""

    def counts(self) -> Tensor:
        """Rows of each of the contexts."""
        return torch.bincount(self.where - self.contexts.start, minlength=len(self.contexts))


def share_of(total: int, share: tuple[int, int]) -> range:
    """The part of so many contexts that one process of several takes.

    Raises:
        RunError: for more processes than contexts.
    """
    place, count = share
    if count > max(1, total):
        raise RunError(f"more processes than contexts: {count} for {total}")
    return range(total * place // count, total * (place + 1) // count)


def evaluations_of_each(space: CategoricalSpace, total: int) -> int:
    """Rows of each of so many contexts that are evaluated if all share the effort."""
    return _CODES // (space.num_features * max(1, total))


@torch.no_grad()
def propose(
    run: RunParts,
    contexts: Tensor | None,
    *,
    rows: int,
    seed: int,
    diversity: int,
    new_only: bool,
    policy: RunPolicy,
    total: int,
) -> Iterator[Proposals]:
    """Good and different rows for each of the contexts, some at a time; see `generate`.

    The policy is the run's generator, conditioned where there are rules. So many contexts in total
    share the effort.
    """
    space, count = run.table.schema.space, 1 if contexts is None else len(contexts)
    shared = evaluations_of_each(space, total)
    most = _MOST if run.scorer_facts.get("differentiable", True) else _MOST_ASKED
    evaluations = max(_LEAST, _LEAST_A_ROW * rows, min(most, shared))
    size = contexts_at_once(space, max(rows, _AGREED), evaluations, diversity)
    parts = [range(i, min(i + size, count)) for i in range(0, count, size)]
    seen = SeenRows(run.table, contexts, device=run.device)
    near, starts, told = trusted(run), trusted_starts(run), scores_by_estimator(run)
    ruled = policy if isinstance(policy, ObeyingPolicy) else None
    drawn = derive_seed(seed, "generate")
    bar = progress_bar("generate", len(parts), 0)
    for part in parts:
        here = None if contexts is None else contexts[part.start : part.stop].to(run.device)
        draws = spelt_draws(policy, here, drawn)
        logits = guiding_logits(policy, here, draws)
        polished = polished_starts(run, policy, logits, draws, here)
        codes, values = best_rows(
            space,
            logits,
            row_score(run, here),
            max(rows, _AGREED),
            evaluations=evaluations,
            barred=partial(_barred, seen if new_only else None, near, part.start),
            distance=diversity,
            starts=_joined(_joined(starts, draws), polished),
            rules=None if ruled is None else ruled.rules,
            rule_context=None if ruled is None else ruled.rule_context(here),
            seed=drawn,
        )
        likely = row_log_prob(policy, codes[:, :_AGREED], here, logits)
        # a scorer of one's own says what is good: it does not overrate
        order = _agreed_first(likely[:, :1] if run.scorer_facts else likely, values)[:, :rows]
        there = values.gather(1, order) > -torch.inf
        context, place = there.nonzero(as_tuple=True)
        kept = order[context, place]
        found, where = codes[context, kept], context + part.start
        bar.update()
        known = seen(found, where).cpu()
        asked = values[context, kept].cpu() if told else None
        yield Proposals(found.cpu(), where.cpu(), known, part, values=asked)
    bar.close()


def _barred(
    seen: SeenRows | None,
    near: Callable[[Tensor], Tensor] | None,
    first: int,
    codes: Tensor,
    where: Tensor,
) -> Tensor:
    """Whether rows `(n, F)` are not to be written: known ones, and ones beyond the trust."""
    barred = torch.zeros_like(where, dtype=torch.bool)
    if seen is not None:
        barred |= seen(codes, where + first)
    return barred if near is None else barred | ~near(codes)


def _joined(starts: Tensor | None, draws: Tensor | None) -> Tensor | None:
    """Rows `(n, F)` or `(S, n, F)` that a search begins with beside the most likely ones."""
    if starts is None or draws is None:
        return draws if starts is None else starts
    return torch.cat([starts.expand(len(draws), -1, -1), draws], 1)


def _agreed_first(likely: Tensor, values: Tensor) -> Tensor:
    """The places `(S, n)` of rows in their order, one of them brought to the front.

    Among the best it is the one of the least sum of places, by value and by probability. The
    estimator's own best row is often one that it overrates, and the generator has seen more of the
    rows around: over 15 complete tables the true percentile of the first row rises by this.
    """
    some = values[:, : likely.shape[1]]
    likely = likely.masked_fill(some == -torch.inf, -torch.inf)
    by_law = likely.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    places = torch.arange(values.shape[1], device=values.device)
    first = (by_law + places[: some.shape[1]]).argmin(-1, keepdim=True)
    return torch.where(places == first, -1, places).argsort(-1)
