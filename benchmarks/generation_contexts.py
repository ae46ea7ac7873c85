"""One generator for all data sets of a family: those it has seen, and one that it has not.

`all`: one fit to 1,500 rows of the worst 80% of every data set, with the data set as a categorical
context.

`left out`: a fit to the others, for a data set that is described by 50 of its rows. A name says
nothing about an unseen data set, so the context is numeric: the main effects of 50 rows, which are
for each category the mean scaled rank of the rows that have it, shrunk towards 0. The rows of each
data set learnt from are dealt into groups of 50, and a row's context is made of the next group, not
of its own, in which its own score would be told.

    python -m benchmarks.generation_contexts
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks import generation_common as common
from benchmarks import harness
from benchmarks.generation_common import (
    BEST,
    BEST_SEEN,
    ESTIMATOR_MAX,
    FAMILIES,
    LIKELY,
    REGRET_NOTE,
    TITLES,
    differences,
    figure,
    seed_means,
)
from benchmarks.generation_effects import GROUP, columns, described, main_effects
from benchmarks.harness import Benchmark, Cell, Results, Table, run
from discrete_grad.data import Example, load_example, read_table
from discrete_grad.evaluation import mean_interval
from discrete_grad.runs import FitConfig

ALL, LEFT_OUT = "all", "left out"
EVERY = "every data set"  # in place of a data set, where a cell has figures of all
EFFECTS_MAX, OWN_FIT = "best row by the 50 rows' main effects", "a fit to the 50 rows alone"
UNREAD = "most likely row in the mean context"  # which tells nothing of the data set
ROWS = {
    ALL: (BEST_SEEN, LIKELY, *BEST.values(), ESTIMATOR_MAX),
    LEFT_OUT: (BEST_SEEN, EFFECTS_MAX, OWN_FIT, UNREAD, LIKELY, *BEST.values(), ESTIMATOR_MAX),
}
NOTE = {
    ALL: "One fit to 1,500 rows of the worst 80% of every data set, each data set a context.",
    LEFT_OUT: (
        "A fit to the family's other data sets; this one is known by 50 rows of its worst 80%, "
        f"whose main effects are the context. `{BEST_SEEN}`, `{EFFECTS_MAX}` and `{OWN_FIT}` know "
        f"the same 50 rows; `{UNREAD}` of the other data sets knows none."
    ),
}


@dataclass(frozen=True)
class Config(harness.Config):
    """True percentile of rows for data sets as contexts, seen and unseen."""

    seeds: int = 5
    """Seeds 0, 1, ... of each family."""
    datasets: tuple[str, ...] = ()
    """Leave out only these, and fit all of their families; by default all."""
    rows: int = 1500
    """Training rows of each data set."""
    worst: float = 0.8
    """They are drawn from this share of the table, from below."""
    fit: Annotated[FitConfig, tyro.conf.Suppress] = field(default_factory=FitConfig)
    """The default recipe, kept with the results: those of another recipe are not mixed in."""


def cells(config: Config) -> list[Cell]:
    """For each seed a cell a family with all, and one for each data set that is left out."""
    pairs = common.chosen(FAMILIES, config.datasets)
    if config.quick:
        pairs = [("nasbench201", "cifar10")]
    wanted = [(family, ALL, EVERY) for family in dict.fromkeys(family for family, _ in pairs)]
    wanted += [(family, LEFT_OUT, dataset) for family, dataset in pairs]
    return [
        Cell(f"{family}/{variant}/{dataset}/{seed}", (config, family, variant, dataset, seed))
        for seed in range(1 if config.quick else config.seeds)
        for family, variant, dataset in wanted
    ]


def measure(config: Config, family: str, variant: str, dataset: str, seed: int) -> dict[str, Any]:
    """Figures by name, of the variant `all` by data set and name."""
    example = load_example(family)
    recipe = common.recipe(config.fit, seed, quick=config.quick)
    if variant == LEFT_OUT:
        return _left_out(config, example, recipe, dataset)
    rows = example.training_rows(config.rows, worst=config.worst, seed=seed)
    table = read_table(rows, score="score", context="dataset", features=example.features)
    fitted = common.fitted(table, recipe)
    figures = {}
    for name in example.datasets:
        context = table.schema.encode_context({"dataset": [name]})
        assert context is not None
        assert table.context is not None
        own = (table.context == context).all(-1)
        found = {
            BEST_SEEN: table.codes[own][table.scores[own].argmax()],
            **common.generated(fitted, context, seed),
            ESTIMATOR_MAX: common.exact_argmax(fitted.estimator, context),
        }
        figures[name] = {n: common.worth(example, name, codes) for n, codes in found.items()}
    return figures


def _left_out(config: Config, example: Example, recipe: FitConfig, dataset: str) -> dict[str, Any]:
    seed, space = recipe.seed, example.space
    few = common.training_table(example, dataset, common.Regime(GROUP, config.worst), seed)
    effects = main_effects(space, few.codes, few.scores)
    table = described(example, dataset, common.Regime(config.rows, config.worst), seed)
    context = table.schema.encode_context(columns(effects.unsqueeze(0)))
    assert table.context is not None
    unread = table.context.mean(0, keepdim=True)
    fitted = common.fitted(table, recipe)
    own = common.fitted(few, recipe)
    rows = {
        BEST_SEEN: few.codes[few.scores.argmax()],
        EFFECTS_MAX: space.argmax(effects),
        OWN_FIT: common.generated(own, None, seed)[LIKELY],
        UNREAD: common.generated(fitted, unread, seed)[LIKELY],
        **common.generated(fitted, context, seed),
        ESTIMATOR_MAX: common.exact_argmax(fitted.estimator, context),
    }
    return {name: common.worth(example, dataset, codes) for name, codes in rows.items()}


# --- what is shown --------------------------------------------------------------------------------


def tables(results: Results) -> list[Table]:
    """Families first, then every data set, then what is better by how much."""
    flat = expanded(results)
    found = [_families(flat, kind) for kind in ("percentile", "regret")]
    found += [_datasets(flat, variant) for variant in ROWS]
    return common.with_failures(found, flat)


def expanded(results: Results) -> Results:
    """A cell of each data set, where one has the figures of all."""
    found: dict[str, Any] = {}
    for key, cell in results["cells"].items():
        family, variant, dataset, seed = key.split("/")
        if dataset != EVERY:
            found[key] = cell
            continue
        for name in FAMILIES[family]:
            inner = cell if "failed" in cell else cell[name]
            found[f"{family}/{variant}/{name}/{seed}"] = inner
    return results | {"cells": found}


def _families(flat: Results, kind: str) -> Table:
    """A row for each variant and name, a column a family."""
    rows = []
    for variant, names in ROWS.items():
        for name in names:
            values = [seed_means(flat, f"{family}/{variant}", name, kind) for family in TITLES]
            rows.append((variant, name, *map(figure, values)))
        others = (ESTIMATOR_MAX,) if variant == ALL else (EFFECTS_MAX, OWN_FIT, UNREAD)
        rows += [(variant, *_gap(flat, variant, kind, other)) for other in others]
    title = {"percentile": "True percentile", "regret": "Regret"}[kind]
    note = f"`{ALL}`: {NOTE[ALL]} `{LEFT_OUT}`: {NOTE[LEFT_OUT]} Mean over a family's data sets, "
    note += "then over seeds with a 95% interval."
    note += f" {REGRET_NOTE}" if kind == "regret" else ""
    return Table(title, ("", "row", *TITLES.values()), rows, note)


def _gap(flat: Results, variant: str, kind: str, other: str) -> tuple[str, ...]:
    """The most likely row minus another, for each family."""
    found = []
    for family in TITLES:
        pair = (seed_means(flat, f"{family}/{variant}", name, kind) for name in (LIKELY, other))
        found.append(figure(differences(*pair), sign="+"))
    return (f"{LIKELY} minus {other}", *found)


def _datasets(flat: Results, variant: str) -> Table:
    rows = []
    for family, datasets in FAMILIES.items():
        for dataset in datasets:
            start = f"{family}/{variant}/{dataset}/"
            alone = {key: cell for key, cell in flat["cells"].items() if key.startswith(start)}
            values = [
                seed_means(flat | {"cells": alone}, f"{family}/{variant}", name)
                for name in ROWS[variant]
            ]
            rows.append((TITLES[family], dataset, str(len(values[0])), *map(figure, values)))
    header = ("", "data set", "seeds", *ROWS[variant])
    return Table(f"True percentile for each data set, `{variant}`", header, rows, NOTE[variant])


def plot(results: Results, path: Path) -> None:
    """Dots with intervals, a panel a family, both variants below each other."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    flat = expanded(results)
    places = [(variant, name) for variant, names in ROWS.items() for name in names]
    drawing, panels = plt.subplots(1, len(TITLES), figsize=(13, 5), sharey=True)
    for axes, (family, title) in zip(panels, TITLES.items(), strict=True):
        for place, (variant, name) in enumerate(reversed(places)):
            values = [*seed_means(flat, f"{family}/{variant}", name).values()]
            if values:
                mean, low, high = mean_interval(values)
                colour = "C0" if variant == ALL else "C1"
                axes.plot(mean, place, "o", color=colour, ms=5)
                axes.plot([low, high], [place, place], color=colour)
        axes.set_yticks(range(len(places)), [f"{v}: {n}" for v, n in reversed(places)])
        axes.axvline(0.8, color="0.8")
        axes.set_title(title)
        axes.set_xlabel("true percentile, mean over the data sets")
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


BENCHMARK = Benchmark(
    name="generation_contexts",
    title="One generator for all data sets, and for one it has not seen",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
