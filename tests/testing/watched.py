"""What checks ask of a method, and what they are told, kept in a file.

`python -m tests.testing.watched` writes it anew, to be read before it is committed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.sampling import uniform
from discrete_grad.testing import RowFunction, _comparing, suite
from discrete_grad.testing._relations import Relation
from discrete_grad.testing.subject import Scene
from tests.kept_numbers import check_told, keep_told
from tests.testing.bugs import Layer, Ruled, Score

FILE = Path(__file__).parent / "snapshots.json"
COMPARISONS = {
    *("require", "require_close", "require_relation", "require_mean", "require_rows"),
    *("mean_test", "rows_seen", "row_function", "outcomes_or_none", "exact_gradient"),
    *("g_test", "told_apart", "on_codes", "normal", "seeded", "isolated_seed"),
}
"""Functions of which the arguments are kept, by whichever check they are called."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
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


class WatchedSoft(_Watched, Layer):
    """Watched softmax of logits divided by a temperature."""

    def __init__(self, space: CategoricalSpace, *, tau: float = 1.0) -> None:
        super().__init__(space)
        if not tau > 0:
            raise ValueError("tau must be above 0")
        self.tau = tau

    def forward(self, logits: Tensor, *, generator: Any = None) -> Tensor:
        self.space.check_logits(logits)
        return self.space.softmax(logits / self.tau)


class WatchedNoisy(_Watched, Score):
    """Watched score function with noise beyond its rows, so that nothing can be enumerated."""

    def expectation(self, f: Any, logits: Tensor, *, generator: Any = None) -> Tensor:
        value = super().expectation(f, logits, generator=generator)
        weight = 0.5 + uniform(tuple(value.shape), generator=generator).to(value)
        return value.detach() + weight * (value - value.detach())


def _numbers(values: Tensor) -> list[float]:
    """Sum of those that are finite, and how many are not."""
    fine = values.isfinite()
    return [float(values.detach()[fine].double().sum()), int((~fine).sum())]


def _plain(given: Any) -> Any:
    """An argument as plain data; of texts, whose numbers may be drawn, the words."""
    match given:
        case Tensor():
            return [list(given.shape), str(given.dtype)[6:], *_numbers(given)]
        case RowFunction():
            return [given.family, *_numbers(given.first)]
        case Scene():
            return [*given.space.names, *_plain(given.logits)]
        case Relation():
            return [list(given.columns), given.nothing_else, *_plain(given.second)]
        case str():
            return _NUMBER.sub("0", given)
        case bool() | int() | float() | None | torch.dtype():
            return given if not isinstance(given, torch.dtype) else str(given)
        case dict():
            return {name: _plain(value) for name, value in given.items()}
        case tuple() | list():
            return [_plain(value) for value in given]
    return type(given).__name__


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
        self.compared: list[list[Any]] = []
        for room in (*suite.ROOMS, _comparing):
            for function in COMPARISONS & vars(room).keys():
                self._keep(patch, room, function)
        for function in ("allclose", "isclose"):
            self._keep(patch, torch, function)

    def _keep(self, patch: pytest.MonkeyPatch, place: Any, name: str) -> None:
        function = getattr(place, name)

        def kept(*given: Any, **options: Any) -> Any:
            told = [] if place is torch else [_plain(one) for one in given]
            self.compared.append([name, *told, _plain(options)])
            return function(*given, **options)

        patch.setattr(place, name, kept)

    def compare(self, name: str) -> None:
        """Fail unless all is as before."""
        compare(name, {"asked": [*_asked], "means": self.means, "compared": self.compared})


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
