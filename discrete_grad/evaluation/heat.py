"""A policy's probabilities as a strip of coloured fields for each feature."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from discrete_grad.evaluation.wording import percent, short

__all__ = ["heat_strips"]

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
        hidden = feature["size"] - len(fields)
        if hidden:
            fields.append(f'<span class="rest">{hidden:,} more</span>')
        title, name = escape(short(feature["name"], 200)), escape(short(feature["name"], 22))
        lines.append(f'<span title="{title}">{name}</span>')
        lines.append(f'<div class="cells">{"".join(fields)}</div>')
    heading = f"<h3>{escape(short(context['label'], 80))}</h3>" if report["has_contexts"] else ""
    return f'{heading}<div class="heat">{"".join(lines)}</div>'


def _field(category: str, share: float, likely: bool, best: bool) -> str:
    classes = " ".join(["likely"] * likely + ["best"] * best)
    label = escape(short(category, 60))
    title = f"{escape(short(category, 200))}: {percent(share, 1)}"
    return f'<span class="{classes}" style="--p:{share:.3f}" title="{title}">{label}</span>'
