"""Tables and plot of `estimators`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.estimators_peers import PEERS
from benchmarks.estimators_settings import QUICK, SETTINGS
from benchmarks.generation_common import FAMILIES, TITLES, Seeds, differences, figure
from benchmarks.harness import Results, Table, failures, succeeded

OURS = "discrete_grad"
GENERATED, ALL_ROWS, LOCAL = "generated", "best of all rows", "local search"
METHODS = (OURS, *PEERS)
WAYS = {f"{OURS}, {GENERATED}": (OURS, GENERATED)} | {
    f"{method}, {how}": (method, how) for method in METHODS for how in (ALL_ROWS, LOCAL)
}
PUBLISHED = (
    "Published on SIX6 (TF Bind 8 of Design-Bench, 128 rows): the best of 128 rows at most .985 ± "
    ".008 (Mean ensemble, table 2 of RaM), the median at most .630."
)
NOTE = (
    "Mean over seeds; higher is better. The margin is ours minus the best of the peers, with a 95% "
    "interval of the paired differences. Families are means over their tables. Ring: learnt from "
    "noisy scores with interactions of pairs, and compared with the truth without noise."
)
Cells = dict[tuple[str, str], dict[int, Any]]
Value = Callable[[dict[str, Any]], float | None]


def of(*path: str) -> Value:
    """The figure of a cell at a path of keys; None where it has none."""

    def value(cell: dict[str, Any]) -> float | None:
        found: Any = cell
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return float(found) if isinstance(found, int | float) else None

    return value


def indexed(results: Results) -> Cells:
    """The cells that have figures, by setting and method and then by seed."""
    cells: Cells = {}
    for key, cell in succeeded(results).items():
        setting, seed, method = key.split("/")
        cells.setdefault((setting, method), {})[int(seed)] = cell
    return cells


def by_seed(cells: Cells, setting: str, method: str, value: Value) -> Seeds:
    """A method's figure on a setting, by seed."""
    found = {seed: value(cell) for seed, cell in cells.get((setting, method), {}).items()}
    return {seed: number for seed, number in sorted(found.items()) if number is not None}


def family_mean(cells: Cells, settings: Sequence[str], method: str, value: Value) -> Seeds:
    """The mean over settings, of the seeds that all of them have."""
    parts = [by_seed(cells, setting, method, value) for setting in settings]
    seeds = set.intersection(*map(set, parts)) if parts else set()
    return {seed: fmean(part[seed] for part in parts) for seed in sorted(seeds)}


def groups(cells: Cells) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Label and settings of each line: a setting alone, or the tables of a family."""
    have = {setting for setting, _ in cells}
    members = {TITLES[family]: names for family, names in FAMILIES.items()}
    inside = {name for names in members.values() for name in names}
    for setting in (*QUICK, *SETTINGS):
        if setting in have and setting not in inside:
            yield setting, (setting,)
    for title, names in members.items():
        if found := tuple(name for name in names if name in have):
            yield title, found


def tables(results: Results) -> list[Table]:
    """Rank correlation first, then recall, proposed rows, each table, costs and what is missing."""
    cells = indexed(results)
    return [
        _methods(cells, "Rank correlation with held-out truth", of("spearman"), NOTE, mean=True),
        _methods(cells, "Recall of the top decile", of("recall"), NOTE, mean=True),
        _bind(cells),
        _ways(cells, "First row", "first", "percentile"),
        _ways(cells, "Best of 128 rows", "best", "score"),
        _ways(cells, "Median of 128 rows", "median", "score"),
        _ways(cells, "Mean of 128 rows", "mean", "percentile"),
        _ways(cells, "Mean of the first 16 rows", "mean of 16", "percentile"),
        _each(cells),
        _methods(cells, "Seconds of a fit", of("fit seconds"), "On one core.", digits=1),
        _methods(cells, "Memory of a fit", of("MiB"), "MiB at most, above before.", digits=0),
        _left_out(results),
        failures(results),
    ]


def _methods(
    cells: Cells,
    title: str,
    value: Value,
    note: str,
    *,
    mean: bool = False,
    digits: int = 3,
) -> Table:
    """A line a group, a column a method."""
    methods = _run(cells)
    margin = mean and OURS in methods
    every = [
        (label, {m: family_mean(cells, settings, m, value) for m in methods})
        for label, settings in groups(cells)
    ]
    rows = [_line(label, found, digits, margin=margin) for label, found in every]
    if margin and every:
        rows += [_mean_line(every), _lead_line(every)]
    header = ("", "seeds", *methods, *(["margin"] if margin else []))
    return Table(title, header, rows, note)


def _run(cells: Cells) -> list[str]:
    """The methods that have figures."""
    run = {method for _, method in cells}
    return [method for method in METHODS if method in run]


def _line(label: str, found: dict[str, Seeds], digits: int, *, margin: bool) -> list[str]:
    shown = [f"{fmean(v.values()):,.{digits}f}" if v else "-" for v in found.values()]
    seeds = max(map(len, found.values()))
    return [label, str(seeds), *shown, *([_margin(found)] if margin else [])]


def _margin(found: dict[str, Seeds]) -> str:
    """The first method's figure minus that of the best of the others."""
    mine, *others = found.values()
    others = [other for other in others if other]
    if not mine or not others:
        return "-"
    best = max(others, key=lambda other: fmean(other.values()))
    return figure(differences(mine, best), sign="+")


def _mean_line(every: Sequence[tuple[str, dict[str, Seeds]]]) -> list[str]:
    """Means over the groups that every method has, but for those of sequences alone."""
    methods = every[0][1]
    usual = [m for m in methods if m == OURS or not PEERS[m].sequences]
    full = [found for _, found in every if all(found[m] for m in usual)]
    means = {m: fmean(fmean(f[m].values()) for f in full) for m in usual} if full else {}
    shown = [f"{means[m]:.3f}" if m in means else "-" for m in methods]
    return [f"mean of the {len(full)} lines that all methods were fitted to", "", *shown, ""]


def _lead_line(every: Sequence[tuple[str, dict[str, Seeds]]]) -> list[str]:
    """Ours minus each peer, the mean over the groups that both have."""
    entries = []
    for method in every[0][1]:
        both = [f for _, f in every if f[OURS] and f[method]]
        apart = [fmean(f[OURS].values()) - fmean(f[method].values()) for f in both]
        entries.append(f"{fmean(apart):+.3f} ({len(apart)})" if apart else "-")
    return [f"mean of {OURS} minus this method (number of lines)", "", "", *entries[1:], ""]


def _ways(cells: Cells, title: str, which: str, kind: str) -> Table:
    """A line a way to propose rows, a column a group."""
    lines = list(groups(cells))
    rows = [
        [
            way,
            *(_way(cells, settings, method, of(how, f"{which} {kind}")) for _, settings in lines),
        ]
        for way, (method, how) in WAYS.items()
    ]
    shown = [i for i in range(len(lines)) if any(row[i + 1] != "-" for row in rows)]
    kept = [[row[0], *(row[i + 1] for i in shown)] for row in rows]
    units = {
        "percentile": "True percentile: the share of all rows that are worse.",
        "score": "True score, 0 for the worst of all rows and 1 for the best.",
    }
    note = f"{units[kind]} Mean over seeds. {PUBLISHED if kind == 'score' else ''}".strip()
    return Table(f"{title}: true {kind}", ("", *(lines[i][0] for i in shown)), kept, note)


def _way(cells: Cells, settings: Sequence[str], method: str, value: Value) -> str:
    found = family_mean(cells, settings, method, value)
    return f"{fmean(found.values()):.3f}" if found else "-"


def _bind(cells: Cells) -> Table:
    """Best and median with intervals on the four settings of TF Bind 8."""
    settings = [s for s in SETTINGS if s.startswith("TF Bind 8")]
    header = ["", *(f"{s}: {which}" for s in settings for which in ("best", "median"))]
    rows = []
    for way, (method, how) in WAYS.items():
        entries = [
            figure(by_seed(cells, s, method, of(how, f"{which} score")))
            for s in settings
            for which in ("best", "median")
        ]
        rows.append([way, *entries])
    note = (
        "True score of 128 proposed rows, 0 for the worst of all rows and 1 for the best, with a "
        f"95% interval over seeds. Learnt from the worst half. {PUBLISHED}"
    )
    return Table("TF Bind 8: proposed rows", header, rows, note)


def _each(cells: Cells) -> Table:
    """Rank correlation on each table of the families."""
    have, methods = {setting for setting, _ in cells}, _run(cells)
    names = [name for names in FAMILIES.values() for name in names if name in have]
    rows = [
        _line(n, {m: by_seed(cells, n, m, of("spearman")) for m in methods}, 3, margin=True)
        for n in names
    ]
    return Table("Rank correlation, each table", ("", "seeds", *methods, "margin"), rows, NOTE)


def _left_out(results: Results) -> Table:
    """The methods that were not fitted, and why."""
    reasons = {
        (key.split("/")[2], cell["left out"]): None
        for key, cell in results["cells"].items()
        if "left out" in cell
    }
    return Table("Left out", ("method", "why"), sorted(map(list, reasons)) or [["none", ""]])


def plot(results: Results, path: Path) -> None:
    """Rank correlations, a line a group, a mark a method."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    cells = indexed(results)
    lines = [*reversed(list(groups(cells)))]
    drawing, axes = plt.subplots(figsize=(11, 1.5 + 0.4 * len(lines)))
    for index, method in enumerate(_run(cells)):
        found = [family_mean(cells, settings, method, of("spearman")) for _, settings in lines]
        places = [i for i, seeds in enumerate(found) if seeds]
        means = [fmean(found[i].values()) for i in places]
        marker, colour = ("*", "black") if method == OURS else ("o", f"C{index}")
        size = 12 if method == OURS else 6
        axes.plot(means, places, marker, color=colour, label=method, ms=size, alpha=0.8)
    axes.set_yticks(range(len(lines)), [label for label, _ in lines])
    axes.set_xlabel("rank correlation with held-out truth, mean over seeds")
    axes.grid(axis="y", color="0.9")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)
