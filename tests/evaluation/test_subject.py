"""The subject of a report: its parts fit together, and each answers as a report asks."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import ContextSpec
from discrete_grad.data import ScoredRows
from discrete_grad.evaluation import ExampleTruth, Observed
from discrete_grad.evaluation.row_laws import DrawnLaw, IndependentLaw, row_laws
from discrete_grad.models import Estimator
from discrete_grad.policies import AutoregressiveGenerator, Generator, conditioned
from discrete_grad.rules import Fix, Rules
from discrete_grad.sampling import seeded
from tests.evaluation.subjects import SPACE, make_subject

CODES = SPACE.enumerate()


def test_example_truth_looks_up_the_contexts_data_set() -> None:
    class Table:
        def true_score(self, codes: Tensor, dataset: str) -> str:
            return f"score in {dataset}"

        def true_percentile(self, codes: Tensor, dataset: str) -> str:
            return f"percentile in {dataset}"

    truth = ExampleTruth(Table(), ["b", "a"])  # type: ignore[arg-type]
    assert str(truth.score(torch.zeros(1), 1)) == "score in a"
    assert str(truth.percentile(torch.zeros(1), 0)) == "percentile in b"


def test_a_model_of_ones_own_is_an_ensemble_of_one() -> None:
    own = Estimator(SPACE, hidden=(4,))
    subject = make_subject(estimator=own, judge=None)
    assert list(subject.scorers) == ["estimator"]
    scorer = subject.scorers["estimator"]
    assert_close(scorer(CODES), own(CODES))
    assert torch.equal(scorer.std(SPACE.one_hot(CODES)), torch.zeros(len(CODES)))
    shops = Estimator(SPACE, context=ContextSpec({"shop": 2}), hidden=(4,))
    (scorer,) = make_subject(contexts=2, estimator=shops, judge=None).scorers.values()
    context = torch.eye(2)[torch.arange(len(CODES)) % 2]
    assert_close(scorer(CODES, context), shops(CODES, context))
    both = make_subject()
    assert both.scorers == {"estimator": both.estimator, "judge": both.judge}


def test_observed_rows_by_context() -> None:
    context = torch.tensor([1, 0, 2, 1, -1, 1])
    observed = Observed(torch.zeros(6, 1).long(), torch.zeros(6), context)
    assert [observed.places(i).tolist() for i in range(4)] == [[1], [0, 3, 5], [2], []]
    assert (observed.sign, observed.score_name) == (1, "score")
    assert (
        Observed(torch.zeros(1, 1).long(), torch.zeros(1), torch.zeros(1), minimised=True).sign
        == -1
    )
    with pytest.raises(ValueError, match=r"must be as many, at least 1: \(0, 0, 0\)$"):
        Observed(torch.zeros(0, 1).long(), torch.zeros(0), torch.zeros(0))


ROWS = ScoredRows(CODES, torch.zeros(len(CODES)))


@pytest.mark.parametrize(
    ("error", "changes", "message"),
    [
        (
            ValueError,
            {"labels": ["a", "b"]},
            "labels must be one for each of 1 contexts, at least 1, got 2",
        ),
        (ValueError, {"policies": {}}, "a report needs at least one policy"),
        (
            ValueError,
            {"policies": {"random rows": Generator(SPACE)}},
            "a policy needs another name than {'random rows'}",
        ),
        (
            ValueError,
            {"policies": {"best training row": Generator(SPACE)}},
            "a policy needs another name than {'best training row'}",
        ),
        (
            ValueError,
            {"held_out": {"judge": ROWS, "judges": ROWS}},
            "rows are held out from 'estimator' or 'judge', got {'judges'}",
        ),
        (
            TypeError,
            {"policies": {"odd": 3}},
            "a report needs a policy with `logits(context)`; int has none",
        ),
        (
            TypeError,
            {"trail": {5: 3}},
            "a report needs a policy with `logits(context)`; int has none",
        ),
        (
            TypeError,
            {"reference": AutoregressiveGenerator(SPACE)},
            "a report needs a policy with `logits(context)`; AutoregressiveGenerator has none",
        ),
        (TypeError, {"estimator": 3}, "a report needs a model with "),
        (TypeError, {"judge": 3}, "a report needs a model with "),
    ],
)
def test_parts_that_do_not_fit(
    error: type[Exception], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        make_subject(**changes)


def test_a_report_shows_a_context_at_least() -> None:
    with pytest.raises(
        ValueError, match=r"^labels must be one for each of 0 contexts, at least 1, got 0$"
    ):
        replace(make_subject(contexts=2), contexts=torch.zeros(0, 2), labels=[])


# --- the law of a policy in each context ----------------------------------------------------------


class Fixed(Generator):
    """The same logits whatever the context."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(SPACE)
        self.given = logits

    def logits(self, context: Tensor | None = None) -> Tensor:
        return self.given


def test_laws_of_independent_features() -> None:
    subject = make_subject(contexts=2)
    policy = subject.policies["generator"]
    laws = row_laws(subject, policy, "generator")
    for law, logits in zip(laws, policy.logits(torch.eye(2)), strict=True):
        assert isinstance(law, IndependentLaw)
        assert torch.equal(law.mode(), SPACE.argmax(logits))
        assert_close(law.entropy(), SPACE.entropy(logits))
        assert_close(law.marginals(), SPACE.softmax(logits))
        drawn = law.sample(4000, generator=seeded(0))
        assert torch.equal(drawn, law.sample(4000, generator=seeded(0)))
        frequencies = SPACE.one_hot(drawn).mean(0)
        assert_close(frequencies, SPACE.softmax(logits), atol=0.05, rtol=0)
    odd = f"logits of 'odd' must be (2, {SPACE.width}), got (1, {SPACE.width})"
    with pytest.raises(ValueError, match=f"^{re.escape(odd)}$"):
        row_laws(subject, Fixed(torch.zeros(1, SPACE.width)), "odd")


def test_laws_that_are_known_by_their_draws() -> None:
    subject = make_subject(contexts=2)
    policy = AutoregressiveGenerator(SPACE, ContextSpec({"shop": 2}))
    for law, context in zip(row_laws(subject, policy, "own"), torch.eye(2), strict=True):
        assert isinstance(law, DrawnLaw)
        drawn = policy.sample(context, 512, generator=seeded(0))
        log_prob = policy.log_prob(drawn, context)
        assert_close(law.entropy(), -log_prob.mean())
        assert_close(law.marginals(), SPACE.one_hot(drawn).mean(0))
        assert_close(policy.log_prob(law.mode(), context), log_prob.max())
        more = law.sample(7, generator=seeded(3))
        assert torch.equal(more, policy.sample(context, 7, generator=seeded(3)))
    alone = make_subject(policies={"own": AutoregressiveGenerator(SPACE)})
    (law,) = row_laws(alone, alone.policies["own"], "own")
    assert law.mode().shape == (3,)


def test_laws_of_rows_that_obey() -> None:
    subject = make_subject()
    policy = conditioned(Generator(SPACE), Rules(SPACE, [Fix("cut", "good")]))
    (law,) = row_laws(subject, policy, "ruled")
    assert law.mode()[0] == 1
    assert_close(law.marginals()[:3], torch.tensor([0.0, 1.0, 0.0]).double())
