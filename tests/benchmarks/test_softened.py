"""The softened model's timings compare two forms of one model."""

import pytest
import torch

from benchmarks import softened
from discrete_grad import CategoricalSpace
from discrete_grad.sampling import isolated_seed

SPACE = CategoricalSpace.from_sizes((3, 2, 2))


@pytest.mark.parametrize("model", softened.MODELS.values(), ids=softened.MODELS.keys())
def test_the_form_by_hand_is_the_models(model: type[softened.Model]) -> None:
    with isolated_seed(0):
        built = model(SPACE)
        codes = SPACE.enumerate()
        assert torch.allclose(built(codes), built.by_hand(SPACE.one_hot(codes)), atol=1e-6)
        ours, hand, ratio = softened.compare(built, SPACE, 4, 2)
    assert min(ours, hand, ratio) > 0
