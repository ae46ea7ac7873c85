"""Train a generator of categories through a frozen model that scores them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from discrete_grad import gradient as gradient
from discrete_grad.gradient import *
from discrete_grad.space import CategoricalSpace, ContextSpec

if TYPE_CHECKING:
    from discrete_grad.runs.front import fit, load_run
    from discrete_grad.runs.run import Run

__all__ = ["CategoricalSpace", "ContextSpec", "Run", "fit", "load_run"]
__all__ += gradient.__all__

# name -> its room: imported when it is first asked for, so that the layers alone load quickly
_LATER = {"Run": "runs", "fit": "runs", "load_run": "runs"}


def __getattr__(name: str) -> Any:
    """A name of a room that is imported only now."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    """All names, those that are imported later among them."""
    return sorted({*globals(), *_LATER})
