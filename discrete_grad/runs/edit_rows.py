"""Edits of given rows, from a finished run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import Schema, read_contexts
from discrete_grad.data.sources import Source
from discrete_grad.models import Edits
from discrete_grad.models._row_values import RowFunction
from discrete_grad.models._swap_moves import UnreachableError
from discrete_grad.models.edits import edits_of
from discrete_grad.policies.obeying import ObeyingPolicy
from discrete_grad.runs._estimates import (
    estimate_columns,
    expected_scores,
    require_free,
    scored_names,
)
from discrete_grad.runs._guides import RunPolicy, under
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._polish import RunScore, swaps_of_run
from discrete_grad.runs._seen_rows import SeenRows
from discrete_grad.runs._table_rules import GivenRules, check_contexts, joined_rules
from discrete_grad.training.checkpoint import RunError

__all__ = ["edit_rows"]

_GIVEN, _EDITS, _CHANGES, _SEEN = "given_row", "edits", "changes", "in_table"
_RESTARTS = 8


@torch.no_grad()
def edit_rows(
    run: RunParts, source: Source, *, edits: int, rules: GivenRules = (), seed: int = 0
) -> dict[str, list[Any]]:
    """The best rows within a few changes of each given row, by the generator's objective.

    For each given row there is the best row within 1 change, within 2, and so on; one that more
    changes do not improve stands there once, and a given row that none improves with 0 changes. All
    obey the rules of the fit and those given here, and lie within the run's trust; a given row that
    breaks the rules is first changed to the nearest one that obeys, and these changes count. Rows
    are found by `swap_search`. Of several aims, rows are sought at the run's trade-off.

    Args:
        run: a finished fit.
        source: rows with the features and, of a fit with contexts, the context columns; as in
            `read_table`.
        edits: features in which a row may differ from the given one, at least 1.
        rules: further ones than the fit's.
        seed: decides the search's restarts.

    Returns:
        Columns: `given_row`, counted from 1; `edits`, the number of changes; the contexts' and the
        features; `score_before` of the given row, by the estimator in the table's units; what
        `generate` writes of a row; and `changes`, each with the estimated score that it gains if
        it is made alone, and marked where it can be taken back at no loss. Of several aims there
        are `NAME_before` and gains of each.

    Raises:
        RunError: for fewer than 1 change, a given row from which none within the changes obeys, or
            a column of the table that has a name of these.
        TableError: as `Schema.encode_features` and `read_contexts`.

    Example:
        >>> import tempfile
        >>> import discrete_grad
        >>> table = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = {"estimator.steps": 50, "judge.steps": 50, "generator.steps": 50}
        >>> run = discrete_grad.fit(table, tempfile.mkdtemp(), few, score="score")
        >>> edit_rows(run, {"cut": [1]}, edits=1)["cut"]
        [2]
    """
    schema = run.table.schema
    _check(schema, edits)
    start = schema.encode_features(source)
    columns, contexts = read_contexts(source if schema.context else None, schema)
    policy = under(run.generator, joined_rules(schema, run.rules, rules))
    here = None if contexts is None else contexts.to(run.device)
    if isinstance(policy, ObeyingPolicy):
        check_contexts(policy, here)
    given = _Given(run, start.to(run.device), here, policy, seed)
    written: dict[str, list[Any]] = {}
    try:
        for made, rows in _found(given, min(edits, schema.space.num_features)):
            for name, values in _columns(run, columns, contexts, made, rows).items():
                written.setdefault(name, []).extend(values)
    except UnreachableError as error:
        raise RunError(f"given row {error.row + 1}: {error}") from error
    places = zip(written[_GIVEN], written[_EDITS], strict=True)
    order = [place for place, _ in sorted(enumerate(places), key=lambda pair: pair[1])]
    return {name: [values[i] for i in order] for name, values in written.items()}


def _check(schema: Schema, edits: int) -> None:
    if edits < 1:
        raise RunError(f"edits must be at least 1, got {edits}")
    written = (_GIVEN, _EDITS, *_before_names(schema), _CHANGES)
    require_free(schema, written, "edits write")


def _before_names(schema: Schema) -> list[str]:
    """Columns of what the given rows are expected to be worth, one for each aim."""
    return [f"{name}_before" for name in scored_names(schema)]


@dataclass(frozen=True, eq=False)
class _Given:
    """Given rows, and the terms under which they are edited.

    Args:
        run: a finished fit.
        start: codes `(N, F)`; like the contexts on the device of the models.
        contexts: `(N, C)`, or None.
        policy: the run's generator, conditioned where there are rules.
        seed: of the search.
    """

    run: RunParts
    start: Tensor
    contexts: Tensor | None
    policy: RunPolicy
    seed: int

    @property
    def obeying(self) -> ObeyingPolicy | None:
        """The policy where there are rules."""
        return self.policy if isinstance(self.policy, ObeyingPolicy) else None

    def allowed(self, codes: Tensor, rows: Tensor) -> Tensor:
        """Whether codes `(n, F)` obey in the contexts of given rows `(n,)`."""
        if self.obeying is None:
            return torch.ones_like(rows, dtype=torch.bool)
        return self.obeying.allows(codes, self.context(rows))

    def context(self, rows: Tensor) -> Tensor | None:
        """Contexts `(n, C)` of given rows."""
        return None if self.contexts is None else self.contexts[rows]

    def within(self, most: int, rows: Tensor) -> Edits:
        """The best of each of the given rows `(n,)` within so many changes."""
        space, start, context = self.policy.space, self.start[rows], self.context(rows)
        found = swaps_of_run(
            self.run,
            self.policy,
            start,
            context,
            least=2 * space.width,
            restarts=_RESTARTS,
            edits=most,
            seed=self.seed,
        )

        def allowed(codes: Tensor, where: Tensor) -> Tensor:
            return self.allowed(codes, rows[where])

        f = RowFunction(RunScore(self.run), space)
        return edits_of(f, start, context, found, 0.0, allowed, 0.0)


def _found(given: _Given, edits: int) -> Iterator[tuple[Edits, Tensor]]:
    """Edits within 1 change, 2, ..., and the places `(n,)` of the rows that get new ones.

    Rows that none improves come last, as they are.
    """
    every = torch.arange(len(given.start), device=given.start.device)
    known, fine = given.start, every[given.allowed(given.start, every)]
    for most in range(1, edits + 1):
        # one that breaks the rules may need more changes than these
        rows = every if most == edits else fine
        if not len(rows):
            continue
        made = given.within(most, rows)
        new = (made.codes != known[rows]).any(1)
        if most == edits:
            new |= (known == given.start).all(1)
        known = known.index_copy(0, rows, made.codes)
        if new.any():
            yield made.at(new.nonzero().squeeze(1)), rows[new]


def _columns(
    run: RunParts, columns: dict[str, list[Any]], contexts: Tensor | None, made: Edits, rows: Tensor
) -> dict[str, list[Any]]:
    """Columns of edited rows of the given ones at places `(n,)`."""
    schema, rows = run.table.schema, rows.cpu()
    here = None if contexts is None else contexts[rows]
    codes, start = made.codes.cpu(), made.start.cpu()
    before = zip(_before_names(schema), expected_scores(run, start, here), strict=True)
    return {
        _GIVEN: (rows + 1).tolist(),
        _EDITS: (codes != start).sum(1).tolist(),
        **{name: [values[i] for i in rows.tolist()] for name, values in columns.items()},
        **schema.decode_features(codes),
        **{name: values.tolist() for name, values in before},
        **estimate_columns(run, codes, here),
        _SEEN: SeenRows(run.table, here)(codes).tolist(),
        _CHANGES: _words(run, made, here),
    }


def _words(run: RunParts, made: Edits, contexts: Tensor | None) -> list[str]:
    """The changes of each row, each with the score it gains alone."""
    codes, start, needed = made.codes.cpu(), made.start.cpu(), made.needed.cpu()
    row, place = (codes != start).nonzero(as_tuple=True)
    at = place.unsqueeze(1)
    alone = start[row].scatter(1, at, codes[row].gather(1, at))
    here = None if contexts is None else contexts[row]
    after, before = (expected_scores(run, codes, here) for codes in (alone, start[row]))
    gains = _gains(run.table.schema, torch.stack(after) - torch.stack(before))
    texts: list[list[str]] = [[] for _ in codes]
    space = made.space
    for i, feature, gain in zip(row.tolist(), place.tolist(), gains, strict=True):
        old, new = (space.categories[feature][int(side[i, feature])] for side in (start, codes))
        mark = "" if needed[i, feature] else ", not needed"
        texts[i].append(f"{space.names[feature]}: {old} -> {new} ({gain} alone{mark})")
    return ["; ".join(text) for text in texts]


def _gains(schema: Schema, gains: Tensor) -> list[str]:
    """What changes gain `(K, n)` in each aim, in words; one aim goes without its name."""
    names = [f"{name} " for name in scored_names(schema)] if schema.aims else [""]
    told = [
        [f"{n}{gain:+.4g}" for gain in row] for n, row in zip(names, gains.tolist(), strict=True)
    ]
    return [", ".join(words) for words in zip(*told, strict=True)]
