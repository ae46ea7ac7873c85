"""The settings that public functions take are public themselves."""

import inspect
from importlib import import_module
from typing import Any, get_args, get_type_hints

import pytest

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
            known = kind is type(None) or id(kind) in PUBLIC
            assert known, f"{room}.{name} takes a {kind.__name__}, which no one can import"
