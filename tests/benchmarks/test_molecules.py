"""The molecule benchmark: its rewards, its figures and its tables."""

from pathlib import Path

import pytest
import torch

from benchmarks import molecules
from benchmarks.molecules import COLUMN, REWARDS, Config, World
from benchmarks.molecules_tables import plot, tables
from discrete_grad.data import (
    MOLECULE_ATTRIBUTES,
    molecule_attributes,
    molecule_space,
    recombined_molecules,
)

SMILES = list(recombined_molecules(200, seed=0))
ATTRIBUTES = molecule_attributes(SMILES)


@pytest.fixture(scope="module")
def world() -> World:
    space = molecule_space(SMILES, length=molecules.TOKENS)
    model = molecules.new_model(space, seed=0)
    return World(space, frozenset(SMILES), ATTRIBUTES, model)


def test_there_are_rewards_enough_and_none_is_constant(world: World) -> None:
    assert len(REWARDS) >= 12
    for name in REWARDS:
        values = world.reward(name)(ATTRIBUTES)
        assert values.shape == (200,)
        assert abs(float(values.mean())) < 1e-9
        assert abs(float(values.std()) - 1) < 1e-9


def test_rewards_are_of_what_they_are_called() -> None:
    z = torch.zeros(2, len(MOLECULE_ATTRIBUTES), dtype=torch.float64)
    z[1, COLUMN["weight"]] = 1.0
    z[1, COLUMN["rings"]] = 2.0
    assert REWARDS["rings, light"](z).tolist() == [0.0, 1.0]
    z[1, COLUMN["logp"]] = -1.0
    assert REWARDS["weight 1, logP -1"](z)[1] == 1.0
    assert REWARDS["weight 1, logP -1"](z)[0] < 0.02


def test_a_row_without_a_molecule_has_the_lowest_reward(world: World) -> None:
    values = world.graded([SMILES[0], "", SMILES[1]], world.reward("QED"))
    assert values[1] == molecules.INVALID
    assert torch.equal(values[[0, 2]], world.reward("QED")(ATTRIBUTES[:2]))


def test_figures_by_hand(world: World) -> None:
    smiles = ["CCO", "CCO", "c1ccccc1", ""]
    assert not {"CCO", "c1ccccc1"} & world.known
    found = molecules.figures_of(world, smiles, torch.tensor([1.0, 1.0, 4.0, -3.0]))
    assert found["valid"] == 0.75
    assert found["unique"] == pytest.approx(2 / 3)
    assert found["novel"] == 1
    assert found["reward"] == 0.75
    assert found["diversity"] == pytest.approx(2 / 3)  # of three pairs one is of equals
    assert found["top"] == {"c1ccccc1": 4.0, "CCO": 1.0}
    nothing = molecules.figures_of(world, ["", ""], torch.full((2,), -3.0))
    assert (nothing["valid"], nothing["reward"], nothing["diversity"]) == (0.0, -3.0, 0.0)


def test_best_of_n_takes_the_best_of_each_group() -> None:
    values = torch.tensor([1.0, 3.0, 2.0, 9.0, 0.0, 5.0])
    assert molecules.best_of(list("abcdef"), values, width=3) == ["b", "d"]


def test_tables_and_pictures_of_few_results(tmp_path: Path) -> None:
    figures = {
        "valid": 1.0,
        "unique": 0.9,
        "novel": 0.8,
        "reward": 0.5,
        "diversity": 0.7,
        "best": 2.0,
        "top": {"CCO": 2.0, "CCN": 1.0},
    }
    methods = ("base", "guided 2", "best of n", "reinforced")
    reward = {"training": {"best": 3.0}} | {label: figures for label in methods}
    cell = {
        "model": {"molecules": 9500, "nats": 27.0, "nats given": 19.0},
        "QED": reward,
        "logP": reward,
        "seconds": 1.0,
    }
    settings = {k: getattr(Config(), k) for k in ("vectors", "samples", "reinforce_steps", "group")}
    results = {"settings": settings, "cells": {"seed/0": cell, "seed/1": cell}}
    found = tables(results)
    assert [len(table.rows) for table in found] == [4, 2, 2, 1]
    assert found[0].rows[1][:2] == ("guidance, gamma 2", "0.5 [0.5, 0.5]")
    assert found[0].rows[1][-3:] == ("33", "0", "0")
    assert found[0].rows[3][-3:] == ("1", "3,840", "19,200")
    plot(results, tmp_path / "molecules.png")
    for name in ("molecules.png", "molecules_best.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert tables({"settings": {}, "cells": {}})[0].rows == []
