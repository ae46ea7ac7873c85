"""The search for good rows under rules: all obey, and none is missed where all can be seen."""

import pytest
import torch
from torch import Tensor

from discrete_grad.models import best_rows
from discrete_grad.models._obeying import Obeying
from discrete_grad.rules import AtMost, Exactly, Forbid, Imply, Observed, Rule, Rules
from discrete_grad.sampling import normal, seeded
from discrete_grad.space import CategoricalSpace

SPACE = CategoricalSpace({"city": 6, "country": 3, "a": 4, "b": 4, "c": 4, "d": 2})
KNOWN = Observed(["city", "country"], [[str(i), str(i % 3)] for i in range(6)])
SETS: list[list[Rule]] = [
    [KNOWN, Forbid({"a": "0", "b": ["1", "2"]})],
    [KNOWN, Exactly(2, {"a": "0", "b": "0", "c": "0"})],
    [AtMost(1, {"a": ["1", "2", "3"], "b": ["1", "2", "3"], "c": ["1", "2", "3"]})],
]


def worth(codes: Tensor, seed: int = 0) -> Tensor:
    """Pairs of neighbouring features count."""
    tables = normal((SPACE.num_features, 6, 6), generator=seeded(seed)).float()
    pairs = zip(codes.unbind(-1), codes.roll(-1, -1).unbind(-1), strict=True)
    return sum(tables[i][a, b] for i, (a, b) in enumerate(pairs))  # type: ignore[return-value]


def logits(contexts: int, seed: int = 1) -> Tensor:
    return normal((contexts, SPACE.width), generator=seeded(seed)).float()


@pytest.mark.parametrize("some", SETS, ids=["observed", "exactly", "most"])
@pytest.mark.parametrize("evaluations", [10_000, 700], ids=["whole", "search"])
def test_the_best_rows_that_obey_are_found(some: list[Rule], evaluations: int) -> None:
    rules = Rules(SPACE, some)
    every = rules.enumerate()
    count = 10
    codes, values = best_rows(
        SPACE, logits(2), lambda codes, where: worth(codes), count, rules=rules,
        evaluations=evaluations,
    )  # fmt: skip
    assert rules.allows(codes).all()
    best = worth(every).topk(count).values
    for found in values:
        if evaluations == 10_000:
            torch.testing.assert_close(found, best)
        else:  # the best one, although single swaps do not lead from row to row
            torch.testing.assert_close(found[0], best[0])
    assert all(len(rows.unique(dim=0)) == count for rows in codes)


@pytest.mark.parametrize("distance", [1, 3])
def test_no_context_depends_on_another_and_far_rows_obey(distance: int) -> None:
    rules = Rules(SPACE, SETS[0])
    given = {"evaluations": 500, "rules": rules, "distance": distance}

    def score(codes: Tensor, where: Tensor) -> Tensor:
        return worth(codes)

    codes, values = best_rows(SPACE, logits(3), score, 6, **given)
    alone, _ = best_rows(SPACE, logits(3)[2:], score, 6, **given)
    assert torch.equal(codes[2], alone[0])
    there = values > -torch.inf
    assert rules.allows(codes[there]).all()
    for rows, some in zip(codes, there, strict=True):
        apart = (rows[some].unsqueeze(0) != rows[some].unsqueeze(1)).sum(-1)
        assert (apart + 9 * torch.eye(len(apart)) >= distance).all()


@pytest.mark.parametrize("evaluations", [10_000, 500], ids=["whole", "search"])
def test_rules_of_the_context_hold_in_it(evaluations: int) -> None:
    shop = CategoricalSpace({"shop": ["east", "west"]})
    rules = Rules(SPACE, [KNOWN, Imply({"shop": "west"}, {"a": "3"})], context=shop)
    here = torch.tensor([[0], [1], [1]])
    codes, values = best_rows(
        SPACE, logits(3), lambda codes, where: worth(codes), 8, evaluations=evaluations,
        rules=rules, rule_context=here,
    )  # fmt: skip
    assert (values > -torch.inf).all()
    assert rules.allows(codes, context=here.unsqueeze(1)).all()
    assert (codes[0, :, 2] != 3).any()


def test_a_mended_row_is_the_nearest_with_its_swap() -> None:
    rules = Rules(SPACE, SETS[1])
    every, obeying = rules.enumerate(), Obeying(rules, None)
    # the last row's distribution decides between rows that are equally near
    origin = every[torch.arange(0, len(every), 7)]
    feature = torch.arange(len(origin)) % SPACE.num_features
    sizes = torch.tensor(SPACE.sizes)[feature]
    code = (origin.gather(1, feature.unsqueeze(1)).squeeze(1) + 1) % sizes
    swapped = origin.scatter(1, feature.unsqueeze(1), code.unsqueeze(1))
    given = logits(1, 4)
    where = torch.zeros(len(origin), dtype=torch.long)
    mended = obeying.mended(swapped, feature, given, where)
    assert rules.allows(mended).all()
    unchanged = rules.allows(swapped)
    assert 0 < unchanged.sum() < len(origin)
    assert torch.equal(mended[unchanged], swapped[unchanged])
    for row, i, found in zip(swapped, feature, mended, strict=True):
        fitting = every[every[:, i] == row[i]]
        apart = (fitting != row).sum(1)
        assert found[i] == row[i]
        assert (found != row).sum() == apart.min()
        near = fitting[apart == apart.min()]
        assert torch.equal(found, near[SPACE.log_prob(given[0], near).argmax()])


def test_swaps_that_lead_to_one_row_are_work_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    mended, plain = [0], Obeying.mended

    def counted(self: Obeying, rows: Tensor, *rest: Tensor) -> Tensor:
        mended[0] += len(rows)
        return plain(self, rows, *rest)

    monkeypatch.setattr(Obeying, "mended", counted)
    rules = Rules(SPACE, SETS[1])
    best_rows(SPACE, logits(1), lambda codes, where: worth(codes), 10, rules=rules, evaluations=100)
    assert 40 < mended[0] <= 100


def test_a_search_begins_with_further_rows() -> None:
    space = CategoricalSpace.from_sizes((30,) * 8)
    hidden = torch.full((1, 8), 7)

    def needle(codes: Tensor, where: Tensor) -> Tensor:
        return (codes == hidden).all(-1).float()

    given = {"evaluations": 600}
    plain = best_rows(space, torch.zeros(1, space.width), needle, 1, **given)[1]
    told = best_rows(space, torch.zeros(1, space.width), needle, 1, starts=hidden, **given)
    assert (plain.item(), told[1].item()) == (0, 1)
    assert torch.equal(told[0][0], hidden)
