"""What checks ask of a method, and what they are told, kept in a file.

`python -m tests.testing.watched` writes it anew, to be read before it is committed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad.testing import _comparing
from tests.kept_numbers import check_told, keep_told
from tests.testing.bugs import Layer, Ruled, Score

FILE = Path(__file__).parent / "snapshots.json"
_found: dict[str, dict[str, Any]] | None = None
_asked: list[list[Any]] = []


def compare(name: str, found: dict[str, Any]) -> None:
    """Fail unless something is as the file has it; where it is written, keep it."""
    if _found is None:
        check_told(FILE, name, found)
    else:
        _found[name] = found


class _Watched:
    """Keeps the logits, the seed that it is given, and the values of f."""

    def expectation(self, f: Any, logits: Tensor, *, generator: Any = None) -> Any:
        if torch._C._functorch.is_functorch_wrapped_tensor(logits):
            return super().expectation(f, logits, generator=generator)
        call = [list(logits.shape), str(logits.dtype)[6:], *_numbers(logits)]
        _asked.append([*call, None if generator is None else generator.initial_seed()])

        def kept(rows: Tensor) -> Tensor:
            values = f(rows)
            _asked[-1] += _numbers(values)
            return values

        given = f if isinstance(f, torch.nn.Module) else kept
        return super().expectation(given, logits, generator=generator)


class WatchedLayer(_Watched, Layer):
    """Watched straight-through."""


class WatchedScore(_Watched, Score):
    """Watched score function."""


class WatchedRuled(_Watched, Ruled):
    """Watched under rules."""


def _numbers(values: Tensor) -> list[float]:
    """Sum of those that are finite, and how many are not."""
    fine = values.isfinite()
    return [float(values.detach()[fine].double().sum()), int((~fine).sum())]


class Watch:
    """Keeps, while a test runs, what is asked of watched methods and which means are tested."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        _asked.clear()
        self.means: list[list[Any]] = []
        compare_mean = _comparing.compare_mean

        def kept(sampler: Any, expected: Tensor, plan: Any) -> Any:
            self.means.append([plan.detects, plan.max_samples, plan.seed, expected.tolist()])
            test = compare_mean(sampler, expected, plan)
            self.means[-1] += [test.estimated.tolist(), test.samples, test.threshold]
            return test

        patch.setattr(_comparing, "compare_mean", kept)

    def compare(self, name: str) -> None:
        """Fail unless all is as before."""
        compare(name, {"asked": [*_asked], "means": self.means})


def keep() -> None:
    """Run the tests and write what they compare."""
    from tests.testing import watched as here  # and not what is run as the main module

    names = [f"test_{part}.py" for part in ("checks", "messages", "mutants")]
    quiet = ["-q", "-m", "not slow", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    here._found = {}
    pytest.main([*quiet, *(str(FILE.with_name(name)) for name in names)])
    keep_told(FILE, dict(sorted(here._found.items())))


if __name__ == "__main__":
    keep()
