"""The scorers of a finished run: given again, or missing until somebody names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from discrete_grad.data import Table
from discrete_grad.runs.scorers._bound import BoundScorer, MissingForm
from discrete_grad.runs.scorers._columns import RowColumns
from discrete_grad.runs.scorers._given import (
    ROLES,
    Role,
    Scorers,
    ask_table,
    bound_to,
    scored_table,
)
from discrete_grad.runs.scorers._kept import compare_answers, kept_answers, kept_facts
from discrete_grad.runs.scorers._reference import Given
from discrete_grad.runs.scorers.scorer import OwnScorer
from discrete_grad.training.checkpoint import RunError

__all__ = ["loaded_scorers"]

_COMPARED = 16


def loaded_scorers(
    folder: Path,
    settings: dict[str, Any] | None,
    table: Table,
    device: torch.device,
    given: dict[Role, Given | None],
) -> Scorers | None:
    """Those of a finished run; None for a run without.

    The folder may be anybody's, so that nothing is imported because its settings say so. One that
    is not given is missing: whoever asks it gets a RunError that says how to give it.

    Raises:
        RunError: if one is given to a run without, or answers otherwise than in the fit.
    """
    said = {role: (settings or {}).get(word) for role, word in ROLES.items()}
    for role, word in ROLES.items():
        if said[role] is None and given[role] is not None:
            raise RunError(f"{folder} was fitted without a {word}")
    roles = [role for role in ROLES if said[role] is not None]
    if not roles:
        return None
    answers = kept_answers(folder, roles, len(table))
    few = table.take(range(min(_COMPARED, len(table))))
    bound: dict[Role, BoundScorer] = {}
    references: dict[Role, str | None] = {}
    for role in roles:
        bound[role], references[role] = _again(folder, said[role], few, device, role, given[role])
        if given[role] is not None:
            compare_answers(bound[role], ask_table(bound[role], few), answers[role])
            bound[role].calls.clear()
    had_scores = bool(table.schema.score)
    table = scored_table(table, had_scores, answers)
    return Scorers(table, had_scores, bound, references, answers, kept_facts(folder))


def _again(
    folder: Path,
    said: Any,
    table: Table,
    device: torch.device,
    role: Role,
    given: Given | None,
) -> tuple[BoundScorer, str | None]:
    """A scorer that is given again, or one that is missing, as the settings say of it."""
    if given is not None:
        return bound_to(given, table, device, role, said["takes"])
    message = _how_to_give(folder, ROLES[role], said["name"], said["reference"])
    form = MissingForm(said["name"], said["takes"], message)
    columns = RowColumns(table.schema)
    missing = BoundScorer(OwnScorer(form), columns, form, device, ROLES[role])
    return missing, said["reference"]


def _how_to_give(folder: Path, word: str, name: str, reference: str | None) -> str:
    if reference is None:
        return (
            f"the {word} of {folder}, {name}, was given as an object: load_run(folder, {word}=...) "
            f"takes it again, and --{word} package.module:name one that can be imported"
        )
    return (
        f"the {word} of {folder} is asked for here, and is imported only when you name it, as its "
        f"code is run: --{word} {reference}, in Python load_run(folder, {word}={reference!r})"
    )
