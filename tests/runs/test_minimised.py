"""A fit that minimises a column does what a fit that maximises minus that column does."""

import json
from pathlib import Path

import pytest
import torch

from discrete_grad.data import Table, read_contexts, read_table
from discrete_grad.runs import fit, generate, load_run, write_report
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table, weights_of


def tables() -> tuple[Table, Table]:
    """Of a score, and of a cost that is minus the score."""
    table = small_table(160)
    schema = table.schema
    columns: dict[str, object] = dict(schema.decode_features(table.codes))
    shops = schema.context[0].values
    assert table.context is not None
    columns["shop"] = [shops[i] for i in table.context[:, :3].argmax(1).tolist()]
    score = {**columns, "score": table.scores, "weight": table.scores**2}
    cost = {**columns, "cost": -table.scores, "weight": table.scores**2}
    return (
        read_table(score, score=["score", "weight:behaviour"], context="shop"),
        read_table(cost, score=["cost:min", "weight:behaviour"], context="shop"),
    )


@pytest.mark.slow
def test_weights_are_equal_and_figures_are_mirrored(tmp_path: Path) -> None:
    high, low = tables()
    runs = [fit(t, tmp_path / t.schema.score, small_config()) for t in (high, low)]
    assert weights_of(tmp_path / "score") == weights_of(tmp_path / "cost")
    contexts = read_contexts({"shop": ["west", "east"]}, high.schema)
    mine, other = (generate(run, *contexts, rows=3) for run in runs)
    for name, values in mine.items():
        sign = -1 if name.endswith("_score") else 1
        assert other[name] == [sign * v if sign < 0 else v for v in values], name
    estimated = other["estimated_score"]
    # the first is also one of the likeliest
    assert estimated[1:3] == sorted(estimated[1:3])
    reports = [write_report(run) for run in runs]
    best = [report["average"][0]["observed"] for report in reports]
    assert best[1] == -best[0]
    written = json.loads((tmp_path / "cost" / "report.json").read_text())
    assert written["minimised"]
    for index in (0, 1):
        entries = [report["contexts"][index]["entries"][0] for report in reports]
        assert entries[1]["observed"] == -entries[0]["observed"]
        rows = low.scores[torch.tensor(read_positions(low, index))]
        assert rows.min() <= -entries[1]["observed"] <= rows.max()


def read_positions(table: Table, index: int) -> list[int]:
    """Rows of the shown context of that position, most rows first."""
    assert table.context is not None
    shops = table.context.argmax(1)
    counts = shops.bincount()
    chosen = counts.argsort(descending=True, stable=True)[index]
    return (shops == chosen).nonzero()[:, 0].tolist()


def test_a_run_remembers_its_direction_and_goes_on_only_in_it(tmp_path: Path) -> None:
    _, low = tables()
    fit(low, tmp_path / "run", small_config())
    again = load_run(tmp_path / "run")
    assert again.table.schema == low.schema
    assert torch.equal(again.table.scores, low.scores)
    assert again.to_units(again.scale.apply(low.scores, low.context), low.context)[:9].tolist() == (
        pytest.approx((-low.scores[:9]).tolist(), rel=1e-4)
    )
    columns: dict[str, object] = dict(low.schema.decode_features(low.codes))
    high = read_table(
        {**columns, "cost": low.schema.in_units(low.scores)}, score="cost", features=list(columns)
    )
    with pytest.raises(RunError, match="is a fit of another table"):
        fit(high, tmp_path / "run", small_config(), resume=True)
