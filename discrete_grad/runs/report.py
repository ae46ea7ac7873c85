"""The report of a run, in its folder."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import ScoredRows, Table, load_example
from discrete_grad.evaluation import (
    ExampleTruth,
    Observed,
    Subject,
    TrainingContexts,
    context_labels,
    distinct_contexts,
)
from discrete_grad.fitting.aims import at_tradeoff
from discrete_grad.grouping import row_groups
from discrete_grad.policies import Generator, IndependentPolicy, Policy, conditioned
from discrete_grad.reporting import build_report, render_html
from discrete_grad.runs._aim_facts import aims_facts
from discrete_grad.runs._lock import only_process
from discrete_grad.runs._parts import RunParts
from discrete_grad.runs._plausible import rules_facts, together_facts
from discrete_grad.runs._recipe import estimator_facts
from discrete_grad.runs._rows_to_try import rows_to_try
from discrete_grad.runs.generate import polished_row
from discrete_grad.sampling import seeded
from discrete_grad.training.checkpoint import RunError, write_atomically
from discrete_grad.training.devices import AskedFromCpu
from discrete_grad.training.loop import derive_seed
from discrete_grad.training.snapshots import load_snapshots

__all__ = ["write_report"]

_SOME = 256


def write_report(run: RunParts) -> dict[str, Any]:
    """Write `report.json` and `report.html` into the run's folder.

    The truth is part of it if the run's source names an example table: `{"example": "hpolib"}`.

    Returns:
        The report, as `discrete_grad.reporting.build_report` makes it, with `rows_to_try`.

    Raises:
        RunError: if another process fits in the folder, or writes its report.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from discrete_grad.data import read_table
        >>> from discrete_grad.fitting import EstimatorConfig, GeneratorConfig
        >>> from discrete_grad.runs.fit_config import FitConfig
        >>> from discrete_grad.runs import fit
        >>> columns = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
        >>> few = EstimatorConfig(members=2, steps=50)
        >>> config = FitConfig(estimator=few, judge=few, generator=GeneratorConfig(steps=50))
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> report = write_report(fit(read_table(columns, score="score"), folder, config))
        >>> report["average"][0]["name"], (folder / "report.html").exists()
        ('best training row', True)
    """
    with only_process(run.folder):
        report = build_report(_subject(run), seed=run.config.seed)
        report["rows_to_try"] = rows_to_try(run)
        page = render_html(report).encode()  # before either is written: they belong together
        write_atomically(run.folder / "report.json", json.dumps(report, indent=1).encode())
        write_atomically(run.folder / "report.html", page)
    return report


def _subject(run: RunParts) -> Subject:
    run = _shown(run)
    schema, table = run.table.schema, run.table
    contexts, positions = distinct_contexts(
        table.context, len(table), embedded=schema.embed_context
    )
    labels = context_labels(schema, contexts)
    family = run.source.get("example")
    home = torch.device("cpu")  # of the table, and of all that is measured
    estimator = AskedFromCpu(run.estimator, run.device)
    judge = AskedFromCpu(run.judge, run.device) if run.has_judge else None
    reference = _AskedFromCpu(run.reference, run.device)
    beside = {} if run.independent is None else {"independent generator": run.independent}
    policies: dict[str, Policy] = {
        "data policy": reference,
        "naive baseline": _AskedFromCpu(run.naive, run.device),
        **({"polished": _Polished(run)} if run.config.polish else {}),
        **{name: _AskedFromCpu(policy, run.device) for name, policy in beside.items()},
        "generator": _generator_on_cpu(run),
    }
    if run.rules is not None:
        policies = {name: conditioned(policy, run.rules) for name, policy in policies.items()}
    return Subject(
        space=schema.space,
        contexts=contexts,
        labels=labels,
        observed=Observed(
            table.codes,
            schema.in_units(table.scores),
            positions,
            schema.score,
            minimised=schema.signs[0] < 0,
        ),
        estimator=estimator,
        judge=judge,
        to_units=run.to_units,
        judge_to_units=run.judge_to_units,
        outside=run.to_units.outside,
        estimator_facts=estimator_facts(run),
        policies=policies,
        truth=ExampleTruth(load_example(family), labels) if family else None,
        held_out={name: rows.to(home) for name, rows in _held_out(run).items()},
        metrics=run.metrics(),
        settings={**run.source, **json.loads(run.config.to_json())},
        # its distances are those of independent features
        trail=_trail(run) if run.rules is None and not beside else {},
        reference=reference,
        training_contexts=_training_contexts(table),
        uniform=None if run.rules is None else conditioned(_Uniform(run), run.rules),
        rules_facts=rules_facts(run, policies["generator"], contexts),
        together_facts=together_facts(run, _some_rows(policies["generator"], contexts, run)),
        aims_facts=aims_facts(run, contexts, labels, positions),
        contexts_in_table=0 if table.context is None else int(row_groups(table.context).max()) + 1,
    )


def _held_out(run: RunParts) -> dict[str, ScoredRows]:
    """Rows that a model has not seen; which ones a scorer of one's own has seen is not known."""
    rows = {"estimator": run.judge_rows, "judge": run.rows}
    known = {"trained": {"judge"}, "": set(rows)}.get(run.scorer_facts.get("judge", ""), set())
    return {name: part for name, part in rows.items() if name in known}


def _shown(run: RunParts) -> RunParts:
    """The run, of several aims with the whole weight on the first."""
    if run.aims is None or run.aims.tradeoff is None:
        return run
    return run.at_weights(torch.eye(len(run.aims.tradeoff))[0])


def _training_contexts(table: Table) -> TrainingContexts | None:
    spec = table.schema.context_spec
    if spec is None or table.context is None:
        return None
    return TrainingContexts(spec, table.context)


def _generator_on_cpu(run: RunParts) -> Policy:
    if isinstance(run.generator, Generator):
        return _AskedFromCpu(run.generator, run.device)
    return copy.deepcopy(run.generator).cpu()


def _some_rows(policy: Policy, contexts: Tensor | None, run: RunParts) -> Tensor:
    """Rows `(n, F)` drawn from a policy, as many in each of some contexts."""
    some = None if contexts is None else contexts[:_SOME]
    count = _SOME if some is None else max(1, _SOME // len(some))
    noise = seeded(derive_seed(run.config.seed, "together"))
    return policy.sample(some, count, generator=noise).reshape(
        -1, run.table.schema.space.num_features
    )


class _AskedFromCpu(IndependentPolicy):
    """A policy that is given contexts on the CPU and answers there, wherever it computes."""

    def __init__(self, policy: Generator, device: torch.device) -> None:
        self.space, self._logits = policy.space, AskedFromCpu(policy.logits, device)
        self.context_spec = policy.context_spec

    def logits(self, context: Tensor | None = None) -> Tensor:
        """`(S, D)`, on the CPU."""
        return self._logits(context)


class _Polished(IndependentPolicy):
    """The policy that always writes the polished row."""

    def __init__(self, run: RunParts) -> None:
        self.run, self.space = run, run.table.schema.space
        self.context_spec = run.table.schema.context_spec

    def logits(self, context: Tensor | None = None) -> Tensor:
        """`(S, D)`, `-inf` for every category but the row's."""
        if context is None or context.dim() == 1:
            return self.space.one_hot(polished_row(self.run, context)).log()
        return torch.stack([self.logits(one) for one in context])


class _Uniform(IndependentPolicy):
    """The policy of random rows."""

    def __init__(self, run: RunParts) -> None:
        self.space = run.table.schema.space
        self.context_spec = run.table.schema.context_spec

    def logits(self, context: Tensor | None = None) -> Tensor:
        """Zeros `(*batch, D)`."""
        batch = () if context is None else context.shape[:-1]
        return torch.zeros(*batch, self.space.width)


def _trail(run: RunParts) -> dict[int, IndependentPolicy]:
    """The generator at moments of its training; nothing for a run that kept none."""
    trail = dict[int, IndependentPolicy]()
    for step, weights in load_snapshots(run.folder / "trail").items():
        traded = None if run.aims is None else run.aims.generator
        generator = copy.deepcopy(run.generator if traded is None else traded)
        assert isinstance(generator, Generator)
        try:
            generator.load_state_dict(weights)
        except RuntimeError as error:
            where = f"{run.folder / 'trail'}: step {step}"
            raise RunError(f"{where} does not fit the run's settings") from error
        if traded is not None and run.aims is not None and run.aims.tradeoff is not None:
            generator = at_tradeoff(generator, run.table.schema.context_spec, run.aims.tradeoff)
        trail[step] = _AskedFromCpu(generator, run.device)
    return trail
