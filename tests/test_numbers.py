"""Layers, gradient estimators, samplers and objectives on numbers that nobody thinks of.

What comes out is finite and lawful, or a ValueError that says what was wrong with the input. The
suite draws a few hundred batches; a million elements take some minutes:

    python -m tests.test_numbers 1000000
"""

import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, Relaxation, objectives, sampling
from discrete_grad.sampling import categorical, exponential_like, gumbel_like, seeded, uniform_like
from discrete_grad.weighting import effective_size, tilt
from tests.gradient.cases import BINARY_CASES, CASES, SHARP, Case

Draw = np.random.Generator
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_BATCHES = ((), (1,), (0,), (3,), (2, 0), (2, 3), (1, 4, 2), (200,), (1000,))
_SPREADS = (0.0, 1e-8, 1.0, 1.0, 30.0, 1e4)
_MOST_ROWS = 512  # of a space: some methods list them


class Unlawful(AssertionError):
    """What came out, of what."""


@dataclass(frozen=True)
class Given:
    """Logits, and whether they are to be refused."""

    space: CategoricalSpace
    logits: Tensor
    bad: bool

    def __str__(self) -> str:
        shape, kind = tuple(self.logits.shape), str(self.logits.dtype).removeprefix("torch.")
        return f"sizes {self.space.sizes}, {kind} {shape}, strides {self.logits.stride()}"


def given(draw: Draw, *, binary: bool = False) -> Given:
    """Ragged sizes, any dtype and batch, masks, constants of any size, odd layouts, bad values."""
    sizes = (2,) * int(draw.integers(1, 5)) if binary else _sizes(draw)
    space, dtype = CategoricalSpace.from_sizes(sizes), _DTYPES[draw.integers(4)]
    batch = _BATCHES[draw.integers(len(_BATCHES))]
    most = torch.finfo(dtype).max
    logits = torch.from_numpy(draw.standard_normal((*batch, space.width)))
    logits = draw.choice([*_SPREADS, most / 8]) * logits
    if draw.random() < 0.2:
        logits = logits + float(draw.choice([1e4, -1e4, most / 4, -most / 4]))
    logits = logits.clamp(-most / 2, most / 2).to(dtype)
    if draw.random() < 0.3:
        logits = _masked(space, logits, draw)
    if draw.random() < 0.1 and logits.numel():
        logits.view(-1)[draw.integers(logits.numel())] = draw.choice([math.nan, math.inf])
    logits = _laid_out(logits, draw)
    return Given(space, logits, bool((logits.isnan() | (logits == math.inf)).any()))


def _sizes(draw: Draw) -> tuple[int, ...]:
    sizes = [int(k) for k in draw.integers(1, 9, size=draw.integers(1, 6))]
    while math.prod(sizes) > _MOST_ROWS:
        sizes.pop()
    return tuple(sizes)


def _masked(space: CategoricalSpace, logits: Tensor, draw: Draw) -> Tensor:
    """Some categories forbidden, at least one of each feature kept."""
    out = torch.from_numpy(draw.random(logits.shape) < 0.4)
    kept = torch.cat([torch.arange(k) == draw.integers(k) for k in space.sizes])
    return logits.masked_fill(out & ~kept, -math.inf)


def _laid_out(tensor: Tensor, draw: Draw) -> Tensor:
    """The same numbers with other strides."""
    kind = draw.integers(4)
    if kind == 0 and tensor.dim() > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == 1:
        return torch.stack([tensor, tensor], -1)[..., 0]
    if kind == 2 and tensor.dim() > 1 and len(tensor):
        return tensor[:1].expand_as(tensor)
    return tensor


@contextmanager
def extreme_noise(draw: Draw) -> Iterator[None]:
    """A fifth of the uniform numbers are the least and the greatest that torch draws.

    By chance they come once in 2^24 numbers of float32: too rarely for a test, daily in use.
    """
    whole = sampling._uniform

    def uniform(
        logits: Tensor, shape: tuple[int, ...], dtype: torch.dtype, source: torch.Generator | None
    ) -> Tensor:
        place = torch.from_numpy(draw.random(shape))
        noise = whole(logits, shape, dtype, source).masked_fill(place < 0.1, 0)
        return noise.masked_fill(place > 0.9, 1 - torch.finfo(dtype).eps / 2)

    with mock.patch.object(sampling, "_uniform", uniform):
        yield


def require(fact: object, what: str) -> None:
    if not fact:
        raise Unlawful(what)


def refused(given: Given, call: Callable[[], object]) -> bool:
    """Whether a bad input was refused; a good one must not be."""
    if not given.bad:
        return False
    try:
        call()
    except ValueError as error:
        require("feature" in str(error), f"an error without a feature: {error}")
        return True
    raise Unlawful("NaN or inf was taken")


def is_law(given: Given, row: Tensor) -> None:
    """Soft or hard rows: shares of each feature, none of a forbidden category."""
    require(row.shape == given.logits.shape, f"shape {tuple(row.shape)}")
    require(row.dtype == given.logits.dtype, f"dtype {row.dtype}")
    require(row.isfinite().all(), "a row that is not finite")
    slack = 16 * torch.finfo(row.dtype).eps
    require((row >= -slack).all(), "a share below 0")
    require((row[given.logits == -math.inf].abs() <= slack).all(), "a forbidden category")
    for block in given.space.split(row.double()):
        require((block.sum(-1) - 1).abs().le(slack * block.shape[-1]).all(), "a sum that is not 1")


def is_one_hot(row: Tensor, space: CategoricalSpace) -> None:
    require(((row == 0) | (row == 1)).all(), "a hard row that is not one-hot")
    require((row.sum(-1) == space.num_features).all(), "a hard row of other sums")


# --- what is called -------------------------------------------------------------------------------


def layer(draw: Draw, case: Case) -> Given:
    """One row of each element, and its derivative."""
    found = given(draw, binary=case in BINARY_CASES)
    method = case.estimator(found.space)
    assert isinstance(method, Relaxation)
    logits = found.logits.detach().requires_grad_()
    noise = seeded(int(draw.integers(1000)))
    if refused(found, lambda: method(logits, generator=noise)):
        return found
    row = method(logits, generator=noise)
    is_law(found, row.detach())
    if case.forward in ("hard", "argmax"):
        is_one_hot(row.detach(), found.space)
    weights = torch.from_numpy(draw.standard_normal(found.space.width)).to(row.dtype)
    (row * weights).sum().backward()
    is_gradient(logits)
    return found


def is_gradient(logits: Tensor) -> None:
    grad = logits.grad
    require(grad is not None and grad.shape == logits.shape, "no gradient")
    assert grad is not None
    require(grad.isfinite().all(), "a gradient that is not finite")


def expectation(draw: Draw, case: Case) -> Given:
    """Value and gradient of a smooth function of a row."""
    found = given(draw, binary=case in BINARY_CASES)
    method = case.estimator(found.space)
    weights = torch.from_numpy(draw.standard_normal(found.space.width)).to(found.logits.dtype)
    logits = found.logits.detach().requires_grad_()

    def value() -> Tensor:
        noise = seeded(int(draw.integers(1000)))
        return method.expectation(lambda rows: (rows @ weights).tanh(), logits, generator=noise)

    if refused(found, value):
        return found
    expected = value()
    require(expected.shape == logits.shape[:-1], f"shape {tuple(expected.shape)}")
    require(expected.isfinite().all(), "a value that is not finite")
    expected.sum().backward()
    is_gradient(logits)
    return found


def sampler(draw: Draw) -> Given:
    """Codes by inversion, and noise; log-probabilities, entropies and divergences."""
    found = given(draw)
    space, logits, noise = found.space, found.logits, seeded(int(draw.integers(1000)))
    if refused(found, lambda: space.check_logits(logits)):
        return found
    codes = categorical(space, logits, uniform_like(space, logits, generator=noise))
    for rows in (codes, space.argmax(logits)):
        require(rows.shape == (*logits.shape[:-1], space.num_features), "shape of codes")
        space.check_codes(rows)
        chances = space.log_prob(logits, rows)
        require(chances.isfinite().all(), "a drawn row of probability 0")
    for drawn in (gumbel_like(logits, generator=noise), exponential_like(logits, generator=noise)):
        require(drawn.isfinite().all(), "noise that is not finite")
    is_law(found, space.softmax(logits))
    entropy = space.entropy(logits).double()
    most = sum(math.log(k) for k in space.sizes) + 0.05
    require(((entropy > -0.05) & (entropy < most)).all(), "an entropy out of range")
    divergence = space.kl_divergence(logits, logits)
    require(divergence.abs().lt(0.05).all(), "a distance from itself")
    return found


def objective(draw: Draw) -> Given:
    """Every loss, of rows and scores of any size."""
    found = given(draw)
    if found.bad:
        return found
    name = OBJECTIVES[draw.integers(len(OBJECTIVES))]
    inputs, loss = name(draw, found)
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = loss(*leaves)
    require(value.isfinite().all(), f"{name.__name__} of {value.flatten()[:3].tolist()}")
    value.sum().backward()
    for leaf in leaves:
        finite = leaf.grad is None or leaf.grad.isfinite().all()
        require(finite, f"{name.__name__}: a gradient that is not finite")
    return found


Loss = tuple[list[Tensor], Callable[..., Tensor]]


def _numbers(draw: Draw, *shape: int, most: float = 1e3) -> Tensor:
    """Float32 of any size, some of them equal."""
    spread = draw.choice([1e-30, 1e-3, 1.0, most])
    return (spread * torch.from_numpy(draw.standard_normal(shape)).float()).round(decimals=3)


def contrastive(draw: Draw, found: Given) -> Loss:
    count, width = (int(draw.integers(*ends)) for ends in ((2, 9), (1, 5)))
    rows, scores = _numbers(draw, count, width), _numbers(draw, count)
    temperature = float(draw.choice([0.02, 0.1, 2.0]))
    dtype = found.logits.dtype
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda x: objectives.rank_n_contrast(x.to(dtype), scores, temperature=temperature),
        lambda x: objectives.acc_con(x.to(dtype), scores, temperature=temperature),
        lambda x: objectives.nt_xent(x.to(dtype), x.flip(0).to(dtype), temperature=temperature),
        lambda x: objectives.sup_con(x.to(dtype), scores.sign().long(), temperature=temperature),
        lambda x: objectives.mined_contrast(*_mined(x.to(dtype)), temperature=temperature),
    ]
    return [rows], losses[draw.integers(len(losses))]


def _mined(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return rows, rows.flip(0), rows.unsqueeze(1)


def policy_gradients(draw: Draw, found: Given) -> Loss:
    shape = (int(draw.integers(2, 6)), int(draw.integers(1, 4)))
    log_probs, advantages = -_numbers(draw, *shape, most=50).abs(), _numbers(draw, *shape)
    old = log_probs + _numbers(draw, *shape, most=1.0)
    losses: list[Callable[..., Tensor]] = [
        lambda x, y: objectives.policy_gradient_loss(x, y.detach()),
        lambda x, y: objectives.ppo_loss(x, old, y.detach()),
        lambda x, y: objectives.value_loss(x, y.detach()),
        lambda x, y: objectives.advantage_weighted_loss(x, y.detach()),
        lambda x, y: objectives.gae(y, x),
        lambda x, y: objectives.add_shaping(y, x),
        lambda x, y: objectives.leave_one_out(y) + 0 * x,
        lambda x, y: objectives.group_relative(y) + 0 * x,
        lambda x, y: objectives.conservative_penalty(x, y),
        lambda x, y: objectives.alignment_loss(x.tanh(), y),
    ]
    return [log_probs, advantages], losses[draw.integers(len(losses))]


def preferences(draw: Draw, found: Given) -> Loss:
    count = int(draw.integers(1, 6))
    outcome = torch.from_numpy(draw.integers(0, 2, size=count))
    difference = _numbers(draw, 2, count, most=1e4)
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda x: objectives.bradley_terry_loss(x[0], outcome),
        lambda x: objectives.bradley_terry_loss(x[0], outcome, tie_width=0.5),
        lambda x: objectives.bradley_terry_loss(x[0], outcome, reliability=0.9),
        lambda x: objectives.dpo_loss(-x.abs(), -x.flip(0).abs(), outcome, beta=0.1),
        lambda x: objectives.dpo_loss(-x.abs(), -x.flip(0).abs(), outcome, beta=3.0, flip=0.1),
    ]
    return [difference], losses[draw.integers(len(losses))]


def of_logits(draw: Draw, found: Given) -> Loss:
    space, logits = found.space, found.logits
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if not logits.numel():  # a mean of nothing
        logits = torch.zeros(1, space.width)
    rows = space.argmax(logits)
    weights = torch.rand(rows.shape[:-1]) + 0.1
    other = torch.zeros_like(logits)
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda x: objectives.entropy_bonus(space, x),
        lambda x: objectives.diversity_bonus(space, x),
        lambda x: objectives.kl_to_reference(space, x, other),
        lambda x: objectives.hamming_excess(
            space, x, rows.reshape(-1, space.num_features), radius=0.5
        ),
        lambda x: objectives.inverse_score_cross_entropy(space, x, rows, weights),
        lambda x: objectives.score_weighted_cross_entropy(space, x, rows, weights),
    ]
    return [logits], losses[draw.integers(len(losses))]


def tilts(draw: Draw, found: Given) -> Loss:
    """The reward-weighted law of a list of rows: it sums to 1 whatever the rewards and beta."""
    shape = (int(draw.integers(1, 9)), int(draw.integers(1, 4)))
    reward, beta = _numbers(draw, *shape, most=1e17), float(draw.choice([1e-6, 1.0, 1e6]))
    reference = _numbers(draw, *shape, most=30).log_softmax(0)

    def loss(x: Tensor) -> Tensor:
        found = tilt(reference, x, beta)
        require((found.exp().sum(0) - 1).abs().max() < 1e-9, "weights that do not sum to 1")
        size = effective_size(found)
        require(
            ((size > 1 - 1e-6) & (size < len(x) + 1e-6)).all(), "an effective size out of range"
        )
        return found.exp().sum(0)

    return [reward], loss


Called = tuple[str, Callable[[], Given]]
OBJECTIVES = (contrastive, policy_gradients, preferences, of_logits, tilts)
LAYERS = [case for case in (*CASES, *SHARP) if case.is_layer]
EXPECTED = [*CASES, *BINARY_CASES, *SHARP]


def drawn_call(draw: Draw) -> Called:
    """What is called, by name."""
    kinds: list[Callable[[], Called]] = [
        lambda: _of(layer, draw, LAYERS[draw.integers(len(LAYERS))]),
        lambda: _of(expectation, draw, EXPECTED[draw.integers(len(EXPECTED))]),
        lambda: ("sampler", lambda: sampler(draw)),
        lambda: ("objective", lambda: objective(draw)),
    ]
    return kinds[draw.integers(len(kinds))]()


def _of(kind: Callable[[Draw, Case], Given], draw: Draw, case: Case) -> Called:
    return f"{kind.__name__} {case}", lambda: kind(draw, case)


def run(elements: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Elements seen of each kind, and what was unlawful."""
    seen: Counter[str] = Counter()
    faults: list[str] = []
    threads = torch.get_num_threads()
    for number in itertools.count():  # each call can be made again by its number
        if sum(seen.values()) >= elements:
            break
        draw = np.random.default_rng([seed, number])
        torch.set_num_threads(1 + int(draw.integers(2)))
        name, call = drawn_call(draw)
        noise = extreme_noise(draw) if draw.random() < 0.2 else nullcontext()
        try:
            with noise:
                seen[name.split()[0]] += max(1, call().logits[..., 0].numel())
        except Exception as error:
            faults.append(f"{seed} {number} {name}: {type(error).__name__}: {error}")
    torch.set_num_threads(threads)
    return seen, faults


@pytest.mark.parametrize("seed", range(4))
def test_what_comes_out_is_finite_and_lawful_or_refused(seed: int) -> None:
    seen, faults = run(8_000, seed)
    assert not faults
    assert len(seen) == 4


if __name__ == "__main__":
    found, wrong = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print("\n".join([*wrong, f"{dict(found)}, {len(wrong)} unlawful"]))
