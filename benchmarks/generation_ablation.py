"""Worth of each switch of the recipe: paired differences of true percentiles to the default.

For each table and seed the default fit, and one for each entry of `SWITCHES`, on the same rows with
the same seed. A switch that only concerns the generator reuses the default fit's judge and
estimators, so that its difference is the generator's alone.

    python -m benchmarks.generation_ablation
    python -m benchmarks.generation_ablation --switches "entropy 0.02" "1 member" --seeds 10
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks import generation_common as common
from benchmarks import harness
from benchmarks.generation_common import (
    BEST,
    ESTIMATOR_MAX,
    GENERATED,
    LIKELY,
    MEAN,
    REGIMES,
    REGRET_NOTE,
    TITLES,
    differences,
    figure,
    seed_means,
)
from benchmarks.harness import Benchmark, Cell, Results, Table, run
from discrete_grad.data import Table as RowTable
from discrete_grad.data import load_example
from discrete_grad.evaluation import mean_interval
from discrete_grad.runs import FitConfig, Run, fit

Change = Mapping[str, Any]  # place in FitConfig, as in "generator.entropy", and the value it gets

DEFAULT = "default recipe"
# a new switch is a line here, and a new value a new name: results are kept by name; no "/" in it
SWITCHES: dict[str, Change] = {
    DEFAULT: {},
    "no entropy": {"generator.entropy": 0.0},
    "entropy 0.1": {"generator.entropy": 0.1},
    "KL to the data policy 0.01": {"generator.reference_kl": 0.01},
    "KL to the data policy 0.1": {"generator.reference_kl": 0.1},
    "pessimism 1": {"generator.pessimism": 1.0},
    "pessimism of 90% coverage": {"generator.coverage": 0.9},
    "median of the members": {"generator.combine": "median"},
    "least of the members": {"generator.combine": "min"},
    "diversity 0.05": {"generator.diversity": 0.05},
    "trust 0.1 beyond 2 swaps": {"generator.trust": 0.1},
    "polish": {"polish": True},
    "alignment 0.1": {"generator.alignment": 0.1},
    "generator stopped by the judge": {"generator.patience": 10},
    "1 row a step and context": {"generator.samples": 1},
    "1,000 steps of the generator": {"generator.steps": 1000},
    "standard scores": {"maximise": "mean"},
    "1 member": {"estimator.members": 1},
    "3 members": {"estimator.members": 3},
    "three architectures": {"estimator.architectures": ("mlp", "shallow", "multilinear")},
    "conservative 0.05": {"estimator.conservative": 0.05},
    "dropout 0.1": {"estimator.dropout": 0.1},
    "no weight decay": {"estimator.weight_decay": 0.0},
    "hidden 128, 128": {"estimator.hidden": (128, 128)},
    "no early stopping of the estimators": {"estimator.patience": 0},
    "judge's share 0.1": {"judge_share": 0.1},
}
GENERATOR_ONLY = ("generator.", "aligner.", "polish")
ALL_ANEW = ("generator.coverage",)  # calibrates on rows that the estimators must not have seen
REUSED = ("judge", "estimator", "reference", "naive")
TABLES = {
    "hpolib": ("protein_structure",),
    "hpobench": ("credit_g",),
    "nasbench201": ("cifar10",),
}


@dataclass(frozen=True)
class Config(harness.Config):
    """True percentile and regret with one switch of the recipe changed at a time."""

    seeds: int = 5
    """Seeds 0, 1, ... of each table."""
    datasets: tuple[str, ...] = tuple(names[0] for names in TABLES.values())
    """The tables; by default one a family."""
    switches: tuple[str, ...] = ()
    """Only these, and the default; by default all."""
    regime: str = "worst 80%"
    """Or "any 1,500", "any 200": the rows that are learnt from."""
    fit: Annotated[FitConfig, tyro.conf.Suppress] = field(default_factory=FitConfig)
    """The default recipe, kept with the results: those of another recipe are not mixed in."""


def cells(config: Config, folder: Path) -> list[Cell]:
    """The default of all tables and seeds first, whose models the others reuse from the folder."""
    names = [n for n in SWITCHES if n == DEFAULT or not config.switches or n in config.switches]
    pairs = common.chosen(common.FAMILIES, config.datasets)
    seeds = range(1 if config.quick else config.seeds)
    if config.quick:
        pairs = pairs[-1:]
    return [
        Cell(f"{family}/{name}/{dataset}/{seed}", (config, folder, family, name, dataset, seed))
        for name in names
        for seed in seeds
        for family, dataset in pairs
    ]


def measure(
    config: Config, folder: Path, family: str, name: str, dataset: str, seed: int
) -> dict[str, Any]:
    """The rows of a fit with one switch changed."""
    example = load_example(family, [dataset])
    table = common.training_table(example, dataset, REGIMES[config.regime], seed)
    default = common.recipe(config.fit, seed, quick=config.quick)
    switched = common.recipe(changed(config.fit, SWITCHES[name]), seed, quick=config.quick)
    places = SWITCHES[name]
    if all(place.startswith(GENERATOR_ONLY) and place not in ALL_ANEW for place in places):
        fitted = refitted(kept(folder / f"{dataset}-{seed}", table, default), table, switched)
    else:
        fitted = common.fitted(table, switched)
    rows = common.generated(fitted, None, seed)
    rows[ESTIMATOR_MAX] = common.exact_argmax(fitted.estimator)
    return {row: common.worth(example, dataset, codes) for row, codes in rows.items()}


def changed(config: FitConfig, change: Change) -> FitConfig:
    """The config with other values at some places.

    Raises:
        ValueError: for a place that is none, with its name.
    """
    for place, value in change.items():
        config = _replaced(config, place, place.split("."), value)
    return config


def _replaced(tree: Any, place: str, path: list[str], value: Any) -> Any:
    known = [item.name for item in fields(tree)] if is_dataclass(tree) else []
    if path[0] not in known:
        raise ValueError(f"a FitConfig has no {place}: {path[0]} is none of {known}")
    inner = _replaced(getattr(tree, path[0]), place, path[1:], value) if path[1:] else value
    return replace(tree, **{path[0]: inner})


def kept(folder: Path, table: RowTable, config: FitConfig) -> Path:
    """A fit in the folder; it is made if it is not there."""
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            fit(table, Path(place) / "run", config)
            with suppress(OSError):  # another process was faster
                (Path(place) / "run").rename(folder)
    return folder


def refitted(base: Path, table: RowTable, config: FitConfig) -> Run:
    """A fit that takes judge, estimators and reproductions from another one of the same table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        shutil.copytree(base, folder)
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings["config"] = json.loads(config.to_json())
        (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        for weights in (folder / "weights").iterdir():
            if weights.stem not in REUSED:
                weights.unlink()
        (folder / "guidance.json").unlink()  # its pessimism is the other fit's
        return fit(table, folder, config, resume=True)


# --- what is shown --------------------------------------------------------------------------------


def tables(results: Results) -> list[Table]:
    """Differences of the most likely row first, then of samples, of regret, and levels."""
    regret = f"Regret of the {LIKELY}: each switch minus the default recipe"
    found = [
        *(_differences(results, row) for row in (LIKELY, *BEST.values(), MEAN, ESTIMATOR_MAX)),
        _differences(results, LIKELY, "regret", regret),
        _levels(results),
    ]
    return common.with_failures(found, results)


def _names(results: Results) -> list[str]:
    """The switches that were measured, in their order; those since removed from it come last."""
    found = {key.split("/")[1]: None for key in results["cells"]}
    return [*(n for n in SWITCHES if n in found), *(n for n in found if n not in SWITCHES)]


def _differences(
    results: Results, row: str, kind: str = "percentile", title: str | None = None
) -> Table:
    """A row a switch, a column a family."""
    rows = []
    for name in _names(results):
        values = [seed_means(results, f"{f}/{name}", row, kind) for f in TITLES]
        base = [seed_means(results, f"{f}/{DEFAULT}", row, kind) for f in TITLES]
        apart = [differences(v, b) for v, b in zip(values, base, strict=True)]
        told = map(figure, values) if name == DEFAULT else (figure(a, sign="+") for a in apart)
        counts = values if name == DEFAULT else apart
        rows.append((name, _seeds([len(v) for v in counts]), *told))
    header = ("", "seeds", *_columns(results))
    default = f"True percentile of the {row}: each switch minus the default recipe"
    return Table(title or default, header, rows, _note(results))


def _columns(results: Results) -> list[str]:
    """The families, with the tables that stand for them."""
    shown = []
    for family, title in TITLES.items():
        keys = [key.split("/") for key in results["cells"] if key.startswith(f"{family}/")]
        names = sorted({key[2] for key in keys})
        shown.append(f"{title} ({', '.join(names)})" if names else title)
    return shown


def _seeds(counts: list[int]) -> str:
    most, least = max(counts), min(counts)
    return str(most) if most == least else f"{least} to {most}"


def _note(results: Results) -> str:
    return (
        "The first row is the default recipe's own figure, the others are paired differences to it "
        "(same rows, same seed) with a 95% interval over seeds; rows learnt from: "
        f"`{results['settings']['regime']}`. {REGRET_NOTE}"
    )


def _levels(results: Results) -> Table:
    rows = [
        (name, row, *(figure(seed_means(results, f"{f}/{name}", row)) for f in TITLES))
        for name in _names(results)
        for row in (*GENERATED, ESTIMATOR_MAX)
    ]
    return Table("True percentiles", ("", "row", *_columns(results)), rows)


def plot(results: Results, path: Path) -> None:
    """Differences of the most likely row with intervals, a panel a family."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = [name for name in reversed(_names(results)) if name != DEFAULT]
    size = (13, 1.4 + 0.28 * len(names))
    drawing, panels = plt.subplots(1, len(TITLES), figsize=size, sharey=True)
    for axes, (family, title) in zip(panels, TITLES.items(), strict=True):
        base = seed_means(results, f"{family}/{DEFAULT}", LIKELY)
        axes.axvline(0, color="0.7")
        for place, name in enumerate(names):
            apart = differences(seed_means(results, f"{family}/{name}", LIKELY), base)
            if apart:
                mean, low, high = mean_interval([*apart.values()])
                axes.plot(mean, place, "o", color="C0", ms=5)
                axes.plot([low, high], [place, place], color="C0")
        axes.set_yticks(range(len(names)), names)
        axes.set_title(title)
        axes.set_xlabel("true percentile minus the default recipe's")
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


BENCHMARK = Benchmark(
    name="generation_ablation",
    title="What is each switch of the recipe worth?",
    cells=partial(cells, folder=Path()),
    measure=measure,
    tables=tables,
    plot=plot,
)


def main(config: Config) -> None:
    """Run, with a folder for the default fits that lasts as long as the run."""
    strangers = set(config.switches) - set(SWITCHES)
    if strangers:
        raise SystemExit(f"no switch is called {min(strangers)!r}; there are {list(SWITCHES)}")
    with tempfile.TemporaryDirectory() as folder:
        run(replace(BENCHMARK, cells=partial(cells, folder=Path(folder))), config)


if __name__ == "__main__":
    main(tyro.cli(Config))
