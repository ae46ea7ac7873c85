"""Rules of plain values, as a TOML file holds them: one table a rule, its keys the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence

from discrete_grad.data import Schema
from discrete_grad.rules import Rule, When
from discrete_grad.runs._rule_kinds import KINDS, READ
from discrete_grad.runs._rule_names import Plain, RuleNames, as_list, as_table, nearest
from discrete_grad.training.checkpoint import RunError

__all__ = ["RuleReader"]


class RuleReader:
    """Reads rules whose features and categories are the columns of a table.

    Args:
        schema: of the table; rules may speak of its features and of categorical contexts.
        seen: names of features -> the rules that they stand together as in the table; "auto" for
            those that are found.

    Example:
        >>> from discrete_grad.data import Vocabulary
        >>> schema = Schema((Vocabulary("cut", ("fair", "good")),), (), "score")
        >>> reader = RuleReader(schema, lambda names: [])
        >>> reader.rules("rules.toml", {"Fix": [{"feature": "cut", "category": "good"}]})
        [Fix('cut', 'good')]
    """

    def __init__(
        self, schema: Schema, seen: Callable[[Sequence[str] | str], Sequence[Rule]]
    ) -> None:
        self.seen, self.names = seen, RuleNames(schema)

    def rules(self, where: str, content: Plain) -> list[Rule]:
        """Rules of kinds -> tables.

        Args:
            where: what the messages name the file.
            content: name of a class of `discrete_grad.rules` -> a table of its arguments for each
                rule.

        Raises:
            RunError: for an unknown kind, key, feature or category, with the nearest one, or
                arguments that make no rule; it says in which rule.
        """
        return [
            rule
            for kind, number, given in _tables(where, content)
            for rule in self._read(f"{where}, {kind} {number}", kind, given)
        ]

    def _read(self, where: str, kind: str, given: Plain) -> Sequence[Rule]:
        _check_keys(where, kind, given)
        try:
            if kind == "When":
                inner = self.rules(where, as_table(given["rules"], "rules"))
                return [When(self.names.cells(given["condition"], "condition"), inner)]
            if kind == "Observed" and "rows" not in given:
                return self.seen(self._features(given["features"]))
            return [READ[kind](self.names, given)]
        except (TypeError, ValueError) as error:
            text = str(error)
            raise RunError(text if text.startswith(where) else f"{where}: {text}") from error

    def _features(self, given: object) -> Sequence[str] | str:
        return "auto" if given == "auto" else [self.names.feature(name) for name in as_list(given)]


def _tables(where: str, content: Plain) -> Iterator[tuple[str, int, Plain]]:
    """Kind, number and arguments of each rule."""
    for kind, given in content.items():
        if kind not in KINDS:
            raise RunError(f"{where}: no kind of rule {kind!r}{nearest(kind, list(KINDS))}")
        if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
            raise RunError(f"{where}: a rule is a table headed [[{kind}]], got {given!r}")
        for number, one in enumerate(given, 1):
            yield kind, number, one


def _check_keys(where: str, kind: str, given: Plain) -> None:
    parameters = inspect.signature(KINDS[kind]).parameters
    for key in given:
        if key not in parameters:
            raise RunError(f"{where}: {kind} has no {key!r}{nearest(key, list(parameters))}")
    for name, parameter in parameters.items():
        # the rows of Observed are the table's
        wanted = parameter.default is parameter.empty and (kind, name) != ("Observed", "rows")
        if wanted and name not in given:
            raise RunError(f"{where}: {name!r} is missing")
