"""All that a run tells, as plain data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.data import TableError
from discrete_grad.preferences import (
    read_preferences,
)
from discrete_grad.rules import AtMost, Rules
from discrete_grad.runs import Rounds, Run, load_run, prefer
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._polish import RunScore
from discrete_grad.runs._rows_to_try import rows_to_try
from discrete_grad.runs._run_html import run_html
from discrete_grad.runs.report import _subject
from discrete_grad.training import RunError
from tests.runs.handed import handed_over
from tests.runs.snapshots import CONTEXTS, NEW, Fit, answer, limited, rows


def told(fit: Fit, folder: Path) -> dict[str, Any]:
    """Everything that a run tells when it is loaded, a measurement among it, and its warnings."""

    def tell() -> dict[str, Any]:
        fitted = fit(folder)
        run = load_run(folder, scorer=answer if fitted.scorer_facts else None)
        made = {"fitted": models_of(fitted), **rows_of(run)}
        made |= {"report": subject_of(run), "models": models_of(run), "metrics": ends_of(run)}
        made |= {"settings": settings_of(run), "differentiable": RunScore(run).differentiable}
        made["calls"] = run.scorer_calls
        made["shown"] = [text.replace(str(folder), "FOLDER") for text in (repr(run), run_html(run))]
        if run.aims is not None:
            again = run.tell(NEW)
            made["told"] = [len(again.table), models_of(again), ends_of(again)]
        made["preferred"] = preferred(run, folder.with_suffix(".parquet"))
        return made

    return _noted(folder, tell)


def told_untrained(folder: Path) -> dict[str, Any]:
    """What is made with a run of models that were not trained, whose rows have every limit."""

    def tell() -> dict[str, Any]:
        run = limited(folder)
        made = {**rows_of(run, proposed=False), "report": subject_of(run), "models": models_of(run)}
        return made | {"preferred": preferred(run, folder.with_suffix(".parquet"))}

    return _noted(folder, tell)


def _noted(folder: Path, tell: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is told, with its warnings and all that was handed to other rooms."""
    with warnings.catch_warnings(record=True) as heard, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        handed = handed_over(patch)
        made = tell()
    texts = [str(one.message) for one in heard if "discrete_grad" in one.category.__module__]
    texts = [text.replace(str(folder), "FOLDER") for text in texts]
    return made | {"warnings": texts, "handed": handed}


def rows_of(run: Run, *, proposed: bool = True) -> dict[str, Any]:
    """Rows of every command; those of a round take seconds."""
    given = None if run.table.context is None else CONTEXTS
    own = run.table.schema.decode_features(run.table.codes[:3]) | (given or {})
    lines = {**(given or {"size": ["l", "s", "l"]}), "cut": ["ideal", None, "fair"]}
    made = {
        "generated": run.generate(given, rows=3, diversity=2, seed=4),
        "again": run.generate(given, rows=2, new_only=False, fix="size=l"),
        "lines": run.generate(lines, rows=9, observed="cut,size"),
        "edits": run.edit(own, edits=3, seed=1, fix=["size=l", "cut=fair"]),
        "swaps": run.swaps(own),
        "own": run.score(own),
    }
    if run.aims is not None:
        made["front"] = run.generate(given, front=3, new_only=False)
        made["at"] = run.generate(given, rows=1, tradeoff={"score": 0.2, "cost": 0.8})
    wrong = {
        "rows": lambda: run.generate(given, rows=0),
        "diversity": lambda: run.generate(given, rows=1, diversity=4),
        "front": lambda: run.generate(given, front=0),
        "trade-off": lambda: run.generate(given, tradeoff={"score": 0.7, "cost": 0.1}),
        "both": lambda: run.generate(given, front=1, tradeoff={"score": 1.0}),
        "rule": lambda: run.generate(given, forbid=["size=l & shop=east", "size=s & shop=east"]),
        "edits": lambda: run.edit(own, edits=0),
        "too few": lambda: run.edit(own, edits=1, fix=["size=l", "cut=fair", "shade=0"]),
        "propose": lambda: run.propose(given, rows=0),
        "explore": lambda: run.propose(given, explore=-1.0),
        "tell": lambda: run.tell(own),
    }
    if proposed and not run.scorer_facts:
        made["proposed"] = run.propose(given, rows=3, explore=2.0)
    found = {name: columns_of(frame) for name, frame in made.items()}
    return found | {"try": rows_to_try(run), "wrong": {n: refusal(f) for n, f in wrong.items()}}


def preferred(run: Run, path: Path) -> list[Any]:
    """Pairs as they are shown to two annotators, one after the other, and their answers."""
    shown: list[str] = []
    for name, keys, seed in (("ann", "12t?s1221T12", 3), ("bob", "s 2q", 4)):
        asked = iter(keys)

        def ask(prompt: str, asked: Iterator[str] = asked) -> str:
            shown.append(prompt)
            return next(asked)

        answered = prefer(run, path, ask=ask, show=shown.append, annotator=name, pairs=9, seed=seed)
        shown.append(f"{name}: {answered}")
    kept = read_preferences(path, run.table.schema)
    columns = (kept.first, kept.second, kept.outcome, kept.who)
    return [*shown, *(column.tolist() for column in columns), *kept.annotators]


def rounds(choose: Any) -> dict[str, Any]:
    """Rows that rounds propose in contexts, under a rule, with failures, and what they ask."""
    with pytest.MonkeyPatch.context() as patch:
        handed = handed_over(patch)
        return _rounds(choose) | {"handed": handed}


def _rounds(choose: Any) -> dict[str, Any]:
    """Rows, and those of two aims."""
    table = rows(30)
    space, spec = table.schema.space, table.schema.context_spec
    assert table.context is not None
    rules = Rules(space, [AtMost(2, {"cut": "ideal", "shade": "3", "size": "l"})])
    made = Rounds(space, spec, rules=rules, explore=0.7, choose=choose, seed=5)
    scores = table.scores.clone()
    scores[::7] = torch.nan
    found: list[Any] = [made.propose(3, table.context[0]).tolist()]
    made.tell(table.codes, scores, table.context)
    found += [made.propose(4, context).tolist() for context in table.context[:2]]
    made.tell(torch.tensor(found[-1]), torch.arange(4.0), table.context[1])
    found += [made.propose(2, table.context[1]).tolist(), [*map(str, made.best())]]
    several = Rounds(space, choose=choose)
    told = torch.stack([table.scores, table.codes[:, 1].double() - table.codes[:, 0]], 1)
    several.tell(table.codes[:12], told[:12])
    return {"one": found, "several": [several.propose(5).tolist(), several.front()[0].tolist()]}


def refusal(call: Callable[[], object]) -> str:
    """What a call that is refused is told."""
    with pytest.raises((RunError, TableError, ValueError)) as told:
        call()
    return f"{type(told.value).__name__}: {told.value}"


def settings_of(run: RunParts) -> dict[str, Any]:
    """What the folder says of the fit, but for its configuration."""
    kept = json.loads((run.folder / "config.json").read_text())
    assert kept.pop("version") == version("discrete_grad")
    return {name: value for name, value in kept.items() if name != "config"}


def ends_of(run: RunParts) -> dict[str, float]:
    """The last number that was logged under each name."""
    return {name: number for line in run.metrics() for name, number in line.items()}


def columns_of(frame: Any) -> dict[str, list[Any]]:
    """A frame as plain lists."""
    return {name: frame[name].tolist() for name in frame}


@torch.no_grad()
def subject_of(run: RunParts) -> dict[str, Any]:
    """What the report is given."""
    subject = _subject(run)
    contexts = None if subject.contexts is None else subject.contexts[:2]
    codes = run.table.codes[:2].long()
    plain = ("labels", "estimator_facts", "rules_facts", "together_facts", "aims_facts")
    found = {name: getattr(subject, name) for name in (*plain, "contexts_in_table")}
    policies = subject.policies | {f"step {k}": p for k, p in subject.trail.items()}
    policies |= {} if subject.uniform is None else {"uniform": subject.uniform}
    found["policies"] = {n: p.log_prob(codes, contexts).tolist() for n, p in policies.items()}
    found["held out"] = {
        n: [len(part), float(part.scores.sum())] for n, part in subject.held_out.items()
    }
    found["observed"] = [len(subject.observed.codes), float(subject.observed.scores.sum())]
    found["estimates"] = [
        None if model is None else model(codes, contexts).tolist()
        for model in (subject.estimator, subject.judge)
    ]
    if subject.truth is not None:
        found["truth"] = [subject.truth.example, *subject.truth.datasets]
    found["settings"] = [*subject.settings]
    return found


@torch.no_grad()
def models_of(run: RunParts) -> dict[str, Any]:
    """Predictions of each model for two rows of the table."""
    codes, context = run.table.codes[:2].long(), None
    if run.table.context is not None:
        context = run.table.context[:2]
    found: dict[str, Any] = {"guidance": [run.pessimism, run.reward_unit, run.held_out]}
    found["objective"] = run.objective(context)(codes).tolist()
    for name in ("estimator", "judge", "preference"):
        if (model := getattr(run, name)) is not None:
            found[name] = model.predictions(codes, context).tolist()
    for name in ("reference", "naive", "independent", "generator"):
        if (policy := getattr(run, name)) is not None:
            found[name] = policy.log_prob(codes, context).tolist()
    if run.aligner is not None:
        found["aligner"] = run.aligner(codes, codes.flip(0), context).tolist()
    return found
