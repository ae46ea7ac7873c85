"""Tables and plot of the autoencoder benchmark, from its results alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Results, Table, failures, succeeded
from benchmarks.vae_methods import (
    EXACT,
    MOST_ROWS,
    MOST_WIDTH,
    NOT_TUNED,
    PEERS,
    SHAPES,
    SLOW,
    SLOW_SEEDS,
    make,
    rows_of,
    shown,
    space_of,
)
from discrete_grad.evaluation import mean_interval
from discrete_grad.gradient import catalogue

LEADING = (  # of the first table, by name and not by figure
    "Carms",
    "DoubleControlVariate",
    "Enumerate",
    "GappedStraightThrough",
    "GumbelRao",
    "GumbelSoftmax",
    "LeaveOneOut",
    "Rebar",
    "ReinMax",
    "ReinMaxRao",
    "Reinforce",
    "StraightThrough",
    *PEERS,
)
KINDS = (  # label, colour (Okabe and Ito), marker
    ("unbiased", "#0072B2", "o"),
    ("biased", "#D55E00", "s"),
    ("other packages, biased", "#009E73", "D"),
)
FARTHEST = 4.0  # nats of the plot
NOTE = (
    "Mean ± half-width of the 95% interval over the seeds, of which the slow methods have at most "
    f"{SLOW_SEEDS}: {', '.join(f'`{name}`' for name in SLOW)}. Exact for 8x4, else "
    "{scored} hard rows an image, drawn from softmax(logits). Every method has {rows} decoded rows "
    "for an image and step, 1 if it has no noise, its fewest if those are more; lr {lr:g}, batch "
    "{batch}."
)
ABSENT = (
    "Not run: `Arms` and `Disarm`, which are for binary features; `Enumerate` and `UnorderedSet` "
    "where the rows are too many to be listed; methods that need more than "
    f"{MOST_ROWS} rows an image; slow ones where the latents have more than {MOST_WIDTH} "
    "categories together."
)
QUALITY = (
    "Of the reconstruction term, summed over one mini-batch, in models trained by the exact "
    "gradient. Bias and RMSE are relative to its norm, the cosine is with it; means ± half-widths "
    "of the 95% intervals over the seeds. {repeats} estimates each, with as many rows as in "
    "training. What chance explains is taken from the bias, whose own error is about "
    "RMSE / {root:.0f}: an unbiased method of large RMSE has a bias by chance. "
    "Methods that learn have learned for {settle} steps while the model rested."
)
TUNED = (
    "The learning rate, of {rates}, and the method's own hyperparameter, if it has one, are the "
    "best of a grid on the validation images in a run with another seed; that choice is trained "
    "with the seeds of the other tables. Not tuned: "
    + ", ".join(f"`{name}`" for name in NOT_TUNED)
    + "."
)
COST = "One thread; mean ± half-width of the 95% interval over the seeds."

Figures = dict[tuple[str, str], dict[int, float]]  # (shape, method) -> seed -> figure


def _figures(results: Results, what: str) -> Figures:
    """One figure of every run with the defaults."""
    found: Figures = {}
    for key, cell in succeeded(results).items():
        shape, name = key.split("/")[:2]
        if shape == "tuned":
            continue
        where = (shown(EXACT), "Enumerate") if shape == "exact" else (shape, name)
        found.setdefault(where, {}).update(zip(cell["seeds"], cell[what], strict=True))
    return found


def _by_name(found: Iterable[str]) -> list[str]:
    return sorted(set(found), key=lambda name: (name.casefold(), name))


def _text(values: Iterable[float], digits: int = 2) -> str:
    """Mean and half-width of the 95% interval; a dash for nothing."""
    values = list(values)
    if not values:
        return "-"
    mean, low, _ = mean_interval(values)
    return f"{mean:.{digits}f}" + (f" ±{mean - low:.{digits}f}" if math.isfinite(low) else "")


def _by_shape(
    results: Results, what: str, title: str, note: str, only: Sequence[str] = ()
) -> Table:
    found = _figures(results, what)
    chosen = [name for name in _by_name(name for _, name in found) if not only or name in only]
    rows = [
        (f"`{name}`", *(_text(found.get((shown(shape), name), {}).values()) for shape in SHAPES))
        for name in chosen
    ]
    return Table(title, ("method", *map(shown, SHAPES)), rows, note)


def tables(results: Results) -> list[Table]:
    """Negative ELBO by method and shape, quality of gradients, tuned runs, cost."""
    settings = results["settings"]
    note = NOTE.format(**settings)
    data = Path(settings["mnist"]).name if settings["mnist"] else "digits"
    length = "a smoke test" if settings["quick"] else f"after {settings['steps']:,} steps"
    head = f"Negative ELBO, {data}, nats an image, {length}: "
    return [
        _by_shape(results, "train", f"{head}training images", note, LEADING),
        _by_shape(results, "train", f"{head}training images, all methods", f"{note} {ABSENT}"),
        _by_shape(results, "test", f"{head}test images, all methods", f"{note} {ABSENT}"),
        *_quality_tables(results),
        _tuned_table(results),
        _cost_table(results),
        failures(results),
    ]


def _quality_tables(results: Results) -> list[Table]:
    """One for each point of the exact run."""
    runs = [cell["errors"] for key, cell in succeeded(results).items() if key.startswith("exact/")]
    settings = results["settings"]
    note = QUALITY.format(**settings, root=math.sqrt(settings["repeats"]))
    return [
        _quality_table(int(step), [run[step] for run in runs if step in run], note)
        for step in sorted({step for run in runs for step in run}, key=int)
    ]


def _quality_table(step: int, errors: Sequence[dict[str, Any]], note: str) -> Table:
    rows = []
    for name in _by_name(name for found in errors for name in found):
        each = [found[name] for found in errors if "failed" not in found.get(name, {"failed": 1})]
        figures = (_text((e[what] for e in each), 3) for what in ("bias", "rmse", "cosine"))
        rows.append((f"`{name}`", *figures))
        why = [found[name]["failed"] for found in errors if "failed" in found.get(name, {})]
        note += f" `{name}` failed: {why[0]}." if why else ""
    title = f"Gradient in the encoder's weights, {shown(EXACT)}, after {step:,} exact steps"
    return Table(title, ("method", "bias", "RMSE", "cosine"), rows, note)


def _tuned_table(results: Results) -> Table:
    untuned = _figures(results, "test")
    rows = []
    for key, cell in sorted(succeeded(results).items(), key=lambda item: item[0].casefold()):
        kind, name = key.split("/")[:2]
        if kind == "tuned":
            before = untuned.get((shown(EXACT), name), {}).values()
            figures = (_text(cell["train"]), _text(cell["test"]), _text(before))
            rows.append((f"`{name}`", cell["best"], *figures))
    header = ("method", "best of the grid", "train", "test", "test, untuned")
    note = TUNED.format(rates=" and ".join(f"{lr:g}" for lr in results["settings"]["rates"]))
    return Table("Negative ELBO of tuned methods, 8x4", header, rows, note)


def _cost_table(results: Results) -> Table:
    found, budget = _figures(results, "ms"), results["settings"]["rows"]
    rows = []
    for name in _by_name(name for _, name in found):
        times = [_text(found.get((shown(s), name), {}).values()) for s in SHAPES]
        rows.append((f"`{name}`", str(rows_of(make(name, space_of(EXACT), budget))), *times))
    header = ("method", "rows, 8x4", *map(shown, SHAPES))
    return Table(
        "Rows decoded for an image, and milliseconds of CPU time a step", header, rows, COST
    )


def _kind(name: str) -> int:
    if name in PEERS:
        return 2
    return 0 if catalogue()[name].facts.bias == "none" else 1


def _panel(axis: Any, found: Figures, shape: str, chosen: Sequence[str]) -> None:
    base = found.get((shape, "StraightThrough"), {})
    for place, name in enumerate(chosen):
        runs = found.get((shape, name), {})
        differences = [runs[seed] - base[seed] for seed in sorted(runs) if seed in base]
        if not differences:
            continue
        mean, low, high = mean_interval(differences)
        _, colour, marker = KINDS[_kind(name)]
        if mean > FARTHEST:
            far = dict(xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=8)
            axis.annotate(f"{_text(differences, 1)} →", (0.98, place), color=colour, **far)
            continue
        if math.isfinite(low):
            axis.plot([low, high], [place, place], color=colour, linewidth=1.5)
        axis.plot(mean, place, color=colour, marker=marker, markersize=5)
    axis.axvline(0, color="0.6", linewidth=1, zorder=0)
    axis.grid(axis="y", color="0.92", zorder=0)
    axis.set_title(f"{shape} (categories x latents)", fontsize=10)
    axis.set_yticks(range(len(chosen)), chosen, fontsize=9)
    axis.set_ylim(max(len(chosen), 1) - 0.5, -0.5)
    left, right = axis.get_xlim()
    axis.set_xlim(max(left, -FARTHEST - 1), min(right, FARTHEST + 1))


def plot(results: Results, path: Path) -> None:
    """Each method's training ELBO beside that of StraightThrough, seed by seed."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    found = _figures(results, "train")
    others = sorted({name for _, name in found} - {"StraightThrough"})
    chosen = sorted(others, key=lambda name: (_kind(name), name.casefold()))
    figure, axes = plt.subplots(2, 3, figsize=(13, 13), sharey=True, layout="constrained")
    for shape, axis in zip(SHAPES, axes.flat, strict=True):
        _panel(axis, found, shown(shape), chosen)
    for label, colour, marker in KINDS:
        axes[0, 0].plot([], [], color=colour, marker=marker, linestyle="", label=label)
    figure.legend(loc="outside upper center", ncols=len(KINDS), frameon=False)
    figure.supxlabel(
        "negative ELBO (training images, nats) minus that of StraightThrough, "
        "seed by seed, with 95% intervals: left is better; → lies outside"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
