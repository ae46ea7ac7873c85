"""Training of a student: where it is done, and what looks at it."""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from discrete_grad.data import ScoredRows
from discrete_grad.fitting import learn_teacher
from discrete_grad.training import Checkpoint, JsonLinesLog
from tests.fitting.test_teacher import QUICK, SMALL, TABLES, Recording, additive, table
from tests.pretended_card import CARD, pretended_card


def test_a_teacher_is_asked_on_the_cpu_and_its_student_is_where_the_rows_are() -> None:
    teacher = Recording(additive)
    with pretended_card():
        student, _ = learn_teacher(SMALL, teacher, table(SMALL).to(CARD), count=200, config=TABLES)
        assert student.weights.device == CARD
        assert {codes.device.type for codes in teacher.codes} == {"cpu"}


def test_what_looks_at_the_training_is_handed_on(tmp_path: Path) -> None:
    config = replace(QUICK, families=("networks",), steps=4, validate_every=2, checkpoint_every=2)
    steps, logged = [], {}
    state = Checkpoint(tmp_path / "state.safetensors", JsonLinesLog(tmp_path / "log.jsonl"))
    learn_teacher(
        SMALL,
        additive,
        config=config,
        log=lambda metrics, step: logged.update({step: set(metrics)}),
        checkpoint=state,
        callback=lambda model, step: steps.append(step),
    )
    assert steps == [0, 1, 2, 3, 4]
    assert list(logged) == [2, 4]
    assert {"teacher/loss", "teacher/held_out_loss"} <= logged[4]
    assert state.path.exists()


def test_a_student_learns_answers_of_mean_0_and_variance_1(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ScoredRows] = []
    module = sys.modules["discrete_grad.fitting.teacher"]
    monkeypatch.setattr(module, "fit_estimator", lambda model, rows, **named: seen.append(rows))
    learn_teacher(SMALL, additive, count=200, config=TABLES)
    scores = seen[0].scores.double()
    assert len(scores) == SMALL.num_rows
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scores.square().mean()) == pytest.approx(1, abs=1e-5)
    assert inspect.signature(learn_teacher).parameters["count"].default == 100_000
