"""Agreement of the aligner and of metrics without training with behaviour, on complete tables.

An ensemble of estimators learns the first score of 1,500 random rows, the aligner what rows behave
alike from that score or from all scores of a family (the data sets are the scores of one row). All
other rows of the table are held out, and pairs of them compared by kind: random, one feature apart,
far apart. Intervals are over seeds, which draw rows, weights and pairs; metrics of a seed are
compared on the same pairs.

    python -m benchmarks.alignment
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from benchmarks import generation_common as common
from benchmarks import harness
from benchmarks.generation_common import TITLES, Seeds, differences, figure
from benchmarks.harness import Benchmark, Cell, Results, Table, run, succeeded
from discrete_grad.data import ScoredRows, load_example
from discrete_grad.evaluation import alignment_metrics, mean_interval
from discrete_grad.fitting import (
    AlignerConfig,
    EstimatorConfig,
    ScoreScale,
    fit_aligner,
    fit_estimator,
    new_ensemble,
)
from discrete_grad.models import Aligner
from discrete_grad.sampling import isolated_seed, permutation, seeded
from discrete_grad.space import CategoricalSpace

TABLES = ("nasbench201", "hpolib")
SCORES = ("one", "several")
PAIRS = ("random", "hamming 1", "far")
SHOWN = ("hamming 1", "random")  # in the first table
MEASURES = {
    "spearman": "Rank correlation with minus the distance in behaviour",
    "triplet": "Share of triplets whose nearer row has the higher metric (0.5 by chance)",
    "precision": "Share of the 5 nearest by the metric that are among the 5 nearest in behaviour",
}
METRICS = {
    "aligner": "aligner",
    "estimate": "estimated score",
    "latent": "latent cosine",
    "hamming": "Hamming",
}
DEFAULT = "rank_n_contrast"
LOSSES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "sup_con": {"loss": "sup_con"},
    "acc_con": {"loss": "acc_con", "temperature": 0.3},
    "nt_xent": {"loss": "nt_xent"},
    "mined": {"loss": "mined"},
}


@dataclass(frozen=True)
class Config(harness.Config):
    """Agreement of the aligner with behaviour, beside baselines and by its loss."""

    seeds: tuple[int, int] = (5, 3)
    """Seeds 0, 1, ... of the default loss, and of each other loss with several scores."""
    rows: int = 1500
    """To learn from; all others are held out."""
    anchors: int = 256
    """Held-out rows that are compared with others."""
    estimator: Annotated[EstimatorConfig, tyro.conf.Suppress] = field(
        default_factory=lambda: EstimatorConfig(members=4, steps=800)
    )
    """Kept with the results, as the next."""
    aligner: Annotated[AlignerConfig, tyro.conf.Suppress] = field(default_factory=AlignerConfig)
    """All but what a loss changes."""


# --- cells ----------------------------------------------------------------------------------------


def cells(config: Config) -> list[Cell]:
    """A cell a family, scores, loss and seed; a seed of all before the next."""
    default, others = (1, 1) if config.quick else config.seeds
    families = TABLES[:1] if config.quick else TABLES
    return [
        Cell(f"{family}/{scores}/{loss}/{seed}", (config, family, scores, loss, seed))
        for seed in range(max(default, others))
        for family in families
        for scores in SCORES
        for loss in LOSSES
        if seed < (default if loss == DEFAULT else others * (scores == "several"))
    ]


def recipe(config: Config, loss: str) -> Config:
    """The settings of a loss; if quick, those of a fit that only runs through."""
    config = replace(config, aligner=replace(config.aligner, **LOSSES[loss]))
    if not config.quick:
        return config
    return replace(
        config,
        anchors=32,
        estimator=replace(config.estimator, members=2, steps=40, validate_every=20),
        aligner=replace(config.aligner, steps=10, validate_every=10),
    )


def measure(config: Config, family: str, scores: str, loss: str, seed: int) -> dict[str, Any]:
    """Figures by pair kind, metric and measure, without those that are not defined."""
    config = recipe(config, loss)
    space, rows, codes, behaviour = split(
        family, config.rows, several=scores == "several", seed=seed
    )
    estimator = new_ensemble(space, None, config.estimator, seed=seed)
    fit_estimator(estimator, rows, config=config.estimator, seed=seed)
    with isolated_seed(seed):
        aligner = Aligner(estimator, config.aligner.projection_dim)
    began = time.perf_counter()
    fit_aligner(aligner, rows, config=config.aligner, seed=seed)
    figures: dict[str, Any] = {"fit seconds": time.perf_counter() - began}
    generator = seeded(seed)
    # one bootstrap draw, of which nothing is used: the intervals are over seeds
    for found in alignment_metrics(
        aligner, codes, behaviour, anchors=config.anchors, resamples=1, generator=generator
    ):
        if found.metric in METRICS and not math.isnan(found.value):
            kind = figures.setdefault(found.pairs, {}).setdefault(found.metric, {})
            kind[found.measure] = found.value
    return figures


def split(
    family: str, count: int, *, several: bool, seed: int
) -> tuple[CategoricalSpace, ScoredRows, Tensor, Tensor]:
    """Space, rows to learn from, and codes `(N, F)` and behaviour `(N, S)` of all others.

    Every score is scaled to its ranks among the rows to learn from.
    """
    names = common.FAMILIES[family]
    example = load_example(family, names if several else names[:1])
    codes = example.space.enumerate()
    order = permutation(len(codes), generator=seeded(seed))
    seen, unseen = order[:count], order[count:]
    scaled = [ScoreScale.fit("rank", s[seen], None, None).apply(s) for s in example.scores]
    behaviour = torch.stack(scaled, 1)
    rows = ScoredRows(codes[seen], behaviour[seen, 0], None, behaviour[seen] if several else None)
    return example.space, rows, codes[unseen], behaviour[unseen]


# --- tables ---------------------------------------------------------------------------------------


def values(results: Results, group: str, pairs: str, metric: str, measure: str) -> Seeds:
    """A figure of the cells of a group FAMILY/SCORES/LOSS, by seed, where it is defined."""
    found = {}
    for key, cell in sorted(succeeded(results).items()):
        inside, seed = key.rsplit("/", 1)
        value = cell.get(pairs, {}).get(metric, {}).get(measure)
        if inside == group and value is not None:
            found[int(seed)] = value
    return found


def tables(results: Results) -> list[Table]:
    """The rank correlation on two kinds of pairs, each measure on all, and the losses."""
    settings = results["settings"]
    how = (
        f"Learnt from {settings['rows']:,} random rows of a complete table, measured on "
        f"{settings['anchors']} of the other rows, each paired with up to 24 rows. Higher is "
        "better. Mean over seeds with a 95% interval; after the semicolon the aligner's value "
        "minus this one, on the same pairs. `-`: all of these pairs have the same Hamming distance."
    )
    lost = (
        f"Several scores; after the semicolon by how much the loss is above `{DEFAULT}`, over the "
        "seeds of both. `acc_con` at temperature 0.3, all others at 0.1; `nt_xent` and `mined` "
        "see mined rows alone."
    )
    header = ("", "scores", "pairs", *METRICS.values())
    by_loss = ("", "loss", "seeds", *PAIRS)
    found = [
        Table(MEASURES["spearman"], header, _metric_rows(results, "spearman", SHOWN), how),
        *(
            Table(f"{title}, all pairs", header, _metric_rows(results, measure, PAIRS), how)
            for measure, title in MEASURES.items()
        ),
        *(
            Table(f"{t}, by loss", by_loss, _loss_rows(results, m), lost)
            for m, t in MEASURES.items()
        ),
    ]
    return common.with_failures(found, results)


def _metric_rows(results: Results, measure: str, kinds: Sequence[str]) -> list[list[str]]:
    """The aligner's figures, then each baseline's with the paired difference."""
    rows = []
    for family, scores, pairs in product(TABLES, SCORES, kinds):
        group = f"{family}/{scores}/{DEFAULT}"
        mine, *others = (values(results, group, pairs, name, measure) for name in METRICS)
        entries = [_entry(theirs, differences(mine, theirs)) for theirs in others]
        rows.append([TITLES[family], scores, pairs, figure(mine), *entries])
    return rows


def _loss_rows(results: Results, measure: str) -> list[list[str]]:
    """Each loss, and by how much it is above the default."""
    rows = []
    for family, loss in product(TABLES, LOSSES):
        groups = [f"{family}/several/{name}" for name in (loss, DEFAULT)]
        found = [[values(results, g, pairs, "aligner", measure) for pairs in PAIRS] for g in groups]
        entries = [
            figure(mine) if loss == DEFAULT else _entry(mine, differences(mine, default))
            for mine, default in zip(*found, strict=True)
        ]
        rows.append([TITLES[family], f"`{loss}`", str(len(found[0][0])), *entries])
    return rows


def _entry(level: Seeds, apart: Seeds) -> str:
    if not apart:
        return figure(level)
    return f"{mean_interval([*level.values()])[0]:.3f}; {figure(apart, sign='+')}"


# --- plot -----------------------------------------------------------------------------------------

COLOURS = {"one": "#0072B2", "several": "#D55E00"}


def plot(results: Results, path: Path) -> None:
    """Rank correlations with intervals: metrics on each kind of pairs, then losses."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    drawing, panels = plt.subplots(len(TABLES), 4, figsize=(14, 6), layout="constrained")
    for (*line, last), family in zip(panels, TABLES, strict=True):
        for axes, pairs in zip(line, PAIRS, strict=True):
            for shift, scores in zip((0.12, -0.12), SCORES, strict=True):
                group = f"{family}/{scores}/{DEFAULT}"
                dots = {
                    shown: values(results, group, pairs, name, "spearman")
                    for name, shown in METRICS.items()
                }
                _dots(axes, dots, shift, COLOURS[scores])
            axes.set(title=f"{TITLES[family]}, {pairs}", xlim=(0, 1))
            axes.label_outer()
        groups = {loss: f"{family}/several/{loss}" for loss in LOSSES}
        losses = {n: values(results, g, SHOWN[0], "aligner", "spearman") for n, g in groups.items()}
        _dots(last, losses, 0, COLOURS["several"])
        last.set_title(f"{TITLES[family]}, {SHOWN[0]}")
    drawing.supxlabel(
        "rank correlation with behaviour, by metric of rows and by loss of the aligner"
    )
    names = {"one": "one score", "several": "several scores"}
    handles = [Line2D([], [], marker="o", color=COLOURS[s], label=n) for s, n in names.items()]
    drawing.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    drawing.savefig(path, dpi=100)
    plt.close(drawing)


def _dots(axes: Any, dots: Mapping[str, Seeds], shift: float, colour: str) -> None:
    """A line for each name, from the top, with mean and interval over seeds."""
    for place, seeds in enumerate(dots.values()):
        if seeds:
            mean, low, high = mean_interval([*seeds.values()])
            axes.plot(mean, place - shift, "o", color=colour, ms=4)
            axes.plot([low, high], [place - shift] * 2, color=colour, lw=1.4)
    axes.set_yticks(range(len(dots)), list(dots))
    axes.set_ylim(len(dots) - 0.5, -0.5)
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)


BENCHMARK = Benchmark(
    name="alignment",
    title="Which rows behave alike?",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
