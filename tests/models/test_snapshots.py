"""Numbers of every model and search on small spaces, as they were when last looked at.

Each case has random parameters, several members, contexts and leading dimensions of different
lengths, or a search with settings that are no defaults: a change of an axis, a sign, a bound or a
seed changes some number. `python -m tests.models.test_snapshots` writes the numbers anew, to be
read before they are committed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, ContextSpec, ReinMax
from discrete_grad.gradient import on_codes
from discrete_grad.models import (
    Aligner,
    AnovaEnsemble,
    BaseEnsemble,
    Edits,
    Estimator,
    EstimatorEnsemble,
    KernelEnsemble,
    LeafEnsemble,
    MixedEnsemble,
    MultilinearEstimator,
    PreferenceModel,
    StackedEnsemble,
    SwapSearch,
    best_rows,
    edit,
    most_likely_rows,
    swap_search,
)
from discrete_grad.models.aimed import AimedEnsemble, Chance, scalarised, tradeoff_columns
from discrete_grad.models.front_search import best_front
from discrete_grad.models.pareto import non_dominated, spread_front, tradeoff_grid
from discrete_grad.rules import AtMost, Forbid, Rules
from discrete_grad.sampling import isolated_seed, random_codes, seeded, uniform
from tests.kept_numbers import Case, check_numbers, keep_numbers

FILE = Path(__file__).parent / "snapshots.json"
SPACE = CategoricalSpace({"cut": ["fair", "good", "ideal"], "shade": 4, "size": 2})
SPEC = ContextSpec({"shop": 2}, ["price"])
PLANES = ContextSpec({"plane": 5}, ["price"], embedded=True)
LARGE = CategoricalSpace.from_sizes((3, 5, 2, 4, 3, 6))
NOISE = uniform((400, 30), generator=seeded(1)).float()
CODES = random_codes(SPACE, 60, generator=seeded(2))
FLAT = SPACE.softmax(4 * NOISE[:60, :9])
CONTEXT = torch.cat([torch.eye(2)[(NOISE[:60, 9] > 0.5).long()], NOISE[:60, 10:11]], 1)
PLANE = torch.stack([(5 * NOISE[:60, 9]).floor(), NOISE[:60, 10]], 1)
LARGE_CODES = random_codes(LARGE, 12, generator=seeded(3))
WORTH = NOISE[:23, 11] * 4 - 1
PAIRS = torch.triu(NOISE[30:53, :23] * 3 - 1.5, 1)


def rough(flat: Tensor) -> Tensor:
    """A worth of large rows that has effects of pairs: no single swap leads to the best row."""
    return flat @ WORTH + ((flat @ PAIRS) * flat).sum(-1)


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


def fronts() -> list[Any]:
    values = NOISE[:60, :3].round(decimals=1)
    grid, several = tradeoff_grid(2, 5), tradeoff_grid(3, 12)
    found: list[Any] = [non_dominated(values), grid, several]
    found += [spread_front(values, count, seed=seed) for count, seed in ((3, 0), (5, 1), (99, 2))]

    def worth(codes: Tensor) -> Tensor:
        flat = LARGE.one_hot(codes)
        return torch.stack([rough(flat), -(flat @ WORTH.flip(0))], 1)

    for evaluations in (40, 300, 5000):
        for options in (
            {},
            {"allowed": lambda codes: codes[:, 0] != codes[:, 4], "seed": 3},
            {"barred": lambda codes: codes[:, 1] == 2},
        ):
            codes, found_values = best_front(
                LARGE, LARGE_CODES, worth, evaluations=evaluations, **options
            )
            order = found_values[:, 0].argsort()
            found += [codes[order][:6], found_values[order][:6]]
    return found


# --- searches ---------------------------------------------------------------------------------


def told(found: SwapSearch) -> list[Any]:
    return [found.codes, found.values, found.evaluations, *found.history]


def searches() -> list[Any]:
    names = LARGE.names
    rules = Rules(
        LARGE, [Forbid({names[0]: "1", names[1]: "2"}), AtMost(2, dict.fromkeys(names[:4], "0"))]
    )
    priced = NOISE[:3, :23] * 2
    unknown = LARGE_CODES[:3].clone()
    unknown[0, 1] = unknown[2, 4] = -1
    found: list[Any] = []
    for options in (
        {},
        {"top": 3, "patience": 2, "restarts": 3, "seed": 4},
        {"top": None, "price": 0.4, "edits": 2},
        {"top": 4, "patience": None, "price": priced, "start": unknown},
        {"top": 2, "rules": rules, "edits": 3, "price": priced[0]},
        {"top": 5, "evaluations": 40, "restarts": 2},
        {"allowed": lambda codes: codes[:, 5] != 3, "top": 2, "rules": rules, "restarts": 1},
    ):
        found += told(swap_search(rough, LARGE_CODES[:3], space=LARGE, **options))
    found += told(
        swap_search(
            on_codes(LARGE, lambda c: c.float().sin().sum(-1)), LARGE_CODES[:2], space=LARGE
        )
    )
    found += told(swap_search(networks(), CODES[:3], CONTEXT[:3], top=2, restarts=1))
    return found


def changes(found: Edits) -> list[Any]:
    parts = [found.codes, found.before, found.after, found.alone, found.back, found.pruned]
    return [*parts, found.kept, found.evaluations, *found.history]


def editing() -> list[Any]:
    rows = LARGE_CODES[:3].clone()
    rows[1, 2] = rows[1, 5] = -1
    names = LARGE.names
    rules = Rules(LARGE, [Forbid({names[3]: "0"})])
    found: list[Any] = []
    for options in (
        {"edit_price": 0.3, "restarts": 1},
        {"target": 2.5, "edits": 2, "tolerance": 0.5, "fixed": [names[0]]},
        {"weights": (-1.0,), "edit_price": {names[1]: 0.7, names[5]: 0.2}, "rules": rules},
        {"edit_price": NOISE[:3, :23], "evaluations": 50, "fixed": torch.arange(6) == 4, "seed": 3},
    ):
        found += changes(edit(rough, rows, space=LARGE, **options))
    several = [networks(seed=13), products()]
    options = {"target": (0.5, -0.5), "weights": (2.0, 1.0), "edit_price": 0.01}
    return [*found, *changes(edit(several, CODES[:3], CONTEXT[:3], space=SPACE, **options))]


def likely() -> list[Any]:
    logits = NOISE[:4, :23] * 5
    logits[0, 4] = -torch.inf

    def score(codes: Tensor, where: Tensor) -> Tensor:
        return rough(LARGE.one_hot(codes)) + where * codes[:, 1]

    names = LARGE.names
    rules = Rules(LARGE, [Forbid({names[0]: "1", names[1]: "2"}), Forbid({names[3]: "0"})])
    barred = lambda codes, where: (codes[:, 2] == 1) & (where > 1)  # noqa: E731
    found: list[Any] = [*most_likely_rows(LARGE, logits.view(2, 2, -1), 7)]
    for evaluations, options in (
        (10_000, {"barred": barred}),
        (300, {"distance": 2, "seed": 1}),
        (600, {"barred": barred, "starts": LARGE_CODES}),
        (400, {"rules": rules, "distance": 3}),
        (400, {"rules": rules, "starts": LARGE_CODES[:8].view(4, 2, 6), "seed": 2}),
    ):
        found += best_rows(LARGE, logits, score, 16, evaluations=evaluations, **options)
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
    "fronts": fronts,
    "searches": searches,
    "edits": editing,
    "best rows": likely,
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_as_before(name: str) -> None:
    check_numbers(FILE, name, CASES[name])


# how many numbers are worked off at a time
PARTS = {
    "_obeying._MOST": 40,
    "_row_values._CODES": 30,
    "_row_values._FLAT": 70,
    "_swap_climb._CODES": 25,
    "anova._CHUNK": 21,
    "kernel._CHUNK": 14,
    "leaves._ROWS": 4,
    "leaves._CHUNK": 50,
    "protocol._NUMBERS": 69,
    "row_pool._SCORED": 60,
}


@pytest.mark.parametrize("name", ["tables", "kernel", "leaves", "searches", "edits", "best rows"])
def test_numbers_are_the_same_in_small_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, size in PARTS.items():
        module, constant = place.split(".")
        monkeypatch.setattr(sys.modules[f"discrete_grad.models.{module}"], constant, size)
    check_numbers(FILE, name, CASES[name])


if __name__ == "__main__":
    keep_numbers(FILE, CASES)
