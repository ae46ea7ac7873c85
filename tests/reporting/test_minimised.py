"""A report on a score that is minimised is the mirror of one on minus that score."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.evaluation import Observed, Subject
from discrete_grad.evaluation.robustness import _most_important
from discrete_grad.reporting import build_report, format_table, render_html, verdict
from discrete_grad.reporting._findings import _parting_sentence
from discrete_grad.reporting._robustness_page import _important_sentence
from discrete_grad.reporting.plots import (
    _limits,
    agreement_plot,
    distribution_plot,
    exploitation_plot,
    scores_plot,
)
from tests.evaluation.planted import Given
from tests.evaluation.subjects import AdditiveTruth, make_subject
from tests.reporting.figures import watch_figures

SCORES = ("observed", "estimated", "judged", "true")


class MinusTruth(AdditiveTruth):
    """The additive truth as a cost."""

    def score(self, codes: Tensor, context: int) -> Tensor:
        """Minus the sum."""
        return -super().score(codes, context)


def pair(**options: Any) -> tuple[Subject, Subject]:
    """A subject of a score, and the same of a cost, which is minus the score."""
    more = make_subject(**options)
    trail = {1: more.policies["naive baseline"], 9: more.policies["generator"]}
    trail[5] = Given(
        more.space, lambda context: sum(trail[step].logits(context) for step in (1, 9))
    )
    more = make_subject(**options, trail=trail, reference=more.policies["data policy"])
    seen = more.observed
    less = make_subject(
        **{**options, "truth": False},
        observed=Observed(seen.codes, -seen.scores, seen.context, "cost", minimised=True),
        to_units=lambda scaled, context: -more.to_units(scaled, context),
        trail=trail,
        reference=more.policies["data policy"],
    )
    if more.truth is not None:
        object.__setattr__(less, "truth", MinusTruth(more.space))
    object.__setattr__(less, "policies", more.policies)
    for name in ("estimator", "judge"):
        object.__setattr__(less, name, getattr(more, name))
    return more, less


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("contexts", [0, 3])
def test_every_figure_is_mirrored_and_nothing_else_changes(truth: bool, contexts: int) -> None:
    high, low = (build_report(s, samples=32) for s in pair(truth=truth, contexts=contexts))
    assert (high["minimised"], low["minimised"]) == (False, True)
    for mine, other in zip(high["average"], low["average"], strict=True):
        for name, value in mine.items():
            mirrored = -value if name in SCORES and value is not None else value
            assert other[name] == pytest.approx(mirrored), (mine["name"], name)
    for mine, other in zip(high["contexts"], low["contexts"], strict=True):
        assert [e["row"] for e in mine["entries"]] == [e["row"] for e in other["entries"]]
        ends = {key: mine["quantiles"][key] for key in ("0.0", "1.0")}
        assert other["quantiles"]["0.0"] == -ends["1.0"]
        assert other["quantiles"]["1.0"] == -ends["0.0"]
    assert [c["rows"] for c in high["contexts"]] == [c["rows"] for c in low["contexts"]]


def test_rows_far_worse_are_cut_off_on_their_side() -> None:
    keys = ("0.0", "0.05", "0.95", "1.0")
    values = {"estimated": -50.0, "judged": 9.0, "true": None}
    costs = {"estimated": 50.0, "judged": -9.0, "true": None}
    high = {"entries": [values], "quantiles": dict(zip(keys, (-99, 0, 4, 8), strict=True))}
    low = {"entries": [costs], "quantiles": dict(zip(keys, (-8, -4, 0, 99), strict=True))}
    limits = _limits(high, 1)
    assert limits == pytest.approx((-1.4, 9.4))
    assert _limits(low, -1) == pytest.approx((-limits[1], -limits[0]))


@pytest.mark.parametrize("truth", [True, False])
def test_over_optimisation_is_found_at_the_same_steps(truth: bool) -> None:
    high, low = (build_report(s, samples=32)["exploitation"] for s in pair(truth=truth))
    for key in ("samples", "row"):
        assert high["best"][key]["step"] == low["best"][key]["step"]
    assert [p["beyond"] for p in high["points"]] == [p["beyond"] for p in low["points"]]
    for mine, other in zip(high["points"], low["points"], strict=True):
        assert other["excess"] == pytest.approx(mine["excess"])
    for name, fit in high["fits"].items():
        assert low["fits"][name]["a"] == pytest.approx(fit["a"])
        assert fit["a"][0] != 0


def drawn(axes: Any, way: int, sign: int) -> list[tuple[str, Tensor]]:
    """Marker and points of each line in the panel's own coordinates; scores times a sign."""
    lines = [line for line in axes.lines if line.get_transform() == axes.transData]
    found = []
    for line in lines:
        points = torch.tensor(line.get_xydata()).reshape(-1, 2)
        points[:, way] *= sign
        marker = line.get_marker()
        marker = {"<": ">", ">": "<"}.get(marker, marker) if sign < 0 else marker
        # along the scores a line has no direction
        found.append((marker, points[points[:, 0].argsort(stable=True)]))
    return found


def test_pictures_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = watch_figures(monkeypatch)
    for subject in pair():
        report = build_report(subject, samples=32)
        context, worst = report["contexts"][0], -1e3 * subject.observed.sign
        # far worse than the training rows, beyond the limits of the panels
        context["entries"][-1]["estimated"] = worst
        for scores in context["samples"]["generator"].values():
            scores[0] = worst
        assert any(report["exploitation"]["fits"].values())
        for plot in (exploitation_plot, scores_plot, agreement_plot, distribution_plot):
            plot(report)
    # the direction of the scores: upwards, to the right, both
    for place, ways in enumerate(((1,), (0,), (0, 1), (0,))):
        high, low = figures[place].axes, figures[4 + place].axes
        for mine, other in zip(high, low, strict=True):
            if len(ways) == 1 and place < 2:
                both = zip(drawn(mine, *ways, 1), drawn(other, *ways, -1), strict=True)
                for (mark, points), (mark_, points_) in both:
                    assert mark == mark_
                    assert_close(points_, points, equal_nan=True)
            for way in ways:
                get = f"get_{'xy'[way]}lim"
                least, most = getattr(other, get)()
                assert getattr(mine, get)() == pytest.approx((-most, -least))


def test_changes_by_perturbed_contexts_are_mirrored() -> None:
    high, low = (build_report(s, samples=32)["robustness"] for s in pair(contexts=3))
    assert (high["minimised"], low["minimised"]) == (False, True)
    for mine, other in zip(high["perturbed"], low["perturbed"], strict=True):
        assert other["row_change"][0] == pytest.approx(-mine["row_change"][0])


def test_the_column_that_matters_most_is_the_one_that_makes_rows_worse() -> None:
    changes = {"shop": [2.0, 1.0, 3.0], "price": [-2.0, -3.0, -1.0]}
    alone = [
        {"columns": [name], "kind": "noise", "size": 1.0, "row_change": change}
        for name, change in changes.items()
    ]
    for sign, name in ((1, "price"), (-1, "shop")):
        found = _most_important(alone, sign)
        assert found == {"column": name, "change": changes[name]}
        part = {"most_important": found, "minimised": sign < 0}
        assert f"matters most is {name}:" in _important_sentence(part)[0]
        doubtful = {"column": name, "change": [2.0 * -sign, -1.0, 1.0]}
        part = {"most_important": doubtful, "minimised": sign < 0}
        assert _important_sentence(part)[0].startswith("No column")


@pytest.mark.parametrize(
    ("sign", "gained"), [(1, "it is 0.500 instead"), (-1, "it is -0.500 instead")]
)
def test_what_is_gained_is_what_gets_better(sign: int, gained: str) -> None:
    point = {"step": 3, "kl": 1.0, "samples": {"judged": 1.5, "estimated": 4.0}}
    part = {
        "measure": "judged",
        "tolerance": 0.1,
        "reference_name": "data policy",
        "reference": {"samples": {"judged": 1.0, "estimated": 1.0}},
        "parting": point,
        "minimised": sign < 0,
    }
    assert gained in _parting_sentence(part)


def test_wins_and_words_have_the_right_direction() -> None:
    high, low = (build_report(s, samples=32) for s in pair(contexts=3))
    wins = [re.search(r"in (\d) of 3", " ".join(verdict(report))) for report in (high, low)]
    assert wins[0] is not None
    assert wins[1] is not None
    assert wins[0].group(1) == wins[1].group(1)
    assert format_table(low).startswith("average of 3 contexts, lower is better")
    assert "better" not in format_table(high)
    page = render_html(low)
    assert "<h1>Rows with a low cost</h1>" in page
    for said in ("lower is better", "the left, the better", "right edge is a score far above"):
        assert said in page
    assert "higher is better" not in page
    assert "is lowest at" in page
    assert "is highest at" not in page


MIRRORED = {
    "lower is better": "higher is better",
    "low cost": "high price",
    "cost": "price",
    "too low": "too high",
    "is lowest at": "is highest at",
    "still falls": "still rises",
    "the left, the better": "the right, the better",
    "right edge is a score far above": "left edge is a score far below",
    # one of the pair's references is a policy of the report, and has its name
    "the data policy": "the reference",
}


def shown_text(report: dict[str, Any]) -> list[str]:
    """What a page says, in order, in terms of a price; numbers without sign, intervals sorted."""
    page = re.sub(r"<(svg|style|script)\b.*?</\1>", "", render_html(report), flags=re.DOTALL)
    text = re.sub(r"(?<![\w.])[+-](?=\d)", "", re.sub(r"<[^>]+>", "\n", page))
    text = re.sub(
        r"\[([\d.,]+), ([\d.,]+)\]", lambda ends: "[{}, {}]".format(*sorted(ends.groups())), text
    )
    for low, high in MIRRORED.items():
        text = text.replace(low, high)
    return [line.strip() for line in text.split("\n") if line.strip()]


@pytest.mark.parametrize("contexts", [0, 3])
def test_a_page_says_the_same_in_the_same_order(contexts: int) -> None:
    high, low = (shown_text(build_report(s, samples=32)) for s in pair(contexts=contexts))
    assert len(high) > 150
    assert low == high


def test_the_best_training_row_is_the_cheapest() -> None:
    codes = torch.tensor([[0, 0, 0], [1, 1, 1], [2, 2, 0]])
    observed = Observed(codes, torch.tensor([5.0, 2.0, 9.0]), torch.zeros(3).long(), "cost", True)
    best = build_report(make_subject(observed=observed), samples=4)["average"][0]
    assert (best["observed"], best["row"]) == (2.0, ["good", "1", "1"])
