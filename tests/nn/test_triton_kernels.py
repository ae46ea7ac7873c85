"""Triton's kernels, on a GPU where there is one and through Triton's interpreter elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GumbelSoftmax, ReinMax, Relaxation, StraightThrough
from discrete_grad.gradient.base import ClosedForm
from discrete_grad.nn import SoftEmbedding
from discrete_grad.nn import _triton_kernels as triton_kernels
from discrete_grad.nn._fused import embed_drawn
from discrete_grad.nn._triton_kernels import (
    _gumbels,
    _sample_softmax,
    available,
    draw,
    logits_gradient,
)
from discrete_grad.sampling import random_indices
from tests.goodness import FALSE_ALARM, assert_law, g_test

pytest.importorskip("triton")

# Triton reads it when it is imported, so the interpreter needs a process of its own
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
RUNS = INTERPRETED or DEVICE == "cuda"
pytestmark = [
    # numpy's, of the lanes of a tile that lie beyond the batch and are not stored
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    # Triton's compiler announces a default of its next version
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
]
runs_kernels = pytest.mark.skipif(not RUNS, reason="neither a GPU nor the interpreter")

SPACE = CategoricalSpace.from_sizes((3, 1, 2, 33, 2, 70))
METHODS: tuple[ClosedForm, ...] = get_args(ClosedForm)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.slow
@pytest.mark.skipif(RUNS, reason="the kernels run in this process")
def test_through_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", __file__]
    done = subprocess.run(
        command,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("method", ["", *METHODS])
def test_compiles_for_a_gpu_that_is_not_there(
    method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    if method:
        kernel = triton_kernels._gradient_kernel
        fixed = {"METHOD": method, "PRECISION": "ieee", "ONE_TILE": False, "ROWS": 32, "CHUNK": 16}
    else:
        kernel, fixed = triton_kernels._draw_kernel, {"WANTED": "normaliser", "ITEMS": 16}
    fixed["BLOCK"] = 16
    pointers = dict.fromkeys(("logits", "weight", "grad", "result"), "*bf16")
    pointers |= {"codes": "*i64", "seed": "*i64", "offsets": "*i32", "features": "*i32"}
    types = pointers | {"normaliser": "*fp32", "noise": "*fp32", "tau": "fp32"}
    types |= dict.fromkeys(fixed, "constexpr")
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    compiled = triton.compile(ASTSource(kernel, signature, fixed), target=GPUTarget("cuda", 80, 32))
    assert len(compiled.asm["cubin"]) > 1000


@pytest.fixture
def large_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's time goes by the number of tiles."""
    if INTERPRETED:
        monkeypatch.setattr(triton_kernels, "_TILE", 2**17)
        monkeypatch.setattr(triton_kernels, "_ROWS", 64)


@pytest.fixture(params=["long", "short"])
def both_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles as they are, and tiles shorter than the longest features of the space."""
    if request.param == "short":
        monkeypatch.setattr(triton_kernels, "_DRAWN", (4, 16))
        monkeypatch.setattr(triton_kernels, "_PULLED", (16, 16))
        monkeypatch.setattr(triton_kernels, "_CHUNK", 16)


def logits_of(space: CategoricalSpace, *shape: int, masked: bool = True, seed: int = 0) -> Tensor:
    """Random logits; of every feature of 3 categories or more, some are masked."""
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, space.width, generator=source)
    for start, size in zip(space.offsets, space.sizes, strict=True):
        if masked and size > 2:
            logits[..., start + 1 : start + size - 1 : 4] = -torch.inf
    return logits.to(DEVICE)


# --- draws ----------------------------------------------------------------------------------------


@runs_kernels
@pytest.mark.usefixtures("large_tiles", "both_tiles")
def test_law_of_every_feature() -> None:
    logits = logits_of(SPACE)
    codes = draw(SPACE, logits.expand(8000, -1), 3)
    for law, column in zip(SPACE.split(SPACE.softmax(logits)), codes.unbind(-1), strict=True):
        counts = column.cpu().bincount(minlength=len(law))
        assert g_test(counts, law.cpu()) > FALSE_ALARM


@runs_kernels
@pytest.mark.usefixtures("large_tiles")
def test_law_of_the_row() -> None:
    space = CategoricalSpace.from_sizes((3, 2, 5, 3))
    logits = logits_of(space, masked=False)
    assert_law(space, logits.cpu(), draw(space, logits.expand(16000, -1), 5).cpu())


@runs_kernels
@pytest.mark.usefixtures("large_tiles")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_masked_category_is_never_drawn(dtype: torch.dtype) -> None:
    logits = logits_of(SPACE).to(dtype)
    codes = draw(SPACE, logits.expand(500, -1), 6)
    assert logits[SPACE.columns(codes)].isfinite().all()


@runs_kernels
@pytest.mark.usefixtures("both_tiles")
def test_codes_and_normaliser() -> None:
    logits = logits_of(SPACE, 2, 5)
    codes, normaliser = _sample_softmax(SPACE, logits, 7)
    noise = _gumbels(SPACE, logits, 7)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, SPACE.argmax(logits + noise))
    assert torch.equal(codes, draw(SPACE, logits, 7))
    expected = [part.logsumexp(-1) for part in SPACE.split(logits)]
    assert_close(normaliser, torch.stack(expected, -1))


@runs_kernels
@pytest.mark.usefixtures("both_tiles")
@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_a_large_constant_changes_no_draw_and_no_gradient(offset: float) -> None:
    # multiples of 1/8, which float32 has beside a million; the largest of each feature is 0
    near = (logits_of(SPACE, 8) * 8).round() / 8
    near = SPACE.join([block - block.amax(-1, keepdim=True) for block in SPACE.blocks(near)])
    codes = draw(SPACE, near, 7)
    assert torch.equal(draw(SPACE, near + offset, 7), codes)
    weight = torch.randn(SPACE.width, 5, device=DEVICE)
    grad = torch.randn(8, SPACE.num_features, 5, device=DEVICE)
    found, expected = (
        logits_gradient(SPACE, logits, weight, codes, grad, "gumbel_softmax", tau=0.5, seed=7)
        for logits in (near + offset, near)
    )
    assert_close(found, expected)


@runs_kernels
@pytest.mark.usefixtures("large_tiles")
def test_gumbels_follow_their_law() -> None:
    noise = _gumbels(SPACE, torch.zeros(620, SPACE.width, device=DEVICE), 8).cpu().double()
    assert noise.isfinite().all()
    assert len(noise.unique()) > 0.99 * noise.numel()  # no number of a counter is used twice
    cells = (torch.exp(-torch.exp(-noise)) * 50).long().flatten()
    assert g_test(cells.bincount(minlength=50), torch.full((50,), 0.02)) > FALSE_ALARM


@runs_kernels
def test_the_seed_decides() -> None:
    logits = logits_of(SPACE, 6, masked=False)
    seeds = [0, 1, 2**31, 2**32, 2**62 - 1]
    drawn = [draw(SPACE, logits, seed) for seed in seeds]
    for i, seed in enumerate(seeds):
        assert torch.equal(drawn[i], draw(SPACE, logits, torch.tensor(seed, device=DEVICE)))
        assert not any(torch.equal(drawn[i], other) for other in drawn[:i])
    # a row does not see the others
    assert torch.equal(draw(SPACE, logits[:2], 0), drawn[0][:2])


# --- gradients ------------------------------------------------------------------------------------


def problem(
    *batch: int, dim: int = 5, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, embedding, codes and the gradient in the embedded row."""
    source, logits = torch.Generator().manual_seed(1), logits_of(SPACE, *batch).to(dtype)
    weight = torch.randn(SPACE.width, dim, generator=source).to(DEVICE, dtype)
    grad = torch.randn(*batch, SPACE.num_features, dim, generator=source).to(DEVICE, dtype)
    return logits, weight, draw(SPACE, logits, 9), grad


def reference(
    logits: Tensor, weight: Tensor, codes: Tensor, grad: Tensor, method: ClosedForm, tau: float = 1
) -> Tensor:
    """What the library itself computes, in float64 with the kernels' own Gumbel noise."""
    noise = _gumbels(SPACE, logits, 9).double()
    logits, weight, grad = (tensor.double() for tensor in (logits, weight, grad))
    wanted = logits.clone().requires_grad_()
    if method == "gumbel_softmax":
        slopes = torch.cat(
            [
                down @ table.t()
                for down, table in zip(grad.unbind(-2), weight.split(SPACE.sizes), strict=True)
            ],
            -1,
        )
        soft = SPACE.softmax((wanted + noise) / tau)
        return torch.autograd.grad(soft, wanted, slopes)[0]
    pullback = {"straight_through": StraightThrough(), "reinmax": ReinMax()}[method].pullback()
    assert pullback is not None
    embedded = embed_drawn(SPACE, wanted, weight, codes, pullback)
    return torch.autograd.grad(embedded, wanted, grad)[0]


@runs_kernels
@pytest.mark.usefixtures("both_tiles")
@pytest.mark.parametrize("method", METHODS)
def test_gradient(method: ClosedForm) -> None:
    tau = 0.7 if method == "gumbel_softmax" else 1.0
    # more rows than a tile has; a short one takes the embedding in two chunks
    given = problem(33, dim=20)
    found = logits_gradient(SPACE, *given, method, tau=tau, seed=9)
    expected = reference(*given, method, tau).float()
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found[given[0] == -torch.inf] == 0).all()


@runs_kernels
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradient_in_half_precision(method: ClosedForm, dtype: torch.dtype) -> None:
    given = problem(3, dtype=dtype)
    found = logits_gradient(SPACE, *given, method, seed=9)
    assert found.dtype == dtype
    # summed in float32, so only the result is rounded
    eps = torch.finfo(dtype).eps
    assert_close(found.double(), reference(*given, method), rtol=eps, atol=1e-5)


@runs_kernels
@pytest.mark.parametrize("method", METHODS)
def test_no_gradient_where_the_law_is_one_category(method: ClosedForm) -> None:
    space = CategoricalSpace.from_sizes((3, 1))
    logits = torch.tensor([[-torch.inf, 2.0, -torch.inf, 5.0]], device=DEVICE)
    codes = draw(space, logits, 0)
    assert codes.tolist() == [[1, 0]]
    weight, grad = torch.randn(4, 2, device=DEVICE), torch.randn(1, 2, 2, device=DEVICE)
    found = logits_gradient(space, logits, weight, codes, grad, method)
    assert torch.equal(found, torch.zeros_like(found))


# --- shapes ---------------------------------------------------------------------------------------


@runs_kernels
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 1), (1,), (2, 3)])
def test_batches(shape: tuple[int, ...]) -> None:
    logits, weight, codes, grad = problem(*shape, dim=2)
    assert codes.shape == (*shape, SPACE.num_features)
    found = logits_gradient(SPACE, logits, weight, codes, grad, "reinmax")
    assert found.shape == logits.shape
    flat = logits.reshape(-1, SPACE.width)
    assert torch.equal(draw(SPACE, flat, 9).view(codes.shape), codes)


@runs_kernels
def test_non_contiguous() -> None:
    logits, weight, codes, grad = problem(3, dim=2)
    expected = logits_gradient(SPACE, logits, weight, codes, grad, "reinmax")
    crooked = [t.transpose(0, -1).contiguous().transpose(0, -1) for t in (logits, codes, grad)]
    assert not any(tensor.is_contiguous() for tensor in crooked)
    assert torch.equal(draw(SPACE, crooked[0], 9), codes)
    table = weight.t().contiguous().t()
    found = logits_gradient(SPACE, crooked[0], table, *crooked[1:], "reinmax")
    assert torch.equal(found, expected)
    summed = torch.ones(()).to(DEVICE).expand(grad.shape)  # as sum().backward() gives it
    found = logits_gradient(SPACE, logits, weight, codes, summed, "reinmax")
    expected = logits_gradient(SPACE, logits, weight, codes, summed.contiguous(), "reinmax")
    assert torch.equal(found, expected)


@runs_kernels
def test_what_does_not_fit() -> None:
    logits, weight, codes, grad = problem(3, dim=2)
    with pytest.raises(TypeError, match=r"float32, bfloat16 and float16, got torch.float64"):
        draw(SPACE, logits.double(), 0)
    with pytest.raises(ValueError, match=r"logits must be \(..., 111\)"):
        draw(SPACE, logits[:, 1:], 0)
    with pytest.raises(ValueError, match=r"weight must be \(111, dim\)"):
        logits_gradient(SPACE, logits, weight[1:], codes, grad, "reinmax")
    with pytest.raises(ValueError, match=r"codes must be \(3, 6\) and grad .* got \(2, 6\)"):
        logits_gradient(SPACE, logits, weight, codes[1:], grad, "reinmax")
    with pytest.raises(ValueError, match=r"grad \(3, 6, 2\), got \(3, 6\) and \(3, 6, 1\)"):
        logits_gradient(SPACE, logits, weight, codes, grad[..., 1:], "reinmax")
    for method, tau in (("darn", 1.0), ("gumbel_softmax", 0.0), ("reinmax", 0.5)):
        with pytest.raises(ValueError, match=f"no such method, or no such tau of it: '{method}'"):
            logits_gradient(SPACE, logits, weight, codes, grad, method, tau=tau)  # type: ignore[arg-type]


def test_available() -> None:
    assert not available(torch.zeros(1))
    if DEVICE == "cuda":
        assert available(torch.zeros(1, device=DEVICE))
        assert not available(torch.zeros(1, device=DEVICE, dtype=torch.float64))


@runs_kernels
@pytest.mark.parametrize(
    ("relaxation", "method"),
    [
        (StraightThrough(SPACE), "straight_through"),
        (ReinMax(SPACE), "reinmax"),
        (GumbelSoftmax(SPACE, tau=0.5), "gumbel_softmax"),
    ],
)
def test_the_embedding_uses_them_where_they_are_asked_for(
    relaxation: Relaxation, method: ClosedForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_kernels, "available", lambda tensor: True)
    torch.manual_seed(0)
    layer = SoftEmbedding(SPACE, 3).to(DEVICE)
    logits = torch.randn(5, SPACE.width, device=DEVICE, requires_grad=True)
    down = torch.randn(5, SPACE.num_features, 3, device=DEVICE)
    source = torch.Generator().manual_seed(7)
    embedded = layer.sample(logits, relaxation, generator=source, kernels=True)
    seed = int(random_indices(2**62, (), generator=source.manual_seed(7)))
    codes = draw(SPACE, logits, seed)
    assert torch.equal(embedded, layer(codes))
    (mine,) = torch.autograd.grad(embedded, logits, down)
    tau = getattr(relaxation, "tau", 1.0)
    expected = logits_gradient(SPACE, logits, layer.weight, codes, down, method, tau=tau, seed=seed)
    assert torch.equal(mine, expected)


@runs_kernels
def test_what_they_do_not_know_goes_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernels, "available", lambda tensor: True)
    monkeypatch.setattr(triton_kernels, "draw", None)
    layer, logits = SoftEmbedding(SPACE, 3), torch.randn(5, SPACE.width)
    assert layer.sample(logits, ReinMax(SPACE, tau=1.3), kernels=True).shape == (5, 6, 3)


@pytest.mark.parametrize("kernels", [False, True])
def test_they_are_used_only_on_request(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def drawn(space: CategoricalSpace, logits: Tensor, seed: int) -> Tensor:
        asked.append(seed)
        return torch.zeros(*logits.shape[:-1], space.num_features, dtype=torch.long)

    monkeypatch.setattr(triton_kernels, "available", lambda tensor: True)
    monkeypatch.setattr(triton_kernels, "draw", drawn)
    layer, logits = SoftEmbedding(SPACE, 3), torch.randn(5, SPACE.width)
    layer.sample(logits, ReinMax(SPACE), kernels=kernels)
    assert len(asked) == kernels
