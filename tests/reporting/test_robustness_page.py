"""The page's section on perturbed contexts."""

from html import escape
from typing import Any

import pytest
import torch

from discrete_grad.reporting import build_report, render_html
from discrete_grad.reporting._robustness_page import (
    robustness_sentences,
    robustness_table,
    robustness_text,
)
from tests.evaluation.planted import MIXED, mixed_contexts, planted, sharp


def mixed_part() -> Any:
    shown = mixed_contexts(12)
    table = torch.nn.functional.one_hot((shown[:, 6] > 0).long(), 4).float()
    policy = lambda context: sharp((context[:, 6] > 0).long())  # noqa: E731
    report = build_report(planted(MIXED, shown, table, policy), samples=4)
    return report["robustness"], render_html(report)


def test_the_page_has_a_line_for_each_perturbation_and_the_worst_column_first() -> None:
    part, html = mixed_part()
    section = html[html.index('id="robustness"') : html.index('id="probabilities"')]
    lines = section.split("<tr>")[2:]
    assert len(lines) == 1 + len(part["perturbed"])
    assert "the context itself" in lines[0]
    labels = [line.split('title="')[1].split('"')[0] for line in lines]
    assert labels[1:11] == [
        "all numeric columns: noise 0.1",
        "all numeric columns: noise 0.3",
        "all numeric columns: noise 1",
        "all categorical columns: 10% replaced",
        "all categorical columns: 30% replaced",
        "all categorical columns: 100% replaced",
        "all numeric columns: 1 below the range",
        "all numeric columns: 1 above the range",
        "all numeric columns: 3 below the range",
        "all numeric columns: 3 above the range",
    ]
    assert all(label.startswith("weight: ") for label in labels[11:14])
    for sentence in robustness_sentences(part):
        assert escape(sentence) in section
    assert escape(robustness_text(part)) in section


def part_of(**changes: Any) -> dict[str, Any]:
    """A part with one entry of each kind."""

    def entry(kind: str, size: float, **more: Any) -> dict[str, Any]:
        known = {
            "row": [0.9, 0.8, 1.0],
            "samples": [0.7, 0.6, 0.8],
            "row_change": [-0.1, -0.15, -0.05],
            "samples_change": [-0.2, -0.25, -0.15],
            "changed": [0.25, 0.1, 0.4],
            "entropy": [1.0, 0.9, 1.1],
            "entropy_change": [0.0, 0.0, 0.0],
            "finite": 1.0,
        }
        return {"kind": kind, "size": size, "columns": ["a", "b"], **known, **more}

    clean = entry("", 0, row=[1.0, 1.0, 1.0])
    del clean["kind"]
    return {
        "policy": "generator",
        "measure": "true",
        "contexts": 5,
        "draws": 51,
        "samples": 16,
        "max_entropy": 4.0,
        "clean": clean,
        "perturbed": [
            entry("noise", 0.3),
            entry("replaced", 1.0),
            entry("below", 3.0, entropy=[3.7, 3.6, 3.8]),
            entry("above", 3.0, entropy=[0.3, 0.2, 0.4]),
        ],
        "most_important": {"column": "a", "change": [-0.4, -0.5, -0.3]},
        **changes,
    }


def test_perturbed_contexts_in_words() -> None:
    assert robustness_sentences(part_of()) == [
        "With noise of 0.3 deviations on the numeric columns the most likely row changes in 25% "
        "of the cases, and its true score, 1.000, by -0.100 (95% interval -0.150 to -0.050).",
        "With another category in every categorical column the most likely row changes in 25% "
        "of the cases, and its true score, 1.000, by -0.100 (95% interval -0.150 to -0.050).",
        "The column that matters most is a: perturbed alone, it changes the most likely row's "
        "worth by -0.400 (95% interval -0.500 to -0.300).",
        "Numeric columns 3 deviations beyond the observed range: the policy is nearly uniform "
        "below it (3.70 nats) and surer above it (0.30 nats); its entropy in the contexts "
        "themselves is 1.00 nats, that of the uniform policy 4.00.",
    ]


@pytest.mark.parametrize(
    ("entropy", "words"), [(1.3, "about as sure as before"), (2.0, "less sure"), (0.5, "surer")]
)
def test_confidence_in_words(entropy: float, words: str) -> None:
    part = part_of()
    part["perturbed"][2]["entropy"] = [entropy, None, None]
    assert f"is {words} below it ({entropy:.2f} nats)" in robustness_sentences(part)[-1]


def test_what_is_not_certain_is_not_claimed() -> None:
    for change in ([-0.4, -0.9, 0.1], [-0.4, None, None]):
        said = robustness_sentences(part_of(most_important={"column": "a", "change": change}))
        assert said[2].startswith("No column perturbed alone certainly costs")
    single = part_of(most_important=None, perturbed=part_of()["perturbed"][:1])
    assert len(robustness_sentences(single)) == 1


def test_names_are_escaped_and_short() -> None:
    evil = "<script>" * 20
    part = part_of()
    part["perturbed"].append({**part["perturbed"][0], "columns": [evil]})
    html = robustness_table(part)
    assert "<script" not in html
    assert "&lt;script" in html
    assert len(robustness_text({**part, "policy": evil})) < 600


@pytest.mark.parametrize("sign", [1, -1], ids=["maximised", "minimised"])
def test_many_columns_are_cut_off_and_said(sign: int) -> None:
    part = part_of(minimised=sign < 0)
    first = part["perturbed"][0]
    more = [{**first, "columns": [str(i)], "row_change": [-sign * i] * 3} for i in range(15)]
    html = robustness_table({**part, "perturbed": [*part["perturbed"], *more]})
    assert "The first 12 of 15 columns alone" in html
    assert html.index('title="14: noise') < html.index('title="3: noise')
    assert 'title="2: noise' not in html
