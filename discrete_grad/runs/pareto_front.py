"""Rows spread over the front of several aims, from one fit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from discrete_grad.models.aimed import scalarised
from discrete_grad.models.front_search import best_front
from discrete_grad.models.pareto import non_dominated, spread_front, tradeoff_grid
from discrete_grad.policies.obeying import ObeyingPolicy
from discrete_grad.rules import Rules
from discrete_grad.runs._aims import RunAims
from discrete_grad.runs._guides import RunPolicy, likely_row, under
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._proposals import Proposals, evaluations_of_each
from discrete_grad.runs._seen_rows import SeenRows
from discrete_grad.runs._trust import trusted
from discrete_grad.sampling import seeded
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.logs import progress_bar
from discrete_grad.training.loop import derive_seed

__all__ = ["front_values", "propose_front"]

_LEAST, _MOST = 32, 64  # trade-offs at which the generator is asked
_DRAWS = 16  # rows of each
_FEWEST, _EVALUATIONS = 2**10, 2**17  # of rows in each context, at most


def front_values(run: RunParts, codes: Tensor, context: Tensor | None) -> Tensor:
    """Worth `(n, K)` of rows `(n, F)` for each aim, more is better: what the front is made of.

    The score is that expected of a row if one that fails, or misses a threshold, counts as the
    worst observed one; 0 is the worst and 1 the best of each aim, on the scale of the models.

    Args:
        run: of several aims.
        codes: on the device of the models.
        context: `(C,)`, or None.

    Raises:
        RunError: for a run of one aim.

    """
    model = _traded_aims(run).objective
    values = model.values(codes, context)
    low, high = model.ends.unbind(1)
    scores = (values[:, : len(low)] - low) / (high - low)
    return scores * values[:, len(low) :].prod(1, keepdim=True)


@torch.no_grad()
def propose_front(
    run: RunParts,
    contexts: Tensor | None,
    *,
    count: int,
    rules: Rules | None = None,
    seed: int = 0,
    new_only: bool = True,
    span: range | None = None,
    total: int | None = None,
    evaluations: int | None = None,
) -> Iterator[Proposals]:
    """At most so many rows of each context, of which none is dominated by the estimators.

    The generator is asked at trade-offs all over the simplex; a local search goes on from there and
    from the observed rows that are not dominated, see `best_front`.

    Args:
        run: of several aims.
        contexts: `(S, C)`, or None.
        count: rows, at least 1.
        rules: that every row obeys.
        seed: decides every random number.
        new_only: leave out the rows that the table has in the same context.
        span: places of the contexts that rows are wanted for; by default all.
        total: contexts that share the effort; by default those given.
        evaluations: of rows by the estimators in each context; by default as many as four million
            codes, shared out over the contexts, and at most 131,072.

    Raises:
        RunError: for a run without several aims, or less than one row.

    """
    names = _traded_aims(run).names
    if count < 1:
        raise RunError(f"front must be at least 1 row, got {count}")
    grid = tradeoff_grid(len(names), min(max(count, _LEAST), _MOST))
    policies = [under(run.at_weights(weights).generator, rules) for weights in grid]
    given = 1 if contexts is None else len(contexts)
    shared = evaluations_of_each(run.table.schema.space, given if total is None else total)
    search = partial(
        _front_of,
        run,
        policies,
        grid,
        seen=SeenRows(run.table, contexts, device=run.device),
        evaluations=evaluations or max(_FEWEST, min(_EVALUATIONS, shared)),
        count=count,
        new_only=new_only,
        seed=derive_seed(seed, "front"),
    )
    span = range(given) if span is None else span
    bar = progress_bar("front", len(span), 0)
    for index in span:
        context = None if contexts is None else contexts[index].to(run.device)
        yield search(index, context)
        bar.update()
    bar.close()


def _traded_aims(run: RunParts) -> RunAims:
    """The aims of a run of which two or more are traded off.

    Raises:
        RunError: for another run.
    """
    if run.aims is None or len(run.aims.names) < 2:
        raise RunError("the fit has no front: it needs two or more of --score to be traded off")
    return run.aims


def _front_of(
    run: RunParts,
    policies: list[RunPolicy],
    grid: Tensor,
    index: int,
    context: Tensor | None,
    *,
    seen: SeenRows,
    evaluations: int,
    count: int,
    new_only: bool,
    seed: int,
) -> Proposals:
    """Rows of one context."""

    def known(codes: Tensor) -> Tensor:
        return seen(codes, torch.full((len(codes),), index, device=codes.device))

    def allowed(codes: Tensor) -> Tensor:
        fine = torch.ones(len(codes), dtype=torch.bool, device=codes.device)
        if isinstance(policies[0], ObeyingPolicy):
            fine &= policies[0].allows(codes, context)
        return fine if near is None else fine & near(codes)

    near = trusted(run)
    drawn = [_starts(policy, context, seed) for policy in policies]
    starts = torch.cat([_best_observed(run, everything=near is not None), *drawn])
    codes, values = best_front(
        run.table.schema.space,
        starts,
        partial(front_values, run, context=context),
        evaluations=evaluations,
        allowed=allowed,
        barred=known if new_only else None,
        seed=seed,
    )
    if len(codes):
        kept = spread_front(values, count)
        codes, values = codes[kept], values[kept]
    asked = _answers(values, grid.to(values), run) if len(codes) else grid[:0]
    where = torch.full((len(codes),), index)
    span = range(index, index + 1)
    return Proposals(codes.cpu(), where, known(codes).cpu(), span, asked.cpu())


def _best_observed(run: RunParts, *, everything: bool) -> Tensor:
    """Observed rows `(n, F)` that no other one dominates; all of them where few rows are near any.

    They may be of another context.
    """
    scores = run.rows.all_scores[:, : len(_traded_aims(run).names)]
    best = torch.ones(len(scores), dtype=torch.bool) if everything else non_dominated(scores)
    return run.rows.codes[best.to(run.rows.codes.device)].long()


def _starts(policy: RunPolicy, context: Tensor | None, seed: int) -> Tensor:
    """The likeliest row, and draws, `(n, F)`."""
    device = next(policy.parameters()).device
    drawn = policy.sample(context, _DRAWS - 1, generator=seeded(seed, device))
    return torch.cat([likely_row(policy, context).unsqueeze(0), drawn])


def _answers(values: Tensor, grid: Tensor, run: RunParts) -> Tensor:
    """The trade-off `(n, K)` to which each row `(n, K)` is nearest to the best answer."""
    kind = _traded_aims(run).objective.kind
    worth = scalarised(values.unsqueeze(1), grid, kind)
    best: Tensor = (worth.amax(0) - worth).argmin(1)
    return grid[best]
