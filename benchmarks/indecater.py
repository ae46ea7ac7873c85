"""The synthetic problems of IndeCateR's paper, every method at equal cost.

**Gradients.** E of the distance between the row of category numbers X and a row b drawn from the
same distribution, logits standard normal, with (12 features, 3 categories), (6, 10) and (3, 100).
The paper's distance is `sum_i |X_i - b_i|`, a sum over features, on which IndeCateR has no variance
by construction; so the Euclidean distance, which is no such sum, stands beside it. The exact
gradient is known in float64. Budgets go from sum K_i, one sample of IndeCateR, to about the
paper's thousand samples.

**Optimisation.** Maximise E mean_i (X_i - .499)^2 over 200 binary features from theta = 0, where a
feature is worth .002 / 200 and the exact expectation is known. This is a sum over features as well.
The paper chose a learning rate for each method; here Adam has one for all, and a step costs at most
800.

Between the one-hot rows both functions are extended by their formula, the number of the category
being `row @ [0 ... K - 1]`. Cost is evaluations of f plus rows it is differentiated at.

    python -m benchmarks.indecater

Reference:
    De Smet, Sansone, Zuidberg Dos Martires (2023), arXiv 2311.12569, section 6.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, Results, Table, failures, interval, run, succeeded
from discrete_grad.evaluation import mean_interval
from discrete_grad.gradient import GradientEstimator, catalogue
from discrete_grad.gradient.recommend import at_budget
from discrete_grad.sampling import categorical, isolated_seed, normal, seeded, uniform_like
from discrete_grad.space import CategoricalSpace

SIZES = {"12 x 3": (3,) * 12, "6 x 10": (10,) * 6, "3 x 100": (100,) * 3}
ORDERS = {"sum": 1, "Euclidean": 2}  # of the norm
BUDGETS = {
    "12 x 3": (36, 108, 324, 972),
    "6 x 10": (60, 180, 540, 1020),
    "3 x 100": (300, 600, 900),
}
CALLS = 4  # of one estimate first, for running baselines to settle, then of equal batches
BITS, CENTRE, BUDGET, RATE, POINTS = 200, 0.499, 800, 0.05, 40
LEFT_OUT = {
    "gradient": ("Arms", "Disarm", "Enumerate", "UnorderedSet"),
    "optimisation": ("Enumerate", "UnorderedSet"),
}
SHOWN = {  # colour and line in the plot, Okabe and Ito's
    "Softmax": ("#000000", "-"),
    "GumbelSoftmax": ("#E69F00", "-"),
    "StraightThrough": ("#56B4E9", "-"),
    "ReinMax": ("#009E73", "-"),
    "Reinforce": ("#CC79A7", "--"),
    "LeaveOneOut": ("#CC79A7", "-"),
    "DoubleControlVariate": ("#D55E00", "--"),
    "Rebar": ("#009E73", "--"),
    "Carms": ("#E69F00", "--"),
    "SumAndSample": ("#56B4E9", "--"),
    "LocalExpectation": ("#0072B2", "--"),
    "IndeCateR": ("#0072B2", "-"),
}
EDGE = 1e-4  # of the plot
GROUPED, GROUP = ("Arms", "Carms", "Rodeo"), 8  # quadratic in their samples; cost of a group


@dataclass(frozen=True)
class Config(harness.Config):
    """Gradients at equal cost, and an optimisation at equal cost a step."""

    seeds: int = 6
    """Problems of each size, and runs of the optimisation."""
    estimates: int = 16
    """Of the gradient, for each method, problem and budget; a multiple of 4."""
    steps: int = 80
    """Of the optimisation; a multiple of 40."""


@dataclass(frozen=True, eq=False)
class Distance:
    """`|x - b|_order` of the category numbers x of flat rows of features of equal size."""

    b: Tensor
    order: int

    def __call__(self, rows: Tensor) -> Tensor:
        """Values `(...)` of flat rows `(..., D)`."""
        apart = _numbers(rows, len(self.b)) - self.b
        values: Tensor = torch.linalg.vector_norm(apart, self.order, dim=-1)
        return values

    def gradient(self, space: CategoricalSpace, logits: Tensor) -> Tensor:
        """Exact gradient `(D,)` of the expectation, by summing over one feature after another."""
        leaf, powers = logits.clone().requires_grad_(), torch.zeros(())
        for b, size in zip(self.b, space.sizes, strict=True):
            apart = (torch.arange(size) - b).abs()
            powers = powers.unsqueeze(-1) + apart**self.order
        mean = powers ** (1 / self.order)  # of every row, (K, ..., K)
        for pi in reversed(space.split(space.softmax(leaf))):
            mean = mean @ pi
        return torch.autograd.grad(mean, leaf)[0]


def _numbers(rows: Tensor, features: int) -> Tensor:
    blocks = rows.unflatten(-1, (features, -1))
    numbers: Tensor = blocks @ torch.arange(blocks.shape[-1]).to(rows)
    return numbers


def worth(rows: Tensor) -> Tensor:
    """`mean_i (x_i - .499)^2` `(...)` of flat rows of binary features."""
    return (_numbers(rows, BITS) - CENTRE).square().mean(-1)


def cells(config: Config) -> list[Cell]:
    """Every method at every size and seed, and in every run of the optimisation."""
    seeds, estimates, steps = config.seeds, config.estimates, config.steps
    if config.quick:
        seeds, estimates, steps = 1, CALLS, 4
    gradients = [
        Cell(f"gradient/{size}/{name}/seed={s}", (name, s, estimates, size, budgets))
        for size, all_budgets in BUDGETS.items()
        for budgets in [all_budgets[:2] if config.quick else all_budgets]
        for name in catalogue()
        for s in range(seeds)
        if name not in LEFT_OUT["gradient"]
    ]
    runs = [
        Cell(f"optimisation/{name}/seed={s}", (name, s, steps))
        for name in catalogue()
        for s in range(seeds)
        if name not in LEFT_OUT["optimisation"]
    ]
    return gradients + runs


def measure(
    name: str, seed: int, count: int, size: str | None = None, budgets: Sequence[int] = ()
) -> dict[str, Any]:
    """One method: its estimates for one problem of each kind, or without a size one optimisation.

    Args:
        name: of the class.
        seed: decides every random number.
        count: estimates, or steps.
        size: of the problem.
        budgets: evaluations plus backward passes an estimate may cost.
    """
    cls = catalogue()[name]
    return errors(cls, seed, count, SIZES[size], budgets) if size else optimise(cls, seed, count)


# --- gradients ------------------------------------------------------------------------------------


def errors(
    cls: type[GradientEstimator],
    seed: int,
    count: int,
    sizes: tuple[int, ...],
    budgets: Sequence[int],
) -> dict[str, Any]:
    """Cosine and variance at every budget: kind -> figure -> list."""
    space, noise = CategoricalSpace.from_sizes(sizes), seeded(seed)
    logits = normal((space.width,), generator=noise)
    b = categorical(space, logits, uniform_like(space, logits, generator=noise))
    figures: dict[str, Any] = {kind: {"cosine": [], "variance": []} for kind in ORDERS}
    figures["budgets"] = list(budgets)
    for kind, order in ORDERS.items():
        f = Distance(b.to(logits), order)
        exact = f.gradient(space, logits)
        for budget in budgets:
            method = Method(cls, space, budget, seed)
            method.one.requires_grad_(False)  # what could be learned stays as it is when new
            estimates = _estimates(method, f, logits, count, noise)
            for name, figure in _compared(estimates, exact).items():
                figures[kind][name].append(figure)
    return figures


class Method:
    """A gradient estimator at a budget, whose work may be split into independent groups."""

    def __init__(
        self, cls: type[GradientEstimator], space: CategoricalSpace, budget: int, seed: int
    ) -> None:
        grouped = cls.__name__ in GROUPED
        self.groups = budget // GROUP if grouped else 1
        with isolated_seed(seed):  # some begin with random networks
            self.one = at_budget(cls, space, GROUP if grouped else budget).double()
        cost = self.one.cost(space)
        self.evaluations, self.cost = cost.evaluations * self.groups, cost.total * self.groups

    def expectation(
        self, f: Callable[[Tensor], Tensor], logits: Tensor, noise: torch.Generator
    ) -> Tensor:
        """An estimate `(*batch)` for logits `(*batch, D)`, the mean over the groups."""
        repeated = logits.expand(self.groups, *logits.shape)
        return self.one.expectation(f, repeated, generator=noise).mean(0)


def _estimates(
    method: Method, f: Distance, logits: Tensor, count: int, noise: torch.Generator
) -> Tensor:
    """Independent estimates `(count, D)`."""
    found = []
    for batch in [1] * CALLS + [count // CALLS] * CALLS:
        leaf = logits.expand(batch, -1).clone().requires_grad_()
        value = method.expectation(f, leaf, noise).sum()
        found.append(torch.autograd.grad(value, leaf)[0])
    return torch.cat(found[CALLS:])


def _compared(estimates: Tensor, exact: Tensor) -> dict[str, float]:
    """Mean cosine to the exact gradient, and variance relative to its squared norm."""
    cosine = torch.cosine_similarity(estimates, exact, dim=-1)
    variance = estimates.var(0).sum() / exact.square().sum()
    return {"cosine": cosine.mean().item(), "variance": variance.item()}


# --- optimisation ---------------------------------------------------------------------------------


def optimise(cls: type[GradientEstimator], seed: int, steps: int) -> dict[str, Any]:
    """Share of the way from the start to the optimum, exact, along one run."""
    space, noise = CategoricalSpace.from_sizes((2,) * BITS), seeded(seed)
    method = Method(cls, space, BUDGET, seed)
    logits = torch.zeros(space.width, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logits, *method.one.parameters()], lr=RATE)
    method.expectation(worth, logits, noise)  # a running baseline does not begin at 0
    share = [0.0]
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        method.expectation(worth, logits, noise).neg().backward()
        optimiser.step()
        if step % max(1, steps // POINTS) == 0:
            share.append(_share(space, logits.detach()))
    return {"share": share, "steps": steps, "evaluations": method.evaluations, "cost": method.cost}


def _share(space: CategoricalSpace, logits: Tensor) -> float:
    """0 at theta = 0, 1 where every feature is 1, -1 where every feature is 0."""
    ones = space.softmax(logits)[1::2]
    # E is linear in the probabilities: .499^2 at 0, .501^2 at 1
    return (2 * ones - 1).mean().item()


# --- what is shown --------------------------------------------------------------------------------

NOTE = (
    "Mean over seeds with a 95% interval. A budget counts evaluations of f plus rows it is "
    "differentiated at; `Softmax`, `Entmax` and `DeterministicStraightThrough` draw nothing and "
    "gain nothing from it. "
    f"{', '.join(f'`{name}`' for name in GROUPED)} average groups of cost {GROUP}. "
    "Left out: `Enumerate`, whose cost is every row, `UnorderedSet`, which lists every row"
)
GRADIENT_NOTE = (
    f"{NOTE}, and `Arms` and `Disarm`, which are for binary features. What a method could learn by "
    "an optimiser stays as it is when new."
)
RUN_NOTE = (
    f"{NOTE}. Adam at {RATE} for all, at most {BUDGET} a step; networks and weights of a method "
    "learn with the logits. 0 is theta = 0, 1 the optimum, -1 the worst; exact, not sampled."
)


def tables(results: Results) -> list[Table]:
    """The README's rows, then each problem and the optimisation with every method."""
    found = [_summary(results)]
    found += [_problem(results, size, kind) for size in SIZES for kind in ORDERS]
    found.append(_runs(results))
    failed = failures(results)
    return found if failed.rows[0][0] == "none" else [*found, failed]


def _of(results: Results, *parts: str) -> dict[str, list[dict[str, Any]]]:
    """Cells of all seeds by method, of the keys that begin with the parts."""
    found: dict[str, list[dict[str, Any]]] = {}
    for key, cell in succeeded(results).items():
        *begin, name, _ = key.split("/")
        if tuple(begin) == parts:
            found.setdefault(name, []).append(cell)
    return dict(sorted(found.items()))


def _figures(cells: Sequence[Mapping[str, Any]], kind: str, name: str, place: int) -> list[float]:
    return [cell[kind][name][place] for cell in cells]


def _summary(results: Results) -> Table:
    """Cosine at the smallest budget, and the end of the optimisation."""
    columns = [("sum", "12 x 3"), *(("Euclidean", size) for size in SIZES)]
    cosines = [(kind, _of(results, "gradient", size)) for kind, size in columns]
    runs = _of(results, "optimisation")
    rows = []
    for name in SHOWN:
        figures = [_figures(found.get(name, []), kind, "cosine", 0) for kind, found in cosines]
        figures.append([cell["share"][-1] for cell in runs.get(name, [])])
        rows.append((f"`{name}`", *(interval(each) if each else "-" for each in figures)))
    header = ("", *(f"{kind}, {size}" for kind, size in columns), "share of the gap closed")
    note = (
        "First the cosine of an estimate to the exact gradient at a cost of sum K_i, the kind of "
        "distance and the number of features and categories above; last the optimisation's end. "
    )
    return Table("Cosine to the exact gradient, and optimisation", header, rows, note + RUN_NOTE)


def _problem(results: Results, size: str, kind: str) -> Table:
    rows, budgets = [], list[int]()
    for name, found in _of(results, "gradient", size).items():
        budgets = found[0]["budgets"]
        row = [
            interval(_figures(found, kind, figure, place))
            for figure in ("cosine", "variance")
            for place in range(len(found[0]["budgets"]))
        ]
        rows.append((f"`{name}`", *row))
    header = ("", *(f"{figure} at {n}" for figure in ("cosine", "variance") for n in budgets))
    title = f"{kind} distance, {size}: cosine and relative variance at each budget"
    return Table(title, header, rows, GRADIENT_NOTE)


def _runs(results: Results) -> Table:
    """The best first."""
    rows = []
    for name, found in _of(results, "optimisation").items():
        ends = [cell["share"][-1] for cell in found]
        halves = [cell["share"][len(cell["share"]) // 2] for cell in found]
        cost, steps = (str(found[0][key]) for key in ("cost", "steps"))
        evaluations = str(found[0]["evaluations"] * found[0]["steps"])
        row = (f"`{name}`", cost, evaluations, steps, interval(halves), interval(ends))
        rows.append((sum(ends) / len(ends), row))
    ordered = [row for _, row in sorted(rows, key=lambda item: -item[0])]
    header = ("", "cost a step", "evaluations in all", "steps", "share half-way", "at the end")
    return Table("Optimisation: share of the gap closed", header, ordered, RUN_NOTE)


def plot(results: Results, path: Path) -> None:
    """1 - cosine against cost; share of the gap against steps and against evaluations."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    figure, panels = plt.subplots(2, 4, figsize=(16, 8), layout="constrained")
    for row, kind in zip(panels, ORDERS, strict=True):
        for axes, size in zip(row, SIZES, strict=False):
            _cosines(axes, _of(results, "gradient", size), kind, size)
    runs = _of(results, "optimisation")
    _curves(panels[0, 3], runs, "steps")
    _curves(panels[1, 3], runs, "evaluations of f")
    lines = [Line2D([], [], color=color, ls=style) for color, style in SHOWN.values()]
    lines.append(Line2D([], [], color="0.8"))
    names = [*SHOWN, "all other methods"]
    figure.legend(lines, names, loc="outside lower center", ncols=7, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _cosines(axes: Any, found: Mapping[str, Sequence[Any]], kind: str, size: str) -> None:
    """1 - cosine, geometric mean over seeds; an exact one lies on the lower edge."""
    costs = BUDGETS[size]
    for name in sorted(found, key=lambda name: name in SHOWN):  # the others behind
        places = range(len(found[name][0]["budgets"]))
        cosines = [_figures(found[name], kind, "cosine", place) for place in places]
        away = [[math.log(max(EDGE, 1 - cosine)) for cosine in values] for values in cosines]
        # side by side, so that the intervals can be told apart
        shift = 1.012 ** (list(SHOWN).index(name) - len(SHOWN) / 2) if name in SHOWN else 1
        _bars(axes, name, [cost * shift for cost in costs[: len(places)]], away)
    axes.set(xscale="log", yscale="log", ylim=(EDGE, 2), title=f"{kind} distance, {size}")
    axes.set_xticks(costs, [str(cost) for cost in costs])
    axes.minorticks_off()
    axes.set_xlabel("evaluations + backward an estimate")
    axes.set_ylabel("1 - cosine to the exact gradient")


def _bars(axes: Any, name: str, x: Sequence[float], values: Sequence[Sequence[float]]) -> None:
    """Geometric means of logarithms of values, with their 95% intervals."""
    color, style = SHOWN.get(name, ("0.8", "-"))
    summary = [mean_interval(list(each)) for each in values]
    mean, low, high = ([math.exp(number) for number in each] for each in zip(*summary, strict=True))
    axes.plot(x, mean, color=color, ls=style, lw=1.6 if name in SHOWN else 0.8, clip_on=False)
    if name in SHOWN and len(values[0]) > 1:
        axes.vlines(x, low, high, color=color, lw=1)


def _curves(axes: Any, found: Mapping[str, Sequence[Any]], against: str) -> None:
    for name in sorted(found, key=lambda name: name in SHOWN):
        first, shares = found[name][0], [cell["share"] for cell in found[name]]
        each = 1 if against == "steps" else first["evaluations"]
        ticks = [each * first["steps"] * i / (len(shares[0]) - 1) for i in range(len(shares[0]))]
        _line(axes, name, ticks, list(zip(*shares, strict=True)))
    axes.axhline(1, color="0.6", ls=":")
    axes.set(ylim=(-1.04, 1.04), title="E mean (X - .499)², 200 bits", xlabel=against)
    axes.set_ylabel("share of the gap closed")


def _line(axes: Any, name: str, x: Sequence[float], values: Sequence[Sequence[float]]) -> None:
    """Mean with a band of its 95% interval."""
    color, style = SHOWN.get(name, ("0.8", "-"))
    mean, low, high = zip(*(mean_interval(list(v)) for v in values), strict=True)
    axes.plot(x, mean, color=color, ls=style, lw=1.6 if name in SHOWN else 0.8)
    if name in SHOWN and len(values[0]) > 1:
        axes.fill_between(x, low, high, color=color, alpha=0.15, lw=0)


BENCHMARK = Benchmark(
    name="indecater",
    title="Gradients and optimisation of IndeCateR's paper, at equal cost",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
