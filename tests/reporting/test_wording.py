"""Sentences and numbers at the bounds where their words change."""

from typing import Any

import pytest

from discrete_grad.reporting import (
    format_table,
    verdict,
)
from discrete_grad.reporting.wording import (
    columns,
    contexts_text,
    decimals,
    fixed,
    has_judge,
    measure_of,
    number,
    percent,
    short,
    standing,
)


def test_numbers_have_as_many_places_as_the_largest_needs() -> None:
    assert [decimals([v]) for v in (0.0, 0.001, 0.5, 1.0, 9.99, 10.0, 1e5)] == [3, 6, 4, 3, 3, 2, 0]
    assert decimals([]) == decimals([None]) == 3
    assert decimals([None, -20.0, 3.0], 2) == 0
    assert [fixed(v, 2) for v in (None, -0.001, -1.0, 1e9, 999_999_999.0, 0.0)] == [
        "-",
        "0.00",
        "-1.00",
        "1e+09",
        "999,999,999.00",
        "0.00",
    ]
    assert (number(0.5, 2), number(-1234.5)) == ("0.50", "-1,234")
    assert [percent(s, 0) for s in (0.0, 0.001, 0.5, 0.999, 1.0, -0.1)] == [
        "0%",
        "1%",
        "50%",
        "99%",
        "100%",
        "-10%",
    ]
    assert [standing(p) for p in (0.5, 0.4999, 0.1, 0.9)] == [
        "top 50%",
        "bottom 50%",
        "bottom 10%",
        "top 10%",
    ]
    assert [short("abcdef", limit) for limit in (6, 5, 3)] == ["abcdef", "abc…f", "a…f"]
    assert len(short("x" * 99)) == 36


@pytest.mark.parametrize(
    ("shown", "there", "text"),
    [
        (1, None, "1 context"),
        (2, None, "2 contexts"),
        (2, 2, "2 contexts"),
        (1, 1200, "1 of 1,200 contexts"),
        (1000, None, "1,000 contexts"),
    ],
)
def test_contexts_are_counted(shown: int, there: int | None, text: str) -> None:
    known = {} if there is None else {"contexts_in_table": there}
    assert contexts_text({"contexts": [0] * shown, **known}) == text


def entry(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "kind": "row", **values}


def report_of(row: dict[str, Any], best: dict[str, Any], **more: Any) -> dict[str, Any]:
    rows = [entry("best training row", **best), entry("g, most likely row", **row)]
    known = {"policies": ["g"], "average": rows, "contexts": [{"entries": rows}] * 2}
    known |= {"has_truth": False, "samples": 1, "features": [{}]}
    return known | more


@pytest.mark.parametrize(
    ("truth", "gap", "told"),
    [
        (True, -0.5, "and 2.500 in truth: the estimator is 0.50 too low."),
        (True, 0.5, "and 1.500 in truth: the estimator is 0.50 too high."),
        (False, -0.5, "2.500 by the judge: the estimator is 0.50 below the judge."),
        (False, 0.5, "1.500 by the judge: the estimator is 0.50 above the judge."),
        (False, 0.0, "2.000 by the judge: the estimator is level with the judge."),
        (True, 0.0, "and 2.000 in truth: the estimator is exactly right."),
    ],
)
def test_the_error_of_the_estimator_has_a_direction(truth: bool, gap: float, told: str) -> None:
    row = {"estimated": 2.0, "judged": 2.0 - gap, "true": 2.0 - gap, "true_percentile": 0.5}
    report = report_of(row, {"judged": 2.0 - gap, "true": 1.0}, has_truth=truth)
    sentence = verdict(report)[1]
    assert sentence.startswith("It scores 2.000 by the estimator, ")
    assert sentence.endswith(told)


def test_a_tie_is_no_win_and_what_is_not_known_is_not_counted() -> None:
    report = report_of({"judged": 1.0}, {"judged": 1.0})
    assert verdict(report)[1].endswith(
        "better for the judge than the context's best training row in 0 of 2 contexts."
    )
    report["contexts"].append({"entries": report_of({}, {"judged": 1.0})["average"]})
    report["contexts"].append({"entries": report_of({"judged": 1.0}, {})["average"]})
    assert "in 0 of 2 contexts" in verdict(report)[1]
    report["contexts"][1:] = []
    assert not any("contexts." in sentence for sentence in verdict(report))
    alone = report_of({"estimated": 3.0}, {"estimated": 1.0}, has_judge=False)
    assert verdict(alone) == [
        "The g's most likely row has a score of 3.000 (average over 2 contexts); best training "
        "row: 1.000.",
        "It is better than the context's best training row in 2 of 2 contexts.",
        "There is no judge and the truth is not known: all scores are those of the scorer.",
    ]
    assert (measure_of(alone), measure_of(report), has_judge({})) == ("estimated", "judged", True)


@pytest.mark.parametrize(
    ("share", "rows"), [(0.25, "one and the same row"), (0.5, "2 different rows")]
)
def test_samples_that_are_all_the_same_are_one_row(share: float, rows: str) -> None:
    report = report_of({"judged": 1.0}, {"judged": 1.0}, samples=4, features=[{}] * 2)
    report["average"].append(entry("g, samples", distinct_share=share, nearest_mean=0.5))
    assert verdict(report)[2] == (
        f"Its 4 samples hold {rows} in each context; they differ from the most similar training "
        "row in 0.5 of 2 features on average."
    )


def test_tables_are_shown_for_at_most_six_contexts() -> None:
    rows = [entry("a", estimated=1.5), entry("b", estimated=10.0)]
    for count, blocks in ((1, 1), (2, 3), (6, 7), (7, 1)):
        report = {"score_name": "s", "average": rows, "minimised": True}
        report["contexts"] = [{"label": f"c{i}", "entries": rows} for i in range(count)]
        assert len(format_table(report).split("\n\n")) == blocks
    samples = {"kind": "samples", "nearest_mean": 1.5, "nearest_min": 1.0}
    assert columns([entry("a", nearest_mean=2.0, nearest_min=2.0), {"name": "b", **samples}]) == (
        ["nearest"],
        [["2"], ["1.5 (1)"]],
    )
    assert columns([entry("a", nearest_mean=2.0, nearest_min=None)]) == ([], [[]])


def test_where_the_place_of_the_true_score_is_not_known_the_judge_is_told() -> None:
    report = report_of({"judged": 2.0, "true": 3.0}, {"judged": 1.0}, has_truth=True)
    assert verdict(report)[0] == (
        "The g's most likely row has a judge's score of 2.000 (average over 2 contexts); best "
        "training row: 1.000."
    )
