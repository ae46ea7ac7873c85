"""Rules of a table's rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from discrete_grad.data import Schema
from discrete_grad.rules import Rule, Rules
from discrete_grad.space import CategoricalSpace
from discrete_grad.training.checkpoint import RunError

__all__ = ["GivenRules", "listed", "table_rules"]

GivenRules = Rules | Sequence[Rule]
"""Rules of a table's rows, or only what they say."""


def listed(given: GivenRules) -> tuple[Rule, ...]:
    """The rules one by one.

    Example:
        >>> from discrete_grad.rules import Fix
        >>> listed([Fix("cut", "good")])
        (Fix('cut', 'good'),)
    """
    return given.rules if isinstance(given, Rules) else tuple(given)


def table_rules(schema: Schema, given: GivenRules) -> Rules | None:
    """Rules for the rows of a table, with the columns of its context that they speak of.

    Args:
        schema: of the table.
        given: in terms of its features and of its categorical contexts; from none.

    Returns:
        None where there is no rule.

    Raises:
        RunError: for rules that the rows of the table cannot follow: of another space, of an
            unknown name, or that contradict each other.

    Example:
        >>> from discrete_grad.data import Vocabulary
        >>> from discrete_grad.rules import Fix
        >>> schema = Schema((Vocabulary("cut", ("fair", "good")),), (), "score")
        >>> table_rules(schema, [Fix("cut", "good")]).num_rows
        1
    """
    rules = listed(given)
    if isinstance(given, Rules) and given.space != schema.space:
        raise RunError(f"the rules are of {given.space}, the table's rows of {schema.space}")
    if not rules:
        return None
    named = {name for rule in rules for name in _names(rule)}
    categorical = None if schema.context_spec is None else schema.context_spec.categorical
    pairs = () if categorical is None else zip(
        categorical.names, categorical.categories, strict=True
    )
    columns = {name: categories for name, categories in pairs if name in named}
    context = CategoricalSpace(columns) if columns else None
    most = given.max_states if isinstance(given, Rules) else None
    try:
        if most is not None:
            return Rules(schema.space, rules, context=context, max_states=most)
        return Rules(schema.space, rules, context=context)
    except (ValueError, TypeError) as error:
        raise RunError(str(error)) from error


def _names(rule: Rule) -> set[str]:
    """Columns that a rule names."""
    found: set[str] = set()
    for key, value in vars(rule).items():
        if key == "rules":
            found |= {name for inner in value for name in _names(inner)}
        elif key == "feature":
            found.add(value)
        elif key == "features":
            found |= set(value or ())
        elif isinstance(value, tuple):  # names, each with what is said of it
            found |= {one[0] for one in value if isinstance(one, tuple)}
    return found
