"""Gradient estimators that train a categorical variational autoencoder.

Binary images (scikit-learn's `digits`, or MNIST from a local file) are encoded as categorical
latents and decoded again: encoder MLP -> logits, decoder MLP on the flat row -> Bernoulli logits,
uniform prior. Each gradient estimator differentiates the reconstruction term `E_q[log p(x | z)]`
alone; the KL term is exact. What is scored is the negative ELBO in nats an image at the end, never
the sampler's own loss: exact for 8x4, else with hard rows of softmax(logits).

Every method has the same number of decoded rows for an image and step, 4. The decoder learns, so a
row is differentiated in its weights whichever method asked for it, and a relaxation's backward pass
through the row comes with it: an evaluation is counted once, with or without df/dx. Methods without
noise take 1 row, as more would be the same one; those whose least is more take their least, up to
128. All else is the library's default. One learning rate serves all: by the validation images it
was the best of 0.001, 0.003 and 0.01 in 7 of 10 runs of five usual methods at two shapes, with
another seed. For 8x4 each method's learning rate and own hyperparameter are tuned, too.

The shapes are those of Liu et al. (2023), arXiv 2304.08612, who train larger networks on MNIST.

    python -m benchmarks.vae            # 6 shapes, 5 seeds; resumes if interrupted
    python -m benchmarks.vae --quick    # a smoke test of the script, not a measurement
    python -m benchmarks.vae --mnist train-images-idx3-ubyte.gz --out mnist.json
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from benchmarks import digits, harness
from benchmarks.digits import Digits
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.vae_methods import (
    EXACT,
    GRID,
    NOT_TUNED,
    SHAPES,
    SLOW,
    SLOW_SEEDS,
    make,
    names,
    shown,
    space_of,
)
from benchmarks.vae_tables import plot, tables
from discrete_grad import CategoricalSpace, Enumerate, GradientEstimator
from discrete_grad.sampling import categorical, isolated_seed, random_indices, seeded, uniform_like

MOST_SCORED = 5000  # images of a part of MNIST
CHUNK = 300  # images scored at once
TUNING_SEED = 1000
ROUNDS = 8  # calls the estimates of one method are spread over


@dataclass(frozen=True)
class Config(harness.Config):
    """Negative ELBO of a categorical variational autoencoder, for every gradient estimator."""

    seeds: int = 5
    """Seeds 0, 1, ...; the slow methods take 3 of them."""
    steps: int = 800
    """Steps of Adam."""
    batch: int = 32
    """Images a step."""
    rows: int = 4
    """Rows decoded for an image and step."""
    lr: float = 3e-3
    """Learning rate where it is not tuned."""
    rates: tuple[float, ...] = (3e-3, 1e-2)
    """Learning rates of the tuned runs."""
    hidden: int = 128
    """Units of the one hidden layer of encoder and decoder."""
    scored: int = 32
    """Rows drawn for an image when the ELBO is scored."""
    repeats: int = 256
    """Estimates of the gradient, of each method in each model looked at."""
    settle: int = 100
    """Steps a method that learns has before its gradient is looked at."""
    mnist: Path | None = None
    """IDX file (may be gzipped) or .npz of MNIST's images, instead of scikit-learn's digits."""


# --- the model ------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """Encoder and decoder, each with one hidden layer."""

    def __init__(self, pixels: int, space: CategoricalSpace, hidden: int) -> None:
        super().__init__()
        self.space = space
        self.encoder = _network(pixels, hidden, space.width)
        self.decoder = _network(space.width, hidden, pixels)

    def log_likelihood(self, rows: Tensor, images: Tensor) -> Tensor:
        """`log p(x | z)` in nats, `(..., B)`, of flat rows `(..., B, D)` and images `(B, P)`."""
        logits: Tensor = self.decoder(rows)
        return (logits * images).sum(-1) - F.softplus(logits).sum(-1)

    def every_log_likelihood(self, rows: Tensor, images: Tensor) -> Tensor:
        """The same of every row with every image, `(N, B)`, of rows `(N, D)`."""
        logits: Tensor = self.decoder(rows)
        return logits @ images.T - F.softplus(logits).sum(-1, keepdim=True)

    def divergence(self, logits: Tensor) -> Tensor:
        """KL of `q(z | x)` from the uniform prior, `(B,)`."""
        return self.space.kl_divergence(logits, torch.zeros_like(logits))

    def expectation(
        self, method: GradientEstimator, logits: Tensor, images: Tensor, noise: torch.Generator
    ) -> Tensor:
        """`E_q[log p(x | z)]` `(B,)`, with the method's gradient."""

        def f(rows: Tensor) -> Tensor:
            if isinstance(method, Enumerate):  # it asks about the same rows for every image
                return self.every_log_likelihood(rows[:, 0], images)
            return self.log_likelihood(rows, images)

        return method.expectation(f, logits, generator=noise)


def _network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


# --- training and scores --------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One training run."""

    config: Config
    name: str
    shape: tuple[int, int]
    seed: int
    own: Mapping[str, float] = field(default_factory=dict)

    def begin(self, data: Digits) -> tuple[Autoencoder, GradientEstimator]:
        """The model and the method, both from the seed; the model is the same for every method."""
        space = space_of(self.shape)
        with isolated_seed(self.seed):
            model = Autoencoder(data.train.shape[1], space, self.config.hidden)
            return model, make(self.name, space, self.config.rows, **self.own)


Watch = Callable[[int, Autoencoder], None]


def train(job: Job, data: Digits, at: Watch | None = None) -> tuple[Autoencoder, float]:
    """The trained model and seconds of CPU time a step; `at` sees it before each step and last."""
    config, (model, method) = job.config, job.begin(data)
    parameters = [*model.parameters(), *method.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=config.lr, fused=True)
    batches, noise = seeded(job.seed), seeded(job.seed + 1)
    torch.default_generator.manual_seed(job.seed)  # peers know no other
    seconds = 0.0
    for step in range(config.steps):
        if at:
            at(step, model)
        began = time.process_time()
        images = data.train[random_indices(len(data.train), (config.batch,), generator=batches)]
        logits = model.encoder(images)
        # a sum: a mean would shrink the moves of IMLE, and Adam does not mind
        elbo = model.expectation(method, logits, images, noise) - model.divergence(logits)
        optimiser.zero_grad()
        (-elbo).sum().backward()
        optimiser.step()
        seconds += time.process_time() - began
    if at:
        at(config.steps, model)
    return model, seconds / max(config.steps, 1)


@torch.no_grad()
def negative_elbo(model: Autoencoder, images: Tensor, scored: int) -> tuple[float, float]:
    """Nats an image, and the part that is the KL.

    Exact and in float64 if the space can be listed, else the mean over `scored` hard rows of each
    image. At most 5,000 images, evenly spaced.
    """
    dtype = torch.float64 if model.space == space_of(EXACT) else torch.float32
    model, noise = copy.deepcopy(model).to(dtype), seeded(0)
    images = images[:: math.ceil(len(images) / MOST_SCORED)].to(dtype)
    sums = torch.zeros(2, dtype=torch.float64)
    for part in images.split(CHUNK):
        logits = model.encoder(part)
        kl = model.divergence(logits)
        elbo = _reconstruction(model, logits, part, scored, noise) - kl
        sums += torch.stack([-elbo, kl]).double().sum(1)
    return (sums[0] / len(images)).item(), (sums[1] / len(images)).item()


def _reconstruction(
    model: Autoencoder, logits: Tensor, images: Tensor, scored: int, noise: torch.Generator
) -> Tensor:
    space = model.space
    if space == space_of(EXACT):
        rows = space.one_hot(space.enumerate(), dtype=logits.dtype)
        p = (rows @ space.log_softmax(logits).T).exp()
        return (p * model.every_log_likelihood(rows, images)).sum(0)
    logits = logits.expand(scored, *logits.shape)
    codes = categorical(space, logits, uniform_like(space, logits, generator=noise))
    return model.log_likelihood(space.one_hot(codes, dtype=logits.dtype), images).mean(0)


def scores(
    job: Job, data: Digits, parts: Sequence[str] = ("test", "train"), at: Watch | None = None
) -> dict[str, float]:
    """Figures of one run: the negative ELBO on each part, the KL on the last, CPU time a step."""
    model, seconds = train(job, data, at)
    figures = {"ms": 1000 * seconds}
    for part in parts:
        figures[part], figures["kl"] = negative_elbo(model, getattr(data, part), job.config.scored)
    return figures


def untuned(
    config: Config, data: Digits, name: str, shape: tuple[int, int]
) -> dict[str, list[float]]:
    """Figures of every seed with the library's defaults."""
    seeds = _seeds(config, name)
    return _together(seeds, [scores(Job(config, name, shape, seed), data) for seed in seeds])


def tuned(config: Config, data: Digits, name: str, shape: tuple[int, int]) -> dict[str, Any]:
    """The best of the grid on the validation part with a seed of its own, then every seed."""
    seeds = _seeds(config, name)
    grid, best = {}, (math.inf, "", Job(config, name, shape, TUNING_SEED))
    for job in _grid(config, name, shape):
        text = ", ".join(f"{k}={v:g}" for k, v in ({"lr": job.config.lr} | dict(job.own)).items())
        grid[text] = scores(job, data, ("validation",))["validation"]
        best = min(best, (grid[text], text, job), key=lambda entry: entry[0])
    runs = [scores(replace(best[2], seed=seed), data) for seed in seeds]
    return {"best": best[1], "grid": grid, **_together(seeds, runs)}


def _together(seeds: Sequence[int], runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {"seeds": list(seeds), **{key: [run[key] for run in runs] for key in runs[0]}}


def _grid(config: Config, name: str, shape: tuple[int, int]) -> Iterator[Job]:
    parameter, values = GRID.get(name, ("", (math.nan,)))
    for lr, value in product(config.rates, values):
        own = {parameter: value} if parameter else {}
        yield Job(replace(config, lr=lr), name, shape, TUNING_SEED, own)


# --- quality of the gradient ----------------------------------------------------------------------


def exact(config: Config, data: Digits, seed: int) -> dict[str, Any]:
    """A run by the exact gradient, which is also scored, and every method's error on its way.

    All methods are looked at in the same models, on the same mini-batch.
    """
    job, errors = Job(config, "Enumerate", EXACT, seed), dict[str, Any]()

    def at(step: int, model: Autoencoder) -> None:
        if step in (0, config.steps // 10, config.steps):
            errors[str(step)] = _errors(config, seed, copy.deepcopy(model).double(), data)

    figures = _together([seed], [scores(job, data, at=at)])
    return figures | {"errors": errors}


def _errors(config: Config, seed: int, model: Autoencoder, data: Digits) -> dict[str, Any]:
    images = data.train[:: len(data.train) // config.batch][: config.batch].double()
    model.requires_grad_(False).encoder.requires_grad_(True)
    logits = model.encoder(images)
    exact = _estimates(model, Enumerate(model.space), logits, images, seeded(seed), 1)[0]
    found, repeats = dict[str, Any](), max(1, config.repeats // ROUNDS)
    for name in names(EXACT, config.rows):
        if name == "Enumerate":
            continue
        with isolated_seed(seed):  # some begin with random networks, peers draw from here
            try:
                method = make(name, model.space, config.rows).to(logits)
                _settle(config, method, model, data, seed)
                noise = seeded(seed + 1)
                parts = [
                    _estimates(model, method, logits, images, noise, repeats) for _ in range(ROUNDS)
                ]
                found[name] = _quality(torch.cat(parts), exact)
            except (RuntimeError, ValueError) as error:
                found[name] = {"failed": str(error).splitlines()[0]}
    return found


def _settle(
    config: Config, method: GradientEstimator, model: Autoencoder, data: Digits, seed: int
) -> None:
    """Let a method that learns (a baseline, a control variate) do so while the model rests."""
    parameters = list(method.parameters())
    if not parameters and not list(method.buffers()):
        return
    optimiser = torch.optim.Adam(parameters, lr=config.lr) if parameters else None
    noise = seeded(seed + 2)
    for _ in range(config.settle):
        picked = random_indices(len(data.train), (config.batch,), generator=noise)
        images = data.train[picked].double()
        logits = model.encoder(images).detach().requires_grad_()
        method.zero_grad()
        model.expectation(method, logits, images, noise).sum().backward()
        if optimiser:
            optimiser.step()


def _estimates(
    model: Autoencoder,
    method: GradientEstimator,
    logits: Tensor,
    images: Tensor,
    noise: torch.Generator,
    repeats: int,
) -> Tensor:
    """Independent gradients of the reconstruction term in the encoder's weights `(repeats, W)`."""
    leaf = logits.detach().expand(repeats, *logits.shape).flatten(0, 1).requires_grad_()
    value = model.expectation(method, leaf, images.repeat(repeats, 1), noise).sum()
    of_logits = torch.autograd.grad(value, leaf)[0].unflatten(0, (repeats, -1))
    weights = list(model.encoder.parameters())
    parts = torch.autograd.grad(
        logits, weights, of_logits, retain_graph=True, is_grads_batched=True
    )
    return torch.cat([part.flatten(1) for part in parts], 1)


def _quality(estimates: Tensor, exact: Tensor) -> dict[str, float]:
    """Bias and RMSE relative to the exact gradient's norm, and the mean cosine with it."""
    norm, errors = exact.square().sum(), estimates - exact
    variance = estimates.var(0).sum() / norm
    # what chance leaves of the mean error is taken off
    bias = errors.mean(0).square().sum() / norm - variance / len(estimates)
    return {
        "bias": bias.clamp_min(0).sqrt().item(),
        "rmse": (errors.square().sum(1).mean() / norm).sqrt().item(),
        "cosine": torch.cosine_similarity(estimates, exact, -1).mean().item(),
    }


# --- cells ----------------------------------------------------------------------------------------


def cells(config: Config) -> list[Cell]:
    """The longest first; each is given the images, so that none has to import scikit-learn.

    Raises:
        SystemExit: for a file that is not MNIST's.
    """
    try:
        pixels = digits.load(config.mnist)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if config.quick:
        config = replace(config, seeds=2, steps=6, scored=2, settle=3, repeats=16)
    return [
        Cell(key, (kind, config, pixels, *arguments)) for key, kind, *arguments in _cells(config)
    ]


def _cells(config: Config) -> Iterator[tuple[Any, ...]]:
    """Key, function and its last arguments."""
    for seed in range(config.seeds):
        yield f"exact/seed={seed}", exact, seed
    for shape in reversed(SHAPES):
        for name in names(shape, config.rows):
            if name != "Enumerate":
                count = len(_seeds(config, name))
                yield f"{shown(shape)}/{name}/{count} seeds", untuned, name, shape
    for name in names(EXACT, config.rows):
        if name not in NOT_TUNED:
            yield f"tuned/{name}/{len(_seeds(config, name))} seeds", tuned, name, EXACT


def measure(
    kind: Callable[..., Mapping[str, Any]], config: Config, pixels: np.ndarray, *arguments: Any
) -> Mapping[str, Any]:
    """One cell."""
    return kind(config, digits.split(pixels), *arguments)


def _seeds(config: Config, name: str) -> range:
    return range(min(config.seeds, SLOW_SEEDS) if name in SLOW else config.seeds)


BENCHMARK = Benchmark(
    name="vae",
    title="A categorical variational autoencoder, trained by every gradient estimator",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
