"""Edits of rows: few changes that bring a model where it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from discrete_grad.gradient import on_codes
from discrete_grad.gradient.black_box import of_codes
from discrete_grad.models._row_values import RowFunction
from discrete_grad.models.edits import Edits, edits_of
from discrete_grad.models.protocol import dtype_of, space_of, takes_codes
from discrete_grad.models.swap_search import checked_price, swap_search
from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace

__all__ = ["edit"]

Model = Callable[..., Tensor]


@torch.no_grad()
def edit(
    model: Model | Sequence[Model],
    rows: Tensor,
    context: Tensor | None = None,
    *,
    space: CategoricalSpace | None = None,
    target: float | Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
    edit_price: float | Mapping[str, float] | Tensor = 0.0,
    edits: int | None = None,
    fixed: Sequence[str] | Tensor = (),
    rules: Rules | None = None,
    rule_context: Tensor | None = None,
    restarts: int = 4,
    evaluations: int | None = None,
    tolerance: float = 0.0,
    seed: int = 0,
) -> Edits:
    """Change a few features of rows so that a model's outputs rise, fall or come near a target.

    The worth of a row is the weighted sum of all outputs or, with a target, minus the weighted sum
    of their squared distances from it; the price of each edit is subtracted. `swap_search` finds
    the rows.

    Args:
        model: an estimator, or any function of flat rows `(n, D)`, called as `f(rows, context)` in
            a context, or several of them; each gives `(n,)` or several outputs `(n, L)`. Modules
            should be in evaluation mode.
        rows: codes `(N, F)`; -1 is an unknown category, which is filled in without a price.
        context: `(N, C)`, or None.
        space: the features; by default those of the model, if it has a `space`.
        target: wanted outputs, one number for all or one for each; None to raise them.
        weights: weights of the outputs of all models, joined; by default 1 / their number.
            `(-1,)` lowers an output, `(1, -1)` raises the first against the second.
        edit_price: price of an edit, in the unit of the worth: one number; a number by feature, 0
            for features not named; or a number for each category, `(D,)` or `(N, D)`, such as a
            prior.
        edits: largest number of edits of a row.
        fixed: names of features that are not changed, or booleans `(F,)`.
        rules: rules that the edited rows obey.
        rule_context: codes `(N, C)` of the context that the rules read, if any.
        restarts: number of further climbs of each row; see `swap_search`.
        evaluations: largest number of evaluations of the model for each row in the search.
        tolerance: total worth that pruning may lose, at least 0.
        seed: seed of the restarts.

    Returns:
        The edited rows, the gain of every change alone, and the rows without the changes that can
        be taken back without loss.

    Raises:
        ValueError: for arguments that do not fit, an unknown feature, or rows from which none
            within `edits` obeys.

    Example:
        >>> space = CategoricalSpace({"cut": ["fair", "good"], "colour": 3})
        >>> def price(row):
        ...     return row @ torch.tensor([0.0, 2.0, 0.0, 1.0, 5.0])
        >>> found = edit(price, torch.tensor([[0, 0]]), space=space, target=3.0, edit_price=0.1)
        >>> found.codes.tolist(), found.alone.tolist()
        ([[1, 1]], [[8.0, 5.0]])
        >>> found.words(0)
        ('cut: fair -> good', 'colour: 0 -> 1')
    """
    models = (model,) if callable(model) else tuple(model)
    space = space_of("edit", models[0] if len(models) == 1 else None, space)
    worth = Worth(models, space, target, weights)
    f = on_codes(space, worth) if worth.black_box else worth
    if tolerance < 0:
        raise ValueError(f"tolerance must be from 0 on, got {tolerance}")
    space.check_codes(rows.clamp_min(0))
    if rows.dim() != 2 or (rows < -1).any():
        raise ValueError(f"rows must be codes (N, F) from -1 on, got {tuple(rows.shape)}")
    price = _price(space, edit_price, fixed, len(rows))
    found = swap_search(
        f,
        _filled(f, space, rows, context, price),
        context,
        space=space,
        start=rows,
        price=price,
        edits=edits,
        rules=rules,
        rule_context=rule_context,
        restarts=restarts,
        evaluations=evaluations,
        seed=seed,
    )

    def allowed(codes: Tensor, where: Tensor) -> Tensor:
        given = None if rule_context is None else rule_context[where]
        fine = torch.ones_like(where, dtype=torch.bool)
        return fine if rules is None else rules.allows(codes, context=given)

    return edits_of(RowFunction(f, space), rows, context, found, price, allowed, tolerance)


class Worth(nn.Module):
    """Worth `(n,)` of rows, codes or flat, by the outputs of some models.

    Args:
        models: in a row.
        space: of the rows.
        target: see `edit`.
        weights: see `edit`.
    """

    def __init__(
        self,
        models: Sequence[Model],
        space: CategoricalSpace,
        target: float | Sequence[float] | None,
        weights: Sequence[float] | None,
    ) -> None:
        super().__init__()
        if not models:
            raise ValueError("edit needs a model, got none")
        boxes = [of_codes(model) for model in models]
        self.black_box = any(box is not None for box in boxes)
        self.models = [m if b is None else b for m, b in zip(models, boxes, strict=True)]
        self.reads = [b is not None or takes_codes(m) for m, b in zip(models, boxes, strict=True)]
        self.takes_codes = all(self.reads)
        self.modules_of = nn.ModuleList([m for m in self.models if isinstance(m, nn.Module)])
        self.space, self.target, self.weights = space, target, weights

    def forward(self, rows: Tensor, context: Tensor | None = None) -> Tensor:
        """See the class."""
        outputs = torch.cat(
            [self._outputs(place, rows, context) for place in range(len(self.models))], 1
        )
        count = outputs.shape[1]
        weights = self._numbers("weights", self.weights, outputs, 1 / count)
        if self.target is None:
            return (weights * outputs).sum(1)
        target = self._numbers("target", self.target, outputs, 0.0)
        return -(weights * (outputs - target).square()).sum(1)

    def _outputs(self, place: int, rows: Tensor, context: Tensor | None) -> Tensor:
        model = self.models[place]
        if not rows.is_floating_point() and not self.reads[place]:
            rows = self.space.one_hot(rows, dtype=dtype_of(model))
        if rows.is_floating_point() and isinstance(model, nn.Module):
            rows = rows.to(dtype_of(model))  # of several models each has its own
        found = model(rows) if context is None else model(rows, context)
        found = found if found.is_floating_point() else found.double()
        if found.dim() not in (1, 2) or len(found) != len(rows):
            raise ValueError(
                f"a model must give ({len(rows)},) or ({len(rows)}, L), got {tuple(found.shape)}"
            )
        return found.unsqueeze(1) if found.dim() == 1 else found

    def _numbers(
        self, name: str, given: float | Sequence[float] | None, outputs: Tensor, usual: float
    ) -> Tensor:
        """One number for each output."""
        numbers = torch.as_tensor(usual if given is None else given).to(outputs)
        if numbers.dim() > 1 or (numbers.dim() and len(numbers) != outputs.shape[1]):
            got, count = tuple(numbers.shape), outputs.shape[1]
            raise ValueError(f"{name} must be one for each of {count} outputs, got {got}")
        if not numbers.isfinite().all():
            raise ValueError(f"{name} must be finite, got {given}")
        return numbers.expand(outputs.shape[1])


def _price(
    space: CategoricalSpace,
    edit_price: float | Mapping[str, float] | Tensor,
    fixed: Sequence[str] | Tensor,
    rows: int,
) -> Tensor:
    """Price of each category, `inf` in features that are fixed."""
    sizes = torch.tensor(space.sizes)
    if isinstance(edit_price, Mapping):
        by_feature = torch.zeros(space.num_features, dtype=torch.float64)
        for name, one in edit_price.items():
            by_feature[_place(space, name)] = one
        edit_price = by_feature.repeat_interleave(sizes)
    price = checked_price("edit_price", edit_price, space, rows)
    if isinstance(fixed, Tensor):
        stay = fixed.cpu()
        if stay.dtype != torch.bool or stay.shape != (space.num_features,):
            raise ValueError(
                f"fixed must be booleans ({space.num_features},), got {tuple(stay.shape)}"
            )
    else:
        stay = torch.zeros(space.num_features, dtype=torch.bool)
        stay[[_place(space, name) for name in fixed]] = True
    if not stay.any():
        return price
    columns = stay.repeat_interleave(sizes).to(price.device)
    return torch.where(columns, torch.inf, price)


def _place(space: CategoricalSpace, name: str) -> int:
    if name not in space.names:
        raise ValueError(f"there is no feature {name!r}: {list(space.names)[:10]}")
    return space.names.index(name)


def _filled(
    f: Model, space: CategoricalSpace, rows: Tensor, context: Tensor | None, price: Tensor
) -> Tensor:
    """Rows whose unknown places have the category of the best slope where all are as likely."""
    unknown = rows < 0
    if not unknown.any():
        return rows.clone()
    sizes = torch.tensor(space.sizes, device=rows.device)
    there = unknown.repeat_interleave(sizes, 1, output_size=space.width)
    even = (1 / sizes).repeat_interleave(sizes, output_size=space.width)
    flat = torch.where(there, even.to(dtype_of(f)), space.one_hot(rows.clamp_min(0)))
    slope = RowFunction(f, space).slopes_at(flat.to(dtype_of(f)), context)
    slope = torch.zeros_like(flat) if slope is None else slope
    barred = price.to(rows.device) == torch.inf
    best = space.argmax(slope.masked_fill(barred, -torch.inf))
    return torch.where(unknown, best, rows)
