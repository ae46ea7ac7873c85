"""Peers of the estimators: what a few lines of other libraries make of scored rows.

Each peer is fitted to codes `(N, F)` and scores `(N,)` and predicts scores of codes `(M, F)`. One
that chooses among a few settings does so by held-out rows, or out of bag. `RANKED` peers see the
scores' ranks, the others the scores as they are.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from torch import Tensor

from discrete_grad import CategoricalSpace

Predict = Callable[[Tensor], Tensor]
Array = NDArray[np.float64]
ROUNDS = 1000  # of boosting
PATIENCE = 50  # rounds without improvement, of the peers that are tuned
HELD_OUT = 0.1
ALPHAS = tuple(10.0**power for power in range(-1, 5))
DEPTHS = (3, 6, 10)
LEAVES: tuple[dict[str, float], ...] = (
    {"learning_rate": 0.1, "max_leaf_nodes": 31},
    {"learning_rate": 0.05, "max_leaf_nodes": 8},
)
CHUNK = 2**14  # rows predicted at once
MAX_PROCESS_ROWS = 2_000
MAX_ENCODED = 2_000_000  # entries of a one-hot matrix that a forest may see
MAX_PAIRS = 200_000


@dataclass(frozen=True)
class Peer:
    """One method.

    Args:
        fit: codes, scores, sizes and seed to what predicts.
        package: that it needs, by import name.
        max_rows: that it is fitted to; more take too long.
    """

    fit: Callable[[Tensor, Tensor, Sequence[int], int], Predict]
    package: str = "sklearn"
    max_rows: int = 10**9

    @property
    def installed(self) -> bool:
        """Whether its package is."""
        return importlib.util.find_spec(self.package) is not None


def ranks(scores: Tensor) -> Tensor:
    """Ranks as numbers of mean 0 and variance 1, equal scores sharing their mean rank."""
    ordered = scores.sort().values
    first, last = (
        torch.searchsorted(ordered, scores),
        torch.searchsorted(ordered, scores, right=True),
    )
    middle = (first + last).double() / 2
    return (middle - middle.mean()) / middle.std(correction=0).clamp_min(1e-12)


def ranked(fit: Callable[..., Predict]) -> Callable[..., Predict]:
    """The same peer, fitted to ranks."""
    return lambda codes, scores, sizes, seed: fit(codes, ranks(scores), sizes, seed)


def apart(count: int, seed: int) -> tuple[Array, Array]:
    """Positions to learn from and held out, in an order drawn by the seed."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(HELD_OUT * count))
    return order[held:], order[:held]


def agreement(predicted: Any, scores: Tensor) -> float:
    """Spearman's rank correlation; 0 where all predictions are equal."""
    mine = ranks(torch.as_tensor(np.asarray(predicted, dtype=np.float64)))
    return (mine * ranks(scores)).mean().item()


def in_parts(predict: Callable[[Tensor], Any]) -> Predict:
    """Predictions of so few rows at a time that no encoding of them is large."""
    return lambda codes: torch.cat(
        [
            torch.as_tensor(np.asarray(predict(part)), dtype=torch.float64)
            for part in codes.split(CHUNK)
        ]
    )


# --- trees ----------------------------------------------------------------------------------------


def boosted(codes: Tensor, scores: Tensor, sizes: Sequence[int], seed: int) -> Predict:
    """scikit-learn's boosted trees: 1,000 rounds at most, early stopping, native categories."""
    model = _boosted(sizes, seed).fit(codes.numpy(), scores.numpy())
    return in_parts(lambda part: model.predict(part.numpy()))


def _boosted(sizes: Sequence[int], seed: int, **settings: float) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        max_iter=ROUNDS,
        early_stopping=True,
        categorical_features=[k <= 255 for k in sizes],  # as many as it can take
        random_state=seed,
        **settings,
    )


def boosted_tuned(codes: Tensor, scores: Tensor, sizes: Sequence[int], seed: int) -> Predict:
    """The same with more patience, of the settings and target that held-out rows prefer."""
    learnt, held = apart(len(scores), seed)
    rows, unseen = codes[learnt].numpy(), codes[held].numpy()
    found = []
    for target in (scores, ranks(scores)):
        for settings in LEAVES:
            model = _boosted(sizes, seed, n_iter_no_change=PATIENCE, **settings)
            model.fit(rows, target[learnt].numpy(), X_val=unseen, y_val=target[held].numpy())
            found.append((agreement(model.predict(unseen), scores[held]), model))
    best = max(found, key=lambda pair: pair[0])[1]
    return in_parts(lambda part: best.predict(part.numpy()))


def xgboosted(codes: Tensor, scores: Tensor, sizes: Sequence[int], seed: int) -> Predict:
    """XGBoost, early stopping, native categories, of the depth and target held-out rows prefer."""
    learnt, held = apart(len(scores), seed)
    unseen, found = _matrix(codes[held]), []
    for target in (scores, ranks(scores)):
        for depth in DEPTHS:
            booster = _xgboosted(codes, target, learnt, held, {"max_depth": depth, "seed": seed})
            used = (0, booster.best_iteration + 1)
            predicted = booster.predict(unseen, iteration_range=used)
            found.append((agreement(predicted, scores[held]), booster, used))
    _, best, rounds = max(found, key=lambda entry: entry[0])
    return in_parts(lambda part: best.predict(_matrix(part), iteration_range=rounds))


def _xgboosted(
    codes: Tensor, target: Tensor, learnt: Array, held: Array, settings: dict[str, int]
) -> Any:
    import xgboost

    return xgboost.train(
        {"eta": 0.1, "tree_method": "hist", "nthread": 1} | settings,
        _matrix(codes[learnt], target[learnt]),
        num_boost_round=ROUNDS,
        evals=[(_matrix(codes[held], target[held]), "held")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )


def _matrix(codes: Tensor, label: Tensor | None = None) -> Any:
    import xgboost

    return xgboost.DMatrix(
        codes.numpy().astype(np.float32),
        None if label is None else label.numpy(),
        feature_types=["c"] * codes.shape[1],
        enable_categorical=True,
        nthread=1,
    )


def forest(codes: Tensor, scores: Tensor, sizes: Sequence[int], seed: int) -> Predict:
    """A random forest on codes or one-hot rows, with leaves of 1 or 3 rows: the best out of bag."""
    encodings: list[Callable[[Tensor], Any]] = [Tensor.numpy]
    if len(codes) * sum(sizes) <= MAX_ENCODED:
        encodings.append(lambda part: one_hot(part, sizes))
    found = []
    for encode in encodings:
        for leaf in (1, 3):
            model = RandomForestRegressor(
                200, min_samples_leaf=leaf, max_features=1 / 3, oob_score=True, random_state=seed
            )
            model.fit(encode(codes), scores.numpy())
            found.append((model.oob_score_, model, encode))
    _, best, chosen = max(found, key=lambda entry: entry[0])
    return in_parts(lambda part: best.predict(chosen(part)))


# --- linear ---------------------------------------------------------------------------------------


def one_hot(codes: Tensor, sizes: Sequence[int]) -> Array:
    """Indicators `(N, D)` of every category."""
    return _indicators(columns(codes, sizes), sum(sizes)).toarray()


def columns(codes: Tensor, sizes: Sequence[int], pairs: Sequence[tuple[int, int]] = ()) -> Tensor:
    """Columns `(N, F + P)` of a row's ones: of its categories, then of its pairs of categories."""
    found, start = [], 0
    for i, size in enumerate(sizes):
        found.append(start + codes[:, i])
        start += size
    for i, j in pairs:
        found.append(start + codes[:, i] * sizes[j] + codes[:, j])
        start += sizes[i] * sizes[j]
    return torch.stack(found, 1)


def _indicators(where: Tensor, width: int) -> sparse.csr_matrix:
    rows, ones = where.shape
    starts = np.arange(0, rows * ones + 1, ones)
    shape = (rows, width)
    return sparse.csr_matrix((np.ones(rows * ones), where.flatten().numpy(), starts), shape=shape)


def additive(codes: Tensor, scores: Tensor, sizes: Sequence[int], seed: int) -> Predict:
    """Ridge on one-hot rows, of the penalty that held-out rows prefer."""
    return _ridge(codes, scores, sizes, seed, ())


def pairwise(codes: Tensor, scores: Tensor, sizes: Sequence[int], seed: int) -> Predict:
    """Ridge on one-hot rows and all pairs, of the penalty that held-out rows prefer."""
    pairs = list(combinations(range(len(sizes)), 2))
    width = sum(sizes[i] * sizes[j] for i, j in pairs)
    if width > MAX_PAIRS:
        raise ValueError(f"{width:,} pairs of categories; at most {MAX_PAIRS:,} are fitted")
    return _ridge(codes, scores, sizes, seed, pairs)


def _ridge(
    codes: Tensor,
    scores: Tensor,
    sizes: Sequence[int],
    seed: int,
    pairs: Sequence[tuple[int, int]],
) -> Predict:
    width = sum(sizes) + sum(sizes[i] * sizes[j] for i, j in pairs)
    rows, target = _indicators(columns(codes, sizes, pairs), width), scores.numpy()
    learnt, held = apart(len(scores), seed)

    def fitted(alpha: float, where: Any) -> Ridge:
        return Ridge(alpha, solver="sparse_cg", tol=1e-4).fit(rows[where], target[where])

    losses = [
        np.square(fitted(a, learnt).predict(rows[held]) - target[held]).mean() for a in ALPHAS
    ]
    model = fitted(ALPHAS[int(np.argmin(losses))], slice(None))
    weights = torch.from_numpy(model.coef_)
    return in_parts(lambda part: weights[columns(part, sizes, pairs)].sum(1) + model.intercept_)


# --- networks and processes -----------------------------------------------------------------------


def tabm_network(codes: Tensor, scores: Tensor, sizes: Sequence[int], seed: int) -> Predict:
    """TabM with its authors' optimiser, stopped early; narrower than theirs, for one core."""
    import tabm

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = tabm.TabM.make(cat_cardinalities=[*sizes], d_out=1, n_blocks=2, d_block=128)
        learnt, held = (torch.from_numpy(part) for part in apart(len(scores), seed))
        mean, deviation = scores[learnt].mean(), scores[learnt].std().clamp_min(1e-12)
        target = ((scores - mean) / deviation).float()
        _early_stopped(model, codes, target, learnt, held)

    @torch.no_grad()
    def predict(part: Tensor) -> Tensor:
        outputs = [model(x_cat=rows).mean((1, 2)) for rows in part.split(1024)]
        return torch.cat(outputs).double() * deviation + mean

    return in_parts(predict)


def _early_stopped(
    model: torch.nn.Module, codes: Tensor, target: Tensor, learnt: Tensor, held: Tensor
) -> None:
    """AdamW until 16 passes bring nothing on the held-out rows; the best weights stay."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=3e-4)
    best, kept, stale = math.inf, model.state_dict(), 0
    while stale < 16:
        model.train()
        for batch in learnt[torch.randperm(len(learnt))].split(256):
            loss = (model(x_cat=codes[batch]).squeeze(-1) - target[batch, None]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            parts = [model(x_cat=codes[p]).mean((1, 2)) for p in held.split(1024)]
        now = (torch.cat(parts) - target[held]).square().mean().item()
        stale += 1
        if now < best:
            best, stale = now, 0
            kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)


def process(codes: Tensor, scores: Tensor, sizes: Sequence[int], seed: int) -> Predict:
    """BoTorch's Gaussian process, a length scale a feature, by marginal likelihood.

    The covariance falls with the weighted Hamming distance.
    """
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import ScaleKernel
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.settings import skip_posterior_variances

    kernel = ScaleKernel(hamming_kernel(sizes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that inputs are not scaled, which codes need not be
        model = SingleTaskGP(codes.double(), scores.double()[:, None], covar_module=kernel)
        fit_gpytorch_mll(
            ExactMarginalLogLikelihood(model.likelihood, model),
            optimizer_kwargs={"options": {"maxiter": 50}},
        )
    model.eval()

    @torch.no_grad()
    def predict(part: Tensor) -> Tensor:
        with skip_posterior_variances():
            return torch.cat([model.posterior(p.double()).mean[:, 0] for p in part.split(2048)])

    return in_parts(predict)


def hamming_kernel(sizes: Sequence[int]) -> Any:
    """`exp(-sum_i [x_i != y_i] / (F l_i))` of codes; BoTorch's own, by products of matrices."""
    from botorch.models.kernels.categorical import CategoricalKernel

    space = CategoricalSpace.from_sizes(sizes)

    class Hamming(CategoricalKernel):
        def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
            if diag:
                return torch.ones(x1.shape[:-1], dtype=x1.dtype)
            weights = (1 / (len(sizes) * self.lengthscale)).squeeze(-2)
            wide = weights.repeat_interleave(torch.tensor(sizes), dim=-1).sqrt()
            first, second = (space.one_hot(x.long()).to(x) * wide for x in (x1, x2))
            return torch.exp(first @ second.mT - weights.sum(-1))

    return Hamming(ard_num_dims=len(sizes))


PEERS: dict[str, Peer] = {
    "boosted trees": Peer(boosted),
    "boosted trees, tuned": Peer(boosted_tuned),
    "XGBoost": Peer(xgboosted, "xgboost"),
    "random forest, ranks": Peer(ranked(forest)),
    "ridge, ranks": Peer(ranked(additive)),
    "ridge on pairs, ranks": Peer(ranked(pairwise)),
    "TabM, ranks": Peer(ranked(tabm_network), "tabm", max_rows=50_000),
    "Gaussian process, ranks": Peer(ranked(process), "botorch", max_rows=MAX_PROCESS_ROWS),
}
