"""What the report says of the functional, the estimator and estimates beyond the observed."""

from typing import Any

import pytest
import torch

from discrete_grad.reporting import (
    beyond_sentences,
    build_report,
    estimator_sentences,
    maximised_sentences,
    render_html,
)
from tests.evaluation.subjects import make_subject

FACTS: dict[str, Any] = {
    "maximises": "rank",
    "rows": 1200,
    "settings": {
        "batch_size": 64,
        "steps": 2000,
        "weight_decay": 0.3,
        "hidden": (64, 64),
        "members": 4,
    },
    "families": {"networks": 0.572, "kernel": 0.0, "anova": 0.05},
    "held_out": {"rows": 600, "spearman": 0.71, "baseline": -0.05},
    "still_improving": True,
    "numeric_contexts": {"carat": (0.2, 5.01)},
}


def test_every_fact_is_told_in_a_line() -> None:
    assert estimator_sentences({"estimator": FACTS}) == [
        "Estimator: rank correlation with the score .710 on 600 held-out rows; of a model that "
        "only adds effects of single columns -.050.",
        "Trained on 1,200 rows: 4 members, batches of 64, at most 2,000 steps, weight decay .3, "
        "layers of 64, 64.",
        "Families by weight: networks .57, anova .05; left out: kernel.",
        "Still improving at the last step: more steps may help.",
        "Numeric contexts of the training rows: carat from 0.2 to 5.01; far outside, estimates "
        "are guesses.",
    ]


def test_what_is_not_known_is_not_told() -> None:
    assert estimator_sentences({}) == maximised_sentences({}) == []
    less = {**FACTS, "held_out": {}, "still_improving": False, "numeric_contexts": {}}
    assert len(estimator_sentences({"estimator": less})) == 2
    undefined = {**FACTS, "held_out": {"rows": 9, "spearman": None, "baseline": None}}
    assert not any("correlation" in line for line in estimator_sentences({"estimator": undefined}))


@pytest.mark.parametrize(
    ("functional", "words"),
    [("rank", "mean rank of"), ("mean", "mean of"), ("median", "median of")],
)
@pytest.mark.parametrize("minimised", [False, True])
def test_the_functional_is_named_with_its_direction(
    functional: str, words: str, minimised: bool
) -> None:
    facts = {"maximises": functional}
    report = {"score_name": "cost", "minimised": minimised, "estimator": facts}
    (sentence,) = maximised_sentences(report)
    verb = "minimise" if minimised else "maximise"
    assert sentence.startswith(f"Generated rows {verb} the {words} 'cost': ")


@pytest.mark.parametrize("minimised", [False, True])
def test_rows_estimated_beyond_the_best_score_are_counted(minimised: bool) -> None:
    # of the rows of 4 contexts those whose scaled score is above the third highest
    subject = make_subject(contexts=4)
    scaled = [
        subject.estimator(subject.space.argmax(p(subject.contexts)), subject.contexts)
        for p in subject.policies.values()
    ]
    line = torch.cat(scaled).sort(descending=True).values[2]
    marked = make_subject(
        contexts=4,
        estimator_facts=FACTS,
        outside=lambda s, context: (s > line).long() - (s < -99).long(),
    )
    report = build_report(marked, samples=16)
    report["minimised"] = minimised
    rows = [
        entry
        for context in report["contexts"]
        for entry in context["entries"]
        if entry["kind"] == "row"
    ]
    count = sum(entry["beyond_observed"] == 1 for entry in rows)
    assert 2 <= count < len(rows)
    (sentence,) = beyond_sentences(report)
    assert sentence.startswith(f"{count} of the {len(rows)} rows shown have estimates beyond the")
    assert f"the {'lowest' if minimised else 'highest'} observed score is given" in sentence
    page = render_html(report)
    assert sentence.split(".")[0] in page
    assert "Generated rows m" in page
    assert 'id="estimator"' in page
    assert "networks .57" in page


def test_without_marks_nothing_is_said() -> None:
    report = build_report(make_subject(), samples=8)
    assert report["estimator"] == {}
    assert beyond_sentences(report) == []
    assert 'id="estimator"' not in render_html(report)
    # a worse score than all observed is not beyond the best
    worse = make_subject(outside=lambda scaled, context: -torch.ones_like(scaled).long())
    assert beyond_sentences(build_report(worse, samples=8)) == []


def test_the_judge_has_units_of_its_own() -> None:
    subject = make_subject(judge_to_units=lambda scaled, context: 1000 + scaled.double())
    for context in build_report(subject, samples=8)["contexts"]:
        for entry in context["entries"]:
            assert 900 < entry["judged"] < 1100
            assert entry["estimated"] < 900
