"""Tables and plot of `warm_start`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Results, Table, failures, interval, succeeded
from discrete_grad.evaluation import mean_interval

TITLES = {"nasbench201": "NASBench201", "hpobench": "HPOBench"}
RUNS = {"scratch": "from the base", "warm": "from the distilled copy"}
SHARES = (0.75, 0.9, 0.95, 0.99)
GROUP = 64  # rows an update

Figures = dict[str, Any]
Points = list[dict[str, float]]


def came(path: Points, share: float, kind: str = "rows") -> float | None:
    """Rows or seconds from which on a path keeps a share, on a straight line between two looks.

    0 where it begins there; None where it ends below.
    """
    last = max((i for i, point in enumerate(path) if point["share"] < share), default=-1)
    if last < 0 or last == len(path) - 1:
        return None if path[-1]["share"] < share else 0.0
    below, above = path[last], path[last + 1]
    part = (share - below["share"]) / (above["share"] - below["share"])
    return below[kind] + part * (above[kind] - below[kind])


def saved(figures: Figures, share: float) -> float | None:
    """Log of the ratio of rows, scratch to warm; at least one update counts, so 0 rows are 64."""
    rows = [came(figures[run], share) for run in RUNS]
    if rows[0] is None or rows[1] is None:
        return None
    return math.log(max(rows[0], GROUP) / max(rows[1], GROUP))


def tables(results: Results) -> list[Table]:
    """Rows, then shares and seconds."""
    cells = _by_reward(succeeded(results))
    if not cells:
        return [Table("Warm start", ("nothing yet",), []), failures(results)]
    return [_rows(cells), _costs(cells), failures(results)]


def _by_reward(done: dict[str, Figures]) -> dict[tuple[str, str], list[Figures]]:
    """The seeds of each table and reward."""
    found: dict[tuple[str, str], list[Figures]] = {}
    for name in TITLES:
        for key in sorted(key for key in done if key.startswith(f"{name}/")):
            for reward, figures in done[key].items():
                if reward != "seconds":
                    found.setdefault((name, reward), []).append(figures)
    return found


def _rows(cells: dict[tuple[str, str], list[Figures]]) -> Table:
    header = ["", "reward", "share at the warm start"]
    for share in SHARES:
        header += [f"{share:.0%}: scratch / warm", "ratio"]
    rows = []
    for (name, reward), seeds in cells.items():
        begins = interval([figures["warm"][0]["share"] for figures in seeds], 2)
        line = [TITLES[name], reward, begins]
        for share in SHARES:
            line.append(" / ".join(_median(seeds, run, share) for run in RUNS))
            line.append(_ratio([saved(figures, share) for figures in seeds]))
        rows.append(line)
    for name in dict.fromkeys(name for name, _ in cells):
        own = [seeds for (table, _), seeds in cells.items() if table == name]
        rows.append([TITLES[name], "together", "", *(e for s in SHARES for e in _together(own, s))])
    note = (
        "Rows whose reward is asked for until the policy keeps so much of the exact way from "
        "the base policy to the optimum: medians over seeds. Ratio: rows from scratch over "
        "rows from the warm start, geometric mean with a 95% interval over seeds; 0 rows count as "
        "one update of 64. In brackets how many seeds came so far, where not all did, and are in "
        "the ratio. Together: the geometric mean of the rewards where every seed came so far."
    )
    return Table("Rows until reinforcement learning is near its optimum", header, rows, note)


def _median(seeds: Sequence[Figures], run: str, share: float) -> str:
    rows = [came(figures[run], share) for figures in seeds]
    reached = sum(one is not None for one in rows)
    middle = statistics.median_low([math.inf if one is None else one for one in rows])
    kept = "" if reached == len(rows) else f" ({reached} of {len(rows)})"
    return "-" + kept if middle == math.inf else f"{middle:,.0f}{kept}"


def _together(rewards: Sequence[Sequence[Figures]], share: float) -> tuple[str, str]:
    """Number of rewards that count, and their ratio: the mean of each seed's logarithms."""
    every = [[saved(figures, share) for figures in seeds] for seeds in rewards]
    kept = [[log for log in logs if log is not None] for logs in every if None not in logs]
    ratio = _ratio([statistics.mean(seed) for seed in zip(*kept, strict=True)])
    return f"{len(kept)} of {len(every)} rewards", ratio


def _ratio(logs: Sequence[float | None]) -> str:
    """Geometric mean and interval of ratios whose logarithms are given."""
    found = [one for one in logs if one is not None]
    if not found:
        return "-"
    mean, low, high = (math.exp(one) for one in mean_interval(found))
    kept = "" if len(found) == len(logs) else f" ({len(found)} of {len(logs)})"
    return f"{mean:.2f}{kept}" if high == math.inf else f"{mean:.2f} [{low:.2f}, {high:.2f}]{kept}"


def _costs(cells: dict[tuple[str, str], list[Figures]]) -> Table:
    header = (
        "",
        "reward",
        "beta",
        "KL at the warm start",
        "seconds of distillation",
        "seconds to 95%: scratch",
        "warm, with distillation",
        "share at the end: scratch",
        "warm",
    )
    rows = []
    for (name, reward), seeds in cells.items():
        kl = interval([figures["warm"][0]["kl"] for figures in seeds], 2)
        beta = statistics.median(figures["beta"] for figures in seeds)
        ends = [interval([f[run][-1]["share"] for f in seeds], 4) for run in RUNS]
        took = statistics.median(figures["distill_seconds"] for figures in seeds)
        spent = [_seconds(seeds, run) for run in RUNS]
        rows.append((TITLES[name], reward, f"{beta:.3f}", kl, f"{took:.1f}", *spent, *ends))
    note = (
        "Seconds are medians over seeds, on one core and without grading; the distillation, which "
        "asks for no reward of a row, counts in the warm start's. Shares and KL (nats) are exact, "
        "means with a 95% interval over seeds."
    )
    return Table("What the distillation takes, and how far both come", header, rows, note)


def _seconds(seeds: Sequence[Figures], run: str) -> str:
    found = []
    for figures in seeds:
        seconds = came(figures[run], 0.95, "seconds")
        before = figures["distill_seconds"] if run == "warm" else 0.0
        found.append(math.inf if seconds is None else seconds + before)
    middle = statistics.median_low(found)
    return "-" if middle == math.inf else f"{middle:.1f}"


def plot(results: Results, path: Path) -> None:
    """Share of the way that is missing against rows, a thin line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cells = _by_reward(succeeded(results))
    names = list(dict.fromkeys(name for name, _ in cells))
    if not names:
        return
    wide = max(sum(own == name for own, _ in cells) for name in names)
    size = (3.4 * wide, 3 * len(names))
    figure, axes = plt.subplots(len(names), wide, figsize=size, sharey=True, squeeze=False)
    for (name, reward), seeds in cells.items():
        column = [own for table, own in cells if table == name].index(reward)
        axis = axes[names.index(name)][column]
        for run, colour in zip(RUNS, ("C0", "C1"), strict=True):
            _draw(axis, [figures[run] for figures in seeds], run, colour)
        for share in SHARES:
            axis.axhline(1 - share, color="gray", linewidth=0.6)
        axis.set(xscale="log", yscale="log", title=f"{TITLES[name]}, {reward}", xlabel="rows + 64")
    for row in axes:
        row[0].set_ylabel("share of the way missing")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw(axis: Any, paths: Sequence[Points], run: str, colour: str) -> None:
    """Seeds thin, their median thick."""
    rows = [point["rows"] + GROUP for point in paths[0]]
    missing = [[max(1 - point["share"], 1e-4) for point in path] for path in paths]
    for line in missing:
        axis.plot(rows, line, color=colour, linewidth=0.5, alpha=0.5)
    middle = [statistics.median(column) for column in zip(*missing, strict=True)]
    axis.plot(rows, middle, color=colour, linewidth=1.8, label=RUNS[run])
