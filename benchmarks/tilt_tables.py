"""Tables and plot of `tilt`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Results, Table, failures, succeeded

GOAL = 0.02  # total variation
BUDGET = 1024  # evaluations
LINES = {
    "soft best of n": "importance",
    "best of n": "best of n",
    "chain uniform": "MH",
    "chain informed": "MH, informed",
    "smc none twisted": "SMC, no twist",
    "smc learned reference": "SMC, learned, reference",
    "smc learned twisted": "SMC, learned",
    "smc exact reference": "SMC, exact, reference",
    "smc exact twisted": "SMC, exact",
}
MARKS = {
    "soft best of n": ("C0", "o-"),
    "best of n": ("0.6", "o:"),
    "chain uniform": ("C1", "s-"),
    "chain informed": ("C3", "s-"),
    "smc none twisted": ("C2", "^-"),
    "smc learned reference": ("C4", "^--"),
    "smc learned twisted": ("C4", "^-"),
    "smc exact reference": ("C5", "v--"),
}
POOLED = ("smc learned reference", "smc learned twisted", "smc exact reference")

World = dict[str, Any]


def tables(results: Results) -> list[Table]:
    """Budgets, distances at one budget, the intervals, and how sure the pooled laws are."""
    worlds = merged(succeeded(results))
    return [
        _budgets(worlds),
        _distances(worlds),
        _intervals(worlds, "importance", "Intervals of log Z by importance sampling"),
        _intervals(worlds, "smc", "Bounds of log Z by SMC"),
        _sureness(worlds),
        failures(results),
    ]


def merged(done: Mapping[str, Mapping[str, Any]]) -> dict[str, World]:
    """Lines and intervals of each world, from the cells of its families of samplers."""
    worlds: dict[str, World] = {}
    for key, cell in done.items():
        world = worlds.setdefault(key.rpartition("/")[0], {"lines": {}, "intervals": {}})
        world["lines"] |= cell["lines"]
        world["intervals"] |= cell["intervals"]
        world |= {k: cell[k] for k in cell if k == "floor"}
    return {key: worlds[key] for key in sorted(worlds, key=_order, reverse=True)}


def _order(key: str) -> tuple[str, float]:
    name, _, beta = key.rpartition("/")
    return name, float(beta)


def budget(points: Sequence[Mapping[str, float]], goal: float = GOAL) -> float | None:
    """Fewest evaluations from which on a line stays below a total variation; None if it does not.

    A line of best of n falls and rises again.
    """
    within = None
    for point in points:
        if point["tv"] >= goal:
            within = None
        elif within is None:
            within = point["evaluations"]
    return within


def nearest(points: Sequence[Mapping[str, float]], evaluations: float) -> Mapping[str, float]:
    """The point whose evaluations are the nearest in ratio, the cheaper of two."""
    return min(points, key=lambda p: abs(math.log(p["evaluations"] / evaluations)))


def _budgets(worlds: Mapping[str, World]) -> Table:
    rows = []
    for key, world in worlds.items():
        entries = []
        for line in LINES:
            points = world["lines"].get(line, [])
            entries.append(_budget_text(points) if points else "")
        rows.append((_named(key), *entries))
    note = (
        f"Fewest evaluations of the reward, on a grid of powers of 2 (chains) or 4, at which the "
        f"distribution of a row is within {GOAL:g} of the exact one in total variation. "
        "`importance` is also soft best of n and resampling by importance weights: all three have "
        "the same distribution. A chain's budget is for one row; importance sampling and SMC "
        "return as many rows as particles. An informed step counts as two evaluations, a value and "
        "a derivative. The derivative is that of the table's multilinear extension, which predicts "
        "the gain of every swap without error. `reference`: SMC's proposal is the reference; "
        "otherwise it is twisted, which costs one evaluation for each category of the last "
        "feature. Learning the twist costs 2,048 evaluations more, once; the exact twist needs the "
        "whole table."
    )
    title = f"Evaluations to a total variation below {GOAL:g}"
    return Table(title, ("table, reference, beta", *LINES.values()), rows, note)


def _budget_text(points: Sequence[Mapping[str, float]]) -> str:
    found = budget(points)
    least = min(p["tv"] for p in points)
    return f"none (least {least:.2g})" if found is None else f"{found:,.0f}"


def _distances(worlds: Mapping[str, World]) -> Table:
    rows = []
    for key, world in worlds.items():
        lines = [world["lines"].get(line) for line in LINES]
        rows.append((_named(key), *(_distance(points) if points else "" for points in lines)))
    note = (
        "Each at the point of its grid that is the nearest in ratio. Laws of SMC with a twist are "
        "pooled, so their figures are high by what `Pooled laws` shows; the others are exact."
    )
    title = f"Total variation / KL to the exact law (nats) at about {BUDGET:,} evaluations"
    return Table(title, ("table, reference, beta", *LINES.values()), rows, note)


def _distance(points: Sequence[Mapping[str, float]]) -> str:
    point = nearest(points, BUDGET)
    # below rounding errors of sums over the table
    tv, kl = (v if v > 1e-9 else 0 for v in (point["tv"], point["kl"]))
    return f"{tv:.2g} / {kl:.2g}"


def _intervals(worlds: Mapping[str, World], kind: str, title: str) -> Table:
    rows = list(_interval_rows(worlds, kind))
    note = (
        "Share of the runs whose 95% interval holds log Z, and of those where it lies below or "
        "above it; of how many it is finite, and their median width. "
    )
    if kind == "importance":
        note += (
            "Where Pareto k is above what so many rows can bear (.7 from 2,200 on, .45 for 64) "
            "only the lower end is finite."
        )
    else:
        note += "From 8 runs and 8 runs with an exact row, of 64 particles each."
    header = ("table, reference, beta", "sampler, rows", "held", "too low", "too high")
    return Table(title, (*header, "finite", "held where finite", "width"), rows, note)


def _interval_rows(worlds: Mapping[str, World], kind: str) -> Iterator[tuple[str, ...]]:
    for key, world in worlds.items():
        for name, got in world["intervals"].items():
            if name.startswith(kind):
                runs, finite = got["runs"], got["finite"]
                yield (
                    _named(key),
                    name,
                    # the ends of two bounds may cross, and both miss
                    _share(runs - got["missed"], runs),
                    _share(got["too low"], runs),
                    _share(got["too high"], runs),
                    _share(finite, runs),
                    _share(finite - got["missed though finite"], finite),
                    f"{got['width']:.3g}" if finite else "",
                )


def _sureness(worlds: Mapping[str, World]) -> Table:
    rows = []
    for key, world in worlds.items():
        for line in POOLED:
            if line in world["lines"]:
                point = nearest(world["lines"][line], BUDGET)
                bracket = f"[{max(point['tv_low'], 0):.3g}, {point['tv']:.3g}]"
                entry = (_named(key), LINES[line], f"{point['evaluations']:,.0f}", bracket)
                rows.append((*entry, f"{point['plain']:.3g}", f"{world['floor']:.3g}"))
    header = ("table, reference, beta", "sampler", "evaluations", "total variation")
    note = (
        "Between an estimate that is low in expectation and one that is high, which the other "
        "tables show. `plain` counts pooled rows; as many exact and independent rows would have "
        "the floor."
    )
    return Table("Pooled laws", (*header, "plain", "floor"), rows, note)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else ""


def _named(key: str) -> str:
    return ", ".join(key.split("/"))


def plot(results: Results, path: Path) -> None:
    """Total variation against evaluations: a row for each table and reference, a column a beta."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    worlds = merged(succeeded(results))
    names = list(dict.fromkeys(key.rpartition("/")[0] for key in worlds))
    betas = list(dict.fromkeys(key.rpartition("/")[2] for key in worlds))
    if not worlds:
        return
    size = (4.2 * len(betas) + 2.2, 2.9 * len(names) + 0.4)
    figure, axes = plt.subplots(
        len(names), len(betas), figsize=size, squeeze=False, sharex=True, sharey=True
    )
    for i, name in enumerate(names):
        for j, beta in enumerate(betas):
            _panel(axes[i][j], worlds.get(f"{name}/{beta}"))
            axes[i][j].set_title(f"{name.replace('/', ', ')}, beta {beta}", fontsize=9)
        axes[i][0].set_ylabel("total variation")
    for axis in axes[-1]:
        axis.set_xlabel("evaluations")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0, 1 - 2.2 / size[0], 1))
    figure.legend(handles, labels, loc="center right", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axis: Any, world: World | None) -> None:
    for line, (colour, mark) in MARKS.items():
        points = world["lines"].get(line, ()) if world else ()
        x, y = [p["evaluations"] for p in points], [p["tv"] for p in points]
        axis.plot(x, y, mark, color=colour, label=LINES[line], markersize=3, linewidth=1)
    axis.axhline(GOAL, color="0.4", linewidth=0.7, linestyle="--", label=f"{GOAL:g}")
    axis.set(xscale="log", yscale="log", ylim=(1e-3, 1.3))
    axis.grid(alpha=0.3)
