"""The page and the words of a report."""

import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from discrete_grad import CategoricalSpace
from discrete_grad.reporting import build_report, format_table, render_html, verdict
from discrete_grad.reporting._findings import swap_sentences
from discrete_grad.reporting._heat import _cells
from discrete_grad.reporting._page_text import agreement_text
from discrete_grad.reporting.page import _settings
from discrete_grad.reporting.plots import _agreement_panel
from discrete_grad.reporting.wording import number, percent, short, standing
from tests.evaluation.subjects import make_subject

SECTIONS = {
    "verdict",
    "table",
    "contexts",
    "scores",
    "distribution",
    "agreement",
    "swaps",
    "robustness",
    "probabilities",
    "curves",
    "settings",
}
EVIL = '<script>alert("1")</script> & $x_1^$ _'
VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Collects sections, tags and text, and checks that every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag == "section":
            self.sections.append(self.ids[-1])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return build_report(make_subject(contexts=3), samples=24)


@pytest.fixture(scope="module")
def html(report: dict[str, Any]) -> str:
    return render_html(report)


def test_page_has_every_section_once(html: str) -> None:
    page = Page(html)
    assert set(page.sections) == SECTIONS
    assert len(page.sections) == len(SECTIONS)
    assert page.tags.count("svg") == 4


def test_page_stands_alone(html: str) -> None:
    # the name of a namespace looks like an address and is none
    html = re.sub(r' xmlns(:\w+)?="[^"]*"', "", html)
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<iframe", html)
    references = re.findall(r'(?:href|src)="([^"]*)"', html) + re.findall(r"url\(([^)]*)\)", html)
    assert references
    assert all(reference.startswith("#") for reference in references)


def test_page_has_its_colours_from_the_style_sheet(html: str) -> None:
    assert "#0101" not in html
    assert set(re.findall(r"var\(--(\w+)[,)]", html)) <= set(re.findall(r"--(\w+):", html))
    assert "prefers-color-scheme: dark" in html


def test_page_is_the_same_from_json(report: dict[str, Any], html: str) -> None:
    assert render_html(json.loads(json.dumps(report))) == html


def test_page_without_context_truth_log_and_settings() -> None:
    subject = make_subject(truth=False, metrics=[], settings={}, held_out={})
    page = Page(render_html(build_report(subject, samples=8)))
    assert set(page.sections) == SECTIONS - {"contexts", "robustness", "curves", "settings"}
    assert "true percentile" not in page.text
    assert "in truth" not in page.text
    assert "8 samples of each policy, seed" in page.text


def test_settings_are_shown_by_name_and_those_inside_with_dots() -> None:
    html = _settings({"seed": 3, "loop": {"steps": 7}})
    assert html == "<dl><dt>seed</dt><dd>3</dd><dt>loop.steps</dt><dd>7</dd></dl>"


def test_the_quality_of_the_models_in_words() -> None:
    quality = {"spearman": 0.71, "rmse": 0.25, "rows": 1600, "observations": 1600}
    told = agreement_text({"has_truth": False, "held_out": {"judge": quality}})
    assert told.endswith(
        "On 1,600 rows it has not seen, the judge has a rank correlation of 0.710 and, on the "
        "scale it was trained on, an error (RMSE) of 0.250."
    )


def test_categories_that_are_not_shown_are_counted() -> None:
    assert _cells(["<b>x</b>"], 1) == '<div class="cells"><b>x</b></div>'
    assert "1,200 more" in _cells(["<b>x</b>"], 1201)


def test_the_dotted_line_of_the_agreement_is_that_of_equal_scores(report: dict[str, Any]) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    _agreement_panel(axes, report["contexts"][0], "judged", report)
    line = axes.lines[0]
    assert line.get_xy1()[0] == line.get_xy1()[1]
    assert line.get_slope() == 1


def test_page_escapes_every_name() -> None:
    space = CategoricalSpace({EVIL: [EVIL, "b"], "x": 2})
    subject = make_subject(space, contexts=2, labels=[EVIL, "\n\t"], settings={EVIL: {EVIL: EVIL}})
    policies = {f"{EVIL} {i}": policy for i, policy in enumerate(subject.policies.values())}
    metrics = [{"step": i, f"{EVIL}/_{EVIL}": 1.0} for i in range(3)]
    evil = make_subject(
        space,
        contexts=2,
        labels=subject.labels,
        settings=subject.settings,
        policies=policies,
        metrics=metrics,
        observed=type(subject.observed)(
            subject.observed.codes, subject.observed.scores, subject.observed.context, EVIL
        ),
    )
    html = render_html(build_report(evil, samples=4))
    page = Page(html)
    assert "script" not in page.tags
    assert "<script" not in html
    assert EVIL in " ".join(page.text.split())


@pytest.mark.parametrize(
    ("sizes", "contexts"), [((1,), 0), ((5,), 1), ((2,) * 100, 0), ((3, 2), 60), ((300, 2), 2)]
)
def test_page_of_any_size(sizes: tuple[int, ...], contexts: int) -> None:
    names = {f"feature {'x' * 80} {i}": size for i, size in enumerate(sizes)}
    subject = make_subject(CategoricalSpace(names), contexts=contexts, rows=100)
    page = Page(render_html(build_report(subject, samples=4)))
    assert ("The first 50 of 60 contexts" in page.text) is (contexts == 60)
    assert ("The first 30 of 100 features" in page.text) is (len(sizes) == 100)


def test_swaps_are_shown_side_by_side(report: dict[str, Any], html: str) -> None:
    section = html[html.index('id="swaps"') : html.index('id="probabilities"')]
    fields = re.findall(r'<span class="(own|better|worse)" (?:style="--p:([\d.]+)")?', section)
    features = [f for one in report["swaps"]["maps"] for f in one["features"]]
    assert len(fields) == 2 * sum(map(len, features))
    assert [kind for kind, _ in fields].count("own") == 2 * len(features)
    shares = [float(share) for _, share in fields if share]
    assert max(shares) == 1  # the largest effect of all maps
    assert section.count("<b>exact</b><b>predicted</b>") == len(report["swaps"]["maps"]) == 3
    for name, agreement in report["swaps"]["agreement"].items():
        assert f"At {agreement['rows']} {name} the gradient puts the single swaps in" in section
    words = f"(rank correlation {agreement['rank_correlation'][0]:.2f}, 95% interval"
    assert words in section


def agreement_of(rows: int, correlation: float, gain: float | None) -> dict[str, Any]:
    return {
        "rows": rows,
        "rank_correlation": [correlation, -1.0, 1.0],
        "best_found": [0.5, 0.0, 1.0],
        "gain_share": gain if gain is None else [gain, 0.0, 1.0],
    }


def test_swaps_in_words() -> None:
    parts = {
        "a": agreement_of(4, 0.95, 0.25),
        "b": agreement_of(1, 0.1, None),
        "c": agreement_of(0, 0.0, None),
    }
    assert swap_sentences({"agreement": parts}) == [
        "At 4 a the gradient puts the single swaps in nearly the right order (rank correlation "
        "0.95, 95% interval -1.00 to 1.00); the swap it calls best is the best one in 2 of 4 and "
        "reaches 25% of the best gain.",
        "At one of the b the gradient puts the single swaps in hardly a better order than chance "
        "(rank correlation 0.10); the swap it calls best is the best one in 0 of 1; none gains.",
        "At the c all single swaps have the same effect.",
    ]


def test_letters_that_matplotlib_lacks_are_no_warning() -> None:
    subject = make_subject(contexts=2, labels=["東京", "🙂"])
    assert "東京" in Page(render_html(build_report(subject, samples=4))).text


def test_missing_matplotlib_names_the_extra(
    report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'discrete_grad\[plots\]'"):
        render_html(report)


def test_settings_of_matplotlib_are_left_alone(report: dict[str, Any]) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    render_html(report)
    assert dict(matplotlib.rcParams) == before


def test_plain_table_is_aligned(report: dict[str, Any]) -> None:
    blocks = format_table(report).split("\n\n")
    assert len(blocks) == 4
    for block, title in zip(blocks, ["average of 3 contexts", "shop 0", "shop 1"], strict=False):
        lines = block.splitlines()
        assert lines[0].startswith(title)
        assert len(lines) == 9
        assert len({len(line) for line in lines}) == 1
    assert max(map(len, blocks[0].splitlines())) <= 100


def test_plain_table_of_one_context_is_one_block() -> None:
    table = format_table(build_report(make_subject(truth=False), samples=4))
    assert "\n\n" not in table
    assert table.startswith("price ")
    assert " true" not in table


def test_plain_table_of_many_contexts_is_their_average() -> None:
    assert "\n\n" not in format_table(build_report(make_subject(contexts=8), samples=4))


def entry(name: str, **values: float) -> dict[str, Any]:
    return {"name": name, **values}


def verdict_of(rows: list[dict[str, Any]], *, truth: bool, contexts: int = 1) -> list[str]:
    samples = entry("g, samples", distinct_share=0.25, nearest_mean=1.5)
    return verdict(
        {
            "policies": ["naive", "g"],
            "average": [*rows, samples],
            "contexts": [{"entries": rows}] * contexts,
            "has_truth": truth,
            "samples": 100,
            "features": [{}] * 9,
        }
    )


def test_verdict_against_the_truth() -> None:
    rows = [
        entry("best training row", true_percentile=0.8, true=1.0, judged=1.0),
        entry("naive, most likely row", true_percentile=0.1),
        entry("g, most likely row", true_percentile=0.986, true=2.0, estimated=2.5, judged=2.25),
    ]
    assert verdict_of(rows, truth=True, contexts=2) == [
        "The g's most likely row is in the true top 1.4% (average over 2 contexts); "
        "best training row: top 20%, naive: bottom 10%.",
        "It scores 2.500 by the estimator, 2.250 by the judge and 2.000 in truth: the estimator "
        "is 0.50 too high.",
        "It is truly better than the context's best training row in 2 of 2 contexts.",
        "Its 100 samples hold 25 different rows in each context; they differ from the most similar "
        "training row in 1.5 of 9 features on average.",
    ]


def test_verdict_without_the_truth() -> None:
    rows = [
        entry("best training row", judged=1.0),
        entry("naive, most likely row", judged=0.5),
        entry("g, most likely row", estimated=2.0, judged=2.25),
    ]
    sentences = verdict_of(rows, truth=False)
    assert sentences[:2] == [
        "The g's most likely row has a judge's score of 2.250; best training row: 1.000, "
        "naive: 0.5000.",
        "It scores 2.000 by the estimator, 2.250 by the judge: the estimator is 0.25 below the "
        "judge.",
    ]
    assert sentences[-1].startswith("The truth is not known")


def test_numbers_as_text() -> None:
    assert [number(v) for v in (0.0, -0.00001, 12.3456, 98765.4, 3e12, -1e-9)] == [
        "0.000",
        "-0.000010",
        "12.35",
        "98,765",
        "3e+12",
        "0.000000",
    ]
    assert [percent(s, 1) for s in (0.0, 1e-6, 0.5, 0.99999, 1.0)] == [
        "0.0%",
        "0.1%",
        "50.0%",
        "99.9%",
        "100.0%",
    ]
    assert [standing(p) for p in (1.0, 0.99999, 0.95, 0.5, 0.2, 0.0)] == [
        "top 0%",
        "top 0.0010%",
        "top 5.0%",
        "top 50%",
        "bottom 20%",
        "bottom 0%",
    ]
    assert short("a  b\nc") == "a b c"
    assert short("x" * 50 + "end", 12) == "xxxxxxx…xend"
