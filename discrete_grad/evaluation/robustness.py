"""Robustness to the context: what rows are worth that were proposed for a perturbed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor

from discrete_grad.evaluation._perturbation import ContextNoise, perturb, perturbations
from discrete_grad.evaluation.contexts import TrainingContexts
from discrete_grad.evaluation.in_parts import in_parts
from discrete_grad.evaluation.metrics import mean_interval
from discrete_grad.evaluation.subject import Subject
from discrete_grad.grouping import first_rows, row_groups
from discrete_grad.policies import IndependentPolicy, Policy
from discrete_grad.sampling import categorical, normal, seeded, uniform
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["context_robustness"]

_MAX_CONTEXTS = 32


@torch.no_grad()
def context_robustness(
    subject: Subject, *, draws: int = 256, samples: int = 16, seed: int = 0
) -> dict[str, Any] | None:
    """Score in a context of the rows that the last policy writes for a perturbed context.

    The policy is asked for rows for a perturbed context; they are scored in the context itself, in
    truth (where it is unknown, by the judge) and in the user's units. A context beyond the observed
    range has no truth of its own, so this is also what its rows are measured by. The perturbations:

    - `noise`: Gaussian, of 0.1, 0.3 and 1 standard deviations of the training contexts, on all
      numeric columns; of 1 deviation on each alone;
    - `replaced`: every categorical column gets another category, each as probable, at a rate of
      0.1, 0.3 and 1; at a rate of 1 each alone;
    - `below`, `above`: all numeric columns lie 1 and 3 deviations beyond the least or the largest
      training value; 3 deviations each alone.

    There is no unseen category: a context has no code for one, and `Schema.encode_context` refuses
    it. Columns with a single value are left alone, and of more than 16 columns of a sort only the
    first 16 are perturbed alone.

    All perturbations use the same noise, and the samples of the perturbed and of the unperturbed
    policy the same random numbers: a policy that ignores its context has changes of exactly 0.
    Intervals are `mean_interval` over the contexts, evenly chosen if there are more than 32.

    Args:
        subject: what to report on; needs `training_contexts`.
        draws: perturbed contexts of each perturbation, shared evenly among the contexts; at least
            one each.
        samples: rows drawn from the policy in each of them.
        seed: of all draws.

    Returns:
        A dict for JSON, in which numbers may not be finite; None without contexts, or without a
        column to perturb. `clean` is about the contexts themselves; each of `perturbed` has

        - `row`, `samples`: worth of the most likely row and of the samples, and `row_change`,
          `samples_change`, what the perturbation adds to it: `[mean, low, high]`;
        - `changed`: share of the perturbed contexts with another most likely row, `entropy` of the
          policy there, in nats, and `entropy_change`: `[mean, low, high]`;
        - `finite`: share of the perturbed contexts with logits to draw from; the others take part
          in no other number;
        - `left_out`: contexts in which the worth of the rows or of the samples is not finite.

        `most_important` names the column that costs the most likely row most when it alone is
        perturbed (`noise` of 1, `replaced` always), None for a single column.

    Raises:
        ValueError: for less than one draw or sample, or training contexts of another width.

    Example:
        >>> from discrete_grad.evaluation.subject import Observed
        >>> from discrete_grad.evaluation.contexts import TrainingContexts
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.policies import Generator
        >>> from discrete_grad.space import CategoricalSpace, ContextSpec
        >>> space, spec = CategoricalSpace.from_sizes((2, 3)), ContextSpec(numeric=["price"])
        >>> codes, prices = space.enumerate(), torch.arange(6.0).unsqueeze(-1)
        >>> scorers = [EstimatorEnsemble([Estimator(space, context=spec)]) for _ in range(2)]
        >>> subject = Subject(
        ...     space=space, contexts=prices, labels=["0", "1", "2", "3", "4", "5"],
        ...     observed=Observed(codes, codes.sum(-1), torch.arange(6)),
        ...     estimator=scorers[0], judge=scorers[1], to_units=lambda scaled, context: scaled,
        ...     policies={"generator": Generator(space, spec)},
        ...     training_contexts=TrainingContexts(spec, prices),
        ... )
        >>> report = context_robustness(subject)
        >>> [(entry["kind"], entry["size"]) for entry in report["perturbed"]][:3]
        [('noise', 0.1), ('noise', 0.3), ('noise', 1.0)]
    """
    if draws < 1 or samples < 1:
        raise ValueError(f"draws and samples must be at least 1, got {draws} and {samples}")
    training = subject.training_contexts
    if subject.contexts is None or training is None:
        return None
    if subject.contexts.shape[1] != training.spec.width:
        got = f"{subject.contexts.shape[1]} and {training.spec.width}"
        raise ValueError(f"contexts and training contexts must be equally wide, got {got}")
    if not perturbations(training):
        return None
    shown = _evenly(len(subject.contexts), _MAX_CONTEXTS)
    sizes = max(1, draws // len(shown)), len(shown), samples
    return _report(subject, shown, subject.contexts[shown], training, sizes, seeded(seed))


def _report(
    subject: Subject,
    shown: Tensor,
    contexts: Tensor,
    training: TrainingContexts,
    sizes: tuple[int, int, int],
    source: torch.Generator,
) -> dict[str, Any]:
    space, changes = subject.space, perturbations(training)
    noise = _context_noise(training.spec, sizes[:2], source)
    numbers = uniform((*sizes, space.num_features), generator=source)
    given = [perturb(contexts, change, training, noise) for change in changes]
    given = [contexts.expand(*sizes[:2], -1), *given]
    name, policy = list(subject.policies.items())[-1]
    clean, *answers = [_answer(space, name, policy, context, numbers) for context in given]
    before, *scores = _worths(subject, shown, contexts, [clean, *answers])
    perturbed = [
        {**asdict(change), **_entry(clean, answer, before, score)}
        for change, answer, score in zip(changes, answers, scores, strict=True)
    ]
    return {
        "policy": name,
        "measure": "judged" if subject.truth is None else "true",
        "contexts": sizes[1],
        "draws": sizes[0],
        "samples": sizes[2],
        "max_entropy": float(space.entropy(torch.zeros(space.width))),
        "clean": _entry(clean, clean, before, before),
        "perturbed": perturbed,
        "most_important": _most_important(perturbed, subject.observed.sign),
        "minimised": subject.observed.minimised,
    }


def _evenly(count: int, most: int) -> Tensor:
    """Positions of some contexts; those with most rows come first, so not just the first few."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def _context_noise(
    spec: ContextSpec, shape: tuple[int, int], source: torch.Generator
) -> ContextNoise:
    kinds = 0 if spec.categorical is None else spec.categorical.num_features
    return ContextNoise(
        normal((*shape, len(spec.numeric)), generator=source),
        uniform((*shape, kinds), generator=source),
        uniform((*shape, kinds), generator=source),
    )


@dataclass(frozen=True)
class _Answer:
    """Codes `(n, S, 1 + m, F)` of a policy in n x S contexts, the most likely row first."""

    codes: Tensor
    entropy: Tensor
    usable: Tensor


def _answer(
    space: CategoricalSpace, name: str, policy: Policy, contexts: Tensor, numbers: Tensor
) -> _Answer:
    """The policy's rows in contexts `(n, S, C)`, drawn with numbers `(n, S, m, F)`."""
    flat = cast(IndependentPolicy, policy).logits(contexts.flatten(0, 1))
    if flat.shape != (expected := (contexts[..., 0].numel(), space.width)):
        raise ValueError(f"logits of {name!r} must be {expected}, got {tuple(flat.shape)}")
    logits = flat.unflatten(0, contexts.shape[:2])
    usable = ~space.log_softmax(logits).isnan().any(-1)
    logits = logits.where(usable.unsqueeze(-1), 0)
    repeated = logits.unsqueeze(2).expand(-1, -1, numbers.shape[2], -1)
    drawn = categorical(space, repeated, numbers)
    codes = torch.cat([space.argmax(logits).unsqueeze(2), drawn], 2)
    return _Answer(codes, space.entropy(logits).double(), usable)


def _worths(
    subject: Subject, shown: Tensor, contexts: Tensor, answers: Sequence[_Answer]
) -> list[Tensor]:
    """The worth `(n, S, 1 + m)` of each answer's rows in the contexts they are asked for."""
    columns = []
    for place, index in enumerate(shown.tolist()):
        codes = torch.stack([answer.codes[:, place] for answer in answers])
        # equal rows are scored once: they are many, and their scores must be equal to the last bit
        flat = codes.flatten(0, 2)
        back = row_groups(flat)
        worth = _worth(subject, index, contexts[place], flat[first_rows(back)])
        columns.append(worth[back].reshape(codes.shape[:3]))
    return list(torch.stack(columns, 2))


def _worth(subject: Subject, index: int, shown: Tensor, codes: Tensor) -> Tensor:
    """`(M,)` for codes `(M, F)` in a shown context."""
    if subject.truth is not None:
        return subject.truth.score(codes, index).double()
    context = shown.expand(len(codes), -1)
    judged = in_parts(subject.scorers["judge"], codes, context)
    return subject.judged_units(judged, context).double()


def _entry(clean: _Answer, answer: _Answer, before: Tensor, after: Tensor) -> dict[str, Any]:
    change = after - before  # NaN between two rows that are infinitely bad, as those a table lacks
    changed = (answer.codes[..., 0, :] != clean.codes[..., 0, :]).any(-1)
    measures = {
        "row": after[..., 0],
        "samples": after[..., 1:].mean(-1),
        "row_change": change[..., 0],
        "samples_change": change[..., 1:].mean(-1),
        "changed": changed.double(),
        "entropy": answer.entropy,
        "entropy_change": answer.entropy - clean.entropy,
    }
    usable = answer.usable & clean.usable
    means = {name: _by_context(values, usable) for name, values in measures.items()}
    found: dict[str, Any] = {name: _interval(values) for name, values in means.items()}
    if found["changed"] is not None:
        found["changed"] = [min(max(share, 0.0), 1.0) for share in found["changed"]]
    left_out = {key: int((~means[key].isfinite()).sum()) for key in ("row", "samples")}
    return {**found, "finite": float(answer.usable.double().mean()), "left_out": left_out}


def _by_context(values: Tensor, usable: Tensor) -> Tensor:
    """Means `(S,)` of `(n, S)` over the usable: NaN without any, not finite if one is not."""
    return values.where(usable, 0).sum(0) / usable.sum(0)


def _interval(values: Tensor) -> list[float] | None:
    known = values[values.isfinite()]
    return list(mean_interval(known)) if len(known) else None


def _most_important(perturbed: Sequence[Mapping[str, Any]], sign: int) -> dict[str, Any] | None:
    """The column whose perturbation alone costs the most likely row most."""
    alone = [
        entry
        for entry in perturbed
        if len(entry["columns"]) == 1
        and (entry["kind"], entry["size"]) in (("noise", 1.0), ("replaced", 1.0))
        and entry["row_change"] is not None
    ]
    if len(alone) < 2:
        return None
    worst = min(alone, key=lambda entry: sign * float(entry["row_change"][0]))
    return {"column": worst["columns"][0], "change": worst["row_change"]}
