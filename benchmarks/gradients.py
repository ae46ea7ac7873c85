"""Distance of one call's gradient from the exact one, at equal cost and at equal wall time.

Every gradient estimator of the catalogue, at its defaults but for `samples`, which a budget of
evaluations plus backward passes of f decides, is run on functions whose exact gradient is known.
Figures are relative to the norm of that gradient.

    python -m benchmarks.gradients            # about 20 minutes on two cores
    python -m benchmarks.gradients --quick    # a smoke test of the script, not a measurement
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks.gradients_blend import ONE_CALL
from benchmarks.gradients_tables import (
    AGAIN,
    BATCH,
    BOTH,
    BUDGETS,
    EXACT,
    OTHER,
    OWN,
    SIX,
    Figures,
    plot,
    tables,
)
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.harness import Config as HarnessConfig
from benchmarks.problems import Problem, make_problem
from discrete_grad import Blend, GradientEstimator
from discrete_grad.gradient import catalogue
from discrete_grad.gradient.recommend import at_budget
from discrete_grad.sampling import isolated_seed, seeded

VARIANTS = {ONE_CALL: partial(Blend, averaged=1)}
SLOW = 0.1  # processor seconds a call may take
LEARNING_RATE = 0.01  # Adam's, of the parameters of a gradient estimator
LOGITS = ("flat", "peaked", "trajectory")
PLAN: dict[str, Sequence[tuple[str, str]]] = {
    "ragged": [(kind, extension) for kind in SIX for extension in BOTH],
    "hpolib": [("estimator", extension) for extension in BOTH],
    "binary": [("smooth", extension) for extension in BOTH],
    "bits": [("multilinear", OTHER), *[(kind, OWN) for kind in ("smooth", "rough", "motifs")]],
    "wide": [("multilinear", OWN), ("smooth", OWN), ("rough", OWN), ("motifs", OWN)],
    "large": [(kind, OWN) for kind in SIX[1:]] + [("motifs", OTHER)],
}
RANDOM = ("hard", "chosen", "mixed")  # rows; the other methods have no noise


@dataclass(frozen=True)
class Config(HarnessConfig):
    """Error of one call's gradient against the exact gradient, for every gradient estimator."""

    seeds: int = 3
    """Functions and logits 0, 1, ... of each kind."""
    rounds: int = 8
    """Calls of each gradient estimator, of a batch of 8 each, interleaved with the others'."""
    warm_up: int = 100
    """Training calls before, for those with parameters, at their default samples, or buffers."""
    steps: int = 300
    """Of the training of an estimator on a real table."""
    only: tuple[str, ...] = ()
    """Names of gradient estimators to measure into cells of their own beside the others' cells."""


def cells(config: Config) -> list[Cell]:
    """Every problem, with all methods and budgets in it."""
    if config.quick:
        plan = [(where, *f, "flat", 0) for where, fs in PLAN.items() for f in fs[1::4]]
        plan += [("bits", "motifs", OWN, "trajectory", 0), ("ragged", "smooth", OWN, "peaked", 0)]
        options = (config.only, 2, 3, 20)
    else:
        plan = [
            (where, *f, logits, seed)
            for seed in range(config.seeds)
            for where, fs in PLAN.items()
            for f in fs
            for logits in LOGITS
        ]
        options = (config.only, config.rounds, config.warm_up, config.steps)
    suffix = "".join(f"{AGAIN}{name}" for name in config.only)
    return [Cell("/".join(map(str, problem)) + suffix, (*problem, *options)) for problem in plan]


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
    make: Callable[..., Problem],
    where: str,
    kind: str,
    extension: str,
    logits_kind: str,
    seed: int,
    only: tuple[str, ...],
    *options: int,
) -> dict[str, Any]:
    """Of every method, or of those named, `Figures` at each budget, or why it failed.

    The problem is the one that `make` makes.

    A method that takes no more samples than at a smaller budget, or has no use for them, has no
    figures of its own there, and neither has one that costs more than the budget.
    """
    rounds, warm_up, steps = options
    problem = make(where, kind, extension, seed, steps=steps)
    return measured(problem, logits_kind, seed, rounds, warm_up, only)


def measured(
    problem: Problem,
    logits_kind: str,
    seed: int,
    rounds: int,
    warm_up: int,
    only: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The figures of a problem, as `measure` tells them."""
    logits, noise = problem.logits(logits_kind, seed), seeded(seed)
    runs: dict[str, list[_Run] | str] = {}
    for name, cls in (catalogue() | VARIANTS).items():
        if only and name not in only:
            continue
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
        else {str(each.budget): _told(each, truth) for each in mine}
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
    cls: Callable[..., GradientEstimator],
    problem: Problem,
    logits: Tensor,
    warm_up: int,
    noise: torch.Generator,
) -> Iterator[_Run]:
    """The method at each budget that makes a difference, up to the first that fails or is slow."""
    origin: Any = cls.func if isinstance(cls, partial) else cls
    learned, cost, spent = dict[str, Any](), 0, list[float]()
    for budget in BUDGETS:
        if cls(problem.space, samples=origin.min_samples).cost(problem.space).total > budget:
            continue
        method = at_budget(cls, problem.space, budget)
        if method.cost(problem.space).total == cost:
            continue
        cost = method.cost(problem.space).total
        if not list(method.parameters()):
            _train(method, problem, logits, warm_up, noise)
        else:  # dear to train, and the same for any number of samples
            learned = learned or _train(cls(problem.space), problem, logits, warm_up, noise)
            method.load_state_dict(learned)
        run = _Run(budget, method)
        if len(spent) > 1 and spent[-1] ** 2 / spent[-2] > 3 * SLOW:  # it would take minutes in all
            run.failed = f"more than {SLOW} s a call, to judge by the smaller budgets"
        else:
            spent.append(run.probe(problem, logits, noise))
        yield run
        if run.failed or method.facts.forward not in RANDOM:
            return


def _train(
    method: GradientEstimator,
    problem: Problem,
    logits: Tensor,
    warm_up: int,
    noise: torch.Generator,
) -> dict[str, Any]:
    """The state of parameters and buffers after the calls of the warm-up."""
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


def _told(run: _Run, truth: Tensor) -> list[float] | dict[str, str]:
    if run.failed:
        return {"failed": run.failed}
    estimates = torch.cat(run.estimates).flatten(1)
    if not estimates.isfinite().all():
        return {"failed": "the gradient is not finite"}
    seen = bool(estimates.abs().max() > EXACT * truth.norm())
    if not seen and run.method.facts.forward in RANDOM:
        return {"failed": "every estimate is 0, so its error cannot be seen"}
    found = figures(estimates, truth.flatten(), run.seconds)
    digits = Figures(rmse=4, half=2, bias=3, seen=2, sd=3, cosine=3, ms=3)
    pairs = zip(found, digits, strict=True)
    return [0.0 if abs(v) < EXACT else float(f"{v:.{d:g}g}") for v, d in pairs]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]


BENCHMARK = Benchmark(
    name="gradients",
    title="Error of a gradient against the exact one, at equal cost and at equal wall time",
    cells=cells,
    measure=partial(measure, make_problem),
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
