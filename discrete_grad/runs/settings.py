"""The settings of a fit one by one, by dotted names such as `estimator.members`."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin, get_type_hints

from discrete_grad.runs.fit_config import FitConfig

__all__ = ["Setting", "flatten", "sections", "settings", "with_settings"]


@dataclass(frozen=True)
class Setting:
    """One setting of a fit.

    Example:
        >>> settings()["estimator.members"].text
        'Number of estimators in the ensemble.'
    """

    name: str
    """Dotted, as `estimator.members`."""
    type: Any
    """Annotation of the field, resolved."""
    text: str
    """Help text, in one line."""

    @property
    def choices(self) -> tuple[str, ...]:
        """Values it may have, or that its elements may have; empty if there are too many to list.

        Example:
            >>> settings()["generator.combine"].choices
            ('mean', 'median', 'min')
        """
        kinds = get_args(self.type) if get_origin(self.type) is tuple else (self.type,)
        return get_args(kinds[0]) if get_origin(kinds[0]) is Literal else ()


@cache
def settings() -> Mapping[str, Setting]:
    """All settings of a fit, by name, in the order of `FitConfig`.

    Example:
        >>> list(settings())[:2]
        ['seed', 'maximise']
    """
    return {setting.name: setting for setting in _settings(FitConfig, "")}


@cache
def sections() -> Mapping[str, str]:
    """Help text of each group of settings, by name.

    Example:
        >>> list(sections())[:2]
        ['estimator', 'judge']
    """
    texts, hints = _texts(FitConfig), get_type_hints(FitConfig)
    return {name: texts[name] for name, kind in hints.items() if is_dataclass(kind)}


def flatten(config: FitConfig) -> dict[str, Any]:
    """Value of every setting, by name.

    Example:
        >>> flatten(FitConfig())["estimator.members"]
        4
    """
    return dict(_flatten(config, ""))


def with_settings(config: FitConfig, values: Mapping[str, Any]) -> FitConfig:
    """The configuration with some settings replaced, by name; nothing is checked.

    Example:
        >>> with_settings(FitConfig(), {"seed": 3, "judge.steps": 50}).judge.steps
        50
    """
    changed: FitConfig = _replaced(config, values, "")
    return changed


def _settings(cls: Any, prefix: str) -> Iterator[Setting]:
    texts, hints = _texts(cls), get_type_hints(cls)
    for name in (item.name for item in fields(cls)):
        if is_dataclass(hints[name]):
            yield from _settings(hints[name], f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, hints[name], texts[name])


def _flatten(part: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in ((item.name, getattr(part, item.name)) for item in fields(part)):
        if is_dataclass(value):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _replaced(part: Any, values: Mapping[str, Any], prefix: str) -> Any:
    changes = {}
    for name, value in ((item.name, getattr(part, item.name)) for item in fields(part)):
        if is_dataclass(value):
            changes[name] = _replaced(value, values, f"{prefix}{name}.")
        elif prefix + name in values:
            changes[name] = values[prefix + name]
    return replace(part, **changes)


def _texts(cls: type) -> dict[str, str]:
    """Docstrings of a dataclass's fields; one without has that of the class it inherits from."""
    texts: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if is_dataclass(base)]):
        texts |= _own_texts(base)
    return texts


@cache
def _own_texts(cls: type) -> dict[str, str]:
    """Docstrings of the fields that a class names itself: Python keeps them in the source alone."""
    texts: dict[str, str] = {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    for node, after in pairwise(ast.iter_child_nodes(tree)):
        match node, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = " ".join(text.split())
    return texts
