"""New rows for given contexts, from a finished run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import Schema, output_format
from discrete_grad.fitting.context_range import warn_far_contexts
from discrete_grad.models.aimed import tradeoff_spec
from discrete_grad.policies.obeying import ObeyingPolicy
from discrete_grad.rules import Rules
from discrete_grad.runs._aim_stages import traded, traded_names
from discrete_grad.runs._asked_once import different_contexts, repeated_for, spread_over
from discrete_grad.runs._estimates import (
    estimate_columns,
    estimate_names,
    require_free,
    tradeoff_names,
)
from discrete_grad.runs._guides import likely_row, under
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._polish import climbed
from discrete_grad.runs._proposals import Proposals, propose, share_of
from discrete_grad.runs._table_rules import GivenRules, check_contexts, joined_rules
from discrete_grad.runs._trust import trusted
from discrete_grad.runs.pareto_front import propose_front
from discrete_grad.training.checkpoint import RunError

__all__ = [
    "FewRowsWarning",
    "check_columns",
    "generate",
    "part_path",
    "polished_row",
]

_SEEN = "in_table"
_MOST_ROWS = 2**20
_WEIGHT = 1e6  # weights of a trade-off are told to as many parts
_TOLD = 3  # contexts with too few rows that are named one by one


class FewRowsWarning(UserWarning):
    """A context got fewer different rows than requested.

    Example:
        >>> issubclass(FewRowsWarning, UserWarning)
        True
    """


def check_columns(schema: Schema) -> None:
    """Raise RunError if `generate` writes a column that the table has, or one for two aims.

    Example:
        >>> from discrete_grad.data import Vocabulary
        >>> try:
        ...     check_columns(Schema((Vocabulary("judge_score", (1, 2)),), (), "score"))
        ... except RunError as error:
        ...     print(error)
        the table has a column 'judge_score', which generate writes itself: rename it
    """
    written = (*tradeoff_names(schema), *estimate_names(schema), _SEEN)
    for place, name in enumerate(written):
        if name in written[:place]:
            raise RunError(f"two aims both write a column {name!r}: rename one of them")
        require_free(schema, [name], "generate writes itself")
    if traded(schema) > 1:
        own = {column.name for column in schema.context}
        for name in tradeoff_spec(None, traded_names(schema)).names:
            if name in own:
                raise RunError(
                    f"the table has a context column {name!r}, which the generator of several aims "
                    "reads itself: rename it"
                )


@torch.no_grad()
def generate(
    run: RunParts,
    columns: dict[str, list[Any]],
    contexts: Tensor | None,
    *,
    rows: int,
    seed: int = 0,
    diversity: int = 1,
    new_only: bool = True,
    rules: GivenRules = (),
    share: tuple[int, int] = (0, 1),
    tradeoff: Mapping[str, float] | None = None,
    front: int | None = None,
    places: Sequence[int] | None = None,
) -> dict[str, list[Any]]:
    """Good and different rows for each context, the best first by the generator's objective.

    That score is the estimator's, with the run's pessimism and preferences; see `row_score`. Of
    the best 16 the first is the one of the least sum of places, by that score and by the
    generator's probability; by a scorer of one's own it is the one of the highest score.

    The rows are found by `best_rows`. So many evaluations of the estimator as read four million
    codes are shared out over the contexts, at most 131,072 for one (16,384 by a scorer without
    derivative), which is every row of a small space, and at least 64, or 8 for each row wanted.

    Every row obeys the rules of the fit and those given here, by which the trained generator is
    conditioned, and lies within `trust_radius` of an observed row where the fit gives `trust` a
    weight.

    Args:
        run: a finished fit.
        columns: the contexts as given, S values a column, from `read_contexts`; empty without.
        contexts: the same encoded, `(S, C)`; None for the one distribution of a fit without.
        rows: different rows wanted for each context, at least 1.
        seed: decides every random number; a context's rows do not depend on the other contexts,
            only on how many there are.
        diversity: features in which any two rows of a context differ at least, from 1.
        new_only: leave out the rows that the table has in the same context.
        rules: further ones than the fit's, in terms of the table's features, categories and
            categorical contexts; `Rules` of its space, or a list of rules.
        share: which part of the contexts, and of how many: (1, 4) for the second quarter.
        tradeoff: name of an aim -> its weight, of a run of several aims; see `Run.at`.
        front: at most so many rows of each context, spread over all trade-offs, none of which is
            worse than another in every aim by the estimators; `rows` is then not looked at.
        places: of the contexts in a longer list of them, whose caller has told of those that are
            far outside the trained range; messages name these.

    Returns:
        Columns: the contexts', the features, `estimated_score` and, with a judge, `judge_score` in
        the table's units, `beyond_observed`, whether either lay outside the scores observed in the
        context and, unless it is a scorer's own, is given as the nearest of them, and `in_table`,
        whether the table has the row in the same context. Of several aims there are
        `estimated_NAME` and `judge_NAME` of each, in its units, `probability_...` of each threshold
        and of success, and the weights `tradeoff_NAME`. A context that has fewer such rows gets
        fewer, with a `FewRowsWarning`; numeric contexts far outside the trained range are told by a
        `FarContextWarning`.

    Raises:
        RunError: as `check_columns`, for fewer than 1 row, a diversity that is below 1 or more than
            the features there are, or more shares than contexts, or rules that contradict each
            other or leave no row in a context; for a trade-off or a front that the run does not
            have, or both.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.fitting import EstimatorConfig, GeneratorConfig
        >>> from discrete_grad.runs.fit_config import FitConfig
        >>> from discrete_grad.runs import fit
        >>> table = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few, generator=GeneratorConfig(steps=50))
        >>> run = fit(read_table(table, score="score"), Path(tempfile.mkdtemp()) / "run", config)
        >>> generate(run, {}, None, rows=1, new_only=False)["cut"]
        [2]
    """
    schema = run.table.schema
    if front is not None and tradeoff is not None:
        raise RunError("a front has every trade-off: give a front or a trade-off, not both")
    if front is not None and diversity > 1:
        raise RunError(f"a front is spread by its aims: diversity must be 1, got {diversity}")
    _check(schema, rows, diversity)
    # more than there are need no search; the warning says how many were asked for
    sought = min(rows, schema.space.num_rows)
    run = run if tradeoff is None else run.at(tradeoff)
    joined = joined_rules(schema, run.rules, rules)
    policy = under(run.generator, joined)
    if isinstance(policy, ObeyingPolicy):
        check_contexts(policy, None if contexts is None else contexts.to(run.device), places)
    total = 1 if contexts is None else len(contexts)
    span = share_of(total, share)
    if share[0] == 0 and places is None:
        warn_far_contexts(run.table, columns, contexts)
    estimates = estimate_names(schema, judged=run.has_judge)
    made = (*tradeoff_names(schema), *schema.space.names, *estimates, _SEEN)
    # equal contexts have equal rows
    different, place = different_contexts(contexts, span)
    written: dict[str, list[Any]] = {name: [] for name in made}
    counts: list[Tensor] = []
    search: dict[str, Any] = {"seed": seed, "new_only": new_only, "total": total}
    if front is None:
        parts = propose(run, different, rows=sought, policy=policy, diversity=diversity, **search)
    else:
        parts, rows = propose_front(run, different, count=front, rules=joined, **search), 1
    for part in parts:
        here = None if different is None else different[part.where]
        told = estimate_columns(run, part.codes, here, part.values) | {_SEEN: part.seen.tolist()}
        asked = _asked(run, part) | schema.decode_features(part.codes)
        for name, values in (asked | told).items():
            written[name] += values
        counts.append(part.counts())
    found = torch.cat([place[:0], *counts])
    written = spread_over(written, found, place)
    kind = f"{'new' if new_only else 'different'} rows of {rows}{_limits(run, joined)}"
    numbered = range(total) if places is None and contexts is not None else places
    short = [(i, n) for i, n in zip(span, found[place].tolist(), strict=True) if n < rows]
    _warn(short, kind, numbered)
    return repeated_for(columns, span, found[place]) | written


def part_path(path: Path, place: int, count: int) -> Path:
    """File of one of several processes that write a file together; the file itself for one.

    Raises:
        TableError: as `output_format`.
        RunError: unless several processes write Parquet.

    Example:
        >>> part_path(Path("rows.parquet"), 0, 2).name
        'rows.part-00000-of-00002.parquet'
    """
    kind = output_format(path)
    if count == 1:
        return path
    if kind != "parquet":
        raise RunError(f"{count} processes write parts in Parquet: {path} must end in .parquet")
    return path.with_name(f"{path.stem}.part-{place:05d}-of-{count:05d}{path.suffix}")


@torch.no_grad()
def polished_row(run: RunParts, context: Tensor | None, rules: GivenRules = ()) -> Tensor:
    """Codes `(F,)` of the row that the best swaps reach from a context's most likely row.

    They climb the score the generator was trained by, obey the run's rules and further ones, and
    stay within `trust_radius` of an observed row if the generator's config gives `trust` a weight;
    where the most likely row does not, they begin at the most likely observed one. It ends where
    no single swap is better, or after 131,072 evaluations; see `swap_search`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.fitting import EstimatorConfig, GeneratorConfig
        >>> from discrete_grad.runs.fit_config import FitConfig
        >>> from discrete_grad.runs import fit
        >>> table = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few, generator=GeneratorConfig(steps=50))
        >>> run = fit(read_table(table, score="score"), Path(tempfile.mkdtemp()) / "run", config)
        >>> polished_row(run, None)
        tensor([2])
    """
    context, near = None if context is None else context.to(run.device), trusted(run)
    policy = under(run.generator, joined_rules(run.table.schema, run.rules, rules))

    def allowed(codes: Tensor) -> Tensor:
        fine = torch.ones_like(codes[:, 0], dtype=torch.bool)
        if isinstance(policy, ObeyingPolicy):
            fine &= policy.allows(codes, context)
        return fine if near is None else fine & near(codes)

    likely = likely_row(policy, context)
    known = run.rows.codes.unique(dim=0).long()
    if not allowed(likely.unsqueeze(0)).all() and (fine := allowed(known)).any():
        likely = known[fine][run.generator.log_prob(known[fine], context).argmax()]
    given = None if context is None else context.unsqueeze(0)
    return climbed(run, policy, likely.unsqueeze(0), given).squeeze(0).cpu()


def _limits(run: RunParts, rules: Rules | None) -> str:
    """Limits to the rows, for a warning."""
    limits = ["obey the rules"] if rules is not None else []
    if run.config.generator.trust:
        limits.append(f"lie within {run.config.generator.trust_radius:g} of an observed row")
    return f" that {' and '.join(limits)}" if limits else ""


def _check(schema: Schema, rows: int, diversity: int) -> None:
    check_columns(schema)
    if rows < 1:
        raise RunError(f"rows must be at least 1, got {rows}")
    if rows > _MOST_ROWS:
        raise RunError(f"rows must be at most {_MOST_ROWS:,} for each context, got {rows:,}")
    features = schema.space.num_features
    if not 1 <= diversity <= features:
        raise RunError(
            f"diversity must be from 1 to the number of features, {features}, got {diversity}"
        )


def _asked(run: RunParts, part: Proposals) -> dict[str, list[Any]]:
    """The trade-off of each row, by the aims' columns; nothing for one aim."""
    weights = part.tradeoffs
    if weights is None and run.aims is not None and run.aims.tradeoff is not None:
        weights = run.aims.tradeoff.expand(len(part.codes), -1)
    if weights is None:
        return {}
    names = tradeoff_names(run.table.schema)
    told = (weights.double() * _WEIGHT).round() / _WEIGHT  # .7, as it was asked, and not .69999999
    return dict(zip(names, told.T.tolist(), strict=True))


def _warn(short: list[tuple[int, int]], wanted: str, places: Sequence[int] | None) -> None:
    """Warn of contexts with too few rows: of the first ones by their places, if they have any."""
    for index, count in short[:_TOLD]:
        place = "" if places is None else f"context row {places[index] + 1}: "
        warnings.warn(f"{place}only {count} {wanted}", FewRowsWarning, stacklevel=3)
    if (further := len(short) - _TOLD) > 0:
        text = f"{further:,} further contexts: too few {wanted}"
        warnings.warn(text, FewRowsWarning, stacklevel=3)
