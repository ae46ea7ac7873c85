"""Runs of a few steps with every setting at work, and all that they tell, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.data import Table, read_table
from discrete_grad.fitting import EstimatorConfig
from discrete_grad.preferences import (
    PreferenceConfig,
    Preferences,
    random_pairs,
    synthetic_preferences,
)
from discrete_grad.rules import AtMost, Forbid, Imply
from discrete_grad.runs import FitConfig, Run, fit
from discrete_grad.sampling import seeded
from tests.kept_numbers import cut_small
from tests.runs.untrained import untrained

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
    return fit(rows(), folder, config, scorer=answer)


def answer(frame: Any) -> Any:
    return 5.0 * frame["shade"] - 2.0 * (frame["cut"] == "good") + frame["price"]


def plain(folder: Path) -> Run:
    """No contexts, equal rows with the median of their scores, polished rows."""
    table = rows(18)
    columns = table.schema.decode_features(table.codes) | {"score": table.scores.tolist()}
    config = replace(SETTINGS, maximise="median", polish=True)
    config = replace(config, judge=_SCORER)
    return fit(read_table(columns, score="score"), folder, config, source={"example": "small"})


def limited(folder: Path) -> Run:
    """Rules of contexts, rows near to observed ones, polished; its models were not trained."""
    generator = replace(SETTINGS.generator, trust=0.3, trust_radius=1.0, pessimism=0.2)
    config = replace(SETTINGS, generator=generator, judge=_SCORER, polish=True)
    rules = [Imply({"shop": "east"}, {"cut": ["fair", "good"]})]
    table = rows()
    return untrained(table, folder, config, rules=rules, preferences=answers(table))


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
