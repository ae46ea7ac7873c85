"""Searches that are asked for rows and told values: ours and others, at documented settings.

Each is made with a space, the number of rows it will be asked for, the rows of a batch and a seed;
`ask(count)` gives codes `(count, F)`, `tell(codes, values)` takes values to be maximised, NaN for a
row that failed, which peers without failures are told as the worst value so far.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.runs import Rounds


class Search(Protocol):
    """A search in rounds."""

    def ask(self, count: int) -> Tensor:
        """Codes `(count, F)`."""

    def tell(self, codes: Tensor, values: Tensor) -> None:
        """Take values `(n,)`."""


class Ours:
    """`discrete_grad.runs.Rounds`."""

    def __init__(
        self, space: CategoricalSpace, total: int, batch: int, seed: int, **settings: Any
    ) -> None:
        self.rounds = Rounds(space, seed=seed, **settings)

    def ask(self, count: int) -> Tensor:
        """Codes `(count, F)`."""
        return self.rounds.propose(count)

    def tell(self, codes: Tensor, values: Tensor) -> None:
        """Take values `(n,)`."""
        self.rounds.tell(codes, values)


class Unnamed(Ours):
    """The same, told how many categories a feature has and not which, nor that they are letters."""

    def __init__(
        self, space: CategoricalSpace, total: int, batch: int, seed: int, **settings: Any
    ) -> None:
        super().__init__(CategoricalSpace.from_sizes(space.sizes), total, batch, seed, **settings)


class Random:
    """Different rows, all alike."""

    def __init__(self, space: CategoricalSpace, total: int, batch: int, seed: int) -> None:
        self.space, self.noise = space, torch.Generator().manual_seed(seed)
        self.known = set[tuple[int, ...]]()

    def ask(self, count: int) -> Tensor:
        """Codes `(count, F)`."""
        found: list[tuple[int, ...]] = []
        while len(found) < count:
            sizes = self.space.sizes
            row = tuple(int(torch.randint(k, (), generator=self.noise)) for k in sizes)
            if row not in self.known:
                self.known.add(row)
                found.append(row)
        return torch.tensor(found)

    def tell(self, codes: Tensor, values: Tensor) -> None:
        """Learn nothing."""


class _Floored:
    """A search that knows no failures."""

    def __init__(self) -> None:
        self.worst = 0.0

    def floored(self, values: Tensor) -> list[float]:
        """Values with the worst one so far in place of failures."""
        known = values[~values.isnan()]
        self.worst = min([self.worst, *known.tolist()])
        found: list[float] = values.nan_to_num(self.worst).tolist()
        return found


class Genetic(_Floored):
    """pymoo's `MixedVariableGA`, whose population is the batch."""

    def __init__(self, space: CategoricalSpace, total: int, batch: int, seed: int) -> None:
        super().__init__()
        module = importlib.import_module("pymoo.core.mixed")
        problem = importlib.import_module("pymoo.core.problem").Problem
        choice = importlib.import_module("pymoo.core.variable").Choice
        self.names, self.batch = space.names, batch
        columns = {
            name: choice(options=list(range(size)))
            for name, size in zip(space.names, space.sizes, strict=True)
        }
        self.algorithm = module.MixedVariableGA(pop_size=batch)
        self.algorithm.setup(
            problem(vars=columns, n_obj=1), termination=("n_gen", 10**6), seed=seed, verbose=False
        )
        self.asked: Any = None

    def ask(self, count: int) -> Tensor:
        """Codes `(count, F)`."""
        self.asked = self.algorithm.ask()
        rows = [[one.X[name] for name in self.names] for one in self.asked]
        return torch.tensor(rows)

    def tell(self, codes: Tensor, values: Tensor) -> None:
        """Take values `(n,)`; rows that it did not ask for cannot be told."""
        if self.asked is None:
            return
        costs = [[-value] for value in self.floored(values)]
        self.asked.set("F", importlib.import_module("numpy").array(costs))
        self.algorithm.tell(infills=self.asked)


class Holo(_Floored):
    """pytorch-holo's `DiscreteEvolution`, the genetic algorithm that comes with Ehrlich functions.

    It keeps the best tenth of its particles, of which there are as many as rows in a batch, and
    draws each token anew with probability 1 / F.
    """

    def __init__(self, space: CategoricalSpace, total: int, batch: int, seed: int) -> None:
        super().__init__()
        if len(set(space.sizes)) > 1:
            raise ValueError("pytorch-holo's features have one size")
        self.space, self.noise = space, torch.Generator().manual_seed(seed)
        self.rows = torch.empty(0, space.num_features, dtype=torch.long)
        self.values, self.batch = torch.empty(0), batch

    def ask(self, count: int) -> Tensor:
        """Codes `(count, F)`."""
        length, size = self.space.num_features, self.space.sizes[0]
        if not len(self.rows):
            return torch.randint(size, (count, length), generator=self.noise)
        kept = self.values.argsort(descending=True, stable=True)[: max(1, self.batch // 10)]
        parents = self.rows[kept[torch.randint(len(kept), (count,), generator=self.noise)]]
        new = torch.rand(parents.shape, generator=self.noise) < 1 / length
        return torch.where(new, torch.randint(size, new.shape, generator=self.noise), parents)

    def tell(self, codes: Tensor, values: Tensor) -> None:
        """Take values `(n,)`."""
        self.rows = torch.cat([self.rows, codes])
        self.values = torch.cat([self.values, torch.tensor(self.floored(values))])


class Optuna(_Floored):
    """Optuna's `TPESampler` with `constant_liar`, as its documentation says for batches."""

    def __init__(self, space: CategoricalSpace, total: int, batch: int, seed: int) -> None:
        super().__init__()
        optuna = importlib.import_module("optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        categorical = optuna.distributions.CategoricalDistribution
        self.columns = {
            name: categorical(list(range(size)))
            for name, size in zip(space.names, space.sizes, strict=True)
        }
        self.frozen, self.trials = optuna.trial.create_trial, list[Any]()

    def ask(self, count: int) -> Tensor:
        """Codes `(count, F)`."""
        self.trials = [self.study.ask(self.columns) for _ in range(count)]
        return torch.tensor([[t.params[name] for name in self.columns] for t in self.trials])

    def tell(self, codes: Tensor, values: Tensor) -> None:
        """Take values `(n,)`."""
        for place, value in enumerate(self.floored(values)):
            if self.trials:
                self.study.tell(self.trials[place], value)
                continue
            params = dict(zip(self.columns, codes[place].tolist(), strict=True))
            trial = self.frozen(params=params, distributions=self.columns, value=value)
            self.study.add_trial(trial)


class Smac(_Floored):
    """SMAC's `HyperparameterOptimizationFacade`, asked and told."""

    def __init__(self, space: CategoricalSpace, total: int, batch: int, seed: int) -> None:
        super().__init__()
        logging.disable(logging.WARNING)
        module = importlib.import_module("smac")
        self.value = importlib.import_module("smac.runhistory.dataclasses").TrialValue
        given = importlib.import_module("ConfigSpace")
        self.names = space.names
        columns = {
            name: given.CategoricalHyperparameter(name, list(range(size)))
            for name, size in zip(space.names, space.sizes, strict=True)
        }
        configurations = given.ConfigurationSpace(seed=seed)
        configurations.add(list(columns.values()))
        scenario = module.Scenario(
            configurations,
            deterministic=True,
            n_trials=total,
            seed=seed,
            output_directory=Path(tempfile.mkdtemp()),
        )
        self.facade = module.HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False
        )
        self.asked = list[Any]()

    def ask(self, count: int) -> Tensor:
        """Codes `(count, F)`."""
        self.asked = [self.facade.ask() for _ in range(count)]
        return torch.tensor([[info.config[name] for name in self.names] for info in self.asked])

    def tell(self, codes: Tensor, values: Tensor) -> None:
        """Take values `(n,)`; only of rows that it asked for."""
        for info, value in zip(self.asked, self.floored(values), strict=False):
            self.facade.tell(info, self.value(cost=-value))


class Botorch(_Floored):
    """BoTorch's `MixedSingleTaskGP`, all dimensions categorical, and `qLogExpectedImprovement`.

    The batch is chosen one row after another by `optimize_acqf_discrete_local_search` at its
    default settings. The first batch is random, as in its tutorials.
    """

    def __init__(self, space: CategoricalSpace, total: int, batch: int, seed: int) -> None:
        super().__init__()
        self.space, self.random = space, Random(space, total, batch, seed)
        self.rows = torch.empty(0, space.num_features, dtype=torch.double)
        self.values = torch.empty(0, 1, dtype=torch.double)
        torch.manual_seed(seed)

    def ask(self, count: int) -> Tensor:
        """Codes `(count, F)`."""
        if not len(self.rows):
            return self.random.ask(count)
        models = importlib.import_module("botorch.models")
        mlls = importlib.import_module("gpytorch.mlls")
        optim = importlib.import_module("botorch.optim.optimize")
        acquisition = importlib.import_module("botorch.acquisition.logei")
        features = list(range(self.space.num_features))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = models.MixedSingleTaskGP(self.rows, self.values, cat_dims=features)
            likelihood = mlls.ExactMarginalLogLikelihood(model.likelihood, model)
            importlib.import_module("botorch.fit").fit_gpytorch_mll(likelihood)
            function = acquisition.qLogExpectedImprovement(model, best_f=self.values.max())
            found, _ = optim.optimize_acqf_discrete_local_search(
                function,
                discrete_choices=[torch.arange(k).double() for k in self.space.sizes],
                q=count,
                X_avoid=self.rows,
            )
        return torch.as_tensor(found).long()

    def tell(self, codes: Tensor, values: Tensor) -> None:
        """Take values `(n,)`."""
        told = torch.tensor(self.floored(values), dtype=torch.double).unsqueeze(1)
        self.rows = torch.cat([self.rows, codes.double()])
        self.values = torch.cat([self.values, told])


class Baybe(_Floored):
    """BayBE's `Campaign` with `CategoricalParameter`s and its default recommender."""

    def __init__(self, space: CategoricalSpace, total: int, batch: int, seed: int) -> None:
        super().__init__()
        if space.num_rows > 10**6:
            raise ValueError("BayBE's discrete space is a table of all rows: there are too many")
        importlib.import_module("baybe.utils.random").set_random_seed(seed)
        parameter = importlib.import_module("baybe.parameters").CategoricalParameter
        columns = [
            parameter(name=name, values=[str(i) for i in range(size)])
            for name, size in zip(space.names, space.sizes, strict=True)
        ]
        found = importlib.import_module("baybe.searchspace").SearchSpace.from_product(columns)
        target = importlib.import_module("baybe.targets").NumericalTarget(name="value")
        self.campaign = importlib.import_module("baybe").Campaign(found, target.to_objective())
        self.names = list(space.names)
        self.asked: Any = None

    def ask(self, count: int) -> Tensor:
        """Codes `(count, F)`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = self.campaign.recommend(batch_size=count)
        self.asked = frame
        return torch.tensor(frame[self.names].astype(int).to_numpy())

    def tell(self, codes: Tensor, values: Tensor) -> None:
        """Take values `(n,)`."""
        frame = self.asked.copy()
        frame["value"] = self.floored(values)
        self.campaign.add_measurements(frame)


EVOLUTION, UNNAMED, HOLO = "rounds, evolution", "rounds, evolution, unnamed", "genetic (holo)"
SEARCHES: dict[str, Callable[[CategoricalSpace, int, int, int], Search]] = {
    "rounds": Ours,
    EVOLUTION: partial(Ours, choose="evolution"),
    "random": Random,
    "genetic (pymoo)": Genetic,
    HOLO: Holo,
    "Optuna TPE": Optuna,
    "SMAC": Smac,
    "BoTorch qLogEI": Botorch,
    "BayBE": Baybe,
    UNNAMED: partial(Unnamed, choose="evolution"),
}
