"""The scorer and the judge that a fit is given, with their answers to the rows of its table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from discrete_grad.data import Table
from discrete_grad.evaluation import spearman
from discrete_grad.fitting.score_scale import ScoreScale
from discrete_grad.fitting.units import ScoreUnits
from discrete_grad.runs.scorers._bound import BoundScorer
from discrete_grad.runs.scorers._inspect import bind
from discrete_grad.runs.scorers._kept import (
    ANSWERS,
    FACTS,
    compare_answers,
    kept_answers,
    kept_facts,
)
from discrete_grad.runs.scorers._model import ScorerModel, answer_scale
from discrete_grad.runs.scorers._reference import Given, resolved
from discrete_grad.runs.scorers.scorer import Takes
from discrete_grad.training.checkpoint import RunError, save_tensors, write_atomically

__all__ = ["ROLES", "Role", "Scorers", "ask_table", "bound_to", "given_scorers", "scored_table"]

_NAMES = ("scorer", "scorer's", "answer of the scorer")  # of the score of a table without

Role = Literal["estimator", "judge"]
ROLES: dict[Role, str] = {"estimator": "scorer", "judge": "judge"}


@dataclass(frozen=True, eq=False)
class Scorers:
    """The scorer of a fit, and the judge if it is given, too.

    Args:
        table: with the scorer's answers as scores where it had none.
        had_scores: whether it had some.
        bound: by role; `estimator` is the scorer.
        references: where each is imported from; None for a model that was given as it is.
        answers: of each to the table's rows, `(N,)`, float64.
        facts: `calls` by purpose and, of a scorer without derivative, the `comparison`.
    """

    table: Table
    had_scores: bool
    bound: dict[Role, BoundScorer]
    references: dict[Role, str | None]
    answers: dict[Role, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def scorer(self) -> BoundScorer:
        """The scorer."""
        return self.bound["estimator"]

    @property
    def trains_judge(self) -> bool:
        """Whether the judge is trained on the table's scores."""
        return self.had_scores and "judge" not in self.bound

    @property
    def settings(self) -> dict[str, Any]:
        """What a run's folder says of them, JSON."""
        return {
            ROLES[role]: {
                "name": one.scorer.name,
                "reference": self.references[role],
                "takes": one.form.takes,
            }
            for role, one in self.bound.items()
        }

    @cached_property
    def models(self) -> dict[Role, ScorerModel]:
        """They as models of scaled scores."""
        schema = self.table.schema
        return {r: ScorerModel(b, schema, self.scales[r]) for r, b in self.bound.items()}

    @cached_property
    def scales(self) -> dict[Role, ScoreScale]:
        """Scale of each one's answers, more being better."""
        sign, context = self.table.schema.signs[0], self.table.context
        return {r: answer_scale(b, sign * self.answers[r], context) for r, b in self.bound.items()}

    def units(self, observed: ScoreScale) -> dict[Role, ScoreUnits]:
        """From what each model predicts to its answer; the table's scores have a scale."""
        schema = self.table.schema
        return {r: ScoreUnits(schema, observed, s, exact=True) for r, s in self.scales.items()}

    def agreement(self) -> float | None:
        """Rank correlation of the scorer's answers with the table's scores; None without any."""
        if not self.had_scores:
            return None
        observed = self.table.schema.in_units(self.table.scores)
        found = spearman(self.answers["estimator"], observed)
        return None if found != found else found

    def save(self, folder: Path) -> None:
        """Write the answers."""
        save_tensors(folder / ANSWERS, {str(role): a for role, a in self.answers.items()}, {})

    def kept(self, folder: Path) -> Scorers:
        """The same with the answers and counts that a folder keeps.

        Raises:
            RunError: if the folder's are of another scorer.
        """
        kept = kept_answers(folder, self.bound, len(self.table))
        for role, mine in self.answers.items():
            compare_answers(self.bound[role], mine, kept[role])
        scorers = replace(self, answers=kept, table=scored_table(self.table, self.had_scores, kept))
        scorers.facts.update(kept_facts(folder))
        return scorers

    def begin(self, purpose: str) -> None:
        """Count the calls from now on for a purpose."""
        for one in self.bound.values():
            one.purpose = purpose

    def save_facts(self, folder: Path) -> None:
        """Write the facts, with the calls since they were last written."""
        before = Counter(self.facts.get("calls", {}))
        self.facts["calls"] = dict(before + self.scorer.calls)
        self.scorer.calls.clear()
        write_atomically(folder / FACTS, json.dumps(self.facts, indent=1).encode())


def given_scorers(
    scorer: Given | None, judge: Given | None, table: Table, device: torch.device
) -> Scorers | None:
    """What a fit is given, bound to its table and asked about all its rows; None without a scorer.

    Raises:
        RunError: for a table without scores and no scorer, a judge without a scorer, a reference
            that cannot be imported, a scorer that takes the rows in no form or in several, or that
            fails.
    """
    if scorer is None:
        if judge is not None:
            raise RunError("a judge is given along with a scorer, and there is none")
        if not table.schema.score:
            raise RunError("the table has no score: name its column, or give a scorer of the rows")
        return None
    named: dict[Role, Given] = {"estimator": scorer}
    if judge is not None:
        named["judge"] = judge
    bound: dict[Role, BoundScorer] = {}
    references: dict[Role, str | None] = {}
    for role, given in named.items():
        bound[role], references[role] = bound_to(given, table, device, role)
    answers = {role: ask_table(one, table) for role, one in bound.items()}
    had_scores = bool(table.schema.score)
    table = scored_table(table, had_scores, answers)
    return Scorers(table, had_scores, bound, references, answers)


def bound_to(
    given: Given, table: Table, device: torch.device, role: Role, takes: Takes | None = None
) -> tuple[BoundScorer, str | None]:
    """A scorer in the form that it takes, or is said to take, and where it is imported from."""
    scorer, reference = resolved(given, ROLES[role])
    bound = bind(replace(scorer, takes=takes or scorer.takes), table, device, ROLES[role])
    bound.purpose = "rows of the table"
    return bound, reference


@torch.no_grad()
def ask_table(bound: BoundScorer, table: Table) -> Tensor:
    """Answers `(N,)`, float64, to the rows of a table."""
    codes = table.codes.long().to(bound.device)
    context = None if table.context is None else table.context.to(bound.device)
    return bound(codes, context).double().cpu()


def scored_table(table: Table, had_scores: bool, answers: dict[Role, Tensor]) -> Table:
    """The table, with the scorer's answers as the scores where it has none."""
    if had_scores:
        return table
    taken = {column.name for column in (*table.schema.features, *table.schema.context)}
    schema = replace(table.schema, score=next(name for name in _NAMES if name not in taken))
    return replace(table, schema=schema, scores=answers["estimator"])
