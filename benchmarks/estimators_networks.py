"""TabM, convolutions and a Gaussian process as peers of the estimators."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.estimators_common import Predict, apart, in_parts
from discrete_grad import CategoricalSpace
from discrete_grad.sampling import isolated_seed

PASSES = 16  # over the rows without improvement
CNNS, WIDE = 5, 64  # networks of convolutions, and their channels


def tabm_network(codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int) -> Predict:
    """TabM with its authors' optimiser, stopped early; narrower than theirs, for one core.

    Scores have mean 0 and variance 1, as ranks do.
    """
    import tabm

    class OfCodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tabm = tabm.TabM.make(
                cat_cardinalities=[*space.sizes], d_out=1, n_blocks=2, d_block=128
            )

        def forward(self, codes: Tensor) -> Tensor:
            outputs: Tensor = self.tabm(x_cat=codes).squeeze(-1)
            return outputs

    return _mean_of([_early_stopped(OfCodes, codes, scores.float(), seed)])


def convolutions(codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int) -> Predict:
    """The mean of five networks: one-hot letters, two convolutions, their largest outputs."""

    class Convolutions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(max(space.sizes), WIDE, 5, padding=2)
            self.second = nn.Conv1d(WIDE, WIDE, 5, padding=2)
            self.head = nn.Sequential(nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, 1))

        def forward(self, codes: Tensor) -> Tensor:
            letters = F.one_hot(codes, max(space.sizes)).float().transpose(1, 2)
            found = self.second(self.first(letters).relu()).relu()
            outputs: Tensor = self.head(found.amax(-1))
            return outputs

    seeds = range(CNNS * seed, CNNS * (seed + 1))
    return _mean_of([_early_stopped(Convolutions, codes, scores.float(), s) for s in seeds])


def _mean_of(models: Sequence[nn.Module]) -> Predict:
    @torch.no_grad()
    def predict(part: Tensor) -> Tensor:
        outputs = [torch.stack([m(r).mean(1) for m in models]).mean(0) for r in part.split(1024)]
        return torch.cat(outputs).double()

    return in_parts(predict)


def _early_stopped(
    make: Callable[[], nn.Module], codes: Tensor, target: Tensor, seed: int
) -> nn.Module:
    """AdamW until `PASSES` bring nothing on the held-out rows; the best weights stay.

    The model gives one or more outputs `(n, outputs)` for codes, each of which learns.
    """
    with isolated_seed(seed):
        model = make()
        learnt, held = (torch.from_numpy(part) for part in apart(len(target), seed))
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=3e-4)
        best, kept, stale = math.inf, model.state_dict(), 0
        while stale < PASSES:
            _learn(model, optimiser, codes[learnt], target[learnt])
            with torch.no_grad():
                parts = [model(codes[p]).mean(1) for p in held.split(1024)]
            now = (torch.cat(parts) - target[held]).square().mean().item()
            stale += 1
            if now < best:
                best, stale = now, 0
                kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    return model


def _learn(
    model: nn.Module, optimiser: torch.optim.Optimizer, codes: Tensor, target: Tensor
) -> None:
    """One pass over the rows in random order; the model is in eval mode afterwards."""
    model.train()
    for batch in torch.randperm(len(target)).split(256):
        loss = (model(codes[batch]) - target[batch, None]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()


def process(codes: Tensor, scores: Tensor, space: CategoricalSpace, seed: int) -> Predict:
    """BoTorch's Gaussian process, a length scale a feature, by marginal likelihood.

    The covariance falls with the weighted Hamming distance.
    """
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import ScaleKernel
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.settings import skip_posterior_variances

    kernel = ScaleKernel(hamming_kernel(space))
    # a fit whose covariance cannot be factorised is tried again from a drawn start; one whose line
    # search ends has found what rounding allows, which differs from one processor to another
    with warnings.catch_warnings(), isolated_seed(seed):
        warnings.simplefilter("ignore")  # that inputs are not scaled, which codes need not be
        model = SingleTaskGP(codes.double(), scores.double()[:, None], covar_module=kernel)
        fit_gpytorch_mll(
            ExactMarginalLogLikelihood(model.likelihood, model),
            optimizer_kwargs={"options": {"maxiter": 50}},
            warning_handler=lambda warning: True,
        )
    model.eval()

    @torch.no_grad()
    def predict(part: Tensor) -> Tensor:
        with skip_posterior_variances():
            return torch.cat([model.posterior(p.double()).mean[:, 0] for p in part.split(2048)])

    return in_parts(predict)


def hamming_kernel(space: CategoricalSpace) -> Any:
    """`exp(-sum_i [x_i != y_i] / (F l_i))` of codes; BoTorch's own, by products of matrices."""
    from botorch.models.kernels.categorical import CategoricalKernel

    sizes = space.sizes

    class Hamming(CategoricalKernel):
        def forward(
            self, x1: Tensor, x2: Tensor, diag: bool = False, last_dim_is_batch: bool = False
        ) -> Tensor:
            if diag:
                return torch.ones(x1.shape[:-1], dtype=x1.dtype)
            weights = (1 / (len(sizes) * self.lengthscale)).squeeze(-2)
            wide = weights.repeat_interleave(torch.tensor(sizes), dim=-1).sqrt()
            first, second = (space.one_hot(x.long()).to(x) * wide for x in (x1, x2))
            return torch.exp(first @ second.mT - weights.sum(-1))

    return Hamming(ard_num_dims=len(sizes))
