"""The layers on a pretended CUDA device: nothing of them is left on the CPU."""

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import (
    IMLE,
    CategoricalSpace,
    GumbelSoftmax,
    ReinMax,
    Relaxation,
    Softmax,
    StraightThrough,
)
from discrete_grad.nn import ChunkedHead, FeatureHeads, SoftEmbedding
from discrete_grad.sampling import isolated_seed, seeded
from tests.nn.zoo import SPACE as ZOO_SPACE
from tests.nn.zoo import WORKING, Style, linear
from tests.pretended_card import CARD, pretended_card

SPACE = CategoricalSpace.from_sizes((3, 2))
RELAXATIONS = (
    StraightThrough,
    ReinMax,
    GumbelSoftmax,
    Softmax,
    IMLE,
)


@pytest.mark.parametrize("kind", RELAXATIONS)
def test_a_generator_of_layers_is_trained(kind: type[Relaxation]) -> None:
    with pretended_card(), isolated_seed(0):
        heads, embedding = FeatureHeads(4, SPACE).to(CARD), SoftEmbedding(SPACE, 3).to(CARD)
        logits = heads(torch.ones(5, 4, device=CARD))
        drawn = embedding.sample(logits, kind(SPACE), generator=seeded(0, CARD))
        built = embedding(kind(SPACE)(logits, generator=seeded(1, CARD)))
        (drawn.square().sum() + built.square().sum()).backward()
        check(heads, embedding)


@pytest.mark.parametrize("kind", [StraightThrough, ReinMax, Softmax])
def test_a_chunked_head_is_trained(kind: type[Relaxation]) -> None:
    space = CategoricalSpace.from_sizes((50,))
    with pretended_card(), isolated_seed(0):
        head = ChunkedHead(4, SoftEmbedding(space, 3), kind(space), chunk=16).to(CARD)
        latent = torch.ones(5, 4, device=CARD)
        embedded: Tensor = head(latent, generator=seeded(0, CARD))
        embedded.square().sum().backward()
        check(head)


def check(*modules: nn.Module) -> None:
    for module in modules:
        for parameter in module.parameters():
            assert parameter.grad is not None
            assert parameter.grad.device == CARD


@pytest.mark.parametrize("style", [s for s in WORKING if "offset" not in str(s).lower()], ids=str)
def test_a_softened_model_is_trained(style: Style) -> None:
    """Models that make no tensors of their own on the CPU."""
    with pretended_card(), isolated_seed(0):
        model = style.model(linear()).to(CARD)
        rows = ZOO_SPACE.softmax(torch.randn(5, ZOO_SPACE.width)).to(CARD).requires_grad_()
        numbers = torch.randn(5, 10).to(CARD)
        try:
            style.on_codes(model, torch.zeros(5, 3, dtype=torch.int64).to(CARD), numbers)
        except (RuntimeError, TypeError, AssertionError) as error:
            pytest.skip(f"the model itself does not run there: {error}")
        style.call(style.soften(model), rows, numbers).square().sum().backward()
        assert rows.grad is not None
        assert rows.grad.device == CARD
