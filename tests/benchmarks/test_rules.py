"""The pieces of `rules` that its figures rest on."""

import math

import pytest
import torch
from torch.testing import assert_close

from benchmarks import rules_dna as dna
from benchmarks import rules_peers, rules_search, rules_speed
from benchmarks.rules import Config, cells, methods
from benchmarks.rules_subsets import (
    CHOSEN,
    RULES,
    Toy,
    leave_one_out,
    simple_gradients,
    simple_marginals,
    top_k,
    top_k_gradients,
    weighted,
)
from benchmarks.rules_tables import tables
from discrete_grad import CategoricalSpace
from discrete_grad.rules import Avoids, Fix, Rules, Within
from discrete_grad.sampling import gumbel_like, seeded
from discrete_grad.testing._goodness import g_test

TOY = Toy.make(3)
FALSE_ALARM = 1e-6


# --- speed ----------------------------------------------------------------------------------------


def test_the_rules_written_by_hand_are_those_of_the_automaton() -> None:
    rules = rules_speed.table_rules(4)
    rows = rules.space.enumerate()
    assert torch.equal(rules_speed._obey(rows), rules.allows(rows))
    assert 0 < rules.num_rows < len(rows)


def test_every_way_draws_from_the_same_law(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_speed, "DRAWN", 20_000)
    rules, noise = rules_speed.table_rules(2), seeded(0)
    logits = torch.linspace(-1, 1, rules.space.width).double()
    rows = rules.enumerate()
    law = rules.space.log_prob(logits, rows).softmax(0)
    place = torch.full((rules.space.num_rows,), -1)
    place[rules.space.row_number(rows)] = torch.arange(len(rows))
    for drawn in (
        rules.condition(logits).sample(20_000, generator=noise),
        rules_speed.by_list(rules, logits, noise),
        rules_speed.by_rejection(rules, logits, noise)[0],
    ):
        counts = place[rules.space.row_number(drawn)].bincount(minlength=len(rows))
        assert counts.sum() == 20_000
        assert g_test(counts, law) > FALSE_ALARM


def test_rejection_that_is_stopped_tells_what_it_would_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules, noise = rules_speed.table_rules(2), seeded(0)
    logits = torch.zeros(20)
    share = rules.num_rows / 100
    monkeypatch.setattr(rules_speed, "DRAWN", 10**6)
    stopped = rules_speed._rejection(rules, logits, share, 1, 0.0, noise)
    assert stopped["found"] == pytest.approx(share * 2**14, rel=0.1)
    once = rules_speed._once(lambda: rules_speed.by_rejection(rules, logits, noise, 0.0))[1]
    assert 0.1 < stopped["cpu"] / (1e3 * once * 10**6 / share / 2**14) < 10


def test_growth_is_measured_at_every_size() -> None:
    found = rules_speed.growth("features", rounds=1, count=2)
    assert found["sizes"] == [32, 64]
    small, large = found["points"]
    assert small["states"] < large["states"]
    assert {"compile", *rules_speed.STAGES} <= set(small)


# --- gradients ------------------------------------------------------------------------------------


def test_the_formula_of_simple_has_the_law_s_marginals() -> None:
    law = TOY.law(TOY.theta)
    flat = torch.stack([torch.zeros_like(TOY.theta), TOY.theta], -1).flatten()
    assert_close(simple_marginals(TOY.theta), law @ TOY.subsets)
    assert_close(RULES.condition(flat).marginals()[1::2], law @ TOY.subsets)


def test_gradients_through_marginals_are_exact_where_f_is_linear_between_subsets() -> None:
    law, losses = TOY.law(TOY.theta), TOY.losses()
    assert_close(losses["squares"](TOY.subsets), losses["linear between"](TOY.subsets))
    found = {}
    for name, loss in losses.items():
        slopes = torch.func.jacrev(lambda z, loss=loss: loss(z).sum())(TOY.subsets)
        found[name] = weighted(simple_gradients(TOY.theta, slopes), law, TOY.gradient(loss))
    assert found["linear between"]["rmse"] < 1e-12
    assert found["squares"]["bias"] > 0.01


def test_the_exact_gradient_is_that_of_differences() -> None:
    loss = TOY.losses()["squares"]
    step = 1e-5 * torch.eye(10).double()
    values = loss(TOY.subsets)
    ends = [torch.stack([TOY.law(TOY.theta + s * e) @ values for e in step]) for s in (1, -1)]
    assert_close(TOY.gradient(loss), (ends[0] - ends[1]) / 2e-5)


@pytest.mark.parametrize("samples", [2, 3])
def test_exact_moments_of_leave_one_out_are_those_of_drawn_ones(samples: int) -> None:
    loss, law = TOY.losses()["squares"], TOY.law(TOY.theta)
    index = torch.multinomial(law, 40_000 * samples, True, generator=seeded(0))
    values = loss(TOY.subsets)[index].view(samples, -1)
    scores = (TOY.subsets - law @ TOY.subsets)[index].view(samples, -1, 10)
    less = (values - values.mean(0)) / (samples - 1)
    drawn = (less.unsqueeze(-1) * scores).sum(0)
    truth = TOY.gradient(loss)
    found = leave_one_out(TOY, loss, samples)
    assert found["bias"] < 1e-12
    spread = math.sqrt(float((drawn - truth).square().sum(-1).mean())) / float(truth.norm())
    assert found["deviation"] == pytest.approx(spread, rel=0.03)


def test_gumbel_top_k() -> None:
    gumbel = gumbel_like(TOY.theta.expand(40_000, -1), generator=seeded(0))
    hard, relaxed = top_k(TOY.theta, gumbel[0], 0.5)
    assert hard.sum() == CHOSEN
    assert_close(relaxed.sum(), torch.tensor(float(CHOSEN)).double())
    # the score of a constant is 0: probabilities of all orders sum to 1
    assert_close(TOY.top_k_gradient(lambda z: 0 * z[..., 0] + 1), torch.zeros(10).double())
    cold, _ = top_k(TOY.theta, gumbel[0], 1e-3)
    assert torch.equal(cold, hard)
    drawn = top_k_gradients(TOY.theta, gumbel[:4], lambda z: z @ TOY.target, 1.0)
    assert drawn.shape == (4, 10)


def test_the_own_law_of_gumbel_top_k() -> None:
    loss = TOY.losses()["squares"]
    step = 0.1 * TOY.top_k_gradient(loss)
    means = []
    for theta in (TOY.theta, TOY.theta - step):
        gumbel = gumbel_like(theta.expand(200_000, -1), generator=seeded(0))
        chosen = (theta + gumbel).topk(CHOSEN).indices
        means.append(loss(torch.zeros_like(gumbel).scatter(-1, chosen, 1.0)).mean())
    wanted = 10 * step.square().sum()
    assert float(means[0] - means[1]) == pytest.approx(float(wanted), rel=0.15)


# --- edits ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked() -> dna.Problem:
    """A problem whose scorer has hardly been trained."""
    return dna.problem(0, 0, steps=10)


def test_a_problem_s_rules(asked: dna.Problem) -> None:
    assert asked.rules.allows(asked.start)
    assert asked.free.sum() == dna.LENGTH - 2 * dna.ENDS
    broken = asked.start.clone()
    broken[0] = (broken[0] + 1) % 4
    assert not asked.rules.allows(broken)
    site = asked.start.clone()
    site[50:56] = torch.tensor([dna.BASES.index(base) for base in asked.avoided])
    assert not asked.rules.allows(site)


def test_a_scorer_learns() -> None:
    before, motifs = dna.scorer(1, 10)
    after, _ = dna.scorer(1, 80)
    codes = dna.implanted(motifs, 500, seeded(9))
    truth = motifs.strength(codes)
    errors = [
        float((net(dna.by_channel(dna.SPACE.one_hot(codes))).squeeze(-1) - truth).square().mean())
        for net in (before, after)
    ]
    assert errors[1] < errors[0]
    assert not any(p.requires_grad for p in after.parameters())


def test_a_meter_counts_backward_passes_too(asked: dna.Problem) -> None:
    meter = dna.Meter(asked, 100)
    rows = asked.start.repeat(3, 1)
    assert meter.rows(rows).shape == (3,)
    assert meter.passes == 3
    flat = dna.SPACE.one_hot(rows).requires_grad_()
    assert_close(meter.flat(flat[None])[0].detach(), meter.rows(rows))
    assert meter.passes == 3 + 6 + 3
    assert len(meter.rows(rows.repeat(100, 1))) == 88


def test_a_broken_rule_is_seen_and_does_not_count(asked: dna.Problem) -> None:
    def breaks(meter: dna.Meter, seed: int) -> torch.Tensor:
        rows = torch.stack([asked.start, (asked.start + 1) % 4])
        meter.rows(rows)
        return rows[1:]

    figures = dna.graded(asked, breaks, 100, 0)
    assert figures["broken"] == 0.5
    assert figures["broken at the end"] == 1
    assert figures["gains"][-1] == 0
    assert figures["edits at the end"] == dna.LENGTH


def test_moves_of_searches(asked: dna.Problem) -> None:
    meter, start = dna.Meter(asked, 10**6), asked.start
    swaps = rules_search._swaps(meter, start)
    assert len(swaps.unique(dim=0)) == 3 * int(asked.free.sum())
    assert ((swaps != start).sum(-1) == 1).all()
    assert not (swaps != start)[:, ~asked.free].any()
    assert len(rules_search._exchanges(meter, start)) == 0
    once = rules_search._exchanges(meter, swaps[0])
    assert ((once != start).sum(-1) == 1).all()
    rows = start.repeat(16, 1)
    for _ in range(30):
        rows = rules_search._moved(meter, rows, seeded(len(rows)))
        assert asked.rules.allows(rows).all()
    assert ((rows != start).sum(-1) > 0).any()


@pytest.mark.parametrize("name", rules_search.METHODS)
def test_every_search_obeys_within_its_passes(asked: dna.Problem, name: str) -> None:
    figures = dna.graded(asked, rules_search.METHODS[name], 600, 0)
    assert figures["broken"] == figures["broken at the end"] == 0
    assert 0.8 * 600 < figures["passes"] <= 600
    assert figures["gains"] == sorted(figures["gains"])
    assert figures["gains"][-1] > 0
    assert figures["edits"] <= dna.EDITS


def test_exact_best_rows_find_the_optimum_of_a_linear_scorer(asked: dna.Problem) -> None:
    weights = torch.linspace(-1, 1, 4 * dna.LENGTH).view(4, dna.LENGTH).sin()

    class Linear(torch.nn.Module):
        def forward(self, sequences: torch.Tensor) -> torch.Tensor:
            return (sequences * weights).sum((-1, -2)).unsqueeze(-1)

    linear = dna.Problem(Linear(), asked.start, asked.rules, asked.avoided)  # type: ignore[arg-type]
    gain = dna.graded(linear, rules_search.best_of_lines, 100, 0)["gains"][-1]
    flat = weights.t().flatten()
    best = asked.rules.condition(flat).mode()
    rows = dna.by_channel(dna.SPACE.one_hot(torch.stack([best, asked.start])))
    values = (rows * weights).sum((-1, -2))
    assert gain == pytest.approx(float(values[0] - values[1]), rel=1e-5)


@pytest.mark.skipif(not rules_peers.installed(), reason="ledidi is not among the packages of bench")
@pytest.mark.parametrize("name", rules_peers.METHODS)
def test_the_peer_keeps_its_passes_and_the_fixed_ends(asked: dna.Problem, name: str) -> None:
    meter = dna.Meter(asked, 600)
    final = rules_peers.METHODS[name](meter, 0)
    assert meter.passes <= 600
    assert not (final != asked.start)[:, ~asked.free].any()


# --- the whole ------------------------------------------------------------------------------------


def test_every_part_has_cells() -> None:
    found = [cell.key for cell in cells(Config())]
    assert {key.split("/")[0] for key in found} == {
        "against",
        "setting",
        "growth",
        "subset",
        "edit",
    }
    assert len(set(found)) == len(found)
    assert set(rules_search.METHODS) <= set(methods())


def test_tables_of_no_results_are_empty() -> None:
    for table in tables({"cells": {}})[:-1]:
        assert not table.rows


def test_a_rule_on_a_motif_and_edits_is_small() -> None:
    """The automaton of the problem is that of the edits times the site, not more."""
    space = CategoricalSpace({f"p{i}": list("ACGT") for i in range(30)})
    rules = Rules(space, [Within("A" * 30, edits=5), Avoids("ACGTAC"), Fix("p0", "A")])
    assert max(rules.states) <= 6 * 6
