"""Each context, each element of a batch and each generator has noise of its own."""

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import pytest
import torch

from discrete_grad import CategoricalSpace, gradient
from discrete_grad.data import ScoredRows
from discrete_grad.evaluation import compare_metrics
from discrete_grad.evaluation.row_laws import DrawnLaw, IndependentLaw
from discrete_grad.fitting import GeneratorConfig, mine_hard_pairs, with_swaps
from discrete_grad.fitting.pessimism import PessimisticScore, PreferredScore
from discrete_grad.gradient import LeaveOneOut, ReinMax
from discrete_grad.models import (
    Estimator,
    EstimatorEnsemble,
    MixedEnsemble,
    MultilinearEstimator,
    PreferenceModel,
    StackedEnsemble,
)
from discrete_grad.nn import ChunkedHead, SoftEmbedding
from discrete_grad.objectives import expected_score_loss
from discrete_grad.policies import AutoregressiveGenerator, Generator, MixtureGenerator, conditioned
from discrete_grad.policies.autoregressive import known_mask
from discrete_grad.preferences import random_pairs, synthetic_preferences
from discrete_grad.rules import AtMost, Rules
from discrete_grad.sampling import seeded
from discrete_grad.space import ContextSpec
from discrete_grad.weighting import (
    AttributeSet,
    RewardWeighted,
    best_of_n,
    importance_sampling,
    metropolis,
    soft_best_of_n,
    twisted_smc,
)
from discrete_grad.weighting.importance import resampled_importance
from discrete_grad.weighting.posthoc import bootstrap_interval, order_decay
from discrete_grad.weighting.smc import log_z_bounds, smc_log_z
from tests.weighting.worlds import SPACE as SMALL
from tests.weighting.worlds import world

SPACE = CategoricalSpace.from_sizes((5, 6, 7))
STOCHASTIC = (
    gradient.LeaveOneOut,
    gradient.Reinforce,
    gradient.StraightThrough,
    gradient.GumbelSoftmax,
    gradient.ReinMax,
    gradient.Rebar,
    gradient.DoubleControlVariate,
)


@pytest.mark.parametrize("kind", STOCHASTIC, ids=lambda kind: kind.__name__)
def test_equal_logits_of_a_batch_get_different_gradients(
    kind: type[gradient.GradientEstimator],
) -> None:
    logits = torch.zeros(8, SPACE.width, requires_grad=True)
    weights = torch.arange(SPACE.width) / 7.0
    value = kind(SPACE).expectation(
        lambda rows: (rows * weights).sum(-1).square(), logits, generator=seeded(0)
    )
    (found,) = torch.autograd.grad(value.sum(), logits)
    assert len(found.unique(dim=0)) > 4


@pytest.mark.parametrize("kind", [Generator, AutoregressiveGenerator])
def test_equal_contexts_get_different_rows(kind: type[Generator]) -> None:
    policy = kind(SPACE, ContextSpec({"shop": 2}), hidden=(8,))
    rows = policy.sample(torch.eye(2)[[0] * 40], 1, generator=seeded(0))
    assert rows.shape == (1, 40, 3)
    assert len(rows[0].unique(dim=0)) > 20


ROWS = SPACE.enumerate()
SCORED = ScoredRows(ROWS, torch.arange(210.0) % 7)
RULES = Rules(SPACE, [AtMost(1, {"x0": 0, "x1": 0, "x2": 0})])
PLAIN, STEPS = Generator(SPACE), AutoregressiveGenerator(SPACE, hidden=(8,))
MIXED = MixtureGenerator([PLAIN, PLAIN], Generator(CategoricalSpace({"number": 2})))
ENSEMBLE = EstimatorEnsemble([Estimator(SPACE)])
OTHERS = EstimatorEnsemble([MultilinearEstimator(SPACE)])
SCORE = PessimisticScore(ENSEMBLE, None, GeneratorConfig())
FREE = torch.zeros(20, SPACE.width)
EMBEDDING, ONE = SoftEmbedding(SPACE, 1), torch.nn.Embedding(5, 1)
SHARED = SoftEmbedding.from_pretrained([ONE, ONE])
HEAD = ChunkedHead(4, ONE.weight, ReinMax())
LEARNT = RewardWeighted(Generator(SMALL), Estimator(SMALL), 1.0)
WORLD, EXACT = world(0), SMALL.enumerate()[:3]
DRAWING: dict[str, Callable[..., Any]] = {
    "importance sampling": lambda **g: importance_sampling(WORLD, None, 20, **g),
    "by a proposal": lambda **g: importance_sampling(
        WORLD, None, 20, proposal=Generator(SMALL), **g
    ),
    "resampled": lambda **g: resampled_importance(WORLD, None, 20, pool=30, **g),
    "best of n": lambda **g: best_of_n(WORLD, None, 20, n=2, **g),
    "soft best of n": lambda **g: soft_best_of_n(WORLD, None, 20, n=2, **g),
    "smc": lambda **g: twisted_smc(WORLD, None, 20, threshold=1.0, **g),
    "smc by the reference": lambda **g: twisted_smc(WORLD, None, 20, proposal="reference", **g),
    "log z": lambda **g: smc_log_z(WORLD, None, 20, exact_rows=EXACT[0], proposal="reference", **g),
    "bounds": lambda **g: log_z_bounds(WORLD, EXACT, None, 5, **g),
    "exact tilt": lambda **g: WORLD.exact().sample(20, **g),
    "rows of a tilt": lambda **g: WORLD.sample(None, 20, **g),
    "bootstrap": lambda **g: bootstrap_interval(
        SCORED.scores, SCORED.scores, order_decay, resamples=9, **g
    ),
    "attributes": lambda **g: AttributeSet.from_rows(ROWS.float(), size=20, **g),
    **{
        f"metropolis {name}": lambda name=name, **g: metropolis(
            LEARNT, None, 20, steps=2, proposal=name, **g
        )
        for name in ("uniform", "informed", "redraw")
    },
    "rows": lambda **g: PLAIN.sample(None, 20, **g),
    "rows by steps": lambda **g: STEPS.sample(None, 20, **g),
    "soft rows": lambda **g: STEPS.relaxed(None, 20, ReinMax(), **g),
    "rows of a mixture": lambda **g: MIXED.sample(None, 20, **g),
    "obeying rows": lambda **g: conditioned(PLAIN, RULES).sample(None, 20, **g),
    "obeying rows by steps": lambda **g: conditioned(STEPS, RULES).sample(None, 20, **g),
    "obeying rows of a mixture": lambda **g: conditioned(MIXED, RULES).sample(None, 20, **g),
    "redrawn rows": lambda **g: conditioned(PLAIN, RULES).redrawn(
        ROWS[-20:], torch.ones(20, 3, dtype=torch.bool), **g
    ),
    **{
        f"values of a mixture {name}": lambda choice=choice, **g: MIXED.expectation(
            ENSEMBLE, None, LeaveOneOut(SPACE), choice=choice, **g
        )
        for name, choice in {"of each": None, "of some": LeaveOneOut()}.items()
    },
    "a law": lambda **g: RULES.condition(FREE[0]).sample(20, **g),
    "a law of a report": lambda **g: IndependentLaw(SPACE, FREE[0]).sample(20, **g),
    "a law of draws": lambda **g: DrawnLaw(STEPS, None, draws=1).sample(20, **g),
    "what is known": lambda **g: known_mask((20,), 0.5, **g),
    "a loss": lambda **g: expected_score_loss(LeaveOneOut(SPACE), ENSEMBLE, FREE, **g),
    **{
        f"predictions {name}": lambda model=model, **g: model.sample_predictions(
            FREE, ReinMax(SPACE), **g
        )
        for name, model in {
            "of networks": ENSEMBLE,
            "of others": OTHERS,
            "of several kinds": MixedEnsemble([ENSEMBLE, OTHERS]),
            "of a family": StackedEnsemble({"one": ENSEMBLE}),
            "of families": StackedEnsemble({"one": ENSEMBLE, "two": OTHERS}),
            "of a reward": PreferenceModel(ENSEMBLE),
        }.items()
    },
    "a score": lambda **g: SCORE.sample(FREE, ReinMax(SPACE), **g),
    "a score and a reward": lambda **g: PreferredScore(SCORE, SCORE, 1.0).sample(
        FREE, ReinMax(SPACE), **g
    ),
    "embedded": lambda **g: EMBEDDING.sample(torch.zeros(20, 18), ReinMax(SPACE), **g),
    "embedded by one table": lambda **g: SHARED.sample(
        torch.zeros(20, 10), ReinMax(SHARED.space), **g
    ),
    "chunked": lambda **g: HEAD(torch.zeros(20, 4), **g),
    "pairs": lambda **g: random_pairs(ROWS, None, 20, **g),
    "answers": lambda **g: synthetic_preferences(
        lambda codes, context: codes.sum(-1), ROWS, ROWS.flip(0), **g
    ),
    "hard pairs": lambda **g: mine_hard_pairs(SCORED, **g),
    "swaps": lambda **g: with_swaps(
        SCORED.take(ROWS[:, 0].nonzero()[::3, 0]),
        SPACE,
        lambda codes, context: codes[:, 0],
        20,
        **g,
    ),
    "metrics": lambda **g: compare_metrics(
        {"sum": lambda a, b: -(ROWS[a].sum(-1) - ROWS[b].sum(-1)).abs().float()},
        ROWS,
        SCORED.scores,
        anchors=20,
        pairs=4,
        resamples=9,
        **g,
    ),
}


def numbers(result: Any) -> list[Any]:
    """All tensors of a result, as lists, and whatever else it holds."""
    if isinstance(result, torch.Tensor):
        return [result.tolist()]
    if is_dataclass(result):
        result = vars(result)
    parts = result.values() if isinstance(result, dict) else result
    if not isinstance(result, dict | list | tuple):
        return [result]
    return [number for part in parts for number in numbers(part)]


@pytest.mark.parametrize("name", DRAWING)
def test_what_is_given_a_generator_draws_from_it_alone(name: str) -> None:
    found = []
    for seed in (0, 0, 1):
        torch.rand(1)
        before = torch.get_rng_state()
        found.append(repr(numbers(DRAWING[name](generator=seeded(seed)))))
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1] != found[2]
