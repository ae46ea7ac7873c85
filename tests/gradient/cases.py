"""The table of gradient estimators: what each one declares. It drives every contract test.

A new gradient estimator adds a line to CASES and its formula above it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from discrete_grad import (
    IMLE,
    AdaptiveIMLE,
    Arms,
    Blend,
    Carms,
    CategoricalSpace,
    CentredReinMax,
    Darn,
    DecoupledStraightThrough,
    DeterministicStraightThrough,
    Disarm,
    DoubleControlVariate,
    Entmax,
    EntropyWeighted,
    Enumerate,
    GappedStraightThrough,
    GradientEstimator,
    GumbelRao,
    GumbelSoftmax,
    IndeCateR,
    LeaveOneOut,
    LocalExpectation,
    LowVarianceReinMax,
    Rebar,
    Reinforce,
    ReinMax,
    ReinMaxRao,
    Relax,
    Relaxation,
    Rodeo,
    Softmax,
    StraightThrough,
    SumAndSample,
    UnorderedSet,
)

Function = Callable[[Tensor], Tensor]

# classes of functions of a flat row, each inside the next; what a bias is measured on
CLASSES = ("linear", "multilinear", "quadratic", "cubic")
GRADIENT = "discrete_grad.gradient"
Exact = Literal["nothing", "additive", "multilinear", "quadratic", "everything"]


class Formula(Protocol):
    """Gradient `(D,)` by explicit matrices, given the noise: an independent second derivation."""

    def __call__(
        self, space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
    ) -> Tensor:
        """Logits `(D,)`; Gumbel noise `(N, D)`, whose argmax with the logits is the draw."""


class Make(Protocol):
    """Constructor of a gradient estimator, ready for use."""

    def __call__(
        self, space: CategoricalSpace | None = None, *, samples: int
    ) -> GradientEstimator: ...


@dataclass(frozen=True)
class Outcomes:
    """All n outcomes of a draw: their probabilities `(n,)`, and what `target` returns for them."""

    probabilities: Tensor
    target: str
    drawn: Tensor


OutcomesOf = Callable[[CategoricalSpace, Tensor, int], Outcomes]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One gradient estimator and the facts it declares.

    Args:
        forward: what f is given: a `hard` draw from softmax(logits), the `argmax` row, a `mixed`
            row between a draw and the mean, a `soft` row, or `all` rows.
        exact_on: largest class of f on which the expected gradient is the true one.
        value_exact_on: the same for the expected value.
        function_of_codes: the noise matters through the drawn codes alone, so that the expected
            gradient is a finite sum.
        smooth: given the noise, the value is a smooth function of the logits.
        samples: rows drawn per element of the batch in the tests.
        law_tau: hard rows are drawn from softmax(logits / law_tau).
        slope: range of the length along the true gradient, where the gradient is biased.
        local: a feature that f ignores does not change the gradient of the others.
        linear_in_f: the gradient of a sum of functions is the sum of their gradients.
        continuous: given the noise, a rounded derivative of f changes the gradient by as little.
        soft_calls: calls of f at soft rows, after the one whose values count.
        draws: draws of codes in one call, from the space and the samples.
        drawn: which of the rows that f is given follow the declared law.
        weights: of the rows `(n, *batch, D)` that f is given in the value, `(n, *batch)`, from the
            space and the logits; None means the mean.
        noise: what the noise decides: codes that are alike for every feature, codes in which every
            feature has draws of its own, or whole rows; no clause can hand the last one its noise,
            so that its own tests do.
        outcomes: all that can be drawn, from the space, the logits and the samples, where the draws
            are not independent rows.
    """

    name: str
    make: Make
    formula: Formula | None
    forward: Literal["hard", "argmax", "mixed", "soft", "all"]
    exact_on: Exact
    value_exact_on: Exact
    needs_derivative: bool = True
    deterministic: bool = False
    function_of_codes: bool = True
    smooth: bool = False
    samples: int = 1
    law_tau: float = 1.0
    slope: tuple[float, float] = (1.0, 1.0)
    local: bool = True
    linear_in_f: bool = True
    continuous: bool = True
    soft_calls: int = 0
    draws: Callable[[CategoricalSpace, int], int] = lambda space, samples: samples
    drawn: Literal["all", "first", "none"] = "all"
    weights: Callable[[CategoricalSpace, Tensor, Tensor], Tensor] | None = None
    noise: Literal["codes", "codes of a feature", "rows"] = "codes"
    outcomes: OutcomesOf | None = None

    def __str__(self) -> str:
        return self.name

    def estimator(self, space: CategoricalSpace | None = None) -> GradientEstimator:
        return self.make(space, samples=self.samples)

    @property
    def is_layer(self) -> bool:
        return isinstance(self.estimator(), Relaxation)


# --- formulas -----------------------------------------------------------------------------------


def jacobian(space: CategoricalSpace, p: Tensor) -> Tensor:
    """diag(p) - p p^T of every feature, on the diagonal of one `(D, D)` matrix."""
    return torch.block_diag(*[torch.diag(q) - torch.outer(q, q) for q in space.split(p)])


def softmax(space: CategoricalSpace, logits: Tensor) -> Tensor:
    return torch.cat([part.exp() / part.exp().sum() for part in space.split(logits)])


def hard_rows(space: CategoricalSpace, logits: Tensor, gumbel: Tensor) -> Tensor:
    rows = torch.zeros_like(gumbel)
    for row, noise in zip(rows, gumbel, strict=True):
        for start, part in zip(space.offsets, space.split(logits + noise), strict=True):
            row[start + int(part.argmax())] = 1
    return rows


def derivative(f: Function, rows: Tensor) -> Tensor:
    rows = rows.detach().requires_grad_()
    return torch.autograd.grad(f(rows).sum(), rows)[0]


def enumerate_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    pi = softmax(space, logits)
    rows = torch.stack([space.one_hot(codes, dtype=pi.dtype) for codes in space.enumerate()])
    p = torch.where(rows == 1, pi, 1).prod(-1)
    return (p * f(rows)) @ (rows - pi)


def softmax_formula(tau: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        p = softmax(space, logits / tau)
        return jacobian(space, p) @ derivative(f, p) / tau

    return formula


def straight_through_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    g = derivative(f, hard_rows(space, logits, gumbel)).mean(0)
    return jacobian(space, softmax(space, logits)) @ g


def deterministic_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    return straight_through_formula(space, logits, torch.zeros_like(gumbel), f)


def reinmax_formula(tau: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        pi, tempered = softmax(space, logits), softmax(space, logits / tau)
        rows = hard_rows(space, logits, gumbel)
        parts = [
            2 * jacobian(space, (tempered + row) / 2) @ g - jacobian(space, pi) @ g / 2
            for row, g in zip(rows, derivative(f, rows), strict=True)
        ]
        return torch.stack(parts).mean(0)

    return formula


def centred_reinmax_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    rows, pi = hard_rows(space, logits, gumbel), softmax(space, logits)
    slopes, j, parts = derivative(f, rows), jacobian(space, pi), []
    for n, row in enumerate(rows):
        others = torch.cat([slopes[:n], slopes[n + 1 :]]).mean(0)
        score = torch.block_diag(*[torch.outer(s, s) for s in space.split(row - pi)])
        parts.append((j + score) / 2 @ (slopes[n] - others) + j @ others)
    return torch.stack(parts).mean(0)


def low_variance_reinmax_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    rows, pi = hard_rows(space, logits, gumbel), softmax(space, logits)
    parts = []
    for row, g in zip(rows, derivative(f, rows), strict=True):
        blocks = []
        for p, x in zip(space.split(pi), space.split(row), strict=True):
            total = (p * (1 - p)).sum()
            h = p * (1 - p) / total if total > 0 else p
            ratio = (h @ x) / (p @ x)
            j = torch.diag(p) - torch.outer(p, p)
            blocks.append((ratio * j + torch.outer(x - p, x - h)) / 2)
        parts.append(torch.block_diag(*blocks) @ g)
    return torch.stack(parts).mean(0)


def darn_formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
    rows = hard_rows(space, logits, gumbel)
    parts = []
    for row, g in zip(rows, derivative(f, rows), strict=True):
        score = space.split(row - softmax(space, logits))
        parts.append(torch.block_diag(*[torch.outer(s, s) for s in score]) @ g)
    return torch.stack(parts).mean(0)


def decoupled_formula(tau_b: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        g = derivative(f, hard_rows(space, logits, gumbel)).mean(0)
        return jacobian(space, softmax(space, logits / tau_b)) @ g / tau_b

    return formula


def gapped_formula(gap: float, tau: float) -> Formula:
    def moved(logits: Tensor, row: Tensor) -> Tensor:
        best, drawn = logits.max(), logits[row.argmax()]
        return logits + (best - drawn) * row - (logits - best + gap).relu() * (1 - row)

    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        rows = hard_rows(space, logits, gumbel)
        parts = []
        for row, g in zip(rows, derivative(f, rows), strict=True):
            pairs = zip(space.split(logits), space.split(row), strict=True)
            m = torch.cat([moved(*pair) for pair in pairs])
            parts.append(jacobian(space, softmax(space, m / tau)) @ g / tau)
        return torch.stack(parts).mean(0)

    return formula


def inner_gumbel(gumbel: Tensor, count: int) -> Tensor:
    """The inner noise `(count, *gumbel.shape)` used with this outer noise, entry by entry."""
    steps = torch.arange(1, count + 1, dtype=gumbel.dtype).view(-1, *[1] * gumbel.dim())
    return gumbel * (steps * 1.7).cos() + (gumbel * steps).sin()


def conditional(logits: Tensor, row: Tensor, gumbel: Tensor) -> Tensor:
    """logits + G of one feature, given that its argmax is the row, with exponentials written out.

    A masked category has no inverse of exp(logits): 1 / 0 = inf, and -log(inf) = -inf.
    """
    e, total, d = (-gumbel).exp(), logits.exp().sum(), int(row.argmax())
    result = -(e / logits.exp() + e[d] / total).log()
    result[d] = total.log() - e[d].log()
    return result


def gumbel_rao_formula(tau: float, inner: int) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        rows, noises = hard_rows(space, logits, gumbel), inner_gumbel(gumbel, inner)
        parts = []
        for noise in noises:
            for row, g, own in zip(rows, derivative(f, rows), noise, strict=True):
                triples = zip(space.split(logits), space.split(row), space.split(own), strict=True)
                v = torch.cat([conditional(*triple) for triple in triples])
                parts.append(jacobian(space, softmax(space, v / tau)) @ g / tau)
        return torch.stack(parts).mean(0)

    return formula


def reinmax_rao_formula(tau: float, inner: int) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        rows, noises = hard_rows(space, logits, gumbel), inner_gumbel(gumbel, inner)
        pi = softmax(space, logits)
        parts = []
        for noise in noises:
            for row, g, own in zip(rows, derivative(f, rows), noise, strict=True):
                phi = ((pi + row) / 2).log()
                triples = zip(space.split(phi), space.split(row), space.split(own), strict=True)
                v = torch.cat([conditional(*triple) for triple in triples])
                smooth = jacobian(space, softmax(space, v / tau)) / tau
                parts.append(2 * smooth @ g - jacobian(space, pi) @ g / 2)
        return torch.stack(parts).mean(0)

    return formula


def entmax_of_one(scores: Tensor, alpha: float) -> Tensor:
    """p = max((alpha - 1) x - t, 0)^(1 / (alpha - 1)), t by bisection."""
    x = (alpha - 1) * scores
    low, high = x.max() - 1, x.max()
    for _ in range(200):
        t = (low + high) / 2
        p = (x - t).clamp_min(0) ** (1 / (alpha - 1))
        low, high = (t, high) if p.sum() >= 1 else (low, t)
    return p


def entmax_formula(alpha: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        p = torch.cat([entmax_of_one(part, alpha) for part in space.split(logits)])
        slopes = space.split(torch.where(p > 1e-20, p, 0) ** (2 - alpha) * (p > 1e-20))
        jacobians = [torch.diag(s) - torch.outer(s, s) / s.sum() for s in slopes]
        return torch.block_diag(*jacobians) @ derivative(f, p)

    return formula


def entropy_weighted_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    pi, weights = softmax(space, logits), []
    for part in space.split(pi):
        p = part[part > 0]
        weight = -(p * p.log()).sum() / math.log(len(p)) if len(p) > 1 else torch.zeros(())
        weights.append(weight.expand(len(part)))
    rows = pi + torch.cat(weights) * (hard_rows(space, logits, gumbel) - pi)
    return jacobian(space, pi) @ derivative(f, rows).mean(0)


def imle_formula(step: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        rows = hard_rows(space, logits, gumbel)
        g = derivative(f, rows) / len(rows)
        parts = [
            (row - hard_rows(space, logits - step * v, noise.unsqueeze(0))[0]) / step
            for row, v, noise in zip(rows, g, gumbel, strict=True)
        ]
        return torch.stack(parts).sum(0)

    return formula


def centred(space: CategoricalSpace, flat: Tensor, logits: Tensor) -> Tensor:
    pairs = zip(space.split(flat), space.split(logits), strict=True)
    kept = [part[theta.isfinite()] for part, theta in pairs]
    return torch.cat([part - part.mean() for part in kept])


def adaptive_imle_formula(beta: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        rows, total = hard_rows(space, logits, gumbel), torch.zeros_like(logits)
        for row, v, noise in zip(rows, derivative(f, rows), gumbel, strict=True):
            size = centred(space, v, logits).norm() / len(rows)
            step = beta * centred(space, logits + noise, logits).norm() / size
            moved = hard_rows(space, logits - step * v / len(rows), noise.unsqueeze(0))[0]
            total += (row - moved) / step
        return total

    return formula


def gumbel_formula(tau: float, *, hard: bool) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        soft = torch.stack([softmax(space, (logits + noise) / tau) for noise in gumbel])
        g = derivative(f, hard_rows(space, logits, gumbel) if hard else soft)
        parts = [jacobian(space, y) @ v / tau for y, v in zip(soft, g, strict=True)]
        return torch.stack(parts).mean(0)

    return formula


def reinforce_formula(baseline: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        rows = hard_rows(space, logits, gumbel)
        advantages = (f(rows) - baseline) / len(rows)
        return advantages @ (rows - softmax(space, logits))

    return formula


def leave_one_out_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    rows = hard_rows(space, logits, gumbel)
    values = f(rows)
    others = torch.stack([(values.sum() - value) / (len(rows) - 1) for value in values])
    return (values - others) @ (rows - softmax(space, logits)) / len(rows)


def one_feature_averaged(
    space: CategoricalSpace, logits: Tensor, row: Tensor, i: int, f: Function
) -> Tensor:
    """`J [f(x_{-i}, k)]_k` on the block of feature i, one category after the other."""
    gradient = torch.zeros_like(row)
    block = slice(space.offsets[i], space.offsets[i] + space.sizes[i])
    values = []
    for k in range(space.sizes[i]):
        changed = row.clone()
        changed[block] = torch.eye(space.sizes[i], dtype=row.dtype)[k]
        values.append(f(changed.unsqueeze(0)).squeeze(0))
    pi = softmax(space, logits)[block]
    gradient[block] = (torch.diag(pi) - torch.outer(pi, pi)) @ torch.stack(values)
    return gradient


def local_expectation_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    rows, features = hard_rows(space, logits, gumbel), range(space.num_features)
    parts = [one_feature_averaged(space, logits, row, i, f) for row in rows for i in features]
    return torch.stack(parts).sum(0) / len(rows)


def indecater_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    rows = hard_rows(space, logits, gumbel)
    samples = len(rows) // space.num_features
    parts = [one_feature_averaged(space, logits, x, n // samples, f) for n, x in enumerate(rows)]
    return torch.stack(parts).sum(0) / samples


def local_expectation_weights(space: CategoricalSpace, logits: Tensor, rows: Tensor) -> Tensor:
    """The drawn rows first, then the rows with one category changed."""
    pi, features = space.softmax(logits), space.num_features
    samples = len(rows) // (1 + space.width - features)
    drawn = rows[:samples].repeat(len(rows) // samples, *[1] * (rows.dim() - 1))
    new = torch.where((rows == drawn).all(-1, keepdim=True), rows, (rows > drawn).to(rows.dtype))
    return (pi * new).sum(-1) / (features * samples)


def indecater_weights(space: CategoricalSpace, logits: Tensor, rows: Tensor) -> Tensor:
    samples = len(rows) // space.width
    return space.softmax(logits).movedim(-1, 0).repeat_interleave(samples, 0) / (
        space.num_features * samples
    )


def double_control_formula(alpha: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        rows, pi = hard_rows(space, logits, gumbel), softmax(space, logits)
        n, g = len(rows), derivative(f, rows)
        others = [[m for m in range(n) if m != i] for i in range(n)]
        slopes = [g[rest].mean(0) for rest in others]
        h = f(rows) - torch.stack([alpha * (slopes[i] @ (rows[i] - pi)) for i in range(n)])
        parts = [
            (h[i] - h[rest].mean()) * (rows[i] - pi) + alpha * jacobian(space, pi) @ slopes[i]
            for i, rest in enumerate(others)
        ]
        return torch.stack(parts).mean(0)

    return formula


def relaxed_rows(
    space: CategoricalSpace, theta: Tensor, row: Tensor, noise: tuple[Tensor, Tensor], tau: float
) -> tuple[Tensor, Tensor]:
    """softmax(z / tau) and softmax(z~ / tau) with exponentials written out, autograd in theta."""
    pi, (free, given) = softmax(space, theta), noise
    e, safe = (-given).exp(), torch.where(pi > 0, pi, 1)
    drawn = [part.sum().expand_as(part) for part in space.split(e * row)]
    both = (safe.log() + free, -(torch.where(row == 1, 0, e / safe) + torch.cat(drawn)).log())
    return tuple(softmax(space, torch.where(pi > 0, z, -torch.inf) / tau) for z in both)


def relaxed_control_formula(control: Callable[[Function], Function], tau: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        c, parts = control(f), []
        rows, own = hard_rows(space, logits, gumbel), inner_gumbel(gumbel, 1)[0]
        for row, *noise in zip(rows, gumbel, own, strict=True):
            theta = logits.clone().requires_grad_()
            free, given = (c(y) for y in relaxed_rows(space, theta, row, tuple(noise), tau))
            (correction,) = torch.autograd.grad(free - given, theta)
            parts.append((f(row) - given.detach()) * (row - softmax(space, logits)) + correction)
        return torch.stack(parts).mean(0)

    return formula


def rodeo_formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
    """The operator as a sum over every single-feature change, h of first order."""
    rows, pi = hard_rows(space, logits, gumbel), softmax(space, logits)
    n, g, values = len(rows), derivative(f, rows), f(rows)
    edges = (*space.offsets, space.width)

    def stein(h: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        total = -len(space.sizes) * h(x)
        for start, end in itertools.pairwise(edges):
            for k in range(start, end):
                y = x.clone()
                y[start:end] = 0
                y[k] = 1
                total = total + pi[k] * h(y)
        return total / len(space.sizes)

    def surrogate(i: int) -> Callable[[Tensor], Tensor]:
        rest = [j for j in range(n) if j != i]
        return lambda y: torch.stack([g[j] @ (y - rows[j]) for j in rest]).mean()

    h = [surrogate(i) for i in range(n)]
    corrected = torch.stack([values[i] + stein(h[i], rows[i]) for i in range(n)])
    parts = [
        (values[i] - (corrected.sum() - corrected[i]) / (n - 1)) * (rows[i] - pi)
        + stein(lambda y, i=i: h[i](y) * (y - pi), rows[i])
        for i in range(n)
    ]
    return torch.stack(parts).mean(0)


class Powers(nn.Module):
    """A control variate with parameters that treats all categories alike."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.8, -1.1], dtype=torch.float64))

    def forward(self, rows: Tensor) -> Tensor:
        return (self.weights[0] * rows**2 + self.weights[1] * rows**3).sum(-1)


# --- draws that are not independent rows ----------------------------------------------------------


def rows_and_law(space: CategoricalSpace, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Codes `(num_rows, F)` of every row, and their probabilities `(..., num_rows)`."""
    codes = space.enumerate()
    return codes, space.log_prob(logits.unsqueeze(-2), codes).exp()


def without_replacement(space: CategoricalSpace, logits: Tensor, samples: int) -> Outcomes:
    """Every ordered choice of different rows: the noise that makes them the largest, in order."""
    _, p = rows_and_law(space, logits)
    orders = list(itertools.permutations(p.nonzero().squeeze(-1).tolist(), samples))
    law, noise = [], torch.zeros(len(orders), len(p), dtype=torch.float64)
    for row, order in zip(noise, orders, strict=True):
        chances = [p[i] / (1 - p[list(order[:n])].sum()) for n, i in enumerate(order)]
        law.append(torch.stack(chances).prod())
        for n, i in enumerate(order):
            row[i] = 1000 - n - p[i].log()
    return Outcomes(torch.stack(law), f"{GRADIENT}.unordered_set.gumbel_like", noise)


def set_probability(p: Tensor, chosen: Iterable[int], gone: Iterable[int]) -> Tensor:
    """Of drawing the set without replacement once some rows are gone: the sum over its orders."""
    total, left = torch.zeros_like(p[..., 0]), 1 - p[..., list(gone)].sum(-1)
    for order in itertools.permutations(chosen):
        chance, mass = torch.ones_like(total), left
        for i in order:
            chance, mass = chance * p[..., i] / mass, mass - p[..., i]
        total = total + chance
    return total


def unordered_set_weights(space: CategoricalSpace, logits: Tensor, rows: Tensor) -> Tensor:
    p = space.log_prob(logits, rows).exp().movedim(0, -1)  # (*batch, k)
    chosen = set(range(len(rows)))
    parts = [
        p[..., s] * set_probability(p, chosen - {s}, {s}) / set_probability(p, chosen, ())
        for s in chosen
    ]
    return torch.stack(parts)


def one_of_the_others(space: CategoricalSpace, logits: Tensor, samples: int) -> Outcomes:
    codes, p = rows_and_law(space, logits)
    others = p.argsort(descending=True)[samples - 1 :]
    others = others[p[others] > 0]
    target = f"{GRADIENT}.sum_and_sample._draw_another"
    return Outcomes(p[others] / p[others].sum(), target, codes[others])


def copula_law(p: Tensor, samples: int, independent: float) -> Tensor:
    """Law `(K,) * samples` of the antithetic codes of one feature.

    All samples exceed u_n together with probability `(1 - sum a_n)^m`, a = 1 - (1 - u)^(1/m), and
    a box is an alternating sum over its corners; the likeliest category is lowest.
    """
    order, power = p.argsort(descending=True), samples - 1
    high = torch.zeros_like(p).scatter(0, order, p[order].cumsum(0)).clamp_max(1)
    high[order[-1]] = 1
    low = torch.zeros_like(p).scatter(0, order[1:], high[order[:-1]])
    edges = [1 - (1 - u) ** (1 / power) for u in (low, high)]
    law, product = torch.zeros(len(p) ** samples, dtype=p.dtype), torch.ones(1, dtype=p.dtype)
    for corner in itertools.product((0, 1), repeat=samples):
        total = torch.cartesian_prod(*[edges[c] for c in corner]).sum(-1)
        law += (-1) ** sum(corner) * (1 - total).clamp_min(0) ** power
    for _ in range(samples):
        product = torch.kron(product, p)
    law = (1 - independent) * law + independent * product
    return law.view((len(p),) * samples)


def antithetic(name: str, independent: float = 0.0, *, pairs: bool = False) -> OutcomesOf:
    """Every tuple of rows, the features independent of each other."""

    def outcomes(space: CategoricalSpace, logits: Tensor, samples: int) -> Outcomes:
        samples = 2 * samples if pairs else samples
        law, codes = torch.ones(1, dtype=logits.dtype), torch.zeros(1, samples, 0, dtype=torch.long)
        for part in space.split(softmax(space, logits)):
            own = torch.cartesian_prod(*[torch.arange(len(part))] * samples).view(-1, samples, 1)
            own_law = copula_law(part, samples, independent).flatten()
            possible = own_law.abs() > 1e-14
            own, own_law = own[possible], own_law[possible]
            codes = torch.cat(
                [codes.repeat_interleave(len(own), 0), own.repeat(len(codes), 1, 1)], -1
            )
            law = torch.kron(law, own_law)
        return Outcomes(law, f"{GRADIENT}.{name}", codes.transpose(0, 1))

    return outcomes


def carms_formula(independent: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        rows = hard_rows(space, logits, gumbel)
        values, codes, count = f(rows), space.argmax(rows), len(rows)
        parts = []
        for i, p in enumerate(space.split(softmax(space, logits))):
            pair_law = copula_law(p, count, independent).reshape(len(p), len(p), -1).sum(-1)
            part = torch.zeros_like(p)
            for n, m in itertools.permutations(range(count), 2):
                a, b = codes[n, i], codes[m, i]
                if a != b:
                    weight = p[a] * p[b] / pair_law[a, b]
                    part[a] += weight * (values[n] - values[m]) / (2 * count * (count - 1))
                    part[b] -= weight * (values[n] - values[m]) / (2 * count * (count - 1))
            parts.append(part)
        return torch.cat(parts)

    return formula


def disarm_formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
    rows = hard_rows(space, logits, gumbel)
    half, codes = len(rows) // 2, space.argmax(rows)
    values, parts = f(rows), []
    for i, part in enumerate(space.split(logits)):
        if len(part) == 1:
            parts.append(torch.zeros_like(part))
            continue
        size = (part[1] - part[0]).abs().sigmoid()
        b, other = codes[:half, i], codes[half:, i]
        sign = torch.where(b != other, 1.0 - 2.0 * other, 0.0)
        by_odds = ((values[:half] - values[half:]) / 2 * sign * size).mean()
        parts.append(torch.stack([-by_odds, by_odds]))
    return torch.cat(parts)


def sum_and_sample_weights(space: CategoricalSpace, logits: Tensor, rows: Tensor) -> Tensor:
    p = space.log_prob(logits, rows[:-1]).exp()
    return torch.cat([p, 1 - p.sum(0, keepdim=True)])


# --- the table ----------------------------------------------------------------------------------


def softmax_case(tau: float, *, exact_on: Exact, slope: tuple[float, float] = (1.0, 1.0)) -> Case:
    return Case(
        name=f"Softmax(tau={tau})",
        make=lambda space=None, *, samples: Softmax(space, tau=tau, samples=samples),
        formula=softmax_formula(tau),
        forward="soft",
        exact_on=exact_on,
        slope=slope,
        value_exact_on=exact_on,
        deterministic=True,
        smooth=True,
    )


def gumbel_case(
    tau: float, *, hard: bool, samples: int = 1, slope: tuple[float, float] = (1.0, 1.0)
) -> Case:
    return Case(
        name=f"GumbelSoftmax(tau={tau}, hard={hard})",
        make=lambda space=None, *, samples: GumbelSoftmax(
            space, tau=tau, hard=hard, samples=samples
        ),
        formula=gumbel_formula(tau, hard=hard),
        forward="hard" if hard else "soft",
        exact_on="nothing",
        slope=slope,
        value_exact_on="everything" if hard else "nothing",
        function_of_codes=False,
        smooth=not hard,
        samples=samples,
    )


def reinmax_case(
    tau: float, *, exact_on: Exact, samples: int = 1, slope: tuple[float, float] = (1.0, 1.0)
) -> Case:
    return Case(
        name=f"ReinMax(tau={tau})",
        make=lambda space=None, *, samples: ReinMax(space, tau=tau, samples=samples),
        formula=reinmax_formula(tau),
        forward="hard",
        exact_on=exact_on,
        slope=slope,
        value_exact_on="everything",
        samples=samples,
    )


def reinforce_case(baseline: float, *, samples: int = 1) -> Case:
    def make(space: CategoricalSpace | None = None, *, samples: int) -> GradientEstimator:
        estimator = Reinforce(space, samples=samples)
        estimator.baseline.fill_(baseline)
        estimator.weight.fill_(1)
        return estimator.eval()  # the baseline stays where it is

    return Case(
        name=f"Reinforce(baseline={baseline})",
        make=make,
        formula=reinforce_formula(baseline),
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
    )


def leave_one_out_case(samples: int) -> Case:
    return Case(
        name=f"LeaveOneOut(samples={samples})",
        make=LeaveOneOut,
        formula=leave_one_out_formula,
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
    )


def local_expectation_case(samples: int) -> Case:
    return Case(
        name=f"LocalExpectation(samples={samples})",
        make=LocalExpectation,
        formula=local_expectation_formula,
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
        drawn="first",
        weights=local_expectation_weights,
    )


def carms_case(samples: int, independent: float) -> Case:
    return Case(
        name=f"Carms(samples={samples}, independent={independent})",
        make=lambda space=None, *, samples: Carms(space, independent=independent, samples=samples),
        formula=carms_formula(independent),
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
        drawn="first",
        outcomes=antithetic("carms.draw_antithetic", independent),
    )


def arms_case(samples: int) -> Case:
    return Case(
        name=f"Arms(samples={samples})",
        make=Arms,
        formula=carms_formula(0.0),
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
        drawn="first",
        outcomes=antithetic("arms.draw_antithetic"),
    )


def disarm_case(samples: int) -> Case:
    return Case(
        name=f"Disarm(samples={samples})",
        make=Disarm,
        formula=disarm_formula,
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
        draws=lambda space, samples: 2 * samples,
        drawn="first",
        outcomes=antithetic("disarm.draw_opposites", pairs=True),
    )


def unordered_set_case(samples: int) -> Case:
    return Case(
        name=f"UnorderedSet(samples={samples})",
        make=UnorderedSet,
        formula=None,
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
        drawn="first",
        weights=unordered_set_weights,
        noise="rows",
        outcomes=without_replacement,
    )


def sum_and_sample_case(samples: int) -> Case:
    return Case(
        name=f"SumAndSample(samples={samples})",
        make=SumAndSample,
        formula=None,
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
        drawn="none",
        weights=sum_and_sample_weights,
        noise="rows",
        outcomes=one_of_the_others,
    )


def decoupled_case(
    tau_f: float,
    tau_b: float,
    *,
    exact_on: Exact,
    samples: int = 1,
    slope: tuple[float, float] = (1.0, 1.0),
) -> Case:
    return Case(
        name=f"DecoupledStraightThrough(tau_f={tau_f}, tau_b={tau_b})",
        make=lambda space=None, *, samples: DecoupledStraightThrough(
            space, tau_f=tau_f, tau_b=tau_b, samples=samples
        ),
        formula=decoupled_formula(tau_b),
        forward="hard",
        exact_on=exact_on,
        slope=slope,
        value_exact_on="everything" if tau_f == 1 else "nothing",
        samples=samples,
        law_tau=tau_f,
    )


def gapped_case(
    gap: float, tau: float, *, samples: int = 1, slope: tuple[float, float] = (1.0, 1.0)
) -> Case:
    return Case(
        name=f"GappedStraightThrough(gap={gap}, tau={tau})",
        make=lambda space=None, *, samples: GappedStraightThrough(
            space, gap=gap, tau=tau, samples=samples
        ),
        formula=gapped_formula(gap, tau),
        forward="hard",
        exact_on="nothing",
        slope=slope,
        value_exact_on="everything",
        samples=samples,
    )


def gumbel_rao_case(
    tau: float, inner: int, *, samples: int = 1, slope: tuple[float, float] = (1.0, 1.0)
) -> Case:
    return Case(
        name=f"GumbelRao(tau={tau}, inner_samples={inner})",
        make=lambda space=None, *, samples: GumbelRao(
            space, tau=tau, inner_samples=inner, samples=samples
        ),
        formula=gumbel_rao_formula(tau, inner),
        forward="hard",
        exact_on="nothing",
        slope=slope,
        value_exact_on="everything",
        function_of_codes=False,
        samples=samples,
    )


def double_control_case(alpha: float, *, samples: int, learn: bool = False) -> Case:
    return Case(
        name=f"DoubleControlVariate(alpha={alpha}, learn={learn}, samples={samples})",
        make=lambda space=None, *, samples: DoubleControlVariate(
            space, alpha=alpha, learn_alpha=learn, samples=samples
        ),
        formula=double_control_formula(alpha),
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        samples=samples,
    )


def blend_formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
    """The weights of the first call: a quarter each."""
    parts = (
        double_control_formula(1.0)(space, logits, gumbel, f),
        straight_through_formula(space, logits, gumbel, f),
        darn_formula(space, logits, gumbel, f),
        softmax_formula(1.0)(space, logits, gumbel, f),
    )
    return torch.stack(parts).mean(0)


def blend_case(samples: int) -> Case:
    return Case(
        name=f"Blend(samples={samples})",
        make=Blend,
        formula=blend_formula,
        forward="hard",
        exact_on="multilinear",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
        soft_calls=1,
    )


def rebar_case(eta: float, tau: float, *, samples: int = 1, learn: bool = False) -> Case:
    return Case(
        name=f"Rebar(eta={eta}, tau={tau}, learn={learn})",
        make=lambda space=None, *, samples: Rebar(
            space, eta=eta, tau=tau, learn_eta=learn, learn_tau=learn, samples=samples
        ),
        formula=relaxed_control_formula(lambda f: lambda rows: eta * f(rows), tau),
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        function_of_codes=False,
        samples=samples,
        soft_calls=1,
    )


def relax_case(tau: float, *, samples: int = 1) -> Case:
    return Case(
        name=f"Relax(tau={tau})",
        make=lambda space=None, *, samples: Relax(
            space, control_variate=Powers(), tau=tau, samples=samples
        ),
        formula=relaxed_control_formula(lambda f: Powers(), tau),
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        function_of_codes=False,
        samples=samples,
        local=False,
    )


def entmax_case(alpha: float, *, slope: tuple[float, float] = (1.0, 1.0)) -> Case:
    return Case(
        name=f"Entmax(alpha={alpha})",
        make=lambda space=None, *, samples: Entmax(space, alpha=alpha, samples=samples),
        formula=entmax_formula(alpha),
        forward="soft",
        exact_on="nothing",
        slope=slope,
        value_exact_on="nothing",
        deterministic=True,
        smooth=True,
    )


def reinmax_rao_case(
    tau: float, inner: int, *, samples: int = 1, slope: tuple[float, float] = (1.0, 1.0)
) -> Case:
    return Case(
        name=f"ReinMaxRao(tau={tau}, inner_samples={inner})",
        make=lambda space=None, *, samples: ReinMaxRao(
            space, tau=tau, inner_samples=inner, samples=samples
        ),
        formula=reinmax_rao_formula(tau, inner),
        forward="hard",
        exact_on="nothing",
        slope=slope,
        value_exact_on="everything",
        function_of_codes=False,
        samples=samples,
    )


def imle_case(step: float, *, samples: int = 1, slope: tuple[float, float] = (1.0, 1.0)) -> Case:
    return Case(
        name=f"IMLE(step={step})",
        make=lambda space=None, *, samples: IMLE(space, step=step, samples=samples),
        formula=imle_formula(step),
        forward="hard",
        exact_on="nothing",
        slope=slope,
        value_exact_on="everything",
        function_of_codes=False,
        linear_in_f=False,
        continuous=False,
        samples=samples,
    )


def adaptive_imle_case(
    beta: float, *, samples: int = 1, slope: tuple[float, float] = (1.0, 1.0)
) -> Case:
    def make(space: CategoricalSpace | None = None, *, samples: int) -> GradientEstimator:
        return AdaptiveIMLE(space, beta=beta, samples=samples).eval()  # beta stays where it is

    return Case(
        name=f"AdaptiveIMLE(beta={beta})",
        make=make,
        formula=adaptive_imle_formula(beta),
        forward="hard",
        exact_on="nothing",
        slope=slope,
        value_exact_on="everything",
        function_of_codes=False,
        local=False,
        linear_in_f=False,
        continuous=False,
        samples=samples,
    )


def centred_reinmax_case(samples: int) -> Case:
    return Case(
        name=f"CentredReinMax(samples={samples})",
        make=CentredReinMax,
        formula=centred_reinmax_formula,
        forward="hard",
        exact_on="quadratic",
        value_exact_on="everything",
        samples=samples,
    )


def rodeo_case(samples: int) -> Case:
    return Case(
        name=f"Rodeo(samples={samples})",
        make=Rodeo,
        formula=rodeo_formula,
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        samples=samples,
        local=False,
    )


CASES = (
    Case(
        name="Enumerate",
        make=Enumerate,
        formula=enumerate_formula,
        forward="all",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        deterministic=True,
        smooth=True,
    ),
    softmax_case(1.0, exact_on="multilinear"),
    softmax_case(0.5, exact_on="nothing", slope=(1.4, 2.3)),
    gumbel_case(1.0, hard=True, slope=(0.65, 0.8)),
    gumbel_case(0.3, hard=True, samples=2, slope=(0.9, 1.0)),
    gumbel_case(0.5, hard=False, slope=(0.85, 0.95)),
    Case(
        name="StraightThrough",
        make=StraightThrough,
        formula=straight_through_formula,
        forward="hard",
        exact_on="multilinear",
        value_exact_on="everything",
    ),
    Case(
        name="DeterministicStraightThrough",
        make=DeterministicStraightThrough,
        formula=deterministic_formula,
        forward="argmax",
        exact_on="additive",
        value_exact_on="nothing",
        deterministic=True,
    ),
    reinmax_case(1.0, exact_on="quadratic"),
    reinmax_case(1.3, exact_on="nothing", samples=2, slope=(0.95, 1.1)),
    Case(
        name="LowVarianceReinMax",
        make=LowVarianceReinMax,
        formula=low_variance_reinmax_formula,
        forward="hard",
        exact_on="quadratic",
        value_exact_on="everything",
    ),
    centred_reinmax_case(2),
    centred_reinmax_case(3),
    Case(
        name="Darn",
        make=Darn,
        formula=darn_formula,
        forward="hard",
        exact_on="multilinear",
        value_exact_on="everything",
    ),
    decoupled_case(1.0, 1.0, exact_on="multilinear"),
    decoupled_case(1.0, 0.5, exact_on="nothing", samples=2, slope=(1.4, 2.3)),
    decoupled_case(2.0, 0.7, exact_on="nothing", slope=(1.2, 1.6)),
    gumbel_rao_case(0.5, 10, slope=(0.85, 0.95)),
    gumbel_rao_case(1.0, 1, samples=2, slope=(0.65, 0.8)),
    gapped_case(1.0, 1.0, slope=(0.75, 1.2)),
    gapped_case(0.0, 0.5, samples=2, slope=(1.5, 2.2)),
    entmax_case(1.5, slope=(1.4, 2.0)),
    entmax_case(2.0, slope=(2.0, 5.0)),
    entmax_case(1.3, slope=(1.2, 1.6)),
    Case(
        name="EntropyWeighted",
        make=EntropyWeighted,
        formula=entropy_weighted_formula,
        forward="mixed",
        exact_on="multilinear",
        value_exact_on="multilinear",
    ),
    imle_case(10.0, slope=(0.1, 0.25)),
    imle_case(3.0, samples=2, slope=(0.5, 1.05)),
    adaptive_imle_case(1.0, slope=(0.1, 2.0)),
    adaptive_imle_case(0.5, samples=2, slope=(0.2, 2.0)),
    reinmax_rao_case(1.0, 10, slope=(0.55, 0.8)),
    reinmax_rao_case(0.5, 2, samples=2, slope=(0.65, 0.85)),
    reinforce_case(0.0),
    reinforce_case(0.7, samples=3),
    leave_one_out_case(2),
    leave_one_out_case(3),
    double_control_case(1.0, samples=2),
    double_control_case(0.5, samples=3, learn=True),
    blend_case(2),
    blend_case(3),
    rebar_case(1.0, 0.5),
    rebar_case(0.75, 0.25, samples=2, learn=True),
    relax_case(0.5),
    relax_case(1.0, samples=2),
    rodeo_case(2),
    rodeo_case(3),
    local_expectation_case(1),
    local_expectation_case(2),
    Case(
        name="IndeCateR",
        make=IndeCateR,
        formula=indecater_formula,
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        draws=lambda space, samples: space.num_features * samples,
        drawn="none",
        weights=indecater_weights,
        noise="codes of a feature",
    ),
    *(unordered_set_case(samples) for samples in (2, 3)),
    *(sum_and_sample_case(samples) for samples in (2, 4)),
    carms_case(2, 0.5),
    carms_case(3, 0.1),
)

# for features of two categories: see test_binary.py
BINARY_CASES = (disarm_case(1), arms_case(2), arms_case(3), arms_case(4))

# as sharp as the documentation allows; for the tests of numerics
SHARP = (
    softmax_case(1e-4, exact_on="nothing"),
    gumbel_case(1e-4, hard=True),
    gumbel_case(1e-4, hard=False),
    reinmax_case(1e-4, exact_on="nothing"),
    decoupled_case(1e-4, 1e-4, exact_on="nothing"),
    gumbel_rao_case(1e-4, 3),
    gapped_case(0.0, 1e-4),
    entmax_case(1.05),
    reinmax_rao_case(1e-4, 3),
    rebar_case(1.0, 1e-4),
    relax_case(1e-4),
)

BY_NAME = {case.name: case for case in CASES}
