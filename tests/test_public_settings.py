"""The settings that public functions take, and what they return, are public themselves."""

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any, get_args, get_type_hints

import pytest

import discrete_grad

ROOMS = ("fitting", "preferences", "reinforcement", "runs", "training")


def face(room: str) -> dict[str, Any]:
    module = import_module(f"discrete_grad.{room}")
    return {name: getattr(module, name) for name in module.__all__}


PUBLIC = {id(value) for room in ROOMS for value in face(room).values()}


@pytest.mark.parametrize("room", ROOMS)
def test_the_class_of_every_config_is_on_a_face(room: str) -> None:
    for name, function in face(room).items():
        hint = get_type_hints(function).get("config") if inspect.isfunction(function) else None
        classes = [kind for kind in (hint, *get_args(hint)) if inspect.isclass(kind)]
        for kind in classes:
            known = not kind.__module__.startswith("discrete_grad.") or id(kind) in PUBLIC
            assert known, f"{room}.{name} takes a {kind.__name__}, which no one can import"


# --- what is returned -----------------------------------------------------------------------------

INTERNAL = {"begin", "advance", "select"}
"""Steps of a policy, whose state nobody reads."""
NOT_MADE_BY_USERS = {"Law", "Steps"}
"""Classes that a method returns."""
FACES = [m.name for m in pkgutil.iter_modules(discrete_grad.__path__) if m.name[0] != "_"]
FACES.remove("testing")
EXPORTED = {
    id(base)  # who has the class has an instance of its bases
    for room in FACES
    for value in face(room).values()
    for base in getattr(value, "__mro__", (value,))
}


def classes_in(hint: Any) -> Iterator[type]:
    if inspect.isclass(hint) and not get_args(hint):
        yield hint
    for inner in get_args(hint):
        for part in inner if isinstance(inner, list) else [inner]:
            yield from classes_in(part)


def functions_of(value: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """A public function, or a class's public methods, its fields and how it is made."""
    if inspect.isfunction(value):
        yield value.__name__, value
    if inspect.isclass(value):
        yield value.__name__, value
        if not is_dataclass(value) and value.__name__ not in NOT_MADE_BY_USERS:
            yield value.__name__, value.__init__
        for name, member in vars(value).items():
            function = getattr(member, "fget", getattr(member, "__func__", member))
            if name[0] != "_" and name not in INTERNAL and inspect.isfunction(function):
                yield f"{value.__name__}.{name}", function


@pytest.mark.parametrize("room", FACES)
def test_a_class_that_a_user_meets_is_on_a_face_or_its_module_is_named(room: str) -> None:
    for value in face(room).values():
        for name, function in functions_of(value):
            text = f"{inspect.getdoc(value)} {inspect.getdoc(function)}"
            hints = get_type_hints(function)
            for kind in [kind for hint in hints.values() for kind in classes_in(hint)]:
                path = f"{kind.__module__}.{kind.__name__}"
                known = id(kind) in EXPORTED or getattr(kind, "_is_protocol", False)
                foreign = not path.startswith("discrete_grad.")
                assert known or foreign or path in text, f"{room}.{name} names a {path}"
