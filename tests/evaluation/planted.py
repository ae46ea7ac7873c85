"""Policies whose loss under a perturbed context is known."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.evaluation import Observed, Subject, TrainingContexts
from discrete_grad.policies import IndependentPolicy

SPACE = CategoricalSpace.from_sizes((4, 2))
SHOPS = ContextSpec({"shop": 4})
MIXED = ContextSpec({"shop": 3, "day": 2}, ["price", "weight"])
Logits = Callable[[Tensor | None], Tensor]


class Given(IndependentPolicy):
    """A policy of these logits."""

    def __init__(self, space: CategoricalSpace, logits: Logits) -> None:
        self.space, self.given = space, logits

    def logits(self, context: Tensor | None = None) -> Tensor:
        return self.given(context)


class Truth:
    """The worth of codes in a shown context, by a table `(contexts, categories)` of feature 0."""

    def __init__(self, table: Tensor) -> None:
        self.table = table.double()

    def score(self, codes: Tensor, context: int) -> Tensor:
        return self.table[context, codes[:, 0]]

    def percentile(self, codes: Tensor, context: int) -> Tensor:
        return torch.full((len(codes),), 0.5)


class Judge:
    """Half the truth and 10 more in the user's units, by the shown context that is equal."""

    def __init__(self, shown: Tensor, table: Tensor) -> None:
        self.shown, self.table = shown, table

    def __call__(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
        assert context is not None
        codes = row if not row.is_floating_point() else SPACE.argmax(row)
        place = (context.unsqueeze(1) == self.shown).all(-1).long().argmax(-1)
        return self.table[place, codes[:, 0]] / 2

    def std(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
        return torch.zeros(len(row))


def planted(
    spec: ContextSpec,
    shown: Tensor,
    table: Tensor,
    policy: Logits,
    *,
    training: Tensor | None = None,
    truth: bool = True,
) -> Subject:
    judge = Judge(shown, table)
    rows = len(shown)
    codes = torch.zeros(rows, 2, dtype=torch.long)
    return Subject(
        space=SPACE,
        contexts=shown,
        labels=[str(i) for i in range(rows)],
        observed=Observed(codes, torch.zeros(rows), torch.arange(rows)),
        estimator=judge,
        judge=judge,
        to_units=lambda scaled, context: 2 * scaled + 10,
        policies={
            "other": Given(SPACE, lambda context: torch.zeros(rows, 6)),
            "planted": Given(SPACE, policy),
        },
        truth=Truth(table) if truth else None,
        training_contexts=TrainingContexts(spec, shown if training is None else training),
    )


def sharp(codes: Tensor) -> Tensor:
    """Logits of a policy that always gives these categories of feature 0, and a fair feature 1."""
    certain = torch.full((len(codes), 4), -math.inf)
    certain[torch.arange(len(codes)), codes] = 0.0
    return torch.cat([certain, torch.zeros(len(codes), 2)], 1)


def own_shop(context: Tensor) -> Tensor:
    return sharp(context[:, :4].argmax(-1))


def mixed_contexts(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shop, day = (torch.randint(k, (count,), generator=generator) for k in (3, 2))
    numeric = torch.randn(count, 2, generator=generator) * torch.tensor([2.0, 5.0])
    return torch.cat([torch.eye(3)[shop], torch.eye(2)[day], numeric], 1)
