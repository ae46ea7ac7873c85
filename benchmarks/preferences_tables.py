"""Tables of `preferences`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.harness import Results, Table, failures, interval, succeeded
from benchmarks.rl_tables import STEADY, parting
from discrete_grad.evaluation import fit_gain_curve

MAIN = "protein_structure"
KINDS = {"random": "at random", "active": "chosen"}

Cells = list[dict[str, Any]]
Points = list[dict[str, float]]


def tables(results: Results) -> list[Table]:
    """The model, policies by reinforcement learning, exact ones, and without a model."""
    done = succeeded(results)
    return [
        _models(done),
        _policies(done),
        _optima(done),
        _direct(done),
        _clean(done),
        failures(results),
    ]


def cells_of(done: dict[str, dict[str, Any]], arm: str) -> dict[str, Cells]:
    """Cells of an arm by what they measure."""
    found: dict[str, Cells] = {}
    for key, cell in done.items():
        kind, _, rest = key.partition("/")
        if kind == arm:
            found.setdefault(rest.rpartition("/")[0], []).append(cell)
    return found


def by_count(cells: Cells) -> dict[str, Cells]:
    """Findings about each model, by the number of its pairs."""
    counts = dict.fromkeys(count for cell in cells for count in cell["models"])
    return {n: [c["models"][n] for c in cells if n in c["models"]] for n in counts}


def _models(done: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for arm, how in KINDS.items():
        for name, cells in cells_of(done, arm).items():
            for count, models in by_count(cells).items():
                figures = (interval([m[k] for m in models]) for k in ("accuracy", "reliability"))
                gained = more(done, name, count) if arm == "active" else []
                rows.append(
                    (
                        name,
                        how,
                        f"{int(count):,}",
                        *figures,
                        interval(gained) if gained else "-",
                        str(len(models)),
                    )
                )
    rows.sort(key=lambda row: row[0] != MAIN)
    note = (
        "Share of 20,000 pairs of random rows that the model ranks as the truth does, and the "
        "share of right answers that it has learned to expect, of which the truth is .9; mean with "
        "a 95% interval over seeds. Chosen pairs are those of 5,000 random ones whose answers tell "
        "most, in rounds of 250, later 500, after 250 at random; what that gains is compared seed "
        "by seed."
    )
    header = (
        "HPOLib",
        "pairs",
        "number",
        "accuracy",
        "reliability learned",
        "accuracy gained by choice",
        "seeds",
    )
    return Table("A preference model from noisy answers", header, rows, note)


def more(done: dict[str, dict[str, Any]], name: str, count: str) -> list[float]:
    """Accuracy with chosen pairs less that with random ones, of every seed that has both."""
    gains = []
    for key, cell in done.items():
        other = done.get(key.replace("active/", "random/", 1), {})
        both = [c.get("models", {}).get(count) for c in (cell, other)]
        if key.startswith(f"active/{name}/") and None not in both:
            gains.append(both[0]["accuracy"] - both[1]["accuracy"])
    return gains


def _policies(done: dict[str, dict[str, Any]]) -> Table:
    cells = cells_of(done, "random").get(MAIN, [])
    arms = dict.fromkeys(arm for cell in cells for arm in cell["paths"])
    rows = []
    for arm in arms:
        paths: list[Points] = [cell["paths"][arm] for cell in cells if arm in cell["paths"]]
        ends, best = [path[-1] for path in paths], [_best(path) for path in paths]
        count, _, beta = arm.partition("/")
        rows.append(
            (
                f"{int(count):,}",
                beta,
                *_figures(ends, ("share", "proxy", "true")),
                *(_better(ends, kind) for kind in ("proxy", "true")),
                interval([math.sqrt(end["kl"]) for end in ends]),
                interval([point["true"] for point in best]),
                interval([b["true"] - e["true"] for b, e in zip(best, ends, strict=True)], 2),
                _parted([parting(path) for path in paths]),
                _parted([misplaced(path) for path in paths]),
            )
        )
    header = (
        "pairs",
        "beta",
        "share of the proxy's optimum",
        "proxy",
        "true score",
        "better rows, % by the proxy",
        "% in truth",
        "sqrt KL",
        "best true score on the way",
        "lost since",
        "scores part at sqrt KL",
        "places part",
    )
    note = (
        "At the end of training, in standard deviations from the mean of all rows; the uniform "
        "reference has 0, the best row a true score of 1.78. Better rows: the share of all rows "
        "that a row of the policy leaves above it, 50% for the reference. Scores part at the first "
        "sqrt KL (nats) from which on the proxy's exceeds the true one by "
        f"{STEADY:.0%} of it, and places where twice as many rows are better in truth than by the "
        "proxy (medians over the seeds that part). Scores part at once, because answers tell an "
        "order and no scale."
    )
    return Table("Reinforcement learning on the learned reward", header, rows, note)


def _best(points: Points) -> dict[str, float]:
    return max(points, key=lambda point: point["true"])


def _figures(points: Points, names: Sequence[str]) -> list[str]:
    return [interval([point[name] for point in points]) for name in names]


def _better(points: Points, kind: str) -> str:
    return interval([100 - point[f"{kind} percentile"] for point in points], 2)


def misplaced(points: Points) -> float | None:
    """The distance from which on twice as many rows are better in truth than by the proxy."""
    first = None
    for point in reversed(points):
        if 100 - point["true percentile"] < 2 * (100 - point["proxy percentile"]):
            break
        first = math.sqrt(point["kl"])
    return first


def _parted(found: Sequence[float | None]) -> str:
    came = [distance for distance in found if distance is not None]
    return f"{statistics.median(came):.2f} ({len(came)} of {len(found)})" if came else "-"


def _optima(done: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for arm, how in KINDS.items():
        for count, models in by_count(cells_of(done, arm).get(MAIN, [])).items():
            curves: list[Points] = [model["optima"] for model in models]
            ends, best = [curve[-1] for curve in curves], [_best(curve) for curve in curves]
            lost = [b["true"] - e["true"] for b, e in zip(best, ends, strict=True)]
            rows.append(
                (
                    how,
                    f"{int(count):,}",
                    *_figures(ends, ("proxy", "true")),
                    *(_better(ends, kind) for kind in ("proxy", "true")),
                    interval([point["true"] for point in best]),
                    f"{statistics.median(point['beta'] for point in best):.2g}",
                    interval([math.sqrt(point["kl"]) for point in best]),
                    interval(lost, 2),
                    f"{sum(loss > 0.01 for loss in lost)} of {len(lost)}",
                    _parted([misplaced(curve) for curve in curves]),
                    interval(list(_bends(curves)), 2),
                )
            )
    header = (
        "pairs",
        "number",
        "proxy",
        "true score",
        "better rows, % by the proxy",
        "% in truth",
        "highest true score",
        "at beta (median)",
        "at sqrt KL",
        "lost since",
        "seeds that lose .01",
        "places part at sqrt KL",
        "bend b of the truth",
    )
    note = (
        f"The exact optimum `ref exp(r / beta)` of the learned reward, {MAIN}, over betas from 5 "
        "down to .0024, where the first columns are: over-optimisation without an error of the "
        "optimiser. Bend: b of the fit `d (a - b log d)` to the true score, d = sqrt KL; above 0 "
        "it has a highest point, here beyond what any policy can reach where nothing is lost."
    )
    return Table("The exact optima of the learned reward", header, rows, note)


def _bends(curves: Sequence[Points]) -> Iterator[float]:
    for points in curves:
        distance = torch.tensor([math.sqrt(point["kl"]) for point in points])
        curve = fit_gain_curve(distance, torch.tensor([point["true"] for point in points]))
        if curve is not None:
            yield curve.b[0]


def _direct(done: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for kind, cells in cells_of(done, "dpo").items():
        for beta in (key for key in cells[0] if key != "seconds"):
            points = [cell[beta] for cell in cells]
            figures = (*_figures(points, ("accuracy", "true")), _better(points, "true"))
            rows.append((kind, beta, *figures, interval([math.sqrt(p["kl"]) for p in points])))
    header = ("policy", "beta", "accuracy", "true score", "better rows, %", "sqrt KL")
    note = (
        "From the same 2,000 noisy pairs, the rate of flips known; beta in log-odds. Accuracy is "
        "that of the implied reward, on the pairs of the first table."
    )
    return Table("Direct preference optimisation", header, rows, note)


def _clean(done: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for what, cells in cells_of(done, "clean").items():
        beta, count = what.split("/")
        figures = _figures(cells, ("share", "accuracy", "true"))
        root = interval([math.sqrt(cell["kl"]) for cell in cells])
        rows.append((beta, f"{int(count):,}", *figures, root))
    rows.sort(key=lambda row: (-float(row[0]), int(row[1].replace(",", ""))))
    header = ("beta", "pairs", "share of the optimum", "accuracy", "true score", "sqrt KL")
    note = (
        "Bradley-Terry answers whose log-odds are the difference of the true scores over beta, so "
        "that the policy's optimum is that of the true reward with this beta. Share of `beta log "
        "Z` that the autoregressive policy reaches. Of 400,000 pairs hardly one is seen twice."
    )
    return Table("DPO from answers without flips", header, rows, note)
