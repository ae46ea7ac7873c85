"""The whole job: it improves rows, it is decided by its seed, and it survives interruptions."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from discrete_grad.data import Table, read_table
from discrete_grad.runs import FitConfig, Run, fit, load_run
from discrete_grad.training import RunError
from tests.runs.small import likely_rows, small_config, small_table, weights_of
from tests.two_processes import forkserver


def with_alignment() -> FitConfig:
    """Settings that use every stage and every term of the generator's loss, and dropout."""
    config = small_config()
    return replace(
        config,
        estimator=replace(config.estimator, dropout=0.1),
        generator=replace(
            config.generator, alignment=0.5, reference_kl=0.05, entropy=0.01, pessimism=0.5
        ),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run, to be read alone."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return fit(small_table(), folder, small_config(), source={"made": "here"})


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Path:
    """The folder of a copy of it."""
    return shutil.copytree(finished.folder, tmp_path / "run")


@pytest.mark.slow
def test_generated_rows_beat_the_naive_baseline_and_the_data(tmp_path: Path) -> None:
    run = fit(small_table(), tmp_path / "run", FitConfig())
    shown = run.rows.context[:50]
    space = run.table.schema.space

    def judged(model: torch.nn.Module) -> float:
        return run.judge(space.argmax(model(shown)), shown).mean().item()

    assert judged(run.generator) > max(judged(run.naive), judged(run.reference)) + 0.3


@pytest.mark.parametrize("context", [True, False])
def test_a_run_is_loaded_as_it_was_fitted(tmp_path: Path, context: bool) -> None:
    run = fit(small_table(context=context), tmp_path / "run", with_alignment())
    again = load_run(tmp_path / "run")
    assert again.config == run.config
    assert again.table.schema == run.table.schema
    assert torch.equal(likely_rows(again), likely_rows(run))
    codes = run.rows.codes
    assert torch.equal(
        again.estimator(codes, run.rows.context), run.estimator(codes, run.rows.context)
    )


def test_models_are_frozen_and_judge_rows_are_not_the_generators(finished: Run) -> None:
    run = finished
    for model in (run.judge, run.estimator, run.reference, run.naive, run.generator):
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
    assert len(run.rows) + len(run.judge_rows) == len(run.table)
    seen = torch.cat([run.rows.context, run.judge_rows.context])[:, -1].sort().values
    assert torch.equal(seen, run.table.context[:, -1].sort().values)


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    table, state = small_table(), torch.get_rng_state()
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        fit(table, folder, replace(with_alignment(), seed=seed))
    a, b, c = (weights_of(folder) for folder in folders)
    assert a == b
    assert all(a[name] != c[name] for name in a)
    assert torch.equal(torch.get_rng_state(), state)


def test_metrics_are_json_lines_and_reach_the_users_log(tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    run = fit(
        small_table(),
        tmp_path / "run",
        small_config(),
        log=lambda metrics, step: seen.append((step, metrics)),
    )
    assert run.metrics() == [{"step": step, **metrics} for step, metrics in seen]
    stages = {name.split("/")[0] for _, metrics in seen for name in metrics}
    assert stages == {"judge", "estimator", "reference", "naive", "generator"}


class _Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("stop_at", "method"), [(1, "Reinforce"), (7, "ReinMax"), (11, "Reinforce")]
)
def test_an_exception_anywhere_leaves_a_run_that_resumes_bitwise(
    tmp_path: Path, stop_at: int, method: str
) -> None:
    calls = 0

    def stop(metrics: dict[str, float], step: int) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise _Stop

    table, config = small_table(), with_alignment()
    config = replace(config, generator=replace(config.generator, gradient_estimator=method))
    fit(table, tmp_path / "whole", config)
    with pytest.raises(_Stop):
        fit(table, tmp_path / "cut", config, log=stop)
    with pytest.raises(RunError, match="unfinished"):
        load_run(tmp_path / "cut")
    fit(table, tmp_path / "cut", config, resume=True)
    assert weights_of(tmp_path / "cut") == weights_of(tmp_path / "whole")
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("cut", "whole")]
    assert metrics[0] == metrics[1]
    assert not any((tmp_path / "cut" / "state").glob("*"))


def _fit_in_a_process(folder: Path) -> None:
    torch.set_num_threads(1)
    fit(small_table(), folder, with_alignment(), resume=True)


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_ends_bitwise_where_it_would_have(tmp_path: Path) -> None:
    context = forkserver()
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    def start(folder: Path) -> multiprocessing.Process:
        process = context.Process(target=_fit_in_a_process, args=(folder,))
        process.start()
        return process

    began = time.monotonic()
    process = start(whole)
    process.join(120)
    length = time.monotonic() - began
    assert process.exitcode == 0

    moments, kills = random.Random(0), 0
    while kills < 10:
        process = start(cut)
        process.join(moments.uniform(0.1, 0.5) * length)
        if process.exitcode is not None:  # it was done before the kill: begin anew
            assert process.exitcode == 0
            cut = tmp_path / f"cut{kills}"
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    process = start(cut)
    process.join(120)
    assert process.exitcode == 0
    assert weights_of(cut) == weights_of(whole)
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_folders_that_cannot_be_used(copied: Path, tmp_path: Path) -> None:
    table, config = small_table(), small_config()
    folder = copied
    with pytest.raises(RunError, match="holds no fit"):
        load_run(tmp_path / "absent")
    with pytest.raises(RunError, match="holds a fit; use --resume"):
        fit(table, folder, config)
    with pytest.raises(RunError, match="was begun with seed = 0, not 5"):
        fit(table, folder, replace(config, seed=5), resume=True)
    wider = replace(config, estimator=replace(config.estimator, dim=8))
    with pytest.raises(RunError, match=r"was begun with estimator\.dim = 4, not 8"):
        fit(table, folder, wider, resume=True)
    with pytest.raises(RunError, match="another table"):
        fit(small_table(seed=1), folder, config, resume=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        fit(table, other, config)
    with pytest.raises(RunError, match="not a folder"):
        fit(table, other / "file", config)
    with pytest.raises(RunError, match="not empty, it holds 'file'"):
        fit(table, other, config, resume=True)
    assert [path.name for path in other.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "name", ["config.json", "schema.json", "rows.safetensors", "weights/judge.safetensors"]
)
@pytest.mark.parametrize("fault", ["cut", "garbage", "empty object"])
def test_a_damaged_run_is_told_in_one_line(copied: Path, name: str, fault: str) -> None:
    load_run(copied)
    path = copied / name
    content = path.read_bytes()
    faults = {"cut": content[: len(content) // 2], "garbage": b"\xff\x00x", "empty object": b"{}"}
    path.write_bytes(faults[fault])
    with pytest.raises(RunError, match=path.name) as told:
        load_run(copied)
    assert "\n" not in str(told.value)


def test_the_smallest_table_fits(tmp_path: Path) -> None:
    run = fit(small_table(10), tmp_path / "run", small_config())
    assert torch.isfinite(run.generator(run.table.context)).all()


def test_settings_are_kept_as_json(finished: Run) -> None:
    settings = json.loads((finished.folder / "config.json").read_text())
    assert settings["source"] == {"made": "here"}
    assert FitConfig.from_json(json.dumps(settings["config"])) == small_config()


def test_frequent_rows_are_on_both_sides_by_different_observations(tmp_path: Path) -> None:
    table = small_table(200, context=False)
    run = fit(table, tmp_path / "run", small_config())
    rows, times = table.codes.unique(dim=0, return_counts=True)
    for row, count in zip(rows, times, strict=True):
        sides = [side.part((side.codes == row).all(1)) for side in (run.rows, run.judge_rows)]
        known = [len(s) if s.counts is None else int(s.counts.sum()) for s in sides]
        assert sum(known) == count
        assert min(known) > 0 or count < 4


def test_a_missing_log_of_metrics_is_named(copied: Path) -> None:
    run = load_run(copied)
    (run.folder / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match=r"metrics\.jsonl is missing or damaged"):
        run.metrics()


def with_further_scores(table: Table) -> Table:
    """Further scores that say what the first says: another level in each shop, and the opposite."""
    shop = table.schema.context_spec.categorical.argmax(table.context[:, :3]).squeeze(-1)
    further = torch.stack([table.scores + 1000 * shop, -7 * table.scores], dim=1)
    schema = replace(table.schema, more_scores=("level", "loss"))
    return replace(table, schema=schema, more_scores=further)


def test_behaviour_is_every_score_on_its_own_scale_in_its_context(tmp_path: Path) -> None:
    run = fit(with_further_scores(small_table()), tmp_path / "run", small_config())
    for rows in (run.rows, run.judge_rows):
        assert rows.behaviour.dtype == torch.float32
        assert rows.behaviour.shape == (len(rows), 3)
        scores, level, loss = rows.behaviour.unbind(1)
        assert torch.equal(scores, rows.scores)
        # the mean rank of a context is that of the table: nothing is left of the levels
        torch.testing.assert_close(level, scores, rtol=0, atol=1e-4)
        torch.testing.assert_close(loss, -scores, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_estimator_and_judge_learn_the_first_score_alone(tmp_path: Path) -> None:
    alone, table = tmp_path / "alone", small_table()
    run = fit(table, alone, with_alignment())
    assert run.rows.behaviour is run.judge_rows.behaviour is None
    run = fit(with_further_scores(table), tmp_path / "several", with_alignment())
    assert torch.equal(run.rows.scores, load_run(alone).rows.scores)
    one, several = weights_of(alone), weights_of(tmp_path / "several")
    for name in ("judge", "estimator", "reference", "naive"):
        assert one[f"{name}.safetensors"] == several[f"{name}.safetensors"]


@pytest.mark.slow
def test_a_run_with_several_scores_is_resumed_and_loaded_as_it_was(tmp_path: Path) -> None:
    def stop(metrics: dict[str, float], step: int) -> None:
        if any(name.startswith("aligner") for name in metrics):
            raise _Stop

    table, folder = with_further_scores(small_table()), tmp_path / "cut"
    whole = fit(table, tmp_path / "whole", with_alignment())
    with pytest.raises(_Stop):
        fit(table, folder, with_alignment(), log=stop)
    other = replace(table, more_scores=table.more_scores * torch.tensor([1.0, 2.0]))
    named = replace(table, schema=replace(table.schema, more_scores=("level", "cost")))
    for changed in (other, named, small_table()):
        with pytest.raises(RunError, match="another table"):
            fit(changed, folder, with_alignment(), resume=True)
    fit(table, folder, with_alignment(), resume=True)
    assert weights_of(folder) == weights_of(tmp_path / "whole")
    again = load_run(folder)
    assert again.table.schema == table.schema
    assert torch.equal(again.table.more_scores, table.more_scores)
    assert torch.equal(again.rows.behaviour, whole.rows.behaviour)
    assert torch.equal(again.judge_rows.behaviour, whole.judge_rows.behaviour)


def test_the_folder_of_one_score_is_what_it_was_before_there_were_several(tmp_path: Path) -> None:
    columns = {"cut": ["a", "b"] * 6, "price": [1.0, 3.0] * 6, "score": list(range(12))}
    table = read_table(columns, score="score", context="price")
    fit(table, tmp_path / "run", small_config())
    schema = (
        '{"features": [{"name": "cut", "values": ["a", "b"]}], '
        '"context": [{"name": "price", "mean": 2.0, "scale": 1.0}], "score": "score"}'
    )
    assert (tmp_path / "run" / "schema.json").read_text() == schema
    assert {*load_file(tmp_path / "run" / "rows.safetensors")} == {"codes", "context", "scores"}
    tensors = (table.codes.long(), table.scores, table.context)
    digest = hashlib.sha256(b"".join([schema.encode(), *(t.numpy().tobytes() for t in tensors)]))
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["table"] == digest.hexdigest()


def test_a_raw_further_score_far_from_0_is_refused(tmp_path: Path) -> None:
    table = small_table()
    near = replace(table, schema=replace(table.schema, more_scores=("near", "far")))
    raw = replace(small_config(), maximise="raw")
    far = torch.stack([table.scores, table.scores - 1000], dim=1)
    with pytest.raises(RunError, match=r"'far' reaches (99|100)\d"):
        fit(replace(near, more_scores=far), tmp_path / "run", raw)
    assert not (tmp_path / "run").exists()
    run = fit(replace(near, more_scores=far + torch.tensor([0, 1000])), tmp_path / "run", raw)
    torch.testing.assert_close(run.rows.behaviour, run.rows.scores.unsqueeze(1).expand(-1, 3))
