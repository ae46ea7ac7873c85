"""Parts of aims that need no fit."""

import torch

from discrete_grad import ContextSpec
from discrete_grad.fitting import ScoreScale
from discrete_grad.runs._aims import _threshold

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
