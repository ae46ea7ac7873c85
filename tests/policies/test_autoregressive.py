"""The autoregressive generator against enumeration, recomputation and its own factors."""

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GumbelSoftmax, Softmax, StraightThrough
from discrete_grad.policies import AutoregressiveGenerator, known_mask, log_prob_by_steps
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import ContextSpec
from discrete_grad.testing._goodness import g_test, joint_counts
from tests.goodness import FALSE_ALARM
from tests.strategies import spaces

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2})
SPEC = ContextSpec({"shop": ["east", "west"]}, ["price"])
ATTRIBUTES = ContextSpec(numeric=["depth", "table"])
BACKBONES = ("gru", "transformer")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_of(space: CategoricalSpace = SPACE, **options: Any) -> AutoregressiveGenerator:
    """A model in float64, its parameters random and large enough to matter."""
    model = AutoregressiveGenerator(space, **({"hidden": (16, 16)} | options)).double()
    noise = seeded(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=noise))
    return model


def full(backbone: str = "gru", order: tuple[int, ...] = (2, 0, 1)) -> AutoregressiveGenerator:
    options = {"attributes": ATTRIBUTES, "backbone": backbone, "order": order}
    return model_of(context=SPEC, **options)


def given_all(model: AutoregressiveGenerator, batch: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    noise = seeded(2)
    context = torch.randn(*batch, 3, generator=noise, dtype=torch.float64)
    return context, torch.randn(*batch, 2, generator=noise, dtype=torch.float64)


# --- the law --------------------------------------------------------------------------------------


@given(spaces(max_features=4, max_size=4), st.sampled_from(BACKBONES), st.randoms())
def test_probabilities_sum_to_one_in_any_order(
    space: CategoricalSpace, backbone: str, random: Any
) -> None:
    order = random.sample(range(space.num_features), space.num_features)
    model = model_of(space, backbone=backbone, order=order)
    log_probs = model.log_prob(space.enumerate())
    assert_close(log_probs.logsumexp(0), torch.zeros((), dtype=torch.float64))
    assert space.num_rows < 4 or log_probs.std() > 1e-3  # not uniform by mistake


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_layer_for_each_width(backbone: str) -> None:
    sizes = [
        sum(p.numel() for p in model_of(hidden=(8,) * n, backbone=backbone).parameters())
        for n in (1, 2, 3)
    ]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 0


@pytest.mark.parametrize("embedded", [False, True])
def test_each_column_of_the_context_changes_the_law(embedded: bool) -> None:
    spec = ContextSpec({"shop": ["east", "west"]}, ["price"], embedded=embedded)
    model = model_of(context=spec, hidden=(8,))
    wide = torch.eye(2, dtype=torch.float64)
    shop = torch.arange(2.0, dtype=torch.float64).unsqueeze(-1) if embedded else wide
    contexts = torch.cat([shop, torch.zeros(2, 1).double()], -1)
    contexts = torch.cat([contexts, contexts[:1].index_fill(1, torch.tensor(spec.width - 1), 0.5)])
    laws = model.log_prob(SPACE.enumerate().unsqueeze(1), contexts)
    gaps = [(laws[:, i] - laws[:, j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(gaps) > 1e-3
    # a context of another precision is read in that of the model
    narrow = model.float().log_prob(SPACE.enumerate().unsqueeze(1), contexts)
    assert_close(narrow.double(), laws, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_log_prob_is_the_sum_of_the_conditionals_of_fresh_prefixes(backbone: str) -> None:
    model, codes = full(backbone), SPACE.enumerate()
    context, attributes = given_all(model, ())
    total = torch.zeros(len(codes), dtype=torch.float64)
    for t, feature in enumerate(model.order):
        prefix = codes[:, list(model.order[:t])]
        log_probs = model.conditional(prefix, context, attributes)
        assert log_probs.shape == (len(codes), SPACE.sizes[feature])
        assert_close(log_probs.exp().sum(-1), torch.ones(len(codes), dtype=torch.float64))
        total = total + log_probs.gather(-1, codes[:, feature, None]).squeeze(-1)
    assert_close(model.log_prob(codes, context, attributes), total)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_feature_depends_on_those_before_it_alone(backbone: str) -> None:
    model = full(backbone)
    context, attributes = given_all(model, ())
    codes = torch.tensor([1, 2, 0])
    logits = SPACE.split(model(codes, context, attributes))
    for changed in range(3):
        other = codes.clone()
        other[changed] = (other[changed] + 1) % SPACE.sizes[changed]
        moved = SPACE.split(model(other, context, attributes))
        place = model.order.index(changed)
        for feature in range(3):
            same = bool(torch.isclose(moved[feature], logits[feature]).all())
            assert same == (model.order.index(feature) <= place)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)], ids=str)
def test_cached_steps_equal_recomputation(backbone: str, batch: tuple[int, ...]) -> None:
    model = full(backbone)
    context, attributes = given_all(model, batch)
    codes = model.sample(context, 4, attributes=attributes, generator=seeded())
    whole = SPACE.split(SPACE.log_softmax(model(codes, context, attributes)))
    state, previous = model.begin(context, attributes=attributes, batch=(4, *batch)), None
    for feature in model.order:
        log_probs, state = model.advance(state, previous)
        assert_close(log_probs, whole[feature])
        previous = codes[..., feature]
    bare = model_of(backbone=backbone, order=(1, 2, 0))
    assert_close(log_prob_by_steps(bare, codes), bare.log_prob(codes))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_samples_have_the_exact_law(backbone: str) -> None:
    model = full(backbone)
    context, attributes = given_all(model, (2,))
    codes = model.sample(context, 20_000, attributes=attributes, generator=seeded())
    rows = SPACE.enumerate()
    expected = model.log_prob(rows.unsqueeze(1), context, attributes)
    for i in range(2):
        check_law(codes[:, i], expected[:, i])


def check_law(codes: Tensor, log_probs: Tensor) -> None:
    """Codes `(n, F)` against log-probabilities of the rows in order `(num_rows,)`."""
    assert g_test(joint_counts(SPACE, codes), log_probs.detach().exp()) > FALSE_ALARM


def test_a_state_of_noise_decides_and_global_noise_is_untouched() -> None:
    model, before = model_of(), torch.get_rng_state()
    a, b, c = (model.sample(count=50, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())
    assert not a.requires_grad


# --- the condition --------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_unknown_attributes_are_those_not_given(backbone: str) -> None:
    model, codes = full(backbone), SPACE.enumerate()
    context, attributes = given_all(model, (len(codes),))
    known = torch.arange(len(codes)) % 2 == 0
    mixed = model.log_prob(codes, context, attributes, known=known)
    assert_close(mixed[known], model.log_prob(codes, context, attributes)[known])
    assert_close(mixed[~known], model.log_prob(codes, context)[~known])
    assert (mixed - model.log_prob(codes, context))[known].abs().min() > 1e-4


def test_every_parameter_learns_from_a_half_known_batch() -> None:
    for backbone in BACKBONES:
        model = full(backbone)
        context, attributes = given_all(model, (6,))
        codes = model.sample(context, 1, attributes=attributes, generator=seeded())[0]
        known = torch.arange(6) % 2 == 0
        model.log_prob(codes, context, attributes, known=known).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad != 0).any(), name


def test_known_mask() -> None:
    assert known_mask((1000,), 0.0, generator=seeded()).all()
    assert not known_mask((1000,), 1.0, generator=seeded()).any()
    assert 0.68 < known_mask((10_000,), 0.3, generator=seeded()).double().mean() < 0.72
    with pytest.raises(ValueError, match=r"probability in \[0, 1\], got 1.5"):
        known_mask((2,), 1.5)


def test_another_order_shares_the_parameters() -> None:
    model = model_of()
    other = model.in_order(["shape", "cut", "colour"])
    assert (model.order, other.order) == ((0, 1, 2), (2, 0, 1))
    codes = SPACE.enumerate()
    assert not torch.allclose(model.log_prob(codes), other.log_prob(codes))
    (-other.log_prob(codes)).sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "null" not in n)
    assert other.log_prob(codes).logsumexp(0).abs() < 1e-10


def test_it_learns_a_dependence_that_independent_features_cannot() -> None:
    space = CategoricalSpace.from_sizes((3, 3))
    codes = torch.tensor([[0, 0], [1, 1], [2, 2]])
    model = AutoregressiveGenerator(space, hidden=(16,))
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(60):
        optimiser.zero_grad()
        (-model.log_prob(codes).mean()).backward()
        optimiser.step()
    assert model.log_prob(codes).exp().sum() > 0.9


# --- soft decoding --------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("relaxation", [StraightThrough(), GumbelSoftmax(tau=0.7)], ids=repr)
def test_hard_rows_have_the_exact_law(backbone: str, relaxation: Any) -> None:
    model = model_of(backbone=backbone, order=(2, 0, 1))
    rows = model.relaxed(None, 20_000, relaxation, generator=seeded())
    assert rows.shape == (20_000, SPACE.width)
    assert torch.equal(rows, SPACE.one_hot(SPACE.argmax(rows), dtype=torch.float64))
    check_law(SPACE.argmax(rows), model.log_prob(SPACE.enumerate()))


def test_a_features_gradient_reaches_the_features_before_it() -> None:
    for backbone in BACKBONES:
        model = model_of(backbone=backbone)
        rows = model.relaxed(None, 8, StraightThrough(), generator=seeded())
        last = SPACE.split(rows)[-1]
        (last[:, 0]).sum().backward()
        assert model.network.categories.weight.grad is not None
        # the bias of the first feature's head matters to the last through what was read alone
        bias = model.network.head.bias.grad
        assert bias is not None
        assert (SPACE.split(bias)[0] != 0).all()


def test_soft_rows_feed_the_next_step() -> None:
    """Softmax, which draws nothing, against the same recursion by hand."""
    model = full()
    context, attributes = given_all(model, (2,))
    rows = model.relaxed(context, 3, Softmax(), attributes=attributes)
    assert rows.shape == (3, 2, SPACE.width)
    soft = SPACE.split(SPACE.softmax(model(rows, context, attributes)))
    for block, expected in zip(SPACE.split(rows), soft, strict=True):
        assert_close(block, expected)
    assert_close(rows[0], rows[2])


def test_the_gradient_of_soft_rows_is_that_of_finite_differences() -> None:
    model, weights = model_of(), torch.randn(SPACE.width, generator=seeded(), dtype=torch.float64)

    def value() -> Tensor:
        return (model.relaxed(None, 1, Softmax())[0] * weights).sum()

    value().backward()
    bias = model.network.head.bias
    with torch.no_grad():
        for i in range(3):
            up, down = (shifted(model, bias, i, h, value) for h in (1e-6, -1e-6))
            assert_close((up - down) / 2e-6, bias.grad[i], rtol=1e-5, atol=1e-8)  # type: ignore


def shifted(model: Any, bias: Tensor, i: int, step: float, value: Any) -> Tensor:
    bias[i] += step
    result = value()
    bias[i] -= step
    return result


# --- the module -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_copies(backbone: str) -> None:
    model, codes = full(backbone), SPACE.enumerate()
    context, attributes = given_all(model, ())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(
            copied.log_prob(codes, context, attributes), model.log_prob(codes, context, attributes)
        )


def test_an_untrained_model_is_about_uniform() -> None:
    torch.manual_seed(0)
    log_probs = AutoregressiveGenerator(SPACE).log_prob(SPACE.enumerate())
    assert_close(log_probs.exp(), torch.full((24,), 1 / 24), atol=0.02, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_sample_compiles_without_graph_breaks(backbone: Any) -> None:
    model = AutoregressiveGenerator(SPACE, backbone=backbone, order=(2, 0, 1), hidden=(8, 8))
    torch.compiler.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(model.sample, backend="aot_eager", fullgraph=True)
        with isolated_seed(1):
            rows = compiled(None, 20)
    with isolated_seed(1):
        assert torch.equal(rows, model.sample(None, 20))


def test_errors() -> None:
    with pytest.raises(
        ValueError,
        match=r"^order must hold each of \('cut', 'colour', 'shape'\) once, got \(0, 0, 1\)$",
    ):
        AutoregressiveGenerator(SPACE, order=(0, 0, 1))
    with pytest.raises(ValueError, match=r"once, got \('cut', 'colour', 'size'\)"):
        AutoregressiveGenerator(SPACE, order=("cut", "colour", "size"))
    with pytest.raises(ValueError, match="backbone must be 'gru' or 'transformer', got 'lstm'"):
        AutoregressiveGenerator(SPACE, backbone="lstm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^hidden needs widths above 0, all equal, got \(8, 9\)$"):
        AutoregressiveGenerator(SPACE, hidden=(8, 9))
    for hidden in ((), (0,), (0, 0)):
        with pytest.raises(ValueError, match="hidden needs widths above 0"):
            AutoregressiveGenerator(SPACE, hidden=hidden)
    model, codes = model_of(), torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match=r"^this model takes no attributes, got \(2,\)$"):
        model.log_prob(codes, None, torch.zeros(2))
    with pytest.raises(ValueError, match=r"takes no context, got \(3,\)"):
        model.log_prob(codes, torch.zeros(3))
    with pytest.raises(
        ValueError, match=r"^this model takes attributes \(\.\.\., 2\), got \(3,\)$"
    ):
        full().log_prob(codes, torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="but none are given"):
        full().log_prob(codes, torch.zeros(3), known=torch.tensor(True))
    with pytest.raises(ValueError, match="feature 'colour' has code 4"):
        model.conditional(torch.tensor([0, 4]))
    with pytest.raises(ValueError, match=r"^a prefix must have fewer than 3 features, got \(3,\)$"):
        model.conditional(codes)
    with pytest.raises(ValueError, match=r"^count must be at least 1, got 0$"):
        model.sample(count=0)
    with pytest.raises(ValueError, match="StraightThrough must have no space, got Categorical"):
        model.relaxed(None, 1, StraightThrough(SPACE))
