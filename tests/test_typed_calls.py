"""Types of calls: mypy reads this file too, and fails where a call gives anything."""

import runpy
from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, ReinMax, Relaxation, Softmax, StraightThrough
from discrete_grad.models import Aligner, Estimator
from discrete_grad.nn import FeatureHeads, SoftEmbedding
from discrete_grad.policies import Generator

SPACE = CategoricalSpace.from_sizes((2, 3))


def test_calls_have_the_types_of_forward() -> None:
    logits, codes = torch.zeros(4, 5), torch.zeros(4, 2, dtype=torch.long)
    assert_type(ReinMax(SPACE)(logits), Tensor)
    assert_type(Softmax(SPACE)(logits, generator=torch.Generator()), Tensor)
    relaxation: Relaxation = StraightThrough(SPACE)
    assert_type(relaxation(logits), Tensor)
    assert_type(SoftEmbedding(SPACE, 2)(codes), Tensor)
    assert_type(FeatureHeads(3, SPACE)(torch.zeros(4, 3)), Tensor)
    assert_type(Estimator(SPACE)(codes), Tensor)
    assert_type(Aligner(Estimator(SPACE))(codes, codes), Tensor)
    assert_type(Generator(SPACE)(), Tensor)


def test_a_users_script_runs_as_it_is_typed(tmp_path: Path) -> None:
    script = runpy.run_path(str(Path(__file__).with_name("typed_script.py")))
    assert script["networks"]().shape == ()
    assert len(script["compared"](torch.arange(7.0))) == 2
    assert script["ruled"]().shape == (5,)
    assert set(script["table"](tmp_path / "run")["page"]) == {"report.html"}
    assert {one.status for one in script["tested"]()} == {"passed"}
