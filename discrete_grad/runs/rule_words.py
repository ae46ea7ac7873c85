"""Rules in words of the command line: `ligand=XPhos`, `base=NaH & solvent=water`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from discrete_grad.data import Table
from discrete_grad.evaluation.best_row import best_row
from discrete_grad.rules import Fix, Forbid, OneOf, Rule, Within
from discrete_grad.runs._rule_names import RuleNames
from discrete_grad.runs._seen_together import only_seen, seen_together, sparse_rules
from discrete_grad.runs.rules_file import read_rules
from discrete_grad.training.checkpoint import RunError

__all__ = ["RuleWords", "worded_rules"]

_AND = re.compile(r"\s&\s|^&\s|\s&$")


@dataclass(frozen=True, kw_only=True)
class RuleWords:
    """Rules as the options of a command give them.

    Example:
        >>> RuleWords(fix=("ligand=XPhos",)).fix
        ('ligand=XPhos',)
    """

    rules: str | PathLike[str] | None = None
    """TOML file, see `read_rules`."""
    fix: Sequence[str] | str = ()
    """`feature=category`, or several categories with `|` between them."""
    forbid: Sequence[str] | str = ()
    """`feature=category & feature=category`."""
    observed: Sequence[str] | str = ()
    """Columns with commas between them, or `auto`."""
    only_seen: bool = False
    """Whether rows are those of the table alone."""
    within: int | None = None
    """Number of features in which rows may differ from the row `of`."""
    of: str | None = None
    """Number of a row of the table, counted from 1, or a file with one row; by default the best row
    of a table without contexts."""


def worded_rules(words: RuleWords, table: Table) -> list[Rule]:
    """The rules that options mean for a table's rows.

    Raises:
        RunError: for words that mean no rule, with the nearest feature or category.

    Example:
        >>> from discrete_grad.data import read_table
        >>> columns = {"cut": ["fair", "good"], "size": [2, 4], "score": [1.0, 2.0]}
        >>> table = read_table(columns, score="score")
        >>> worded_rules(RuleWords(fix=["cut=good"], forbid=["cut=fair & size=2"]), table)
        [Fix('cut', 'good'), Forbid({'cut': 'fair', 'size': '2'})]
    """
    names = RuleNames(table.schema)
    found = [] if words.rules is None else read_rules(Path(words.rules), table)
    found += [_told("--fix", text, _fix, names) for text in _several(words.fix)]
    found += [_told("--forbid", text, _forbid, names) for text in _several(words.forbid)]
    for text in _several(words.observed):
        found += _observed(text, table)
    if words.only_seen:
        found.append(only_seen(table))
    if words.within is not None:
        found.append(_within(words.within, words.of, table))
    elif words.of is not None:
        raise RunError("--of names the row of --within, which is missing")
    return found


def _several(words: Sequence[str] | str) -> Sequence[str]:
    """Words of an option that may be given once or several times."""
    return [words] if isinstance(words, str) else words


def _told(option: str, text: str, read: Callable[[str, RuleNames], Rule], names: RuleNames) -> Rule:
    try:
        return read(text, names)
    except (TypeError, ValueError) as error:
        raise RunError(f"{option} {text!r}: {error}") from error


def _fix(text: str, names: RuleNames) -> Rule:
    name, some = _cell(text, names)
    return OneOf(name, some) if len(some) > 1 else Fix(name, some[0])


def _forbid(text: str, names: RuleNames) -> Rule:
    cells = [_cell(part, names) for part in _AND.split(text)]
    named = [name for name, _ in cells]
    if len(set(named)) < len(named):
        raise ValueError(f"each feature stands there once, got {', '.join(named)}")
    return Forbid(dict(cells))


def _cell(text: str, names: RuleNames) -> tuple[str, list[str]]:
    """A feature and its categories, of `feature=category` or `feature=category|category`."""
    places = [place for place, letter in enumerate(text) if letter == "="]
    if not places:
        raise ValueError(f"expected feature=category, got {text.strip()!r}")
    # a name may hold the sign, too
    known = [place for place in places if text[:place].strip() in names.columns]
    place = (known or places)[0]
    name, wanted = names.feature(text[:place].strip()), text[place + 1 :].strip()
    whole = wanted in names.columns[name].labels
    return name, names.some(name, wanted if whole else [w.strip() for w in wanted.split("|")])


def _observed(text: str, table: Table) -> list[Rule]:
    if text == "auto":
        return [rule for rule, _ in sparse_rules(table)]
    try:
        return [seen_together(table, [name.strip() for name in text.split(",")])]
    except ValueError as error:
        raise RunError(f"--observed {text!r}: {error}") from error


def _within(edits: int, of: str | None, table: Table) -> Rule:
    if edits < 0:
        raise RunError(f"--within must be at least 0, got {edits}")
    names, labels = table.schema.space.names, table.schema.space.categories
    codes = _row(of, table).tolist()
    row = {n: some[code] for n, some, code in zip(names, labels, codes, strict=True)}
    return Within(row, edits)


def _row(of: str | None, table: Table) -> Tensor:
    """Codes `(F,)` of the row that `--of` names."""
    if of is None:
        if table.context is not None:
            raise RunError("--within needs --of: a row's number in the table, or a file with it")
        return table.codes[best_row(table.codes, table.scores)[0]].long()
    if of.isdecimal():
        if not 1 <= int(of) <= len(table):
            raise RunError(f"--of must be from 1 to {len(table):,}, the table's rows, got {of}")
        return table.codes[int(of) - 1].long()
    codes = table.schema.encode_features(Path(of))
    if len(codes) != 1:
        raise RunError(f"--of {of}: expected a file with one row, got {len(codes):,}")
    return codes[0]
