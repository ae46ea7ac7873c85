"""Strips of coloured fields for each feature: a policy's probabilities, and single swaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from discrete_grad.reporting.wording import number, percent, short

__all__ = ["heat_strips", "swap_maps"]

_MAX_CONTEXTS = 3
_MAX_FEATURES = 30


def heat_strips(report: Mapping[str, Any]) -> str:
    """HTML of the first contexts' probabilities under the report's last policy."""
    shown = [c for c in report["contexts"] if "probabilities" in c][:_MAX_CONTEXTS]
    parts = [_heat(report, context) for context in shown]
    limits = [
        (len(report["features"]), _MAX_FEATURES, "features"),
        (len(report["contexts"]), _MAX_CONTEXTS, "contexts"),
    ]
    for count, limit, what in limits:
        if count > limit:
            parts.append(f'<p class="note">The first {limit} of {count:,} {what}.</p>')
    return "".join(parts)


def _heat(report: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """The probabilities of one context: a line of fields for each feature."""
    entries = {entry["name"]: entry for entry in context["entries"]}
    best = entries["best training row"]["row"]
    likely = entries[f"{report['policies'][-1]}, most likely row"]["row"]
    lines = []
    for i, feature in enumerate(report["features"][:_MAX_FEATURES]):
        fields = [
            _field(category, share, category == likely[i], best is not None and category == best[i])
            for category, share in context["probabilities"][i]
        ]
        lines += [_name(feature["name"]), _cells(fields, feature["size"])]
    heading = f"<h3>{escape(short(context['label'], 80))}</h3>" if report["has_contexts"] else ""
    return f'{heading}<div class="heat">{"".join(lines)}</div>'


def _name(feature: str) -> str:
    return f'<span title="{escape(short(feature, 200))}">{escape(short(feature, 22))}</span>'


def _cells(fields: Sequence[str], size: int) -> str:
    """The fields of a feature, and how many of its categories are not among them."""
    hidden = size - len(fields)
    rest = f'<span class="rest">{hidden:,} more</span>' if hidden else ""
    return f'<div class="cells">{"".join(fields)}{rest}</div>'


def _field(category: str, share: float, likely: bool, best: bool) -> str:
    classes = " ".join(["likely"] * likely + ["best"] * best)
    label = escape(short(category, 60))
    title = f"{escape(short(category, 200))}: {percent(share, 1)}"
    return f'<span class="{classes}" style="--p:{share:.3f}" title="{title}">{label}</span>'


def swap_maps(report: Mapping[str, Any]) -> str:
    """HTML of the first contexts' single swaps: the exact effects beside the predicted ones."""
    maps = report["swaps"]["maps"]
    effects = [e for m in maps for feature in m["features"] for _, *pair in feature for e in pair]
    largest = max((abs(effect) for effect in effects if effect is not None), default=0.0)
    ends = (f"<span>{sign}{number(largest, 2)}</span>" for sign in ("-", "+"))
    scale = f'<div class="scale" aria-hidden="true">{"<i></i>".join(ends)}</div>'
    parts = [scale, *(_swap_map(report, one, largest) for one in maps)]
    limits = [
        (len(report["features"]), len(maps[0]["features"]), "features"),
        (len(report["contexts"]), len(maps), "contexts"),
    ]
    for count, shown, what in limits:
        if count > shown:
            parts.append(f'<p class="note">The first {shown} of {count:,} {what}.</p>')
    return "".join(parts)


def _swap_map(report: Mapping[str, Any], one: Mapping[str, Any], largest: float) -> str:
    lines = ["<span></span><b>exact</b><b>predicted</b>"]
    for feature, swaps in zip(report["features"], one["features"], strict=False):
        lines.append(_name(feature["name"]))
        for place in (1, 2):
            fields = [_effect(swap[0], swap[place], largest) for swap in swaps]
            lines.append(_cells(fields, feature["size"]))
    heading = f"<h3>{escape(short(one['label'], 80))}</h3>" if report["has_contexts"] else ""
    return f'{heading}<div class="heat swaps">{"".join(lines)}</div>'


def _effect(category: str, effect: float | None, largest: float) -> str:
    """A field: the row's own category where the effect is None."""
    label, title = escape(short(category, 60)), escape(short(category, 200))
    if effect is None:
        return f'<span class="own" title="{title}: the row&#x27;s own">{label}</span>'
    share = abs(effect) / largest if largest else 0.0
    way = "worse" if effect < 0 else "better"
    sign = "+" if effect > 0 else ""
    title = f"{title}: {sign}{number(effect, 3)}"
    return f'<span class="{way}" style="--p:{share:.3f}" title="{title}">{label}</span>'
