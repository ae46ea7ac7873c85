"""Numbers of every fit on small tables, as they were when they were last looked at.

Each case is a fit of a few steps, with settings that are no defaults and rows that differ in
every respect (counts, spreads, contexts, several scores), or a function of such rows. Whatever
changes a default, an axis, a seed's name or a term of a loss changes some number.
`python -m tests.fitting.test_snapshots` writes the numbers anew, to be read before they are
committed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import (
    AlignerConfig,
    EstimatorConfig,
    FrozenModels,
    GeneratorConfig,
    ReproductionConfig,
    ScoreScale,
    fit_aligner,
    fit_estimator,
    fit_generator,
    fit_reproduction,
    learn_teacher,
    make_gradient_estimator,
    new_ensemble,
)
from discrete_grad.fitting._drawn_rows import draw_rows, rows_near
from discrete_grad.fitting.aims import at_tradeoff, fit_chance, with_tradeoffs
from discrete_grad.fitting.anova import anova_groups, fit_anova
from discrete_grad.fitting.calibration import Calibration
from discrete_grad.fitting.hard_pairs import mine_hard_pairs, with_swaps
from discrete_grad.fitting.judge_split import judge_split
from discrete_grad.fitting.kernel import fit_kernel
from discrete_grad.fitting.pair_effects import fit_pair_effects
from discrete_grad.fitting.pessimism import conformal_pessimism
from discrete_grad.fitting.repeats import learning_rows
from discrete_grad.fitting.score_scale import interpolate, scale_behaviour
from discrete_grad.models import (
    Aligner,
    AnovaEnsemble,
    Estimator,
    EstimatorEnsemble,
    KernelEnsemble,
)
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.sampling import isolated_seed, random_codes, seeded, uniform

FILE = Path(__file__).parent / "snapshots.json"
SPACE = CategoricalSpace({"cut": ["fair", "good", "ideal"], "shade": 4, "size": 2})
LARGE = CategoricalSpace.from_sizes((6,) * 6)
SPEC = ContextSpec({"shop": 2}, ["price"])
SHORT: dict[str, Any] = {"steps": 6, "batch_size": 12, "validate_every": 2, "learning_rate": 0.05}
CODES = random_codes(SPACE, 60, generator=seeded(1))
NOISE = uniform((60, 6), generator=seeded(2)).float()
SHOP = (NOISE[:, 0] > 0.4).long()
CONTEXT = torch.cat([torch.eye(2)[SHOP], NOISE[:, 1:2] - 0.5], 1)
SCORES = (CODES * torch.tensor([0.5, -0.25, 1.0])).sum(1) + SHOP + NOISE[:, 2] - 1
PLAIN = ScoredRows(CODES, SCORES)
ROWS = ScoredRows(CODES, SCORES, CONTEXT)
COUNTED = replace(ROWS, counts=1 + (5 * NOISE[:, 3]).long(), spread=NOISE[:, 4])
BOTH = replace(ROWS, behaviour=torch.stack([SCORES, NOISE[:, 5] - CODES[:, 0]], 1))
# two contexts that many rows share
SHOPS = torch.cat([torch.eye(2)[SHOP], torch.zeros(60, 1)], 1)
SHARED = replace(ROWS, context=SHOPS)
WEIGHTS = torch.stack([1 + (3 * NOISE[:, 3]).long(), (2 * NOISE[:, 4]).long()]).float()
SHOWN = CODES[:8]


def ensemble(seed: int = 0, members: int = 2) -> EstimatorEnsemble:
    with isolated_seed(seed):
        made = [Estimator(SPACE, context=SPEC, dim=4, hidden=(6,)) for _ in range(members)]
        return EstimatorEnsemble(made)


def history_of(history: Any) -> list[Any]:
    return [history.losses, history.held_out_losses, [float(history.kept_step)]]


# --- the trainers -----------------------------------------------------------------------------


def estimator(**changes: Any) -> list[Any]:
    settings = SHORT | {"members": 3, "dim": 4, "hidden": (6, 5), "families": ("networks",)}
    config = EstimatorConfig(**settings | {"scaling": False, "held_out": 0.2} | changes)
    made = new_ensemble(SPACE, SPEC, config, seed=3)
    rows, absolute = COUNTED, config.conservative > 0
    history = fit_estimator(made, rows, config=config, seed=4, absolute=absolute)
    return [*history_of(history), made.predictions(SHOWN, CONTEXT[:8])]


def generator(**changes: Any) -> list[Any]:
    """All terms that every policy takes have a weight."""
    terms = {"entropy": 0.1, "reference_kl": 0.2, "alignment": 0.3, "preference": 0.5}
    config = GeneratorConfig(**SHORT | terms | {"samples": 3, "pessimism": 0.4} | changes)
    with isolated_seed(5):
        reference = Generator(SPACE, SPEC, hidden=(4,))
        aligner = Aligner(Estimator(SPACE, context=SPEC, dim=4, hidden=(6,)), 3)
        made: Any = Generator(SPACE, SPEC, hidden=(4,))
        if config.policy == "autoregressive":
            made = AutoregressiveGenerator(SPACE, SPEC, hidden=(4,))
    frozen = FrozenModels(
        ensemble(6),
        ensemble(7),
        aligner=aligner,
        reference=reference,
        preference=ensemble(8),
        reward_unit=2.0,
    )
    space = None if config.policy == "autoregressive" else SPACE
    method = make_gradient_estimator(space, config)
    history = fit_generator(made, ROWS, frozen=frozen, method=method, config=config, seed=9)
    return [*history_of(history), made.log_prob(SHOWN, CONTEXT[:8])]


def aligner(**changes: Any) -> list[Any]:
    with isolated_seed(10):
        made = Aligner(Estimator(SPACE, context=SPEC, dim=4, hidden=(6,)), 3)
    rows = replace(BOTH if not changes.get("pseudo_labels") else ROWS, context=SHOPS)
    history = fit_aligner(made, rows, config=AlignerConfig(**SHORT | changes), seed=11)
    return [*history_of(history), made(SHOWN, CODES[8:16], CONTEXT[:8])]


def reproduction(**changes: Any) -> list[Any]:
    with isolated_seed(12):
        made = AutoregressiveGenerator(
            SPACE, SPEC, hidden=(4,), attributes=ContextSpec(None, ["x", "y"])
        )
    rows = replace(COUNTED, scores=0.5 + NOISE[:, 4])
    config = ReproductionConfig(**SHORT)
    asked = {"attributes": NOISE[:, 4:], "hide": 0.4} | changes
    history = fit_reproduction(made, rows, config=config, seed=13, **asked)
    return [*history_of(history), made.log_prob(SHOWN, CONTEXT[:8])]


def teacher() -> list[Any]:
    def answers(codes: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        return 100 + 7 * (codes * torch.tensor([2, -1, 3])).sum(1) + 5 * context[:, 2]

    config = EstimatorConfig(families=("anova",), members=2)
    student, told = learn_teacher(
        SPACE, answers, ROWS, context=SPEC, count=100, config=config, seed=14
    )
    assert told.near is not None
    figures = [[float(told.asked)]]
    figures += [[a.r2, a.spearman, a.rows, a.unseen] for a in (told.uniform, told.near)]
    return [*figures, student(SHOWN, CONTEXT[:8])]


# --- models without gradients -----------------------------------------------------------------


def tables(fit: str) -> list[Any]:
    made = AnovaEnsemble(SPACE, context=SPEC, members=2)
    made.joint.fit(CONTEXT)
    codes = made.joint(CODES, CONTEXT)
    if fit == "pairs":
        assert fit_pair_effects(made, codes, SCORES, WEIGHTS, seed=15, spread=NOISE[:, 4])
    else:
        made.arrange(anova_groups(made.joint.sizes, 1000))
        fit_anova(made, codes, SCORES, WEIGHTS, spread=NOISE[:, 4], sweeps=9)
    return [made.predictions(SHOWN, CONTEXT[:8])]


def kernel() -> list[Any]:
    made = KernelEnsemble(SPACE, context=SPEC, members=2)
    made.joint.fit(CONTEXT)
    codes = made.joint(CODES, CONTEXT)
    fit_kernel(made, codes, SCORES, WEIGHTS, seed=16, spread=NOISE[:, 4])
    return [made.predictions(SHOWN, CONTEXT[:8])]


# --- rows and scores --------------------------------------------------------------------------


def chances() -> list[Any]:
    met = (SCORES > 0.6).float() * 0.75 + NOISE[:, 4] / 4
    return [fit_chance(SCORES, met), fit_chance(SCORES, met, WEIGHTS[0]), fit_chance(-SCORES, met)]


def tradeoffs() -> list[Any]:
    more = with_tradeoffs(ROWS, 3, seed=17)
    assert more.context is not None
    with isolated_seed(18):
        spec = ContextSpec({"shop": 2}, ["price", "a", "b", "c"])
        made = Generator(SPACE, spec, hidden=(4,))
    aimed = at_tradeoff(made, SPEC, torch.tensor([0.2, 0.3, 0.5]))
    some = [float(len(more)), *more.scores[60:64].tolist()]
    return [some, *more.context[4000:4003], aimed.logits(CONTEXT[:2])]


def calibrations() -> list[Any]:
    group = SHOP.repeat(20)
    predicted = SCORES.repeat(20) + uniform((1200,), generator=seeded(19)).float()
    found = Calibration.fit(predicted, SCORES.repeat(20).double(), group, 1)
    assert found is not None
    asked = torch.linspace(-3, 3, 9)
    return [found.apply(asked, torch.zeros(9).long()), found.apply(asked, torch.ones(9).long())]


def scales() -> list[Any]:
    scores, context = SCORES.repeat(4).double() * 3 + 7, CONTEXT.repeat(4, 1)
    found: list[Any] = []
    asked, scaled = torch.linspace(-9, 30, 9, dtype=torch.float64), torch.linspace(-4, 4, 9)
    for kind in ("rank", "standard", "raw"):
        scale = ScoreScale.fit(kind, scores, context, SPEC)
        for place in (0, 1):
            shown = CONTEXT[SHOP == place][:9]
            found += [scale.apply(asked, shown), scale.invert(scaled, shown)]
        found += [scale.apply(asked), *scale.observed(context[:5], 5)]
    several = torch.stack([scores, scores.square()], 1)
    behaviour = scale_behaviour("rank", several, context, SPEC)
    assert behaviour is not None
    knots = torch.tensor([0.0, 1.0, 1.0, 1.0, 3.0, 4.0, 4.0])
    heights = torch.tensor([0.0, 2.0, 3.0, 5.0, 6.0, 8.0, 9.0])
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 3.5, 4.0, 5.0])
    ends = [interpolate(knots, heights, x, share=share) for share in (0.1, 0.5)]
    return [*found, behaviour[:6].flatten(), *ends, interpolate(heights, knots, x)]


def splits() -> list[Any]:
    few = ScoredRows(CODES[:12].repeat(5, 1)[:50], SCORES[:50], CONTEXT[:12].repeat(5, 1)[:50])
    found: list[Any] = []
    for rows, spec in ((ROWS, SPEC), (few, SPEC), (few, None)):
        for mixed in (True, False):
            found += judge_split(rows, 0.3, seed=20, spec=spec, mixed=mixed)
    return found


def merged() -> list[Any]:
    """Of many different rows, of which nearly all or few of those possible are there."""
    noise = uniform((210, 5), generator=seeded(28)).float()
    again = ScoredRows(
        random_codes(LARGE, 70, generator=seeded(29)).repeat(3, 1),
        noise[:, 0],
        torch.eye(2)[torch.arange(70) % 2].repeat(3, 1),
        behaviour=noise[:, :2],
        counts=1 + (5 * noise[:, 2]).long(),
        spread=noise[:, 3],
    )
    found: list[Any] = []
    for possible in (70, 71):
        rows = learning_rows(again, possible)
        assert rows.behaviour is not None
        assert rows.counts is not None
        assert rows.spread is not None
        found += [[float(len(rows))], rows.scores[:9], rows.counts[:9], rows.spread[:9]]
        found += [rows.behaviour[:5].flatten()]
    return found


def drawn() -> list[Any]:
    rows = ScoredRows(random_codes(LARGE, 9, generator=seeded(21)), SCORES[:9], CONTEXT[:9])
    codes, context = draw_rows(LARGE, rows, 30, seed=22)
    near, shown = rows_near(LARGE, rows, 6, seed=23)
    every, _ = draw_rows(SPACE, ROWS, 50, seed=24)
    assert context is not None
    assert shown is not None
    return [codes.flatten(), context[:, 2], near.flatten(), shown[:, 2], every.sum(0)]


def pairs() -> list[Any]:
    swapped, pseudo = with_swaps(
        replace(BOTH, context=SHOPS),
        SPACE,
        lambda codes, context: torch.stack([codes.sum(1) / 3.0, codes[:, 0] - 1.0], 1),
        40,
        generator=seeded(25),
    )
    found: list[Any] = [swapped.codes[60:].flatten(), swapped.scores[60:], pseudo.nonzero()[:, 0]]
    for rows, marked, more in (
        (SHARED, None, {}),
        (swapped, pseudo, {"positives": 2, "negatives": 3, "small": 0.4, "large": 0.6}),
        (PLAIN, None, {"most": 7}),
    ):
        mined = mine_hard_pairs(rows, pseudo=marked, generator=seeded(26), **more)
        found += [mined.anchors, mined.positives.flatten(), mined.negatives.flatten()]
    return found


def pessimism() -> list[Any]:
    model = ensemble(27, 3)
    return [[conformal_pessimism(model, ROWS, coverage) for coverage in (0.55, 0.8, 0.9)]]


CASES: dict[str, Callable[[], list[Any]]] = {
    "estimator": estimator,
    "estimator, mixed": lambda: estimator(architectures=("mlp", "shallow", "multilinear")),
    "estimator, conservative": lambda: estimator(conservative=0.3, dropout=0.25),
    "generator": generator,
    "generator, trust": lambda: generator(
        combine="median",
        diversity=0.2,
        trust=0.4,
        trust_radius=0.5,
        gradient_estimator="LeaveOneOut",
    ),
    "generator, steps": lambda: generator(policy="autoregressive", combine="min"),
    "aligner": aligner,
    "aligner, mined": lambda: aligner(loss="sup_con", mined_share=0.6, near=0.3, temperature=0.4),
    "aligner, pseudo": lambda: aligner(loss="nt_xent", pseudo_labels=1.0, temperature=0.5),
    "reproduction": reproduction,
    "reproduction, plain": lambda: reproduction(attributes=None),
    "teacher": teacher,
    "anova": lambda: tables("anova"),
    "pairs": lambda: tables("pairs"),
    "kernel": kernel,
    "chances": chances,
    "trade-offs": tradeoffs,
    "calibrations": calibrations,
    "scales": scales,
    "splits": splits,
    "merged": merged,
    "drawn": drawn,
    "hard pairs": pairs,
    "pessimism": pessimism,
}


def numbers(found: list[Any]) -> list[list[float]]:
    return [[float(value) for value in torch.as_tensor(part).flatten()] for part in found]


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_as_before(name: str) -> None:
    known = json.loads(FILE.read_text())[name]
    found = numbers(CASES[name]())
    assert [len(part) for part in found] == [len(part) for part in known]
    for place, (mine, wanted) in enumerate(zip(found, known, strict=True)):
        assert mine == pytest.approx(wanted, rel=3e-4, abs=1e-5), f"part {place}"


if __name__ == "__main__":
    warnings.simplefilter("error")
    lines = [
        f"{json.dumps(name)}: {json.dumps([[float(f'{v:.6g}') for v in part] for part in found])}"
        for name, case in CASES.items()
        for found in [numbers(case())]
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
