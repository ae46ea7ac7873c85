"""Polynomial programming: what bias and variance of a gradient do to the optimum that is reached.

    minimise E sum_i |X_i - c|^p / 128 over the logits

of 128 binary features, X_i the first component of feature i's one-hot code. f is |x - c|^p of the
flat row itself, and that is also how it goes on between the one-hot rows: the derivative is
-p c^(p - 1) at 0 and p (1 - c)^(p - 1) at 1, so that at either row it speaks for the other one.

The rows of a step share the logits. As far as it can, every method evaluates f equally often in a
step: one that makes N evaluations a call is called on `evaluations / N` elements of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, interval, run, succeeded
from discrete_grad.evaluation import mean_interval
from discrete_grad.gradient import (
    GradientEstimator,
    GumbelSoftmax,
    IndeCateR,
    LeaveOneOut,
    ReinMax,
    Relaxation,
    catalogue,
)
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.space import CategoricalSpace

SPACE = CategoricalSpace.from_sizes((2,) * 128)
C = 0.45
POWERS: tuple[float, ...] = (1.5, 2.0, 3.0)
RATE, POINTS = 1e-3, 80  # of Adam, of a curve
STATED: dict[str, tuple[float, ...]] = {
    "exact": (0.0002, 0.0002, 0.0001),
    "LeaveOneOut N=64": (0.0007, 0.0006, 0.0005),
    "ReinMax": (0.0034, 0.0012, 0.0004),
    "ReinMax tau=1.1": (0.030, 0.017, 0.005),
    "GumbelSoftmax tau=0.1": (0.035, 0.018, 0.003),
    "GumbelSoftmax tau=0.5": (0.048, 0.041, 0.024),
    "StraightThrough": (0.050, 0.045, 0.030),
    "GappedStraightThrough": (0.050, 0.045, 0.030),
    "GumbelRao": (0.048,),
}
"""Final excess known beforehand at 64 evaluations a step, for as many powers as it was."""
PEERS = {"reinmax package": "ReinMax", "F.gumbel_softmax": "GumbelSoftmax"}
FEW = {"GumbelRao": 4, "ReinMaxRao": 4, "Relax": 4, "Rodeo": 4, "SumAndSample": 4}
"""At most so many evaluations a step, where as many as the others have would take too long."""


@dataclass(frozen=True)
class Config(harness.Config):
    """Options of polynomial programming."""

    seeds: int = 5
    """Runs of every method for each power."""
    steps: int = 8000
    """Of Adam."""
    evaluations: int = 64
    """Of f in a step, for methods with a figure stated beforehand."""
    others: int = 8
    """Of f in a step, for the whole catalogue at its defaults and its peers."""


# --- the problem ----------------------------------------------------------------------------------


def polynomials(powers: Sequence[float], rows: Tensor) -> Tensor:
    """F of flat rows `(..., powers, seeds, batch, D)`, each power its own; `(..., batch)`."""
    distances = (rows[..., ::2] - C).abs().unbind(-4)
    values = [x.pow(p).mean(-1) for x, p in zip(distances, powers, strict=True)]
    return torch.stack(values, -3)


def expected(powers: Sequence[float], logits: Tensor) -> Tensor:
    """Exact `E[f]` above its minimum `(powers, seeds)` for logits `(powers, seeds, D)`."""
    p = torch.tensor(powers, dtype=torch.float64).unsqueeze(-1)
    first = SPACE.softmax(logits.double())[..., ::2].mean(-1)
    return first * ((1 - C) ** p - C**p)


def start(powers: Sequence[float], seeds: Sequence[int]) -> Tensor:
    """Logits `(powers, seeds, D)`, uniform in [-.01, .01]; a seed's are equal for all powers."""
    one = torch.stack([torch.rand(SPACE.width, generator=seeded(seed)) for seed in seeds])
    return ((one - 0.5) / 50).repeat(len(powers), 1, 1).requires_grad_()


class Layer(Relaxation):
    """A layer from elsewhere, `(..., K) -> (..., K)`, as a relaxation; its noise is global."""

    facts = ReinMax.facts

    def __init__(self, space: CategoricalSpace, sample: Callable[[Tensor], Tensor]) -> None:
        super().__init__(space)
        self.sample = sample

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)`."""
        blocks = self.space_of(logits).blocks(logits)
        return self.space_of(logits).join([self.sample(b.contiguous()) for b in blocks])


def method_of(label: str) -> GradientEstimator:
    """A gradient estimator by its label: a class at its defaults, a variant or a peer."""
    if label == "reinmax package":
        from reinmax import reinmax

        return Layer(SPACE, lambda logits: reinmax(logits, 1.0)[0])
    if label == "F.gumbel_softmax":
        return Layer(SPACE, lambda logits: nn.functional.gumbel_softmax(logits, hard=True))
    if label == "IndeCateR":  # f is a sum over features: one row is as exact as ten
        return IndeCateR(SPACE, samples=1)
    name, _, option = label.partition(" ")
    if option.startswith("N="):
        return LeaveOneOut(SPACE, samples=int(option[2:]))
    if option:
        tau = float(option.removeprefix("tau="))
        return ReinMax(SPACE, tau=tau) if name == "ReinMax" else GumbelSoftmax(SPACE, tau=tau)
    return catalogue()[name](SPACE)


# --- cells ----------------------------------------------------------------------------------------


def entries(config: Config) -> list[tuple[str, int]]:
    """Label and evaluations a step, the longest cells first."""
    stated = [(x, FEW.get(x, config.evaluations)) for x in STATED]
    rest = [(x, FEW.get(x, config.others)) for x in (*catalogue(), *PEERS)]
    return list(dict.fromkeys(stated + rest))


def learns(label: str) -> bool:
    """Whether a method keeps a state, so that runs in one batch would not be independent."""
    if label == "exact":
        return False
    method = method_of(label)
    return any(True for _ in (*method.parameters(), *method.buffers()))


def cells(config: Config) -> list[Cell]:
    """All powers and runs in one batch; a process each for a method that learns."""
    if config.quick:
        config = Config(seeds=2, steps=8, evaluations=16, others=8)
    found = []
    for label, evaluations in entries(config):
        parts = {f"seeds={config.seeds}": (POWERS, tuple(range(config.seeds)))}
        if learns(label):
            parts = {f"p={p:g}/seed={i}": ((p,), (i,)) for p in POWERS for i in range(config.seeds)}
        for where, (powers, seeds) in parts.items():
            key = f"{label}, {evaluations} a step/{where}"
            found.append(Cell(key, (label, evaluations, config.steps, powers, seeds)))
    return found


def measure(
    label: str, evaluations: int, steps: int, powers: tuple[float, ...], seeds: tuple[int, ...]
) -> dict[str, Any]:
    """The exact expected loss above its minimum, along the way."""
    with isolated_seed(seeds[0]):
        loss, parameters, work = _objective(label, evaluations, powers)
        logits = start(powers, seeds)
        began = time.perf_counter()
        curve = _descend(loss, logits, parameters, steps, lambda: expected(powers, logits.detach()))
    milliseconds = (time.perf_counter() - began) / steps * 1e3
    curve = curve.double().round(decimals=7)
    by_power = {f"{p:g}": curve[:, i].T.tolist() for i, p in enumerate(powers)}
    figures = {"label": label, "steps": _marks(steps), "excess": by_power}
    return figures | work | {"milliseconds": round(milliseconds, 3)}


def _objective(
    label: str, evaluations: int, powers: tuple[float, ...]
) -> tuple[Callable[[Tensor], Tensor], list[nn.Parameter], dict[str, int]]:
    """Differentiated function, parameters of the method, and its work a step and run."""
    if label == "exact":
        return lambda logits: expected(powers, logits).sum(), [], {"evaluations": 0, "backward": 0}
    method = method_of(label)
    cost = method.cost(SPACE)
    rows = max(1, evaluations // cost.evaluations)

    def loss(logits: Tensor) -> Tensor:
        batch = logits.unsqueeze(-2).expand(*logits.shape[:-1], rows, SPACE.width)
        return method.expectation(lambda x: polynomials(powers, x), batch).mean(-1).sum()

    work = {"evaluations": rows * cost.evaluations, "backward": rows * cost.backward}
    return loss, list(method.parameters()), work


def _descend(
    loss: Callable[[Tensor], Tensor],
    logits: Tensor,
    parameters: list[nn.Parameter],
    steps: int,
    watch: Callable[[], Tensor],
) -> Tensor:
    """Watched values `(points, ...)` at the marks."""
    optimiser = torch.optim.Adam([logits, *parameters], lr=RATE, fused=True)
    marks, curve = set(_marks(steps)), [watch()]
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        loss(logits).backward()
        optimiser.step()
        if step in marks:
            curve.append(watch())
    return torch.stack(curve)


def _marks(steps: int) -> list[int]:
    return sorted({round(i * steps / POINTS) for i in range(POINTS + 1)})


# --- tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Runs:
    """All cells of one method: `curves[p]` is `(seeds, points)`."""

    label: str
    figures: Mapping[str, Any]
    curves: Mapping[str, list[list[float]]]

    def final(self, p: float) -> list[float]:
        return [curve[-1] for curve in self.curves.get(f"{p:g}", [])]


def _gather(results: Results) -> dict[str, _Runs]:
    """By the key without power and seeds."""
    found: dict[str, _Runs] = {}
    for key, cell in succeeded(results).items():
        name = key.split("/")[0]
        runs = found.setdefault(name, _Runs(cell["label"], cell, {}))
        for p, curves in cell["excess"].items():
            runs.curves.setdefault(p, []).extend(curves)  # type: ignore[attr-defined]
    return found


def tables(results: Results) -> list[Table]:
    """The figures that were stated, the peers, and the catalogue."""
    found = _gather(results)
    leading, rest = _most(found, max), _most(found, min)
    first = Table(
        "Polynomial programming: final excess x 1000",
        ("gradient estimator", "evaluations a step", *(f"p = {p:g}" for p in POWERS)),
        [_row(leading[label]) for label in STATED if label in leading],
        "Exact expected loss minus its minimum after the last step, in thousandths; lower is "
        "better. Mean and 95% interval over the runs (each a mean over 128 features), and in "
        "parentheses the figure that was stated before our runs, for 64 evaluations. "
        f"{_started()}",
    )
    ranked = sorted(
        (runs for label, runs in rest.items() if label in catalogue()),
        key=lambda runs: sum(runs.final(POWERS[0])) / max(1, len(runs.final(POWERS[0]))),
    )
    second = Table(
        "The catalogue at its defaults: final excess x 1000",
        ("gradient estimator", "evaluations + backward a step", *first.header[2:]),
        [_row(runs, stated=False) for runs in ranked],
        _rule(),
    )
    return [first, _peers(rest), second, failures(results)]


def _most(found: Mapping[str, _Runs], which: Callable[..., _Runs]) -> dict[str, _Runs]:
    """For each label the runs with the most evaluations a step, or the fewest."""
    labelled = sorted({runs.label for runs in found.values()})
    return {
        label: which(
            (runs for runs in found.values() if runs.label == label),
            key=lambda runs: runs.figures["evaluations"],
        )
        for label in labelled
    }


def _rule() -> str:
    few = ", ".join(f"`{name}`" for name in FEW)
    return (
        "Every method evaluates f equally often, whatever else it does, or as often as it must; "
        f"{few} less often, since as many would take too long. `IndeCateR` has one row a feature "
        "instead of ten, which is as exact: f is a sum over features. `Enumerate` and "
        "`UnorderedSet` list all rows, of which there are 2^128. By the first power."
    )


def _started() -> str:
    at = " / ".join(f"{1e3 * ((1 - C) ** p - C**p) / 2:.1f}" for p in POWERS)
    return f"At the start it is {at}."


def _row(runs: _Runs, *, stated: bool = True) -> list[str]:
    known = [f" ({1e3 * x:.2g})" for x in STATED[runs.label]] if stated else []
    known += [""] * (len(POWERS) - len(known))
    texts = [_thousandths(runs.final(p)) + x for p, x in zip(POWERS, known, strict=True)]
    work = str(runs.figures["evaluations"])
    if not stated and runs.figures["backward"]:
        work += f" + {runs.figures['backward']}"
    return [f"`{runs.label}`", work, *texts]


def _thousandths(values: Sequence[float]) -> str:
    return interval([1e3 * value for value in values], 3) if values else "-"


def _peers(rest: Mapping[str, _Runs]) -> Table:
    """Ours less theirs, run by run: the starts are the same, the noise is not."""
    rows = []
    for peer, own in PEERS.items():
        if peer in rest and own in rest:
            pairs = [zip(rest[own].final(p), rest[peer].final(p), strict=False) for p in POWERS]
            less = [_thousandths([a - b for a, b in pair]) for pair in pairs]
            rows += [_row(rest[own], stated=False), _row(rest[peer], stated=False)]
            rows.append(["difference", "", *less])
    header = ("gradient estimator", "evaluations + backward a step")
    return Table(
        "Beside their peers: final excess x 1000",
        (*header, *(f"p = {p:g}" for p in POWERS)),
        rows,
        "The difference is that of runs with the same start and different noise.",
    )


# --- plot -----------------------------------------------------------------------------------------

FAMILIES = {
    "exact": "#000000",
    "needs no df/dx, unbiased": "#0072B2",
    "needs df/dx, unbiased": "#009E73",
    "needs df/dx, biased": "#D55E00",
    "a peer": "#CC79A7",
}


def family(label: str) -> str:
    """The key of `FAMILIES` by a label."""
    if label == "exact":
        return "exact"
    if label in PEERS:
        return "a peer"
    facts = catalogue()[label.split(" ")[0]].facts
    if facts.bias != "none":
        return "needs df/dx, biased"
    return f"needs {'' if facts.needs_derivative else 'no '}df/dx, unbiased"


def plot(results: Results, path: Path) -> None:
    """Excess against steps, a panel a power, with the evaluations a step beside each name."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    figure, panels = plt.subplots(1, len(POWERS), figsize=(19, 9.5), sharey=True)
    found = _gather(results)
    for axes, p in zip(panels, POWERS, strict=True):
        ends = [_draw(axes, runs, p) for runs in found.values() if runs.final(p)]
        axes.set(yscale="log", xlabel="steps", title=f"p = {p:g}", ylim=(1e-4, 0.08))
        axes.spines[["top", "right"]].set_visible(False)
        label_ends(axes, ends)
    panels[0].set_ylabel("exact expected loss above its minimum, with its 95% interval")
    handles = [Line2D([], [], color=color, label=name) for name, color in FAMILIES.items()]
    handles.append(Line2D([], [], color="0.5", linewidth=2, label="thick: had a stated figure"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False)
    figure.tight_layout(rect=(0, 0.04, 1, 1), w_pad=9)
    figure.subplots_adjust(right=0.88)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw(axes: Any, runs: _Runs, p: float) -> tuple[float, float, str, str]:
    """One curve; its end, label and colour."""
    columns = zip(*runs.curves[f"{p:g}"], strict=True)
    bands = [mean_interval(column) for column in columns]
    steps, color = runs.figures["steps"], FAMILIES[family(runs.label)]
    strong = runs.label in STATED and runs.figures["evaluations"] in (0, 64)
    axes.plot(steps, [b[0] for b in bands], color=color, linewidth=2 if strong else 0.8)
    if len(runs.curves[f"{p:g}"]) > 1:
        low, high = ([max(b[i], 1e-6) for b in bands] for i in (1, 2))
        axes.fill_between(steps, low, high, color=color, alpha=0.12, linewidth=0)
    work = runs.figures["evaluations"]
    return steps[-1], bands[-1][0], f"{runs.label}, {work}" if work else runs.label, color


def label_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside a panel, as near to the ends of their curves as they can be without touching.

    Args:
        axes: the panel, in which nothing else is to be drawn.
        ends: x, y, name and colour of each curve.
    """
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    within = axes.transData + axes.transAxes.inverted()
    found = [(*within.transform((x, y)), text, color) for x, y, text, color in ends]
    ordered = sorted(found, key=lambda end: end[1])
    top, gap = 1.02, 1.04 / max(len(ordered), 30)
    places = [min(max(end[1], -0.02), top) for end in ordered]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    for i, (place, (x, y, text, color)) in enumerate(zip(places, ordered, strict=True)):
        place = min(place, top - gap * (len(places) - 1 - i))
        where = {"color": color, "transform": axes.transAxes, "clip_on": False}
        axes.plot([x, 1.08], [min(max(y, 0), 1), place], linewidth=0.4, **where)
        axes.text(1.09, place, text, fontsize=7.5, va="center", **where)


BENCHMARK = Benchmark(
    name="polynomial",
    title="Polynomial programming: the optimum a gradient estimator reaches",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)


if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
