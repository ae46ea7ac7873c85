"""How far is one call's gradient from the exact one, at equal cost and at equal wall time?

Every gradient estimator of the catalogue, at its defaults but for `samples`, which a budget of
evaluations plus backward passes of f decides, is run on functions whose exact gradient is known.
Figures are relative to the norm of that gradient.

    python -m benchmarks.gradients            # about 20 minutes on two cores
    python -m benchmarks.gradients --quick    # a smoke test of the script, not a measurement
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from torch import Tensor

from benchmarks.harness import Benchmark, Cell, Results, Table, failures, run, succeeded
from benchmarks.harness import Config as HarnessConfig
from benchmarks.problems import Problem, make_problem
from discrete_grad import GradientEstimator
from discrete_grad.evaluation import mean_interval
from discrete_grad.gradient import at_budget, catalogue
from discrete_grad.sampling import isolated_seed, seeded

BUDGETS = (2, 8, 32, 128, 512)
TIMES = (1.0, 3.0, 10.0, 30.0)  # milliseconds a call
BATCH = 8  # elements of the batch of a call
SLOW = 0.1  # processor seconds a call may take
LEARNING_RATE = 0.01  # Adam's, of the parameters of a gradient estimator
LOGITS = ("flat", "peaked", "trajectory")
OWN, OTHER = "own", "other"
BOTH = (OWN, OTHER)
SIX = ("additive", "multilinear", "quadratic", "smooth", "rough", "motifs")
KINDS = (*SIX, "estimator")
PLAN: dict[str, Sequence[tuple[str, str]]] = {
    "ragged": [(kind, extension) for kind in SIX for extension in BOTH],
    "hpolib": [("estimator", extension) for extension in BOTH],
    "binary": [("smooth", extension) for extension in BOTH],
    "bits": [("multilinear", OTHER), *[(kind, OWN) for kind in ("smooth", "rough", "motifs")]],
    "wide": [("multilinear", OWN), ("smooth", OWN), ("rough", OWN), ("motifs", OWN)],
    "large": [(kind, OWN) for kind in SIX[1:]] + [("motifs", OTHER)],
}
MAIN = ("ragged", "hpolib")  # together they have every kind once
EXACT = 1e-6  # a relative error that is rounding
RANDOM = ("hard", "chosen")  # rows; the other methods have no noise
TWIN = "DecoupledStraightThrough"  # at its defaults the same as StraightThrough
ALWAYS = ("StraightThrough", "ReinMax", "LeaveOneOut")


@dataclass(frozen=True)
class Config(HarnessConfig):
    """Error of one call's gradient against the exact gradient, for every gradient estimator."""

    seeds: int = 3
    """Functions and logits 0, 1, ... of each kind."""
    rounds: int = 8
    """Calls of each gradient estimator, of a batch of 8 each, interleaved with the others'."""
    warm_up: int = 100
    """Training calls before, for those with parameters or buffers, at their default samples."""
    steps: int = 300
    """Of the training of an estimator on a real table."""


def cells(config: Config) -> list[Cell]:
    """Every problem, with all methods and budgets in it."""
    if config.quick:
        plan = [(where, *f, "flat", 0) for where, fs in PLAN.items() for f in fs[1::4]]
        plan += [("bits", "motifs", OWN, "trajectory", 0), ("ragged", "smooth", OWN, "peaked", 0)]
        options = (2, 3, 20)
    else:
        plan = [
            (where, *f, logits, seed)
            for seed in range(config.seeds)
            for where, fs in PLAN.items()
            for f in fs
            for logits in LOGITS
        ]
        options = (config.rounds, config.warm_up, config.steps)
    return [Cell("/".join(map(str, problem)), (*problem, *options)) for problem in plan]


# --- measuring ------------------------------------------------------------------------------------


@dataclass
class _Run:
    """A method at a budget: its estimates `(repeats, n, D)` and seconds so far, or its failure."""

    budget: int
    method: GradientEstimator
    estimates: list[Tensor] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: str = ""

    def call(self, problem: Problem, logits: Tensor, noise: torch.Generator) -> None:
        """One more call."""
        try:
            began = time.perf_counter()
            self.estimates.append(_estimate(self.method, problem, logits, noise))
            self.seconds.append(time.perf_counter() - began)
        except (RuntimeError, ValueError, MemoryError) as error:
            self.failed = f"{type(error).__name__}: {_first_line(error)}"

    def probe(self, problem: Problem, logits: Tensor, noise: torch.Generator) -> float:
        """Processor seconds of a call that is not kept; one that is slow twice is a failure."""
        spent = math.inf
        for _ in range(2):  # the first of a process may load modules
            began = time.process_time()  # what else runs on the machine must not decide
            self.call(problem, logits, noise)
            spent = time.process_time() - began
            if self.failed or not SLOW < spent < 5 * SLOW:
                break
        if spent > SLOW and not self.failed:
            self.failed = f"more than {SLOW} s a call"
        self.estimates.clear()
        self.seconds.clear()
        return spent


def measure(
    where: str, kind: str, extension: str, logits_kind: str, seed: int, *options: int
) -> dict[str, Any]:
    """Of every method `budget` and the fields of `Figures`, for each budget, semicolons between.

    A method that takes no more samples than at a smaller budget, or has no use for them, has no
    figures of its own there, and neither has one that costs more than the budget.
    """
    rounds, warm_up, steps = options
    problem = make_problem(where, kind, extension, seed, steps=steps)
    logits, noise = problem.logits(logits_kind, seed), seeded(seed)
    runs: dict[str, list[_Run] | str] = {}
    for name, cls in catalogue().items():
        try:
            with isolated_seed(seed):  # some begin with random networks
                runs[name] = list(_begun(cls, problem, logits, warm_up, noise))
        except (RuntimeError, ValueError) as error:
            runs[name] = _first_line(error)
    everyone = [run for mine in runs.values() if not isinstance(mine, str) for run in mine]
    for _ in range(rounds):
        for each in everyone:
            if not each.failed:
                each.call(problem, logits, noise)
    truth = problem.gradient(logits)
    told = {
        name: {"failed": mine}
        if isinstance(mine, str)
        else "; ".join(_part(r, truth) for r in mine)
        for name, mine in runs.items()
    }
    off = problem.disagreement(logits[0])
    checked = {} if off is None else {"reference_error": float(f"{off:.1e}")}
    return {"norm": float(f"{truth.norm():.4g}"), **checked, "methods": told}


def _estimate(
    method: GradientEstimator, problem: Problem, logits: Tensor, noise: torch.Generator
) -> Tensor:
    """Estimates `(repeats, n, D)` of one call for logits `(n, D)`."""
    repeated = logits.expand(BATCH // len(logits), *logits.shape).clone().requires_grad_()
    value = method.expectation(problem.f, repeated, generator=noise).sum()
    return torch.autograd.grad(value, repeated)[0]


def _begun(
    cls: type[GradientEstimator],
    problem: Problem,
    logits: Tensor,
    warm_up: int,
    noise: torch.Generator,
) -> Iterator[_Run]:
    """The method at each budget that makes a difference, up to the first that fails or is slow."""
    learned = _learned(cls, problem, logits, warm_up, noise)
    cost, spent = 0, list[float]()
    for budget in BUDGETS:
        if cls(problem.space, samples=cls.min_samples).cost(problem.space).total > budget:
            continue
        method = at_budget(cls, problem.space, budget)
        if method.cost(problem.space).total == cost:
            continue
        cost = method.cost(problem.space).total
        method.load_state_dict(learned)
        run = _Run(budget, method)
        if len(spent) > 1 and spent[-1] ** 2 / spent[-2] > 3 * SLOW:  # it would take minutes in all
            run.failed = f"more than {SLOW} s a call, to judge by the smaller budgets"
        else:
            spent.append(run.probe(problem, logits, noise))
        yield run
        if run.failed or method.facts.forward not in RANDOM:
            return


def _learned(
    cls: type[GradientEstimator],
    problem: Problem,
    logits: Tensor,
    warm_up: int,
    noise: torch.Generator,
) -> dict[str, Any]:
    """The state of parameters and buffers after the calls of the warm-up."""
    method = cls(problem.space)
    weights = list(method.parameters())
    if not method.state_dict():
        return {}
    optimiser = torch.optim.Adam(weights, lr=LEARNING_RATE) if weights else None
    for _ in range(warm_up):
        repeated = logits.expand(BATCH // len(logits), *logits.shape).clone().requires_grad_()
        method.zero_grad()
        method.expectation(problem.f, repeated, generator=noise).mean().backward()
        if optimiser:
            optimiser.step()
    return method.state_dict()


class Figures(NamedTuple):
    """Of one call, relative to the norm of the exact gradient; several logits count as one vector.

    Fields: root mean squared error and half the length of its 95% interval over the replicates;
    norm of the bias, from an unbiased estimate of its square, at least 0, and the least bias that
    would be seen: the square of the one is uncertain by the square of the other, at 95%; standard
    deviation; mean cosine with the exact gradient; median milliseconds.
    """

    rmse: float
    half: float
    bias: float
    seen: float
    sd: float
    cosine: float
    ms: float


def figures(estimates: Tensor, truth: Tensor, seconds: Sequence[float]) -> Figures:
    """From estimates `(R, n)` of `(n,)`."""
    repeats, norm = len(estimates), truth.norm()
    errors = (estimates - truth) / norm
    squares, mean = errors.square().sum(1), errors.mean(0)
    centred = errors - mean
    variance = centred.square().sum() / (repeats - 1)
    bias = mean.square().sum() - variance / repeats
    gram = centred @ centred.T / (repeats - 1)
    along = (centred @ mean).square().sum() / (repeats - 1)
    spread = 2 * gram.square().sum() / (repeats * (repeats - 1)) + 4 * along / repeats
    rmse = squares.mean().sqrt()
    half = 1.96 * squares.std() / math.sqrt(repeats) / (2 * rmse).clamp_min(1e-30)
    cosines = torch.nn.functional.cosine_similarity(estimates, truth.expand_as(estimates), eps=0)
    found = (rmse, half, bias.clamp_min(0).sqrt(), (1.96 * spread.sqrt()).sqrt(), variance.sqrt())
    middle = sorted(seconds)[len(seconds) // 2]
    cosine = float(cosines.nan_to_num().mean())
    return Figures._make([*map(float, found), cosine, 1000 * middle])


def _part(run: _Run, truth: Tensor) -> str:
    if run.failed:
        return f"{run.budget} failed: {run.failed}"
    estimates = torch.cat(run.estimates).flatten(1)
    if not estimates.isfinite().all():
        return f"{run.budget} failed: the gradient is not finite"
    seen = bool(estimates.abs().max() > EXACT * truth.norm())
    if not seen and run.method.facts.forward in RANDOM:
        return f"{run.budget} failed: every estimate is 0, so its error cannot be seen"
    found = figures(estimates, truth.flatten(), run.seconds)
    digits = Figures(rmse=4, half=2, bias=3, seen=2, sd=3, cosine=3, ms=3)
    pairs = zip(found, digits, strict=True)
    # the file holds tens of thousands of them
    texts = ["0" if abs(v) < EXACT else f"{v:.{d:g}g}".removeprefix("0") for v, d in pairs]
    return " ".join([str(run.budget), *texts])


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120].replace(";", ",")


# --- reading --------------------------------------------------------------------------------------


class _Problem(NamedTuple):
    where: str
    kind: str
    extension: str
    logits: str
    methods: dict[str, dict[int, Figures | None]]


def _read(results: Results) -> list[_Problem]:
    problems = []
    for key, cell in sorted(succeeded(results).items()):
        where, kind, extension, logits, _ = key.split("/")
        told = {name: mine for name, mine in cell["methods"].items() if isinstance(mine, str)}
        methods = {name: dict(map(_parsed, _parts(text))) for name, text in told.items()}
        problems.append(_Problem(where, kind, extension, logits, methods))
    return problems


def _parts(text: str) -> list[str]:
    return text.split("; ") if text else []


def _parsed(part: str) -> tuple[int, Figures | None]:
    budget, *numbers = part.split()
    return int(budget), None if numbers[0] == "failed:" else Figures(*map(float, numbers))


Found = Mapping[int, Figures | None]
Point = tuple[float, float]
"""Logarithm of an RMSE, and half its interval."""


def _point(figures: Figures | None) -> Point | None:
    if figures is None:
        return None
    rmse = max(figures.rmse, EXACT / 2)
    return math.log(rmse), figures.half / rmse


def at_cost(budget: int) -> Callable[[Found], Point | None]:
    """The point of the dearest instance within the budget."""

    def point(found: Found) -> Point | None:
        within = [b for b in found if b <= budget]
        return _point(found[max(within)]) if within else None

    return point


def at_time(limit: float) -> Callable[[Found], Point | None]:
    """Log-log interpolation between the budgets; beyond the slowest measured, that one."""

    def point(found: Found) -> Point | None:
        known = sorted((f.ms, p) for f in found.values() if f and (p := _point(f)))
        below = [item for item in known if item[0] <= limit]
        if not below or len(below) == len(known):
            return below[-1][1] if below else None
        (left, a), (right, b) = below[-1], known[len(below)]
        share = math.log(limit / left) / math.log(right / left)
        return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])

    return point


class Ranked(NamedTuple):
    """Geometric mean of the RMSE over the problems of a group, and its 95% interval.

    The interval is over the replicates, for these very problems.
    """

    name: str
    rmse: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The figure with half the length of its interval."""
        half = (self.high - self.low) / 2
        return f"{_short(self.rmse)}±{half:.1g}"


def ranked(group: Iterable[_Problem], at: Callable[[Found], Point | None]) -> list[Ranked]:
    """The methods that have a figure in every problem of the group, the best first."""
    points: dict[str, list[Point | None]] = {}
    problems = list(group)
    for problem in problems:
        for name, found in problem.methods.items():
            if name != TWIN:
                points.setdefault(name, []).append(at(found))
    table = []
    for name, mine in points.items():
        known = [point for point in mine if point]
        if len(known) == len(problems):
            mean = sum(log for log, _ in known) / len(known)
            half = math.hypot(*(half for _, half in known)) / len(known)
            table.append(Ranked(name, *(math.exp(mean + s * half) for s in (0, -1, 1))))
    return sorted(table, key=lambda item: (item.rmse, item.name))


def leader(table: Sequence[Ranked], shown: int = 2) -> str:
    """The best method and those whose intervals overlap its own."""
    if not table:
        return "-"
    if table[0].rmse <= EXACT:
        exact = [item.name for item in table if item.rmse <= EXACT]
        return f"exact: {_listed(exact, shown)}" if shown else f"{len(exact)} exact"
    tied = [item.name for item in table[1:] if item.low <= table[0].high]
    return f"`{table[0].name}` {table[0].text}" + (f" ≈ {_listed(tied, shown)}" if tied else "")


def _listed(names: Sequence[str], shown: int) -> str:
    more = [f"{len(names) - shown} more"] if len(names) > shown else []
    return ", ".join([*(f"`{name}`" for name in names[:shown]), *more])


def _short(value: float) -> str:
    """Two significant digits, and all digits of a large number."""
    if abs(value) <= EXACT:
        return "0"
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:#.2g}"


def _grouped(problems: Iterable[_Problem], *fields: str) -> dict[tuple[str, ...], list[_Problem]]:
    groups: dict[tuple[str, ...], list[_Problem]] = {}
    for problem in problems:
        groups.setdefault(tuple(getattr(problem, f) for f in fields), []).append(problem)
    return groups


def _by_function(problems: Iterable[_Problem]) -> list[tuple[str, str, list[_Problem]]]:
    """Kind, extension and their problems in the spaces that have every kind once."""
    groups = _grouped([p for p in problems if p.where in MAIN], "kind", "extension")
    order = [(kind, extension) for kind in KINDS for extension in BOTH]
    return [(*pair, groups[pair]) for pair in order if pair in groups]


def _function(kind: str, extension: str) -> str:
    other = "bent" if kind in ("additive", "multilinear") else "multilinear between"
    return kind if extension == OWN else f"{kind}, {other}"


# --- tables ---------------------------------------------------------------------------------------

NOTE = (
    "RMSE relative to the norm of the exact gradient; geometric mean over logits and seeds, ± half "
    "its 95% interval over the replicates. A call costs evaluations plus backward passes of f."
)
TIES = (
    "`≈`: the methods whose 95% interval overlaps the leader's. `exact`: no error, as by "
    f"enumeration where the budget reaches every row. `{TWIN}`, at its defaults the same as "
    "`StraightThrough`, is left out."
)


def tables(results: Results) -> list[Table]:
    """The leading table, the leaders of every problem, and every method on every function."""
    problems = _read(results)
    by_function = _by_function(problems)
    costs = [(f"budget {budget}", at_cost(budget)) for budget in BUDGETS]
    times = [(f"{limit:g} ms", at_time(limit)) for limit in TIMES]
    interpolated = (
        f"A call of a batch of {BATCH}, float64, one thread; log-log between measured budgets. A "
        f"method whose dearest measured call is faster stands there with that one. {TIES}"
    )
    return [
        _leading(by_function, _reference(results)),
        _shares(by_function, costs + times),
        _leaders("Leaders at equal cost", problems, costs, TIES),
        _leaders("Leaders at equal wall time", problems, times, interpolated),
        *(_methods(_function(kind, ext), mine) for kind, ext, mine in by_function),
        _left_out(results),
        failures(results),
    ]


def _reference(results: Results) -> str:
    errors = [cell.get("reference_error", 0.0) for cell in succeeded(results).values()]
    return f"The exact gradient agrees with that of enumeration to {max(errors, default=0):.0e}."


def _leading(by_function: Sequence[tuple[str, str, list[_Problem]]], reference: str) -> Table:
    budgets, rows = (8, 32, 128), []
    for kind, extension, mine in by_function:
        found = [ranked(mine, at_cost(budget)) for budget in budgets]
        fixed = [
            " / ".join(next((r.text for r in table if r.name == name), "-") for table in found)
            for name in ALWAYS
        ]
        rows.append((_function(kind, extension), " / ".join(leader(t, 0) for t in found), *fixed))
    header = ("f", "best at 8 / 32 / 128", *(f"`{name}` at 8 / 32 / 128" for name in ALWAYS))
    note = (
        f"7 features of 2 to 10 categories (the estimator: the 9 of a real table). {NOTE} "
        "`≈ n more` cannot be told from the leader. Functions of one kind agree on every one-hot "
        f"row; `bent` and `multilinear` say how they go on between them. {reference}"
    )
    return Table("Relative error of a gradient, by function and budget", header, rows, note)


def _shares(
    by_function: Sequence[tuple[str, str, list[_Problem]]],
    views: Sequence[tuple[str, Callable[[Found], Point | None]]],
) -> Table:
    rows = []
    for kind, extension, mine in by_function:
        shares = []
        for _, at in views:
            first = [table[0] for problem in mine if (table := ranked([problem], at))]
            unbiased = [float(_is_unbiased(r.name)) for r in first if r.rmse > EXACT]
            shares.append(_share(unbiased, len(first)))
        rows.append((_function(kind, extension), *shares))
    note = (
        "Share of the problems, and its 95% interval (Wilson), whose best method declares no bias; "
        "`exact` where the best has no error at all."
    )
    title = "Where the best method is unbiased"
    return Table(title, ("f", *(name for name, _ in views)), rows, note)


def _is_unbiased(name: str) -> bool:
    return catalogue()[name].facts.bias == "none"


def _share(values: Sequence[float], problems: int) -> str:
    if not values:
        return "exact" if problems else "-"
    n, z = len(values), 1.96
    p = sum(values) / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + s * half) / (1 + z * z / n) for s in (-1, 1))
    return f"{p:.0%} [{max(low, 0):.0%}, {high:.0%}]"


def _leaders(
    title: str,
    problems: Sequence[_Problem],
    views: Sequence[tuple[str, Callable[[Found], Point | None]]],
    note: str,
) -> Table:
    rows = []
    for key, mine in _grouped(problems, "where", "kind", "extension", "logits").items():
        where, kind, extension, logits = key
        found = (leader(ranked(mine, at)) for _, at in views)
        rows.append((where, _function(kind, extension), logits, *found))
    header = ("space", "f", "logits", *(name for name, _ in views))
    return Table(title, header, rows, f"{NOTE} {note}")


def _methods(function: str, problems: Sequence[_Problem]) -> Table:
    found: dict[str, list[Mapping[int, Figures | None]]] = {}
    for problem in problems:
        for name, mine in problem.methods.items():
            found.setdefault(name, []).append(mine)
    rows = [(f"`{name}`", *_summary(mine)) for name, mine in found.items()]
    header = ("method", "RMSE at 32", "RMSE at 512", *(f"{n} at 128" for n in DETAILS))
    note = (
        "Mean over logits and seeds (of RMSE, deviation and milliseconds the geometric one) and "
        "its 95% interval over them, by Student's t. A bias that cannot be told from 0 counts 0. "
        "The cost is the dearest within the budget; a dash where one call costs more, or where a "
        "figure is 0 in some problems only."
    )
    return Table(f"Every method on one f: {function}", header, rows, note)


DETAILS = ("bias", "deviation", "cosine", "ms")


def _summary(found: Sequence[Mapping[int, Figures | None]]) -> list[str]:
    at = {budget: [_within(mine, budget) for mine in found] for budget in (32, 128, 512)}
    kept = {budget: [f for f in mine if f] for budget, mine in at.items()}
    kept = {b: mine if len(mine) == len(found) else [] for b, mine in kept.items()}
    rmse = [_typical([f.rmse for f in kept[budget]]) for budget in (32, 512)]
    bias = _mean([f.bias if f.bias > f.seen else 0.0 for f in kept[128]])
    sd, ms = (_typical([getattr(f, what) for f in kept[128]]) for what in ("sd", "ms"))
    return [*rmse, bias, sd, _mean([f.cosine for f in kept[128]]), ms]


def _within(found: Mapping[int, Figures | None], budget: int) -> Figures | None:
    return found.get(max((b for b in found if b <= budget), default=0))


def _typical(values: Sequence[float]) -> str:
    """Geometric mean and its interval."""
    if not values or min(values) <= EXACT:
        return "0" if values and max(values) <= EXACT else "-"
    mean, *ends = map(math.exp, mean_interval([math.log(value) for value in values]))
    return _with_ends(mean, *ends)


def _mean(values: Sequence[float]) -> str:
    return _with_ends(*mean_interval(values)) if values else "-"


def _with_ends(mean: float, low: float, high: float) -> str:
    known = math.isfinite(high) and (low, high) != (mean, mean)
    return f"{_short(mean)} [{_short(low)}, {_short(high)}]" if known else _short(mean)


def _left_out(results: Results) -> Table:
    """Failures of methods within problems."""
    counts: dict[tuple[str, str, str], int] = {}
    for key, cell in succeeded(results).items():
        for name, mine in cell["methods"].items():
            for part in [f"any {mine['failed']}"] if isinstance(mine, dict) else _parts(mine):
                budget, _, what = part.partition(" ")
                if isinstance(mine, dict) or what.startswith("failed: "):
                    entry = (f"`{name}`", f"{key.split('/')[0]}, {budget}", what)
                    counts[entry] = counts.get(entry, 0) + 1
    rows = [(*entry, str(count)) for entry, count in sorted(counts.items())] or [
        ("none", "", "", "")
    ]
    header = ("method", "space, budget", "what happened", "problems")
    note = "After a failure at one budget the larger ones are not tried."
    return Table("Methods that failed in a problem", header, rows, note)


# --- plot -----------------------------------------------------------------------------------------

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B5A2B")
MARKERS = "osD^vPX*"
LOWEST = 0.02  # of the plot; what is below, or exact, lies on the lower edge


def plot(results: Results, path: Path) -> None:
    """RMSE against budget, a panel a function; in colour who is best somewhere, the rest grey."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    panels = [(k, e, _lines(mine)) for k, e, mine in _by_function(_read(results))]
    styles = _styles(panels)
    figure, axes = plt.subplots(
        2, len(KINDS), figsize=(19, 8), sharex=True, sharey=True, layout="constrained"
    )
    for ax in axes.flat:
        ax.set_visible(False)
    for kind, extension, lines in panels:
        ax = axes[BOTH.index(extension)][KINDS.index(kind)]
        ax.set_visible(True)
        ax.set_title(_function(kind, extension).replace(", ", ",\n"), fontsize=12)
        for name, line in lines.items():
            _draw(ax, line, styles.get(name))
    first = axes[0][0]
    first.set(xscale="log", yscale="log", ylim=(LOWEST, 20), yticks=(0.02, 0.1, 0.5, 2, 10))
    first.set(yticklabels=("≤ 0.02", "0.1", "0.5", "2", "10"))
    first.set_xticks(BUDGETS, labels=map(str, BUDGETS))
    first.minorticks_off()
    figure.supxlabel("evaluations plus backward passes of f a call")
    figure.supylabel("RMSE over the norm of the exact gradient")
    handles = [Line2D([], [], color=c, marker=m, label=name) for name, (c, m) in styles.items()]
    handles.append(Line2D([], [], color="0.8", label="all others"))
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=11)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _lines(problems: Sequence[_Problem]) -> dict[str, list[tuple[int, Ranked]]]:
    lines: dict[str, list[tuple[int, Ranked]]] = {}
    for budget in BUDGETS:
        for item in ranked(problems, at_cost(budget)):
            lines.setdefault(item.name, []).append((budget, item))
    return lines


def _styles(
    panels: Iterable[tuple[str, str, Mapping[str, Sequence[tuple[int, Ranked]]]]],
) -> dict[str, tuple[str, str]]:
    """Colour and marker of those that lead somewhere, and are not exact there; most often first."""
    wins: dict[str, int] = {}
    for _, _, lines in panels:
        for budget in BUDGETS:
            items = [item for line in lines.values() for b, item in line if b == budget]
            best = min(items, key=lambda item: item.rmse, default=None)
            if best and best.rmse > EXACT:
                wins[best.name] = wins.get(best.name, 0) + 1
    leaders = sorted(wins, key=lambda name: (-wins[name], name))
    return dict(zip(leaders, zip(COLOURS, MARKERS, strict=True), strict=False))


def _draw(ax: Any, line: Sequence[tuple[int, Ranked]], style: tuple[str, str] | None) -> None:
    budgets = [budget for budget, _ in line]
    middle = [max(item.rmse, LOWEST) for _, item in line]
    if style is None:
        ax.plot(budgets, middle, color="0.8", linewidth=0.8, zorder=1)
        return
    low = [m - max(min(item.low, m), LOWEST) for m, (_, item) in zip(middle, line, strict=True)]
    high = [max(item.high, m) - m for m, (_, item) in zip(middle, line, strict=True)]
    colour, marker = style
    options = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.4}
    ax.errorbar(budgets, middle, yerr=[low, high], clip_on=False, zorder=2, **options)


BENCHMARK = Benchmark(
    name="gradients",
    title="Error of a gradient against the exact one, at equal cost and at equal wall time",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
