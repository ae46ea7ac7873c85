"""Runs of a few steps with every setting at work, and all that they tell, as plain data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.data import Table, TableError, read_table
from discrete_grad.fitting import EstimatorConfig
from discrete_grad.preferences import (
    PreferenceConfig,
    Preferences,
    random_pairs,
    read_preferences,
    synthetic_preferences,
)
from discrete_grad.rules import AtMost, Forbid, Imply, Rules
from discrete_grad.runs import FitConfig, Rounds, Run, fit, load_run, prefer
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._polish import RunScore
from discrete_grad.runs._rows_to_try import rows_to_try
from discrete_grad.runs.report import _subject
from discrete_grad.sampling import seeded
from discrete_grad.training import RunError
from tests.kept_numbers import cut_small

Fit = Callable[[Path], Run]
_LOOP: dict[str, Any] = {
    "steps": 12,
    "batch_size": 16,
    "validate_every": 6,
    "checkpoint_every": 100,
}
_LOOP |= {"learning_rate": 0.03}
_SCORER = EstimatorConfig(**_LOOP, members=2, hidden=(6,), dim=3, families=("networks",))
CONTEXTS = {"shop": ["west", "east", "west"], "price": [0.25, 0.5, 0.25]}
"""Contexts that are asked for rows; one of them twice."""
BARE = FitConfig()
SETTINGS = FitConfig(
    seed=3,
    estimator=_SCORER,
    judge=replace(_SCORER, families=("pairs",)),
    aligner=replace(BARE.aligner, **_LOOP),
    reproduction=replace(BARE.reproduction, **_LOOP),
    preference=replace(BARE.preference, **_LOOP, members=2, hidden=(4,), dim=2),
    generator=replace(
        BARE.generator, **_LOOP, hidden=(5,), alignment=0.2, preference=0.5, reference_kl=0.1
    ),
)
"""Every term of the generator's loss has a weight."""


def rows(count: int = 60, *, aims: bool = False) -> Table:
    """Rows with a score, or with two aims, a threshold and failures; some stand there twice."""
    noise = seeded(1)
    cut, shade, size, shop = (torch.randint(k, (count,), generator=noise) for k in (3, 4, 2, 3))
    price, more = torch.rand((2, count), generator=noise)
    columns = {
        "cut": [("fair", "good", "ideal")[i] for i in cut.tolist()],
        "shade": shade.tolist(),
        "size": [("s", "l")[i] for i in size.tolist()],
        "shop": [("east", "north", "west")[i] for i in shop.tolist()],
        "price": [round(v, 1) for v in price.tolist()],
        "score": (10 * cut - 3 * shade + 7 * (size == shop) + price).tolist(),
    }
    given: dict[str, Any] = {"context": ["shop", "price"], "features": ["cut", "shade", "size"]}
    if not aims:
        return read_table(columns, score="score", **given)
    columns |= {
        "cost": (4 * shade + cut * size + more).tolist(),
        "purity": (0.3 * size + 0.2 * cut + 0.5 * more).tolist(),
        "ok": [
            s != 1 or value > 0.5 for s, value in zip(shade.tolist(), more.tolist(), strict=True)
        ],
    }
    names = ["score", "cost:min", "purity>=0.4"]
    return read_table(columns, score=names, feasible="ok", **given)


def answers(table: Table, count: int = 30) -> Preferences:
    """Answers of two who like dark rows; every fifth is a tie."""
    noise, place = seeded(2), torch.arange(count)
    pairs = random_pairs(table.codes, table.context, count, generator=noise)
    made = synthetic_preferences(lambda codes, _: codes[..., 1].double(), *pairs, generator=noise)
    outcome = torch.where(place % 5 == 0, 2, made.outcome)
    return replace(made, outcome=outcome, annotator=place % 2, annotators=("ann", "bob"))


def steps(folder: Path) -> Run:
    """A generator that writes step by step, under rules of contexts, with a calibrated bound."""
    generator = replace(
        SETTINGS.generator,
        policy="autoregressive",
        gradient_estimator="LeaveOneOut",
        coverage=0.5,
    )
    config = replace(SETTINGS, generator=generator, calibration_share=0.3, polish=True)
    rules = [
        Imply({"shop": "east"}, {"cut": ["fair", "good"]}),
        Forbid({"cut": "good", "shade": "0"}),
    ]
    table = rows()
    return fit(table, folder, config, rules=rules, preferences=answers(table))


def aims(folder: Path) -> Run:
    """Two aims, a threshold and rows that fail, under rules, near to observed rows."""
    generator = replace(SETTINGS.generator, trust=0.3, trust_radius=1.0, pessimism=0.2)
    config = replace(SETTINGS, generator=generator, maximise="mean")
    config = replace(config, estimator=config.judge, judge=_SCORER)
    table = rows(aims=True)
    rules = [AtMost(2, {"cut": "ideal", "shade": "3", "size": "l"})]
    return fit(table, folder, config, rules=rules, preferences=answers(table))


def scored(folder: Path) -> Run:
    """A black box that asks for minimised scores, and a judge trained on the table."""
    config = replace(SETTINGS, generator=replace(SETTINGS.generator, alignment=0.0, preference=0.0))
    return fit(rows(), folder, config, scorer=_answer)


def _answer(frame: Any) -> Any:
    return 5.0 * frame["shade"] - 2.0 * (frame["cut"] == "good") + frame["price"]


def plain(folder: Path) -> Run:
    """No contexts, equal rows with the median of their scores, polished rows."""
    table = rows(18)
    columns = table.schema.decode_features(table.codes) | {"score": table.scores.tolist()}
    config = replace(SETTINGS, maximise="median", polish=True)
    config = replace(config, judge=_SCORER)
    return fit(read_table(columns, score="score"), folder, config, source={"example": "small"})


SMALL: dict[str, Any] = {
    "_aim_facts._CONTEXTS": 2,
    "_aim_facts._EVALUATIONS": 30,
    "_aim_facts._FRONT": 5,
    "_aim_facts._GRID": 5,
    "_aim_facts._TRAINING": 3,
    "_belief.MOST_POINTS": 30,
    "_belief._PART": 4,
    "_calibrate._BASELINE_ROWS": 20,
    "_digests._HASHED": 7,
    "_estimates._SCORED": 2,
    "_guides._DRAWS": 9,
    "_next_rows._CANDIDATES": 6,
    "_next_rows._CROSSED": 4,
    "_next_rows._EVALUATIONS": 8,
    "_plausible._ROWS": 16,
    "_polish._MOST": 12,
    "_proposals._AGREED": 5,
    "_proposals._CODES": 1,
    "_proposals._LEAST": 1,
    "_proposals._LEAST_A_ROW": 4,
    "_scorer_stages._CONTEXTS": 5,
    "_scorer_stages._DRAWS": 60,
    "_trust._STARTS": 3,
    "prefer._MOST_FEATURES": 2,
    "prefer._POOL": 20,
    "pareto_front._DRAWS": 3,
    "pareto_front._EVALUATIONS": 10,
    "pareto_front._FEWEST": 8,
    "report._SOME": 7,
    "scorers._bound._ROWS": 5,
    "scorers._inspect._TRIED": 6,
    "scorers._loaded._COMPARED": 4,
}
"""Sizes at which searches, samples and parts are cut, so that their seeds and ends count."""


def prepare(patch: pytest.MonkeyPatch) -> None:
    """Cut searches and samples small, scale each shop by itself, and let an example be its name."""
    patch.setattr("discrete_grad.fitting.score_scale._MIN_GROUP", 8)
    quick = PreferenceConfig(members=2, hidden=(4,), dim=2, **_LOOP)
    cut_small(patch, "runs", SMALL | {"prefer._QUICK": quick})
    patch.setattr("discrete_grad.runs.report.load_example", lambda family: f"the table of {family}")


FITS = {"steps": steps, "aims": aims, "scored": scored, "plain": plain}
NEW = {"cut": ["ideal"], "shade": [3], "size": ["l"], "shop": ["west"], "price": [0.5]}
NEW |= {"score": [40.0], "cost": [1.0], "purity": [0.9], "ok": [True]}


# --- what a run tells -----------------------------------------------------------------------------


def told(fit: Fit, folder: Path) -> dict[str, Any]:
    """Everything that a run tells when it is loaded, a measurement among it, and its warnings."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fitted = fit(folder)
        run = load_run(folder, scorer=_answer if fitted.scorer_facts else None)
        made = {"fitted": models_of(fitted), **rows_of(run)}
        made |= {"report": subject_of(run), "models": models_of(run), "metrics": ends_of(run)}
        made |= {"settings": settings_of(run), "differentiable": RunScore(run).differentiable}
        made["calls"] = run.scorer_calls
        if run.aims is not None:
            again = run.tell(NEW)
            made["told"] = [len(again.table), models_of(again), ends_of(again)]
        made["preferred"] = preferred(run, folder.with_suffix(".parquet"))
    texts = [str(one.message) for one in heard if "discrete_grad" in one.category.__module__]
    return made | {"warnings": [text.replace(str(folder), "FOLDER") for text in texts]}


def rows_of(run: Run) -> dict[str, Any]:
    """Rows of every command."""
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
    if not run.scorer_facts:
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
    """Rows that rounds propose in contexts, under a rule, with failures; and of two aims."""
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
