"""Rules in a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from discrete_grad.data import Table
from discrete_grad.data.text_files import read_text
from discrete_grad.rules import Observed, Rule
from discrete_grad.runs._rule_reading import RuleReader
from discrete_grad.runs._rule_writing import written_rules
from discrete_grad.runs._seen_together import seen_together, sparse_rules
from discrete_grad.training.checkpoint import RunError

__all__ = ["parsed_rules", "read_rules", "rules_text"]


def read_rules(path: Path | str, table: Table) -> list[Rule]:
    r"""The rules of a TOML file: a table for each, headed by its class, with its arguments as keys.

    A category is written as the table shows it. In a column of numbers a number stands for the
    interval that holds it, and `"80..100"` for all categories in that range. The rows of an
    `Observed` without any are the table's; its features may be `"auto"`.

    Args:
        path: of the file.
        table: whose rows the rules are for.

    Raises:
        RunError: for a file that is missing, no TOML or without a rule, an unknown kind, key,
            feature or category, with the nearest one, or arguments that make no rule.

    Example:
        >>> import tempfile
        >>> from discrete_grad.data import read_table
        >>> table = read_table({"cut": ["fair", "good"], "score": [1.0, 2.0]}, score="score")
        >>> path = Path(tempfile.mkdtemp()) / "rules.toml"
        >>> _ = path.write_text('[[Fix]]\nfeature = "cut"\ncategory = "good"')
        >>> read_rules(path, table)
        [Fix('cut', 'good')]
    """
    path = Path(path)
    if path.is_dir() or not path.exists():  # a pipe is fine
        kind = "is a directory, not a file" if path.is_dir() else "does not exist"
        raise RunError(f"the file of rules {path} {kind}")
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is no text: {error}") from error
    content = _content(text, str(path))
    if not any(content.values()):
        raise RunError(f"{path} has no rule; one begins with its kind, such as [[Forbid]]")
    return _rules(content, table, str(path))


def parsed_rules(text: str, table: Table, where: str) -> list[Rule]:
    """Rules of a TOML text, named `where` in messages."""
    return _rules(_content(text, where), table, where)


def _rules(content: dict[str, Any], table: Table, where: str) -> list[Rule]:
    return RuleReader(table.schema, _seen(table)).rules(where, content)


def _content(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where} is not TOML: {error}") from error


def rules_text(rules: Sequence[Rule], table: Table) -> str:
    r"""Rules as TOML that `read_rules` reads, those of a kind together.

    Args:
        rules: in terms of the table's features and categorical contexts.
        table: whose rows they are for.

    Example:
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.rules import Fix
        >>> table = read_table({"cut": ["fair", "good"], "score": [1.0, 2.0]}, score="score")
        >>> print(rules_text([Fix("cut", "good")], table), end="")
        [[Fix]]
        feature = "cut"
        category = "good"
    """
    named = {rule.features for rule in rules if isinstance(rule, Observed)}
    return written_rules(rules, table.schema, [seen_together(table, names) for names in named])


def _seen(table: Table) -> Callable[[Sequence[str] | str], Sequence[Rule]]:
    def rules(names: Sequence[str] | str) -> Sequence[Rule]:
        if names == "auto":
            return [rule for rule, _ in sparse_rules(table)]
        return [seen_together(table, names)]

    return rules
