"""Each check passes on what is right and fails on a planted bug, with words that help."""

from __future__ import annotations

import functools
import re

import pytest
import torch
from torch import nn

from discrete_grad import (
    CategoricalSpace,
    GumbelSoftmax,
    LeaveOneOut,
    Reinforce,
    ReinMax,
    Softmax,
    StraightThrough,
)
from discrete_grad.testing import (
    CHECKS,
    Claims,
    Subject,
    check_gradient_estimator,
    parametrize_with_checks,
    run_checks,
)
from tests.testing.bugs import BUGS, LAYER, RULED, SCORE, Flattened, Layer, SignOfF
from tests.testing.mutants import MUTANTS
from tests.testing.watched import (
    Watch,
    WatchedLayer,
    WatchedNoisy,
    WatchedRuled,
    WatchedScore,
    WatchedSoft,
    compare,
)

SEEDS = (0, 1)
SLOW = {"compile": "takes seconds", "export": "takes seconds"}
IN_OTHER_WORDS = {
    *SLOW,
    "pickle",
}  # the message is that of torch or Python, of each version another
WITHOUT_SLOW = [check for check in CHECKS if check not in SLOW]


# the contract suite of the library runs every one of its own
@parametrize_with_checks([Subject(Layer, facts=LAYER)], only=SLOW, seed=1)
def test_a_third_party_is_compiled_and_exported(method: Subject, check) -> None:
    check(method)


@parametrize_with_checks(
    [
        Subject(WatchedLayer, facts=LAYER, name="Layer"),
        Subject(WatchedScore, facts=SCORE, name="Score"),
        Subject(WatchedNoisy, facts=SCORE, name="Noisy"),
        Subject(WatchedSoft, facts=Claims(forward="soft", bias="exact on additive"), name="Soft"),
        Subject(WatchedScore(CategoricalSpace({"x": 3})), facts=SCORE, name="instance"),
    ],
    only=WITHOUT_SLOW,
    seed=1,
)
def test_a_third_party_passes_and_is_asked_as_before(
    method: Subject, check, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    check(method)
    watch.compare(request.node.callspec.id)


@parametrize_with_checks(
    [Subject(WatchedRuled, facts=RULED, name="Ruled")],
    only=["rules", "rules_law", "rules_gradient"],
    seed=1,
)
def test_a_third_party_passes_under_rules(
    method: Subject, check, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    check(method)
    watch.compare(request.node.callspec.id)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("check", "bug", "claims", "words"), BUGS, ids=[f"{b[0]}-{b[1].__name__}" for b in BUGS]
)
def test_a_planted_bug_is_found(
    check: str, bug: type[nn.Module], claims: Claims, words: str, seed: int
) -> None:
    (result,) = run_checks(bug, facts=claims, only=[check], seed=seed)
    assert result.status == "failed"
    assert re.search(words, result.message, re.DOTALL), result.message
    assert f"check_gradient_estimator({bug.__name__}, only=['{check}'], seed={seed})" in (
        result.message
    )
    if not seed and check not in IN_OTHER_WORDS:
        compare(f"{check}-{bug.__name__}", {"message": result.message})


def test_every_check_finds_something() -> None:
    found = {check for check, *_ in BUGS} | {mutant.check for mutant in MUTANTS}
    assert found == set(CHECKS)


def test_every_check_says_what_it_holds_a_method_to() -> None:
    assert all((check.__doc__ or "").endswith(".") for check in CHECKS.values())


def test_all_failures_are_listed_at_once() -> None:
    class Nothing(nn.Module):
        def __init__(self, space: CategoricalSpace) -> None:
            super().__init__()

        def expectation(self, f, logits):
            return f(logits.softmax(-1).unsqueeze(0)).mean(0)

    with pytest.raises(AssertionError) as caught:
        check_gradient_estimator(Nothing, facts=LAYER, only=["rows", "generator", "empty_batch"])
    message = str(caught.value)
    assert message.startswith("Nothing fails 2 of 3 checks:")
    assert "[rows]" in message
    assert "[generator] expectation(f, logits, *, generator=None) must take" in message


def test_each_pair_of_method_and_check_is_a_test() -> None:
    mark = parametrize_with_checks(
        [Flattened], facts=LAYER, only=["rows", "law", "black_box"], seed=1
    )
    (arguments, pairs) = mark.args
    assert arguments == ("method", "check")
    assert [pair.id for pair in pairs] == ["Flattened-rows", "Flattened-law", "Flattened-black_box"]
    (rows, law, black_box) = [lambda p=pair: p.values[1](p.values[0]) for pair in pairs]
    rows()
    with pytest.raises(pytest.fail.Exception, match=r"only=\['law'\], seed=1\)$"):
        law()
    with pytest.raises(pytest.skip.Exception, match=r"^needs df/dx$"):
        black_box()
    twice = parametrize_with_checks([Flattened, Layer], facts=LAYER, only=iter(["rows", "law"]))
    names = [f"{kind}-{check}" for kind in ("Flattened", "Layer") for check in ("rows", "law")]
    assert [pair.id for pair in twice.args[1]] == names
    usual = parametrize_with_checks([Subject(Layer, facts=LAYER)]).args[1]
    assert [pair.id for pair in usual] == [f"Layer-{name}" for name in CHECKS]


def test_skipped_checks_say_why() -> None:
    results = {r.check: r for r in run_checks(Softmax, skip={"masks": "known", **SLOW})}
    assert results["masks"].status == "skipped"
    assert results["masks"].message == "known"
    assert results["law"].message == "claims the forward 'soft', which is no draw"
    assert all(r.message for r in results.values() if r.status == "skipped")
    assert all(r.status != "failed" for r in results.values())


def test_an_instance_is_checked_in_its_own_space() -> None:
    space = CategoricalSpace({"cut": 3, "colour": 2})
    results = {r.check: r for r in run_checks(LeaveOneOut(space, samples=2), only=WITHOUT_SLOW)}
    assert all(r.status != "failed" for r in results.values())
    assert "give a factory" in results["padding"].message
    assert results["bias"].status == results["law"].status == "passed"
    for alone in check_gradient_estimator(ReinMax(), only=["bias", "direction", "fresh_noise"]):
        assert alone.status == "passed"


def test_an_instance_is_left_as_it_was() -> None:
    method = Reinforce(CategoricalSpace({"cut": 3}))
    before = torch.get_rng_state()
    check_gradient_estimator(method, only=WITHOUT_SLOW)
    assert method.weight == 0
    assert torch.equal(before, torch.get_rng_state())


LARGE = ["law", "value", "bias", "black_box", "direction", "scale", "fresh_noise", "vmap"]


def test_an_instance_of_a_large_space_is_not_enumerated() -> None:
    space = CategoricalSpace.from_sizes((10,) * 12)
    results = {r.check: r for r in check_gradient_estimator(LeaveOneOut(space), only=LARGE)}
    assert "too large" in results["bias"].message


def test_false_claims_are_found() -> None:
    for claims in (Claims(bias="exact on quadratic"), Claims(bias="none")):
        (result,) = run_checks(StraightThrough, facts=claims, only=["bias"])
        assert result.status == "failed"
    (soft,) = run_checks(StraightThrough, facts=Claims(forward="soft"), only=["rows"])
    assert soft.status == "passed"  # a hard row is a soft row too
    (argmax,) = run_checks(StraightThrough, facts=Claims(forward="argmax"), only=["law"])
    assert "must be the most likely category" in argmax.message


def test_a_law_at_another_temperature_can_be_claimed() -> None:
    for tau, status in ((2.0, "passed"), (1.0, "failed")):
        claims = Claims(bias="biased", law_tau=tau)
        results = run_checks(Flattened, facts=claims, only=["law", "law_of_many_categories"])
        assert results[0].status == status


def test_facts_of_the_library_claim_no_other_temperature() -> None:
    for check in ("value", "law"):
        (result,) = run_checks(StraightThrough, only=[check])
        assert result.status == "passed"


def test_nothing_is_said_of_a_sum_of_functions_where_none_is_claimed() -> None:
    (result,) = run_checks(
        SignOfF, facts=Claims(bias="biased", linear_in_f=False), only=["affine_in_f"]
    )
    assert result.status == "skipped"


@pytest.mark.parametrize("bias", ["none", "exact on multilinear"])
def test_a_false_claim_is_found_where_nothing_can_be_enumerated(bias: str) -> None:
    (result,) = run_checks(GumbelSoftmax, facts=Claims(bias=bias), only=["bias"])
    assert result.status == "failed"
    assert re.search(r"the gradient of GumbelSoftmax is biased:\n  feature '\w+'", result.message)
    assert "samples, seed=0" in result.message


def test_misuse() -> None:
    with pytest.raises(TypeError, match=r"Layer declares no facts; .*facts=Claims\(forward='hard'"):
        check_gradient_estimator(Layer)
    with pytest.raises(TypeError, match=r"must have expectation\(f, logits\)"):
        check_gradient_estimator(nn.Module(), facts=LAYER)
    with pytest.raises(TypeError, match="must have expectation"):
        check_gradient_estimator(3, facts=LAYER)
    with pytest.raises(ValueError, match="no check is called 'laws'; there are law, "):
        check_gradient_estimator(StraightThrough, only=["laws"])
    with pytest.raises(ValueError, match="no check is called 'laws'"):
        check_gradient_estimator(StraightThrough, skip={"laws": "why"})
    for given in ({"facts": LAYER}, {"skip": {"law": "why"}}):
        with pytest.raises(TypeError, match="belong to the Subject"):
            check_gradient_estimator(Subject(StraightThrough), **given)


def test_names() -> None:
    assert repr(Subject(functools.partial(LeaveOneOut, samples=2))) == "LeaveOneOut(samples=2)"
    two = functools.partial(GumbelSoftmax, tau=0.5, samples=2)
    assert repr(Subject(two)) == "GumbelSoftmax(tau=0.5, samples=2)"
    assert repr(Subject(ReinMax())) == "ReinMax"
    assert repr(Subject(ReinMax, name="mine")) == "mine"


def test_a_parametrized_check_fails_by_its_message_alone() -> None:
    check_name, bug, claims, _ = BUGS[0]
    mark = parametrize_with_checks([Subject(bug, facts=claims)], only=[check_name])
    ((method, check),) = (parameters.values for parameters in mark.args[1])
    (result,) = run_checks(bug, facts=claims, only=[check_name])
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception)) as ended:
        check(method)
    assert ended.type is pytest.fail.Exception
    assert (ended.value.msg, ended.value.pytrace) == (result.message, False)
