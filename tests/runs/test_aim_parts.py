"""Parts of aims that need no fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from discrete_grad import ContextSpec
from discrete_grad.data import read_table
from discrete_grad.fitting import ScoreScale
from discrete_grad.runs._aims import _threshold, checked_tradeoff
from discrete_grad.runs.pareto_front import propose_front
from discrete_grad.training import RunError
from tests.runs.small import small_config
from tests.runs.untrained import untrained

FAR = 1e9
"""A float32 near this is a multiple of 64."""


def test_a_threshold_far_from_0_stays_where_it_is() -> None:
    scores = FAR + torch.arange(101, dtype=torch.float64)
    scale = ScoreScale.fit("rank", scores, None, None)
    assert _threshold(scale, FAR + 70, None).item() == scale.apply(scores)[70].item()


def test_a_threshold_is_on_the_scale_of_its_context() -> None:
    spec, shop = ContextSpec({"shop": 2}), torch.eye(2).repeat_interleave(101, 0)
    scores = FAR + torch.cat([torch.arange(101.0), torch.arange(50.0, 151.0)]).double()
    scale = ScoreScale.fit("rank", scores, shop, spec)
    here = torch.eye(2).expand(3, 2, 2)
    # 70 is the 70th hundredth of one shop and the 20th of the other
    scaled = scale.apply(scores, shop)
    assert _threshold(scale, FAR + 70, here).tolist() == [[scaled[70], scaled[101 + 20]]] * 3


def test_an_aim_may_have_no_weight() -> None:
    names = ("yield", "cost", "size")
    for given, weights in (
        ({"yield": 0.0, "cost": 1.0}, [0.0, 1.0, 0.0]),
        ({"size": 0.25, "yield": 0.75}, [0.75, 0.0, 0.25]),
    ):
        assert checked_tradeoff(given, names).tolist() == weights
    for given, told in (
        ({"yield": 1.5, "cost": -0.5}, "the weight of 'cost' must be at least 0, got -0.5"),
        ({"yield": 0.5, "cost": float("nan")}, "the weight of 'cost' must be at least 0, got nan"),
        ({"yield": 0.5, "cost": 0.4}, "the weights must have the sum 1, theirs is 0.9"),
    ):
        with pytest.raises(RunError, match=f"^trade-off: {told}$"):
            checked_tradeoff(given, names)


# --- fronts ---------------------------------------------------------------------------------------


def test_the_front_of_some_contexts_is_their_part_of_all(tmp_path: Path) -> None:
    codes, shop = torch.cartesian_prod(*[torch.arange(3)] * 4), torch.arange(81) % 2
    columns = {name: codes[:, i] for i, name in enumerate("abcd")} | {"shop": shop}
    columns |= {"yield": codes.sum(1) + 0.1 * shop, "cost": codes[:, 0] * codes[:, 1] + 0.2 * shop}
    scores, context = ["yield", "cost:min"], ["shop:categorical"]
    table = read_table(columns, score=scores, context=context)
    networks = replace(small_config().estimator, families=("networks",))
    run = untrained(table, tmp_path / "run", small_config(estimator=networks, judge=networks))
    asked = torch.eye(2)
    both = list(propose_front(run, asked, count=3, evaluations=60))
    (second,) = propose_front(run, asked, count=3, evaluations=60, span=range(1, 2))
    assert [found.where.unique().tolist() for found in both] == [[0], [1]]
    assert [found.contexts for found in both] == [range(0, 1), range(1, 2)]
    assert second.contexts == range(1, 2)
    (first,) = propose_front(run, asked.flip(0), count=3, evaluations=60, span=range(1))
    assert torch.equal(first.codes, both[1].codes)
    assert torch.equal(second.codes, both[1].codes)
    assert not torch.equal(both[0].codes, both[1].codes)
    for place, found in enumerate(both):  # new in their context, though the other may have them
        known = table.codes[shop == place]
        assert not (found.codes.unsqueeze(1) == known).all(-1).any()
    known = torch.cat([found.seen for found in propose_front(run, asked, count=9, new_only=False)])
    assert known.any()
