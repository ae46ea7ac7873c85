"""A fit whose generator writes one feature after another."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad.data import Table, read_table
from discrete_grad.policies import AutoregressiveGenerator
from discrete_grad.rules import Forbid, Imply
from discrete_grad.runs import FitConfig, Run, fit, generate, load_run, polished_row, write_report
from discrete_grad.sampling import seeded
from tests.runs.small import small_config, small_table, weights_of

FEW = {"steps": 20, "checkpoint_every": 5}
RULES = [Imply({"shop": "east"}, {"cut": "fair"}), Forbid({"cut": "good", "shade": "0"})]


def quick(**changes: Any) -> FitConfig:
    config = small_config()
    parts = ("estimator", "judge", "reproduction", "generator")
    config = replace(config, **{name: replace(getattr(config, name), **FEW) for name in parts})
    generator = replace(config.generator, policy="autoregressive", **changes)
    return replace(config, generator=generator)


def shops() -> Table:
    """The small table without its numeric context, which makes every row's context another."""
    small = small_table(60)
    columns: dict[str, Any] = dict(small.schema.decode_features(small.codes))
    categorical = small.schema.context_spec
    assert categorical is not None
    codes = categorical.codes(small.context)[:, 0].tolist()  # type: ignore[arg-type]
    columns["shop"] = [("east", "north", "west")[code] for code in codes]
    columns["score"] = small.scores.tolist()
    return read_table(columns, score="score", context=["shop"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(shops(), tmp_path_factory.mktemp("steps") / "run", quick(), rules=RULES)


@pytest.mark.filterwarnings("ignore::discrete_grad.runs.FewRowsWarning")
def test_its_rows_obey_and_no_context_depends_on_another(run: Run) -> None:
    assert isinstance(run.generator, AutoregressiveGenerator)
    assert run.rules is not None
    columns: dict[str, list[Any]] = {"shop": ["east", "west", "north"]}
    contexts = run.table.schema.encode_context(columns)
    assert contexts is not None
    found = generate(run, columns, contexts, rows=4, new_only=False)
    codes = run.table.schema.encode_features({k: found[k] for k in ("cut", "shade", "size")})
    shops = torch.tensor([0] * 4 + [2] * 4 + [1] * 4).unsqueeze(1)
    assert run.rules.allows(codes, context=shops).all()
    assert len(codes) == 12
    other = contexts.clone()
    other[0] = other[1]
    again = generate(run, columns, other, rows=4, new_only=False)
    assert {k: v[4:] for k, v in again.items()} == {k: v[4:] for k, v in found.items()}
    row = polished_row(run, contexts[0])
    assert run.rules.allows(row, context=torch.tensor([0]))


def test_it_is_loaded_and_goes_on_bitwise_the_same(run: Run, tmp_path: Path) -> None:
    loaded = load_run(run.folder)
    context = run.table.context
    drawn = [one.policy.sample(context, 2, generator=seeded(0)) for one in (run, loaded)]
    assert torch.equal(*drawn)
    before = weights_of(run.folder)
    for name in ("generator", "independent"):
        (run.folder / "weights" / f"{name}.safetensors").unlink()
    fit(run.table, run.folder, run.config, rules=RULES, resume=True)
    assert weights_of(run.folder) == before


def test_the_report_compares_it_with_independent_features(run: Run) -> None:
    report = write_report(run)
    assert report["policies"] == [
        "data policy",
        "naive baseline",
        "independent generator",
        "generator",
    ]
    assert report["rules"]["trained_by"] == "ReinMax"
    assert 0 < report["rules"]["forbidden"] < 1
    assert report["exploitation"] is None
    entries = {entry["name"]: entry for entry in report["average"]}
    for name in ("independent generator", "generator"):
        assert entries[f"{name}, samples"]["entropy"] > 0
        assert entries[f"{name}, most likely row"]["judged"] is not None


def test_it_writes_all_rows_in_which_two_columns_agree(tmp_path: Path) -> None:
    """Independent features can only write one of them, or some that do not agree."""
    pairs = [(a, b) for a in range(4) for b in range(4)] * 8
    columns: dict[str, Any] = {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]}
    columns["score"] = [float(a == b) for a, b in pairs]
    config = quick(entropy=0.1, steps=120, learning_rate=0.1)
    config = replace(config, estimator=replace(config.estimator, families=("anova",)))
    run = fit(read_table(columns, score="score"), tmp_path / "run", config)
    assert run.independent is not None
    found = []
    for policy in (run.generator, run.independent):
        rows = policy.sample(None, 400, generator=seeded(0))
        agree = rows[rows[:, 0] == rows[:, 1]]
        found.append((len(agree) / len(rows), len(agree.unique(dim=0))))
    (share, different), (other_share, other_different) = found
    assert share > 0.9
    assert different == 4
    assert other_share < 0.6 or other_different == 1
