"""Pairs of rows to be compared: at random, the most telling ones, or answered by a known score."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.grouping import first_rows, row_groups
from discrete_grad.models import PreferenceModel
from discrete_grad.objectives.preference import outcome_information, preference_log_probs
from discrete_grad.preferences.preference_model import answer_log_probs
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.sampling import random_indices, uniform
from discrete_grad.weighting.draws import inverse_draw
from discrete_grad.weighting.reward import Reward

__all__ = ["choose_pairs", "random_pairs", "synthetic_preferences"]


def random_pairs(
    codes: Tensor,
    context: Tensor | None,
    count: int,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pairs of different rows, each in the context of the first of them.

    Args:
        codes: `(N, F)`, of at least two different rows.
        context: `(N, C)`, or None.
        count: pairs wanted.
        generator: source of the noise.

    Returns:
        First rows `(count, F)`, second rows `(count, F)`, contexts `(count, C)` or None.

    Raises:
        ValueError: if no two rows differ.

    Example:
        >>> first, second, _ = random_pairs(torch.tensor([[0], [1], [1]]), None, 4)
        >>> (first != second).all()
        tensor(True)
    """
    position = row_groups(codes)
    different = first_rows(position)
    if len(different) < 2:
        raise ValueError(f"needs two different rows, got {len(codes)} equal ones")
    here = random_indices(len(codes), (count,), generator=generator)
    # one of the other different rows: equally likely, however often a row is observed
    step = 1 + random_indices(len(different) - 1, (count,), generator=generator)
    there = (position[here] + step) % len(different)
    return (
        codes[here].long(),
        codes[different[there]].long(),
        None if context is None else context[here],
    )


def synthetic_preferences(
    score: Reward,
    first: Tensor,
    second: Tensor,
    context: Tensor | None = None,
    *,
    temperature: float = 1.0,
    tie_width: float = 0.0,
    reliability: float | Tensor = 1.0,
    annotator: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Preferences:
    """Answers of annotators who know a score: a stronger model, or the true table.

    Args:
        score: codes `(N, F)`, context `(N, C)` or None -> `(N,)`; an estimator is one.
        first: codes `(N, F)`.
        second: codes `(N, F)`.
        context: `(N, C)` or None, of both rows.
        temperature: what differences of the score are divided by to be log-odds; at 0 the better
            row always wins, and equal ones toss a coin.
        tie_width: as in `preference_log_probs`, in log-odds.
        reliability: of all annotators, or `(A,)` of each, in [0, 1]; 0.9 flips one in ten.
        annotator: `(N,)`, integers below A; None for a single one.
        generator: source of the noise.

    Raises:
        ValueError: for a temperature below 0, or scores that are NaN or of another shape.

    Reference:
        as `preference_log_probs`.

    Example:
        >>> rows = torch.tensor([[0, 2], [1, 0]])
        >>> def score(codes, context):
        ...     return codes.sum(-1)
        >>> synthetic_preferences(score, rows, rows.flip(0), temperature=0).outcome
        tensor([0, 1])
    """
    gain = score(first, context).double() - score(second, context).double()
    if gain.shape != first.shape[:-1] or gain.isnan().any() or not temperature >= 0:
        raise ValueError(
            f"needs a temperature of 0 or more and scores {tuple(first.shape[:-1])} that are no "
            f"NaN, got {temperature} and {tuple(gain.shape)}"
        )
    # not gain / 0, which is NaN for equal rows
    sure = torch.where(gain == 0, 0.0, gain.sign() * math.inf)
    trust = torch.as_tensor(reliability, dtype=gain.dtype)
    if trust.dim():
        trust = trust[torch.zeros_like(gain, dtype=torch.long) if annotator is None else annotator]
    log_p = preference_log_probs(
        gain / temperature if temperature else sure, tie_width=tie_width, reliability=trust
    )
    outcome = inverse_draw(log_p.T, uniform((1, len(gain)), generator=generator)).squeeze(0)
    count = int(annotator.max()) + 1 if annotator is not None and len(annotator) else 1
    names = tuple(f"annotator {i}" for i in range(max(count, torch.as_tensor(reliability).numel())))
    return Preferences(first, second, outcome, context, annotator, names)


@torch.no_grad()
def choose_pairs(
    model: PreferenceModel,
    first: Tensor,
    second: Tensor,
    context: Tensor | None = None,
    *,
    count: int = 1,
    annotator: Tensor | None = None,
) -> Tensor:
    """Positions `(count,)` of the pairs whose answers are most informative, the best first.

    What an answer tells is the information between it and the member that is right: pairs on which
    the members disagree, each of them sure. Every pair is judged alone, so of two copies of a
    telling pair both are chosen.

    Args:
        model: of at least two members.
        first: codes `(N, F)` or flat.
        second: the same.
        context: `(N, C)` or None.
        count: at least 1; fewer are chosen if there are fewer.
        annotator: `(N,)`, who would be asked; None for one who is never wrong.

    Raises:
        ValueError: for a count below 1.

    Reference:
        as `outcome_information`.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.preferences.config import PreferenceConfig
        >>> from discrete_grad.preferences.preference_model import new_preference_model
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> model = new_preference_model(space, None, PreferenceConfig(), seed=0)
        >>> rows = space.enumerate()
        >>> choose_pairs(model, rows, rows.flip(0), count=2).shape
        torch.Size([2])
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    log_p = answer_log_probs(model, first, second, context, annotator=annotator)
    information = outcome_information(log_p.double())
    return information.argsort(descending=True, stable=True)[:count]
