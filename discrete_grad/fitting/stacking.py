"""Weights of an ensemble's families, by what they predict on rows they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.anova import anova_groups, fit_anova
from discrete_grad.fitting.kernel import MOST_POINTS, fit_kernel
from discrete_grad.fitting.pair_effects import fit_pair_effects
from discrete_grad.fitting.trees import fit_trees, has_trees
from discrete_grad.models import AnovaEnsemble, BaseEnsemble, KernelEnsemble, StackedEnsemble
from discrete_grad.models.sequence import is_biological, letters_of
from discrete_grad.sampling import permutation, seeded
from discrete_grad.space import CategoricalSpace
from discrete_grad.training.checkpoint import RunError
from discrete_grad.training.logs import progress_bar

__all__ = ["ANY_ROWS", "fit_families", "require_families"]

ANY_ROWS = frozenset({"networks", "anova"})
"""Families that can be fitted to any number of rows of any features."""

_PRIOR_ROWS = 10
_SEQUENCE_SHARE = 0.3  # of the rows: more of them do not show either what holds beyond them
_FAVOUR, _SHARPNESS = 3.0, 8  # of convolutions before other families of a sequence; of the best
_LEAST_WEIGHT = 0.03
_CHUNK = 2**14
_MOST_ROWS = 2**21


@torch.no_grad()
def fit_families(model: StackedEnsemble, rows: ScoredRows, held_out: Tensor, *, seed: int) -> None:
    """Fit the families that gradients do not train, and the weights of all of them.

    The weights are those under which the members predict best what they hold out.

    Args:
        model: its networks, if it has any, are trained already.
        rows: with scores of about mean 0 and variance 1.
        held_out: indices `(M, H)` of the rows that each member may not see.
        seed: of the Gaussian processes and the trees.

    Raises:
        RunError: if no family can be fitted to so many rows.
    """
    kept = rows.scores.new_ones(len(held_out), len(rows)).scatter_(1, held_out, 0.0)
    if rows.counts is not None:
        kept = kept * rows.counts
    some = _some(len(rows), seed)
    asked, shown, kept = [], rows.part(some), kept[:, some]
    possible = _possible(model.space, len(shown))
    bar = progress_bar("families", len(model.names), 0)
    for index, name in enumerate(model.names):
        fit = _FITS.get(name)
        if name in possible and (fit is None or fit(model.family(index), shown, kept, seed)):
            asked.append(index)
        bar.update()
    bar.close()
    if not asked:
        raise _none_fits(model.names, len(rows))
    predicted = torch.stack(
        [held_out_predictions(model.family(i), rows, held_out).flatten() for i in asked]
    )
    aside = rows.part(held_out.flatten())
    sequences = torch.tensor([model.names[i] == "sequences" for i in asked])
    fitted, model.constant = _fit_weights(
        predicted,
        aside.scores,
        aside.counts,
        sequences,
        sure=bool(sequences.any()) and is_biological(model.space),
    )
    model.weights = fitted.new_zeros(len(model.names))
    model.weights[asked] = fitted


def require_families(names: Sequence[str], space: CategoricalSpace, rows: int) -> None:
    """Refuse, before anything is trained, families of which none can be fitted.

    Args:
        names: of the families, see `EstimatorConfig.families`.
        space: the features of a row.
        rows: number of rows to learn from.

    Raises:
        RunError: if no family can be fitted to so many rows of the space.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> require_families(["kernel"], space, 200)
        >>> require_families(["sequences"], space, 200)
        Traceback (most recent call last):
        ...
        discrete_grad.training.checkpoint.RunError: none of the families ['sequences'] ...
    """
    if not _possible(space, rows) & set(names):
        raise _none_fits(names, rows)


def _possible(space: CategoricalSpace, rows: int) -> set[str]:
    """The families that so many rows of the space allow."""
    few = rows <= MOST_POINTS
    possible = set(ANY_ROWS) | ({"kernel", "pairs"} if few else set())
    # with fewer rows the Gaussian process is better, and trees add nothing to it
    possible |= {"trees"} if not few and has_trees() else set()
    return possible | ({"sequences"} if letters_of(space) is not None else set())


def _none_fits(names: Sequence[str], rows: int) -> RunError:
    return RunError(
        f"none of the families {list(names)} can be fitted to {rows} rows of these features: "
        f"kernel and pairs take {MOST_POINTS} rows at most, trees more and the extra `trees`, "
        "sequences 8 to 256 unordered features with common categories; add networks or anova"
    )


def _fit_kernel(family: BaseEnsemble, rows: ScoredRows, weights: Tensor, seed: int) -> bool:
    assert isinstance(family, KernelEnsemble)
    if max(family.joint.sizes) > MOST_POINTS:
        return False
    family.joint.fit(rows.context)
    codes = family.joint(rows.codes, rows.context)
    fit_kernel(family, codes, rows.scores, weights, seed=seed, spread=rows.spread)
    return True


def _fit_pairs(family: BaseEnsemble, rows: ScoredRows, weights: Tensor, seed: int) -> bool:
    assert isinstance(family, AnovaEnsemble)
    family.joint.fit(rows.context)
    codes = family.joint(rows.codes, rows.context)
    return fit_pair_effects(family, codes, rows.scores, weights, seed=seed, spread=rows.spread)


def _fit_anova(family: BaseEnsemble, rows: ScoredRows, weights: Tensor, seed: int) -> bool:
    assert isinstance(family, AnovaEnsemble)
    family.joint.fit(rows.context)
    family.arrange(anova_groups(family.joint.sizes, len(rows)))
    codes = family.joint(rows.codes, rows.context)
    fit_anova(family, codes, rows.scores, weights, spread=rows.spread)
    return True


def _fit_trees(family: BaseEnsemble, rows: ScoredRows, weights: Tensor, seed: int) -> bool:
    assert isinstance(family, AnovaEnsemble)
    family.joint.fit(rows.context)
    codes = family.joint(rows.codes, rows.context)
    return fit_trees(family, codes, rows.scores, weights, seed=seed)


_FITS: dict[str, Callable[[BaseEnsemble, ScoredRows, Tensor, int], bool]] = {
    "kernel": _fit_kernel,
    "pairs": _fit_pairs,
    "anova": _fit_anova,
    "trees": _fit_trees,
}


def _some(count: int, seed: int) -> Tensor:
    """Places of all rows, or of as many as tables of effects are fitted to."""
    if count <= _MOST_ROWS:
        return torch.arange(count)
    return permutation(count, generator=seeded(seed))[:_MOST_ROWS]


def held_out_predictions(family: BaseEnsemble, rows: ScoredRows, held_out: Tensor) -> Tensor:
    """Predictions `(M, H)` of each member for the rows `(M, H)` it holds out."""
    parts = []
    for places in held_out.split(_CHUNK, dim=1):
        part = rows.take(places)
        parts.append(family.predictions(part.codes, part.context, own_rows=True))
    return torch.cat(parts, 1)


def _fit_weights(
    predictions: Tensor,
    scores: Tensor,
    counts: Tensor | None = None,
    sequences: Tensor | None = None,
    *,
    sure: bool = False,
) -> tuple[Tensor, Tensor]:
    """Weights of at least 0 and a constant that predict scores with the least squared error.

    Ten rows' worth of evidence for the prior weights keeps the weights of few rows sensible; what
    a row is worth depends on the noise, which is what no weights explain. A family that would weigh
    less than .03 is left out.

    Args:
        predictions: `(P, N)`, of each family.
        scores: `(N,)`.
        counts: `(N,)`, observations that each row counts for; by default 1.
        sequences: `(P,)`, True for convolutions; by default there are none. See `_prior`.
        sure: whether the features are the places of a sequence for certain. The prior is then worth
            .3 of the rows, however many there are.

    Returns:
        Weights `(P,)`, float32, and the constant `()`.

    Example:
        >>> truth = torch.linspace(-1.0, 1.0, 400)
        >>> weights, constant = _fit_weights(torch.stack([truth, -truth]), truth)
        >>> weights.round(decimals=2), constant.abs() < 0.01
        (tensor([1., 0.]), tensor(True))
    """
    families, count = len(predictions), torch.ones_like(scores) if counts is None else counts
    share = (count / count.sum()).double()
    x, y = predictions.double(), scores.double()
    x_mean, y_mean = x @ share, y @ share
    x, y = x - x_mean.unsqueeze(1), y - y_mean
    gram, right, variance = (x * share) @ x.T, (x * share) @ y, y.square() @ share
    every, eye = tuple(range(families)), torch.eye(families, dtype=x.dtype, device=x.device)
    # above 0 even where all scores are equal, or two families are
    least = 1e-9 * variance + 1e-12
    weights = _non_negative(gram + least * eye, right, every)
    noise = (y - weights @ x).square() @ share
    # of very few rows, nearly all would seem to be explained
    noise = noise.lerp(variance, _PRIOR_ROWS / (_PRIOR_ROWS + len(scores)))
    worth = max(_PRIOR_ROWS / len(scores), _SEQUENCE_SHARE if sure else 0.0)
    strength = worth * noise + least
    # with the diagonal a ridge towards the prior, not towards 0
    gram, right = gram + strength * eye, right + strength * _prior(gram, right, sequences)
    weights = _non_negative(gram, right, every)
    kept = tuple(i for i in every if weights[i] >= _LEAST_WEIGHT)
    weights = _non_negative(gram, right, kept or every)
    return weights.float(), (y_mean - weights @ x_mean).float()


def _prior(gram: Tensor, right: Tensor, sequences: Tensor | None) -> Tensor:
    """Weights `(P,)` expected before held-out rows are counted: equal, but for those of a sequence.

    There they follow the variance that each family explains alone, and the best has nearly all.
    That of convolutions counts three times: what they learn holds for rows unlike those seen, which
    held-out rows cannot show.
    """
    if sequences is None or not bool(sequences.any()):
        return torch.full_like(right, 1 / len(right))
    explained = right.clamp_min(0).square() / gram.diagonal().clamp_min(1e-300)
    explained = explained * torch.where(sequences.to(right.device), _FAVOUR, 1.0)
    skill = (explained / explained.amax().clamp_min(1e-300)) ** _SHARPNESS
    return skill / skill.sum() if bool(skill.any()) else torch.full_like(right, 1 / len(right))


def _non_negative(gram: Tensor, right: Tensor, allowed: tuple[int, ...]) -> Tensor:
    """Minimiser `(P,)` of the quadratic form over weights of at least 0, others being 0.

    There are few families: every set of those above 0 is tried.
    """
    best, least = torch.zeros_like(right), 0.0
    for size in range(1, len(allowed) + 1):
        for chosen in map(list, combinations(allowed, size)):
            inner = torch.linalg.solve(gram[chosen][:, chosen], right[chosen])
            # w G w - 2 w . r at its minimiser, where G w = r
            value = float(-inner @ right[chosen])
            if value < least and bool((inner >= 0).all()):
                best, least = torch.zeros_like(right), value
                best[chosen] = inner
    return best
