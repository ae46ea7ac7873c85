"""The report's pictures: inline SVG whose colours the page decides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch

from discrete_grad.evaluation.gain_curve import GainCurve
from discrete_grad.reporting._svg import BAND, INK, SERIES, drawing, panels, place_legend, to_svg
from discrete_grad.reporting.wording import has_judge, measure_of, short, sign

__all__ = ["agreement_plot", "curves_plot", "distribution_plot", "exploitation_plot", "scores_plot"]

_MAX_PANELS = 6
_MAX_CURVES = 9
_MAX_POINTS = 128
_MEASURES = {"estimated": "o", "judged": "s", "true": "D"}
_NAMES = {"estimated": "estimated", "judged": "judge's", "true": "true"}

Context = Mapping[str, Any]


def scores_plot(report: Mapping[str, Any]) -> str:
    """Scores of every entry, context by context, over the spread of the training rows, as SVG.

    Args:
        report: from `build_report`.

    Example:
        >>> from discrete_grad.evaluation import Observed, Subject
        >>> from discrete_grad.reporting.report import build_report
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.policies import Generator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate()
        >>> scorers = [EstimatorEnsemble([Estimator(space)]) for _ in range(2)]
        >>> observed = Observed(codes, codes.sum(-1).float(), codes[:, 0] * 0)
        >>> subject = Subject(
        ...     space, None, ["all rows"], observed, *scorers, lambda scaled, context: scaled,
        ...     {"generator": Generator(space)},
        ... )
        >>> scores_plot(build_report(subject)).startswith("<svg")
        True
    """
    contexts = report["contexts"][:_MAX_PANELS]
    names = [short(entry["name"]) for entry in contexts[0]["entries"]]
    with drawing():
        figure, axes_list = panels(len(contexts), 2, 0.3 * len(names), sharey=True)
        for axes, context in zip(axes_list, contexts, strict=True):
            _scores_panel(axes, context, report)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_xlabel(short(report["score_name"]))
        handles = [_marker(axes_list[0], measure) for measure in _known_measures(report)]
        handles.append(axes_list[0].plot([], [], color=INK, ls="--", lw=1, label=_BEST)[0])
        handles.append(axes_list[0].fill_between([], [], color=BAND, alpha=0.35, label=_SPREAD))
        place_legend(figure, handles)
        return to_svg(figure)


_BEST = "best training row's score"
_SPREAD = "90% and 50% of the training rows"


def _scores_panel(axes: Any, context: Context, report: Mapping[str, Any]) -> None:
    axes.set_title(short(context["label"]))
    axes.grid(axis="y", visible=False)
    good = sign(report)
    low, high = _limits(context, good)
    edge = (low if good > 0 else high) + good * 0.015 * (high - low)
    quantiles = context["quantiles"]
    for a, b in (("0.05", "0.95"), ("0.25", "0.75")):
        if quantiles:
            axes.axvspan(quantiles[a], quantiles[b], color=BAND, alpha=0.35, lw=0)
    _best_line(axes, context)
    for y, entry in enumerate(context["entries"]):
        color = _color(report, entry["policy"])
        values = {m: entry[m] for m in _MEASURES if entry[m] is not None}
        inside = [good * max(good * value, good * edge) for value in values.values()]
        if inside:
            axes.plot([min(inside), max(inside)], [y, y], color=color, lw=1.2, alpha=0.7)
        for lane, ((measure, value), x) in enumerate(zip(values.items(), inside, strict=True)):
            beyond = "<>"[good < 0] if value != x else None
            _point(axes, x, y + 0.17 * (lane - 1), measure, color, beyond)
    axes.set_xlim(low, high)


def _point(axes: Any, x: float, y: float, measure: str, color: str, beyond: str | None) -> None:
    """A value; one beyond the limits is an arrowhead at the edge."""
    marker = beyond or _MEASURES[measure]
    face = color if measure == "true" else "none"
    axes.plot(x, y, marker, ms=5.5, mfc=face, mec=color, mew=1.3, clip_on=False, zorder=3)


def _marker(axes: Any, measure: str) -> Any:
    face = INK if measure == "true" else "none"
    style = {"ms": 5.5, "mfc": face, "mec": INK, "mew": 1.3, "label": _NAMES[measure]}
    return axes.plot([], [], _MEASURES[measure], **style)[0]


def _best_line(axes: Any, context: Context) -> None:
    best = context["entries"][0]["observed"]
    if best is not None:
        axes.axvline(best, color=INK, ls="--", lw=1)


def distribution_plot(report: Mapping[str, Any]) -> str:
    """Distribution functions of the samples' scores: true where known, else the judge's, if any."""
    measure = measure_of(report)
    contexts = _with_samples(report)
    with drawing():
        columns = 2 if len(contexts) in (2, 4) else 3
        figure, axes_list = panels(len(contexts), columns, 2.1, sharey=True)
        for axes, context in zip(axes_list, contexts, strict=True):
            axes.set_title(short(context["label"]))
            _best_line(axes, context)
            for name, scores in context["samples"].items():
                values = sorted(value for value in scores[measure] if value is not None)
                if values:
                    axes.ecdf(values, color=_color(report, name), **_line(report, name))
            everything = (scores[measure] for scores in context["samples"].values())
            axes.set_xlim(*_limits(context, sign(report), list(chain.from_iterable(everything))))
            axes.set_ylim(0, 1.02)
            axes.set_xlabel(f"{_NAMES[measure]} {short(report['score_name'])}")
        axes_list[0].set_ylabel("share of samples below")
        _legend(figure, axes_list[0], report, line=True)
        return to_svg(figure)


def _line(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The policy in question is drawn over the others and thicker."""
    last = name == report["policies"][-1]
    return {"lw": 2.4 if last else 1.5, "zorder": 3 if last else 2}


def agreement_plot(report: Mapping[str, Any]) -> str:
    """The samples' estimated scores against the judge's and, where known, the true ones."""
    contexts, measures = _with_samples(report)[:4], _known_measures(report)[1:]
    pairs = [(context, measure) for measure in measures for context in contexts]
    columns = max(len(contexts), 2) if len(contexts) > 1 else len(measures)
    with drawing():
        height = 2.0 if columns > 2 else 3.0
        figure, axes_list = panels(len(pairs), columns, height, width=height + 0.6)
        for axes, (context, measure) in zip(axes_list, pairs, strict=True):
            _agreement_panel(axes, context, measure, report)
        _legend(figure, axes_list[0], report, line=False)
        return to_svg(figure)


def _agreement_panel(axes: Any, context: Context, measure: str, report: Mapping[str, Any]) -> None:
    everything = (scores[m] for scores in context["samples"].values() for m in scores)
    limits = _limits(context, sign(report), list(chain.from_iterable(everything)))
    axes.set_title(short(context["label"], 24))
    axes.axline((limits[0], limits[0]), slope=1, color=INK, lw=0.8, ls=":")
    for name, scores in context["samples"].items():
        points = list(zip(scores["estimated"], scores[measure], strict=True))[:_MAX_POINTS]
        counts = Counter(point for point in points if None not in point)
        for count in sorted(set(counts.values())):
            x, y = zip(*(point for point, times in counts.items() if times == count), strict=True)
            style = {"color": _color(report, name), "mec": "none", "alpha": 0.45}
            axes.plot(x, y, "o", ms=min(2.5 + math.sqrt(count), 9), **style)
    axes.set(xlim=limits, ylim=limits, xlabel="estimated", ylabel=_NAMES[measure])
    axes.locator_params(nbins=5)
    axes.set_box_aspect(1)


def exploitation_plot(report: Mapping[str, Any]) -> str:
    """Scores along training by the distance from the reference, and the fitted curves."""
    part = report["exploitation"]
    path = [p for p in (part["reference"], *part["points"]) if p["kl"] is not None]
    with drawing():
        figure, axes_list = panels(2, 2, 3.0)
        titles = {"samples": "samples", "row": "most likely row"}
        for axes, (key, title) in zip(axes_list, titles.items(), strict=True):
            axes.set_title(title)
            axes.set_xlabel(f"distance from the {short(part['reference_name'], 24)}, √KL")
            for place, name in enumerate(_known_measures(report)):
                _along(axes, path, key, name, SERIES[1 + place])
            _mark_best(axes, part["best"][key], key, part["measure"])
        for place, (name, fit) in enumerate(part["fits"].items()):
            if fit:
                _fitted(axes_list[0], path, part, name, place)
        _mark_parting(axes_list, part["parting"], max(p["d"] for p in path))
        axes_list[0].set_ylabel(short(report["score_name"]))
        handles = [
            axes_list[0].plot([], [], f"{_MEASURES[m]}-", color=SERIES[1 + i], ms=4, label=label)[0]
            for i, (m, label) in enumerate(_NAMES.items())
            if m in _known_measures(report)
        ]
        handles += axes_list[0].plot([], [], color=INK, ls="--", lw=1.2, label="fitted curve")
        handles += axes_list[0].plot([], [], "o", ms=8, mfc="none", mec=INK, label="best state")
        if part["parting"]:
            handles += axes_list[0].plot([], [], color=INK, ls=":", lw=1.4, label="parting")
        place_legend(figure, handles)
        return to_svg(figure)


def _along(axes: Any, path: Sequence[Context], key: str, name: str, color: str) -> None:
    heights = [math.nan if p[key][name] is None else p[key][name] for p in path]
    x = [p["d"] for p in path]
    axes.plot(x, heights, color=color, lw=0.8, alpha=0.45)
    axes.plot(x, heights, _MEASURES[name], ms=4, mec=color, mfc=color, alpha=0.9)


def _fitted(
    axes: Any, path: Sequence[Context], part: Mapping[str, Any], name: str, place: int
) -> None:
    fit, start = part["fits"][name], part["reference"]["samples"][name]
    curve = GainCurve("rl", fit["a"], fit["b"], fit["rmse"])
    d = torch.linspace(0, max(p["d"] for p in path), 80, dtype=torch.float64)
    axes.plot(d, start + sign(part) * curve.gain(d), color=SERIES[1 + place], ls="--", lw=1.4)


def _mark_best(axes: Any, point: Context | None, key: str, measure: str) -> None:
    if point is not None:
        axes.plot(point["d"], point[key][measure], "o", ms=9, mfc="none", mec=INK, mew=1.2)


def _mark_parting(axes_list: Sequence[Any], point: Context | None, most: float) -> None:
    if point is None:
        return
    for axes in axes_list:
        axes.axvline(point["d"], color=INK, ls=":", lw=1.4)
    label = f"parting, step {point['step']:,}"
    at = {"xy": (point["d"], 0), "xycoords": ("data", "axes fraction"), "fontsize": 8}
    left = 2 * point["d"] < most
    place = {"xytext": (4 if left else -4, 4), "textcoords": "offset points"}
    axes_list[0].annotate(label, ha="left" if left else "right", **at, **place)


def curves_plot(report: Mapping[str, Any]) -> str:
    """Loss and held-out loss of every stage of training; nothing without a log."""
    stages = list(report["curves"].items())[:_MAX_CURVES]
    if not stages:
        return ""
    with drawing():
        figure, axes_list = panels(len(stages), 3, 1.9)
        for axes, (stage, curves) in zip(axes_list, stages, strict=True):
            axes.set_title(short(stage))
            axes.set_xlabel("step")
            # the held-out loss decides, and is drawn last
            for place, (name, (steps, values)) in enumerate(sorted(curves.items(), reverse=True)):
                heights = [math.nan if value is None else value for value in values]
                style = {"color": SERIES[1 + place % 6], "lw": 1.5}
                axes.plot(steps, heights, label=short(name.replace("_", " ")), **style)
        place_legend(figure, axes_list[0].lines)
        return to_svg(figure)


def _limits(context: Context, good: int, more: Sequence[float | None] = ()) -> tuple[float, float]:
    """Range of the entries' scores, more values and nearly all training rows, with a margin.

    A few rows far worse, as a table of losses has them, would squeeze everything else.
    """
    values = [entry[measure] for entry in context["entries"] for measure in _MEASURES]
    values = [value for value in (*values, *more) if value is not None]
    quantiles = context["quantiles"]
    if quantiles:
        worse, better, best = ("0.05", "0.95", "1.0") if good > 0 else ("0.95", "0.05", "0.0")
        floor = quantiles[worse] - (quantiles[better] - quantiles[worse]) / 4
        kept = (good * max(good * v, good * floor) for v in values)
        values = [*kept, quantiles[worse], quantiles[best]]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.04 * (high - low) or max(abs(high), 1.0) / 10
    return low - margin, high + margin


def _with_samples(report: Mapping[str, Any]) -> list[Context]:
    return [context for context in report["contexts"] if "samples" in context][:_MAX_PANELS]


def _known_measures(report: Mapping[str, Any]) -> list[str]:
    known = {"true": report["has_truth"], "judged": has_judge(report)}
    return [measure for measure in _MEASURES if known.get(measure, True)]


def _color(report: Mapping[str, Any], policy: str) -> str:
    """Grey for what is no policy, then one colour for each."""
    if policy not in report["policies"]:
        return SERIES[0]
    return SERIES[1 + report["policies"].index(policy) % (len(SERIES) - 1)]


def _legend(figure: Any, axes: Any, report: Mapping[str, Any], *, line: bool) -> None:
    names = ["random rows", *report["policies"]]
    handles = []
    for name in names:
        style = _line(report, name) if line else {"marker": "o", "ls": "none"}
        color = _color(report, name)
        handles += axes.plot([], [], color=color, label=short(name, 24), **style)
    if line:
        handles += axes.plot([], [], color=INK, ls="--", lw=1, label=_BEST)
    place_legend(figure, handles)
