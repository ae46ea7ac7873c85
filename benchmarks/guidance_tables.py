"""Tables and plot of `guidance`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Results, Table, failures, interval, succeeded

NAMES = {
    "base": "no guidance",
    "z_scored": "z-scored weights",
    "jensen": "Jensen weights, prior",
    "posterior": "Jensen weights, posterior",
    "exact": "`E[r \\| prefix]` to the gamma",
    "best": "best of n, true rewards",
    "value": "learned value",
    "tilt": "exact tilt, beta",
}
KINDS = ("reward", "kl", "frontier")


def tables(results: Results) -> list[Table]:
    """The learned part by family, then the exact part."""
    done = succeeded(results)
    families = sorted({key.split("/")[1] for key in done if key.startswith("learned/")})
    found = [_learned(done, family) for family in families]
    found += [_exact(key, done[key]) for key in done if key.startswith("exact/")]
    found = found or [Table("Guidance", ("nothing yet",), [])]
    return [*found, failures(results)]


def _seeds(done: dict[str, dict[str, Any]], family: str) -> list[dict[str, Any]]:
    cells = [cell for key, cell in done.items() if key.startswith(f"learned/{family}/")]
    return [{k: v for k, v in cell.items() if k != "seconds"} for cell in cells]


def _mean(cell: dict[str, Any], label: str, kind: str) -> float:
    values = [figures[label][kind] for figures in cell.values()]
    return float(sum(values) / len(values))


def _gain(cell: dict[str, Any], label: str) -> float:
    """Reward gained, as a share of what the frontier gains at the same KL."""
    start = _mean(cell, "base", "reward")
    return (_mean(cell, label, "reward") - start) / (_mean(cell, label, "frontier") - start)


def _learned(done: dict[str, dict[str, Any]], family: str) -> Table:
    cells = _seeds(done, family)
    rows = []
    for label in next(iter(cells[0].values())):
        means = [interval([_mean(cell, label, kind) for cell in cells]) for kind in KINDS]
        gain = "" if label == "base" else interval([_gain(cell, label) for cell in cells])
        rows.append((_named(label), *means, gain))
    header = ("method, gamma", "reward", "KL (nats)", "frontier", "share of its gain")
    count = len(next(iter(cells)))
    note = (
        f"Means over {count} reward functions, with a 95% interval over {len(cells)} seeds. The "
        "frontier is the exact tilt of the learned model at the same KL; its gain is what it adds "
        "to no guidance. Best of n draws as many rows as guidance makes forward passes a feature."
    )
    return Table(f"{family}: expected reward and KL of a guided model", header, rows, note)


def _exact(key: str, cell: dict[str, Any]) -> Table:
    labels = [label for label in cell if label != "seconds"]
    rows = [
        (_named(label), f"{cell[label]['reward']:.3f}", f"{cell[label]['kl']:.2f}")
        for label in labels
    ]
    name = key.removeprefix("exact/")
    note = "NASBench201, exact conditionals, 2% of the unconditional model in each."
    return Table(f"Exactly, reward `{name}`", ("method", "reward", "KL (nats)"), rows, note)


def _named(label: str) -> str:
    kind, _, strength = label.partition(" ")
    return f"{NAMES[kind]} {strength}".strip() if kind != "best" else NAMES[kind]


def plot(results: Results, path: Path) -> None:
    """Reward against KL: one panel for each exact reward and each family."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = _panels(succeeded(results))
    if not panels:
        return
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.6), squeeze=False)
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for kind, points in lines.items():
            kls, rewards = zip(*sorted(points), strict=True)
            label = NAMES[kind].replace("`", "").replace("\\", "")
            axis.plot(kls, rewards, "o-", label=label, color=f"C{[*NAMES].index(kind)}")
        axis.set(title=title, xlabel="KL (nats)", ylabel="expected reward")
    shown = {label: line for axis in axes[0] for line, label in _legend(axis)}
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.legend(shown.values(), shown.keys(), ncols=len(shown), fontsize=8, loc="lower center")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _legend(axis: Any) -> list[tuple[Any, str]]:
    return list(zip(*axis.get_legend_handles_labels(), strict=True))


def _panels(done: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for key, cell in done.items():
        if key.startswith("exact/"):
            figures = {k: (v["kl"], v["reward"]) for k, v in cell.items() if k != "seconds"}
            panels[key] = _lines(figures)
    for family in sorted({key.split("/")[1] for key in done if key.startswith("learned/")}):
        cells = _seeds(done, family)
        labels = next(iter(cells[0].values()))
        points = {k: (_over(cells, k, "kl"), _over(cells, k, "reward")) for k in labels}
        panels[family] = _lines(points)
        panels[family]["tilt"] = [
            (points[k][0], _over(cells, k, "frontier")) for k in labels if k.startswith("z_scored")
        ]
    return panels


def _over(cells: Sequence[dict[str, Any]], label: str, kind: str) -> float:
    return sum(_mean(cell, label, kind) for cell in cells) / len(cells)


def _lines(figures: dict[str, tuple[float, float]]) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for label, point in figures.items():
        lines.setdefault(label.partition(" ")[0], []).append(point)
    return lines
