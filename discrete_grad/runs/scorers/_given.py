"""The scorer and the judge that a fit is given, with their answers to the rows of its table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
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
from discrete_grad.runs.scorers._model import ScorerModel, answer_scale
from discrete_grad.runs.scorers._reference import Given, resolved
from discrete_grad.training.checkpoint import RunError, load_tensors, save_tensors, write_atomically

__all__ = ["ROLES", "Role", "Scorers", "given_scorers", "loaded_scorers"]

_ANSWERS = "scorer.safetensors"
_FACTS = "scorer.json"
_NAMES = ("scorer", "scorer's", "answer of the scorer")  # of the score of a table without
_COMPARED = 16
_SAME = 1e-3  # of the spread of the answers

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
        save_tensors(folder / _ANSWERS, {str(role): a for role, a in self.answers.items()}, {})

    def kept(self, folder: Path) -> Scorers:
        """The same with the answers and counts that a folder keeps.

        Raises:
            RunError: if the folder's are of another scorer.
        """
        kept = _kept_answers(folder, self.bound, len(self.table))
        for role, mine in self.answers.items():
            _compare(self.bound[role], mine, kept[role])
        scorers = replace(self, answers=kept, table=_scored(self.table, self.had_scores, kept))
        scorers.facts.update(_facts(folder))
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
        write_atomically(folder / _FACTS, json.dumps(self.facts, indent=1).encode())


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
    return _asked(named, {}, table, device)


def loaded_scorers(
    folder: Path,
    settings: dict[str, Any] | None,
    table: Table,
    device: torch.device,
    given: dict[Role, Given | None],
) -> Scorers | None:
    """Those of a finished run, imported where they are not given; None for a run without.

    Raises:
        RunError: if one is given to a run without, or is neither given nor imported by the run, or
            answers otherwise than in the fit.
    """
    named: dict[Role, Given] = {}
    takes: dict[Role, Any] = {}
    for role, word in ROLES.items():
        said = (settings or {}).get(word)
        if said is None:
            if given[role] is not None:
                raise RunError(f"{folder} was fitted without a {word}")
            continue
        found = said["reference"] if given[role] is None else given[role]
        if found is None:
            raise RunError(
                f"the {word} of {folder}, {said['name']}, was given as an object: "
                f"load_run(folder, {word}=...) takes it again, and a fit by a reference "
                f"package.module:name finds it by itself"
            )
        named[role], takes[role] = found, said["takes"]
    if not named:
        return None
    few = table.take(range(min(_COMPARED, len(table))))
    return _restored(folder, _asked(named, takes, few, device), table)


def _restored(folder: Path, few: Scorers, table: Table) -> Scorers:
    answers = _kept_answers(folder, few.bound, len(table))
    for role, mine in few.answers.items():
        _compare(few.bound[role], mine, answers[role])
    scored = _scored(table, few.had_scores, answers)
    few.scorer.calls.clear()
    return replace(few, table=scored, answers=answers, facts=_facts(folder))


def _asked(
    named: dict[Role, Given], takes: dict[Role, Any], table: Table, device: torch.device
) -> Scorers:
    bound: dict[Role, BoundScorer] = {}
    references: dict[Role, str | None] = {}
    for role, given in named.items():
        scorer, references[role] = resolved(given, ROLES[role])
        scorer = replace(scorer, takes=takes.get(role, scorer.takes))
        bound[role] = bind(scorer, table, device, ROLES[role])
        bound[role].purpose = "rows of the table"
    answers = {role: _answers(one, table) for role, one in bound.items()}
    had_scores = bool(table.schema.score)
    table = _scored(table, had_scores, answers)
    return Scorers(table, had_scores, bound, references, answers)


@torch.no_grad()
def _answers(bound: BoundScorer, table: Table) -> Tensor:
    codes = table.codes.long().to(bound.device)
    context = None if table.context is None else table.context.to(bound.device)
    return bound(codes, context).double().cpu()


def _scored(table: Table, had_scores: bool, answers: dict[Any, Tensor]) -> Table:
    """The table, with the scorer's answers as the scores where it has none."""
    if had_scores:
        return table
    taken = {column.name for column in (*table.schema.features, *table.schema.context)}
    schema = replace(table.schema, score=next(name for name in _NAMES if name not in taken))
    return replace(table, schema=schema, scores=answers["estimator"])


def _compare(bound: BoundScorer, mine: Tensor, kept: Tensor) -> None:
    """RunError where answers differ from those to the first of the kept rows."""
    allowed = _SAME * kept.std(correction=0).clamp_min(torch.finfo(torch.float32).eps)
    if len(differ := ((mine - kept[: len(mine)]).abs() > allowed).nonzero()):
        place = int(differ[0])
        raise RunError(
            f"{bound.role} is not that of the fit: to row {place + 1} of the table it answers "
            f"{mine[place].item():.6g}, and answered {kept[place].item():.6g}"
        )


def _kept_answers(folder: Path, roles: Iterable[Role], count: int) -> dict[Role, Tensor]:
    found, _ = load_tensors(path := folder / _ANSWERS)
    for role in roles:
        if role not in found or found[role].shape != (count,):
            raise RunError(f"{path} does not fit the run's table")
    return {role: found[role] for role in roles}


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / _FACTS
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(found, dict):
            raise ValueError(f"it must be a table, got {type(found).__name__}")
        return found
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
