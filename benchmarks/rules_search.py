"""Ways to edit a sequence within rules, each with the same number of passes of the scorer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.rules_dna import BASES, EDITS, SPACE, Meter, Method, best_seen
from discrete_grad.gradient import GradientEstimator, LeaveOneOut, StraightThrough
from discrete_grad.sampling import random_indices, seeded, uniform

ROWS = 16  # scored at a time


# --- ours -----------------------------------------------------------------------------------------


def by_gradient(cls: type[GradientEstimator], *, rate: float, stay: float, passes: int) -> Method:
    """Ascent of logits by a gradient estimator that obeys.

    Where all rows of a step are one, it begins again.

    Args:
        cls: of the gradient estimator.
        rate: of Adam.
        stay: logit of the bases of the start, where other bases have 0.
        passes: of the scorer for a row.
    """

    def method(meter: Meter, seed: int) -> Tensor:
        noise, made = seeded(seed), _estimator(cls, meter)
        while meter.left >= ROWS * passes:
            logits = (stay * SPACE.one_hot(meter.asked.start)).requires_grad_()
            adam, drawn = torch.optim.Adam([logits], rate), ROWS
            while meter.left >= ROWS * passes and drawn > 1:
                loss = -made.expectation(meter.flat, logits, generator=noise)
                adam.zero_grad()
                loss.backward()
                adam.step()
                drawn = len(meter.codes[-1].unique(dim=0))
        return meter.asked.rules.condition(logits.detach()).sample(ROWS, generator=noise)

    return method


def _estimator(cls: type[GradientEstimator], meter: Meter) -> GradientEstimator:
    made: Any = cls
    found: GradientEstimator = made(rules=meter.asked.rules, samples=ROWS)
    return found


def best_of_lines(meter: Meter, seed: int) -> Tensor:
    """Exact best rows of the scorer's linear part, about the best row that was not opened yet.

    From the start, and again from rows drawn evenly from all that obey whenever a few rows in turn
    were opened in vain.
    """
    noise, row = seeded(seed), meter.asked.start
    even = meter.asked.rules.condition(torch.zeros(SPACE.width))
    while meter.left > 0:
        _open(meter, row)
        row = even.sample(1, generator=noise)[0]
    return best_seen(meter)


def _open(meter: Meter, row: Tensor, patience: int = 4) -> None:
    """Open the best row, and score what its linear part likes, until that was in vain for long."""
    codes = {_key(row): row}
    seen = dict(zip(codes, meter.rows(row[None]).tolist(), strict=False))
    opened, best, vain = set[bytes](), max(seen.values(), default=0.0), 0
    while meter.left > 2 and vain < patience and len(opened) < len(seen):
        key = max((k for k in seen if k not in opened), key=lambda k: seen[k])
        opened.add(key)
        fresh = {_key(row): row for row in _near(meter, codes[key]) if _key(row) not in seen}
        if fresh:
            scores = meter.rows(torch.stack(list(fresh.values()))).tolist()
            seen |= dict(zip(fresh, scores, strict=False))
            codes |= fresh
        vain = 0 if max(seen.values()) > best else vain + 1
        best = max(seen.values())


def _near(meter: Meter, row: Tensor) -> Tensor:
    """Rows `(N, L)` that the linear part about a row likes.

    A row's slopes are the logits, and staying as the row is adds a number to them, of which several
    are tried: from near rows that the linear part knows well to far ones. All rows obey.
    """
    flat = SPACE.one_hot(row).requires_grad_()
    (slopes,) = torch.autograd.grad(meter.flat(flat[None]).sum(), flat)
    stay = slopes.abs().max() * torch.tensor([0.0, 0.25, 0.5, 1.0]).unsqueeze(-1)
    law = meter.asked.rules.condition(slopes + stay * flat.detach())
    return law.best(ROWS)[0].flatten(0, 1)


def _key(row: Tensor) -> bytes:
    return row.to(torch.int8).numpy().tobytes()


# --- without gradients ----------------------------------------------------------------------------


def greedy(meter: Meter, seed: int) -> Tensor:
    """Best single swap until none helps, then of pairs that take an edit back and make another.

    From there on again from random pairs of edits, until the passes are spent.
    """
    noise, row = seeded(seed), meter.asked.start
    while meter.left > 0:
        _climb(meter, row)
        row = _random_pair(meter, noise)
    return best_seen(meter)


def _climb(meter: Meter, row: Tensor) -> None:
    best = -float("inf")
    while meter.left > 0:
        for moves in (_swaps, _exchanges):
            rows = _allowed(meter, moves(meter, row))
            scores = meter.rows(rows)
            if len(scores) and float(scores.max()) > best:
                best, row = float(scores.max()), rows[scores.argmax()]
                break
        else:
            return


def _swaps(meter: Meter, row: Tensor) -> Tensor:
    """All rows one swap away, of positions that are free."""
    where = meter.asked.free.nonzero().squeeze(-1).repeat_interleave(len(BASES) - 1)
    by = torch.arange(1, len(BASES)).repeat(len(where) // (len(BASES) - 1))
    rows = row.repeat(len(where), 1)
    return rows.scatter(-1, where.unsqueeze(-1), ((row[where] + by) % len(BASES)).unsqueeze(-1))


def _exchanges(meter: Meter, row: Tensor) -> Tensor:
    """All rows with one edit taken back and another swap."""
    start = meter.asked.start
    back = [
        row.index_fill(0, place, int(start[place])) for place in (row != start).nonzero().unbind(0)
    ]
    return torch.cat([_swaps(meter, one) for one in back]) if back else row[:0].view(0, len(row))


def _allowed(meter: Meter, rows: Tensor) -> Tensor:
    return rows[meter.asked.rules.allows(rows)]


def _random_pair(meter: Meter, noise: torch.Generator) -> Tensor:
    row = meter.asked.start
    for _ in range(2):
        rows = _allowed(meter, _swaps(meter, row))
        row = rows[int(random_indices(len(rows), (1,), generator=noise))]
    return row


def annealing(hot: float, cold: float, chains: int = ROWS) -> Method:
    """Simulated annealing within the rules, temperatures from hot to cold by a constant factor.

    A move swaps a position, or takes an edit back and swaps another position; one that breaks a
    rule is drawn anew, which costs no pass.
    """

    def method(meter: Meter, seed: int) -> Tensor:
        noise = seeded(seed)
        rows = meter.asked.start.repeat(chains, 1)
        scores = meter.rows(rows)
        steps = meter.left // chains
        for step in range(steps):
            temperature = hot * (cold / hot) ** (step / max(1, steps - 1))
            moved = _moved(meter, rows, noise)
            found = meter.rows(moved)
            chance = ((found - scores) / temperature).exp()
            taken = uniform((chains,), generator=noise) < chance
            rows = torch.where(taken.unsqueeze(-1), moved, rows)
            scores = torch.where(taken, found, scores)
        return rows

    return method


def _moved(meter: Meter, rows: Tensor, noise: torch.Generator, tries: int = 8) -> Tensor:
    """A move of each row; where several tries all break a rule, the row itself."""
    moved, left = rows, torch.ones(len(rows), dtype=torch.bool)
    for _ in range(tries):
        drawn = _drawn_moves(meter, rows, noise)
        fine = left & meter.asked.rules.allows(drawn)
        moved = torch.where(fine.unsqueeze(-1), drawn, moved)
        left = left & ~fine
        if not left.any():
            break
    return moved


def _drawn_moves(meter: Meter, rows: Tensor, noise: torch.Generator) -> Tensor:
    """Half of the rows, and all with as many edits as there may be, take an edit back first."""
    start = meter.asked.start
    edited = rows != start
    back = (uniform((len(rows),), generator=noise) < 0.5) | (edited.sum(-1) >= EDITS)
    which = (uniform(tuple(rows.shape), generator=noise) * edited).argmax(-1, keepdim=True)
    undone = rows.scatter(-1, which, start.expand_as(rows).gather(-1, which))
    rows = torch.where(back.unsqueeze(-1), undone, rows)
    places = meter.asked.free.nonzero().squeeze(-1)
    where = places[random_indices(len(places), (len(rows), 1), generator=noise)]
    by = 1 + random_indices(len(BASES) - 1, (len(rows), 1), generator=noise)
    return rows.scatter(-1, where, (rows.gather(-1, where) + by) % len(BASES))


STRAIGHT_THROUGH = by_gradient(StraightThrough, rate=0.3, stay=0.0, passes=2)
LEAVE_ONE_OUT = by_gradient(LeaveOneOut, rate=0.3, stay=0.0, passes=1)
METHODS: dict[str, Callable[[Meter, int], Tensor]] = {
    "StraightThrough(rules=)": STRAIGHT_THROUGH,
    "LeaveOneOut(rules=)": LEAVE_ONE_OUT,
    "exact best rows of slopes": best_of_lines,
    "greedy swaps": greedy,
    "annealing": annealing(hot=0.2, cold=0.01),
}
