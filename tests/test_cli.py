"""The command line, as someone with a table and a terminal uses it."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discrete_grad.cli import commands, main
from tests.data.malformed import good_table, malformed_fits, malformed_generates
from tests.two_processes import command_line, in_two_processes

QUICK = ["--config", str(Path(__file__).parent / "runs" / "quick.toml")]
COLUMNS = ["--score", "score", "--context", "shop", "price"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the good table."""
    folder = tmp_path_factory.mktemp("cli")
    table = good_table(folder)
    assert main(["fit", str(table), *COLUMNS, "--out", str(folder / "run"), *QUICK]) == 0
    return folder / "run"


def contexts_file(folder: Path) -> Path:
    path = folder / "contexts.csv"
    path.write_text("price,shop\n11.5,west\n12.5,east\n")
    return path


def test_fit_writes_everything_the_run_needs(fitted: Path) -> None:
    names = {path.name for path in fitted.iterdir()}
    assert names >= {"config.json", "schema.json", "metrics.jsonl", "report.html", "report.json"}
    assert not list(fitted.rglob("*.pkl")) + list(fitted.rglob("*.pt"))
    report = json.loads((fitted / "report.json").read_text())
    assert {entry["name"] for entry in report["average"]} >= {"best training row", "random rows"}
    page = (fitted / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']https?:", page)


@pytest.mark.parametrize("command", ["fit", "generate", "report", "demo"])
def test_a_device_that_is_not_there_is_told(
    fitted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = tmp_path / "out.csv"
    words = {
        "fit": [str(good_table(tmp_path)), *COLUMNS, "--out", str(out), *QUICK],
        "generate": [str(fitted), "--contexts", str(contexts_file(tmp_path)), "--out", str(out)],
        "report": [str(fitted)],
        "demo": ["--out", str(out), "--rows", "20"],
    }
    assert main([command, *words[command], "--device", "cuda"]) == 2
    told = capsys.readouterr().err
    assert "error: device cuda is asked for, and torch sees no CUDA device here: use cpu" in told
    assert not out.exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_generate_writes_new_rows_and_marks_them(fitted: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"new_rows.{suffix}"
    contexts = contexts_file(tmp_path)
    arguments = ["generate", str(fitted), "--contexts", str(contexts), "--rows", "5"]
    assert main([*arguments, "--out", str(out)]) == 0
    if suffix == "csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    else:
        rows = pq.read_table(out).to_pylist()
    assert len(rows) == 10
    # a number of a CSV stays one
    assert [row["price"] for row in rows[::5]] == (
        ["11.5", "12.5"] if suffix == "csv" else [11.5, 12.5]
    )
    scores = ["estimated_score", "judge_score", "beyond_observed", "in_table"]
    assert sorted(rows[0]) == sorted(["shop", "price", "cut", "shade", *scores])
    for part, shop in ((rows[:5], "west"), (rows[5:], "east")):
        assert {row["shop"] for row in part} == {shop}
        assert len({(row["cut"], row["shade"]) for row in part}) == 5
        assert {str(row["in_table"]) for row in part} == {"False"}
        # the first is the one that the generator agrees on
        estimates = [float(row["estimated_score"]) for row in part[1:]]
        assert estimates == sorted(estimates, reverse=True)
    again = tmp_path / f"again.{suffix}"
    assert main([*arguments, "--out", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()


def test_fewer_rows_come_with_a_warning(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new_rows.csv"
    contexts = contexts_file(tmp_path)
    arguments = ["generate", str(fitted), "--contexts", str(contexts), "--rows", "13"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert "warning: context row 2: only 9 new rows of 13" in capsys.readouterr().err
    assert main([*arguments, "--no-new-only", "--out", str(out)]) == 0
    assert "warning: context row 1: only 12 different rows of 13" in capsys.readouterr().err
    assert len(out.read_text().splitlines()) == 1 + 2 * 12


def test_a_context_far_outside_the_trained_range_is_told(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "far.csv"
    path.write_text("price,shop\n11.5,west\n500,west\n")
    arguments = ["generate", str(fitted), "--contexts", str(path), "--rows", "1"]
    assert main([*arguments, "--out", str(tmp_path / "new_rows.csv")]) == 0
    told = (
        "warning: context column 'price': 500.* in row 2 is far outside the range of the training"
    )
    assert re.search(told, capsys.readouterr().err)


def test_fit_tells_what_is_maximised_and_what_the_estimator_is_made_of(
    fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(fitted)]) == 0
    printed = capsys.readouterr().out
    assert "\nGenerated rows maximise the mean rank of 'score': a row that is good" in printed
    blocks = printed.split("\n\n")
    recipe = next(block for block in blocks if block.startswith("Estimator: rank correlation"))
    lines = recipe.splitlines()
    assert re.match(r"Estimator: .* with the score -?1?\.\d+ on \d+ held-out rows; of a", lines[0])
    assert "2 members, batches of 64, at most 30 steps, weight decay .3, layers of 8." in lines[1]
    assert re.match(r"Families by weight: .*(networks|kernel|anova) -?1?\.\d\d", lines[2])
    report = json.loads((fitted / "report.json").read_text())
    assert report["estimator"]["settings"]["steps"] == 30


def test_report_is_made_again(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (fitted / "report.json").read_bytes()
    (fitted / "report.html").unlink()
    assert main(["report", str(fitted)]) == 0
    assert (fitted / "report.json").read_bytes() == before
    printed = capsys.readouterr().out
    assert "generator, most likely row" in printed
    assert printed.splitlines()[-1] == f"report: {fitted / 'report.html'}"


def test_tensorboard_lies_in_the_folder(fitted: Path, tmp_path: Path) -> None:
    config = tmp_path / "logged.toml"
    config.write_text(f"tensorboard = true\n{Path(QUICK[1]).read_text()}")
    arguments = ["fit", str(fitted.parent / "good.csv"), *COLUMNS, "--config", str(config)]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_resume_of_a_finished_run_changes_nothing(fitted: Path) -> None:
    table = fitted.parent / "good.csv"
    before = {p: p.read_bytes() for p in fitted.rglob("*") if p.is_file()}
    arguments = ["fit", str(table), *COLUMNS, "--out", str(fitted), *QUICK, "--resume"]
    assert main(arguments) == 0
    assert {p: p.read_bytes() for p in fitted.rglob("*") if p.is_file()} == before


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a command that fails."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0].startswith("discrete-grad: error: ")
    # of several faults each has its line
    assert all(line.startswith("  ") for line in lines[1:]), lines
    return captured.err


def test_all_faults_of_contexts_are_told_a_line_each(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text("shop,cost,cut\nwst,1,fair\neast,2,far\n")
    arguments = ["generate", str(fitted), "--contexts", str(path), "--out", str(tmp_path / "a.csv")]
    capsys.readouterr()
    assert main(arguments) == 2
    first, *faults = capsys.readouterr().err.splitlines()
    assert first == "discrete-grad: error: the table of contexts has 4 problems:"
    named = ["column 'cost' is neither", "'shop', row 1: 'wst'", "column 'price'", "row 2: 'far'"]
    assert all(
        fault.startswith("  ") and n in fault for fault, n in zip(faults, named, strict=True)
    )
    assert not (tmp_path / "a.csv").exists()


def test_contexts_of_one_column(tmp_path: Path) -> None:
    table = good_table(tmp_path)
    features = ["--features", "cut", "shade"]
    run, out = tmp_path / "run", tmp_path / "new_rows.csv"
    arguments = ["fit", str(table), "--score", "score", "--context", "shop", *features, *QUICK]
    assert main([*arguments, "--out", str(run)]) == 0
    (tmp_path / "contexts.csv").write_text("shop\nwest\n")
    contexts = ["--contexts", str(tmp_path / "contexts.csv"), "--rows", "2"]
    assert main(["generate", str(run), *contexts, "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "score", "context"),
    [
        ("t.csv --score a --out o", "a", ""),
        ("t.csv --score a --context x y --out o", "a", "x y"),
        ("--score a t.csv --out o", "a", ""),
        ("--out o --score a t.csv", "a", ""),
        ("--score=a --out o t.csv", "a", ""),
        ("t.csv --score a --score b --out o", "a b", ""),
        ("t.csv --score a --context x y --score b --out o", "a b", "x y"),
        ("t.csv --context x y --out o --score b --score a", "b a", "x y"),
        ("--score a --score b t.csv --out o", "a b", ""),
        ("t.csv --score a b c --context x y --out o", "a b c", "x y"),
        ("t.csv --out o --score a b --score c --resume", "a b c", ""),
        ("t.csv --generator.entropy -1 --score a b --out o", "a b", ""),
    ],
)
def test_scores_may_be_repeated_or_listed(
    monkeypatch: pytest.MonkeyPatch, words: str, score: str, context: str
) -> None:
    seen: list[commands.Fit] = []
    monkeypatch.setattr(commands.Fit, "execute", lambda command: seen.append(command))
    assert main(["fit", *words.split()]) == 0
    (command,) = seen
    assert (str(command.table.table), str(command.run.out)) == ("t.csv", "o")
    assert command.table.score == tuple(score.split())
    assert command.context.context == tuple(context.split())


def test_fit_without_a_score_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", str(good_table(tmp_path)), "--out", str(tmp_path / "run")]
    assert "no score is given" in told(arguments, capsys)
    assert not (tmp_path / "run").exists()


def test_several_scores_from_fit_to_report(tmp_path: Path) -> None:
    table, run, out = good_table(tmp_path), tmp_path / "run", tmp_path / "new_rows.csv"
    arguments = [
        "fit",
        str(table),
        "--score",
        "score",
        "--score",
        "price:behaviour",
        "--context",
        "shop",
    ]
    config = tmp_path / "aligned.toml"
    quick = Path(QUICK[1]).read_text()
    config.write_text(quick.replace("[generator]", "[generator]\nalignment = 0.5"))
    aligned = ["--config", str(config)]
    assert main([*arguments, "--out", str(run), *aligned]) == 0
    assert json.loads((run / "schema.json").read_text())["more_scores"] == ["price"]
    assert json.loads((run / "report.json").read_text())["score_name"] == "score"
    (tmp_path / "contexts.csv").write_text("shop\nwest\n")
    contexts = ["--contexts", str(tmp_path / "contexts.csv"), "--rows", "2"]
    assert main(["generate", str(run), *contexts, "--out", str(out)]) == 0
    header = "shop,cut,shade,estimated_score,judge_score,beyond_observed,in_table"
    assert out.read_text().splitlines()[0] == header
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert main([*arguments, "--out", str(run), *aligned, "--resume"]) == 0
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def gappy_table(folder: Path) -> Path:
    """A table with an identifier, dates, gaps, a numeric feature and a cost."""
    path = folder / "gappy.csv"
    lines = ["id,day,cut,size,price,cost"]
    for i in range(48):
        cut, price = ("fair", "good", "")[i % 3], 1.5 * (i * 7 % 48)
        lines.append(
            f"u{i},2024-01-0{1 + i % 4},{cut},{i % 2},{price},{10 + i % 3 + price / 9:.3f}"
        )
    path.write_text("\n".join([*lines, "u48,2024-01-01,fair,1,2.5,"]) + "\n")
    return path


def test_fit_tells_what_it_did_with_a_real_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "new_rows.csv"
    arguments = ["fit", str(gappy_table(tmp_path)), "--score", "cost:min", "--out", str(run)]
    for options in ([], ["--missing", "category"]):
        assert "column 'cost', row 49: the value is missing; with missing='drop'" in told(
            [*arguments, *options], capsys
        )
    assert not run.exists()
    assert main([*arguments, "--missing", "drop", *QUICK]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "warning: column 'day' holds dates: they are 4 categories, as text",
        "warning: column 'id' looks like an identifier, with 49 different values in 49 rows, and "
        "is left out; name the features, with ':categorical' after its name, to keep it",
        "warning: 17 of 49 rows have a missing cell and are left out: 16 in 'cut', 1 in 'cost'",
    ]
    assert printed.out.startswith("cost, lower is better")
    assert main(["generate", str(run), "--rows", "3", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    scores = ["estimated_score", "judge_score", "beyond_observed", "in_table"]
    assert list(rows[0]) == ["day", "cut", "size", "price", *scores]
    assert re.fullmatch(r"[\[(][\d.]+, [\d.]+\]", rows[0]["price"])
    estimates = [float(row["estimated_score"]) for row in rows]
    # the first is the one that the generator agrees on
    assert estimates[1:] == sorted(estimates[1:])
    assert all(5 < float(row["judge_score"]) < 25 for row in rows)


def test_a_missing_category_and_an_order_reach_the_generated_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{('a', 'b', '')[i % 3]},{i % 4},{i % 3}" for i in range(48)]
    (tmp_path / "rows.csv").write_text("\n".join(["cut,size,score", *lines]) + "\n")
    run, out = tmp_path / "run", tmp_path / "new_rows.csv"
    arguments = ["fit", str(tmp_path / "rows.csv"), "--score", "score", "--missing", "category"]
    chosen = ["--features", "cut", "size:ordered", "--out", str(run)]
    assert main([*arguments, *chosen, *QUICK]) == 0
    assert capsys.readouterr().err == ""
    assert main(["generate", str(run), "--rows", "12", "--no-new-only", "--out", str(out)]) == 0
    cells = [row["cut"] for row in csv.DictReader(out.read_text().splitlines())]
    assert sorted(set(cells)) == ["", "a", "b"]
    features = json.loads((run / "schema.json").read_text())["features"]
    assert features[0]["values"] == ["a", "b", None]
    assert features[1]["ordered"]


def test_categories_that_no_row_has_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cuts = pa.DictionaryArray.from_arrays([0, 1] * 12, ["fair", "good", "ideal", "best"])
    rows = {"cut": cuts, "size": [0, 1, 2] * 8, "score": [i % 5 for i in range(24)]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    arguments = ["fit", str(tmp_path / "rows.parquet"), "--score", "score", *QUICK]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    told = (
        "warning: no row has 'ideal', 'best' of feature 'cut': the estimator knows nothing of "
        "this, and --unseen drop leaves it out (in Python unseen='drop')"
    )
    assert capsys.readouterr().err.splitlines() == [told]


def test_nothing_is_written_into_a_strangers_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, folder = good_table(tmp_path), tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    arguments = ["fit", str(table), *COLUMNS, "--out", str(folder)]
    assert "not empty" in told(arguments, capsys)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_column_that_generate_would_write_is_refused_by_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(good_table(tmp_path).read_text().replace("shade", "judge_score", 1))
    arguments = ["fit", str(table), *COLUMNS, "--out", str(tmp_path / "run")]
    assert "'judge_score'" in told(arguments, capsys)


def test_every_malformed_input_is_one_line_and_leaves_nothing_behind(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fits = list(malformed_fits(tmp_path))
    generates = list(malformed_generates(tmp_path, fitted))
    assert len(fits) + len(generates) >= 30
    before = sorted(tmp_path.rglob("*"))
    for case in [*fits, *generates]:
        assert case.message in told(case.arguments, capsys), case.name
        assert sorted(tmp_path.rglob("*")) == before, case.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "RUN", "--rows", "0", "--out", "x.csv"], "--rows must be at least 1"),
        (["generate", "RUN", "--rows", "2", "--out", "x.csv"], "shop"),
        (
            ["generate", "RUN", "--contexts", "CONTEXTS", "--diversity", "3", "--out", "x.csv"],
            "diversity must be from 1 to the number of features, 2, got 3",
        ),
        (["generate", "absent", "--out", "x.csv"], "holds no fit"),
        (["report", "absent"], "holds no fit"),
        (["report", "."], "holds no fit"),
        (["fit", "TABLE", *COLUMNS, "--out", "RUN"], "holds a fit; use --resume"),
        (["fit", "TABLE", *COLUMNS, "--out", "TABLE"], "is not a folder"),
        (["fit", "TABLE", *COLUMNS], "a folder is missing"),
        (["fit", "TABLE", *COLUMNS, "--out", "new", "--seed", "-1"], "seed must lie in"),
        (
            ["fit", "TABLE", *COLUMNS, "--out", "new", "--judge-share", "0.5"],
            "judge_share is no option but set in a file, --config FILE",
        ),
        (
            ["fit", "TABLE", *COLUMNS, "--out", "new", "--judge.no-scaling"],
            "judge.scaling is no option but set in a file",
        ),
        (["demo", "--out", "new", "--generator.entropy=0"], "generator.entropy is no option"),
        (["demo", "--out", "new", "--config", "no.toml"], "no.toml does not exist"),
        (["fit", "--config", "no.toml", "--print-config"], "no.toml does not exist"),
        (["fit", "TABLE", *COLUMNS, "--out", "new", "--estimator.steps", "0"], "steps"),
        (
            ["fit", "TABLE", *COLUMNS, "--out", "new", "--generator.gradient-estimator", "Magic"],
            "generator.gradient_estimator is no option but set in a file",
        ),
        (["fit", "TABLE", *COLUMNS, "--out", "new", "--generator.entropy", "-1"], "entropy"),
        (["demo", "--family", "hpolab", "--out", "new"], "hpolib"),
    ],
)
def test_wrong_use_is_one_line(
    fitted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"RUN": str(fitted), "TABLE": str(fitted.parent / "good.csv")}
    named["CONTEXTS"] = str(contexts_file(fitted.parent))
    assert message in told([named.get(word, word) for word in arguments], capsys)
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_the_process_ends_with_the_exit_code(tmp_path: Path) -> None:
    failed = command("discrete_grad", "report", "absent", folder=tmp_path)
    assert failed.returncode == 2
    assert failed.stderr == "discrete-grad: error: absent holds no fit: config.json is missing\n"


@pytest.mark.slow
def test_two_processes_under_torchrun_end_with_the_same_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from discrete_grad.data import write_rows
    from discrete_grad.runs import load_run
    from tests.runs.small import likely_rows, small_table

    monkeypatch.chdir(tmp_path)
    table = small_table(400)
    columns = table.schema.decode_features(table.codes)
    columns["score"] = table.scores.tolist()
    write_rows(tmp_path / "table.parquet", columns)
    arguments = ["fit", "table.parquet", "--score", "score"]
    (tmp_path / "fit.toml").write_text("estimator.steps = 300\njudge.steps = 300\n")
    arguments += ["--config", "fit.toml", "--generator.steps", "150"]
    torchrun = ["torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]
    assert main([*arguments, "--out", "alone"]) == 0
    both = command(*torchrun, "discrete_grad", *arguments, "--out", "both", folder=tmp_path)
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("report: ") == 1
    runs = [load_run(tmp_path / name) for name in ("alone", "both")]
    judged = [run.judge(likely_rows(run)).item() for run in runs]
    errors = [
        (run.estimator(run.judge_rows.codes) - run.judge_rows.scores).square().mean().item()
        for run in runs
    ]
    assert abs(judged[0] - judged[1]) < 0.2
    assert errors[1] < 1.25 * errors[0] + 0.02
    told = told_by_both(tmp_path, [*arguments, "--out", "both"], code=2)
    assert "discrete-grad: error: both holds a fit; use --resume" in told


def told_by_both(folder: Path, words: list[str], *, code: int) -> str:
    """Everything that a command writes in two processes; an error is told once."""
    told = in_two_processes(folder, command_line, words)
    assert told.count(f"exit code {code}\n") == 2, told
    assert told.count("discrete-grad: ") == (code != 0)
    return told


@pytest.mark.slow
def test_two_processes_share_the_contexts_and_write_parts(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{10 + i / 7},{('east', 'west')[i % 2]}\n" for i in range(31)]
    (tmp_path / "contexts.csv").write_text("price,shop\n" + "".join(lines))
    arguments = ["generate", str(fitted), "--contexts", "contexts.csv"]
    arguments += ["--rows", "4", "--diversity", "2"]
    assert main([*arguments, "--out", "rows.parquet"]) == 0
    told_by_both(tmp_path, [*arguments, "--out", "rows.parquet"], code=0)
    parts = [
        pq.read_table(tmp_path / f"rows.part-0000{i}-of-00002.parquet").to_pylist() for i in (0, 1)
    ]
    assert [len({row["price"] for row in part}) for part in parts] == [15, 16]
    whole = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    for mine, row in zip([*parts[0], *parts[1]], whole, strict=True):
        assert mine == pytest.approx(row)
    told = told_by_both(tmp_path, [*arguments, "--out", "rows.csv"], code=2)
    assert "2 processes write parts in Parquet: rows.csv must end in .parquet" in told


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from discrete_grad import __main__

    monkeypatch.setitem(sys.modules, "tyro", None)
    for name in [name for name in sys.modules if name.startswith("discrete_grad.cli")]:
        monkeypatch.delitem(sys.modules, name)
    assert __main__.main() == 2
    assert capsys.readouterr().err == (
        "discrete-grad: error: the command line needs tyro: pip install 'discrete_grad[cli]'\n"
    )
