"""A context of many values, from the table to the report, the rows and the loaded run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from discrete_grad.data import Schema, ScoredRows, Table, read_contexts, read_table
from discrete_grad.evaluation import context_labels, distinct_contexts
from discrete_grad.fitting.judge_split import judge_split
from discrete_grad.preferences.preference_file import context_columns
from discrete_grad.runs import fit, generate, load_run, write_report
from tests.runs.small import small_config

PLANES, ROWS = 400, 1200


def many_contexts() -> Table:
    noise = torch.Generator().manual_seed(0)
    codes = torch.randint(3, (ROWS, 2), generator=noise)
    plane = torch.arange(ROWS) % PLANES
    plane[-100:] = 7
    weather = torch.rand(ROWS, generator=noise)
    score = codes.sum(1) + (plane % 2) * (codes[:, 0] == 1) + weather
    columns = {
        "seat": codes[:, 0].tolist(),
        "meal": codes[:, 1].tolist(),
        "plane": [f"N{i:03d}" for i in plane.tolist()],
        "weather": weather.tolist(),
        "score": score.tolist(),
    }
    return read_table(columns, score="score", context=["plane", "weather:numeric"])


def test_the_table_holds_one_number_a_column() -> None:
    table = many_contexts()
    assert table.context is not None
    assert (table.schema.embed_context, tuple(table.context.shape)) == (True, (ROWS, 2))
    assert Schema.from_json(table.schema.to_json()) == table.schema
    shown, position = distinct_contexts(table.context[:, :1], ROWS, embedded=True, limit=3)
    assert shown is not None
    assert (shown.flatten()[0].item(), int((position == 0).sum())) == (7.0, 103)
    assert context_labels(table.schema, table.context[:2])[1].startswith("plane=N001, weather=")
    again = context_columns(table.schema, table.context[:3])
    assert again["plane"] == ["N000", "N001", "N002"]
    few = read_table({"a": [0, 1, 2], "c": ["x", "y", "x"], "s": [1, 2, 3]}, score="s", context="c")
    assert not few.schema.embed_context
    assert "embed_context" not in few.schema.to_json()


@pytest.mark.slow
def test_a_fit_a_report_rows_and_the_loaded_run(tmp_path: Path) -> None:
    table = many_contexts()
    run = fit(table, tmp_path / "run", small_config())
    report = write_report(run)
    assert len(report["contexts"]) == 200
    assert report["contexts_in_table"] == len(table.context.unique(dim=0))
    assert report["robustness"]["perturbed"]
    columns, contexts = read_contexts(
        {"plane": ["N399", "N000"], "weather": [0.5, 0.2]}, table.schema
    )
    rows = generate(run, columns, contexts, rows=2)
    assert rows["plane"] == ["N399", "N399", "N000", "N000"]
    again = load_run(tmp_path / "run")
    assert torch.equal(again.generator(contexts), run.generator(contexts))
    assert again.rows.codes.dtype == torch.uint8
    assert again.table.context.shape == (ROWS, 2)


def test_narrow_codes_are_a_batch_of_int64_and_the_same_split() -> None:
    table = many_contexts()
    assert table.codes.dtype == torch.uint8
    spec = table.schema.context_spec
    rows = ScoredRows(table.codes, table.scores.float(), table.context)
    assert rows.take(torch.tensor([[0, 1]])).codes.dtype == torch.int64
    assert rows.part(torch.tensor([0, 1])).codes.dtype == torch.uint8
    wide = ScoredRows(table.codes.long(), table.scores.float(), table.context)
    for mixed in (True, False):
        splits = [judge_split(r, 0.3, seed=1, spec=spec, mixed=mixed) for r in (rows, wide)]
        assert all(map(torch.equal, *splits))


def test_a_schema_made_before_contexts_were_embedded_keeps_its_one_hot_blocks() -> None:
    values = ", ".join(str(i) for i in range(300))
    schema = Schema.from_json(
        '{"features": [{"name": "cut", "values": ["a", "b"]}], "context": '
        f'[{{"name": "shop", "values": [{values}]}}], "score": "score"}}'
    )
    context = schema.encode_context({"shop": [299, 0]})
    assert context is not None
    assert context.argmax(1).tolist() == [299, 0]
    assert context.sum(1).tolist() == [1, 1]
