"""The public names and their parameters, compared with a file, so that no change is an accident.

After a deliberate change write the file anew, and the change itself into CHANGELOG.md:

    python -m tests.test_public_api
"""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import discrete_grad
from tests.test_public_settings import FACES

PLAIN = int | float | str | None | type(inspect.Parameter.empty)
FILE = Path(__file__).parent / "public_api.txt"


def parameters(function: Any) -> str:
    """The parameters with kinds and defaults, `Ellipsis` for one that is no plain value."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # of a class written in C
        return "(...)"
    plain = [
        p.replace(
            annotation=p.empty,
            default=p.default if isinstance(p.default, PLAIN) else ...,
        )
        for p in signature.parameters.values()
    ]
    return f"({', '.join(str(p) for p in plain)})"


def members(name: str, value: Any) -> Iterator[str]:
    """A name, and of a class its own public methods and properties."""
    # an alias of a type is callable, too; its signature is Python's, and changes with it
    called = inspect.isclass(value) or inspect.isroutine(value)
    yield f"{name}{parameters(value)}" if called else name
    if inspect.isclass(value):
        for key, member in sorted(vars(value).items()):
            function = getattr(member, "__func__", member)
            if key[0] != "_" and inspect.isfunction(function):
                yield f"{name}.{key}{parameters(function)}"
            elif isinstance(member, property):
                yield f"{name}.{key}"


def public_api() -> str:
    """All public names of all rooms, a line each."""
    rooms = {"discrete_grad": discrete_grad}
    rooms |= {f"discrete_grad.{face}": import_module(f"discrete_grad.{face}") for face in FACES}
    rooms["discrete_grad.testing"] = import_module("discrete_grad.testing")
    lines = [
        line
        for room, module in sorted(rooms.items())
        for name in sorted(getattr(module, "__all__", ()))
        for line in (
            [f"{room}.{name}"]  # its members stand with the room that it comes from
            if room == "discrete_grad"
            else members(f"{room}.{name}", getattr(module, name))
        )
    ]
    return "\n".join(lines) + "\n"


def test_the_public_names_are_those_of_the_file() -> None:
    known = FILE.read_text(encoding="utf-8").splitlines()
    found = public_api().splitlines()
    gone = [f"gone: {line}" for line in known if line not in set(found)]
    new = [f"new: {line}" for line in found if line not in set(known)]
    assert gone + new == [], "a change of public names: see the head of this module"


if __name__ == "__main__":
    FILE.write_text(public_api(), encoding="utf-8")
