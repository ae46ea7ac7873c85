"""The report's numbers, by recomputing them, on small synthetic subjects."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows
from discrete_grad.evaluation import Observed
from discrete_grad.policies import AutoregressiveGenerator
from discrete_grad.reporting import build_report, format_table, render_html
from discrete_grad.reporting import report as module
from tests.evaluation.planted import Given
from tests.evaluation.subjects import SPACE, AdditiveTruth, make_subject

POLICIES = ("data policy", "naive baseline", "generator")


def entry_of(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def numbers_of(tree: Any) -> Iterator[float]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            yield from numbers_of(item)
    elif isinstance(tree, float):
        yield tree


def fixed(space: CategoricalSpace, logits: Tensor) -> Given:
    """A policy with given logits."""
    return Given(space, lambda context: logits)


@pytest.mark.parametrize("contexts", [0, 3])
@pytest.mark.parametrize("truth", [True, False])
def test_report_is_json_without_nan(contexts: int, truth: bool) -> None:
    report = build_report(make_subject(contexts=contexts, truth=truth), samples=16)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert all(math.isfinite(number) for number in numbers_of(report))
    assert len(report["contexts"]) == max(contexts, 1)
    assert report["has_truth"] is truth


def test_entries_are_in_order() -> None:
    names = [entry["name"] for entry in build_report(make_subject(), samples=4)["average"]]
    policies = [f"{p}, {what}" for p in POLICIES for what in ("most likely row", "samples")]
    assert names == ["best training row", "random rows", *policies]


def test_most_likely_row_is_measured_as_by_hand() -> None:
    subject = make_subject(contexts=2)
    report = build_report(subject, samples=8)
    assert subject.contexts is not None
    assert subject.truth is not None
    for i, context in enumerate(report["contexts"]):
        entry = entry_of(context["entries"], "generator, most likely row")
        shown = subject.contexts[i, None]
        codes = subject.space.argmax(subject.policies["generator"].logits(shown))
        categories = zip(subject.space.categories, codes[0].tolist(), strict=True)
        assert entry["row"] == [labels[code] for labels, code in categories]
        expected = {
            "estimated": subject.to_units(subject.estimator(codes, shown), shown),
            "judged": subject.to_units(subject.judge(codes, shown), shown),
            "true": subject.truth.score(codes, i),
            "true_percentile": subject.truth.percentile(codes, i),
            "nearest_mean": (codes != subject.observed.codes).sum(-1).min(),
        }
        for name, value in expected.items():
            assert entry[name] == pytest.approx(value.item(), rel=1e-5), name
        scale = (subject.observed.scores.std() * subject.estimator.std(codes, shown)).item()
        assert entry["estimated_std"] == pytest.approx(scale, rel=1e-4)


def test_best_training_row_is_the_contexts_own() -> None:
    subject = make_subject(contexts=3)
    observed = subject.observed
    for i, context in enumerate(build_report(subject, samples=4)["contexts"]):
        entry = entry_of(context["entries"], "best training row")
        assert entry["observed"] == observed.scores[observed.context == i].max()
        assert entry["true"] == entry["observed"]
        assert (entry["nearest_mean"], context["rows"]) == (0, (observed.context == i).sum())
        assert context["quantiles"]["1.0"] == entry["observed"]


def test_sharp_policy_has_one_row_no_entropy_and_no_gap() -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    sharp = torch.tensor([0.0, -math.inf, -math.inf, 0.0, -math.inf])
    subject = make_subject(space, policies={"sharp": fixed(space, sharp)})
    average = build_report(subject, samples=32)["average"]
    row, samples = (entry_of(average, f"sharp, {w}") for w in ("most likely row", "samples"))
    assert row["row"] == ["0", "1"]
    assert (samples["entropy"], samples["distinct_share"]) == (0, 1 / 32)
    assert samples["soft_hard_gap"] == pytest.approx(0, abs=1e-6)
    for name in ("estimated", "judged", "true", "true_percentile", "nearest_mean"):
        assert samples[name] == pytest.approx(row[name], rel=1e-6)


def test_samples_follow_the_policy() -> None:
    space = CategoricalSpace.from_sizes((4, 2))
    subject = make_subject(space, policies={"flat": fixed(space, torch.zeros(1, 6))})
    samples = entry_of(build_report(subject, samples=4000)["average"], "flat, samples")
    assert samples["true"] == pytest.approx(1.5 + 0.5, abs=0.08)
    assert samples["entropy"] == pytest.approx(math.log(8))
    assert samples["distinct_share"] == 8 / 4000


def test_gap_is_the_soft_rows_score_minus_the_samples() -> None:
    """The estimate is the square of a probability, which hard rows have at 0 or 1."""

    class Square:
        def __call__(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
            flat = row if row.is_floating_point() else space.one_hot(row)
            return flat[:, 0].square()

        def std(self, row: Tensor, context: Tensor | None = None, /) -> Tensor:
            return torch.zeros(len(row))

    space = CategoricalSpace.from_sizes((2, 2))
    policies = {"flat": fixed(space, torch.zeros(4))}
    subject = make_subject(space, estimator=Square(), policies=policies)
    samples = entry_of(build_report(subject, samples=4000)["average"], "flat, samples")
    assert samples["soft_hard_gap"] == pytest.approx(0.25 - 0.5, abs=0.03)
    assert samples["estimated_std"] == 0


def test_averages_are_over_contexts_that_know_a_value() -> None:
    subject = make_subject(contexts=3)
    observed = subject.observed
    index = observed.context.where(observed.context != 1, -1)
    hidden = replace(subject, observed=Observed(observed.codes, observed.scores, index))
    report = build_report(hidden, samples=4)
    empty = report["contexts"][1]
    assert (empty["rows"], empty["quantiles"]) == (0, {})
    best = [entry_of(c["entries"], "best training row") for c in report["contexts"]]
    assert best[1]["row"] is None
    assert best[1]["estimated"] is None
    mean = (best[0]["observed"] + best[2]["observed"]) / 2
    assert entry_of(report["average"], "best training row")["observed"] == pytest.approx(mean)
    likely = [entry_of(c["entries"], "generator, most likely row") for c in report["contexts"]]
    average = entry_of(report["average"], "generator, most likely row")
    assert average["judged"] == pytest.approx(sum(e["judged"] for e in likely) / 3)
    assert average["nearest_min"] == min(e["nearest_min"] for e in likely)
    apart = [[likely[0] | {"nearest_min": n}] for n in (2.0, 1.0, None, 3.0)]
    assert module._average(apart)[0]["nearest_min"] == 1


def test_infeasible_rows_are_none_and_keep_their_percentile() -> None:
    class Infeasible(AdditiveTruth):
        def score(self, codes: Tensor, context: int) -> Tensor:
            return torch.full((len(codes),), -math.inf)

    space = CategoricalSpace.from_sizes((2, 3))
    report = build_report(make_subject(space, truth=False, contexts=2), samples=4)
    assert report["average"][0]["true"] is None
    subject = replace(make_subject(space, contexts=2), truth=Infeasible(space))
    report = build_report(subject, samples=4)
    json.dumps(report, allow_nan=False)
    assert all(entry["true"] is None for entry in report["average"])
    assert all(0 <= entry["true_percentile"] <= 1 for entry in report["average"])


@pytest.mark.parametrize("most", [1, 3])
def test_held_out_quality(most: int) -> None:
    """By observations: an equal row counts as often as it was observed."""
    subject = make_subject()
    rows = subject.held_out["judge"]
    times = 1 + torch.arange(len(rows)) % most
    rows = replace(rows, counts=None if most == 1 else times)
    quality = build_report(replace(subject, held_out={"judge": rows}), samples=4)["held_out"]
    squares = (subject.judge(rows.codes) - rows.scores).square()
    rmse = ((times * squares).sum() / times.sum()).sqrt().item()
    assert quality["judge"]["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert -1 <= quality["judge"]["spearman"] <= 1
    assert quality["judge"]["rows"] == quality["judge"]["of"] == times.sum()


def test_curves_are_sorted_by_stage_and_thinned() -> None:
    metrics = [{"step": i, "judge/loss": 1.0 / (1 + i), "time": 3.0} for i in range(1500)]
    metrics += [{"step": 7, "generator/held_out_loss": math.nan, "part/of/it": 2.0}]
    curves = build_report(make_subject(metrics=metrics), samples=2)["curves"]
    assert curves["generator"] == {"held_out_loss": [[7], [None]]}
    assert curves["part"] == {"of/it": [[7], [2.0]]}
    steps, values = curves["judge"]["loss"]
    assert len(steps) == len(values) <= 401
    assert (steps[0], steps[-1], values[-1]) == (0, 1499, 1 / 1500)


def test_only_the_first_contexts_keep_their_samples() -> None:
    report = build_report(make_subject(contexts=9), samples=3)
    kept = ["samples" in context for context in report["contexts"]]
    assert kept == [True] * 6 + [False] * 3
    samples = report["contexts"][0]["samples"]
    assert list(samples) == ["random rows", *POLICIES]
    assert {len(values) for scores in samples.values() for values in scores.values()} == {3}


def test_only_the_most_likely_of_many_categories_are_kept() -> None:
    space = CategoricalSpace({"many": 50, "few": 3})
    many, few = build_report(make_subject(space), samples=2)["contexts"][0]["probabilities"]
    shares = [share for _, share in many]
    assert len(many) == 11
    assert shares == sorted(shares, reverse=True)
    assert [label for label, _ in few] == ["0", "1", "2"]
    assert sum(share for _, share in few) == pytest.approx(1, abs=1e-3)


def test_probabilities_are_those_of_the_last_policy() -> None:
    subject = make_subject(contexts=2)
    report, policy = build_report(subject, samples=2), list(subject.policies.values())[-1]
    law = subject.space.softmax(policy.logits(subject.contexts))
    for context, shares in zip(report["contexts"], law.tolist(), strict=True):
        told = [share for feature in context["probabilities"] for _, share in feature]
        assert told == pytest.approx(shares, abs=1e-3)


def test_the_seed_decides() -> None:
    subject = make_subject()
    before = torch.get_rng_state()
    one, again, other = (build_report(subject, samples=8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one == again
    assert one["average"] != other["average"]


def test_settings_become_json() -> None:
    settings = {"path": torch.float32, "nested": {1: (2, math.inf)}, "none": None}
    report = build_report(make_subject(settings=settings), samples=2)
    expected = {"path": "torch.float32", "nested": {"1": [2, None]}, "none": None}
    assert report["settings"] == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a", "b"]}, "one for each of 1"),
        ({"policies": {}}, "at least one policy"),
        ({"policies": {"random rows": fixed(SPACE, torch.zeros(9))}}, "another name"),
        ({"held_out": {"aligner": None}}, "aligner"),
    ],
)
def test_subjects_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_subject(**changes)


class Unknown:
    """A policy with nothing but a space."""

    space = SPACE


def test_a_policy_without_logits_or_steps_is_named() -> None:
    told = r"^a report needs a policy with `logits\(context\)`; Unknown has none$"
    for changes in ({"policies": {"own": Unknown()}}, {"trail": {0: Unknown()}}):
        with pytest.raises(TypeError, match=told):
            make_subject(**changes)
    steps = AutoregressiveGenerator(SPACE)
    make_subject(policies={"own": steps})  # written step by step will do, if not as the reference
    with pytest.raises(TypeError, match="AutoregressiveGenerator has none"):
        make_subject(reference=steps)


def test_logits_and_samples_are_checked() -> None:
    with pytest.raises(ValueError, match="'odd' must be"):
        build_report(make_subject(policies={"odd": fixed(SPACE, torch.zeros(2, 9))}))
    masked = torch.full((9,), -math.inf)
    with pytest.raises(ValueError, match="feature 'cut'"):
        build_report(make_subject(policies={"odd": fixed(SPACE, masked)}))
    with pytest.raises(ValueError, match="at least 1"):
        build_report(make_subject(), samples=0)
    with pytest.raises(ValueError, match="as many"):
        Observed(torch.zeros(2, 1).long(), torch.zeros(3), torch.zeros(2).long())


def test_figures_of_a_sample_state_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    space = CategoricalSpace.from_sizes((12, 12, 12))
    subject = make_subject(space, rows=6000)
    whole = build_report(subject, samples=16)
    assert whole["held_out"]["judge"]["rows"] == whole["held_out"]["judge"]["of"] == 6000
    different = len(subject.observed.codes.unique(dim=0))
    assert whole["nearest"] == {"different_rows": different, "compared": different}
    assert "random sample" not in render_html(whole)
    monkeypatch.setattr(module, "_MAX_HELD_OUT", 500)
    monkeypatch.setattr(module, "_COMPARISONS", 1)
    sampled = build_report(subject, samples=16)
    assert sampled["held_out"]["judge"]["of"] == 6000
    assert sampled["held_out"]["judge"]["rows"] == 500
    assert sampled["held_out"]["judge"] == build_report(subject, samples=16)["held_out"]["judge"]
    near = whole["held_out"]["judge"]["rmse"]
    assert sampled["held_out"]["judge"]["rmse"] == pytest.approx(near, rel=0.1)
    assert sampled["nearest"] == {"different_rows": different, "compared": 1024}
    text = render_html(sampled)
    assert f"random sample of 1,024 of the {different:,} different" in text
    assert "On 500 of the 6,000 rows it has not seen, the judge" in text


def test_contexts_that_are_not_shown_are_counted() -> None:
    subject = make_subject(contexts=3, contexts_in_table=4037)
    report = build_report(subject, samples=8)
    assert report["contexts_in_table"] == 4037
    assert "3 of 4,037 contexts" in render_html(report)
    assert "average of 3 of 4,037 contexts" in format_table(report)


def test_of_many_held_out_rows_any_may_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 100 rows are predicted exactly, the others by 1 too little."""
    monkeypatch.setattr(module, "_MAX_HELD_OUT", 100)
    codes = torch.zeros(1000, 2, dtype=torch.long)
    rows = ScoredRows(codes, (torch.arange(1000) >= 100).float())
    found = [
        module._held_out(lambda codes, _: torch.zeros(len(codes)), rows, seed) for seed in (0, 1)
    ]
    assert all(part["rmse"] == pytest.approx(0.9**0.5, abs=0.06) for part in found)
    assert found[0]["rmse"] != found[1]["rmse"]
