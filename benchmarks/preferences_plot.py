"""Plot of `preferences`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Results, succeeded
from benchmarks.preferences_tables import KINDS, MAIN, Points, by_count, cells_of
from discrete_grad.evaluation import mean_interval

GOAL = 0.85  # accuracy


def plot(results: Results, path: Path) -> None:
    """Accuracy against pairs, and truth against distance, by score and by percentile."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    done = succeeded(results)
    if not done:
        return
    figure, axes = plt.subplots(1, 3, figsize=(16, 4.8))
    _plot_accuracy(axes[0], done)
    for axis, place in zip(axes[1:], (False, True), strict=True):
        _plot_distance(axis, done, place)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot_accuracy(axis: Any, done: dict[str, dict[str, Any]]) -> None:
    for number, (arm, how) in enumerate(KINDS.items()):
        models = by_count(cells_of(done, arm).get(MAIN, []))
        spans = [mean_interval([m["accuracy"] for m in found]) for found in models.values()]
        middle = [span[0] for span in spans]
        ends = [[abs(s[i] - s[0]) if math.isfinite(s[i]) else 0 for s in spans] for i in (1, 2)]
        axis.errorbar(
            [int(n) for n in models], middle, ends, fmt="o-", color=f"C{number}", capsize=3,
            label=f"pairs {how}",
        )  # fmt: skip
    axis.axhline(GOAL, color="0.4", linestyle="--", linewidth=0.8)
    axis.set(xlabel="noisy pairs", ylabel="accuracy on held-out pairs", title=MAIN)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)


def _plot_distance(axis: Any, done: dict[str, dict[str, Any]], place: bool) -> None:
    cells = cells_of(done, "random").get(MAIN, [])
    for number, (count, models) in enumerate(by_count(cells).items()):
        curves = [model["optima"] for model in models]
        colour = f"C{number}"
        for kind, style in (("true", "-"), ("proxy", ":")):
            x, y = _mean_line(curves, kind, place)
            label = f"{int(count):,} pairs" if kind == "true" else None
            axis.plot(x, y, style, color=colour, label=label)
    for arm, mark in (("2000/0.1", "k+"), ("2000/0.01", "kx"), ("250/0.01", "k1")):
        ends = [cell["paths"][arm][-1] for cell in cells if arm in cell["paths"]]
        label = f"reinforcement learning, pairs/beta {arm}" if ends else None
        _plot_ends(axis, ends, place, mark, label)
    for (kind, found), mark in zip(cells_of(done, "dpo").items(), ("rs", "m^"), strict=False):
        points = [cell[b] for cell in found for b in cell if b != "seconds"]
        _plot_ends(axis, points, place, mark, f"DPO, {kind}")
    axis.set(xlabel="sqrt KL (nats), dotted: the learned reward")
    axis.set_ylabel("% of all rows that are better" if place else "score, sd from the mean")
    if place:
        axis.set_yscale("log")
    else:
        axis.set_ylim(-0.1, 3.6)
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)


def _plot_ends(axis: Any, ends: Points, place: bool, mark: str, label: str | None) -> None:
    x = [math.sqrt(point["kl"]) for point in ends]
    axis.plot(
        x, [_height(p, "true", place) for p in ends], mark, markersize=5, alpha=0.6, label=label
    )


def _height(point: dict[str, float], kind: str, place: bool) -> float:
    return 100 - point[f"{kind} percentile"] if place else point[kind]


def _mean_line(curves: Sequence[Points], kind: str, place: bool) -> tuple[list[float], list[float]]:
    """Means over curves of the distance and of a figure, point by point."""
    steps = list(zip(*curves, strict=True))
    x = [statistics.mean(math.sqrt(point["kl"]) for point in step) for step in steps]
    return x, [statistics.mean(_height(point, kind, place) for point in step) for step in steps]
