"""Tables and plot of `rl`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Results, Table, failures, interval, succeeded
from discrete_grad.evaluation import fit_gain_curve, mean_interval

TITLES = {"nasbench201": "NASBench201", "hpolib": "HPOLib"}
BEST_FACTORISED = "best independent features"
NAMES = {
    "reinforce": "REINFORCE",
    "leave_one_out": "leave-one-out",
    "group_relative": "group-relative",
    "a2c": "A2C",
    "ppo": "PPO",
    "advantage_weighted": "advantage-weighted",
}
NEAR = 0.99
STEADY = 0.1  # share of the proxy's gain that may be untrue before proxy and truth part

Paths = dict[str, list[dict[str, Any]]]  # cells by method


def tables(results: Results) -> list[Table]:
    """With the true reward, then with a learned one, then failures."""
    done = succeeded(results)
    found = [_true(done)] if done else [Table("Reinforcement learning", ("nothing yet",), [])]
    for reward in ("learned", "learned, free"):
        if any(key.split("/")[1] == reward for key in done):
            found.append(_hacked(done, reward))
    return [*found, failures(results)]


def _paths(done: dict[str, dict[str, Any]], table: str, reward: str) -> Paths:
    found: Paths = {}
    for key, cell in done.items():
        place, kind, method, _ = key.split("/")
        if (place, kind) == (table, reward):
            found.setdefault(method, []).append(cell)
    return found


def _tables_in(done: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name in TITLES if any(key.startswith(name) for key in done)]


def _true(done: dict[str, dict[str, Any]]) -> Table:
    names = _tables_in(done)
    by_table = {name: _paths(done, name, "true") for name in names}
    methods = sorted({m for paths in by_table.values() for m in paths}, key=_place)
    header = ["method"]
    for name in names:
        header += [
            f"{TITLES[name]}: share of the optimum",
            "to 99%",
            "to 99% of the best independent features",
        ]
    rows = []
    for method in methods:
        line = [_named(method)]
        for name in names:
            line += _true_entries(by_table[name], method)
        rows.append(line)
    note = (
        "Exact share of `beta log Z` that the objective reaches at the end: mean with a 95% "
        "interval over seeds. Rows and seconds say after how many the share stays at 99% or more: "
        "medians over seeds, with the number of seeds that got there if not all did. The clock is "
        "stopped while a policy is evaluated."
    )
    return Table("The true table as reward", header, rows, note)


def _named(method: str) -> str:
    ours = method.removesuffix(", factorised")
    name = NAMES.get(ours, ours)
    return name if ours == method else f"{name}, independent features"


def _place(method: str) -> tuple[bool, int, str]:
    """Ours first, in the order of `NAMES`, then peers."""
    ours = method.removesuffix(", factorised")
    return ours not in NAMES, [*NAMES, ours].index(ours), method


def _true_entries(paths: Paths, method: str) -> list[str]:
    if method not in paths:
        return ["-"] * 3
    cells, bound = paths[method], 1.0
    if BEST_FACTORISED in paths:
        bound = paths[BEST_FACTORISED][0]["path"][-1]["share"]
    share = interval([cell["path"][-1]["share"] for cell in cells])
    if method == BEST_FACTORISED:
        return [share, "-", "-"]
    return [share, _needed(cells, NEAR), _needed(cells, NEAR * bound)]


def _needed(cells: Sequence[dict[str, Any]], share: float) -> str:
    """Median rows and seconds from which on a share is kept; those that never do count as last."""
    reached = [point for cell in cells if (point := first_steady(cell["path"], share))]
    if 2 * len(reached) <= len(cells):
        return f"{len(reached)} of {len(cells)}"
    missing = [math.inf] * (len(cells) - len(reached))
    rows = statistics.median_low([p["rows"] for p in reached] + missing)
    seconds = statistics.median_low([p["seconds"] for p in reached] + missing)
    kept = "" if not missing else f" ({len(reached)} of {len(cells)})"
    return f"{rows:,.0f} rows, {seconds:.2g} s{kept}"


def first_steady(path: Sequence[dict[str, float]], share: float) -> dict[str, float] | None:
    """The first point from which on, to the end, a path has this share of the optimum."""
    first = None
    for point in reversed(path):
        if point["share"] < share:
            break
        first = point
    return first


def _hacked(done: dict[str, dict[str, Any]], reward: str) -> Table:
    rows = []
    for name in _tables_in(done):
        for method, cells in sorted(
            _paths(done, name, reward).items(), key=lambda pair: _place(pair[0])
        ):
            ends = [cell["path"][-1] for cell in cells]
            best = [max(cell["path"], key=lambda point: point["true"]) for cell in cells]
            parts = [parting(cell["path"]) for cell in cells]
            came = [d for d in parts if d is not None]
            where = f"{statistics.median(came):.2f} ({len(came)} of {len(parts)})" if came else "-"
            rows.append(
                (
                    TITLES[name],
                    _named(method),
                    interval([math.sqrt(end["kl"]) for end in ends]),
                    interval([end["proxy"] for end in ends]),
                    interval([end["true"] for end in ends]),
                    interval([point["true"] for point in best]),
                    interval([math.sqrt(point["kl"]) for point in best]),
                    where,
                    _bend(cells),
                )
            )
    header = (
        "",
        "method",
        "sqrt KL",
        "learned reward",
        "true score",
        "best true score on the way",
        "at sqrt KL",
        "parting at",
        "bend b of the truth",
    )
    note = (
        "At the end of training, in standard deviations of the true score from its mean, each mean "
        "with a 95% interval over seeds. Learned reward and truth part at the first sqrt KL from "
        f"which on the former's gain exceeds the latter's by {STEADY:.0%} (median over the seeds "
        "that part). Bend: b of the fit `d (a - b log d)` to the true gain, d = sqrt KL; above 0 "
        "it has a highest point."
    )
    leash = "with a beta of .01" if "free" in reward else "with the same beta"
    return Table(f"A learned reward, {leash}", header, rows, note)


def parting(path: Sequence[dict[str, float]]) -> float | None:
    """The distance from which on the proxy's gain is more than the truth's by a tenth of it."""
    first = None
    for point in reversed(path):
        # both are 0 for the reference
        if point["proxy"] - point["true"] <= STEADY * abs(point["proxy"]):
            break
        first = math.sqrt(point["kl"])
    return first


def _bend(cells: Sequence[dict[str, Any]]) -> str:
    bends = []
    for cell in cells:
        distance = torch.tensor([math.sqrt(max(point["kl"], 0.0)) for point in cell["path"]])
        gain = torch.tensor([point["true"] for point in cell["path"]])
        curve = fit_gain_curve(distance, gain)
        if curve is not None:
            bends.append(curve.b[0])
    return interval(bends, 2) if bends else "-"


def plot(results: Results, path: Path) -> None:
    """Share of the optimum against rows; proxy and truth against sqrt KL."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    done = succeeded(results)
    names = _tables_in(done)
    if not names:
        return
    figure, axes = plt.subplots(len(names), 2, figsize=(12, 4.2 * len(names)), squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        _plot_shares(left, _paths(done, name, "true"))
        _plot_hacking(right, _paths(done, name, "learned, free"))
        left.set_title(f"{TITLES[name]}, true table")
        right.set_title(f"{TITLES[name]}, learned reward, beta .01")
    for axis in axes[-1]:  # below the curves, which fill their panels
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7, ncol=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _plot_shares(axis: Any, paths: Paths) -> None:
    for number, (method, cells) in enumerate(paths.items()):
        if method == BEST_FACTORISED:
            bound = 1 - cells[0]["path"][-1]["share"]
            axis.axhline(bound, color="black", linestyle=":", label="best independent features")
            continue
        rows = [point["rows"] for point in cells[0]["path"]]
        missing = [
            max(1 - mean_interval([cell["path"][i]["share"] for cell in cells])[0], 1e-4)
            for i in range(len(rows))
        ]
        style = "--" if "stable" in method or "Torch" in method else "-"
        style = "-." if "factorised" in method else style
        axis.plot(
            rows, missing, style, color=f"C{number % 10}", label=_named(method), linewidth=1.3
        )
    axis.axhline(1 - NEAR, color="gray", linewidth=0.8)
    axis.set(xscale="log", yscale="log", xlabel="rows", ylabel="share of the optimum missing")


def _plot_hacking(axis: Any, paths: Paths) -> None:
    for number, (method, cells) in enumerate(paths.items()):
        points = range(len(cells[0]["path"]))
        means = {
            kind: [statistics.mean(cell["path"][i][kind] for cell in cells) for i in points]
            for kind in ("proxy", "true")
        }
        distance = [
            statistics.mean(math.sqrt(max(cell["path"][i]["kl"], 0)) for cell in cells)
            for i in points
        ]
        colour = f"C{number % 10}"
        axis.plot(distance, means["true"], color=colour, label=_named(method), linewidth=1.3)
        axis.plot(distance, means["proxy"], ":", color=colour, linewidth=1.0)
    axis.set(xlabel="sqrt KL (nats), dotted: the learned reward", ylabel="score, sd from the mean")
