"""Tables and plot of `generation`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.generation_baselines import RESTARTS, SEARCHES
from benchmarks.generation_common import (
    BEST,
    BEST_SEEN,
    ESTIMATOR_MAX,
    FAMILIES,
    GENERATED,
    JUDGE_MAX,
    LIKELY,
    OWN_BEST,
    REGIMES,
    REGIMES_NOTE,
    REGRET_NOTE,
    SAMPLES,
    TITLES,
    WRITTEN,
    Seeds,
    differences,
    figure,
    seed_means,
    with_failures,
)
from benchmarks.harness import Results, Table
from discrete_grad.evaluation import mean_interval

BASELINES = (BEST_SEEN, ESTIMATOR_MAX, JUDGE_MAX, *SEARCHES)
KINDS = {"percentile": "True percentile", "regret": "Regret"}
LEFT = 0.55  # of the plot
COLOURS = dict(zip(REGIMES, ("C0", "C1", "C2"), strict=True))
MEANS_NOTE = (
    "Mean over the tables of a family, then over seeds with a 95% interval; differences are "
    "between pairs. "
)


def tables(results: Results) -> list[Table]:
    """The README's, then regret, baselines, what they ask, and every table."""
    found = [_leading(results, kind) for kind in KINDS]
    for kind, title in KINDS.items():
        found.append(_every_name(results, kind, f"{title} of every row"))
        found.append(_against(results, kind))
    found += [_asked(results), *(_each_table(results, regime) for regime in REGIMES)]
    return with_failures(found, results)


def _leading(results: Results, kind: str) -> Table:
    """A row for each family and regime: the generator against its estimator's exact argmax."""
    names = (BEST_SEEN, *WRITTEN.values(), LIKELY, ESTIMATOR_MAX, *OWN_BEST.values())
    first = WRITTEN[1]
    gap = f"{first} minus {ESTIMATOR_MAX}"
    rows = []
    for family, regime in _groups():
        values = {n: seed_means(results, f"{family}/{regime}", n, kind) for n in names}
        apart = differences(values[first], values[ESTIMATOR_MAX])
        told = (TITLES[family], f"`{regime}`", str(len(values[first])))
        rows.append((*told, *map(figure, values.values()), figure(apart, sign="+")))
    note = MEANS_NOTE + REGIMES_NOTE + " `generate` writes rows that the table does not have."
    note += f" {REGRET_NOTE}" if kind == "regret" else ""
    return Table(KINDS[kind], ("", "rows", "seeds", *names, gap), rows, note)


def _groups() -> Iterator[tuple[str, str]]:
    return ((family, regime) for family in FAMILIES for regime in REGIMES)


def _header(first: str) -> tuple[str, ...]:
    return (first, *(f"{TITLES[family]}, `{regime}`" for family, regime in _groups()))


def _by_group(
    results: Results, names: Sequence[str], entry: Callable[[str, str], str]
) -> list[tuple[str, ...]]:
    """A row a name, a column a family and regime; the entry is of a group and a name."""
    groups = [f"{family}/{regime}" for family, regime in _groups()]
    return [(name, *(entry(group, name) for group in groups)) for name in names]


def _every_name(results: Results, kind: str, title: str) -> Table:
    rows = _by_group(
        results,
        (*WRITTEN.values(), *GENERATED, *BASELINES),
        lambda group, name: figure(seed_means(results, group, name, kind)),
    )
    return Table(title, _header(""), rows, _searches_note(results))


def _against(results: Results, kind: str) -> Table:
    def entry(group: str, name: str) -> str:
        mine, theirs = (seed_means(results, group, n, kind) for n in (LIKELY, name))
        return figure(differences(mine, theirs), sign="+")

    better = "above" if kind == "percentile" else "below"
    note = f"{MEANS_NOTE}The generator's row is better where the difference is {better} 0."
    title = f"{KINDS[kind]} of the {LIKELY}, minus that of others"
    names = (*GENERATED[1:], *BASELINES)
    return Table(title, _header("minus"), _by_group(results, names, entry), note)


def _searches_note(results: Results) -> str:
    settings = results["settings"]
    training = settings["fit"]["generator"]
    trained = training["steps"] * training["batch_size"] * training["samples"]
    return (
        f"{MEANS_NOTE}The searches ask the same estimator about {settings['evaluations']:,} rows "
        f"(BoTorch's about as many: half of them uniform, then {RESTARTS} ascents to their ends); "
        "the generator's training asks about "
        f"{trained:,}, with derivatives, and it then writes any number of rows. `{SAMPLES}` "
        "samples make the mean."
    )


def _asked(results: Results) -> Table:
    """Evaluations, seconds and shortfall of each search."""

    def entry(group: str, name: str) -> str:
        values = [
            seed_means(results, group, name, k) for k in ("shortfall", "evaluations", "seconds")
        ]
        if not values[0]:
            return "-"
        shortfall, count, seconds = (_mean(v) for v in values)
        asked = f" / {count:,.0f} / {seconds:.2f}" if values[1] else ""
        return f"{shortfall:.3f}{asked}"

    note = (
        "By how much the estimator's own score of the row is below its maximum over all rows (the "
        "scaled scores have a standard deviation of 1), the rows asked about, the seconds."
    )
    names = (LIKELY, *BEST.values(), BEST_SEEN, *SEARCHES)
    rows = _by_group(results, names, entry)
    return Table("How well the estimator is maximised", _header(""), rows, note)


def _mean(values: Seeds) -> float:
    return sum(values.values()) / len(values) if values else float("nan")


def _each_table(results: Results, regime: str) -> Table:
    """A row for each table of each family."""
    names = (BEST_SEEN, *WRITTEN.values(), *GENERATED, ESTIMATOR_MAX)
    rows = []
    for family, datasets in FAMILIES.items():
        for dataset in datasets:
            alone = _only(results, f"{family}/{regime}/{dataset}/")
            values = [seed_means(alone, f"{family}/{regime}", name) for name in names]
            apart = differences(values[1], values[-1])
            told = (TITLES[family], dataset, str(len(values[1])))
            rows.append((*told, *map(figure, values), figure(apart, sign="+")))
    header = ("", "table", "seeds", *names, f"{WRITTEN[1]} minus {ESTIMATOR_MAX}")
    note = "Mean over seeds with a 95% interval."
    return Table(f"True percentile on each table, `{regime}`", header, rows, note)


def _only(results: Results, start: str) -> Results:
    kept = {key: cell for key, cell in results["cells"].items() if key.startswith(start)}
    return results | {"cells": kept}


def plot(results: Results, path: Path) -> None:
    """Dots with intervals, a panel a family, a colour a regime."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    names = [*reversed((*WRITTEN.values(), *GENERATED, *BASELINES))]
    drawing, panels = plt.subplots(1, len(FAMILIES), figsize=(13, 6), sharey=True)
    for axes, family in zip(panels, FAMILIES, strict=True):
        for shift, regime in zip((0.22, 0, -0.22), REGIMES, strict=True):
            for place, name in enumerate(names):
                values = seed_means(results, f"{family}/{regime}", name)
                _dot(axes, place + shift, [*values.values()], COLOURS[regime])
        axes.set_yticks(range(len(names)), names)
        axes.axvline(0.8, color="0.8")
        axes.axhline(len(BASELINES) - 0.5, color="0.8", linewidth=0.8)
        axes.set_xlim(LEFT, 1.005)
        axes.set_title(TITLES[family])
        axes.set_xlabel("true percentile, mean over the family's tables")
    handles = [Line2D([], [], marker="o", color=COLOURS[r], label=r) for r in REGIMES]
    panels[0].legend(handles=handles, loc="lower left", fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


def _dot(axes: Any, place: float, values: Sequence[float], colour: str) -> None:
    if not values:
        return
    mean, low, high = mean_interval(values)
    if mean < LEFT:  # an arrowhead at the edge
        axes.plot(LEFT, place, "<", color=colour, clip_on=False, ms=4)
        return
    axes.plot(mean, place, "o", color=colour, ms=4)
    if len(values) > 1:
        axes.plot([low, high], [place, place], color=colour, linewidth=1.2)
