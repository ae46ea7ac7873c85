"""What the benchmarks call exact is exact: against enumeration, or a case known by hand."""

import gzip
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import digits, gradients, hidden_cost, indecater, layers, polynomial, problems, vae
from discrete_grad import CategoricalSpace
from discrete_grad.nn import SoftEmbedding
from discrete_grad.sampling import normal, seeded
from discrete_grad.testing import exact_gradient

SIX = ("additive", "multilinear", "quadratic", "smooth", "rough", "motifs")


@pytest.mark.parametrize("extension", ["own", "other"])
@pytest.mark.parametrize("kind", SIX)
def test_the_exact_gradient_of_a_problem_is_that_of_enumeration(kind: str, extension: str) -> None:
    problem = problems.make_problem("bits", kind, extension, 1, steps=2)
    off = problem.disagreement(problem.logits("peaked", 2)[0])
    assert off is not None
    assert off < 1e-10


@pytest.mark.parametrize("kind", [*SIX, "estimator"])
def test_both_extensions_have_the_same_values_at_hard_rows_and_others_between(kind: str) -> None:
    where = "hpolib" if kind == "estimator" else "bits"
    own, other = (problems.make_problem(where, kind, e, 1, steps=2) for e in ("own", "other"))
    codes = own.space.enumerate()
    hard = own.space.one_hot(codes, dtype=torch.float64)[:: 97 if where == "hpolib" else 1]
    assert torch.allclose(own.f(hard), other.f(hard), atol=1e-9)
    soft = own.space.softmax(normal((5, own.space.width), generator=seeded(0)))
    if kind != "motifs" or where != "bits":
        assert not torch.allclose(own.f(soft), other.f(soft), atol=1e-3)


def test_the_reported_bias_is_that_which_is_there() -> None:
    truth = torch.zeros(40, dtype=torch.float64)
    truth[0] = 2.0
    shift = torch.zeros_like(truth)
    shift[1] = 1.0  # half of the norm
    noise = normal((4000, 40), generator=seeded(0))
    biased = gradients.figures(truth + shift + noise, truth, [1.0, 2.0, 3.0])
    fair = gradients.figures(truth + noise, truth, [1.0])
    assert biased.bias == pytest.approx(0.5, abs=0.05)
    assert biased.bias > biased.seen > 0
    assert fair.bias < fair.seen
    assert biased.sd == pytest.approx(math.sqrt(40) / 2, rel=0.02)
    assert biased.rmse == pytest.approx(math.hypot(0.5, math.sqrt(40) / 2), rel=0.02)
    assert biased.ms == 2000.0


def test_the_loss_of_polynomial_programming_is_its_expectation() -> None:
    logits = normal((3, 1, polynomial.SPACE.width), generator=seeded(0)).double()
    first = polynomial.SPACE.softmax(logits)[..., ::2]
    for i, p in enumerate((1.5, 2.0, 3.0)):
        by_hand = (first[i] * 0.55**p + (1 - first[i]) * 0.45**p).mean() - 0.45**p
        found = polynomial.expected((1.5, 2.0, 3.0), logits)[i, 0]
        assert found.item() == pytest.approx(by_hand.item(), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2])
def test_the_gradient_of_a_distance_is_that_of_enumeration(order: int) -> None:
    space = CategoricalSpace.from_sizes((3, 3, 3, 3))
    logits = normal((12,), generator=seeded(order))
    distance = indecater.Distance(torch.tensor([0.0, 2.0, 1.0, 1.0], dtype=torch.float64), order)
    expected = exact_gradient(distance, logits, space)
    assert torch.allclose(distance.gradient(space, logits), expected, atol=1e-12)


def test_the_exact_elbo_is_the_mean_over_all_codes() -> None:
    space = vae.space_of(vae.EXACT)
    torch.manual_seed(0)
    model = vae.Autoencoder(16, space, 8)
    images = (torch.rand(3, 16) > 0.5).float()
    found, kl = vae.negative_elbo(model, images, 1)
    wide = model.double()
    logits, total = wide.encoder(images.double()), torch.zeros(3, dtype=torch.float64)
    sizes = [range(size) for size in space.sizes]
    for codes in itertools.product(*sizes):
        row = torch.tensor(codes)
        p = space.log_prob(logits, row).exp()
        one_hot = space.one_hot(row, dtype=torch.float64).expand(3, -1)
        total += p * wide.log_likelihood(one_hot, images.double())
    uniform = torch.zeros_like(logits)
    divergence = space.kl_divergence(logits, uniform).mean()
    assert kl == pytest.approx(divergence.item(), rel=1e-9)
    assert found == pytest.approx((divergence - total.mean()).item(), rel=1e-9)


def test_a_slope_and_its_interval() -> None:
    xs = [2.0**i for i in range(6)]
    slope, half = hidden_cost.slope(xs, [3 * x**2 for x in xs])
    assert slope == pytest.approx(2)
    assert half == pytest.approx(0, abs=1e-6)
    # y = 0, 1, 1 at x = 0, 1, 2: slope 1/2, residual variance 1/6, t(1) = 12.706
    slope, half = hidden_cost.slope([1, math.e, math.e**2], [1, math.e, math.e])
    assert slope == pytest.approx(0.5)
    assert half == pytest.approx(12.706 * math.sqrt(1 / 12), rel=1e-3)


@pytest.mark.parametrize("form", [layers.looped, layers.batched])
def test_a_peer_computes_what_our_layer_does(form: Callable[..., layers.Step]) -> None:
    space = CategoricalSpace.from_sizes((2, 4, 3, 4))
    embedding = SoftEmbedding(space, 5).requires_grad_(False)
    logits = torch.randn(6, space.width)
    step = form(layers.softmax, embedding)
    assert torch.allclose(step(logits), embedding(space.softmax(logits)), atol=1e-6)


def test_the_peak_of_memory_is_exact() -> None:
    layers.check_peak(torch.device("cpu"))


def idx(shape: tuple[int, int, int], count: int) -> bytes:
    return bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in shape) + bytes(count)


def test_mnist_is_read_from_idx_gzip_and_npz(tmp_path: Path) -> None:
    data = idx((12, 2, 3), 72)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b.gz").write_bytes(gzip.compress(data))
    np.savez(tmp_path / "c.npz", x_train=np.zeros((12, 2, 3), np.uint8), y_train=np.zeros(12))
    for name in ("a", "b.gz", "c.npz"):
        assert digits.read_images(tmp_path / name).shape == (12, 2, 3)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "begins with nothing"),
        (b"\x00\x00\x08\x01" + bytes(40), "begins with 00 00 08 01"),
        (idx((12, 2, 3), 70), "72 bytes, and holds 70"),
        (idx((2, 2, 3), 12), "images or more"),
        (gzip.compress(b"abc" * 99)[:-12], "cannot be read"),
        (b"PK\x03\x04" + bytes(30), "no .npz of images"),
    ],
    ids=["empty", "labels", "short", "few", "broken gzip", "broken npz"],
)
def test_a_malformed_file_is_told(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=told):
        digits.read_images(tmp_path / "x")
