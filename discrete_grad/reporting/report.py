"""The report: every policy beside the best training row, by estimator, judge and truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import ScoredRows
from discrete_grad.evaluation.exploitation import exploitation_report
from discrete_grad.evaluation.in_parts import in_parts
from discrete_grad.evaluation.metrics import spearman
from discrete_grad.evaluation.robustness import context_robustness
from discrete_grad.evaluation.row_laws import row_laws, shown_logits
from discrete_grad.evaluation.subject import Scorer, Subject
from discrete_grad.evaluation.swap_agreement import swap_report
from discrete_grad.hamming import KnownRows
from discrete_grad.policies.protocol import has
from discrete_grad.reporting._entries import context_report
from discrete_grad.sampling import permutation, seeded

__all__ = ["build_report"]

_DETAILED = 6  # contexts whose samples and probabilities are kept for the plots
_MAX_POINTS = 400
_MAX_HELD_OUT = 16_384
_COMPARISONS = 2**33  # of one feature of two rows, in the whole report
_LARGE = 10**15
_AVERAGED = (
    "observed",
    "estimated",
    "estimated_std",
    "beyond_observed",
    "judged",
    "true",
    "true_percentile",
    "entropy",
    "distinct_share",
    "nearest_mean",
    "soft_hard_gap",
)


@torch.no_grad()
def build_report(subject: Subject, *, samples: int = 256, seed: int = 0) -> dict[str, Any]:
    """Measure every policy in every shown context.

    Scores are in the user's units; `minimised` says whether low ones are good. `entries` are the
    best training row, uniformly random rows, and for each policy its most likely row and its
    samples, with these keys:

    - `estimated`, `estimated_std` (between the ensemble's members), `judged`, `true`,
      `true_percentile`: of the row, or the mean over the samples;
    - `beyond_observed`: share of the rows estimated better than every observed score;
    - `observed`: the best training row's score in the table, the mean where it is there several
      times (the best row is then that of the largest shrunken mean, see `best_row`); `row`: a
      single row's categories;
    - `entropy`: of the policy, in nats; `distinct_share`: different samples over all samples;
    - `nearest_mean`, `nearest_min`: features in which rows differ from the most similar training
      row of any context; of very many training rows a sample is compared, as `nearest` states, and
      the others are only recognised when they are met exactly;
    - `soft_hard_gap`: the estimator's score of the soft row `softmax(logits)` minus its mean score
      of the samples, on the scale the models are trained on.

    `average` holds the same entries, averaged over the contexts where a value is known;
    `nearest_min` is the least there. `swaps` is from `swap_agreement` for the last policy's most
    likely rows and for training rows, with the effects themselves for the first contexts;
    `held_out` tells how well the models predict what they have not seen: `rows` drawn of those
    there are, `of`; a row with a count is there as often;
    `exploitation` from `exploitation_report`, None without a trail of the policy's training;
    `robustness` from `context_robustness`, None for a conditioned policy; `estimator`, `rules`,
    `together` and `aims`, the subject's facts.

    Args:
        subject: what to report on.
        samples: rows drawn from each policy in each context.
        seed: of these draws.

    Returns:
        A JSON-able dict; what is not known or not finite is None.

    Raises:
        ValueError: for fewer than one sample, or logits that do not fit the space.

    Example:
        >>> from discrete_grad.evaluation import Observed
        >>> from discrete_grad.models import Estimator, EstimatorEnsemble
        >>> from discrete_grad.policies import Generator
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> codes = space.enumerate()
        >>> scorers = [EstimatorEnsemble([Estimator(space)]) for _ in range(2)]
        >>> subject = Subject(
        ...     space=space, contexts=None, labels=["all rows"],
        ...     observed=Observed(codes, codes.sum(-1), torch.zeros(6, dtype=torch.long)),
        ...     estimator=scorers[0], judge=scorers[1], to_units=lambda scaled, context: scaled,
        ...     policies={"generator": Generator(space)},
        ... )
        >>> report = build_report(subject, samples=8)
        >>> [entry["name"] for entry in report["average"]][:2]
        ['best training row', 'random rows']
        >>> report["average"][0]["row"], report["average"][0]["observed"]
        (['1', '2'], 3.0)
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    noise = seeded(seed)
    laws = {name: row_laws(subject, policy, name) for name, policy in subject.policies.items()}
    uniform = None if subject.uniform is None else row_laws(subject, subject.uniform, "random rows")
    known = _known_rows(subject, samples)
    contexts = [
        context_report(
            subject,
            index,
            {name: value[index] for name, value in laws.items()},
            uniform=None if uniform is None else uniform[index],
            known=known,
            samples=samples,
            noise=noise,
            detailed=index < _DETAILED,
        )
        for index in range(len(subject.labels))
    ]
    space, last = subject.space, list(laws.values())[-1]
    report = {
        "score_name": subject.observed.score_name,
        "minimised": subject.observed.minimised,
        "rows": len(subject.observed.scores),
        "features": [{"name": n, "size": k} for n, k in zip(space.names, space.sizes, strict=True)],
        "possible_rows": space.num_rows if space.num_rows < _LARGE else None,
        "max_entropy": sum(math.log(size) for size in space.sizes),
        "has_contexts": subject.contexts is not None,
        "contexts_in_table": max(subject.contexts_in_table, len(contexts)),
        "has_truth": subject.truth is not None,
        "has_judge": subject.judge is not None,
        "policies": list(subject.policies),
        "samples": samples,
        "nearest": {"different_rows": known.count, "compared": known.compared},
        "seed": seed,
        "settings": dict(subject.settings),
        "estimator": dict(subject.estimator_facts),
        "average": _average([context["entries"] for context in contexts]),
        "contexts": contexts,
        "held_out": {
            name: _held_out(subject.scorers[name], rows, seed)
            for name, rows in subject.held_out.items()
        },
        "curves": _curves(subject.metrics),
        "swaps": swap_report(subject, torch.stack([law.mode() for law in last])),
        "exploitation": _exploitation(subject, seed),
        "robustness": _robustness(subject, seed),
        "rules": dict(subject.rules_facts) or None,
        "together": dict(subject.together_facts) or None,
        "aims": dict(subject.aims_facts) or None,
    }
    cleaned: dict[str, Any] = _jsonable(report)
    return cleaned


def _known_rows(subject: Subject, samples: int) -> KnownRows:
    """The training rows, so many of them compared that the whole report takes seconds."""
    asked = len(subject.labels) * (1 + len(subject.policies)) * (1 + samples)
    return KnownRows(subject.observed.codes, comparisons=_COMPARISONS // asked)


def _exploitation(subject: Subject, seed: int) -> dict[str, Any] | None:
    if not subject.trail or subject.reference is None or subject.judge is None:
        return None
    trail = _TrailLogits(subject)
    reference = shown_logits(subject, subject.reference, "the reference")
    names = [name for name, policy in subject.policies.items() if policy is subject.reference]
    part = exploitation_report(subject, trail, reference, seed=seed)
    return {"reference_name": (*names, "reference")[0], **part}


class _TrailLogits(Mapping[int, Tensor]):
    """Logits `(S, D)` of each state of the last policy, computed when they are asked for."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __getitem__(self, step: int) -> Tensor:
        return shown_logits(self.subject, self.subject.trail[step], f"step {step}")

    def __iter__(self) -> Iterator[int]:
        return iter(self.subject.trail)

    def __len__(self) -> int:
        return len(self.subject.trail)


def _robustness(subject: Subject, seed: int) -> dict[str, Any] | None:
    """For policies of independent features alone, by the truth or a judge."""
    last = list(subject.policies.values())[-1]
    if subject.truth is None and subject.judge is None:
        return None
    return context_robustness(subject, seed=seed) if has(last, "logits") else None


def _average(contexts: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The entries of the contexts, combined one by one over those that know a value."""
    averages = []
    for entries in zip(*contexts, strict=True):
        first = entries[0]
        average = {
            "name": first["name"],
            "policy": first["policy"],
            "kind": first["kind"],
            "row": first["row"] if len(contexts) == 1 else None,
        }
        for name in _AVERAGED:
            known = _known(entries, name)
            average[name] = sum(known) / len(known) if known else None
        average["nearest_min"] = min(_known(entries, "nearest_min"), default=None)
        averages.append(average)
    return averages


def _known(entries: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    values = [entry[name] for entry in entries]
    return [value for value in values if value is not None and not math.isnan(value)]


def _held_out(scorer: Scorer, rows: ScoredRows, seed: int) -> dict[str, Any]:
    """Quality of a scorer's predictions of unseen rows, on the scale it is trained on."""
    chosen = torch.arange(len(rows.scores))
    if rows.counts is not None:
        chosen = chosen.repeat_interleave(rows.counts)
    count = len(chosen)
    if count > _MAX_HELD_OUT:
        chosen = chosen[permutation(count, generator=seeded(seed))[:_MAX_HELD_OUT]]
    context = None if rows.context is None else rows.context[chosen]
    predicted = in_parts(scorer, rows.codes[chosen].long(), context)
    scores = rows.scores[chosen]
    errors = (predicted - scores).double()
    return {
        "rows": len(errors),
        "of": count,
        "spearman": spearman(predicted, scores),
        "rmse": float(errors.square().mean().sqrt()),
    }


def _curves(metrics: Sequence[Mapping[str, float]]) -> dict[str, dict[str, list[list[float]]]]:
    """`stage/metric` -> stage -> metric -> `[steps, values]`, thinned evenly if long."""
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for line in metrics:
        for key, value in line.items():
            stage, slash, metric = key.partition("/")
            if slash:
                steps, values = curves.setdefault(stage, {}).setdefault(metric, [[], []])
                steps.append(line["step"])
                values.append(value)
    return {stage: {m: _thin(c) for m, c in lines.items()} for stage, lines in curves.items()}


def _thin(curve: list[list[float]]) -> list[list[float]]:
    stride = -(-len(curve[0]) // _MAX_POINTS)
    # the last point is where training ended
    return [[*column[:-1:stride], column[-1]] for column in curve]


def _jsonable(value: Any) -> Any:
    """Plain JSON: numbers that are not finite become None, unknown objects text."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)
