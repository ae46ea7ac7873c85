"""The form in which a scorer takes rows, found by calling it with a few."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.data import Table
from discrete_grad.runs.scorers._bound import BoundScorer, FrameForm, numbers_of
from discrete_grad.runs.scorers._columns import RowColumns
from discrete_grad.runs.scorers._tensors import TorchForm, frozen_copy, possible_forms
from discrete_grad.runs.scorers.scorer import FRAMES, TENSORS, OwnScorer, Takes
from discrete_grad.training.checkpoint import RunError

__all__ = ["bind"]

_TRIED = 64
_TOLERANCE = 1e-3

Rows = tuple[Tensor, Tensor | None]


def bind(
    scorer: OwnScorer, table: Table, device: torch.device, role: str = "scorer"
) -> BoundScorer:
    """The scorer in the form that it takes, for rows of a table.

    Args:
        scorer: with a form, or without: then the one that works for the first rows of the table.
        table: of the rows.
        device: where a torch module computes.
        role: `scorer` or `judge`, for messages.

    Raises:
        RunError: where no form works, with what each failed of, or several do, with their names.
    """
    columns = RowColumns(table.schema)
    some = min(_TRIED, len(table))
    context = None if table.context is None else table.context[:some]
    rows = table.codes[:some].long(), context
    if isinstance(scorer.model, nn.Module):
        rows = rows[0].to(device), None if context is None else context.to(device)
        model = frozen_copy(scorer.model, device)
        form: TorchForm | FrameForm = _torch_form(scorer, model, columns, rows, role)
    else:
        form = _frame_form(scorer, columns, rows, role)
    bound = BoundScorer(scorer, columns, form, device, role)
    if isinstance(form, TorchForm):
        bound.why_not = _no_derivative(form, rows)
    return bound


def _torch_form(
    scorer: OwnScorer, model: nn.Module, columns: RowColumns, rows: Rows, role: str
) -> TorchForm:
    found: dict[Takes, TorchForm] = {}
    failed: dict[Takes, str] = {}
    for takes, encoded, kept in possible_forms(columns):
        if takes in found or scorer.takes not in (None, takes):
            continue
        form = TorchForm(model, columns, takes, encoded=encoded, kept=kept)
        if not (failure := _failure(form, rows)):
            found[takes] = form
        else:  # the first variant says most
            failed.setdefault(takes, failure)
    if {"codes", "one-hot"} <= found.keys() and _looks_up(found["codes"], rows):
        found = {"codes": found["codes"]}
    return found[_only(scorer, [*found], failed, role)]


def _frame_form(scorer: OwnScorer, columns: RowColumns, rows: Rows, role: str) -> FrameForm:
    found: dict[Takes, FrameForm] = {}
    failed: dict[Takes, str] = {}
    _refuse_classifier(scorer, role)
    for takes in [scorer.takes] if scorer.takes else _likely_frames(scorer, columns, role):
        if takes in _CATEGORIES and found.keys() - {*_CATEGORIES}:
            continue  # what is fitted to values takes categoricals, too
        form = FrameForm(scorer, columns, takes)
        if failure := _failure(form, rows):
            failed[takes] = failure
        else:
            found[takes] = form
    for one, other in _ALIKE:
        if {one, other} <= found.keys() and _alike(found[one], found[other], rows):
            del found[other]
    return found[_only(scorer, [*found], failed, role)]


def _alike(first: FrameForm, second: FrameForm, rows: Rows) -> bool:
    """Whether two forms give the same answers, so that it does not matter which is meant."""
    one, other = (numbers_of(form.answer(*rows), len(rows[0])) for form in (first, second))
    return torch.equal(one, other)


def _likely_frames(scorer: OwnScorer, columns: RowColumns, role: str) -> list[Takes]:
    """Forms to try: by the names or the number of columns that a model was fitted to."""
    model = scorer.model
    frames: list[Takes] = ["numbers", "frame"] if columns.has_written_numbers else ["frame"]
    if (names := getattr(model, "feature_names_in_", None)) is not None:
        if unknown := [str(name) for name in names if name not in columns.names]:
            raise RunError(
                f"the {role} {scorer.name} was fitted to a column {unknown[0]!r}, which is no "
                f"feature or context of the table: it has {', '.join(columns.names)}"
            )
        return [*frames, *_CATEGORIES]
    fitted = getattr(model, "n_features_in_", None)
    if not scorer.predicts or fitted is None:
        return frames
    if fitted == len(columns.names):
        return ["codes"] if columns.codes_are_values else ["values", "codes"]
    if fitted == columns.one_hot_width:
        return ["one-hot"]
    raise RunError(
        f"the {role} {scorer.name} was fitted to {fitted} columns: rows have {len(columns.names)} "
        f"as codes or values, with their contexts, and {columns.one_hot_width} as one-hot blocks"
    )


_CATEGORIES: list[Takes] = ["text-categories", "categories"]
_ALIKE: list[tuple[Takes, Takes]] = [("numbers", "frame"), ("text-categories", "categories")]


def _refuse_classifier(scorer: OwnScorer, role: str) -> None:
    if scorer.predicts and hasattr(scorer.model, "predict_proba"):
        raise RunError(
            f"the {role} {scorer.name} is a classifier, whose predict gives classes: pass a "
            "function of a frame, such as lambda frame: model.predict_proba(frame)[:, 1]"
        )


def _failure(form: TorchForm | FrameForm, rows: Rows) -> str:
    """What a form failed of, in one line; nothing if it answered."""
    return _failed(lambda: form.answer(*rows), len(rows[0]))


def _failed(call: Callable[[], Any], count: int) -> str:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forms that are not the scorer's
            numbers_of(call(), count)
    except Exception as error:
        lines = f"{type(error).__name__}: {error}".splitlines()
        return lines[0][:200]
    return ""


def _looks_up(form: TorchForm, rows: Rows) -> bool:
    """Whether codes that no table has are an error: a model of one-hot rows would take them."""
    if rows[0].device.type != "cpu":  # an index out of range ends all work on a card
        return False
    beyond = form.known_codes(rows[0]) + 2 * form.space.width
    return bool(_failed(lambda: form(beyond, rows[1]), len(beyond)))


def _only(scorer: OwnScorer, found: list[Takes], failed: dict[Takes, str], role: str) -> Takes:
    """The one form that works."""
    if len(found) == 1:
        return found[0]
    forms = TENSORS if isinstance(scorer.model, nn.Module) else FRAMES
    if found:
        choices = "; ".join(f"{takes!r}, {forms[takes]}" for takes in found)
        raise RunError(
            f"the {role} {scorer.name} takes rows in several forms: say by OwnScorer(model, "
            f"takes=...) which is meant: {choices}"
        )
    tried = "; ".join(f"{takes!r} ({forms[takes]}): {why}" for takes, why in failed.items())
    others = ", ".join(repr(takes) for takes in forms if takes not in failed)
    more = f". Other forms are {others}: OwnScorer(model, takes=...)" if others else ""
    raise RunError(f"the {role} {scorer.name} takes rows in none of the forms tried: {tried}{more}")


def _no_derivative(form: TorchForm, rows: Rows) -> str:
    """Why a module has no derivative in a flat row; nothing if it has one."""
    codes, context = rows
    flat = form.columns.schema.space.one_hot(codes).requires_grad_()
    try:
        with torch.enable_grad():
            soft = numbers_of(form.answer(flat, context), len(flat))
            if not soft.requires_grad:
                return "no derivative reaches the row"
            torch.autograd.grad(soft.sum(), flat)
        hard = numbers_of(form.answer(codes, context), len(flat))
    except Exception as error:
        return str(error).splitlines()[0]
    error_size = (soft - hard).detach().abs().max()
    if error_size > _TOLERANCE * hard.detach().abs().max().clamp_min(1e-6):
        return f"answers to soft rows differ from those to codes by up to {error_size.item():.2g}"
    return ""
