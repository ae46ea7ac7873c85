"""Generated rows for the lines of a contexts table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from discrete_grad.fitting.context_range import warn_far_contexts
from discrete_grad.rules import Fix, Rule
from discrete_grad.runs._lines import Lines
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._proposals import share_of
from discrete_grad.runs._table_rules import GivenRules, listed
from discrete_grad.runs.generate import generate

__all__ = ["rows_of_lines"]

_Columns = dict[str, list[Any]]
_PLACE = ""  # no column of a table has this name


def rows_of_lines(
    run: RunParts,
    lines: Lines,
    *,
    rules: GivenRules = (),
    share: tuple[int, int] = (0, 1),
    **options: Any,
) -> _Columns:
    """Rows for each line, under the run's rules, those given and what the line fixes.

    Args:
        run: a finished fit.
        lines: from `read_lines`.
        rules: further ones, as in `generate`.
        share: which part of the lines, and of how many.
        options: `rows`, `seed`, `diversity` and `new_only` of `generate`.

    Returns:
        Columns as `generate` makes them, in the order of the lines.
    """
    if not any(lines.fixed):
        return generate(run, lines.columns, lines.contexts, rules=rules, share=share, **options)
    total = len(lines.fixed)
    span = share_of(total, share)
    if share[0] == 0:
        warn_far_contexts(run.table, lines.columns, lines.contexts)
    found: list[tuple[int, _Columns]] = []
    for places in _alike(lines, span):
        fixed = [Fix(name, label) for name, label in lines.fixed[places[0]].items()]
        found += _of_group(run, lines.part(places), places, [*listed(rules), *fixed], options)
    found.sort(key=lambda one: one[0])
    return {name: [v for _, part in found for v in part[name]] for name in found[0][1]}


def _alike(lines: Lines, places: range) -> list[list[int]]:
    """Places of the lines that fix the same, together."""
    groups = dict[tuple[tuple[str, str], ...], list[int]]()
    for place in places:
        groups.setdefault(tuple(lines.fixed[place].items()), []).append(place)
    return list(groups.values())


def _of_group(
    run: RunParts, lines: Lines, places: list[int], rules: Sequence[Rule], options: dict[str, Any]
) -> list[tuple[int, _Columns]]:
    """Place and columns of each of some lines that fix the same."""
    columns, contexts = {**lines.columns, _PLACE: places}, lines.contexts
    if contexts is None:  # one distribution, whatever the line
        made = generate(run, {}, None, rules=rules, places=places[:1], **options)
        return [(place, made) for place in places]
    made = generate(run, columns, contexts, rules=rules, places=places, **options)
    where = made.pop(_PLACE)
    return [(place, _only(made, where, place)) for place in places]


def _only(columns: _Columns, where: list[int], place: int) -> _Columns:
    """The rows of one line."""
    kept = [i for i, other in enumerate(where) if other == place]
    return {name: [values[i] for i in kept] for name, values in columns.items()}
