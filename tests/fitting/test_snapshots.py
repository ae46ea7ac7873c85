"""Numbers of every fit on small tables, as they were when they were last looked at.

Each case is a fit of a few steps, with settings that are no defaults and rows that differ in
every respect (counts, spreads, contexts, several scores), or a function of such rows. Whatever
changes a default, an axis, a seed's name or a term of a loss changes some number.
`python -m tests.fitting.test_snapshots` writes the numbers anew, to be read before they are
committed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import ContextSpec
from discrete_grad.fitting import (
    AlignerConfig,
    EstimatorConfig,
    FrozenModels,
    GeneratorConfig,
    ReproductionConfig,
    fit_aligner,
    fit_estimator,
    fit_generator,
    fit_reproduction,
    learn_teacher,
    make_gradient_estimator,
    new_ensemble,
)
from discrete_grad.fitting.anova import anova_groups, fit_anova
from discrete_grad.fitting.kernel import fit_kernel
from discrete_grad.fitting.pair_effects import fit_pair_effects
from discrete_grad.models import (
    Aligner,
    AnovaEnsemble,
    Estimator,
    EstimatorEnsemble,
    KernelEnsemble,
)
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.sampling import isolated_seed
from tests.fitting.small_rows import (
    BOTH,
    CODES,
    CONTEXT,
    COUNTED,
    NOISE,
    ROWS,
    SCORES,
    SHOPS,
    SHOWN,
    SPACE,
    SPEC,
    WEIGHTS,
)
from tests.kept_numbers import Case, check_numbers, cut_small, keep_numbers

FILE = Path(__file__).parent / "snapshots.json"
SHORT: dict[str, Any] = {"steps": 6, "batch_size": 12, "validate_every": 2, "learning_rate": 0.05}


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


CASES: dict[str, Case] = {
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
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_as_before(name: str) -> None:
    check_numbers(FILE, name, CASES[name])


@pytest.mark.parametrize("name", ["anova", "teacher"])
def test_numbers_are_the_same_in_small_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"anova._PART": 7, "stacking._CHUNK": 5, "black_box._ASKED_AT_ONCE": 9}
    cut_small(monkeypatch, "fitting", parts)
    check_numbers(FILE, name, CASES[name])


if __name__ == "__main__":
    keep_numbers(FILE, CASES)
