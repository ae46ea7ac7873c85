"""The generator."""

import copy
import pickle

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.policies import Generator, log_prob_by_steps
from discrete_grad.sampling import normal, seeded
from discrete_grad.space import ContextSpec
from discrete_grad.testing._goodness import g_test
from discrete_grad.weighting import TablePotential, ValueGuided
from tests.goodness import FALSE_ALARM

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
SPEC = ContextSpec({"shop": ["east", "west"]}, ["price"])


def test_with_context() -> None:
    torch.manual_seed(0)
    model, context = Generator(SPACE, SPEC, hidden=(8, 6)), torch.randn(5, 3)
    logits = model(context)
    assert logits.shape == (5, SPACE.width)
    assert_close(model(context[2]), logits[2])
    assert_close(model(context.expand(4, 5, 3)), logits.expand(4, 5, -1))
    uniform = torch.full((5,), torch.tensor(SPACE.num_rows).log().item())
    assert_close(SPACE.entropy(logits), uniform, atol=0.05, rtol=0)
    (logits * torch.randn(SPACE.width)).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_without_context() -> None:
    model = Generator(SPACE)
    assert torch.equal(model(), torch.zeros(SPACE.width))
    assert [name for name, _ in model.named_parameters()] == ["free_logits"]
    SPACE.log_prob(model(), torch.tensor([0, 1, 1])).backward()
    assert (model.free_logits.grad != 0).all()


@pytest.mark.parametrize("spec", [None, SPEC], ids=["bare", "context"])
def test_copies(spec: ContextSpec | None) -> None:
    torch.manual_seed(0)
    inputs = () if spec is None else (torch.randn(5, 3),)
    model, other = Generator(SPACE, spec), Generator(SPACE, spec)
    other.load_state_dict(model.state_dict())
    for copied in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(*inputs), model(*inputs))


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"takes a context \(..., 3\), got none"):
        Generator(SPACE, SPEC)()
    with pytest.raises(ValueError, match=r"takes no context, got \(5, 3\)"):
        Generator(SPACE)(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"context must be \(..., 3\) for \('shop', 'price'\)"):
        Generator(SPACE, SPEC)(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="hidden needs at least one width"):
        Generator(SPACE, SPEC, hidden=())


def test_weights_of_before_the_parameter_was_renamed() -> None:
    model, holder = Generator(SPACE), torch.nn.ModuleDict({"policy": Generator(SPACE)})
    model.load_state_dict({"logits": torch.arange(9.0)})
    holder.load_state_dict({"policy.logits": torch.arange(9.0)})
    for loaded in (model, holder["policy"]):
        assert torch.equal(loaded(), 10 * torch.arange(9.0))
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict({"logits": torch.arange(8.0)})


# --- as a policy ----------------------------------------------------------------------------------


@pytest.fixture
def sharp() -> Generator:
    """In float64, far from uniform, a category of it forbidden."""
    model = Generator(SPACE, SPEC, hidden=(8,)).double()
    noise = seeded(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(normal(tuple(p.shape), generator=noise))
        model.heads.linear.bias[1] = -torch.inf
    return model


CONTEXT = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -1.0]]).double()


def exact(model: Generator) -> torch.Tensor:
    """Probabilities `(R, 2)` of all rows: products of each feature's."""
    parts = [part.softmax(-1) for part in model(CONTEXT).split(SPACE.sizes, -1)]
    columns = [part[:, codes] for part, codes in zip(parts, SPACE.enumerate().T, strict=True)]
    return torch.stack(columns).prod(0).T


def test_its_probabilities_are_products(sharp: Generator) -> None:
    rows = SPACE.enumerate().unsqueeze(1).expand(-1, 2, -1)
    found = sharp.log_prob(rows, CONTEXT)
    assert found.shape == (24, 2)
    assert_close(found.exp(), exact(sharp))
    assert sharp.float().log_prob(rows, CONTEXT.float()).dtype == torch.float64


def test_its_rows_have_these_probabilities(sharp: Generator) -> None:
    codes, again = (sharp.sample(CONTEXT, 20_000, generator=seeded(1)) for _ in range(2))
    assert codes.shape == (20_000, 2, 3)
    assert torch.equal(codes, again)
    for number, law in zip(SPACE.row_number(codes).T, exact(sharp).detach().T, strict=True):
        assert g_test(number.bincount(minlength=24), law) > FALSE_ALARM
    assert Generator(SPACE).sample().shape == (1, 3)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        sharp.sample(CONTEXT, 0)


def test_it_writes_feature_by_feature(sharp: Generator) -> None:
    rows = SPACE.enumerate().unsqueeze(1).expand(-1, 2, -1)
    assert_close(log_prob_by_steps(sharp, rows, CONTEXT).exp(), exact(sharp))
    _, state = sharp.advance(sharp.begin(CONTEXT, batch=(4, 2)), None)
    numbers = torch.tensor([[7, 0, 2]])
    picked, _ = sharp.advance(sharp.select(state, numbers), None)
    assert_close(picked[0], sharp.advance(state, None)[0].flatten(0, 1)[numbers[0]])
    with pytest.raises(ValueError, match="Generator takes no attributes"):
        sharp.begin(CONTEXT, attributes=CONTEXT, batch=(2,))


def test_it_can_be_guided_by_a_potential() -> None:
    """The guided law is the tilt, although its features are no longer independent."""
    policy = Generator(SPACE).double()
    with torch.no_grad():
        policy.free_logits.copy_(normal((9,), generator=seeded(3)) / 10)
    rows = SPACE.enumerate()
    reward = normal((24,), generator=seeded(2)).double()
    potential = TablePotential(SPACE, policy.log_prob(rows).detach(), reward)
    tilted = (policy.log_prob(rows) + reward).softmax(0)
    assert_close(ValueGuided(policy, potential).log_prob(rows).exp(), tilted)


@pytest.mark.parametrize("spec", [None, SPEC])
def test_a_context_that_is_no_tensor_is_named(spec: ContextSpec | None) -> None:
    with pytest.raises(TypeError, match="context must be a tensor or None, got int"):
        Generator(SPACE, spec).sample(4)


def test_the_space_comes_before_the_context() -> None:
    spec = ContextSpec({"shop": 2})
    with pytest.raises(TypeError, match="after the space, got CategoricalSpace"):
        Generator(spec, CategoricalSpace.from_sizes((2, 3)))  # type: ignore[arg-type]
