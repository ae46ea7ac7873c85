"""The way that each method takes under a compiler, without one: the numbers are those of eager."""

import pytest
import torch
from torch.testing import assert_close

from discrete_grad.sampling import isolated_seed
from tests.gradient.cases import CASES, Case
from tests.gradient.contract import RAGGED, function, value_and_gradient
from tests.strategies import random_logits

# one of each class; a binary one has a space of its own
METHODS = list({type(case.estimator()): case for case in CASES}.values())


@pytest.mark.parametrize("case", METHODS, ids=str)
def test_value_and_gradient(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    f, logits = function(RAGGED, "cubic"), random_logits(RAGGED, (6,), masked=True)
    results = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda answer=compiling: answer)
        with isolated_seed(3):
            results.append(value_and_gradient(case.estimator(RAGGED), f, logits))
    for eager, found in zip(*results, strict=True):
        assert_close(found, eager, atol=1e-9, rtol=1e-9)
