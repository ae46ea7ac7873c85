"""Tables and pictures of `molecules`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.harness import Results, Table, failures, interval, succeeded
from discrete_grad.data import molecule_grid

NAMES = {
    "base": "the model itself",
    "guided": "guidance, gamma",
    "best": "best of n, true rewards",
    "reinforced": "reinforcement learning",
}
KINDS = ("reward", "best", "valid", "unique", "novel", "diversity")
SHOWN = "guided 2"  # whose best molecules are drawn

Cells = Sequence[dict[str, Any]]


def tables(results: Results) -> list[Table]:
    """Means over the rewards, then each reward, then the model."""
    found = _seeds(results)
    if not found:
        return [Table("Molecules", ("nothing yet",), []), failures(results)]
    return [
        _methods(found, results["settings"]),
        _rewards(found),
        _model(found),
        failures(results),
    ]


def _seeds(results: Results) -> Cells:
    return [{k: v for k, v in c.items() if k != "seconds"} for c in succeeded(results).values()]


def _rewards_of(cell: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: figures for name, figures in cell.items() if name != "model"}


def _labels(found: Cells) -> list[str]:
    return [label for label in next(iter(_rewards_of(found[0]).values())) if label != "training"]


def _mean(cell: dict[str, Any], label: str, kind: str) -> float:
    values = [figures[label][kind] for figures in _rewards_of(cell).values()]
    return float(sum(values) / len(values))


def _methods(found: Cells, settings: dict[str, Any]) -> Table:
    labels = _labels(found)
    rows = [
        (
            _named(label),
            *(interval([_mean(cell, label, kind) for cell in found]) for kind in KINDS),
            *_costs(label, settings),
        )
        for label in labels
    ]
    header = (
        "method",
        "E[r]",
        "best r",
        "valid",
        "unique",
        "novel",
        "diversity",
        "passes a molecule",
        "true rewards",
        "training",
    )
    count = len(_rewards_of(found[0]))
    note = (
        f"Means over {count} reward functions, with a 95% interval over {len(found)} seeds. "
        "Rewards are in standard deviations of those of the training molecules, whose mean is 0; a "
        "row without a molecule counts -3. Unique and novel are shares of the valid and of the "
        "different ones; diversity is 1 less the mean Tanimoto similarity of two that are drawn. "
        "Passes are forward passes of the model for a molecule; true rewards is how many molecules "
        "are judged to draw all of them, for each reward function and seed; training is in forward "
        "passes, a backward pass counting two."
    )
    return Table("Molecules by method", header, rows, note)


def _costs(label: str, settings: dict[str, Any]) -> tuple[str, str, str]:
    """Forward passes a molecule, molecules judged, forward passes of training."""
    vectors, drawn = settings["vectors"], settings["reinforce_steps"] * settings["group"]
    kind = label.partition(" ")[0]
    if kind == "guided":
        return str(vectors + 1), "0", "0"
    if kind == "best":
        return str(vectors + 1), f"{(vectors + 1) * settings['samples']:,}", "0"
    if kind == "reinforced":
        # to draw a molecule, to read it by the reference and with a gradient
        return "1", f"{drawn:,}", f"{5 * drawn:,}"
    return "1", "0", "0"


def _rewards(found: Cells) -> Table:
    labels = _labels(found)
    rows = []
    for name in _rewards_of(found[0]):
        of_training = [cell[name]["training"]["best"] for cell in found]
        means = [interval([cell[name][label]["reward"] for cell in found]) for label in labels]
        rows.append((name, *means, interval(of_training)))
    header = ("reward", *(f"E[r], {_named(label)}" for label in labels), "best of training")
    return Table("Expected reward by reward function", header, rows)


def _model(found: Cells) -> Table:
    rows = [
        (
            str(cell["model"]["molecules"]),
            *(f"{cell['model'][k]:.2f}" for k in ("nats", "nats given")),
        )
        for cell in found
    ]
    header = ("molecules, a fifth held out", "nats of another molecule", "given its attributes")
    return Table("The model, by seed", header, rows)


def _named(label: str) -> str:
    kind, _, strength = label.partition(" ")
    return f"{NAMES[kind]} {strength}" if kind == "guided" else NAMES[kind]


def plot(results: Results, path: Path) -> None:
    """Reward against diversity, and each reward's; then a grid of the best molecules."""
    found = _seeds(results)
    if not found:
        return
    _plot_figures(found, path)
    _draw_best(found, path.with_name(f"{path.stem}_best.png"))


def _plot_figures(found: Cells, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4))
    names = list(_rewards_of(found[0]))
    for number, label in enumerate(_labels(found)):
        means = [_over(found, label, kind) for kind in ("diversity", "reward")]
        left.plot(*means, "o", color=f"C{number}")
        values = [sum(c[name][label]["reward"] for c in found) / len(found) for name in names]
        right.plot(values, range(len(names)), "o", color=f"C{number}", label=_named(label))
    left.set(xlabel="diversity", ylabel="expected reward (sd)")
    right.set(xlabel="expected reward (sd)", yticks=range(len(names)), yticklabels=names)
    right.invert_yaxis()
    right.grid(axis="y", alpha=0.3)
    figure.legend(*right.get_legend_handles_labels(), fontsize=8, ncol=4, loc="lower center")
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _over(found: Cells, label: str, kind: str) -> float:
    return sum(_mean(cell, label, kind) for cell in found) / len(found)


def _draw_best(found: Cells, path: Path) -> None:
    """A row for each reward: the best four that guidance drew with the first seed."""
    smiles, captions = [], []
    for name, figures in _rewards_of(found[0]).items():
        top = list(islice(cycle(figures[SHOWN]["top"].items()), 4))
        smiles += [text for text, _ in top]
        captions += [f"{name}: {value:.2f}" for _, value in top]
    path.write_bytes(molecule_grid(smiles, captions, columns=4))
