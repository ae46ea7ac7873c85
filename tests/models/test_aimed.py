"""Several ensembles as one score."""

import pytest
import torch

from discrete_grad.models import Estimator, EstimatorEnsemble
from discrete_grad.models.aimed import (
    AimedEnsemble,
    Chance,
    Scalarisation,
    scalarised,
    tradeoff_columns,
    tradeoff_spec,
    tradeoff_weights,
)
from discrete_grad.policies import Generator, conditioned
from discrete_grad.rules import Imply, Rules
from discrete_grad.space import CategoricalSpace, ContextSpec

SPACE = CategoricalSpace.from_sizes((3, 4))
SPEC = ContextSpec({"shop": 2})
ENDS = torch.tensor([[-1.0, 1.0], [-2.0, 2.0]])
KINDS: tuple[Scalarisation, ...] = ("linear", "chebyshev", "hypervolume")


def ensemble(seed: int, members: int = 2) -> EstimatorEnsemble:
    torch.manual_seed(seed)
    return EstimatorEnsemble([Estimator(SPACE, context=SPEC, hidden=(8,)) for _ in range(members)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_scalarised_score_rises_with_every_score(kind: Scalarisation) -> None:
    scores, weights = torch.rand(200, 3), torch.rand(200, 3)
    weights = weights / weights.sum(1, keepdim=True)
    before = scalarised(scores, weights, kind)
    for place in range(3):
        more = scores.clone()
        more[:, place] += 0.1
        assert (scalarised(more, weights, kind) > before - 1e-6).all()
    assert scalarised(torch.zeros(3), weights[0], kind) == pytest.approx(0)
    # the corner of an aim orders rows as the aim does
    order = scalarised(scores, torch.tensor([0.0, 1.0, 0.0]), kind).argsort()
    assert (scores[order, 1].diff() > -0.03).all()


def test_only_a_front_that_bulges_inwards_tells_linear_from_the_others() -> None:
    inner = torch.tensor([[1.0, 0.0], [0.4, 0.4], [0.0, 1.0]])
    weights = torch.tensor([0.5, 0.5])
    assert scalarised(inner, weights, "linear").argmax() != 1
    assert scalarised(inner, weights, "chebyshev").argmax() == 1
    assert scalarised(inner, weights, "hypervolume").argmax() == 1


def test_columns_of_a_trade_off_have_mean_0_and_variance_1() -> None:
    drawn = torch.distributions.Dirichlet(torch.ones(3)).sample((20_000,))
    columns = tradeoff_columns(drawn)
    torch.testing.assert_close(columns.mean(0), torch.zeros(3), atol=0.03, rtol=0)
    torch.testing.assert_close(columns.var(0), torch.ones(3), atol=0.03, rtol=0)
    torch.testing.assert_close(tradeoff_weights(columns), drawn)


def test_a_trade_off_is_read_from_the_context_or_given() -> None:
    aims, rows, shop = [ensemble(0), ensemble(1)], SPACE.enumerate(), torch.eye(2)[0]
    asked = AimedEnsemble(aims, ENDS, names=["a", "b"])
    assert asked.context_spec is not None
    assert asked.context_spec.names == ("shop", "tradeoff a", "tradeoff b")
    weights = torch.tensor([0.25, 0.75])
    fixed = AimedEnsemble(aims, ENDS, names=["a", "b"], tradeoff=weights)
    assert fixed.context_spec == SPEC
    context = torch.cat([shop, tradeoff_columns(weights)]).expand(len(rows), -1)
    expected = fixed.predictions(rows, shop)
    torch.testing.assert_close(asked.predictions(rows, context), expected)
    assert expected.shape == (2, len(rows))
    # each member trades off its own predictions
    members = [model.predictions(rows, shop)[1] for model in aims]
    scaled = (torch.stack(members, -1) - ENDS[:, 0]) / (ENDS[:, 1] - ENDS[:, 0])
    torch.testing.assert_close(expected[1], 3 * scalarised(scaled, weights, "linear"))
    torch.testing.assert_close(asked(rows, context), expected.mean(0))
    values = asked.values(rows, context)
    torch.testing.assert_close(values[:, 1], aims[1](rows, shop))
    with pytest.raises(ValueError, match="takes a context"):
        asked(rows, None)


def test_rules_read_the_context_beside_a_trade_off() -> None:
    shops = {"shop": ["east", "west"]}
    rule = Imply({"shop": "west"}, {SPACE.names[0]: 1})
    rules = Rules(SPACE, [rule], context=CategoricalSpace(shops))
    policy = conditioned(Generator(SPACE, tradeoff_spec(ContextSpec(shops), ["a", "b"])), rules)
    west = torch.cat([torch.eye(2)[1], tradeoff_columns(torch.tensor([0.25, 0.75]))])
    assert (policy.sample(west, 20)[:, 0] == 1).all()


def test_a_row_that_fails_counts_as_the_worst() -> None:
    model, rows, shop = ensemble(0), SPACE.enumerate(), torch.eye(2)[1]
    for offset, share in ((-30.0, 0.0), (0.0, 0.5), (30.0, 1.0)):
        chance = Chance(ensemble(1), torch.tensor([0.0, offset]))
        aimed = AimedEnsemble([model], ENDS[:1], [chance], names=["a"])
        score = model.predictions(rows, shop)
        torch.testing.assert_close(aimed.predictions(rows, shop), -1 + share * (score + 1))
    even = [Chance(ensemble(seed), torch.zeros(2)) for seed in (1, 2)]
    both = AimedEnsemble([], ENDS[:0], even, names=[])
    torch.testing.assert_close(both(rows, shop), torch.full((len(rows),), 0.25))
    with pytest.raises(ValueError, match="needs an aim or a chance"):
        AimedEnsemble([], ENDS[:0], names=[])


def test_a_threshold_is_subtracted_in_its_context() -> None:
    model, rows = ensemble(0), SPACE.enumerate()
    shops = torch.eye(2)[torch.arange(len(rows)) % 2]
    chance = Chance(model, torch.tensor([2.0, 0.5]), lambda context: context[..., 0])
    expected = torch.sigmoid(2 * (model(rows, shops) - shops[:, 0]) + 0.5)
    torch.testing.assert_close(chance(rows, shops), expected)
