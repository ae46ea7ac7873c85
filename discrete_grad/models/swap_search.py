"""Search by swaps: the gradient proposes, exact values decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.models._row_values import RowFunction, RowValues
from discrete_grad.models._swap_climb import Climb, Plan
from discrete_grad.models._swap_moves import Terms
from discrete_grad.models.protocol import space_of
from discrete_grad.rules import Rules
from discrete_grad.sampling import seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["SwapSearch", "swap_search"]

_NUMBERS = 2**21  # of flat rows that are climbed from at a time


@dataclass(frozen=True, eq=False)
class SwapSearch:
    """Rows that a search by swaps found.

    Args:
        codes: the best row of each start, `(N, F)`.
        values: its value less its price, `(N,)`, float64.
        evaluations: of f for each start, `(N,)`; a row's value is one, and its gradient another.
        history: of each start `(n, 2)`, float64: the evaluations at each new best row, and its
            value less its price. The start itself is the first.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> rows = torch.tensor([[0, 0]])
        >>> found = swap_search(lambda row: row[:, 1] + row[:, 4], rows, space=space)
        >>> found.codes.tolist(), found.values.tolist()
        ([[1, 2]], [2.0])
    """

    codes: Tensor
    values: Tensor
    evaluations: Tensor
    history: tuple[Tensor, ...]


@torch.no_grad()
def swap_search(
    f: Callable[..., Tensor],
    codes: Tensor,
    context: Tensor | None = None,
    *,
    space: CategoricalSpace | None = None,
    top: int | None = 32,
    patience: int | None = 3,
    evaluations: int | None = None,
    restarts: int = 0,
    price: float | Tensor = 0.0,
    edits: int | None = None,
    start: Tensor | None = None,
    rules: Rules | None = None,
    rule_context: Tensor | None = None,
    allowed: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> SwapSearch:
    """The best row that a search by swaps finds from each given row.

    At each row one gradient promises a gain for every single swap. The `top` best promises are
    evaluated, and the best row of them is the next one if it is better; otherwise the next promises
    are, each time twice as many. A row ends its climb, and leaves the batch, when `patience` such
    batches were in vain; with `patience=None` when all swaps were. Then no single swap is better.

    With `top=None`, and for an f without a gradient, all swaps of a row are evaluated and the best
    of them is made: steepest ascent.

    Under `rules` and `edits` no other row is evaluated; where the single swaps that remain are
    of no use, pairs are tried of which the first alone breaks them, such as one edit taken back and
    another made. No row is evaluated twice in a context, whatever start leads to it. Memory grows
    with `N F` and with the evaluations (16 bytes each), not with their product: swaps are looked
    at some at a time.

    **Evaluations of f:** counted in the result; one for a value, one for a gradient.

    Args:
        f: an estimator, or any function of flat rows `(n, D)` with values `(n,)`, called as
            `f(rows, context)` in a context; `on_codes(space, f)` for one of codes.
        codes: rows to begin with, `(N, F)`; not changed. One that breaks the rules is first changed
            to the nearest row that obeys.
        context: `(N, C)`, or None.
        space: the features; by default those of f, if it has a `space`.
        top: swaps that are evaluated at a time, at least 1.
        patience: batches in vain after which a row ends, at least 1.
        evaluations: of each start, at most; None for no limit.
        restarts: further climbs of each start, each from a row three random swaps from its best.
        price: of each feature in which a row differs from its start, taken off its value; or of
            each category, `(D,)` or `(N, D)`, with `inf` for one that must not be written.
        edits: features in which a row may differ from its start, at most.
        start: codes `(N, F)` that prices and edits refer to, -1 for a place without any; by default
            the rows to begin with.
        rules: that the rows obey.
        rule_context: codes `(N, C)` of the context that the rules read, if any.
        allowed: codes `(n, F)` -> booleans `(n,)`, further rows that may be entered.
        seed: decides the restarts.

    Returns:
        The best row of each start, none worse than the start where that obeys.

    Raises:
        ValueError: for arguments out of range, values that are NaN or `inf`, or a start from which
            no row within `edits` obeys.

    Reference:
        Zou, Wang, Carlini, Nasr, Kolter, Fredrikson (2023), arXiv 2307.15043, algorithm 1 (greedy
        coordinate gradient).

    Example:
        >>> space = CategoricalSpace.from_sizes((3, 3, 3))
        >>> def f(row):
        ...     return row @ torch.tensor([0.0, 1.0, 3.0] * 3)
        >>> rows = torch.tensor([[0, 0, 0], [1, 0, 2]])
        >>> swap_search(f, rows, space=space, edits=2).codes.tolist()
        [[2, 2, 0], [2, 2, 2]]
    """
    space = space_of("swap_search", f, space)
    plan = Plan(top, patience, evaluations, restarts)
    start = codes if start is None else start
    _check(space, codes, context, plan, edits, start)
    price = checked_price("price", price, space, len(codes))
    values = RowValues(RowFunction(f, space), context)
    noise = seeded(seed, codes.device)
    found: list[SwapSearch] = []
    for some in torch.arange(len(codes)).split(max(1, _NUMBERS // space.width)):
        if not len(some):  # of no rows there is one empty part
            break
        given = None if rule_context is None else rule_context[some]
        priced = _priced(space, price, start[some], some)
        terms = Terms(space, *priced, edits, rules, given, allowed)
        climb = Climb(plan, terms, values.of(some), codes[some], noise)
        climb.run()
        found.append(SwapSearch(climb.best, climb.best_value, climb.spent, climb.told()))
    return _joined(found, codes)


def _check(
    space: CategoricalSpace,
    codes: Tensor,
    context: Tensor | None,
    plan: Plan,
    edits: int | None,
    start: Tensor,
) -> None:
    space.check_codes(codes)
    if codes.dim() != 2 or start.shape != codes.shape:
        shapes = f"{tuple(codes.shape)} and {tuple(start.shape)}"
        raise ValueError(f"codes and start must be (N, {space.num_features}), got {shapes}")
    space.check_codes(start.clamp_min(0))
    if context is not None and (context.dim() != 2 or len(context) != len(codes)):
        raise ValueError(f"context must be ({len(codes)}, C), got {tuple(context.shape)}")
    least = {"top": (plan.top, 1), "patience": (plan.patience, 1), "edits": (edits, 0)}
    least |= {"evaluations": (plan.evaluations, 1), "restarts": (plan.restarts, 0)}
    for name, (value, lowest) in least.items():
        if value is not None and value < lowest:
            raise ValueError(f"{name} must be at least {lowest}, got {value}")


def checked_price(name: str, price: float | Tensor, space: CategoricalSpace, rows: int) -> Tensor:
    """A price as a number, `(D,)` or `(N, D)`, in float64.

    Raises:
        ValueError: for another shape, NaN or a negative price, with its name.

    Example:
        >>> checked_price("price", 0.5, CategoricalSpace.from_sizes((2, 3)), 4)
        tensor(0.5000, dtype=torch.float64)
    """
    given = torch.as_tensor(price, dtype=torch.float64)
    if given.shape not in ((), (space.width,), (rows, space.width)):
        raise ValueError(
            f"{name} must be a number, (D,) or (N, D), with N={rows} and D={space.width}, "
            f"got {tuple(given.shape)}"
        )
    if given.isnan().any() or (given < 0).any():
        raise ValueError(f"{name} must be from 0 on, and no NaN, got {float(given.min()):g}")
    return given


def _priced(
    space: CategoricalSpace, price: Tensor, start: Tensor, some: Tensor
) -> tuple[Tensor, Tensor]:
    """Prices and edits `(n, D)` of each category; of a place without a start neither."""
    given = price.to(start.device)
    given = given[some.to(start.device)] if given.dim() == 2 else given
    known = (start >= 0).repeat_interleave(
        torch.tensor(space.sizes, device=start.device), 1, output_size=space.width
    )
    other = (space.one_hot(start.clamp_min(0), dtype=torch.bool) ^ True) & known
    paid = torch.where(other, given, 0.0)
    # a category that must not be written must not be where there was none, either
    return torch.where(~known & (given == torch.inf), given, paid), other.double()


def _joined(found: list[SwapSearch], codes: Tensor) -> SwapSearch:
    if not found:
        nothing = torch.zeros(0, device=codes.device)
        return SwapSearch(codes.clone(), nothing.double(), nothing.long(), ())
    return SwapSearch(
        torch.cat([part.codes for part in found]),
        torch.cat([part.values for part in found]),
        torch.cat([part.evaluations for part in found]),
        tuple(one for part in found for one in part.history),
    )
