"""The configuration of a fit as a TOML file."""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from discrete_grad.data.text_files import read_text
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.runs.settings import flatten, sections, settings, with_settings
from discrete_grad.training import RunError

__all__ = ["config_of", "config_text", "read_config"]

_WIDTH = 100
_HEAD = """\
Configuration of a fit: discrete-grad fit --config FILE. Options of the command line win over it, \
and a setting that is left out has its default."""
_KINDS = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
}


def config_text(config: FitConfig) -> str:
    r"""TOML with every setting, its help text as a comment above it; read by `read_config`.

    Example:
        >>> print("\n".join(config_text(FitConfig(seed=3)).splitlines()[3:5]))
        # Seed of every random number.
        seed = 3
    """
    values, section, lines = flatten(config), "", [*_comment(_HEAD)]
    for name, setting in settings().items():
        *parents, key = name.split(".")
        if parents and parents[0] != section:
            section = parents[0]
            lines += ["", "", *_comment(sections()[section]), f"[{section}]"]
        lines += ["", *_comment(setting.text)]
        if setting.choices:
            lines += _comment(f"Choices: {', '.join(setting.choices)}.")
        lines.append(_assignment(key, values[name]))
    return "\n".join([*lines, ""])


def read_config(path: Path | str) -> FitConfig:
    r"""The configuration that a TOML file describes; what it leaves out has its default.

    Raises:
        RunError: for a file that is missing or no TOML, and for a setting that does not exist, is
            of a wrong type or out of range.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "fit.toml"
        >>> _ = path.write_text("[estimator]\nmembers = 3")
        >>> read_config(path).estimator.members
        3
        >>> _ = path.write_text("[estimator]\nmemebrs = 3")
        >>> try:
        ...     read_config(path)
        ... except RunError as error:
        ...     print(str(error).replace(str(path), "fit.toml"))
        estimator.memebrs in fit.toml: did you mean estimator.members?
    """
    path = Path(path)
    return _config(_parsed(path), path)


def config_of(values: Mapping[str, Any]) -> FitConfig:
    """The configuration of a dict of settings by their dotted names, or in dicts of their groups.

    Raises:
        RunError: for a setting that does not exist, is of a wrong type or out of range.

    Example:
        >>> config_of({"seed": 3, "estimator.members": 3, "judge": {"members": 3}}).judge.members
        3
    """
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *parents, key = str(name).split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if isinstance(value, Mapping):
            inner.setdefault(key, {}).update(value)
        else:
            inner[key] = list(value) if isinstance(value, tuple) else value
    return _config(nested, "config")


def _config(table: dict[str, Any], path: Path | str) -> FitConfig:
    values = {name: _read(name, value, path) for name, value in _entries(table, "", path)}
    config = with_settings(FitConfig(), values)
    try:
        config.check()
    except ValueError as error:
        raise RunError(f"{path}: {error}") from error
    return config


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _assignment(key: str, value: Any) -> str:
    # JSON of a finite number, a boolean, a text or a list is TOML, but for one control character
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"# {key} = (not set)" if value is None else f"{key} = {text}"


def _parsed(path: Path) -> dict[str, Any]:
    if path.is_dir() or not path.exists():  # a pipe is fine: --config <(...)
        kind = "is a directory, not a file" if path.is_dir() else "does not exist"
        raise RunError(f"the configuration {path} {kind}")
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise RunError(f"the configuration {path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not TOML: {error}") from error


def _entries(table: dict[str, Any], prefix: str, path: Path | str) -> Iterator[tuple[str, Any]]:
    """Name and value of each setting in a table and the tables in it."""
    for key, value in table.items():
        name = prefix + key
        if "." in key and name in (*settings(), *sections()):
            raise RunError(f'"{key}" in {path} is one quoted name: write {key} without the quotes')
        if name in settings():
            yield name, value
        elif name not in sections():
            raise RunError(f"{name} in {path}: did you mean {_nearest(name)}?")
        elif isinstance(value, dict):
            yield from _entries(value, f"{name}.", path)
        else:
            raise RunError(f"{name} in {path} must be a table [{name}], got {value!r}")


def _nearest(name: str) -> str:
    """The existing name most like an unknown one: of the same last part, or of the same table."""
    parts = {known: known.rpartition(".") for known in (*settings(), *sections())}
    parent, _, key = name.rpartition(".")
    if same := [known for known, (*_, last) in parts.items() if last == key]:
        return " or ".join(same)
    beside = {last: known for known, (table, _, last) in parts.items() if table == parent}
    if near := get_close_matches(key, beside, n=1):
        return beside[near[0]]
    return get_close_matches(name, parts, n=1, cutoff=0)[0]


def _read(name: str, value: Any, path: Path | str) -> Any:
    try:
        return as_type(value, settings()[name].type)
    except (TypeError, OverflowError) as error:
        raise RunError(f"{name} in {path} must be {expected(name)}, got {value!r}") from error


def as_type(value: Any, wanted: Any) -> Any:
    """A value of TOML as a field's; raises TypeError for one that is none."""
    if isinstance(wanted, UnionType):  # with None, which is a key left out
        wanted = get_args(wanted)[0]
    if get_origin(wanted) is tuple and isinstance(value, list):
        return tuple(as_type(item, get_args(wanted)[0]) for item in value)
    if wanted is float and type(value) is int:
        return float(value)
    chosen = get_origin(wanted) is Literal and value in get_args(wanted)
    # by identity: True is an int, too
    if not chosen and type(value) is not wanted:
        raise TypeError
    return value


def expected(name: str) -> str:
    """Description of the values that a setting may have."""
    setting = settings()[name]
    many = get_origin(setting.type) is tuple
    if setting.choices:
        return f"{'a list of' if many else 'one of'} {', '.join(setting.choices)}"
    kind = get_args(setting.type)[0] if get_args(setting.type) else setting.type
    return f"a list of {_KINDS[kind][1]}" if many else _KINDS[kind][0]
