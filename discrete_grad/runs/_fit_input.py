"""The input of a fit as a user gives it: a table of any kind, rules in words, settings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from discrete_grad.data import Table, TableWarning, read_table
from discrete_grad.data.sources import Source
from discrete_grad.preferences import read_preferences
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.runs._table_rules import GivenRules, listed
from discrete_grad.runs.config_file import config_of, read_config
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.generate import check_columns
from discrete_grad.runs.rule_words import RuleWords, worded_rules
from discrete_grad.runs.settings import with_settings

__all__ = ["FitInput", "GivenConfig", "given_config", "given_rules", "read_input"]

GivenConfig = FitConfig | Mapping[str, Any] | str | PathLike[str] | None
"""Settings of a fit: themselves, by their names, or in a TOML file."""

_SHOWN = 6
_USUAL = ("error", "keep")  # of `missing` and `unseen`


class FitInput(NamedTuple):
    """What a fit needs of its table.

    Example:
        >>> FitInput._fields
        ('table', 'rules', 'preferences')
    """

    table: Table
    rules: GivenRules
    preferences: Preferences | None


def read_input(
    source: Table | Source,
    *,
    preferences: Preferences | str | PathLike[str] | None = None,
    rules: GivenRules | str | PathLike[str] = (),
    fix: Sequence[str] | str = (),
    forbid: Sequence[str] | str = (),
    observed: Sequence[str] | str = (),
    **columns: Any,
) -> FitInput:
    """Read the table of a fit, and what speaks of its columns.

    Args:
        source: as in `read_table`, or a table that was read already.
        preferences: between rows, or a file of them.
        rules: rules, or a TOML file of them; see `read_rules`.
        fix: further rules, `"base=KOH|NaOH"`.
        forbid: further rules, `"base=NaH & solvent=water"`.
        observed: further rules, `"base,solvent"` or `"auto"`.
        columns: further arguments of `read_table`, `score` among them; of a table that was read
            already none may say anything.

    Raises:
        ValueError: for such an argument.
        TableError: as `read_table`.
        RunError: for a column of a name that `generate` writes, or rules that say nothing.

    Example:
        >>> read_input({"cut": [0, 1], "price": [1.0, 2.0]}, score="price", fix="cut=1").rules
        [Fix('cut', '1')]
    """
    table = _table(source, columns)
    words = RuleWords(fix=fix, forbid=forbid, observed=observed)
    if preferences is not None and not isinstance(preferences, Preferences):
        preferences = read_preferences(preferences, table.schema)
    return FitInput(table, given_rules(rules, words, table), preferences)


def _table(source: Table | Source, columns: dict[str, Any]) -> Table:
    if not isinstance(source, Table):
        table = read_table(source, **columns)
        check_columns(table.schema)
        _warn_unseen(table)
        return table
    for name, value in columns.items():
        if value not in ((), None, *_USUAL):
            raise ValueError(f"a Table is read already: {name} is given to read_table, not here")
    return source


def given_rules(
    rules: GivenRules | str | PathLike[str], words: RuleWords, table: Table
) -> GivenRules:
    """Rules given as themselves or as a file, and in words.

    Example:
        >>> table = read_table({"cut": [0, 1], "price": [1.0, 2.0]}, score="price")
        >>> given_rules([], RuleWords(fix=["cut=1"]), table)
        [Fix('cut', '1')]
    """
    if isinstance(rules, str | PathLike):
        file = RuleWords(rules=Path(rules))
        return [*worded_rules(file, table), *worded_rules(words, table)]
    worded = worded_rules(words, table)
    return [*listed(rules), *worded] if worded else rules


def given_config(config: GivenConfig, **settings: Any) -> FitConfig:
    """Settings of a fit, with some of them replaced where they are not None.

    Raises:
        RunError: for a file that is wrong, an unknown setting or one of a wrong type.
        ValueError: for one out of range.

    Example:
        >>> given_config({"generator.steps": 400, "judge": {"members": 3}}, seed=7).seed
        7
    """
    if config is None or isinstance(config, FitConfig):
        base = config or FitConfig()
    elif isinstance(config, Mapping):
        base = config_of(config)
    else:
        base = read_config(Path(config))
    chosen = with_settings(base, {n: value for n, value in settings.items() if value is not None})
    chosen.check()
    return chosen


def _warn_unseen(table: Table) -> None:
    """Tell of each feature with categories that no row has."""
    for name, values in table.unseen.items():
        more = f" and {len(values) - _SHOWN:,} more" if len(values) > _SHOWN else ""
        some = ", ".join(map(repr, values[:_SHOWN])) + more
        text = (
            f"no row has {some} of feature {name!r}: the estimator knows nothing of this, "
            "and --unseen drop leaves it out (in Python unseen='drop')"
        )
        warnings.warn(text, TableWarning, stacklevel=4)
