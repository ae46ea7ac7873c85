"""Scorers by reference: `package.module:name`, imported and never unpickled."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

from torch import nn

from discrete_grad.runs.scorers.scorer import OwnScorer, as_scorer
from discrete_grad.training.checkpoint import RunError

__all__ = ["Given", "check_reference", "imported", "resolved"]

Given = OwnScorer | str | Any
"""A scorer, a model, or where it is imported from."""

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def resolved(given: Given, role: str) -> tuple[OwnScorer, str | None]:
    """The scorer, and the reference that it was imported by, or None.

    Raises:
        RunError: as `imported`.
        TypeError: for a model that cannot be called.
    """
    if isinstance(given, str):
        return imported(given, role), given
    return as_scorer(given), None


def check_reference(given: object, role: str = "scorer") -> None:
    """Raise RunError for what is no reference; None is a scorer that was given as an object."""
    if given is not None and not (isinstance(given, str) and _REFERENCE.fullmatch(given)):
        raise RunError(f"the {role} must be written package.module:name, got {given!r}")


def imported(reference: str, role: str) -> OwnScorer:
    """The scorer that a reference names, from the current folder too.

    Args:
        reference: `package.module:name` of the model itself, or of a function without arguments,
            or a class, that is called for it.
        role: `scorer` or `judge`, for messages.

    Raises:
        RunError: if there is none, or what is imported or called fails.
    """
    check_reference(reference, role)
    module, _, name = reference.partition(":")
    with _current_folder():
        try:
            inside: Any = importlib.import_module(module)
            found = reduce(getattr, name.split("."), inside)
            return as_scorer(found() if _makes(found) else found)
        except Exception as error:
            raise RunError(
                f"the {role} {reference} cannot be imported in {os.getcwd()}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _makes(found: Any) -> bool:
    """Whether this is called for the model, and is not the model itself."""
    if isinstance(found, OwnScorer | nn.Module) or (
        not isinstance(found, type) and hasattr(found, "predict")
    ):
        return False
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not p.empty or p.kind in kinds for p in parameters)


@contextmanager
def _current_folder() -> Iterator[None]:
    """The current folder among those that modules are imported from."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
