"""Numbers of every model and search on small spaces, as they were when last looked at.

Each case has random parameters, several members, contexts and leading dimensions of different
lengths, or a search with settings that are no defaults: a change of an axis, a sign, a bound or a
seed changes some number. `python -m tests.models.test_snapshots` writes the numbers anew, to be
read before they are committed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, ContextSpec, ReinMax
from discrete_grad.models import (
    Aligner,
    AnovaEnsemble,
    BaseEnsemble,
    Estimator,
    EstimatorEnsemble,
    KernelEnsemble,
    LeafEnsemble,
    MixedEnsemble,
    MultilinearEstimator,
    PreferenceModel,
    StackedEnsemble,
)
from discrete_grad.models.aimed import AimedEnsemble, Chance, scalarised, tradeoff_columns
from discrete_grad.sampling import isolated_seed, random_codes, seeded, uniform
from tests.kept_numbers import Case, check_numbers, cut_small, keep_numbers

FILE = Path(__file__).parent / "snapshots.json"
SPACE = CategoricalSpace({"cut": ["fair", "good", "ideal"], "shade": 4, "size": 2})
SPEC = ContextSpec({"shop": 2}, ["price"])
PLANES = ContextSpec({"plane": 5}, ["price"], embedded=True)
NOISE = uniform((400, 30), generator=seeded(1)).float()
CODES = random_codes(SPACE, 60, generator=seeded(2))
FLAT = SPACE.softmax(4 * NOISE[:60, :9])
CONTEXT = torch.cat([torch.eye(2)[(NOISE[:60, 9] > 0.5).long()], NOISE[:60, 10:11]], 1)
PLANE = torch.stack([(5 * NOISE[:60, 9]).floor(), NOISE[:60, 10]], 1)


def networks(spec: ContextSpec | None = SPEC, members: int = 3, seed: int = 0) -> EstimatorEnsemble:
    with isolated_seed(seed):
        made = [Estimator(SPACE, context=spec, dim=3, hidden=(5, 4)) for _ in range(members)]
        ensemble = EstimatorEnsemble(made).eval()
    for parameter in ensemble.parameters():
        parameter.data *= 2  # as large as trained ones
    return ensemble


def products(members: int = 2) -> EstimatorEnsemble:
    with isolated_seed(4):
        made = [MultilinearEstimator(SPACE, context=SPEC) for _ in range(members)]
        return EstimatorEnsemble(made).eval()


def tables() -> AnovaEnsemble:
    groups = [(0,), (3,), (1, 2), (4, 0), (2, 1, 0), (0, 2, 3), (1, 4)]
    made = AnovaEnsemble(SPACE, context=SPEC, groups=groups, members=3)
    made.joint.fit(CONTEXT)
    made.cells = uniform(tuple(made.cells.shape), generator=seeded(5)).float() - 0.5
    made.offsets = torch.tensor([0.1, -0.2, 0.3])
    return made


def kernel() -> KernelEnsemble:
    made = KernelEnsemble(SPACE, context=SPEC, members=3)
    made.joint.fit(CONTEXT)
    made.joint.ordered = (False, True, False, False, True)
    alike = 0.1 + 0.8 * NOISE[:5, 12:15]
    points = made.joint(CODES[:7], CONTEXT[:7])
    made.place(alike, points, NOISE[:7, 15:18] - 0.5, torch.tensor([0.1, -0.2, 0.3]))
    return made


def leaves() -> LeafEnsemble:
    allowed = NOISE[:9, :6] > 0.4
    return LeafEnsemble(SPACE, allowed, NOISE[9, :6] - 0.3, 0.7)


def stacked() -> StackedEnsemble:
    made = StackedEnsemble({"networks": networks(), "tables": tables(), "kernel": kernel()}).eval()
    made.weights, made.constant = torch.tensor([0.5, 0.0, 0.3]), torch.tensor(-0.4)
    return made


def preferred() -> PreferenceModel:
    return PreferenceModel(networks(), annotators=2, reliability=0.7, tie_width=0.6).eval()


def asked(model: BaseEnsemble, context: Tensor | None) -> list[Any]:
    """Every way to ask an ensemble."""
    few = None if context is None else context[:6]
    own, own_flat = CODES[:18].view(3, 6, 3)[: model.num_members], FLAT[:18].view(3, 6, 9)
    mine = None if context is None else context[:18].view(3, 6, -1)[: model.num_members]
    with isolated_seed(6):
        drawn = model.sample_predictions(4 * NOISE[:6, :9], ReinMax(SPACE), few)
    flat = FLAT[:6].clone().requires_grad_()
    hard = SPACE.one_hot(CODES[:6]).requires_grad_()
    slopes = [
        torch.autograd.grad(
            (
                model.predictions(row, few) * torch.arange(1.0, 1 + model.num_members).view(-1, 1)
            ).sum(),
            row,
        )[0]
        for row in (flat, hard)
    ]
    found = [model.predictions(CODES, context)[:, -4:], model(CODES[:6], few), drawn, *slopes]
    found += [
        model.std(FLAT[:6], few),
        model.min(FLAT[:6], few),
        model.to_latent(CODES[:2], *_two(few)),
    ]
    found += [model.to_latent(FLAT[:2], *_two(few)), model.predictions(own, mine, own_rows=True)]
    found += [model.predictions(own_flat[: model.num_members], mine, own_rows=True)]
    wide = None if few is None else few[:2].view(2, 1, -1)
    return [*found, model.predictions(CODES[:3].view(1, 3, 3), wide)]


def _two(context: Tensor | None) -> tuple[Tensor | None]:
    return (None if context is None else context[:2],)


def preferences() -> list[Any]:
    model = preferred()
    differences = model.differences(CODES[:5], CODES[5:10], CONTEXT[:5])
    return [differences, model.reliability_odds, model.tie_width, *asked(model, CONTEXT)[:4]]


def aligned() -> list[Any]:
    with isolated_seed(7):
        model = Aligner(networks(), 3).eval()
    return [model(CODES[:5], FLAT[5:10], CONTEXT[:5]), model.project(CODES[:2], CONTEXT[:2])]


# --- aims -------------------------------------------------------------------------------------


def aimed() -> list[Any]:
    ends = torch.tensor([[-1.0, 2.0], [-0.5, 0.5], [-2.0, 1.0]])
    models = [networks(seed=seed) for seed in (8, 9, 10)]
    chances = [
        Chance(networks(seed=11), torch.tensor([1.5, 0.5])),
        Chance(networks(seed=12), torch.tensor([-1.0, 0.3]), lambda context: 0.1 * context[..., 2]),
    ]
    weights = torch.tensor([0.2, 0.3, 0.5])
    columns = torch.cat([CONTEXT[:4], tradeoff_columns(weights).expand(4, 3)], 1)
    found: list[Any] = []
    for kind in ("linear", "chebyshev", "hypervolume"):
        model = AimedEnsemble(models, ends, chances, names="abc", kind=kind)
        given = AimedEnsemble(models, ends, names="abc", kind=kind, tradeoff=weights)
        found += [model.predictions(CODES[:4], columns), given.predictions(CODES[:4], CONTEXT[:4])]
        found += [scalarised(NOISE[:4, :3], NOISE[4:8, :3], kind)]
    found += [model.values(CODES[:4], columns), model.to_latent(CODES[:1], columns[:1])]
    alone = AimedEnsemble(models[:1], ends[:1], chances, names="a")
    only = AimedEnsemble([], ends, chances, names=())
    own = CODES[:6].view(3, 2, 3), CONTEXT[:6].view(3, 2, 3)
    for model in (alone, only):
        found += [model.predictions(CODES[:4], CONTEXT[:4]), model(CODES[:4], CONTEXT[:4])]
        found += [model.predictions(*own, own_rows=True)]
    return found


CASES: dict[str, Case] = {
    "networks": lambda: asked(networks(), CONTEXT),
    "networks, no context": lambda: asked(networks(None), None),
    "networks, embedded": lambda: asked(networks(PLANES), PLANE),
    "products": lambda: asked(products(), CONTEXT),
    "mixed": lambda: asked(MixedEnsemble([networks(members=1), products()]), CONTEXT),
    "stacked": lambda: asked(stacked(), CONTEXT),
    "tables": lambda: asked(tables(), CONTEXT),
    "kernel": lambda: asked(kernel(), CONTEXT),
    "leaves": lambda: asked(leaves(), None),
    "preferences": preferences,
    "aligner": aligned,
    "aims": aimed,
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_as_before(name: str) -> None:
    check_numbers(FILE, name, CASES[name])


# how many numbers are worked off at a time
PARTS = {
    "anova._CHUNK": 21,
    "kernel._CHUNK": 14,
    "leaves._ROWS": 4,
    "leaves._CHUNK": 50,
}


@pytest.mark.parametrize("name", ["tables", "kernel", "leaves"])
def test_numbers_are_the_same_in_small_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch, "models", PARTS)
    check_numbers(FILE, name, CASES[name])


if __name__ == "__main__":
    keep_numbers(FILE, CASES)
