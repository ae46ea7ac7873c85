"""A head over very many categories: what the plain path gives, without the logits."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from discrete_grad import (
    CategoricalSpace,
    GumbelSoftmax,
    ReinMax,
    Relaxation,
    Softmax,
    StraightThrough,
)
from discrete_grad.nn import ChunkedHead, ConstantSchedule, SoftEmbedding
from discrete_grad.nn._chunked import embed_chunked, expect_chunked
from discrete_grad.sampling import isolated_seed, seeded
from tests.goodness import assert_law

HARD = (StraightThrough(), ReinMax())
ALL = (*HARD, Softmax(), Softmax(tau=0.4))
NAMES = ("latent", "head", "bias", "weight")

every = pytest.mark.parametrize(
    "relaxation",
    ALL,
    ids=lambda r: f"{type(r).__name__}{r.tau}" if isinstance(r, Softmax) else type(r).__name__,
)
every_hard = pytest.mark.parametrize("relaxation", HARD, ids=lambda r: type(r).__name__)


def make(
    size: int,
    relaxation: Relaxation = HARD[0],
    *,
    chunk: int = 3,
    dtype: torch.dtype = torch.float64,
    masked: bool = False,
    width: int = 4,
    dim: int = 5,
) -> ChunkedHead:
    """A layer with logits of some size; if masked, every other chunk of 2 is forbidden."""
    torch.manual_seed(size)
    layer = ChunkedHead(
        width, SoftEmbedding(CategoricalSpace({"item": size}), dim), relaxation, chunk=chunk
    )
    with torch.no_grad():
        layer.linear.weight.normal_()
        layer.linear.bias.normal_()
        if masked:
            layer.linear.bias[torch.arange(size) // 2 % 2 == 0] = -torch.inf
    return layer.to(dtype)


def latents(*shape: int, dtype: torch.dtype = torch.float64, width: int = 4) -> Tensor:
    return torch.randn(*shape, width, generator=seeded(1), dtype=dtype).requires_grad_()


def plain(layer: ChunkedHead, latent: Tensor, generator: torch.Generator | None = None) -> Tensor:
    row = layer.relaxation(layer.linear(latent), generator=generator)
    return row @ layer.weight


def tensors(layer: ChunkedHead, latent: Tensor) -> tuple[Tensor, ...]:
    return latent, layer.linear.weight, layer.linear.bias, layer.weight


# --- the plain path -------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
@pytest.mark.parametrize("size", [1, 3, 4, 7, 200])
def test_values_and_gradients_are_those_of_the_plain_path(
    relaxation: Relaxation, masked: bool, chunk: int, size: int
) -> None:
    layer = make(size, relaxation, chunk=chunk, masked=masked and size > 2)
    latent = latents(2, 9)
    found, expected = layer(latent, generator=seeded(5)), plain(layer, latent, seeded(5))
    assert_close(found, expected)
    down = torch.randn(found.shape, generator=seeded(2), dtype=found.dtype)
    wanted = torch.autograd.grad(expected, tensors(layer, latent), down)
    grads = torch.autograd.grad(found, tensors(layer, latent), down)
    for name, a, b in zip(NAMES, grads, wanted, strict=True):
        assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")


@every
@pytest.mark.parametrize("asked", range(1, 16))
def test_any_part_may_be_frozen(relaxation: Relaxation, asked: int) -> None:
    layer, latent = make(7, relaxation), latents(9)
    everything = tensors(layer, latent)
    down = torch.randn(9, 5, generator=seeded(2), dtype=torch.float64)
    all_grads = torch.autograd.grad(layer(latent, generator=seeded(5)), everything, down)
    for i, tensor in enumerate(everything):
        tensor.requires_grad_(bool(asked >> i & 1))
    layer(latent, generator=seeded(5)).backward(down)
    for tensor, expected in zip(everything, all_grads, strict=True):
        if tensor.requires_grad:
            assert_close(tensor.grad, expected)
        else:
            assert tensor.grad is None


def test_gradcheck_of_the_expected_embedding() -> None:
    layer, latent = make(7, Softmax()), latents(2)
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def expected(latent: Tensor, head: Tensor, bias: Tensor, weight: Tensor, tau: Tensor) -> Tensor:
        return expect_chunked(layer.space, latent, weight, head=head, bias=bias, tau=tau, chunk=3)

    assert torch.autograd.gradcheck(expected, (*tensors(layer, latent), tau))


def test_schedule_and_absent_bias() -> None:
    layer, latent = make(7, Softmax(tau=ConstantSchedule(0.4))), latents(2)
    other = make(7, Softmax(tau=0.4))
    assert_close(layer(latent), other(latent))
    head, zeros = layer.linear.weight, torch.zeros(7, dtype=torch.float64)
    u = torch.rand(2, 1, generator=seeded(0), dtype=torch.float64)
    for call in (
        lambda bias: expect_chunked(layer.space, latent, layer.weight, head=head, bias=bias),
        lambda bias: embed_chunked(layer.space, latent, layer.weight, u, head=head, bias=bias)[0],
    ):
        assert torch.equal(call(None), call(zeros))


@every
def test_large_logits(relaxation: Relaxation) -> None:
    layer, latent = make(50, relaxation, dtype=torch.float32), latents(6, dtype=torch.float32)
    with torch.no_grad():
        layer.linear.weight.mul_(1e4)
    found, expected = layer(latent, generator=seeded(5)), plain(layer, latent, seeded(5))
    assert_close(found, expected)
    for a in torch.autograd.grad(found.sum(), tensors(layer, latent)):
        assert a.isfinite().all()


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1, 300])  # of a single category, its sum is of 400 terms
def test_half_precision_is_computed_in_single(
    relaxation: Relaxation, dtype: torch.dtype, size: int
) -> None:
    half = make(size, relaxation, dtype=dtype)
    single, latent = copy.deepcopy(half).float(), latents(400, dtype=dtype)
    wide = latent.detach().float().requires_grad_()
    found, expected = half(latent, generator=seeded(5)), single(wide, generator=seeded(5))
    assert found.dtype == dtype
    assert torch.equal(found, expected.to(dtype))
    grads = torch.autograd.grad(found.sum(), tensors(half, latent))
    wanted = torch.autograd.grad(expected.sum(), tensors(single, wide))
    for name, a, b in zip(NAMES, grads, wanted, strict=True):
        assert a.dtype == dtype, name
        assert_close(a.float(), b, rtol=0.02, atol=0.02)


# --- what is drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
@pytest.mark.parametrize("masked", [False, True])
def test_law(chunk: int, masked: bool) -> None:
    layer, latent = make(11, chunk=chunk, masked=masked, dtype=torch.float32), latents(1).float()
    _, codes = layer.draw(latent.expand(200_000, -1), generator=seeded(chunk))
    assert_law(layer.space, layer.linear(latent)[0], codes)


@pytest.mark.slow
def test_law_of_many_categories() -> None:
    layer, latent = make(3000, chunk=128, dtype=torch.float32), latents(1).float()
    _, codes = layer.draw(latent.expand(200_000, -1), generator=seeded(3))
    assert_law(layer.space, layer.linear(latent)[0], codes)


@every_hard
def test_codes_are_those_of_the_embedded_rows_and_of_the_generator(relaxation: Relaxation) -> None:
    layer, latent = make(50, relaxation), latents(2, 40)
    state = torch.get_rng_state()
    embedded, codes = layer.draw(latent, generator=seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert codes.shape == (2, 40, 1)
    assert codes.unique().numel() > 5
    assert torch.equal(embedded, layer.weight[codes.squeeze(-1)])
    assert torch.equal(layer(latent, generator=seeded(3)), embedded)
    assert torch.equal(layer.draw(latent, generator=seeded(3))[1], codes)
    layer.chunk = 100
    assert torch.equal(layer.draw(latent, generator=seeded(3))[1], codes)


@pytest.mark.parametrize("value", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("only", [0, 4, 9])
def test_a_forbidden_category_is_never_drawn(value: float, only: int) -> None:
    layer, latent = make(10), latents(5)
    with torch.no_grad():
        layer.linear.bias.fill_(-torch.inf)[only] = 0
    uniform = torch.full((5, 1), value, dtype=torch.float64)
    linear = layer.linear
    _, codes = embed_chunked(
        layer.space, latent, layer.weight, uniform, head=linear.weight, bias=linear.bias, chunk=3
    )
    assert codes.eq(only).all()


# --- memory ---------------------------------------------------------------------------------------


class Limit(TorchDispatchMode):
    """Refuses a tensor that lies in more bytes than allowed."""

    def __init__(self, allowed: int) -> None:
        super().__init__()
        self.allowed = allowed

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes() > self.allowed:
                raise MemoryError(f"{func}: {tuple(tensor.shape)}")
        return result


@every
def test_logits_are_never_whole(relaxation: Relaxation) -> None:
    size, batch = 100_000, 64
    layer = make(size, relaxation, chunk=4096, dtype=torch.float32, width=8, dim=8)
    latent = latents(batch, dtype=torch.float32, width=8)
    with Limit(size * batch):  # a quarter of the logits
        layer(latent).sum().backward()
    with pytest.raises(MemoryError), Limit(size * batch):
        plain(layer, latent)


@every
def test_what_is_kept_for_the_backward_pass(relaxation: Relaxation) -> None:
    layer, latent = make(1000, relaxation), latents(6)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(latent)
    owned = {layer.weight.data_ptr(), layer.linear.weight.data_ptr()}
    sizes = [t.numel() for t in kept if t.data_ptr() not in owned]
    assert max(sizes) <= 1000  # the bias


# --- edges ----------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,)])
def test_shapes(relaxation: Relaxation, shape: tuple[int, ...]) -> None:
    layer, latent = make(7, relaxation), latents(*shape)
    found = layer(latent)
    assert found.shape == (*shape, 5)
    found.sum().backward()
    for tensor in tensors(layer, latent):
        assert tensor.grad is not None
        assert tensor.grad.shape == tensor.shape
        assert tensor.grad.isfinite().all()


@every
def test_non_contiguous(relaxation: Relaxation) -> None:
    layer, latent = make(7, relaxation), latents(6)
    expected = layer(latent, generator=seeded(0))
    turned = latent.t().contiguous().t()
    assert_close(layer(turned, generator=seeded(0)), expected)
    down = torch.randn(5, 6, generator=seeded(2), dtype=torch.float64).t()
    a = torch.autograd.grad(expected, latent, down)
    b = torch.autograd.grad(layer(latent, generator=seeded(0)), latent, down.contiguous())
    assert_close(a, b)


@every
def test_result_may_be_changed_in_place(relaxation: Relaxation) -> None:
    layer, latent = make(7, relaxation), latents(6)
    layer(latent).mul_(2).sum().backward()


@every
def test_a_second_derivative_is_refused(relaxation: Relaxation) -> None:
    layer, latent = make(7, relaxation), latents(6)
    (grad,) = torch.autograd.grad(layer(latent).square().sum(), latent, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@every
def test_torch_func_is_refused(relaxation: Relaxation) -> None:
    layer, latent = make(7, relaxation), latents(6).detach()
    with pytest.raises(RuntimeError, match=r"knows no torch\.func; SoftEmbedding\.sample does"):
        torch.func.grad(lambda x: layer(x).sum())(latent)
    with pytest.raises(RuntimeError, match=r"knows no torch\.func"):
        torch.vmap(layer, randomness="different")(latent)


@every
def test_autocast_is_computed_in_single(relaxation: Relaxation) -> None:
    layer = make(50, relaxation, dtype=torch.float32)
    latent = latents(6, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(latent, generator=seeded(0))
    expected = layer(latent.float(), generator=seeded(0))
    assert torch.equal(found, expected)
    found.sum().backward()
    assert latent.grad is not None


def test_state_and_copies() -> None:
    embedding = SoftEmbedding(CategoricalSpace({"item": 7}), 5)
    layer = ChunkedHead(4, embedding, ReinMax(), chunk=3)
    assert layer.weight is embedding.weight
    assert set(layer.state_dict()) == {"weight", "linear.weight", "linear.bias"}
    latent = latents(6, dtype=torch.float32)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(latent, generator=seeded(0)), layer(latent, generator=seeded(0)))
    assert "item: 7" in repr(layer)
    assert not ChunkedHead(4, torch.zeros(7, 2), ReinMax()).weight.requires_grad
    given = nn.Parameter(torch.zeros(7, 2))
    assert ChunkedHead(4, given, ReinMax()).weight is given


@pytest.mark.parametrize("relaxation", [GumbelSoftmax(), ReinMax(tau=2.0)])
def test_other_relaxations(relaxation: Relaxation) -> None:
    supported = r"StraightThrough\(\), ReinMax\(\) at tau = 1 and Softmax\(tau=...\), got"
    with pytest.raises(ValueError, match=f"{supported} {type(relaxation).__name__}"):
        ChunkedHead(4, torch.zeros(7, 2), relaxation)


def test_arguments_that_do_not_fit() -> None:
    layer = make(7)
    with pytest.raises(ValueError, match=r"item: 7.*latent \(2, 3\), head \(7, 4\)"):
        layer(torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"latent must be floating, got torch\.int64"):
        layer(torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"chunk of at least 1, got .*item: 7.* and 0"):
        make(7, chunk=0)
    for embedding, got in ((torch.zeros(7, 2, 1), r"\(7, 2, 1\)"), (None, "<class 'NoneType'>")):
        with pytest.raises(ValueError, match=rf"a weight \(K, dim\), got {got}$"):
            ChunkedHead(4, embedding, HARD[0])
    with pytest.raises(ValueError, match="a space of one feature"):
        ChunkedHead(4, SoftEmbedding(CategoricalSpace.from_sizes((2, 3)), 2), ReinMax())
    with pytest.raises(ValueError, match=r"the relaxation is for .*x0: 3.*, not for .*item: 7"):
        make(7, ReinMax(CategoricalSpace.from_sizes((3,))))
    with pytest.raises(ValueError, match=r"the relaxation is for .*x0: 3, x1: 4"):  # as wide
        make(7, ReinMax(CategoricalSpace.from_sizes((3, 4))))
    with pytest.raises(ValueError, match="Softmax draws no category"):
        make(7, Softmax()).draw(latents(2))
    arguments, head = (layer.space, latents(2), layer.weight), layer.linear.weight
    with pytest.raises(ValueError, match=r"uniform must be \(2, 1\), got \(3, 1\)"):
        embed_chunked(*arguments, torch.zeros(3, 1).double(), head=head)
    with pytest.raises(ValueError, match=r"form must be one of \('straight_through', .*got 'x'"):
        embed_chunked(*arguments, torch.zeros(2, 1).double(), head=head, form="x")


@every
@pytest.mark.parametrize(
    ("value", "where", "fault"),
    [
        (torch.nan, slice(4, 5), "a logit of nan"),
        (torch.inf, slice(4, 5), "a logit of inf"),
        (torch.inf, slice(0, 1), "a logit of inf"),
        (-torch.inf, slice(None), "every category masked"),
    ],
)
def test_logits_that_are_no_law(
    relaxation: Relaxation, value: float, where: slice, fault: str
) -> None:
    layer = make(7, relaxation)
    with torch.no_grad():
        layer.linear.bias[where] = value
    with pytest.raises(ValueError, match=f"feature 'item' has {fault}"):
        layer(latents(2))


@every
def test_a_program_draws_and_computes_the_same(
    relaxation: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, results = make(17, relaxation, masked=True), []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda answer=compiling: answer)
        latent = latents(6)
        embedded = layer(latent, generator=seeded(3))
        gradients = torch.autograd.grad(embedded.square().sum(), [latent, *layer.parameters()])
        results.append([embedded, *gradients])
    for eager, found in zip(*results, strict=True):
        assert_close(found, eager)


@pytest.mark.slow
@pytest.mark.parametrize("relaxation", ALL[:3], ids=lambda r: type(r).__name__)
def test_compile_without_graph_breaks(relaxation: Relaxation) -> None:
    torch.compiler.reset()
    with isolated_seed(0):
        embedding = SoftEmbedding(CategoricalSpace({"item": 20}), 4)
        layer = ChunkedHead(3, embedding, relaxation, chunk=12)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    latent, results = torch.randn(6, 3, generator=seeded(1)), []
    for call in (layer, compiled):
        leaf = latent.clone().requires_grad_()
        layer.zero_grad()
        with isolated_seed(2):
            embedded = call(leaf)
        embedded.square().sum().backward()
        gradients = [p.grad.clone() for p in layer.parameters()]
        results.append([embedded.detach(), leaf.grad, *gradients])
    for one, other in zip(*results, strict=True):
        assert_close(other, one)
