"""Perturbed contexts: policies whose loss is known, what is not finite, and absence."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import ContextSpec
from discrete_grad.evaluation import TrainingContexts, context_robustness
from discrete_grad.evaluation.robustness import _Answer, _entry
from discrete_grad.reporting import build_report, render_html
from discrete_grad.reporting._robustness_page import robustness_sentences
from tests.evaluation.planted import (
    MIXED,
    SHOPS,
    SPACE,
    Given,
    mixed_contexts,
    own_shop,
    planted,
    sharp,
)
from tests.evaluation.subjects import make_subject


def entry_of(part: Any, kind: str, size: float, *columns: str) -> dict[str, Any]:
    found = [e for e in part["perturbed"] if (e["kind"], e["size"]) == (kind, size)]
    if columns:
        found = [e for e in found if e["columns"] == columns]
    entry: dict[str, Any] = found[0]
    return entry


# --- the worth of the policy's rows ---------------------------------------------------------------


@pytest.mark.parametrize("truth", [True, False])
def test_a_policy_that_ignores_its_context_changes_by_exactly_0(truth: bool) -> None:
    shown = mixed_contexts(7)
    logits = torch.linspace(-1, 1, 6)
    policy = lambda context: logits.expand(len(context), -1)  # noqa: E731
    part = context_robustness(planted(MIXED, shown, torch.rand(7, 4), policy, truth=truth))
    assert part is not None
    assert part["measure"] == ("true" if truth else "judged")
    assert len(part["perturbed"]) == 18
    for entry in part["perturbed"]:
        for key in ("row_change", "samples_change", "entropy_change", "changed"):
            assert entry[key] == [0, 0, 0], (entry, key)
        assert entry["row"] == part["clean"]["row"]
        assert entry["samples"] == part["clean"]["samples"]
        assert entry["finite"] == 1


def test_where_the_context_decides_everything_each_replacement_costs_all() -> None:
    subject = planted(SHOPS, torch.eye(4), torch.eye(4), own_shop)
    part = context_robustness(subject, draws=4000)
    assert part is not None
    assert (part["contexts"], part["draws"], part["policy"]) == (4, 1000, "planted")
    assert part["clean"]["row"] == part["clean"]["samples"] == [1, 1, 1]
    assert [(e["kind"], e["size"]) for e in part["perturbed"]] == [
        ("replaced", 0.1),
        ("replaced", 0.3),
        ("replaced", 1.0),
    ]
    for entry in part["perturbed"]:
        rate = entry["changed"][0]
        assert rate == pytest.approx(entry["size"], abs=0.025)
        for key in ("row", "samples"):
            assert entry[key][0] == pytest.approx(1 - rate)
            assert entry[f"{key}_change"] == pytest.approx([-x for x in reversed_ends(entry)])
    assert part["perturbed"][2]["row_change"] == [-1, -1, -1]
    assert part["most_important"] is None


def reversed_ends(entry: dict[str, Any]) -> list[float]:
    mean, low, high = entry["changed"]
    return [mean, high, low]


def test_the_judge_is_asked_about_the_context_itself_and_in_the_users_units() -> None:
    table = torch.arange(16.0).reshape(4, 4)
    subject = planted(SHOPS, torch.eye(4), table, own_shop)
    true, judged = context_robustness(subject), context_robustness(replace(subject, truth=None))
    assert true is not None
    assert judged is not None
    assert judged["measure"] == "judged"
    assert true["clean"]["row"][0] == table.diag().mean()
    assert judged["clean"]["row"][0] == table.diag().mean() + 10
    for one, other in zip(true["perturbed"], judged["perturbed"], strict=True):
        assert one["row_change"] == other["row_change"]
        assert one["samples"][0] == pytest.approx(other["samples"][0] - 10)


def test_intervals_are_over_contexts() -> None:
    """Context i loses exactly i where its category is replaced."""
    table = torch.zeros(4, 4) + torch.diag(torch.arange(4.0))
    part = context_robustness(planted(SHOPS, torch.eye(4), table, own_shop))
    assert part is not None
    half = 3.182446 * math.sqrt(5 / 3) / 2  # t of 3 degrees of freedom
    found = entry_of(part, "replaced", 1.0)["row_change"]
    assert found == pytest.approx([-1.5, -1.5 - half, -1.5 + half], rel=1e-5)


def test_beyond_the_range_is_known_exactly_on_each_side() -> None:
    spec = ContextSpec(numeric=["price"])
    shown = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    table = -(torch.arange(4) - shown).square()
    policy = lambda context: sharp(context[:, 0].round().long().clamp(0, 3))  # noqa: E731
    part = context_robustness(planted(spec, shown, table, policy))
    assert part is not None
    assert part["clean"]["row"] == [0, 0, 0]
    for size in (1.0, 3.0):
        for side in ("below", "above"):
            entry = entry_of(part, side, size)
            assert entry["row_change"][0] == -(0 + 1 + 4 + 9) / 4
            assert entry["changed"][0] == 3 / 4
    # a policy that answers only the one side
    below = lambda context: sharp((context[:, 0] < 0).long())  # noqa: E731
    part = context_robustness(planted(spec, shown, table, below))
    assert part is not None
    assert entry_of(part, "above", 3.0)["changed"] == [0, 0, 0]
    assert entry_of(part, "below", 1.0)["changed"] == [1, 1, 1]


def test_noise_changes_rows_as_often_as_its_size_says() -> None:
    spec = ContextSpec(numeric=["price"])
    shown = torch.tensor([[-2.0], [2.0]])  # a deviation of 2
    policy = lambda context: sharp((context[:, 0] > 1.0).long())  # noqa: E731
    table = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    part = context_robustness(planted(spec, shown, table, policy), draws=20_000, samples=1)
    assert part is not None
    normal = torch.distributions.Normal(0, 1)
    for size in (0.1, 0.3, 1.0):
        to, fro = (1 - normal.cdf(torch.tensor(x / (2 * size))) for x in (3.0, 1.0))
        expected = float(to + fro) / 2
        found = entry_of(part, "noise", size)
        assert found["changed"][0] == pytest.approx(expected, abs=0.01)
        assert found["row_change"][0] == pytest.approx(-expected, abs=0.01)


def test_samples_and_entropy_are_those_of_the_perturbed_policy() -> None:
    weights = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
    table = torch.rand(4, 4, generator=torch.Generator().manual_seed(4))
    policy = lambda context: context @ weights  # noqa: E731
    part = context_robustness(planted(SHOPS, torch.eye(4), table, policy), draws=2000, samples=32)
    assert part is not None
    shares = weights[:, :4].double().softmax(-1)
    worth = table.double() @ shares.T  # context c, asked for c'
    others = 1 - torch.eye(4, dtype=torch.float64)
    entry = entry_of(part, "replaced", 1.0)
    assert part["clean"]["samples"][0] == pytest.approx(worth.diag().mean().item(), abs=0.01)
    expected = (worth * others).sum().item() / 12
    assert entry["samples"][0] == pytest.approx(expected, abs=0.01)
    assert entry["samples_change"][0] == pytest.approx(
        entry["samples"][0] - part["clean"]["samples"][0], abs=1e-12
    )
    likely = table[:, weights[:, :4].argmax(-1)].double()
    assert entry["row"][0] == pytest.approx((likely * others).sum().item() / 12, abs=0.02)
    lost = entry["row"][0] - part["clean"]["row"][0]
    assert entry["row_change"][0] == pytest.approx(lost, abs=1e-12)
    rows = SPACE.argmax(weights)
    another = (rows.unsqueeze(1) != rows).any(-1).double()
    assert entry["changed"][0] == pytest.approx(another.sum().item() / 12, abs=0.03)
    entropy = SPACE.entropy(weights).double()
    assert part["clean"]["entropy"][0] == pytest.approx(entropy.mean().item())
    assert part["max_entropy"] == pytest.approx(math.log(8))
    assert entry["entropy"][0] == pytest.approx(entropy.mean().item(), abs=0.02)
    assert entry["entropy_change"][0] == pytest.approx(
        entry["entropy"][0] - part["clean"]["entropy"][0], abs=1e-6
    )


@pytest.mark.parametrize("minimised", [False, True])
def test_the_column_that_decides_is_named(minimised: bool) -> None:
    shown, sign = mixed_contexts(12), -1 if minimised else 1
    table = sign * torch.nn.functional.one_hot((shown[:, 6] > 0).long(), 4).float()
    policy = lambda context: sharp((context[:, 6] > 0).long())  # noqa: E731
    subject = planted(MIXED, shown, table, policy)
    observed = replace(subject.observed, minimised=minimised)
    part = context_robustness(replace(subject, observed=observed))
    assert part is not None
    alone = entry_of(part, "noise", 1.0, "weight")
    assert part["most_important"] == {"column": "weight", "change": alone["row_change"]}
    assert max(sign * end for end in alone["row_change"]) < 0
    for entry in part["perturbed"]:
        assert (entry["row_change"] == [0, 0, 0]) is ("weight" not in entry["columns"])


def test_many_contexts_are_chosen_evenly() -> None:
    spec, shown = ContextSpec(numeric=["price"]), torch.arange(64.0).unsqueeze(-1)
    policy = lambda context: sharp(context[:, 0].long() * 0)  # noqa: E731
    part = context_robustness(planted(spec, shown, shown.expand(-1, 4), policy))
    assert part is not None
    assert part["contexts"] == 32
    assert part["draws"] == 8
    assert part["clean"]["row"][0] == pytest.approx(31.5, abs=0.5)


# --- what is not finite ---------------------------------------------------------------------------


def test_outputs_that_are_not_finite_are_counted_and_take_part_in_nothing() -> None:
    spec, shown = ContextSpec(numeric=["price"]), torch.tensor([[0.0], [1.0], [2.0]])

    def policy(context: Tensor) -> Tensor:
        logits = sharp((context[:, 0] > 1.5).long())
        logits[context[:, 0] > 2.5, 0] = math.nan
        logits[context[:, 0] < -0.5, 4:] = -math.inf  # nothing is left of feature 1
        return logits

    subject = planted(spec, shown, torch.ones(3, 4), policy)
    part = context_robustness(subject)
    assert part is not None
    for side in ("below", "above"):
        entry = entry_of(part, side, 3.0)
        assert entry["finite"] == 0
        assert entry["row"] is entry["changed"] is entry["entropy"] is None
        assert entry["left_out"] == {"row": 3, "samples": 3}
    some = entry_of(part, "noise", 1.0)
    assert 0.3 < some["finite"] < 0.95
    assert some["row_change"] == [0, 0, 0]
    assert 0 < some["changed"][0] < 1
    assert part["clean"]["finite"] == entry_of(part, "noise", 0.1)["finite"] == 1
    said = robustness_sentences(part)
    assert said[-1].startswith("The planted gives numbers that are not finite in up to 100% of")
    report = build_report(subject, samples=4)
    json.dumps(report, allow_nan=False)
    assert "not finite" in render_html(report)


def test_rows_the_table_lacks_leave_their_context_out() -> None:
    table = torch.eye(4)
    table[0, 3] = -math.inf
    table[1] = -math.inf  # infinitely bad, whatever is asked for
    part = context_robustness(planted(SHOPS, torch.eye(4), table, own_shop))
    assert part is not None
    entry = entry_of(part, "replaced", 1.0)
    assert part["clean"]["left_out"] == {"row": 1, "samples": 1}
    assert entry["left_out"] == {"row": 2, "samples": 2}
    assert entry["row_change"] == entry["samples_change"] == [-1, -1, -1]
    assert entry["changed"] == [1, 1, 1]


def test_a_single_context_has_no_interval() -> None:
    training = mixed_contexts(20)
    policy = lambda context: torch.zeros(len(context), 6)  # noqa: E731
    subject = planted(MIXED, training[:1], torch.rand(1, 4), policy, training=training)
    report = build_report(subject, samples=4)
    entry = report["robustness"]["perturbed"][0]
    assert entry["row_change"] == [0, None, None]
    page = render_html(report)
    assert "the most likely row stays the same everywhere" in page
    assert "in the one context, of 256 perturbations of each" in page


# --- absence, seeds, faults -----------------------------------------------------------------------


def test_without_contexts_there_is_nothing() -> None:
    assert context_robustness(make_subject()) is None
    assert context_robustness(make_subject(contexts=1)) is None  # one category
    subject = planted(SHOPS, torch.eye(4), torch.eye(4), own_shop)
    assert context_robustness(replace(subject, training_contexts=None)) is None
    for absent in (make_subject(), make_subject(contexts=1)):
        report = build_report(absent, samples=4)
        assert report["robustness"] is None
        assert 'id="robustness"' not in render_html(report)
        # a report that was written before there was this part
        del report["robustness"]
        assert 'id="robustness"' not in render_html(report)


def test_the_seed_decides() -> None:
    shown = mixed_contexts(5)
    weights = torch.randn(7, 6, generator=torch.Generator().manual_seed(3))
    subject = planted(MIXED, shown, torch.rand(5, 4), lambda context: context @ weights)
    before = torch.get_rng_state()
    one, again, other = (context_robustness(subject, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one == again
    assert one is not None
    assert other is not None
    assert one["perturbed"] != other["perturbed"]
    assert build_report(subject, seed=2)["robustness"]["clean"] == other["clean"]


def test_bad_input_is_told() -> None:
    subject = planted(SHOPS, torch.eye(4), torch.eye(4), own_shop)
    with pytest.raises(ValueError, match="at least 1, got 0 and 16"):
        context_robustness(subject, draws=0)
    with pytest.raises(ValueError, match="at least 1, got 256 and 0"):
        context_robustness(subject, samples=0)
    other = TrainingContexts(ContextSpec({"shop": 3}), torch.eye(3))
    with pytest.raises(ValueError, match="equally wide, got 4 and 3"):
        context_robustness(replace(subject, training_contexts=other))
    fixed = {"fixed": Given(subject.space, lambda context: torch.zeros(4, 6))}
    with pytest.raises(ValueError, match=r"'fixed' must be \(256, 6\), got \(4, 6\)"):
        context_robustness(replace(subject, policies=fixed))
    with pytest.raises(ValueError, match=r"\(N, 4\) with N >= 1, got \(0, 4\)"):
        TrainingContexts(SHOPS, torch.zeros(0, 4))
    with pytest.raises(ValueError, match=r"\(N, 4\) with N >= 1, got \(2, 3\)"):
        TrainingContexts(SHOPS, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="got nan in row 1"):
        TrainingContexts(
            ContextSpec(numeric=["a", "b"]), torch.tensor([[0.0, 0.0], [0.0, math.nan]])
        )


def test_a_draw_counts_where_both_answers_are_numbers() -> None:
    """Two contexts, three draws of each; of the second context one draw alone counts."""
    codes, entropy = torch.zeros(3, 2, 2, 4).long(), torch.ones(3, 2)
    clean = _Answer(codes, entropy, torch.tensor([[True, True], [True, True], [True, False]]))
    usable = torch.tensor([[True, True], [True, False], [True, True]])
    before, after = torch.zeros(3, 2, 2), torch.tensor([[1.0, 5.0], [1.0, 50.0], [1.0, 500.0]])
    found = _entry(
        clean, _Answer(codes, entropy, usable), before, after.unsqueeze(2).expand(-1, -1, 2)
    )
    assert found["row"][0] == found["samples_change"][0] == (1 + 5) / 2
    assert found["finite"] == pytest.approx(5 / 6)
    assert found["left_out"] == {"row": 0, "samples": 0}
