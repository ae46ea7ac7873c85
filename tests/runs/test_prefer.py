"""The command `prefer` with a piped answer, and what `fit --preferences` makes of answers."""

import errno
import fcntl
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from discrete_grad.cli import main
from discrete_grad.data import Schema, TableError, Vocabulary, read_table, write_rows
from discrete_grad.fitting.pessimism import guided_score
from discrete_grad.objectives.preference import OUTCOMES
from discrete_grad.preferences import (
    Preferences,
    append_preferences,
    context_columns,
    random_pairs,
    read_preferences,
    synthetic_preferences,
    write_preferences,
)
from discrete_grad.runs import Run, fit, load_run, prefer
from discrete_grad.runs._row_score import row_score
from discrete_grad.runs._shown_pairs import shown_alone
from discrete_grad.runs.prefer import _Pairs
from discrete_grad.sampling import seeded
from discrete_grad.training import RunError
from tests.runs.small import likely_rows, small_config, small_table, weights_of
from tests.test_cli import QUICK
from tests.two_processes import forkserver


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(small_table(), tmp_path_factory.mktemp("prefer") / "run", small_config())


def test_each_block_of_pairs_is_chosen_among_others(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: dict[int, list[int]] = {}
    module = import_module("discrete_grad.runs.prefer")
    pool = module._candidates
    for seed in (0, 1):
        mine = seeds.setdefault(seed, [])
        monkeypatch.setattr(
            module,
            "_candidates",
            lambda run, seen, s, mine=mine: mine.append(s) or pool(run, seen, s),
        )
        pairs = module._telling_pairs(run, tmp_path / "none.parquet", "me", set(), seed)
        assert len({pair.keys()[0] for pair, _ in zip(pairs, range(20), strict=False)}) == 20
    assert len({*seeds[0], *seeds[1]}) == len(seeds[0]) + len(seeds[1]) == 6


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def keys(pairs: Preferences) -> list[tuple[object, ...]]:
    return [
        (frozenset((tuple(a), tuple(b))), tuple(round(x, 4) for x in c))
        for a, b, c in zip(
            pairs.first.tolist(), pairs.second.tolist(), pairs.context.tolist(), strict=True
        )
    ]


# --- the command ----------------------------------------------------------------------------------


def test_every_key_is_recorded_as_what_it_says(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a.parquet"
    piped(monkeypatch, "1\n2\nwhat\nT\ns\n 2 \nq\n1\n")
    command = ["prefer", str(run.folder), "--out", str(out), "--annotator", "ann"]
    assert main(command) == 0
    found = read_preferences(out, run.table.schema)
    assert [OUTCOMES[i] for i in found.outcome] == ["first", "second", "tie", "second"]
    assert found.annotators == ("ann",)
    assert (found.first != found.second).any(1).all()
    printed = capsys.readouterr().out
    assert "'what' is none of 1, 2, t, s and q" in printed
    assert f"4 answers kept, in {out}" in printed
    first = run.table.schema.decode_features(found.first)
    shown = printed.split("pair 1")[1].split("pair 2")[0]
    for name, values in first.items():
        assert f"{name}" in shown
        assert f"{values[0]}" in shown


def test_the_end_of_the_input_quits_and_it_goes_on_with_new_pairs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.parquet"
    command = ["prefer", str(run.folder), "--out", str(out)]
    for text, total in (("1\n2\n", 2), ("", 2), ("2\n" * 30, 14)):
        piped(monkeypatch, text)
        assert main([*command, "--pairs", "12"]) == 0
        if out.exists():
            found = read_preferences(out, run.table.schema)
            assert len(found) == total
            assert len(set(keys(found))) == total


def test_by_default_the_answers_lie_with_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, "1\n")
    assert main(["prefer", str(run.folder)]) == 0
    (run.folder / "preferences.parquet").unlink()


def test_every_answer_is_in_the_file_before_the_next_question(run: Run, tmp_path: Path) -> None:
    out, found = tmp_path / "a.parquet", []

    def ask(prompt: str) -> str:
        found.append(len(read_preferences(out, run.table.schema)) if out.exists() else 0)
        if len(found) > 10:
            raise KeyboardInterrupt
        return "1"

    with pytest.raises(KeyboardInterrupt):
        prefer(run, out, ask=ask, show=lambda text: None)
    assert found == list(range(11))
    assert len(read_preferences(out, run.table.schema)) == 10


def test_killed_in_the_middle_it_has_kept_what_was_answered(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    words = ["-m", "discrete_grad", "prefer", str(run.folder), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-u", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("1\nt\n")
    process.stdin.flush()
    while "pair 3" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert read_preferences(out, run.table.schema).outcome.tolist() == [0, 2]


def test_a_pair_that_another_has_answered_meanwhile_is_not_shown(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first pair is looked at, somebody answers the second one, the other way round."""
    table, schema, out = run.table, run.table.schema, tmp_path / "a.parquet"
    codes, context = table.codes.unique(dim=0)[:4].long(), table.context[:1]
    pairs = [_Pairs(codes[:1], codes[i : i + 1], context) for i in (1, 2, 3)]
    module = import_module("discrete_grad.runs.prefer")
    monkeypatch.setattr(module, "_telling_pairs", lambda *_: pairs)
    shown: list[str] = []

    def ask(prompt: str) -> str:
        if not out.exists():
            answer = Preferences(codes[2:3], codes[:1], torch.tensor([2]), context)
            append_preferences(out, answer, schema)
        return "1"

    assert prefer(run, out, ask=ask, show=shown.append) == 2
    assert sum(text.startswith("\npair") for text in shown) == 2
    assert read_preferences(out, schema).outcome.tolist() == [2, 0, 0]


def _annotate(folder: Path, out: Path, name: str) -> list[str]:
    """Answers three pairs, each when the other annotator looks at one, too; what was shown."""
    shown: list[str] = []

    def ask(prompt: str) -> str:
        (out.parent / f"{name}-{len(shown)}.looks").touch()
        until = time.monotonic() + 60
        while len(list(out.parent.glob(f"*-{len(shown)}.looks"))) < 2:
            assert time.monotonic() < until, "the other one is gone"
            time.sleep(0.005)
        return "1"

    def show(text: str) -> None:
        shown.append(text.partition(str(len(shown) + 1))[2])

    assert prefer(load_run(folder), out, ask=ask, show=show, annotator=name, pairs=3) == 3
    return shown


@pytest.mark.slow
def test_two_annotators_at_once_are_never_shown_the_same_pair(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    with ProcessPoolExecutor(2, mp_context=forkserver()) as pool:
        both = list(pool.map(_annotate, [run.folder] * 2, [out] * 2, ["ann", "bob"]))
    assert len({*both[0], *both[1]}) == 6
    found = read_preferences(out, run.table.schema)
    assert len(set(keys(found))) == len(found) == 6
    assert sorted(found.annotators[i] for i in found.who) == ["ann"] * 3 + ["bob"] * 3


def _look(path: Path) -> None:
    with shown_alone(path, "pair"):
        path.with_suffix(".looks").touch()
        time.sleep(600)


def test_a_pair_that_is_shown_elsewhere_is_free_again_when_that_process_is_killed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.parquet"
    process = forkserver().Process(target=_look, args=(path,), daemon=True)
    process.start()
    while not path.with_suffix(".looks").exists():
        assert process.is_alive()
        time.sleep(0.005)
    with shown_alone(path, "pair") as alone:
        assert not alone
    with shown_alone(path, "another") as alone:
        assert alone
    process.kill()
    process.join()
    with shown_alone(path, "pair") as alone:
        assert alone
    (tmp_path / ".b.parquet.shown").symlink_to(tmp_path / "victim")
    with pytest.raises(TableError, match=r"\.b\.parquet\.shown, .* is a link"):
        shown_alone(tmp_path / "b.parquet", "pair").__enter__()
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN, errno.ENOLCK])
def test_a_pair_that_is_locked_elsewhere_is_not_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked: list[tuple[int, ...]] = []

    def refuse(opened: int, *how: int) -> None:
        asked.append(how)
        raise OSError(number, "locked")

    monkeypatch.setattr("fcntl.lockf", refuse)
    path = tmp_path / "a.parquet"
    if number == errno.ENOLCK:
        with pytest.raises(OSError, match="locked"):
            shown_alone(path, "pair").__enter__()
    else:
        with shown_alone(path, "pair") as alone:
            assert alone is False
    byte = int.from_bytes(hashlib.blake2b(b"'pair'", digest_size=7).digest())
    assert asked == [(fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)]
    assert (tmp_path / ".a.parquet.shown").is_file()


def test_the_first_pairs_are_chosen_by_the_estimator_and_the_next_by_the_answers(run: Run) -> None:
    model = import_module("discrete_grad.runs.prefer")._model(run, None, 0)
    assert model.reward is run.estimator
    assert model.tie_bias is None
    assert not model.training


def test_pairs_are_chosen_for_the_one_who_answers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = replace(
        liking(8, dislikes_ideal), annotator=torch.arange(8) // 4, annotators=("ann", "bob")
    )
    path = tmp_path / "a.parquet"
    write_preferences(path, answers, run.table.schema)
    module, asked = import_module("discrete_grad.runs.prefer"), list[object]()

    def chosen(*given: object, count: int, annotator: torch.Tensor | None) -> torch.Tensor:
        asked.append(None if annotator is None else annotator.unique().tolist())
        return torch.arange(count)

    monkeypatch.setattr(module, "_model", lambda *given: None)
    monkeypatch.setattr(module, "choose_pairs", chosen)
    for name in ("ann", "bob", "eve"):
        next(module._telling_pairs(run, path, name, set(), 0))
    assert asked == [[0], [1], None]


def test_a_small_space_runs_out_of_pairs(tmp_path: Path) -> None:
    columns = {"cut": [0, 1, 2] * 20, "score": [0.5, 0.1, 0.9] * 20}
    run = fit(read_table(columns, score="score"), tmp_path / "run", small_config())
    shown: list[str] = []
    out = tmp_path / "a.parquet"
    assert prefer(run, out, ask=lambda _: "1", show=shown.append) == 3
    assert shown[-1] == "there are no further pairs to compare"
    assert prefer(run, out, ask=lambda _: "1", show=shown.append) == 0
    # a pair that was skipped may be shown another time, one that was answered not
    out.unlink()
    assert prefer(run, out, ask=lambda _: "s", show=shown.append) == 0
    assert not out.exists()
    assert prefer(run, out, ask=lambda _: "1", show=shown.append, seed=1) == 3


def test_wrong_use_is_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and no more")
    other = tmp_path / "other.parquet"
    write_rows(other, {"first.hue": ["red"], "outcome": ["tie"]})
    command = ["prefer", str(run.folder), "--out"]
    for words, message in (
        ([*command, str(broken)], "broken.parquet is a damaged"),
        ([*command, str(other)], "no columns for 'first.hue'"),
        ([*command, str(tmp_path / "a.csv")], "must be a .parquet file"),
        ([*command, str(tmp_path / "no" / "a.parquet")], "folder that exists"),
        ([*command, str(tmp_path / "a.parquet"), "--pairs", "0"], "--pairs must be at least 1"),
        (["prefer", str(tmp_path)], "holds no fit"),
    ):
        assert main(words) == 2, words
        captured = capsys.readouterr()
        assert captured.out == ""
        assert message in captured.err
        assert captured.err.count("\n") == 1
    assert broken.read_bytes() == b"PAR1 and no more"
    assert {p.name for p in tmp_path.iterdir()} == {"broken.parquet", "other.parquet"}


# --- fit --preferences ----------------------------------------------------------------------------


def liking(count: int, like: Callable[[torch.Tensor], torch.Tensor]) -> Preferences:
    """Answers of someone who likes rows by something that is not the score."""
    table, noise = small_table(), seeded(0)
    first, second, context = random_pairs(table.codes, table.context, count, generator=noise)
    return synthetic_preferences(
        lambda codes, _: like(codes), first, second, context, temperature=0, generator=noise
    )


def dislikes_ideal(codes: torch.Tensor) -> torch.Tensor:
    return -codes[:, 0].double()


@pytest.mark.slow
def test_a_generator_is_trained_by_score_and_preferences(run: Run, tmp_path: Path) -> None:
    favourite = likely_rows(run)[:, 0].mode().values
    pairs = liking(400, lambda codes: -(codes[:, 0] == favourite).double())
    config = small_config()
    config = replace(
        config,
        preference=replace(config.preference, members=2, steps=100),
        generator=replace(config.generator, preference=3.0, steps=150),
    )
    liked = fit(small_table(), tmp_path / "run", config, preferences=pairs)
    cuts = [(likely_rows(made)[:, 0] == favourite).double().mean().item() for made in (run, liked)]
    assert cuts[0] > 0.5
    assert cuts[1] < 0.1
    # the models of the score are what they were without
    for name in ("judge", "estimator", "reference", "naive"):
        file = f"{name}.safetensors"
        assert weights_of(liked.folder)[file] == weights_of(run.folder)[file]
    again = load_run(tmp_path / "run")
    assert len(again.preferences) == 400
    assert torch.equal(likely_rows(again), likely_rows(liked))
    rows, context = run.rows.codes, run.rows.context
    mixed = liked.objective(context)(rows)
    expected = liked.estimator(rows, context)
    expected = expected + 3.0 * liked.preference(rows, context) / liked.reward_unit
    assert torch.allclose(mixed, expected, atol=1e-4)
    everywhere = torch.arange(len(rows))
    assert row_score(liked, context)(rows, everywhere).equal(mixed)


def test_the_mixed_score_draws_one_row_for_both_parts(run: Run) -> None:
    from discrete_grad import StraightThrough
    from discrete_grad.models import PreferenceModel

    config = replace(run.config.generator, preference=-1.0, pessimism=0.0, combine="mean")
    model = PreferenceModel(run.estimator)
    context = run.rows.context[:50]
    score = guided_score(run.estimator, model, 1.0, context, config)
    space = run.table.schema.space
    drawn = score.sample(torch.zeros(50, space.width), StraightThrough(space), generator=seeded(0))
    # the reward is the score itself: of one row they cancel, of two they do not
    assert drawn.abs().max() < 1e-5


@pytest.mark.slow
def test_from_prefer_to_report(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    schema, table = run.table.schema, run.table.take(range(60))
    columns = schema.decode_features(table.codes) | {"score": table.scores.tolist()}
    # few contexts: a report looks at each
    columns |= context_columns(schema, table.context[:6].repeat(10, 1))
    write_rows(tmp_path / "table.parquet", columns)
    answers, liked = tmp_path / "a.parquet", tmp_path / "liked"
    piped(monkeypatch, "1\n2\nt\n" * 4)
    assert main(["prefer", str(run.folder), "--out", str(answers)]) == 0
    capsys.readouterr()
    fitting = ["fit", str(tmp_path / "table.parquet"), "--score", "score", "--out", str(liked)]
    fitting += ["--context", "shop", "price", *QUICK]
    given = ["--preferences", str(answers)]
    assert main([*fitting, *given]) == 0
    assert "preferences: 12" in capsys.readouterr().out
    before = {p: p.read_bytes() for p in liked.rglob("*") if p.is_file()}
    assert main([*fitting, *given, "--resume"]) == 0
    assert {p: p.read_bytes() for p in liked.rglob("*") if p.is_file()} == before
    answers.unlink()
    contexts = tmp_path / "contexts.csv"
    contexts.write_text("shop,price\nwest,0.5\n")
    out = ["--contexts", str(contexts), "--rows", "2", "--out", str(tmp_path / "new.csv")]
    assert main(["generate", str(liked), *out]) == 0
    assert main([*fitting, "--resume"]) == 2
    assert "a fit of other preferences, or of none" in capsys.readouterr().err


def test_a_resumed_fit_is_bitwise_the_same(tmp_path: Path) -> None:
    pairs = liking(60, dislikes_ideal)
    config = small_config()
    config = replace(
        config, preference=replace(config.preference, members=2, steps=40, checkpoint_every=10)
    )
    fit(small_table(), tmp_path / "a", config, preferences=pairs)

    class Stop(Exception):
        pass

    def stop(metrics: dict[str, float], step: int) -> None:
        if "preference/loss" in metrics or "generator/loss" in metrics:
            raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            fit(small_table(), tmp_path / "b", config, preferences=pairs, resume=True, log=stop)
    with pytest.raises(RunError, match="unfinished"):
        load_run(tmp_path / "b")
    fit(small_table(), tmp_path / "b", config, preferences=pairs, resume=True)
    assert weights_of(tmp_path / "a") == weights_of(tmp_path / "b")
    other = replace(pairs, outcome=1 - pairs.outcome)
    with pytest.raises(RunError, match="other preferences"):
        fit(small_table(), tmp_path / "b", config, preferences=other, resume=True)


def test_a_run_from_before_preferences_is_loaded_and_resumed(run: Run, tmp_path: Path) -> None:
    import shutil

    old = tmp_path / "old"
    shutil.copytree(run.folder, old)
    settings = json.loads((old / "config.json").read_text())
    del settings["config"]["preference"]
    del settings["config"]["generator"]["preference"]
    (old / "config.json").write_text(json.dumps(settings))
    assert "preferences" not in settings
    assert load_run(old).config == run.config
    fit(small_table(), old, small_config(), resume=True)


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "a.parquet"
    write_preferences(path, liking(4, dislikes_ideal), small_table().schema)
    return path


def test_a_lost_or_damaged_copy_of_the_preferences_is_told(run: Run, tmp_path: Path) -> None:
    pairs = liking(20, dislikes_ideal)
    config = small_config()
    config = replace(config, preference=replace(config.preference, members=2, steps=20))
    fit(small_table(), tmp_path / "run", config, preferences=pairs)
    kept = tmp_path / "run" / "preferences.safetensors"
    kept.write_bytes(b"nothing")
    with pytest.raises(RunError, match="damaged"):
        load_run(tmp_path / "run")
    kept.unlink()
    with pytest.raises(RunError, match="missing"):
        load_run(tmp_path / "run")


def test_preferences_of_another_table_are_told_with_row_and_feature(
    wrong: Path, tmp_path: Path
) -> None:
    columns = {"cut": ["fair", "good"] * 3, "shade": [0, 1, 2] * 2, "size": [True, False] * 3}
    columns |= {
        "shop": ["east", "west"] * 3,
        "price": [0.5] * 6,
        "score": [0.1 * i for i in range(6)],
    }
    other = read_table(columns, score="score", context=["shop", "price"]).schema
    with pytest.raises(TableError, match=r"column 'first\.\w+', row \d: .* is not among"):
        read_preferences(wrong, other)


def test_missing_cells_are_shown_as_such() -> None:
    module = import_module("discrete_grad.runs.prefer")
    columns = [Vocabulary(name, ("a", None)) for name in ("cut", "shop")]
    schema = Schema((columns[0],), (columns[1],), "score")
    one, other = torch.tensor([[0]]), torch.tensor([[1]])
    text = module._shown(schema, module._Pairs(one, other, torch.tensor([[0.0, 1.0]])), 1)
    assert text.splitlines() == ["", "pair 1  shop=(missing)", "     1  2", "cut  a  (missing)  *"]


def test_answers_that_are_all_ties_have_no_share() -> None:
    from discrete_grad.cli.terminal import _preference_sentence

    assert _preference_sentence(8, 0.75).startswith("preferences: 8;")
    assert "75%" in _preference_sentence(8, 0.75)
    assert "nan" not in _preference_sentence(8, float("nan"))
