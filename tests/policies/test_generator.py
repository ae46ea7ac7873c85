"""The generator."""

import copy
import pickle

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.policies import Generator
from discrete_grad.space import ContextSpec

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
SPEC = ContextSpec({"shop": ["east", "west"]}, ["price"])


def test_with_context() -> None:
    torch.manual_seed(0)
    model, context = Generator(SPEC, SPACE, hidden=(8, 6)), torch.randn(5, 3)
    logits = model(context)
    assert logits.shape == (5, SPACE.width)
    assert_close(model(context[2]), logits[2])
    assert_close(model(context.expand(4, 5, 3)), logits.expand(4, 5, -1))
    uniform = torch.full((5,), torch.tensor(SPACE.num_rows).log().item())
    assert_close(SPACE.entropy(logits), uniform, atol=0.05, rtol=0)
    (logits * torch.randn(SPACE.width)).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_without_context() -> None:
    model = Generator(None, SPACE)
    assert torch.equal(model(), torch.zeros(SPACE.width))
    assert [name for name, _ in model.named_parameters()] == ["logits"]
    SPACE.log_prob(model(), torch.tensor([0, 1, 1])).backward()
    assert (model.logits.grad != 0).all()


@pytest.mark.parametrize("spec", [None, SPEC], ids=["bare", "context"])
def test_copies(spec: ContextSpec | None) -> None:
    torch.manual_seed(0)
    inputs = () if spec is None else (torch.randn(5, 3),)
    model, other = Generator(spec, SPACE), Generator(spec, SPACE)
    other.load_state_dict(model.state_dict())
    for copied in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(*inputs), model(*inputs))


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"takes a context \(..., 3\), got none"):
        Generator(SPEC, SPACE)()
    with pytest.raises(ValueError, match=r"takes no context, got \(5, 3\)"):
        Generator(None, SPACE)(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"context must be \(..., 3\) for \('shop', 'price'\)"):
        Generator(SPEC, SPACE)(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="hidden needs at least one width"):
        Generator(SPEC, SPACE, hidden=())
