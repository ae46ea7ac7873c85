"""Tables and plot of `rules`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.harness import Results, Table, failures, interval, succeeded
from benchmarks.hidden_cost import slope
from benchmarks.rules_speed import DRAWN, LISTED, STAGES

PROTOTYPE = ("57 / 24", "227 / 46", "515 / 151")  # ms, forward + backward / sampling
MOMENTS = ("bias", "deviation", "rmse", "cosine")
Cells = list[dict[str, Any]]


def tables(results: Results) -> list[Table]:
    """Drawing, the settings, growth, gradients and edits."""
    return [
        _against(_part(results, "against")),
        _settings(_part(results, "setting")),
        _growth(_part(results, "growth")),
        *(_subsets(_part(results, "subset"), loss) for loss in ("squares", "linear between")),
        _edits(_by_method(results)),
        failures(results),
    ]


def _part(results: Results, name: str) -> Cells:
    found = succeeded(results)
    return [found[key] for key in sorted(found) if key.startswith(f"{name}/")]


# --- speed ----------------------------------------------------------------------------------------


def _against(cells: Cells) -> Table:
    rows = [
        (
            f"{_power(c['rows'])}",
            f"{_power(c['allowed'])} ({c['share']:.2g})",
            f"{_ms(c['compile'])}",
            f"{_ms(c['law'])} ({_mib(c['memory'])})",
            _rejected(c["rejection"]),
            f"{_ms(c['list'])} ({_mib(c['list memory'])})" if "list" in c else "-",
        )
        for c in cells
    ]
    note = (
        f"Processor times, medians. {DRAWN} rows with ten categories per feature are drawn from "
        "independent features with normal logits, under two rules: the codes of a row sum to at "
        "most twice the number of features, and no two neighbours are both 0. `law`: the exact "
        "distribution of the allowed rows and its draws, from compiled rules. `rejection`: draw, "
        "and keep the rows that obey; ~ where it was stopped and the time is computed from the "
        "exact probability of an allowed row. `list`: make all rows, filter them, draw by weight; "
        f"- above {LISTED:,} rows, where the list takes more memory than a cell may. In brackets "
        "are the probability of an allowed row and the peak of memory."
    )
    header = ("rows", "allowed", "compile", "law", "rejection", "list of all rows")
    return Table(f"{DRAWN} allowed rows out of a growing table", header, rows, note)


def _rejected(times: Mapping[str, float]) -> str:
    return f"{'' if times['found'] == DRAWN else '~ '}{_ms(times)}"


def _settings(cells: Cells) -> Table:
    rows = [
        (
            "{} x {}, {} edits, batch {}".format(*c["size"]),
            before,
            *(f"{_ms(c['times'][name])} ({c['times'][name]['wall']:.0f})" for name in STAGES),
            _ms(c["compile"]),
            _mib(max(c["memory"].values())),
        )
        for c, before in zip(cells, PROTOTYPE, strict=False)
    ]
    note = (
        "Processor time of a call, median, in brackets milliseconds by the clock; one thread. The "
        "prototype was plain torch, one thread: forward + backward / sampling. Forward + backward "
        "is log Z from logits and its derivative; sample and mode are of a law that is there. Peak "
        "memory is the largest of the calls'."
    )
    header = ("features x categories", "prototype: ms", *STAGES, "compile", "peak memory")
    return Table("Three settings", header, rows, note)


def _growth(cells: Cells) -> Table:
    stages: dict[str, Callable[[Any], float]] = {
        name: lambda point, name=name: point[name]["cpu"]  # type: ignore[misc]
        for name in ("compile", *STAGES)
    }
    stages["memory"] = lambda point: point["memory"]["forward + backward"]
    rows = []
    for cell in cells:
        sizes = cell["sizes"]
        fits = [slope(sizes, [of(p) for p in cell["points"]]) for of in stages.values()]
        shown = [f"{a:.2f} ± {b:.2f}" if len(sizes) > 2 else f"{a:.2f}" for a, b in fits]
        rows.append((cell["axis"], f"{sizes[0]} to {sizes[-1]}", *shown))
    note = (
        "Slopes of log processor time (medians) and log peak memory, ± half the 95% interval; 1 is "
        "linear growth, and less is where what does not grow is still a good part. Rows within 8 "
        "edits of a given one, 48 features of 16 categories, batch 32; for edits, whose number of "
        "states grows as they do, 256 features of 4, batch 64."
    )
    header = ("what grows", "from, to", *stages)
    return Table("Growth", header, rows, note)


def _ms(times: Mapping[str, float]) -> str:
    value = times["cpu"]
    if value < 1e3:
        return f"{value:.3g} ms"
    seconds = value / 1e3
    if seconds < 86_400:
        return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 86_400:.1f} days"


def _mib(value: float) -> str:
    return f"{value / 2**20:.3g} MiB"


def _power(value: float) -> str:
    return f"{value:,.0f}" if value < 1e7 else f"{value:.1e}"


# --- gradients ------------------------------------------------------------------------------------


def _subsets(cells: Cells, loss: str) -> Table:
    names = list(cells[0][loss]) if cells else []
    rows = [(f"`{n}`" if "(" in n else n, *_moments([c[loss][n] for c in cells])) for n in names]
    apart = max((_apart(c[loss]) for c in cells), default=0.0)
    seen = min((_seen(c[loss]) for c in cells), default=0)
    what = {
        "squares": "E ||z - b||^2 as published",
        "linear between": "the same values at subsets, linear between them",
    }
    note = (
        "Relative to the norm of the exact gradient of the law of independent elements given that 5"
        f" are in; means over {len(cells)} draws of theta and b, with 95% intervals. Bias and "
        "deviation are exact by enumeration, but for Gumbel-top-k and I-MLE, whose gradients are "
        f"drawn, {cells[0]['draws'] if cells else 0:,} of them; `own law`: its bias from the "
        "gradient of the law that it draws from, which is another. Cosine is the mean of 1 - cos "
        f"to the exact gradient. `StraightThrough`'s gradients are those of the formula to "
        f"{apart:.0e} on every subset that was drawn, of 252 at least {seen}; `LeaveOneOut`'s have "
        f"the exact mean to at most {_errors(cells, loss):.1f} standard errors."
    )
    header = ("gradient estimator", *MOMENTS, "own law: bias")
    return Table(f"Gradients of 5 of 10: {what[loss]}", header, rows, note)


def _errors(cells: Cells, loss: str) -> float:
    """The largest distance of a drawn mean from the exact gradient, in its standard errors."""
    drawn = [m for c in cells for m in c[loss].values() if "drawn bias" in m]
    return max((m["drawn bias"] / m["drawn noise"] for m in drawn), default=0.0)


def _moments(found: Sequence[Mapping[str, float]]) -> list[str]:
    shown = [_small([one[name] for one in found]) for name in MOMENTS]
    own = [one["own bias"] for one in found if "own bias" in one]
    return [*shown, interval(own, 2) if own else ""]


def _small(values: Sequence[float]) -> str:
    return "0" if max(values) < 1e-9 else interval(values, 2)


def _apart(methods: Mapping[str, Mapping[str, float]]) -> float:
    return methods["StraightThrough(rules=)"]["difference from SIMPLE"]


def _seen(methods: Mapping[str, Mapping[str, float]]) -> int:
    return int(methods["StraightThrough(rules=)"]["subsets drawn"])


# --- edits ----------------------------------------------------------------------------------------


def _by_method(results: Results) -> dict[str, Cells]:
    """Runs of each method, those of all scorers together."""
    found: dict[str, Cells] = {}
    for cell in _part(results, "edit"):
        for name, runs in cell["runs"].items():
            found.setdefault(name, []).extend(runs)
    return dict(sorted(found.items(), key=lambda pair: -_gain(pair[1], -1)))


def _gain(runs: Cells, look: int) -> float:
    return fmean(run["gains"][look] for run in runs)


def _edits(found: Mapping[str, Cells]) -> Table:
    first: Cells = next(iter(found.values()), [])
    looks = first[0]["looks"] if found else []
    rows = [
        (
            f"`{name}`" if "(" in name else name,
            *(interval([run["gains"][i] for run in runs]) for i in range(len(looks))),
            _less(runs, first),
            f"{fmean(run['edits'] for run in runs):.1f}",
            f"{fmean(run['broken'] for run in runs):.0%}",
            f"{fmean(run['broken at the end'] for run in runs):.0%}",
            f"{fmean(run['edits at the end'] for run in runs):.1f}",
            f"{fmean(run['cpu'] for run in runs):.1f}",
        )
        for name, runs in found.items()
    ]
    note = (
        f"{len(first)} sequences of 200 bases; at most 5 edits, 20 bases fixed at either end, a "
        "site of 6 bases nowhere. Score of the best allowed row scored so far, above that of the "
        "start, by passes of the scorer (a row forward is one, a row backward another), with 95% "
        "intervals; `to the first`: in the end, on the same sequences. `broken`: scored rows that "
        "break a rule; `at the end`: of the sequences handed over. "
        "Prices, rates and temperatures were chosen on a scorer that is not among these."
    )
    header = ("method", *(f"{look:,}" for look in looks), "to the first", "edits", "broken")
    after = ("broken at the end", "edits at the end", "processor s")
    return Table("Editing DNA: score gained", (*header, *after), rows, note)


def _less(runs: Cells, first: Cells) -> str:
    """Paired difference of the last gains to those of another method."""
    if runs is first:
        return ""
    return interval([a["gains"][-1] - b["gains"][-1] for a, b in zip(runs, first, strict=True)], 2)


# --- plot -----------------------------------------------------------------------------------------


def plot(results: Results, path: Path) -> None:
    """Time against the size of the table, time against each size, and edits against passes."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, 3, figsize=(16, 4.4))
    _plot_against(grid[0], _part(results, "against"))
    _plot_growth(grid[1], _part(results, "growth"))
    _plot_edits(grid[2], _by_method(results))
    for axes in grid:
        axes.grid(color="0.92")
        axes.legend(frameon=False, fontsize=8)
    grid[2].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _plot_against(axes: Any, cells: Cells) -> None:
    lines: dict[str, Callable[[Any], Any]] = {
        "law": lambda c: c["law"],
        "compile": lambda c: c["compile"],
        "rejection": lambda c: c["rejection"],
        "list of all rows": lambda c: c.get("list"),
    }
    for number, (name, of) in enumerate(lines.items()):
        points = [(c["rows"], of(c)["cpu"]) for c in cells if of(c)]
        axes.plot(*zip(*points, strict=True), "o-", color=f"C{number}", label=name, markersize=3)
    axes.set(xscale="log", yscale="log", xlabel="rows of the table", ylabel="processor time (ms)")
    axes.set_title(f"{DRAWN} allowed rows", fontsize=10)
    axes.set_ylim(top=1e9)


def _plot_growth(axes: Any, cells: Cells) -> None:
    for number, cell in enumerate(cells):
        first = cell["points"][0]["forward + backward"]["cpu"]
        times = [point["forward + backward"]["cpu"] / first for point in cell["points"]]
        sizes = [size / cell["sizes"][0] for size in cell["sizes"]]
        axes.plot(sizes, times, "o-", color=f"C{number}", label=cell["axis"], markersize=3)
    axes.plot([1, 16], [1, 16], ":", color="0.5", label="linear")
    axes.set(xscale="log", yscale="log", xlabel="size, to the smallest", ylabel="time, to the same")
    axes.set_title("log Z, forward + backward", fontsize=10)


def _plot_edits(axes: Any, found: Mapping[str, Cells]) -> None:
    for number, (name, runs) in enumerate(found.items()):
        gains = [_gain(runs, i) for i in range(len(runs[0]["looks"]))]
        axes.plot(runs[0]["looks"], gains, "o-", color=f"C{number}", label=name, markersize=3)
    axes.set(xscale="log", xlabel="passes of the scorer", ylabel="score gained")
    looks = next(iter(found.values()))[0]["looks"] if found else []
    axes.set_xticks(looks, [f"{look:,}" for look in looks])
    axes.minorticks_off()
    axes.set_title("editing DNA, at most 5 edits", fontsize=10)
