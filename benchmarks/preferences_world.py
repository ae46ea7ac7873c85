"""The world of `preferences`: a table whose every true score is known, and who answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.data import load_example
from discrete_grad.preferences import Preferences, random_pairs, synthetic_preferences
from discrete_grad.reinforcement import table_reward
from discrete_grad.sampling import random_indices, seeded

TABLE = "hpolib"
RELIABILITY = 0.9  # of the answers; one in ten is flipped
HELD_OUT = 20_000


@dataclass(frozen=True, eq=False)
class World:
    """Rows `(R, F)`, their true scores in standard deviations `(R,)`, held-out pairs `(2, N)`."""

    space: CategoricalSpace
    codes: Tensor
    truth: Tensor
    held_out: Tensor

    def answers(
        self,
        first: Tensor,
        second: Tensor,
        *,
        temperature: float = 0.0,
        reliability: float = RELIABILITY,
        noise: torch.Generator,
    ) -> Preferences:
        """Preference between two rows."""
        return synthetic_preferences(
            table_reward(self.space, self.truth),
            first,
            second,
            temperature=temperature,
            reliability=reliability,
            generator=noise,
        )

    def pairs(self, count: int, noise: torch.Generator, **options: Any) -> Preferences:
        """Answers to pairs of random rows."""
        first, second, _ = random_pairs(self.codes, None, count, generator=noise)
        return self.answers(first, second, noise=noise, **options)

    def accuracy(self, values: Tensor) -> float:
        """Share of the held-out pairs that values `(R,)` rank as the truth does, ties aside."""
        gain, guess = (x[self.held_out[0]] - x[self.held_out[1]] for x in (self.truth, values))
        return float((gain.sign() == guess.sign())[gain != 0].double().mean())


def world(dataset: str) -> World:
    """A data set of the table, with held-out pairs that are the same for every seed."""
    example = load_example(TABLE, [dataset])
    score, codes = example.scores[0].double(), example.space.enumerate()
    held_out = random_indices(len(codes), (2, HELD_OUT), generator=seeded(2**20))
    return World(example.space, codes, (score - score.mean()) / score.std(), held_out)
