"""Molecules towards rewards that no model was trained for.

An autoregressive model of SELFIES tokens learns molecules made of fragments of known drugs, given
ten attributes or none. Then fifteen reward functions of these attributes, most of them trade-offs:
guidance, which trains nothing, against the best of as many molecules as guidance makes forward
passes, and against reinforcement learning of the same model for each reward.

    python -m benchmarks.molecules
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Benchmark, Cell, run
from benchmarks.molecules_tables import plot, tables
from discrete_grad.data import (
    MOLECULE_ATTRIBUTES,
    MoleculeSpace,
    ScoredRows,
    molecule_attributes,
    molecule_space,
    recombined_molecules,
    tanimoto,
)
from discrete_grad.fitting import ReproductionConfig, fit_reproduction
from discrete_grad.policies import AutoregressiveGenerator, SequentialPolicy
from discrete_grad.reinforcement import ReinforceConfig, reinforce
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.space import ContextSpec
from discrete_grad.weighting import AttributeSet, Guidance, Guided

GAMMAS = (1.0, 2.0, 4.0, 8.0)
TOKENS = 40
HELD_OUT = 500
BETA = 0.2  # of the divergence in reinforcement learning, standard deviations of a reward a nat
FURTHEST = 3.0  # standard deviations of an attribute; what lies beyond is worth no more
INVALID = -3.0  # reward, in standard deviations, of a row without a molecule

Reward = Callable[[Tensor], Tensor]
Figures = dict[str, Any]

COLUMN = {name: i for i, name in enumerate(MOLECULE_ATTRIBUTES)}


@dataclass(frozen=True)
class Config(harness.Config):
    """Rewards of molecules: guidance, best of n and reinforcement learning."""

    seeds: int = 3
    """Training sets and fits: seeds 0, 1, ..."""
    molecules: int = 10_000
    """Of which the conditional model learns."""
    steps: int = 2000
    """Of its training, at 128 molecules."""
    vectors: int = 32
    """Attribute vectors that guidance asks about; best-of-n draws one molecule more than that."""
    samples: int = 200
    """Molecules drawn for each reward and method."""
    reinforce_steps: int = 60
    """Of reinforcement learning, for each reward."""
    group: int = 64
    """Molecules drawn in each of these steps."""


def _weighted(**weights: float) -> Reward:
    """Weighted sum of attributes `(N, A)` in standard deviations."""
    return lambda z: sum((w * z[:, COLUMN[name]] for name, w in weights.items()), z.new_zeros(()))


def _window(**centres: float) -> Reward:
    """Nearness in (0, 1] of attributes to where they should be."""

    def reward(z: Tensor) -> Tensor:
        apart = [(z[:, COLUMN[name]] - centre).square() for name, centre in centres.items()]
        return (-torch.stack(apart).sum(0) / 0.5).exp()

    return reward


# of attributes in standard deviations of the training molecules
REWARDS: dict[str, Reward] = {
    "logP": _weighted(logp=1),
    "QED": _weighted(qed=1),
    "TPSA": _weighted(tpsa=1),
    "light": _weighted(weight=-1),
    "rings": _weighted(rings=1),
    "sp3 carbons": _weighted(sp3_fraction=1),
    "logP and TPSA": _weighted(logp=1, tpsa=1),
    "QED, light": _weighted(qed=1, weight=-0.5),
    "rings, light": _weighted(rings=1, weight=-1),
    "aromatic, low logP": _weighted(aromatic_rings=1, logp=-1),
    "sp3 and rings": _weighted(sp3_fraction=1, rings=1),
    "donors, low TPSA": _weighted(donors=1, tpsa=-1),
    "heavy, rigid": _weighted(weight=1, rotatable_bonds=-1),
    "logP 1, TPSA 1": _window(logp=1, tpsa=1),
    "weight 1, logP -1": _window(weight=1, logp=-1),
}


def cells(config: Config) -> list[Cell]:
    """A cell for each seed."""
    seeds = 1 if config.quick else config.seeds
    return [Cell(f"seed/{seed}", (config, seed)) for seed in range(seeds)]


@dataclass(frozen=True, eq=False)
class World:
    """Inputs of a cell: training molecules, their attributes, and the model."""

    molecules: MoleculeSpace
    known: frozenset[str]
    attributes: Tensor
    model: AutoregressiveGenerator

    def standardised(self, attributes: Tensor) -> Tensor:
        """In standard deviations from the training molecules' means, at most 3."""
        apart = (attributes - self.attributes.mean(0)) / self.attributes.std(0)
        return apart.clamp(-FURTHEST, FURTHEST)

    def reward(self, name: str) -> Reward:
        """Of attributes; 0 and 1 are the training molecules' mean and standard deviation."""
        function = REWARDS[name]
        seen = function(self.standardised(self.attributes))
        return lambda a: (function(self.standardised(a)) - seen.mean()) / seen.std()

    def graded(self, smiles: list[str], reward: Reward) -> Tensor:
        """Rewards `(N,)`; -3 where there is no molecule."""
        valid = torch.tensor([bool(text) for text in smiles])
        values = torch.full((len(smiles),), INVALID, dtype=torch.float64)
        values[valid] = reward(molecule_attributes([text for text in smiles if text]))
        return values

    def drawn(self, policy: SequentialPolicy[Any], count: int, seed: int) -> list[str]:
        """SMILES of rows of a policy, empty where one is no molecule."""
        return self.molecules.decode(policy.sample(count=count, generator=seeded(seed)))


def measure(config: Config, seed: int) -> Figures:
    """Figures of the model, and for each reward those of each method."""
    world, nats = world_of(config, seed)
    count = 8 if config.quick else config.samples
    pool = world.drawn(world.model, count * (config.vectors + 1), seed)
    names = list(REWARDS)[-2:] if config.quick else list(REWARDS)
    return {"model": nats} | {name: one_reward(config, world, name, pool, seed) for name in names}


def world_of(config: Config, seed: int) -> tuple[World, Figures]:
    """The molecules and the model of a seed, and its nats for a held-out molecule."""
    held = 50 if config.quick else HELD_OUT
    wanted = 300 if config.quick else config.molecules
    found = recombined_molecules(wanted + held, seed=seed)
    molecules = molecule_space(found, length=TOKENS)
    fitting = [smiles for smiles in found if molecules.fits(smiles)]
    codes, attributes = molecules.encode(fitting), molecule_attributes(fitting)
    seen = attributes[:-held]
    model = new_model(molecules, seed)
    world = World(molecules, frozenset(fitting[:-held]), seen, model)
    given = world.standardised(attributes).float()
    train(config, model, codes[:-held], given[:-held], seed)
    with torch.no_grad():
        alone = -model.log_prob(codes[-held:]).mean()
        told = -model.log_prob(codes[-held:], None, given[-held:]).mean()
    nats = {"molecules": len(seen), "nats": float(alone), "nats given": float(told)}
    return world, nats


def new_model(molecules: MoleculeSpace, seed: int) -> AutoregressiveGenerator:
    """Untrained."""
    spec = ContextSpec(numeric=list(MOLECULE_ATTRIBUTES))
    with isolated_seed(seed):
        return AutoregressiveGenerator(molecules.space, attributes=spec, hidden=(192,), shared=True)


def train(
    config: Config, model: AutoregressiveGenerator, codes: Tensor, given: Tensor, seed: int
) -> None:
    """Maximum likelihood of p(molecule | attributes) and p(molecule) at once."""
    steps = 10 if config.quick else config.steps
    settings = ReproductionConfig(
        steps=steps, batch_size=128, learning_rate=4e-3, validate_every=100, patience=steps
    )
    rows = ScoredRows(codes, torch.ones(len(codes)))
    fit_reproduction(model, rows, config=settings, seed=seed, attributes=given)


def one_reward(config: Config, world: World, name: str, pool: list[str], seed: int) -> Figures:
    """Figures of each method; the pool is what the model itself drew, for best of n."""
    reward, width = world.reward(name), config.vectors + 1
    figures: Figures = {"training": {"best": float(reward(world.attributes).max())}}
    values, count = world.graded(pool, reward), len(pool) // width
    figures["base"] = figures_of(world, pool[:count], values[:count])
    found = {
        f"guided {gamma:g}": world.drawn(guided(config, world, reward, gamma, seed), count, seed)
        for gamma in (GAMMAS[1:2] if config.quick else GAMMAS)
    }
    found["best of n"] = best_of(pool, values, width=width)
    found["reinforced"] = world.drawn(fine_tuned(config, world, reward, seed), count, seed)
    for label, smiles in found.items():
        figures[label] = figures_of(world, smiles, world.graded(smiles, reward))
    return figures


def best_of(smiles: list[str], values: Tensor, *, width: int) -> list[str]:
    """The best of each `width` molecules in turn."""
    groups = values.view(-1, width)
    best = groups.argmax(-1) + torch.arange(len(groups)) * width
    return [smiles[i] for i in best.tolist()]


def guided(config: Config, world: World, reward: Reward, gamma: float, seed: int) -> Guided:
    """The model, leaning towards training molecules' attributes as these are rewarded."""
    noise = seeded(seed)
    support = AttributeSet.from_rows(world.attributes, size=config.vectors, generator=noise)
    vectors = world.standardised(support.vectors).float()
    worth = reward(support.vectors).float()
    asked = AttributeSet(vectors, support.prior.float())
    return Guided(world.model, asked, worth, guidance=Guidance(gamma=gamma))


def fine_tuned(config: Config, world: World, reward: Reward, seed: int) -> AutoregressiveGenerator:
    """A copy of the model, trained to maximise the reward and to stay near the model."""
    policy = copy.deepcopy(world.model).requires_grad_(True)
    settings = ReinforceConfig(
        algorithm="leave_one_out",
        beta=BETA,
        group=config.group,
        steps=2 if config.quick else config.reinforce_steps,
        learning_rate=2e-3,
    )

    def graded(codes: Tensor, context: Tensor | None) -> Tensor:
        smiles = world.molecules.decode(codes.reshape(-1, TOKENS))
        return world.graded(smiles, reward).reshape(codes.shape[:-1]).float()

    reinforce(policy, graded, settings, reference=world.model, seed=seed)
    return policy


def figures_of(world: World, smiles: list[str], values: Tensor) -> Figures:
    """Of the valid molecules among those drawn; the reward is of all."""
    rewards = {text: float(v) for text, v in zip(smiles, values.tolist(), strict=True) if text}
    valid = [text for text in smiles if text]
    top = sorted(rewards, key=rewards.__getitem__, reverse=True)[:4]
    return {
        "valid": len(valid) / len(smiles),
        "unique": len(rewards) / max(len(valid), 1),
        "novel": sum(text not in world.known for text in rewards) / max(len(rewards), 1),
        "reward": float(values.mean()),
        "diversity": _diversity(valid),
        "best": float(values.max()),
        "top": {text: rewards[text] for text in top},
    }


def _diversity(smiles: list[str]) -> float:
    """1 less the mean similarity of two different draws."""
    size = len(smiles)
    pairs = max(size * (size - 1), 1)
    return 1 - (float(tanimoto(smiles).sum()) - size) / pairs if size > 1 else 0.0


BENCHMARK = Benchmark(
    name="molecules",
    title="Molecules: rewards without training",
    cells=cells,
    measure=measure,
    tables=tables,
    plot=plot,
    pictures=("molecules_best",),
)

if __name__ == "__main__":
    run(BENCHMARK, tyro.cli(Config))
