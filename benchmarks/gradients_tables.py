"""The results of `benchmarks.gradients`, read, ranked and shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gradients_blend import NAME, ONE_CALL, blend_table, variants_table
from benchmarks.harness import Results, Table, failures, succeeded
from discrete_grad.evaluation import mean_interval
from discrete_grad.gradient import catalogue

BUDGETS = (2, 8, 32, 128, 512)
TIMES = (1.0, 3.0, 10.0, 30.0)  # milliseconds a call
BATCH = 8  # elements of the batch of a call
OWN, OTHER = "own", "other"
BOTH = (OWN, OTHER)
SIX = ("additive", "multilinear", "quadratic", "smooth", "rough", "motifs")
LINEAR = ("additive", "multilinear", "interactions")  # their own formula; the other one is bent
EXACT = 1e-6  # a relative error that is rounding
AGAIN = "+"  # before the names of the methods alone in a cell, which replace those of the problem's
TWIN = "DecoupledStraightThrough"  # at its defaults the same as StraightThrough
ALWAYS = ("StraightThrough", "ReinMax", "LeaveOneOut")


@dataclass(frozen=True)
class Family:
    """A family of functions, as the tables show it.

    Args:
        kinds: of functions, in the order of the tables.
        main: the spaces whose problems the tables by function hold.
        about: the spaces, in a sentence.
    """

    kinds: tuple[str, ...]
    main: tuple[str, ...]
    about: str


FIRST = Family(
    kinds=(*SIX, "estimator"),
    main=("ragged", "hpolib"),  # together they have every kind once
    about="7 features of 2 to 10 categories (the estimator: the 9 of a real table).",
)


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


class _Problem(NamedTuple):
    where: str
    kind: str
    extension: str
    logits: str
    methods: dict[str, dict[int, Figures | None]]


def _read(results: Results) -> list[_Problem]:
    problems: dict[str, _Problem] = {}
    for key, cell in sorted(succeeded(results).items()):
        problem = key.split(AGAIN)[0]
        where, kind, extension, logits, _ = problem.split("/")
        told = {n: mine for n, mine in cell["methods"].items() if "failed" not in mine}
        methods = {
            name: {int(b): None if isinstance(f, dict) else Figures(*f) for b, f in mine.items()}
            for name, mine in told.items()
        }
        found = problems.setdefault(problem, _Problem(where, kind, extension, logits, {}))
        found.methods.update(methods)  # the problem's own cell comes first
    return list(problems.values())


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
        return f"exact: {_listed(exact, max(shown, 1))}"
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


def _by_function(
    problems: Iterable[_Problem], family: Family
) -> list[tuple[str, str, list[_Problem]]]:
    """Kind, extension and their problems in the main spaces."""
    groups = _grouped([p for p in problems if p.where in family.main], "kind", "extension")
    order = [(kind, extension) for kind in family.kinds for extension in BOTH]
    return [(*pair, groups[pair]) for pair in order if pair in groups]


def _function(kind: str, extension: str) -> str:
    other = "bent" if kind in LINEAR else "multilinear between"
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


def tables(results: Results, family: Family = FIRST) -> list[Table]:
    """The leading table, the leaders of every problem, and every method on every function."""
    problems = _read(results)
    by_function = _by_function(problems, family)
    methods = [problem.methods for problem in problems]
    against = [*(blend_table(methods, name) for name in (NAME, ONE_CALL)), variants_table(methods)]
    costs = [(f"budget {budget}", at_cost(budget)) for budget in BUDGETS]
    times = [(f"{limit:g} ms", at_time(limit)) for limit in TIMES]
    interpolated = (
        f"A call of a batch of {BATCH}, float64, one thread; log-log between measured budgets. A "
        f"method whose dearest measured call is faster stands there with that one. {TIES}"
    )
    return [
        _leading(by_function, family.about, _reference(results)),
        *(table for table in against if table.rows),
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


def _leading(
    by_function: Sequence[tuple[str, str, list[_Problem]]], about: str, reference: str
) -> Table:
    budgets, rows = (8, 32, 128), []
    for kind, extension, mine in by_function:
        found = [ranked(mine, at_cost(budget)) for budget in budgets]
        fixed = [
            " / ".join(next((r.text for r in table if r.name == name), "-") for table in found)
            for name in ALWAYS
        ]
        best = [leader(table, 0) for table in found]
        shown = best[0] if len(set(best)) == 1 else " / ".join(best)
        rows.append((_function(kind, extension), shown, *fixed))
    header = ("f", "best at 8 / 32 / 128", *(f"`{name}` at 8 / 32 / 128" for name in ALWAYS))
    note = (
        f"{about} {NOTE} "
        "`≈ n more`: n more methods cannot be distinguished from the best one. Functions of one "
        "kind agree on every one-hot row; `bent` and `multilinear` name their values between these "
        f"rows. {reference}"
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
    return catalogue()[name.partition(",")[0]].facts.bias == "none"


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
            for budget, found in ({"any": mine} if "failed" in mine else mine).items():
                if isinstance(found, dict):
                    entry = (f"`{name}`", f"{key.split('/')[0]}, {budget}", found["failed"])
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


def plot(results: Results, path: Path, family: Family = FIRST) -> None:
    """RMSE against budget, a panel a function; in colour who is best somewhere, the rest grey."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    panels = [(k, e, _lines(mine)) for k, e, mine in _by_function(_read(results), family)]
    styles = _styles(panels)
    figure, axes = plt.subplots(
        2, len(family.kinds), figsize=(19, 8), sharex=True, sharey=True, layout="constrained"
    )
    for ax in axes.flat:
        ax.set_visible(False)
    for kind, extension, lines in panels:
        ax = axes[BOTH.index(extension)][family.kinds.index(kind)]
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
