"""A user's script that uses the main public things: `mypy --strict` and pyright pass it.

`make lint` runs mypy on it; `pyright tests/typed_script.py` is run by hand.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

import discrete_grad
from discrete_grad import CategoricalSpace, LeaveOneOut, ReinMax, Run, StraightThrough, gradient
from discrete_grad.gradient import GradientEstimator
from discrete_grad.models import Estimator
from discrete_grad.nn import SoftEmbedding, soften
from discrete_grad.policies import Conditioned, Generator, IndependentPolicy, conditioned
from discrete_grad.reinforcement import ReinforceConfig, reinforce
from discrete_grad.rules import AtMost, Fix, Forbid, Rules
from discrete_grad.runs import FitConfig
from discrete_grad.testing import CheckResult, Claims, check_gradient_estimator, exact_gradient
from discrete_grad.weighting import RewardWeighted, importance_sampling

SPACE = CategoricalSpace({"cut": ["fair", "good", "ideal"], "colour": 4})


class Writer(nn.Module, IndependentPolicy):
    """A policy of one's own: free logits."""

    def __init__(self) -> None:
        super().__init__()
        self.space = SPACE
        self.free = nn.Parameter(torch.zeros(SPACE.width))

    def logits(self, context: Tensor | None = None) -> Tensor:
        return self.free


def networks() -> Tensor:
    """Layers, a softened model, and an expectation."""
    model = soften(nn.Sequential(nn.Embedding(4, 4), nn.Flatten(-2), nn.Linear(8, 1)), SPACE)
    embedded: Tensor = SoftEmbedding(SPACE, 4)(torch.zeros(3, SPACE.width))
    layer: GradientEstimator = ReinMax(SPACE)
    rows: Tensor = nn.Sequential(nn.Linear(2, SPACE.width), layer)(torch.randn(3, 2))
    values: Tensor = LeaveOneOut(SPACE, samples=4).expectation(Estimator(SPACE), rows)
    total: Tensor = model(rows).sum() + values.sum() + embedded.sum()
    return total


def compared(weights: Tensor) -> list[str]:
    """Gradient estimators by their measured error on a function of one's own."""

    def f(rows: Tensor) -> Tensor:
        return torch.tanh(rows @ weights)

    candidates = {"loo": LeaveOneOut, "st": StraightThrough}
    logits = torch.zeros(SPACE.width)
    found = gradient.recommend(SPACE, f, 8, logits, candidates=candidates, repeats=16)
    exact: Tensor = exact_gradient(f, logits, SPACE)
    return [one.name for one in found.ranked if exact.isfinite().all()]


def ruled() -> Tensor:
    """Rows of a policy that obey rules, and their weights by a reward."""
    rules = Rules(SPACE, [Forbid({"cut": "fair", "colour": "0"}), AtMost(1, {"cut": "good"})])
    policy: Conditioned = conditioned(Generator(SPACE), rules)
    codes: Tensor = policy.sample(count=5)

    def reward(rows: Tensor, context: Tensor | None) -> Tensor:
        return rows.sum(-1).double()

    weights: Tensor = importance_sampling(RewardWeighted(policy, reward, 0.5), count=8).weights
    writer = Writer()
    reinforce(writer, reward, config=ReinforceConfig(steps=2, batch_size=8))
    return torch.where(rules.allows(codes), writer.log_prob(codes), weights.sum())


def table(folder: Path) -> pd.DataFrame:
    """A fit of a frame, loaded again; its rows, scores, edits and report."""
    frame = pd.DataFrame({"cut": ["fair", "good", "ideal"] * 30, "heat": [1, 2] * 45})
    frame["yield"] = frame["heat"] * 1.0 + (frame["cut"] == "good")
    config = FitConfig(seed=1)
    quick = {"estimator.steps": 20, "judge.steps": 20, "generator.steps": 20}
    run: Run = discrete_grad.fit(frame, folder, quick, score="yield", quiet=True, seed=config.seed)
    run = discrete_grad.load_run(folder)
    best: pd.DataFrame = run.generate(rows=2, rules=[Fix("heat", "2")], new_only=False)
    scored: pd.DataFrame = run.score(best[["cut", "heat"]])
    page: Path = run.report()
    return scored.assign(page=page.name, swaps=len(run.swaps(best.iloc[[0]])))


def tested() -> list[CheckResult]:
    """A gradient estimator of one's own, held to what it claims."""
    claims = Claims(forward="hard", bias="exact on multilinear")
    return check_gradient_estimator(StraightThrough, facts=claims, only=["direction", "scale"])
