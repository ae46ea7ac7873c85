"""Findings in words, and pictures, at the bounds where they change."""

import json
from typing import Any

import pytest

from discrete_grad.reporting import (
    beyond_sentences,
    estimator_sentences,
    rules_sentences,
    together_sentences,
)
from discrete_grad.reporting._findings import (
    exploitation_sentences,
    nearest_sentences,
    rows_text,
    swap_sentences,
)
from discrete_grad.reporting._grid import grid, note
from discrete_grad.reporting._heat import _effect, heat_strips, swap_maps
from discrete_grad.reporting._robustness_page import _confidence, robustness_sentences
from discrete_grad.reporting.aims_plot import front_plot
from discrete_grad.reporting.aims_text import aims_sentences
from discrete_grad.reporting.page import _settings
from discrete_grad.reporting.plots import (
    _limits,
    agreement_plot,
    curves_plot,
    distribution_plot,
    scores_plot,
)
from discrete_grad.reporting.scorer_text import scorer_columns, scorer_sentences
from tests.reporting.figures import watch_figures
from tests.reporting.test_robustness_page import part_of
from tests.reporting.test_snapshots import FOLDER


def entry(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "kind": "row", **values}


@pytest.mark.parametrize(
    ("entropy", "clean", "words"),
    [
        (9.0, 2.0, "nearly uniform"),
        (8.99, 2.0, "less sure"),
        (9.5, 9.0, "about as sure as before"),
        (3.0, 2.0, "about as sure as before"),
        (1.0, 2.0, "about as sure as before"),
        (3.01, 2.0, "less sure"),
        (0.99, 2.0, "surer"),
    ],
)
def test_bounds_of_confidence(entropy: float, clean: float, words: str) -> None:
    assert _confidence(entropy, clean, 10.0, "below") == f"{words} below it ({entropy:.2f} nats)"


def test_perturbations_that_cost_nothing_or_are_not_known() -> None:
    part = part_of(most_important={"column": "a", "change": [-0.4, -0.5, 0.0]})
    assert robustness_sentences(part)[2].startswith("No column perturbed alone certainly costs")
    part["minimised"] = True
    part["most_important"]["change"] = [0.4, 0.0, 0.5]
    assert robustness_sentences(part)[2].startswith("No column perturbed alone certainly costs")
    part["perturbed"][0]["row_change"] = None
    part["perturbed"][1]["changed"] = [0.0, 0.0, 0.0]
    part["perturbed"][2]["finite"] = 0.75
    part["policy"] = "g" * 50
    said = robustness_sentences(part)
    assert said[0] == (
        "With another category in every categorical column the most likely row stays the same "
        "everywhere."
    )
    assert said[-1] == (
        f"The {'g' * 23}…{'g' * 12} gives numbers that are not finite in up to 25% of the "
        "perturbed contexts (all numeric columns: 3 below the range); they take part in nothing "
        "above."
    )
    part["clean"]["entropy"] = None
    assert len(robustness_sentences(part)) == 3
    part = part_of(perturbed=part_of()["perturbed"][3:])
    part["perturbed"][0]["entropy"] = None
    assert len(robustness_sentences(part)) == 1


@pytest.mark.parametrize(
    ("correlation", "words"),
    [
        (0.9, "nearly the right order"),
        (0.6, "roughly the right order"),
        (0.3, "loosely the right order"),
        (0.299, "hardly a better order than chance"),
    ],
)
def test_bounds_of_the_order_of_swaps(correlation: float, words: str) -> None:
    agreement = {"rows": 2, "rank_correlation": [correlation, 0.0, 1.0], "best_found": [0.5, 0, 1]}
    (said,) = swap_sentences({"agreement": {"rows": {**agreement, "gain_share": None}}})
    assert said == (
        f"At 2 rows the gradient puts the single swaps in {words} (rank correlation "
        f"{correlation:.2f}, 95% interval 0.00 to 1.00); the swap it calls best is the best one in "
        "1 of 2; none gains."
    )


def test_what_was_not_compared_is_said() -> None:
    assert nearest_sentences({}) == []
    assert nearest_sentences({"nearest": {"compared": 3, "different_rows": 3}}) == []
    assert rows_text({"rows": 1500}) == rows_text({"rows": 1500, "of": 1500}) == "1,500"
    assert rows_text({"rows": 500, "of": 2000}) == "500 of the 2,000"


def state(step: int, judged: float, estimated: float) -> dict[str, Any]:
    scores = {"judged": judged, "estimated": estimated}
    return {"step": step, "kl": 2.0, "samples": scores, "row": scores}


def test_over_optimisation_in_words() -> None:
    part = {
        "measure": "judged",
        "tolerance": 0.25,
        "reference_name": "start",
        "reference": state(0, 1.0, 1.0),
        "points": [state(1000, 3.0, 3.0), state(2000, 2.0, 4.0)],
        "parting": state(1000, 3.0, 3.5),
        "best": {"samples": state(1000, 3.0, 3.0), "row": state(2000, 2.0, 4.0)},
        "fits": {"estimated": {"a": [1.0, 0.5, 1.5], "b": [0.0, -0.5, 0.5]}, "judged": None},
        "left_out": [1, 2, 3, 4, 5, 1000],
    }
    assert exploitation_sentences(part) == [
        "Estimate and judge differ from step 1,000 on, 2.0 nats from the start: the judge's gain "
        "over the start is more than 25% below the estimated gain. At that step it is 2.00 instead "
        "of 2.50.",
        "The judge's score of the samples is highest at step 1,000, 3.000, and 2.000 at the end of "
        "training.",
        "The judge's score of the most likely row is highest at the end of training, 2.000.",
        "Dashed: gain over the reference = d (a - b log d), d = sqrt(KL), fitted by least squares "
        "(in brackets 95% intervals): estimated: a = 1.0 (0.50 to 1.5), b = 0.0 (-0.50 to 0.50).",
        "Left out: the generator draws at step 1, 2, 3, 4, 5, 1,000 what the start forbids, so "
        "that its distance is infinite.",
    ]


def test_fields_of_swaps_at_their_bounds() -> None:
    assert _effect("a", 0.0, 0.0) == (
        '<span class="better" style="--p:0.000" title="a: 0.00">a</span>'
    )
    assert 'class="worse" style="--p:0.500" title="a: -0.500"' in _effect("a", -0.5, 1.0)
    assert 'class="better" style="--p:1.000" title="a: +1.00"' in _effect("a", 1.0, 1.0)


def test_strips_and_maps_name_what_is_left_out() -> None:
    features = [{"name": f"f{i}", "size": 1} for i in range(31)]
    rows = [entry("best training row", row=["a"] * 31), entry("g, most likely row", row=["a"] * 31)]
    context = {"label": "c", "entries": rows, "probabilities": [[["a", 1.0]]] * 31}
    report: dict[str, Any] = {"features": features, "policies": ["g"], "has_contexts": True}
    for count, notes in ((30, ""), (31, '<p class="note">The first 30 of 31 features.</p>')):
        report["features"], report["contexts"] = features[:count], [context] * 3
        page = heat_strips(report)
        assert page.endswith(notes or "</div>")
        assert (page.count("<h3>c</h3>"), page.count('class="likely best"')) == (3, 90)
    report |= {"features": features[:1], "contexts": [context] * 4}
    assert heat_strips(report).endswith('<p class="note">The first 3 of 4 contexts.</p>')
    one = {"label": "c", "features": [[["a", None, None]]]}
    report["swaps"] = {"maps": [one] * 3}
    assert swap_maps(report).endswith('<p class="note">The first 3 of 4 contexts.</p>')
    report |= {"features": features[:2], "contexts": [context] * 3}
    page = swap_maps(report)
    assert page.endswith('<p class="note">The first 1 of 2 features.</p>')
    assert "<span>-0.0</span><i></i><span>+0.0</span>" in page


def test_tables_and_settings_at_their_bounds() -> None:
    assert grid(["", "<a>"], [("x" * 60, ["<1>"], True)]) == (
        '<div class="wide"><table><tr><th></th><th>&lt;a&gt;</th></tr><tr class="chosen">'
        f'<td title="{"x" * 60}">{"x" * 31}…{"x" * 16}</td><td>&lt;1&gt;</td></tr></table></div>'
    )
    assert note(3, 3, "rows") == ""
    assert note(1003, 3, "rows") == (
        '<p class="note">The first 3 of 1,003 rows; all are in the JSON report.</p>'
    )
    many = _settings({str(i): i for i in range(13)})
    assert many.startswith("<details><summary>All 13 settings</summary><dl><dt>0</dt>")
    assert _settings({str(i): i for i in range(12)}).startswith("<dl>")


def test_facts_of_rules_aims_and_pairs_at_their_bounds() -> None:
    part = {"allowed": "1 of 2 rows allowed", "in_contexts": True, "trained_by": "m"}
    part |= {"forbidden": 0.5, "forbidden_most": 0.75, "words": [str(i) for i in range(12)]}
    said = rules_sentences({"rules": part})
    assert said[0] == (
        "Every generated row obeys 12 rules: 1 of 2 pairs of context and row allowed."
    )
    assert said[12:] == [
        "Rule: 11.",
        "Without them the generator would give rows that break one a probability of 50.0% on "
        "average, and at most 75.0%.",
        "The generator was trained under the rules by m.",
    ]
    part["words"] = ["0"] * 13
    assert rules_sentences({"rules": part})[13] == "Further rules: 1."
    pair = {"columns": ["a", "b"], "seen": 1, "expected": 2.0, "further": 0.5}
    pairs = {"share": 0.5, "rows": 2, "unseen": 1.0, "pairs": 1, "usual_share": 0.25}
    for count, last in ((3, "The table has 1"), (4, "1 further pair of columns has as few")):
        said = together_sentences({"together": {**pairs, "sparse": [pair] * count}})
        assert said[-1].startswith(last)
        assert len(said) == count + 1
    assert rules_sentences({}) == together_sentences({}) == aims_sentences({}) == []


def test_estimators_and_scorers_at_their_bounds() -> None:
    settings = {"batch_size": 1, "steps": 1, "weight_decay": 0.0, "hidden": [8], "members": 1}
    part = {"rows": 1, "settings": settings, "families": {"kernel": 0.0}, "still_improving": False}
    assert estimator_sentences({"estimator": part}) == [
        "Trained on 1 rows: 1 member, batches of 1, at most 1 steps, weight decay 0, layers of 8.",
        "Families by weight: none; left out: kernel.",
    ]
    part["held_out"] = {"rows": 1, "spearman": 1.0, "baseline": None}
    assert estimator_sentences({"estimator": part})[0] == (
        "Estimator: rank correlation with the score 1.000 on 1 held-out rows."
    )
    rows = [entry("a", beyond_observed=0.5), entry("b", beyond_observed=0.0), entry("c")]
    (said,) = beyond_sentences({"contexts": [{"entries": rows}]})
    assert said.startswith("1 of the 2 rows shown has an estimate beyond the best observed score.")
    facts = {"name": "M", "reference": None, "takes": "codes", "differentiable": False}
    facts |= {"why_not": "no", "judge": "given", "agreement": 0.0, "rows": 3}
    assert scorer_sentences(facts) == [
        "Scorer: M, which takes codes; no estimator was trained.",
        "The scorer has no derivative in the row: no.",
        "The scorer was asked about no row.",
        "Rank correlation of the scorer with the table's score: 0.00 on 3 rows, of which it may "
        "have learned.",
        "The judge was given, too; which rows it learned from is not known.",
    ]
    assert scorer_columns({"estimator": {"scorer": facts}})["judge's"] == (
        "by the judge that was given"
    )


def test_pictures_at_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert curves_plot({"curves": {}}) == ""
    figures = watch_figures(monkeypatch)
    curves = {f"s{i}": {"loss": [[1, 2], [1.0, None]]} for i in range(10)}
    curves_plot({"curves": curves})
    assert [axes.get_title(loc="left") for axes in figures[0].axes] == [f"s{i}" for i in range(9)]
    nothing = {"entries": [], "quantiles": {}}
    assert _limits(nothing, 1) == pytest.approx((-0.04, 1.04))
    assert _limits(nothing, 1, [5.0, None]) == pytest.approx((4.5, 5.5))
    assert _limits(nothing, 1, [0.5]) == pytest.approx((0.4, 0.6))


def test_pictures_show_the_first_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = watch_figures(monkeypatch)
    report = json.loads((FOLDER / "yield.json").read_text())
    part, context = report["aims"], report["contexts"][0]
    report["contexts"] = [{**context, "label": str(i)} for i in range(7)]
    scores_plot(report)
    distribution_plot(report)
    agreement_plot(report)
    front_plot({**part, "fronts": [{**part["fronts"][0], "label": str(i)} for i in range(7)]})
    titles = [[axes.get_title(loc="left") for axes in figure.axes] for figure in figures]
    assert titles == [list("012345"), list("012345"), list("01230123"), list("012345")]
    samples = {"estimated": [1.0] * 200, "judged": [*[1.0] * 36, *[2.0] * 164], "true": [None]}
    context["samples"] = {"generator": samples | {"true": [None] * 200}}
    report["contexts"] = [context]
    distribution_plot(report)
    agreement_plot(report)
    judged, true = figures[-1].axes
    # of 128 samples; the legend's marks come after
    assert [line.get_markersize() for line in judged.lines[1:3]] == [8.5, 9.0]
    assert len(true.lines) == 1
    assert len(figures[-2].axes[0].lines) == 6
