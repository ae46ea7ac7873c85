"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from discrete_grad.reporting._findings import (
    exploitation_sentences,
    nearest_sentences,
    swap_sentences,
)
from discrete_grad.reporting._grid import grid, note
from discrete_grad.reporting._heat import heat_strips, swap_maps
from discrete_grad.reporting._page_text import (
    CONTEXTS,
    CURVES,
    EXPLAINED,
    PROBABILITIES,
    REPEATED,
    SWAPS,
    agreement_text,
    exploitation_text,
    scores_text,
)
from discrete_grad.reporting._robustness_page import (
    robustness_sentences,
    robustness_table,
    robustness_text,
)
from discrete_grad.reporting.aims_text import aims_html
from discrete_grad.reporting.estimator_text import (
    beyond_sentences,
    estimator_sentences,
    maximised_sentences,
)
from discrete_grad.reporting.plots import (
    agreement_plot,
    curves_plot,
    distribution_plot,
    exploitation_plot,
    scores_plot,
)
from discrete_grad.reporting.rows_page import rows_section
from discrete_grad.reporting.rules_text import rules_sentences, together_sentences
from discrete_grad.reporting.scorer_text import scorer_columns
from discrete_grad.reporting.style import STYLE
from discrete_grad.reporting.wording import (
    columns,
    contexts_text,
    measure_of,
    number,
    percent,
    short,
    sign,
    verdict,
)

__all__ = ["render_html"]

_MAX_CONTEXTS = 50
_MAX_TABLES = 6
_MAX_SETTINGS = 12


def render_html(report: Mapping[str, Any]) -> str:
    """A self-contained page: verdict, tables and plots, for light and dark screens and for print.

    Args:
        report: from `build_report`, as it is or read back from JSON.

    Raises:
        ImportError: without matplotlib; names the command that installs it.

    Example:
        >>> from discrete_grad.evaluation import Observed, Subject
        >>> from discrete_grad.reporting.report import build_report
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.policies import Generator
        >>> from discrete_grad.space import CategoricalSpace
        >>> import torch
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate()
        >>> scorers = [EstimatorEnsemble([Estimator(space)]) for _ in range(2)]
        >>> subject = Subject(
        ...     space=space, contexts=None, labels=["all rows"],
        ...     observed=Observed(codes, codes.sum(-1), torch.zeros(6, dtype=torch.long)),
        ...     estimator=scorers[0], judge=scorers[1], to_units=lambda scaled, context: scaled,
        ...     policies={"generator": Generator(space)},
        ... )
        >>> render_html(build_report(subject, samples=8))[:15]
        '<!doctype html>'
    """
    wanted = "high" if sign(report) > 0 else "low"
    title = f"Rows with a {wanted} {short(report['score_name'], 60)}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<header><h1>{escape(title)}</h1>{_facts(report)}</header>",
            rows_section(report),
            '<section class="verdict" id="verdict">',
            _paragraphs(
                [*maximised_sentences(report), *verdict(report), *beyond_sentences(report)]
            ),
            _paragraphs([*rules_sentences(report), *together_sentences(report)]),
            "</section>",
            *_sections(report),
            "</body></html>",
        ]
    )


def _paragraphs(sentences: Sequence[str]) -> str:
    return "\n".join(f"<p>{escape(short(sentence, 1000))}</p>" for sentence in sentences)


def _facts(report: Mapping[str, Any]) -> str:
    possible = report["possible_rows"]
    each = " and context" if report["has_contexts"] else ""
    facts = [
        f"{report['rows']:,} training rows",
        _count(len(report["features"]), "feature"),
        f"{possible:,} possible rows" if possible else "more than 10^15 possible rows",
        contexts_text(report) if report["has_contexts"] else "no context",
        f"{_count(report['samples'], 'sample')} of each policy{each}, seed {report['seed']}",
    ]
    return f'<p class="facts">{escape(" · ".join(facts))}</p>'


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _sections(report: Mapping[str, Any]) -> Iterator[str]:
    if report.get("aims"):
        yield f'<section id="aims"><h2>The aims</h2>{aims_html(report)}</section>'
    several = len(report["contexts"]) > 1
    better, side = ("higher", "right") if sign(report) > 0 else ("lower", "left")
    average = f", average over {contexts_text(report)}" if several else ""
    yield _section(
        "table",
        f"The policies side by side{average}",
        f"All scores are in units of {short(report['score_name'], 60)}; {better} is better.",
        _table(report, report["average"])
        + _legend(report)
        + _paragraphs(nearest_sentences(report)),
    )
    if several:
        yield _section("contexts", "Context by context", CONTEXTS, _context_tables(report))
    if report.get("estimator"):
        said = _paragraphs(estimator_sentences(report))
        yield _section("estimator", "The estimator", "", said)
    yield _section("scores", "Scores", scores_text(report), _figure(scores_plot(report)))
    yield _section(
        "distribution",
        "Distribution of the samples' scores",
        "The height of a curve is the share of a policy's samples below a score: the further to "
        f"the {side}, the better. A vertical line is a policy that always gives the same row.",
        _figure(distribution_plot(report)),
    )
    if measure_of(report) != "estimated":
        plot = _figure(agreement_plot(report))
        yield _section("agreement", "Do the models agree?", agreement_text(report), plot)
    if report.get("exploitation"):
        said = _paragraphs(exploitation_sentences(report["exploitation"]))
        plot = _figure(exploitation_plot(report))
        yield _section("exploitation", "Over-optimisation", exploitation_text(report), plot + said)
    if report.get("swaps"):
        said = _paragraphs(swap_sentences(report["swaps"]))
        yield _section("swaps", "Single swaps", SWAPS, said + swap_maps(report))
    if report.get("robustness"):
        part = report["robustness"]
        said = _paragraphs(robustness_sentences(part))
        table = robustness_table(part)
        yield _section("robustness", "Perturbed contexts", robustness_text(part), said + table)
    yield _section(
        "probabilities", "What the policy has learned", PROBABILITIES, heat_strips(report)
    )
    if report["curves"]:
        curves = _figure(curves_plot(report))
        yield _section("curves", "Learning curves", CURVES, curves)
    if report["settings"]:
        yield _section("settings", "Settings", "", _settings(report["settings"]))


def _section(name: str, heading: str, text: str, content: str) -> str:
    paragraph = f"<p>{escape(text)}</p>" if text else ""
    return f'<section id="{name}"><h2>{escape(heading)}</h2>{paragraph}{content}</section>'


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>"


def _table(report: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    headers, cells = columns(entries)
    chosen = f"{report['policies'][-1]}, most likely row"
    lines = [
        (entry["name"], texts, entry["name"] == chosen)
        for entry, texts in zip(entries, cells, strict=True)
    ]
    return grid(["", *headers], lines)


def _legend(report: Mapping[str, Any]) -> str:
    """Meaning of the columns."""
    headers, _ = columns(report["average"])
    explained = EXPLAINED | scorer_columns(report)
    # reports written before equal rows were merged do not count them
    if any(c.get("different_rows", c["rows"]) < c["rows"] for c in report["contexts"]):
        explained["observed"] += REPEATED
    items = "".join(f"<dt>{escape(h)}</dt><dd>{escape(explained[h])}</dd>" for h in headers)
    return f"<details><summary>What the columns mean</summary><dl>{items}</dl></details>"


def _context_tables(report: Mapping[str, Any]) -> str:
    """One line for each context, then the whole table of the first few."""
    contexts = report["contexts"]
    lines = [(c["label"], _glance(report, c), False) for c in contexts[:_MAX_CONTEXTS]]
    headers = ["", "training rows", "best training row", "estimated", "judge's"]
    headers += ["true", "true percentile"] if report["has_truth"] else []
    parts = [grid(headers, lines), note(len(contexts), _MAX_CONTEXTS, "contexts")]
    for context in contexts[:_MAX_TABLES]:
        summary = f"<summary>All policies: {escape(short(context['label'], 80))}</summary>"
        parts.append(f"<details>{summary}{_table(report, context['entries'])}</details>")
    return "".join(parts)


def _glance(report: Mapping[str, Any], context: Mapping[str, Any]) -> list[str]:
    """A context's rows, best score, and the policy's most likely row."""
    entries = {entry["name"]: entry for entry in context["entries"]}
    row = entries[f"{report['policies'][-1]}, most likely row"]
    best = entries["best training row"]["observed"]
    cells = [f"{context['rows']:,}", number(best), number(row["estimated"]), number(row["judged"])]
    if report["has_truth"]:
        share = row["true_percentile"]
        cells += [number(row["true"]), "-" if share is None else percent(share, 2)]
    return cells


def _settings(settings: Mapping[str, Any]) -> str:
    """Name and value; what is nested is named with dots, and many are folded away."""
    items = [
        f"<dt>{escape(short(name, 80))}</dt><dd>{escape(short(value, 300))}</dd>"
        for name, value in _flat(settings)
    ]
    if len(items) <= _MAX_SETTINGS:
        return f"<dl>{''.join(items)}</dl>"
    return (
        f"<details><summary>All {len(items)} settings</summary><dl>{''.join(items)}</dl></details>"
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
