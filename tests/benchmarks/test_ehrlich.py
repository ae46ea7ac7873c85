"""The parts of the Ehrlich benchmark that need none of its functions."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import ehrlich
from benchmarks.ehrlich_models import Motifs, Transitions, fit_motifs, fit_transitions
from benchmarks.ehrlich_rows import Archive, chain, moved, nearby
from benchmarks.ehrlich_search import Search, Settings, search
from discrete_grad import CategoricalSpace
from discrete_grad.sampling import isolated_seed
from discrete_grad.testing._goodness import g_test

SIZE, LENGTH = 5, 8
SPACE = CategoricalSpace.from_sizes((SIZE,) * LENGTH)
BANNED = ((0, 1), (2, 3), (4, 4))


def feasible(codes: Tensor) -> Tensor:
    pairs = torch.stack([codes[:, :-1], codes[:, 1:]], -1)
    banned = [(pairs == torch.tensor(pair)).all(-1).any(-1) for pair in BANNED]
    return ~torch.stack(banned).any(0)


def toy(codes: Tensor) -> Tensor:
    """How much of `1 . 0 2` (spaced) is there, in quarters, times how much of `3 4`."""
    first = _quality(codes, (1, 0, 2), (0, 2, 3))
    second = _quality(codes, (3, 4), (0, 1))
    return torch.where(feasible(codes), first * second, -torch.inf)


def _quality(codes: Tensor, motif: tuple[int, ...], places: tuple[int, ...]) -> Tensor:
    last = codes.shape[1] - places[-1]
    found = [codes[:, p : p + last] == token for token, p in zip(motif, places, strict=True)]
    return torch.stack(found).double().mean(0).amax(-1).float()


def rows(count: int) -> Tensor:
    return torch.randint(SIZE, (count, LENGTH))


def test_banned_pairs_are_learned_from_whole_rows() -> None:
    with isolated_seed(0):
        codes = rows(300)
        model = Transitions(SPACE)
        fit_transitions(model, codes, feasible(codes))
    allowed = model.table().exp() > 0.5
    every = itertools.product(range(SIZE), repeat=2)
    assert {pair for pair in every if not allowed[pair]} == set(BANNED)


def test_a_pair_never_seen_stays_likely_beside_one_that_explains_the_row() -> None:
    model = Transitions(SPACE)
    good, bad = torch.tensor([[0, 2] * 4]), torch.tensor([[0, 2, 2, 0, 2, 0, 2, 0]])
    fit_transitions(model, torch.cat([good, bad]), torch.tensor([True, False]))
    table = model.table().exp()
    assert table[0, 2] > 0.999
    assert table[2, 0] > 0.999
    assert table[2, 2] < 0.5
    assert table[3, 3] > 0.8


@pytest.mark.parametrize("name", ["transitions", "motifs"])
def test_codes_and_flat_rows_are_scored_alike_with_the_same_gradient(name: str) -> None:
    with isolated_seed(1):
        model = Transitions(SPACE) if name == "transitions" else Motifs(SPACE, kernel=4)
        codes, found = rows(12).reshape(3, 4, LENGTH), []
        for row in (codes, SPACE.one_hot(codes)):
            scores = model(row)
            gradient = torch.autograd.grad(scores.square().sum(), list(model.parameters()))
            found.append((scores, *gradient))
    for ours, other in zip(*found, strict=True):
        assert torch.allclose(ours, other, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(model(codes), found[0][0], atol=1e-6)


def test_a_channel_is_the_best_sum_over_windows() -> None:
    with isolated_seed(2):
        model, codes = Motifs(SPACE, kernel=3, members=1, channels=2), rows(4)
    padded = torch.cat([codes, torch.full((4, 2), SIZE)], 1)  # the edge token is number V
    for i, channel in itertools.product(range(4), range(2)):
        sums = [
            sum(model.weight[o, padded[i, start + o], channel].item() for o in range(3))
            for start in range(LENGTH)
        ]
        assert model.to_latent(codes)[i, channel].item() == pytest.approx(max(sums), abs=1e-6)


def test_motifs_are_learned_wherever_they_stand() -> None:
    with isolated_seed(0):
        model = Motifs(SPACE, kernel=4)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        codes = rows(3000)
        scores = _quality(codes, (1, 0, 2), (0, 2, 3))
        fit_motifs(model, optimizer, codes, scores, steps=400)
        new = rows(500)
    truth = _quality(new, (1, 0, 2), (0, 2, 3))
    left = (model(new) - truth).var() / truth.var()
    assert left < 0.2


def test_a_chain_is_drawn_from_the_product() -> None:
    with isolated_seed(0):
        log_p = torch.randn(2, 3, 3).log_softmax(-1)
        table = torch.rand(3, 3).log()
        table[0, 1] = -torch.inf
        drawn = chain(log_p, table, 20_000).reshape(2, 20_000, 3)
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    for i in range(2):
        law = sum(log_p[i, j, every[:, j]] for j in range(3))
        law = (law + table[every[:, :-1], every[:, 1:]].sum(-1)).softmax(0)
        counts = (drawn[i].unsqueeze(1) == every).all(-1).sum(0)
        assert g_test(counts, law) > 1e-4


def test_a_moved_row_holds_tokens_of_parents_in_order() -> None:
    parents = torch.stack([torch.arange(20), torch.arange(100, 120)])
    with isolated_seed(0):
        children = moved(parents, 200)
    steps = children[:, 1:] - children[:, :-1]
    assert ((steps != 1).sum(-1) <= 4).all()  # two cuts, and the end of a shifted row
    assert (children[:, 0:1] // 100 != children // 100).any()


def test_an_archive_asks_once_and_keeps_to_its_budget() -> None:
    asked: list[Tensor] = []

    def truth(codes: Tensor) -> Tensor:
        asked.append(codes)
        return codes.sum(-1).float() / 10

    archive = Archive(truth, 2, 4)
    archive.ask(torch.tensor([[0, 1], [0, 1], [3, 0]]))
    archive.ask(torch.tensor([[3, 0], [1, 1], [9, 1], [5, 5]]))
    assert torch.cat(asked).tolist() == [[0, 1], [3, 0], [1, 1], [9, 1]]
    assert len(archive) == 4
    assert archive.trace == [(1, pytest.approx(0.1)), (2, pytest.approx(0.3)), (4, 1.0)]


@pytest.mark.parametrize(
    "change",
    [{}, {"method": "ReinMax"}, {"generator": 0.0}, {"generator": 1.0}, {"patience": 300}],
    ids=str,
)
def test_the_search_solves_a_toy(change: dict[str, Any]) -> None:
    small = {"batch": 60, "parents": 16, "children": 16, "steps": 40, "generator_steps": 10}
    settings = Settings(**(small | change))
    with isolated_seed(0):
        archive = Archive(toy, LENGTH, 2000)
        rounds = list(search(archive, torch.tensor([1] * LENGTH), SIZE, 4, settings))
    assert archive.best == 1.0
    assert len(archive) < 2000
    assert rounds[-1]["rows"] == len(archive) == len(archive.codes.unique(dim=0))
    assert torch.equal(archive.values, toy(archive.codes))


@pytest.mark.parametrize("method", ["LeaveOneOut", "ReinMax"])
@pytest.mark.parametrize("wanted", [0.0, 1.0])
def test_a_generator_leaves_its_reference_for_what_the_estimator_likes_alone(
    method: str, wanted: float
) -> None:
    settings = Settings(method=method, samples=4, generator_steps=100)
    with isolated_seed(0):
        found = Search(SPACE, 2, settings)
        with torch.no_grad():  # only token 3 in the first place of a window counts, if any does
            for parameter in found.motifs.parameters():
                parameter.zero_()
            found.motifs.weight[0, 3] = wanted
            found.motifs.hidden.fill_(0.1)
            found.motifs.head.fill_(0.1)
        parents = torch.zeros(32, LENGTH, dtype=torch.long)
        reference = nearby(SPACE, parents, torch.full((32, 1), 0.2))
        found.train(parents)
        after = SPACE.softmax(found.policy(parents, reference))[0].reshape(LENGTH, SIZE)
    assert (after[:, 3].amax() > 0.5) == bool(wanted)
    assert wanted or after[:, 0].amin() > 0.6


def test_a_row_nearby_keeps_the_other_tokens() -> None:
    row = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]])
    p = SPACE.softmax(nearby(SPACE, row, torch.tensor([[0.5]])))
    assert torch.allclose(p, 0.5 * SPACE.one_hot(row) + 0.5 / SIZE)


# --- what is shown --------------------------------------------------------------------------------


def cell(rows: int, *trace: tuple[int, float]) -> dict[str, Any]:
    return {"rows": rows, "best": trace[-1][1], "trace": trace, "seconds": 60.0}


def test_best_values_by_rows_asked_about() -> None:
    open_ended = cell(6000, (1, 0.1), (900, 0.3), (5000, 0.5))
    assert ehrlich.reached(open_ended, 1000) == 0.3
    assert ehrlich.reached(open_ended, 5000) == 0.5
    assert ehrlich.reached(open_ended, 20_000) is None
    assert ehrlich.solved(open_ended) is None
    ended = cell(1500, (1, 0.1), (1400, 1.0))
    assert ehrlich.reached(ended, 200_000) == 1.0
    assert ehrlich.solved(ended) == 1400


def test_tables_and_plot_of_results_with_cells_that_failed(tmp_path: Path) -> None:
    name = "L=32, c=4"
    results = {
        "cells": {
            f"{name}/generator and swaps/seed=0": cell(1500, (1, 0.1), (1400, 1.0)),
            f"{name}/generator and swaps/seed=1": cell(50_000, (1, 0.1), (3000, 0.5)),
            f"{name}/genetic algorithm/seed=0": {"failed": "ImportError: no holo"},
        }
    }
    first, seeds, failed = ehrlich.tables(results)
    expected = [name, "generator and swaps", "1 of 2", "1,400"]
    assert first.rows == [[*expected, "0.100", "0.750", "0.750", "0.750", "-", "1.0"]]
    assert seeds.rows == [[name, "generator and swaps", "1,400, (0.500)"]]
    assert failed.rows == [(f"`{name}/genetic algorithm/seed=0`", "ImportError: no holo")]
    for cells in (results["cells"], {}):
        ehrlich.plot({"cells": cells}, tmp_path / "x.png")
        assert (tmp_path / "x.png").stat().st_size > 1000


def test_without_the_package_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "holo", None)
    with pytest.raises(ImportError, match=r"pip install --no-deps pytorch-holo==0.0.5") as found:
        ehrlich.ehrlich("L=32, c=4", 0)
    assert len(str(found.value)) < 200  # what a row of failures shows
