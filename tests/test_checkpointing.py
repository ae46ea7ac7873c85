"""Activation checkpointing: the second call of a layer has the noise of the first, or says no."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from discrete_grad import CategoricalSpace, ReinMax, Relaxation, gradient
from discrete_grad.nn import ChunkedHead, SoftEmbedding
from discrete_grad.policies import AutoregressiveGenerator
from discrete_grad.sampling import isolated_seed, seeded

SPACE = CategoricalSpace.from_sizes((2, 3))
ONE = CategoricalSpace({"item": 5})
Layer = Callable[..., Tensor]


def relaxed(context: Tensor, *, generator: torch.Generator | None) -> Tensor:
    policy = AutoregressiveGenerator(SPACE)
    return policy.relaxed(None, 4, ReinMax(), generator=generator) + context[..., :5]


def layers() -> dict[str, Layer]:
    kinds = gradient.catalogue().items()
    found: dict[str, Layer] = {
        name: kind(SPACE)
        for name, kind in kinds
        if issubclass(kind, Relaxation) and kind.facts.forward == "hard"
    }
    found["expectation"] = lambda logits, generator: gradient.Rebar(SPACE).expectation(
        lambda rows: rows.square().sum(-1), logits, generator=generator
    )
    for kind in (gradient.ReinMax, gradient.GumbelSoftmax):
        embedding = SoftEmbedding(SPACE, 4)
        found[f"{kind.__name__} embedded"] = lambda logits, generator, e=embedding, k=kind: (
            e.sample(logits, k(SPACE), generator=generator)
        )
    found["chunked"] = ChunkedHead(5, SoftEmbedding(ONE, 4), ReinMax())
    found["relaxed"] = relaxed
    return found


LAYERS = layers()
WAYS = pytest.mark.parametrize("reentrant", [False, True])


@WAYS
@pytest.mark.parametrize("name", LAYERS)
def test_the_global_source_is_restored(name: str, reentrant: bool) -> None:
    weights = torch.randn(4, 5, generator=seeded(1))

    def loss(leaf: Tensor) -> Tensor:
        row = layer(leaf, generator=None)
        return (row.reshape(4, -1).cumsum(-1) * weights[:, :1]).square().sum()

    gradients = []
    for call in (loss, lambda leaf: checkpoint(loss, leaf, use_reentrant=reentrant)):
        layer = copy.deepcopy(LAYERS[name])  # what it has learned by the first call is left out
        leaf = torch.randn(4, 5, generator=seeded(2)).requires_grad_()
        with isolated_seed(3):
            value = call(leaf)
        value.backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


@WAYS
@pytest.mark.parametrize("name", LAYERS)
def test_a_generator_of_the_forward_pass_is_refused(name: str, reentrant: bool) -> None:
    leaf, generator = torch.randn(4, 5, requires_grad=True), seeded(4)
    with pytest.raises(RuntimeError, match=r"activation checkpointing.*would get other noise"):
        checkpoint(
            lambda x: LAYERS[name](x, generator=generator), leaf, use_reentrant=reentrant
        ).sum().backward()


@WAYS
def test_a_generator_seeded_inside_is_fine(reentrant: bool) -> None:
    def loss(leaf: Tensor) -> Tensor:
        generator = seeded(5)
        first = ReinMax(SPACE)(leaf, generator=generator)
        return (first * ReinMax(SPACE)(leaf, generator=generator).cumsum(-1)).sum()

    gradients = []
    for call in (loss, lambda leaf: checkpoint(loss, leaf, use_reentrant=reentrant)):
        leaf = torch.randn(4, 5, generator=seeded(6)).requires_grad_()
        call(leaf).backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


@WAYS
def test_a_moving_baseline_is_refused(reentrant: bool) -> None:
    method = gradient.Reinforce(SPACE)

    def loss(leaf: Tensor) -> Tensor:
        return method.expectation(lambda rows: rows[..., 0], leaf)

    leaf = torch.zeros(4, 5, requires_grad=True)
    with pytest.raises(RuntimeError, match="moves its baseline"):
        checkpoint(loss, leaf, use_reentrant=reentrant).sum().backward()
    method.eval()
    checkpoint(loss, leaf, use_reentrant=reentrant).sum().backward()
    assert leaf.grad.abs().sum() > 0
