"""Gradients of k-subset sampling on the toy of SIMPLE, their moments by enumeration.

`E ||z - b||^2` over subsets z of 5 of 10 elements, theta and b normal (Ahmed et al. 2023, arXiv
2210.01941, section 6.1). The law is that of independent elements given that 5 of them are in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from discrete_grad.gradient import IMLE, GradientEstimator, LeaveOneOut, StraightThrough
from discrete_grad.rules import Exactly, Rules
from discrete_grad.sampling import gumbel_like, normal, seeded
from discrete_grad.space import CategoricalSpace

COUNT, CHOSEN = 10, 5
SPACE = CategoricalSpace({f"z{i}": ["out", "in"] for i in range(COUNT)})
RULES = Rules(SPACE, [Exactly(CHOSEN, dict.fromkeys(SPACE.names, "in"))])
DRAWS = 50_000
SAMPLES = (2, 8)
TAUS = (2.0, 1.0, 0.5)

Loss = Callable[[Tensor], Tensor]
"""Of z `(..., 10)`."""


@dataclass(frozen=True)
class Toy:
    """Log-odds `(10,)`, a target `(10,)`, all subsets `(252, 10)` and their law `(252,)`."""

    theta: Tensor
    target: Tensor
    subsets: Tensor

    @classmethod
    def make(cls, seed: int) -> Toy:
        """Theta and target are standard normal."""
        theta, target = normal((2, COUNT), generator=seeded(seed)).double()
        subsets = torch.zeros(252, COUNT, dtype=torch.float64)
        for row, some in zip(subsets, combinations(range(COUNT), CHOSEN), strict=True):
            row[list(some)] = 1
        return cls(theta, target, subsets)

    def law(self, theta: Tensor) -> Tensor:
        """Probability of each subset, out of the list of all."""
        return (self.subsets @ theta).softmax(0)

    def losses(self) -> dict[str, Loss]:
        """Two functions that agree on every subset."""
        b = self.target
        return {
            "squares": lambda z: (z - b).square().sum(-1),
            "linear between": lambda z: (z * (1 - 2 * b) + b**2).sum(-1),
        }

    def gradient(self, loss: Loss) -> Tensor:
        """The exact one `(10,)`."""
        values = loss(self.subsets)
        found: Tensor = jacrev(lambda theta: self.law(theta) @ values)(self.theta)
        return found

    def top_k_gradient(self, loss: Loss) -> Tensor:
        """That of the law of Gumbel-top-k, which is another: elements in turn, without return."""
        orders = torch.tensor(list(permutations(range(COUNT), CHOSEN)))
        values = loss(torch.zeros(len(orders), COUNT).double().scatter(-1, orders, 1.0))

        def mean(theta: Tensor) -> Tensor:
            keys = theta[orders]
            # of what is left before each choice
            all_of = theta.exp().sum()
            left = all_of - keys.exp().cumsum(-1) + keys.exp()
            return (keys.sum(-1) - left.log().sum(-1)).exp() @ values

        found: Tensor = jacrev(mean)(self.theta)
        return found


# --- SIMPLE from its paper ------------------------------------------------------------------------


def simple_marginals(theta: Tensor) -> Tensor:
    """Probability `(10,)` of each element given the sum (theorem 1).

    It is the derivative of log Pr(sum = k). That probability also holds each element's own
    normaliser, log(1 + e^theta), whose derivative is added back.
    """
    slopes: Tensor = jacrev(_log_pr_exactly)(theta)
    return slopes + theta.sigmoid()


def _log_pr_exactly(theta: Tensor) -> Tensor:
    """Algorithm 1: log-probability of exactly k ones among the first i, for i = 1, 2, ... n."""
    p = theta.sigmoid()
    found = [torch.ones_like(p[0]), *(torch.zeros_like(p[0]) for _ in range(CHOSEN))]
    for one in p:
        more = [torch.zeros_like(one), *found[:-1]]
        found = [had * (1 - one) + got * one for had, got in zip(found, more, strict=True)]
    return found[-1].log()


def simple_gradients(theta: Tensor, slopes: Tensor) -> Tensor:
    """Equation 5: derivative of the marginals times those of the loss, `(N, 10)`."""
    jacobian: Tensor = jacrev(simple_marginals)(theta)
    return slopes @ jacobian


# --- Gumbel-top-k ---------------------------------------------------------------------------------


def top_k(theta: Tensor, gumbel: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Hard subset and relaxed one, each `(10,)`: Xie and Ermon 2019, arXiv 1901.10517, section 3.

    The relaxation takes k softmaxes, each of what the ones before left.
    """
    keys = theta + gumbel
    hard = torch.zeros_like(keys).scatter(-1, keys.detach().topk(CHOSEN).indices, 1.0)
    left, taken = keys, torch.zeros_like(keys)
    for _ in range(CHOSEN):
        share = (left / tau).softmax(-1)
        taken = taken + share
        left = left + torch.log1p(-share.clamp(max=1 - 1e-12))
    return hard, taken


def top_k_gradients(theta: Tensor, gumbel: Tensor, loss: Loss, tau: float) -> Tensor:
    """Straight-through gradients `(N, 10)`: hard going forward, relaxed going back."""

    def one(theta: Tensor, noise: Tensor) -> Tensor:
        hard, relaxed = top_k(theta, noise, tau)
        return loss(hard + (relaxed - relaxed.detach()))

    found: Tensor = vmap(torch.func.grad(one), (None, 0))(theta, gumbel)
    return found


# --- moments --------------------------------------------------------------------------------------


def measure(seed: int, draws: int) -> dict[str, Any]:
    """Bias, deviation and direction of each method, relative to the exact gradient."""
    toy = Toy.make(seed)
    found = {name: _of_loss(toy, loss, draws) for name, loss in toy.losses().items()}
    return found | {"draws": draws}


def _of_loss(toy: Toy, loss: Loss, draws: int) -> dict[str, Any]:
    truth, law = toy.gradient(loss), toy.law(toy.theta)
    simple = simple_gradients(toy.theta, jacrev(lambda z: loss(z).sum())(toy.subsets))
    found = {"SIMPLE's formula": weighted(simple, law, truth)}
    rows, gradients = class_gradients(StraightThrough, toy, loss, draws, samples=1)
    ours, seen = in_order(toy, rows, gradients, simple)
    found["StraightThrough(rules=)"] = weighted(ours, law, truth) | {
        "difference from SIMPLE": float((ours - simple).abs().max()),
        "subsets drawn": seen,
    }
    own = toy.top_k_gradient(loss)
    for tau in TAUS:
        gumbel = gumbel_like(toy.theta.expand(draws, -1), generator=seeded(1))
        drawn = top_k_gradients(toy.theta, gumbel, loss, tau)
        name = f"Gumbel-top-k, straight-through, tau {tau:g}"
        found[name] = sampled(drawn, truth) | {"own bias": sampled(drawn, own)["bias"]}
    _, drawn = class_gradients(IMLE, toy, loss, draws, samples=1)
    found["IMLE(rules=)"] = sampled(drawn, truth)
    for samples in SAMPLES:
        name = f"LeaveOneOut(rules=), {samples} samples"
        _, gradients = class_gradients(LeaveOneOut, toy, loss, draws // samples, samples=samples)
        checked = sampled(gradients, truth)
        found[name] = leave_one_out(toy, loss, samples) | {
            "cosine": checked["cosine"],
            "drawn bias": checked["bias"],
            "drawn noise": checked["noise"],
        }
    return found


def class_gradients(
    cls: type[GradientEstimator], toy: Toy, loss: Loss, count: int, *, samples: int
) -> tuple[Tensor, Tensor]:
    """Subsets drawn `(samples, N, 10)` and gradients `(N, 10)` in theta by a class's own backward.

    The logits are 0 for out and theta for in.
    """
    flat = torch.stack([torch.zeros_like(toy.theta), toy.theta], -1).flatten()
    logits = flat.expand(count, -1).clone().requires_grad_()
    seen: list[Tensor] = []

    def f(rows: Tensor) -> Tensor:
        inside = rows.unflatten(-1, (COUNT, 2))[..., 1]
        seen.append(inside.detach())
        return loss(inside)

    method: Any = cls
    estimate = method(rules=RULES, samples=samples).expectation(f, logits, generator=seeded(2))
    (gradient,) = torch.autograd.grad(estimate.sum(), logits)
    return seen[0], gradient.unflatten(-1, (COUNT, 2))[..., 1]


def in_order(toy: Toy, rows: Tensor, gradients: Tensor, otherwise: Tensor) -> tuple[Tensor, int]:
    """Gradients `(252, 10)` of each subset, and how many were drawn; others are as `otherwise`."""
    binary = 2.0 ** torch.arange(COUNT, dtype=torch.float64)
    known = {int(n): i for i, n in enumerate((toy.subsets @ binary).tolist())}
    place = torch.tensor([known[int(n)] for n in (rows[0] @ binary).tolist()])
    found = otherwise.clone()
    found[place] = gradients
    return found, len(place.unique())


def weighted(gradients: Tensor, law: Tensor, truth: Tensor) -> dict[str, float]:
    """Exact moments of a gradient that the subset decides."""
    mean = law @ gradients
    variance = float(law @ (gradients - mean).square().sum(-1))
    cosine = float(law @ _cosine(gradients, truth))
    return _moments(mean - truth, variance, truth) | {"cosine": cosine}


def sampled(gradients: Tensor, truth: Tensor) -> dict[str, float]:
    """Moments of drawn gradients, and what noise there is in the bias."""
    mean = gradients.mean(0)
    variance = float((gradients - mean).square().sum(-1).mean())
    noise = (variance / len(gradients)) ** 0.5 / float(truth.norm())
    found = _moments(mean - truth, variance, truth)
    return found | {"cosine": float(_cosine(gradients, truth).mean()), "noise": noise}


def leave_one_out(toy: Toy, loss: Loss, samples: int) -> dict[str, float]:
    """Exact moments: the estimate is a U-statistic with kernel (f - f')(s - s') / 2.

    Its variance is [2 (N - 2) v1 + v2] / (N (N - 1) / 2), v1 that of the kernel's mean given one
    subset and v2 that of the kernel (Hoeffding 1948); s is the score of the law.
    """
    law, values = toy.law(toy.theta), loss(toy.subsets)
    scores = toy.subsets - law @ toy.subsets
    gaps = values.unsqueeze(1) - values
    kernel = gaps.unsqueeze(-1) * (scores.unsqueeze(1) - scores) / 2
    given = torch.einsum("b,abd->ad", law, kernel)
    mean = law @ given
    one = float(law @ (given - mean).square().sum(-1))
    two = float(law @ (kernel - mean).square().sum(-1) @ law)
    variance = (2 * (samples - 2) * one + two) / (samples * (samples - 1) / 2)
    return _moments(mean - toy.gradient(loss), variance, toy.gradient(loss))


def _moments(bias: Tensor, variance: float, truth: Tensor) -> dict[str, float]:
    size = float(truth.norm())
    away = float(bias.norm())
    return {
        "bias": away / size,
        "deviation": variance**0.5 / size,
        "rmse": (away**2 + variance) ** 0.5 / size,
    }


def _cosine(gradients: Tensor, truth: Tensor) -> Tensor:
    """Distance 1 - cos; that of a gradient of 0 is 1."""
    return 1 - torch.nn.functional.cosine_similarity(gradients, truth.expand_as(gradients), dim=-1)


def means(found: Mapping[str, Any], loss: str, method: str, what: str) -> list[float]:
    """A figure of each seed."""
    return [cell[loss][method][what] for key, cell in found.items() if key.startswith("subset/")]
