"""A generator trained through the estimator under rules, against enumeration."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec, gradient
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting import (
    FrozenModels,
    GeneratorConfig,
    fit_generator,
    make_gradient_estimator,
)
from discrete_grad.fitting._row_law import check_method, law_of
from discrete_grad.models import Aligner, BaseEnsemble, Estimator, EstimatorEnsemble
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Conditioned,
    ConditionedSteps,
    Generator,
)
from discrete_grad.rules import Exactly, Fix, Rules, When
from discrete_grad.sampling import isolated_seed, normal, seeded

SPACE = CategoricalSpace({"a": ["x", "y"], "b": ["x", "y", "z"], "c": ["x", "y"]})
ROWS = SPACE.enumerate()
SPEC = ContextSpec({"shop": ["east", "west"]})
CONTEXT = torch.eye(2)
CELLS = {"a": "y", "b": ["y", "z"], "c": "y"}
TWO = Rules(SPACE, [Exactly(2, CELLS)])
BY_SHOP = Rules(
    SPACE,
    [When({"shop": "east"}, [Exactly(2, CELLS)]), When({"shop": "west"}, [Fix("c", "x")])],
    context=CategoricalSpace({"shop": ["east", "west"]}),
)
WEIGHTS = normal((SPACE.width,), generator=seeded(3)).float()
TABLE = SPACE.one_hot(ROWS) @ WEIGHTS


class Scored(BaseEnsemble):
    """A sum of a weight for each category; it keeps the rows that it was asked about."""

    num_members = 1

    def __init__(self, spec: ContextSpec | None = None) -> None:
        super().__init__(SPACE, spec)
        self.asked = list[Tensor]()

    def to_latent(self, row: Tensor, context: Tensor | None = None) -> Tensor:
        return row

    def predictions(self, row: Tensor, context: Tensor | None = None, **_: bool) -> Tensor:
        flat = row if row.is_floating_point() else SPACE.one_hot(row)
        self.asked.append(SPACE.argmax(flat.detach()))
        return (flat @ WEIGHTS).unsqueeze(0)


def generator(rules: Rules, spec: ContextSpec | None = None) -> Conditioned:
    with isolated_seed(0):
        return Conditioned(Generator(SPACE, spec, hidden=(16,)), rules)


def data(context: Tensor | None = None) -> ScoredRows:
    codes = ROWS.repeat(4, 1)
    shops = None if context is None else context.repeat(24, 1)
    return ScoredRows(codes, TABLE.repeat(4), shops)


METHODS = ("Enumerate", "IMLE", "LeaveOneOut", "Reinforce", "StraightThrough")


@pytest.mark.parametrize("name", METHODS)
def test_the_estimators_see_allowed_rows_alone_and_the_best_one_is_found(name: str) -> None:
    model, score = generator(TWO), Scored()
    config = GeneratorConfig(gradient_estimator=name, steps=30, batch_size=16, learning_rate=0.1)
    method = make_gradient_estimator(SPACE, config, TWO)
    frozen = FrozenModels(score, score)
    fit_generator(model, data(), frozen=frozen, method=method, config=config, seed=0)
    assert all(TWO.allows(rows).all() for rows in score.asked)
    allowed = TWO.enumerate()
    best = TABLE[SPACE.row_number(allowed)].max()
    mode = model.law().mode()
    assert TWO.allows(mode)
    assert TABLE[SPACE.row_number(mode)] == best
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_rules_of_a_context_are_trained_by_leave_one_out() -> None:
    model, score = generator(BY_SHOP, SPEC), Scored()
    config = GeneratorConfig(
        gradient_estimator="LeaveOneOut", samples=8, steps=40, learning_rate=0.05
    )
    method = make_gradient_estimator(SPACE, config, BY_SHOP)
    frozen = FrozenModels(score, score)
    fit_generator(model, data(CONTEXT), frozen=frozen, method=method, config=config, seed=0)
    mode = model.law(CONTEXT).mode()
    rows = ROWS.unsqueeze(1).expand(-1, 2, -1)
    worth = TABLE.unsqueeze(1).masked_fill(~model.allows(rows, CONTEXT), -torch.inf)
    assert torch.equal(mode, ROWS[worth.argmax(0)])


@pytest.mark.parametrize("rules", [TWO, BY_SHOP], ids=["everywhere", "by context"])
def test_every_term_is_that_of_the_conditioned_law(rules: Rules) -> None:
    model = generator(rules, SPEC)
    law = law_of(model, CONTEXT, 2)
    rows = ROWS.unsqueeze(1).expand(-1, 2, -1)
    with torch.no_grad():
        log_p = model.log_prob(rows, CONTEXT)
        p = log_p.exp()
        entropy = -(p * log_p.masked_fill(p == 0, 0)).sum(0).mean()
        assert_close(law.entropy().double(), entropy)
        flat = SPACE.one_hot(ROWS).double()
        marginals = torch.einsum("rb,rd->bd", p, flat)
        assert_close(SPACE.softmax(law.marginal_logits()).double(), marginals)
        reference = normal((2, SPACE.width), generator=seeded(1)).float()
        other = SPACE.log_prob(reference.double(), rows)
        other = other.masked_fill(p == 0, -torch.inf).log_softmax(0)
        kl = (p * (log_p - other).masked_fill(p == 0, 0)).sum(0).mean()
        assert_close(law.kl(reference).double(), kl)
        assert torch.equal(law.likely(), ROWS[log_p.argmax(0)])
    law = law_of(model, CONTEXT, 2)
    (law.entropy() + law.marginal_logits().masked_fill(marginals == 0, 0).sum()).backward()
    assert all(one.grad.isfinite().all() for one in model.parameters() if one.grad is not None)


@pytest.mark.parametrize("rules", [TWO, BY_SHOP], ids=["everywhere", "by context"])
def test_the_gradient_of_the_expected_score_is_that_of_enumeration(rules: Rules) -> None:
    model = generator(rules, SPEC).double()
    west = CONTEXT[1:].double()
    config = GeneratorConfig(gradient_estimator="LeaveOneOut", samples=40_000)
    method = make_gradient_estimator(SPACE, config, rules)

    def f(row: Tensor) -> Tensor:
        return TABLE.double()[SPACE.row_number(SPACE.argmax(row))]

    found = law_of(model, west, 1, noise=seeded(0)).expectation(method, f).sum()
    exact = (model.log_prob(ROWS.unsqueeze(1), west).exp().squeeze(1) * TABLE).sum()
    assert_close(found, exact, atol=0.02, rtol=0)
    parameters = list(model.parameters())
    pair = [torch.autograd.grad(value, parameters) for value in (found, exact)]
    a, b = (torch.cat([part.flatten() for part in parts]) for parts in pair)
    assert (a - b).norm() < 0.05 * b.norm()


# --- step by step ---------------------------------------------------------------------------------


def writer(rules: Rules | None, spec: ContextSpec | None = None):
    with isolated_seed(0):
        plain = AutoregressiveGenerator(SPACE, spec, order=(2, 0, 1), hidden=(16,))
    return plain if rules is None else ConditionedSteps(plain, rules)


@pytest.mark.parametrize("name", ["LeaveOneOut", "StraightThrough", "ReinMax"])
@pytest.mark.parametrize("rules", [None, TWO, BY_SHOP], ids=["free", "everywhere", "by context"])
def test_a_step_by_step_generator_finds_the_best_row(name: str, rules: Rules | None) -> None:
    spec = SPEC if rules is BY_SHOP else None
    model, score = writer(rules, spec), Scored(spec)
    config = GeneratorConfig(gradient_estimator=name, steps=40, batch_size=16, learning_rate=0.05)
    method = make_gradient_estimator(None, config)
    given = data(None if spec is None else CONTEXT)
    frozen = FrozenModels(score, score)
    fit_generator(model, given, frozen=frozen, method=method, config=config, seed=0)
    shown = None if spec is None else CONTEXT
    found = law_of(model, shown, 2).likely()
    rows = ROWS.unsqueeze(1).expand(-1, 2, -1)
    worth = TABLE.unsqueeze(1).expand(-1, 2)
    if rules is not None:
        worth = worth.masked_fill(~model.allows(rows, shown), -torch.inf)
    assert torch.equal(found, ROWS[worth.argmax(0)])
    if rules is TWO:
        assert all(TWO.allows(seen).all() for seen in score.asked)


@pytest.mark.parametrize("rules", [None, BY_SHOP], ids=["free", "by context"])
def test_terms_of_steps_are_unbiased_and_so_are_their_gradients(rules: Rules | None) -> None:
    model, west = writer(rules, SPEC).double(), CONTEXT[1:].double()
    reference = normal((SPACE.width,), generator=seeded(1)).double()
    law = law_of(model, west, 1, samples=20_000, noise=seeded(0))
    log_p = model.log_prob(ROWS.unsqueeze(1), west).squeeze(1)
    p = log_p.exp()
    other = SPACE.log_prob(reference, ROWS)
    if rules is not None:
        other = other.masked_fill(~model.allows(ROWS, west[0]), -torch.inf).log_softmax(0)
    pairs = [
        (law.entropy(), -(p * log_p.masked_fill(p == 0, 0)).sum()),
        (law.kl(reference), (p * (log_p - other).masked_fill(p == 0, 0)).sum()),
    ]
    parameters = list(model.parameters())
    for found, exact in pairs:
        assert_close(found, exact, atol=0.04, rtol=0)
        a, b = (
            torch.cat(
                [
                    one.flatten()
                    for one in torch.autograd.grad(
                        value,
                        parameters,
                        retain_graph=True,
                        allow_unused=True,
                        materialize_grads=True,
                    )
                ]
            )
            for value in (found, exact)
        )
        assert (a - b).norm() < 0.1 * b.norm()


def test_steps_are_told_what_they_cannot_do() -> None:
    frozen = FrozenModels(Scored(), Scored())
    for settings in ({"trust": 0.1}, {"diversity": 0.1}):
        config = GeneratorConfig(gradient_estimator="LeaveOneOut", steps=1, **settings)
        method = make_gradient_estimator(None, config)
        with pytest.raises(ValueError, match="which a ConditionedSteps does not know"):
            fit_generator(writer(TWO), data(), frozen=frozen, method=method, config=config, seed=0)
    for method in (gradient.ReinMax(SPACE), gradient.Enumerate()):
        with pytest.raises(ValueError, match="takes LeaveOneOut, or a Relaxation made without"):
            check_method(writer(None), method)


# --- together -------------------------------------------------------------------------------------


def test_all_terms_train_together() -> None:
    model = generator(BY_SHOP, SPEC)
    config = GeneratorConfig(
        gradient_estimator="LeaveOneOut",
        steps=3,
        diversity=0.1,
        trust=0.1,
        reference_kl=0.1,
        alignment=0.1,
    )
    frozen = FrozenModels(
        EstimatorEnsemble([Estimator(SPACE, context=SPEC)]),
        EstimatorEnsemble([Estimator(SPACE, context=SPEC)]),
        reference=Generator(SPACE, SPEC),
        aligner=Aligner(Estimator(SPACE, context=SPEC), 4),
    )
    method = make_gradient_estimator(SPACE, config, BY_SHOP)
    history = fit_generator(
        model, data(CONTEXT), frozen=frozen, method=method, config=config, seed=0
    )
    assert all(torch.tensor(history.losses).isfinite())
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_methods_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match=r"ReinMax takes no rules; .*StraightThrough.* do"):
        make_gradient_estimator(SPACE, GeneratorConfig(), TWO)
    with pytest.raises(ValueError, match="depend on the context take LeaveOneOut, got Enumerate"):
        make_gradient_estimator(SPACE, GeneratorConfig(gradient_estimator="Enumerate"), BY_SHOP)
    with pytest.raises(ValueError, match="StraightThrough has rules that are not the generator's"):
        check_method(Generator(SPACE), gradient.StraightThrough(SPACE, rules=TWO))
    other = Rules(SPACE, [Fix("a", "x")])
    with pytest.raises(ValueError, match="LeaveOneOut has rules that are not the generator's"):
        check_method(generator(TWO), gradient.LeaveOneOut(SPACE, rules=other))
    with pytest.raises(ValueError, match=r"must have the generator's rules, `StraightThrough\(rul"):
        check_method(generator(TWO), gradient.StraightThrough(SPACE))
