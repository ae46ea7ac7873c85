"""Rules of a table's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.fitting.config import GeneratorConfig
from discrete_grad.policies.obeying import ObeyingPolicy
from discrete_grad.rules import Rule, Rules
from discrete_grad.space import CategoricalSpace
from discrete_grad.training.checkpoint import RunError

__all__ = [
    "GivenRules",
    "check_contexts",
    "joined_rules",
    "listed",
    "ruled_config",
    "table_rules",
]

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


def table_rules(
    schema: Schema, given: GivenRules, *, max_states: int | None = None
) -> Rules | None:
    """Rules for the rows of a table, with the columns of its context that they speak of.

    Args:
        schema: of the table.
        given: in terms of its features and of its categorical contexts; from none.
        max_states: see `Rules`; by default that of the rules given.

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
    _check_space(schema, given)
    if not rules:
        return None
    named = {name for rule in rules for name in _names(rule)}
    categorical = None if schema.context_spec is None else schema.context_spec.categorical
    both = (
        () if categorical is None else zip(categorical.names, categorical.categories, strict=True)
    )
    columns = {name: categories for name, categories in both if name in named}
    context = CategoricalSpace(columns) if columns else None
    most = max_states or (given.max_states if isinstance(given, Rules) else None)
    limit = {} if most is None else {"max_states": most}
    try:
        return Rules(schema.space, rules, context=context, **limit)
    except (ValueError, TypeError) as error:
        raise RunError(str(error)) from error


def joined_rules(schema: Schema, own: Rules | None, given: GivenRules) -> Rules | None:
    """The rules of a fit, and further ones, together."""
    if own is None or not listed(given):
        return own if own is not None else table_rules(schema, given)
    _check_space(schema, given)
    most = max(own.max_states, given.max_states if isinstance(given, Rules) else 0)
    return table_rules(schema, [*own.rules, *listed(given)], max_states=most)


def _check_space(schema: Schema, given: GivenRules) -> None:
    if isinstance(given, Rules) and given.space != schema.space:
        raise RunError(f"the rules are of {given.space}, the table's rows of {schema.space}")


def ruled_config(config: GeneratorConfig, rules: Rules | None) -> GeneratorConfig:
    """Settings by which a generator is trained under rules.

    The usual gradient estimator takes none: `StraightThrough` is in its place, and `LeaveOneOut`
    where the rules depend on the context. One that the user chose stays, and so does that of a
    policy that writes step by step.

    Example:
        >>> ruled_config(GeneratorConfig(), None).gradient_estimator
        'ReinMax'
    """
    usual = config.gradient_estimator == GeneratorConfig().gradient_estimator
    if rules is None or not usual or config.policy == "autoregressive":
        return config
    name = "StraightThrough" if rules.context is None else "LeaveOneOut"
    return replace(config, gradient_estimator=name)


def check_contexts(
    policy: ObeyingPolicy, contexts: Tensor | None, places: Sequence[int] | None = None
) -> None:
    """Raise RunError, naming the first one, if rules allow no row in one of some contexts.

    Args:
        policy: the conditioned generator.
        contexts: `(S, C)`, or None.
        places: of the contexts in a longer list of them, by which they are named.
    """
    given = None if contexts is None else policy.rule_context(contexts)
    if contexts is None or given is None:
        return
    rules: Rules = policy.rules
    different, group = given.unique(dim=0, return_inverse=True)
    free = torch.zeros(rules.space.width, device=given.device)
    try:
        rules.condition(free.expand(len(different), -1), context=different)
    except ValueError:
        for place, one in enumerate(different):
            try:
                rules.condition(free, context=one)
            except ValueError as error:
                index = int((group == place).nonzero()[0])
                row = (index if places is None else places[index]) + 1
                said = str(error).partition("leave no row that obeys ")[2]
                raise RunError(f"context row {row}: no row obeys {said or error}") from error


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
