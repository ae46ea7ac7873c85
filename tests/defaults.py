"""Default values of a room's functions, which calls that leave an argument out depend on.

A default is no secret of its function: a call from before a change of it means something else
after. They stand in `tests/<room>/defaults.txt`, and after a change that is meant are written anew:

    python -m tests.defaults policies rules
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

PACKAGE = "discrete_grad"


def defaults_of(room: str) -> list[str]:
    """A line for each function or method of a room that has defaults, sorted."""
    face = importlib.import_module(f"{PACKAGE}.{room}")
    names = [
        face.__name__,
        *(m.name for m in pkgutil.walk_packages(face.__path__, f"{face.__name__}.")),
    ]
    modules = [importlib.import_module(name) for name in names]
    return sorted({line for module in modules for line in _lines(module)})


def _lines(module: ModuleType) -> Iterator[str]:
    for function in _functions(module):
        given = [
            p for p in inspect.signature(function).parameters.values() if p.default is not p.empty
        ]
        if given:
            shown = ", ".join(
                f"{p.name}={getattr(p.default, '__name__', repr(p.default))}" for p in given
            )
            yield f"{module.__name__}.{function.__qualname__}: {shown}"


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Functions written in a module, and those of its classes."""
    owners = [
        v for v in vars(module).values() if inspect.isclass(v) and v.__module__ == module.__name__
    ]
    for value in (v for owner in (module, *owners) for v in vars(owner).values()):
        plain = inspect.unwrap(getattr(value, "__func__", value))
        if inspect.isfunction(plain) and plain.__code__.co_filename == module.__file__:
            yield plain


def file_of(room: str) -> Path:
    """Where the defaults of a room are kept."""
    return Path(__file__).parent / room / "defaults.txt"


def assert_defaults_are_kept(room: str) -> None:
    """The defaults of a room are those of its file."""
    known, found = file_of(room).read_text(encoding="utf-8").splitlines(), defaults_of(room)
    gone = [f"gone: {line}" for line in known if line not in found]
    new = [f"new: {line}" for line in found if line not in known]
    if gone + new:
        pytest.fail(
            "\n".join([*gone, *new, "a change of defaults: see the head of tests/defaults.py"])
        )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        file_of(name).write_text("\n".join([*defaults_of(name), ""]), encoding="utf-8")
