"""Pages and pictures of three written reports, word for word and point for point.

`python -m tests.reporting.test_snapshots` writes what is expected anew, to be read before it is
committed. The reports are those of small untrained models; parts of them were written by hand, so
that everything that a page can say is said in one of them.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from discrete_grad import CategoricalSpace
from discrete_grad.evaluation import Observed, Subject
from discrete_grad.reporting import build_report, format_table, render_html
from tests.evaluation.planted import Given
from tests.evaluation.subjects import make_subject
from tests.reporting.figures import described, watch_figures

FOLDER = Path(__file__).parent / "snapshots"
NAMES = ("yield", "cost", "answer")
MANY = CategoricalSpace({"cut": ["fair", "good", "ideal"], "colour": 14, "size": 2})
FACTS = {"estimator_facts": {"rows": 9}, "rules_facts": {"words": ["a"]}}
FACTS |= {"together_facts": {"pairs": 3}, "aims_facts": {"words": ["b"]}}


def pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """File -> what it should hold: the page without its style, the table and the pictures."""
    report: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    figures = watch_figures(monkeypatch)
    page = re.sub(r"<style>.*?</style>", "", render_html(report), flags=re.DOTALL)
    lined = re.sub(r"(</(?:p|h2|tr|dd|div|span|summary|figure)>)", r"\1\n", page)
    pictures = "\n".join(described(figure) for figure in figures)
    return {f"{name}.html": f"{lined}\n{format_table(report)}\n", f"{name}.txt": pictures}


@pytest.mark.parametrize("name", NAMES)
def test_pages_and_pictures_are_as_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, text in pieces(name, monkeypatch).items():
        known = (FOLDER / file).read_text().splitlines()
        lines = difflib.unified_diff(known, text.splitlines(), file, "now", lineterm="", n=0)
        assert not (changed := list(lines)), "\n".join(changed)


def of_a_score() -> Subject:
    """Two contexts, the truth, states of training, rows beyond the observed, every fact."""
    start = make_subject(MANY, contexts=2)
    last = start.policies["generator"]
    seen = start.observed
    trail = {
        step: Given(MANY, lambda context, step=step: step * last.logits(context))
        for step in (1, 4, 30)
    }
    return make_subject(
        MANY,
        contexts=2,
        # of the best rows some are there twice
        observed=Observed(
            seen.codes[:40].repeat(2, 1),
            seen.scores.repeat(2)[:80],
            seen.context.repeat(2)[:80],
            "price",
        ),
        trail=trail,
        reference=start.policies["data policy"],
        outside=lambda scaled, context: (scaled > 0.05).long() - (scaled < 0).long(),
        contexts_in_table=7,
        **FACTS,
    )


def of_a_cost() -> Subject:
    """No context, no truth and no judge, a cost, and a stated law of the random rows."""
    start = make_subject(contexts=0)
    seen = start.observed
    flat = Given(start.space, lambda context: start.space.one_hot(seen.codes[:1]).squeeze(0))
    return make_subject(
        truth=False,
        judge=None,
        held_out={"estimator": start.held_out["estimator"]},
        observed=Observed(seen.codes, -seen.scores, seen.context, "cost", minimised=True),
        policies={"flat": flat, "sharp": Given(start.space, lambda context: 9 * flat.logits(None))},
        uniform=flat,
        metrics=[],
    )


SUBJECTS = {"built_score": of_a_score, "built_cost": of_a_cost}


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Places where two reports differ by more than rounding."""
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        pairs = [(f"{place}.{key}", one[key], other[key]) for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{place}.{i}", *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        same = one == (pytest.approx(other, rel=0.01, abs=1e-4) if is_float(other) else other)
        return [] if same else [f"{place}: {one!r}, expected {other!r}"]
    return [text for where, *pair in pairs for text in differences(*pair, where)]


def is_float(value: Any) -> bool:
    return isinstance(value, float)


@pytest.mark.parametrize("name", SUBJECTS)
def test_reports_hold_what_they_held_before(name: str) -> None:
    known = json.loads((FOLDER / f"{name}.json").read_text())
    assert differences(build_report(SUBJECTS[name](), samples=6, seed=3), known) == []


def rounded(value: Any) -> Any:
    """The same with four digits for each number."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def lined(report: dict[str, Any]) -> str:
    """JSON with a line for each part."""
    parts = (f"{json.dumps(key)}: {json.dumps(rounded(part))}" for key, part in report.items())
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    for name, made in SUBJECTS.items():
        (FOLDER / f"{name}.json").write_text(lined(build_report(made(), samples=6, seed=3)))
    for name in NAMES:
        with pytest.MonkeyPatch.context() as patch:
            for file, text in pieces(name, patch).items():
                (FOLDER / file).write_text(text)
