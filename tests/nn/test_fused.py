"""`SoftEmbedding.sample`: the plain path's row, law and gradient, without the row."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import (
    CategoricalSpace,
    Entmax,
    GumbelRao,
    GumbelSoftmax,
    LeaveOneOut,
    LowVarianceReinMax,
    ReinMax,
    Relaxation,
    Softmax,
    StraightThrough,
)
from discrete_grad.gradient.gumbel_softmax import _relaxed_row
from discrete_grad.nn import LinearSchedule, SoftEmbedding, _fused
from discrete_grad.sampling import seeded
from tests.goodness import assert_law

SIZES = {
    "ragged": (3, 20, 1, 7),
    "equal": (4,) * 6,
    "alternating": (2, 3, 5) * 4,
    "large": (40, 40, 130),
    "one": (300,),
}
Make = Callable[[CategoricalSpace], Relaxation]
SAME_ROWS: dict[str, Make] = {
    "StraightThrough": StraightThrough,
    "ReinMax": ReinMax,
    "ReinMax(tau=1.3)": lambda space: ReinMax(space, tau=1.3),
    "LowVarianceReinMax": LowVarianceReinMax,
}
# the gradient of LowVarianceReinMax is a constant in the logits
TWICE = {name: make for name, make in SAME_ROWS.items() if name != "LowVarianceReinMax"}
FUSED: dict[str, Make] = SAME_ROWS | {
    "GumbelSoftmax": GumbelSoftmax,
    "GumbelSoftmax(tau=.3)": lambda space: GumbelSoftmax(space, tau=0.3),
}


def setting(
    sizes: tuple[int, ...], *batch: int, dtype: torch.dtype = torch.float64, masked: bool = True
) -> tuple[SoftEmbedding, Tensor, Tensor]:
    """An embedding, logits with some masked, and what comes back to the embedded row."""
    space = CategoricalSpace.from_sizes(sizes)
    torch.manual_seed(0)
    layer = SoftEmbedding(space, 3).to(dtype)
    logits = torch.randn(*batch, space.width, dtype=dtype)
    if masked:
        low = logits < -1
        low[..., torch.tensor(space.offsets)] = False
        logits = logits.masked_fill(low, -torch.inf)
    return layer, logits.requires_grad_(), torch.randn(*batch, len(sizes), 3, dtype=dtype)


@pytest.mark.parametrize("batch", [(), (0,), (5,), (2, 3), (2, 0, 1)])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("make", SAME_ROWS.values(), ids=list(SAME_ROWS))
def test_rows_and_gradients_are_those_of_the_plain_path(
    make: Make, sizes: tuple[int, ...], batch: tuple[int, ...]
) -> None:
    layer, logits, down = setting(sizes, *batch)
    relaxation = make(layer.space)
    fused = layer.sample(logits, relaxation, generator=seeded(1))
    plain = layer(relaxation(logits, generator=seeded(1)))
    assert torch.equal(fused, plain)
    leaves = (logits, layer.weight)
    for mine, expected in zip(
        torch.autograd.grad(fused, leaves, down),
        torch.autograd.grad(plain, leaves, down),
        strict=True,
    ):
        assert_close(mine, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("make", FUSED.values(), ids=list(FUSED))
def test_a_batch_in_many_parts_has_the_gradient_of_a_whole(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, logits, down = setting((3, 20, 20, 40) * 2, 50)
    results = []
    for size in (2**30, 100):
        monkeypatch.setattr("discrete_grad.blocks.algebra._PART", size)
        embedded = layer.sample(logits, make(layer.space), generator=seeded(0))
        results.append((embedded, *torch.autograd.grad(embedded, logits, down)))
    assert torch.equal(results[0][0], results[1][0])
    if "Gumbel" not in type(make(layer.space)).__name__:  # whose noise comes part by part
        assert_close(results[0][1], results[1][1], rtol=0, atol=1e-14)


def test_the_generator_decides_the_noise_of_the_gradient_too() -> None:
    layer, logits, down = setting((3, 4), 20)
    found = []
    for seed in (0, 0, 1):
        embedded = layer.sample(logits, GumbelSoftmax(layer.space), generator=seeded(seed))
        found.append(torch.autograd.grad(embedded, logits, down)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("create_graph", [False, True])
def test_no_two_features_or_parts_of_a_batch_share_their_noise(
    create_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal logits and slopes everywhere: of two equal gradients one would have another's noise."""
    space = CategoricalSpace.from_sizes((3, 2, 3))
    layer = SoftEmbedding(space, 1).double()
    with torch.no_grad():
        layer.weight[5:] = layer.weight[:3]
    monkeypatch.setattr("discrete_grad.blocks.algebra._PART", 60)
    logits = torch.zeros(80, 8, dtype=torch.float64, requires_grad=True)
    embedded = layer.sample(logits, GumbelSoftmax(space), generator=seeded(0))
    (gradient,) = torch.autograd.grad(embedded.sum(), logits, create_graph=create_graph)
    assert len(torch.cat([gradient[:, :3], gradient[:, 5:]]).unique(dim=0)) == 160


def gradient_given_noise(
    pi: Tensor, codes: Tensor, slopes: Tensor, noise: Tensor, tau: float
) -> Tensor:
    """`J_y g / tau` by autograd, from logits and Gumbels whose argmax is the code."""
    space = CategoricalSpace.from_sizes([pi.shape[-1]])
    first = noise.gather(-1, codes.unsqueeze(-1))
    times = (noise / pi + first).scatter(-1, codes.unsqueeze(-1), first)
    logits = pi.log().requires_grad_()
    gumbel = -times.log() - logits.detach()
    assert torch.equal((logits + gumbel).argmax(-1), codes)
    (found,) = torch.autograd.grad(_relaxed_row(space, logits, gumbel, tau), logits, slopes)
    return found


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
def test_the_race_has_the_gradient_of_the_relaxed_row(tau: float) -> None:
    torch.manual_seed(0)
    pi, slopes = torch.rand(200, 5).double().softmax(-1), torch.randn(200, 5).double()
    codes, noise = torch.randint(5, (200,)), torch.empty(200, 5).double().exponential_()
    pull = GumbelSoftmax(tau=tau).pullback()
    assert pull is not None
    mine = pull.gradient(pi.log(), pi, codes, slopes, noise)
    assert_close(mine, gradient_given_noise(pi, codes, slopes, noise, tau), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_the_mean_gradient_of_gumbel_softmax_is_that_of_the_plain_path(tau: float) -> None:
    """Over 200,000 draws, |z| < 5.5: false alarm 4e-8 a number."""
    layer, logits, down = setting((3, 4), masked=True)
    relaxation, many = GumbelSoftmax(layer.space, tau=tau), 200_000
    means, errors = [], []
    for fused in (True, False):
        leaf = logits.detach().expand(many, -1).clone().requires_grad_()
        row = (
            layer.sample(leaf, relaxation, generator=seeded(3))
            if fused
            else layer(relaxation(leaf, generator=seeded(4)))
        )
        (gradient,) = torch.autograd.grad(row, leaf, down.expand(many, -1, -1))
        means.append(gradient.mean(0))
        errors.append(gradient.std(0) / many**0.5)
    z = (means[0] - means[1]) / (errors[0].square() + errors[1].square()).sqrt().clamp_min(1e-12)
    assert z.abs().max() < 5.5


@pytest.mark.parametrize("make", FUSED.values(), ids=list(FUSED))
def test_the_law(make: Make) -> None:
    space = CategoricalSpace.from_sizes((3, 4))
    layer, logits = SoftEmbedding(space, 1), torch.randn(7)
    layer.weight.data = torch.arange(7.0).unsqueeze(-1)
    rows = layer.sample(logits.expand(20_000, -1), make(space), generator=seeded(0))
    assert_law(space, logits, rows.squeeze(-1).long() - torch.tensor(space.offsets))


@pytest.mark.slow
def test_the_law_of_fifty_thousand_categories() -> None:
    """Sorted into 50 classes of equal probability: each count within 5.5 standard deviations."""
    space = CategoricalSpace.from_sizes([50_000])
    logits = torch.randn(50_000, generator=seeded(0)) * 3
    layer = SoftEmbedding(space, 1)
    layer.weight.data = torch.arange(50_000.0).unsqueeze(-1)
    draws = [
        layer.sample(logits.expand(1000, -1), StraightThrough(space), generator=seeded(i))
        for i in range(20)
    ]
    codes = torch.cat(draws).long().flatten()
    classes = (logits.double().softmax(-1).cumsum(-1) * 50).long().clamp_max(49)
    law = torch.zeros(50).double().index_add(0, classes, logits.double().softmax(-1))
    counts = classes[codes].bincount(minlength=50)
    deviation = (len(codes) * law * (1 - law)).sqrt()
    assert ((counts - len(codes) * law).abs() <= 5.5 * deviation).all()


@pytest.mark.parametrize("sizes", [(3, 5), (2, 3) * 3, (20,)])
@pytest.mark.parametrize("make", TWICE.values(), ids=list(TWICE))
def test_second_derivatives_are_those_of_the_plain_path(make: Make, sizes: tuple[int, ...]) -> None:
    layer, logits, down = setting(sizes, 2)
    relaxation, down = make(layer.space), down.requires_grad_()
    found = []
    for fused in (True, False):
        row = (
            layer.sample(logits, relaxation, generator=seeded(5))
            if fused
            else layer(relaxation(logits, generator=seeded(5)))
        )
        (first,) = torch.autograd.grad(row, logits, down, create_graph=True)
        leaves = (logits, layer.weight, down)
        found.append(torch.autograd.grad(first.square().sum(), leaves))
    for mine, expected in zip(*found, strict=True):
        assert_close(mine, expected, rtol=0, atol=1e-12)


def test_the_second_derivative_of_gumbel_softmax_holds_the_noise_fixed() -> None:
    """Its mean is the plain path's, over 200,000 draws, |z| < 5.5: false alarm 4e-8 a number."""
    space = CategoricalSpace.from_sizes([3])
    layer, relaxation, many = SoftEmbedding(space, 2).double(), GumbelSoftmax(space), 200_000
    down, means, errors = torch.randn(2).double(), [], []
    logits = torch.tensor([0.5, -torch.inf, 0.2], dtype=torch.float64)
    for fused in (True, False):
        leaf = logits.expand(many, 3).clone().requires_grad_()
        row = layer.sample(leaf, relaxation) if fused else layer(relaxation(leaf))
        (first,) = torch.autograd.grad(row, leaf, down.expand(many, 1, 2), create_graph=True)
        (second,) = torch.autograd.grad(first[:, 0].sum(), leaf)
        means.append(second.mean(0))
        errors.append(second.std(0) / many**0.5)
    z = (means[0] - means[1]) / (errors[0].square() + errors[1].square()).sqrt().clamp_min(1e-12)
    assert z.abs().max() < 5.5


def test_gumbel_softmax_has_a_gradient_where_a_probability_rounds_to_zero() -> None:
    space = CategoricalSpace.from_sizes([3])
    layer = SoftEmbedding(space, 1)
    layer.weight.data = torch.tensor([[0.0], [1.0], [0.0]])
    logits = torch.tensor([110.0, 0, 0]).expand(1000, 3).clone().requires_grad_()
    relaxation = GumbelSoftmax(space, tau=20.0)
    means = [
        torch.autograd.grad(row.sum(), logits)[0].mean(0)
        for row in (layer.sample(logits, relaxation), layer(relaxation(logits)))
    ]
    assert_close(*means, rtol=0.2, atol=2e-6)


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("cls", [GumbelSoftmax, ReinMax])
def test_a_learned_temperature_gets_its_gradient(
    cls: type[GumbelSoftmax | ReinMax], computed: bool
) -> None:
    class Learned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tau = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

        def forward(self) -> Tensor:
            return self.tau.exp() if computed else self.tau

    layer, logits, down = setting((3, 4), 5, masked=False)
    tau = Learned()
    relaxation = cls(layer.space, tau=tau)
    gradients = [
        torch.autograd.grad(row, tau.tau, down)[0]
        for row in (
            layer.sample(logits, relaxation, generator=seeded(0)),
            layer(relaxation(logits, generator=seeded(0))),
        )
    ]
    assert torch.equal(*gradients)
    assert gradients[0] != 0


def test_logits_made_in_inference_mode() -> None:
    layer, _, _ = setting((3, 4), 5, dtype=torch.float32)
    with torch.inference_mode():
        logits = torch.randn(5, 7)
    layer.sample(logits, ReinMax(layer.space)).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("make", FUSED.values(), ids=list(FUSED))
@pytest.mark.parametrize("sizes", [(3, 5), (2, 3) * 3])
def test_vmap(make: Make, sizes: tuple[int, ...]) -> None:
    layer, logits, down = setting(sizes, 6)
    relaxation = make(layer.space)

    def loss(leaf: Tensor, weight: Tensor, cotangent: Tensor) -> Tensor:
        embedded = torch.func.functional_call(
            Sampled(layer, relaxation), {"layer.weight": weight}, leaf
        )
        return (embedded * cotangent).sum()

    both = torch.func.vmap(
        torch.func.grad(loss, argnums=(0, 1)), in_dims=(0, None, 0), randomness="different"
    )
    to_logits, to_weight = both(logits.detach(), layer.weight.detach(), down)
    assert to_logits.shape == logits.shape
    assert to_weight.shape == (6, *layer.weight.shape)
    assert to_logits.isfinite().all()
    if "Gumbel" not in type(relaxation).__name__:
        rows = zip(logits, to_weight, down, strict=True)
        expected = torch.stack([_exact(layer, relaxation, *row) for row in rows])
        assert_close(to_logits, expected, rtol=0, atol=1e-12)


class Sampled(torch.nn.Module):
    def __init__(self, layer: SoftEmbedding, relaxation: Relaxation) -> None:
        super().__init__()
        self.layer, self.relaxation = layer, relaxation

    def forward(self, logits: Tensor) -> Tensor:
        return self.layer.sample(logits, self.relaxation)


def _exact(
    layer: SoftEmbedding, relaxation: Relaxation, logits: Tensor, to_weight: Tensor, down: Tensor
) -> Tensor:
    """The gradient at the row that the embedding's gradient tells."""
    space = layer.space
    codes = space.argmax(to_weight.abs().sum(-1))
    pi, slopes = space.softmax(logits.detach()), []
    for i, table in enumerate(layer.weight.detach().split(list(space.sizes))):
        slopes.append(table @ down[i])
    parts = zip(
        logits.detach().split(list(space.sizes)),
        pi.split(list(space.sizes)),
        codes,
        slopes,
        strict=True,
    )
    pull = relaxation.pullback()
    assert pull is not None
    return torch.cat([pull.gradient(x, p, c, g, None) for x, p, c, g in parts])


def test_compile_and_export_take_the_plain_path() -> None:
    layer, logits, _ = setting((3, 5), 4, dtype=torch.float32, masked=False)
    sampled = Sampled(layer, ReinMax(layer.space))
    whole = torch.compile(sampled, backend="aot_eager", fullgraph=True)
    torch.manual_seed(0)
    mine = whole(logits)
    torch.manual_seed(0)
    assert_close(mine, sampled(logits))
    program = torch.export.export(sampled, (logits,)).module()
    torch.manual_seed(0)
    assert_close(program(logits), mine)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", FUSED.values(), ids=list(FUSED))
def test_half_precision(make: Make, dtype: torch.dtype) -> None:
    layer, logits, down = setting((3, 20), 6, dtype=dtype)
    embedded = layer.sample(logits, make(layer.space))
    to_logits, to_weight = torch.autograd.grad(embedded, (logits, layer.weight), down)
    assert embedded.dtype == to_logits.dtype == to_weight.dtype == dtype
    assert to_logits.isfinite().all()


@pytest.mark.parametrize(
    "make", [Softmax, GumbelRao, Entmax, lambda space: GumbelSoftmax(space, hard=False)]
)
def test_every_other_relaxation_takes_the_plain_path(make: Make) -> None:
    layer, logits, down = setting((3, 20), 6)
    relaxation = make(layer.space)
    mine = layer.sample(logits, relaxation, generator=seeded(0))
    plain = layer(relaxation(logits, generator=seeded(0)))
    assert torch.equal(mine, plain)
    assert torch.equal(*(torch.autograd.grad(x, logits, down)[0] for x in (mine, plain)))


def test_a_schedule_is_asked_at_the_call() -> None:
    layer, logits, down = setting((3, 4), 5)
    tau = LinearSchedule(2.0, 0.5, steps=1)
    relaxation = ReinMax(layer.space, tau=tau)
    row = layer.sample(logits, relaxation, generator=seeded(0))
    tau.advance()
    (late,) = torch.autograd.grad(row, logits, down)
    fixed = ReinMax(layer.space, tau=2.0)
    row = layer.sample(logits, fixed, generator=seeded(0))
    assert_close(late, torch.autograd.grad(row, logits, down)[0])


def test_the_embedding_may_be_frozen_and_logits_constant() -> None:
    layer, logits, down = setting((3, 4), 5)
    layer.requires_grad_(False)
    (to_logits,) = torch.autograd.grad(layer.sample(logits, ReinMax(layer.space)), logits, down)
    assert to_logits.shape == logits.shape
    assert not layer.sample(logits.detach(), ReinMax(layer.space)).requires_grad


def test_what_does_not_fit_is_told() -> None:
    layer, logits, _ = setting((3, 4), 5)
    with pytest.raises(ValueError, match=r"relaxation is for CategoricalSpace\(a: 2\)"):
        layer.sample(logits, ReinMax(CategoricalSpace({"a": 2})))
    with pytest.raises(ValueError, match="without a space is for one feature"):
        layer.sample(logits, ReinMax())
    with pytest.raises(TypeError, match="sample needs a relaxation, got LeaveOneOut"):
        layer.sample(logits, LeaveOneOut(layer.space))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got \(\)"):
        layer.sample(torch.tensor(1.0), ReinMax(layer.space))
    with pytest.raises(ValueError, match=r"logits must be \(\.\.\., 7\), got \(5, 6\)"):
        layer.sample(logits[:, 1:], ReinMax(layer.space))
    bad = logits.detach().index_fill(1, torch.tensor([4]), torch.nan)
    with pytest.raises(ValueError, match="feature 'x1' has a logit of nan"):
        layer.sample(bad, ReinMax(layer.space))


def test_one_feature_needs_no_space() -> None:
    layer, logits, _ = setting((4,), 5)
    mine = layer.sample(logits, ReinMax(), generator=seeded(0))
    assert torch.equal(mine, layer.sample(logits, ReinMax(layer.space), generator=seeded(0)))


# the methods share what they do to a layout: each on one, and one on the other
@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        *((make, SIZES["ragged"]) for make in (StraightThrough, ReinMax, GumbelSoftmax)),
        (ReinMax, (2, 3, 2, 3)),
    ],
)
def test_one_compilation_serves_every_batch_size(make: Make, sizes: tuple[int, ...]) -> None:
    layer, _, _ = setting(sizes, dtype=torch.float32)
    relaxation = make(layer.space)
    torch.compiler.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        whole = torch.compile(
            lambda logits: layer(relaxation(logits)),
            backend="aot_eager",
            fullgraph=True,
            dynamic=True,
        )
        for batch in (5, 64, 33):
            logits = torch.randn(batch, layer.space.width, requires_grad=True)
            embedded = whole(logits)
            (gradient,) = torch.autograd.grad(embedded.square().sum(), logits)
            assert embedded.shape == (batch, len(sizes), 3)
            assert gradient.isfinite().all()


def test_products_get_no_expanded_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a sum has strides of 0, with which a batched product is several times slower."""
    seen, by_parts = [], _fused._by_parts

    def recorded(logits: Tensor, weight: Tensor, codes: Tensor, grad: Tensor, rule: Any) -> Tensor:
        seen.append(grad.is_contiguous())
        return by_parts(logits, weight, codes, grad, rule)

    monkeypatch.setattr(_fused, "_by_parts", recorded)
    space = CategoricalSpace.from_sizes((3, 3))
    leaf = torch.zeros(4, 6, requires_grad=True)
    SoftEmbedding(space, 2).sample(leaf, StraightThrough(space)).sum().backward()
    assert seen == [True]


@pytest.mark.parametrize("wide", [torch.float64, torch.bfloat16])
def test_the_row_has_the_dtype_of_the_embedding(wide: torch.dtype) -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    layer, logits = SoftEmbedding(space, 2), torch.zeros(4, 5, dtype=wide, requires_grad=True)
    for method in (StraightThrough(space), ReinMax(space)):
        found = layer.sample(logits, method)
        assert found.dtype == torch.float32
        assert torch.autograd.grad(found.sum(), logits)[0].dtype == wide
        rows = torch.func.vmap(lambda x, m=method: layer.sample(x, m), randomness="different")(
            logits
        )
        assert (rows.dtype, rows.shape) == (torch.float32, (4, 2, 2))
