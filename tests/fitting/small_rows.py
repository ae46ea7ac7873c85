"""Rows of a small table that differ in every respect: counts, spreads, contexts, several scores."""

from __future__ import annotations

from dataclasses import replace

import torch

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.data import ScoredRows
from discrete_grad.sampling import random_codes, seeded, uniform

SPACE = CategoricalSpace({"cut": ["fair", "good", "ideal"], "shade": 4, "size": 2})
LARGE = CategoricalSpace.from_sizes((6,) * 6)
SPEC = ContextSpec({"shop": 2}, ["price"])
CODES = random_codes(SPACE, 60, generator=seeded(1))
NOISE = uniform((60, 6), generator=seeded(2)).float()
SHOP = (NOISE[:, 0] > 0.4).long()
CONTEXT = torch.cat([torch.eye(2)[SHOP], NOISE[:, 1:2] - 0.5], 1)
SCORES = (CODES * torch.tensor([0.5, -0.25, 1.0])).sum(1) + SHOP + NOISE[:, 2] - 1
PLAIN = ScoredRows(CODES, SCORES)
ROWS = ScoredRows(CODES, SCORES, CONTEXT)
COUNTED = replace(ROWS, counts=1 + (5 * NOISE[:, 3]).long(), spread=NOISE[:, 4])
BOTH = replace(ROWS, behaviour=torch.stack([SCORES, NOISE[:, 5] - CODES[:, 0]], 1))
# two contexts that many rows share
SHOPS = torch.cat([torch.eye(2)[SHOP], torch.zeros(60, 1)], 1)
SHARED = replace(ROWS, context=SHOPS)
WEIGHTS = torch.stack([1 + (3 * NOISE[:, 3]).long(), (2 * NOISE[:, 4]).long()]).float()
SHOWN = CODES[:8]
