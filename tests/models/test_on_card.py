"""Every model on a pretended CUDA device: nothing of it is left on the CPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace, ReinMax, on_codes
from discrete_grad.models import (
    Aligner,
    AnovaEnsemble,
    BaseEnsemble,
    BaseEstimator,
    Estimator,
    EstimatorEnsemble,
    KernelEnsemble,
    LeafEnsemble,
    MixedEnsemble,
    MultilinearEstimator,
    PreferenceModel,
    StackedEnsemble,
    best_rows,
    most_likely_rows,
    swap_search,
)
from discrete_grad.models._block_linear import BlockLinearEnsemble
from discrete_grad.rules import Forbid, Rules
from discrete_grad.sampling import isolated_seed, normal, random_codes, seeded
from discrete_grad.space import ContextSpec
from tests.pretended_card import CARD, pretended_card

SPACE = CategoricalSpace.from_sizes((3, 2, 4))
SPEC = ContextSpec({"shop": 2}, ["price"])
EMBEDDED = ContextSpec({"shop": 2}, ["price"], embedded=True)
CODES = random_codes(SPACE, 6, generator=seeded(0))
CONTEXT = torch.tensor([[1.0, 0.0, 0.3], [0.0, 1.0, -0.5]]).repeat(3, 1)


def networks(spec: ContextSpec | None = SPEC) -> EstimatorEnsemble:
    return EstimatorEnsemble([Estimator(SPACE, context=spec, dim=4, hidden=(8,)) for _ in range(2)])


def products() -> EstimatorEnsemble:
    return EstimatorEnsemble([MultilinearEstimator(SPACE, context=SPEC) for _ in range(2)])


def kernel() -> KernelEnsemble:
    model = KernelEnsemble(SPACE, context=SPEC, members=2)
    columns = len(model.joint.sizes)
    points = model.joint(CODES, CONTEXT)
    model.place(torch.rand(columns, 3), points, torch.randn(6, 2), torch.zeros(2))
    return model


def anova() -> AnovaEnsemble:
    model = AnovaEnsemble(SPACE, context=SPEC, members=2, groups=[(0,), (0, 2), (1, 3)])
    model.cells = torch.randn_like(model.cells)
    return model


def stacked() -> StackedEnsemble:
    return StackedEnsemble({"networks": networks(), "kernel": kernel(), "anova": anova()})


ESTIMATORS: dict[str, Callable[[], BaseEstimator]] = {
    "network": lambda: Estimator(SPACE, context=SPEC),
    "network, embedded context": lambda: Estimator(SPACE, context=EMBEDDED),
    "product": lambda: MultilinearEstimator(SPACE, context=SPEC),
    "networks": networks,
    "networks, embedded context": lambda: networks(EMBEDDED),
    "products": products,
    "mixed": lambda: MixedEnsemble([networks(), products()]),
    "kernel": kernel,
    "anova": anova,
    "stacked": stacked,
    "preference": lambda: PreferenceModel(networks()),
}


def made(maker: Callable[[], nn.Module]) -> nn.Module:
    with isolated_seed(0):
        return maker().eval()


def context_of(model: nn.Module) -> Tensor:
    embedded = getattr(model, "context_spec", SPEC) == EMBEDDED
    return torch.stack([CONTEXT[:, 1], CONTEXT[:, 2]], 1) if embedded else CONTEXT


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_scores_codes_and_rows_and_gives_their_gradient(name: str) -> None:
    at_home = made(ESTIMATORS[name])
    with pretended_card():
        model, context = made(ESTIMATORS[name]).to(CARD), context_of(at_home).to(CARD)
        assert isinstance(model, BaseEstimator)
        for soft in (False, True):
            row = SPACE.one_hot(CODES.to(CARD)) * (0.5 if soft else 1)
            scores = model(row.requires_grad_(), context)
            (slope,) = torch.autograd.grad(scores.sum(), row)
            assert slope.device == scores.device == CARD
        scores, latent = model(CODES.to(CARD), context), model.to_latent(row.detach(), context)
        assert latent.device == CARD
        if isinstance(model, BaseEnsemble):
            rows = CODES.expand(model.num_members, -1, -1).to(CARD)
            contexts = context.expand(model.num_members, -1, -1)
            assert model.predictions(rows, contexts, own_rows=True).device == CARD
            assert model.std(CODES.to(CARD), context).device == CARD
            logits = torch.zeros(6, SPACE.width, device=CARD).requires_grad_()
            drawn = model.sample_predictions(
                logits, ReinMax(SPACE), context, generator=seeded(0, CARD)
            )
            drawn.sum().backward()
            assert logits.grad is not None
            assert logits.grad.device == CARD
        there = scores.cpu()
    torch.testing.assert_close(there, at_home(CODES, context_of(at_home)))


@pytest.mark.parametrize("maker", [kernel, anova])
def test_what_each_swap_changes_is_told(maker: Callable[[], BlockLinearEnsemble]) -> None:
    at_home = made(maker)
    assert isinstance(at_home, BlockLinearEnsemble)
    with pretended_card():
        model = made(maker).to(CARD)
        assert isinstance(model, BlockLinearEnsemble)
        codes, weights = model.joint(CODES.to(CARD), CONTEXT.to(CARD)), torch.ones(6, 2)
        there = model.slopes(codes, weights.to(CARD)).cpu()
    here = at_home.slopes(at_home.joint(CODES, CONTEXT), torch.ones(6, 2))
    torch.testing.assert_close(there, here)


def test_leaves_score_and_give_a_gradient() -> None:
    with pretended_card():
        allowed = torch.rand(SPACE.width, 5, generator=seeded(0)) > 0.3
        model = LeafEnsemble(SPACE, allowed, torch.arange(5.0)).to(CARD)
        row = SPACE.one_hot(CODES.to(CARD)).requires_grad_()
        (slope,) = torch.autograd.grad(model(row).sum(), row)
        assert slope.device == model(CODES.to(CARD)).device == CARD


def test_an_aligner_compares_rows() -> None:
    with pretended_card():
        aligner = Aligner(stacked().to(CARD), 4).to(CARD)
        codes, context = CODES.to(CARD), CONTEXT.to(CARD)
        assert aligner(codes, codes.flip(0), context).device == CARD


@pytest.mark.parametrize("evaluations", [1000, 12])
@pytest.mark.parametrize("distance", [1, 2])
def test_the_search_for_rows_finds_the_same_rows(evaluations: int, distance: int) -> None:
    logits = normal((3, SPACE.width), generator=seeded(1)).float()
    weight = normal((SPACE.width,), generator=seeded(2)).float()

    def found(device: torch.device) -> list[Tensor]:
        def score(codes: Tensor, where: Tensor) -> Tensor:
            return weight.to(device)[SPACE.columns(codes)].sum(-1) + where

        options = {"evaluations": evaluations, "distance": distance}
        rows = best_rows(SPACE, logits.to(device), score, 2, **options)

        def flat(row: Tensor) -> Tensor:
            return row @ weight.to(device)

        rules = Rules(SPACE, [Forbid({name: 1 for name in SPACE.names[:2]})])
        climbed = [
            swap_search(f, CODES.to(device), space=SPACE, restarts=1, **options)
            for f in (flat, on_codes(SPACE, lambda codes: score(codes, codes[:, 0] * 0)))
            for options in ({}, {"rules": rules, "edits": 2, "price": 0.1})
        ]
        ends = [part for found in climbed for part in (found.codes, found.values)]
        return [t.cpu() for t in (*rows, *ends, *most_likely_rows(SPACE, logits.to(device), 4))]

    with pretended_card():
        there = found(CARD)
    for one, other in zip(there, found(torch.device("cpu")), strict=True):
        torch.testing.assert_close(one, other)
