"""The front door: frames in, the same kind of frame out, and the same rows as the command line."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import discrete_grad
from discrete_grad.cli import commands, main
from discrete_grad.data import TableError, TableWarning, Vocabulary, read_table
from discrete_grad.policies import AutoregressiveGenerator
from discrete_grad.rules import Fix, Rules
from discrete_grad.runs import FitConfig, Run, _export, check_columns, fit
from discrete_grad.runs._fit_input import read_input
from discrete_grad.runs._lines import read_lines
from discrete_grad.runs._rows_to_try import rows_to_try
from discrete_grad.training import RunError
from tests.data.malformed import good_table

QUICK = Path(__file__).parent / "quick.toml"
CONTEXTS = {"shop": ["west", "east"], "price": [11.5, 12.5]}
SCORES = ["estimated_score", "judge_score", "beyond_observed", "in_table"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good_table(tmp_path_factory.mktemp("front"))


@pytest.fixture(scope="module")
def run(table: Path) -> Run:
    return discrete_grad.fit(
        pd.read_csv(table),
        score="score",
        context=["shop", "price"],
        folder=str(table.parent / "run"),
        config=str(QUICK),
        quiet=True,
    )


def test_python_and_command_line_give_the_same_rows(
    run: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "write_and_print_report", lambda run: None)
    other, out = tmp_path / "run", tmp_path / "rows.csv"
    words = ["fit", str(table), "--score", "score", "--context", "shop", "price"]
    assert main([*words, "--out", str(other), "--config", str(QUICK)]) == 0
    for path in (run.folder / "weights").iterdir():
        assert path.read_bytes() == (other / "weights" / path.name).read_bytes()
    contexts = tmp_path / "contexts.csv"
    contexts.write_text("shop,price,cut\nwest,11.5,\neast,12.5,good\n")
    words = ["generate", str(other), "--contexts", str(contexts), "--rows", "2", "--seed", "5"]
    assert main([*words, "--diversity", "1", "--fix", "shade=D|E|F", "--out", str(out)]) == 0
    made = run.generate(contexts, rows=2, seed=5, fix="shade=D|E|F")
    pd.testing.assert_frame_equal(made, pd.read_csv(out), check_exact=True)
    assert set(made["cut"][2:]) == {"good"}
    assert set(made["cut"][:2]) != {"good"}


def test_the_command_line_fits_the_generator_anew_and_says_so(
    run: Run,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(commands, "write_and_print_report", lambda run: None)
    folder = shutil.copytree(run.folder, tmp_path / "run")
    before = (folder / "weights" / "generator.safetensors").read_bytes()
    words = ["fit", str(table), "--score", "score", "--context", "shop", "price"]
    words += ["--out", str(folder), "--config", str(QUICK), "--resume"]
    assert main([*words, "--generator.entropy", "0.3"]) == 0
    assert capsys.readouterr().err == (
        f"warning: {folder} holds a fit with other settings: judge, estimators and data policy are "
        "kept, and the generator is fitted anew\n"
    )
    assert (folder / "weights" / "generator.safetensors").read_bytes() != before
    assert main([*words, "--seed", "3"]) == 2
    assert "was begun with seed = 0, not 3" in capsys.readouterr().err


def test_the_same_kind_of_frame_comes_back(run: Run) -> None:
    expected = run.generate(pd.DataFrame(CONTEXTS), rows=2)
    assert isinstance(expected, pd.DataFrame)
    assert [*expected] == ["shop", "price", "cut", "shade", *SCORES]
    made = {
        pl.DataFrame: run.generate(pl.DataFrame(CONTEXTS), rows=2),
        pa.Table: run.generate(pa.table(CONTEXTS), rows=2),
        pd.DataFrame: run.generate(CONTEXTS, rows=2),
    }
    for kind, frame in made.items():
        assert isinstance(frame, kind)
        plain = (
            frame.to_dict("list")
            if isinstance(frame, pd.DataFrame)
            else {
                name: list(frame[name].to_pylist() if kind is pa.Table else frame[name])
                for name in expected
            }
        )
        assert plain == expected.to_dict("list")


def test_columns_that_are_neither_context_nor_feature_are_told(run: Run) -> None:
    for names, told in (
        (["note"], "column 'note' is neither context nor feature of the fit: leave it out; "),
        (["a", "b"], "columns 'a', 'b' are neither context nor feature of the fit: leave them out"),
    ):
        with pytest.raises(TableError, match=told) as caught:
            run.generate({**CONTEXTS, **{name: [1, 2] for name in names}})
        end = "contexts are 'shop', 'price', and a column of a feature fixes it"
        assert str(caught.value).endswith(end)
    bare = replace(run.table.schema, context=())
    with pytest.raises(TableError, match=r"contexts are \(none\), and a column of a feature"):
        read_lines({"cut": ["good"], "note": [1]}, bare)
    lines = read_lines({"cut": ["good", None], "shade": [None, "D"]}, bare)
    assert (lines.columns, lines.contexts) == ({}, None)
    assert lines.fixed == [{"cut": "good"}, {"shade": "D"}]
    assert read_lines(None, bare).fixed == [{}]
    assert lines.part([1]).fixed == [{"shade": "D"}]


def test_two_aims_that_write_a_column_of_the_same_name_are_told() -> None:
    rows = {"cut": ["fair", "good"] * 2, "ph": [7.0, 7.3, 7.9, 8.0], "ph_distance": [1, 2, 3, 4]}
    check_columns(read_table(rows, score=["ph", "ph_distance"], features=["cut"]).schema)
    schema = read_table(rows, score=["ph:=7.4", "ph_distance"], features=["cut"]).schema
    with pytest.raises(RunError, match=r"^two aims both write a column 'estimated_ph_distance'"):
        check_columns(schema)


def test_a_context_of_a_name_that_a_trade_off_has_is_told() -> None:
    rows = {"cut": ["fair", "good"] * 2, "yield": [1, 2, 3, 4], "cost": [4, 3, 2, 1]}
    rows |= {"tradeoff cost": [0.1, 0.2, 0.3, 0.4]}
    check_columns(read_table(rows, score="yield", context="tradeoff cost").schema)
    schema = read_table(rows, score=["yield", "cost:min"], context="tradeoff cost").schema
    with pytest.raises(RunError, match=r"^the table has a context column 'tradeoff cost', which"):
        check_columns(schema)


@pytest.mark.parametrize("name", ["given_row", "edits", "score_before", "changes"])
def test_a_column_that_edits_write_is_told(run: Run, name: str) -> None:
    schema = replace(run.table.schema, features=(Vocabulary(name, ("a", "b")),))
    told = f"^the table has a column {name!r}, which edits write: rename it$"
    check = import_module("discrete_grad.runs.edit_rows")._check
    with pytest.raises(RunError, match=told):
        check(schema, 1)
    with pytest.raises(RunError, match=told):
        check(replace(run.table.schema, context=schema.features), 1)
    check(run.table.schema, 1)
    with pytest.raises(RunError, match=r"^edits must be at least 1, got 0$"):
        check(run.table.schema, 0)


def test_one_context_is_a_dict_of_single_values(run: Run) -> None:
    one = run.generate({"shop": "east", "price": 12.5}, rows=2)
    both = run.generate(CONTEXTS, rows=2)
    assert one[["shop", "price"]].drop_duplicates().to_dict("records") == [
        {"shop": "east", "price": 12.5}
    ]
    assert list(both["shop"]) == ["west", "west", "east", "east"]


def test_scores_are_those_that_generate_tells(run: Run) -> None:
    made = run.generate(CONTEXTS, rows=4)
    own = made.assign(note="kept", judge_score=0.0).set_index(pd.Index(range(10, 18)))
    before = own.copy()
    scored = run.score(own)
    pd.testing.assert_frame_equal(own, before)
    assert list(scored.index) == list(range(10, 18))
    assert set(scored["note"]) == {"kept"}
    for name in SCORES:
        assert list(scored[name]) == list(made[name])
    for _, part in scored.groupby("shop"):
        assert sorted(part["rank"])[0] == 1
        better = part.sort_values("rank")["estimated_score"]
        assert (better.diff().dropna() <= 0).all()


def test_equal_rows_share_a_rank_and_contexts_have_their_own(run: Run) -> None:
    rows = pl.DataFrame(
        {
            "cut": ["fair", "good", "fair", "ideal"],
            "shade": ["D", "E", "D", "F"],
            "shop": ["east", "east", "east", "west"],
            "price": [11.5] * 4,
        }
    )
    ranks = run.score(rows)["rank"].to_list()
    assert ranks[0] == ranks[2]
    assert ranks[3] == 1
    assert sorted(ranks[:3]) in ([1, 1, 3], [1, 2, 2])


def test_swaps_are_the_differences_of_scores(run: Run) -> None:
    row = {"cut": "good", "shade": "E", "shop": "west", "price": 11.5}
    swaps = run.swaps(row)
    assert len(swaps) == 2 + 3
    assert set(swaps["row"]) == {1}
    before = run.score(row)
    for swap in swaps.to_dict("records"):
        after = run.score({**row, swap["feature"]: swap["to"]})
        assert swap["from"] == row[swap["feature"]]
        for kind in ("estimated", "judge"):
            change = after[f"{kind}_score"][0] - before[f"{kind}_score"][0]
            assert swap[f"{kind}_effect"] == pytest.approx(change)
    assert list(swaps["estimated_score"]) == sorted(swaps["estimated_score"], reverse=True)


def test_all_faults_are_told_at_once(run: Run) -> None:
    wrong: dict[str, Any] = {"shop": ["east", "north"], "price": ["x", "1"], "note": [1, 2]}
    with pytest.raises(TableError) as caught:
        run.generate({**wrong, "cut": ["fair", "awful"]})
    lines = str(caught.value).splitlines()
    assert lines[0] == "the table of contexts has 4 problems:"
    assert "column 'note' is neither context nor feature" in lines[1]
    assert "'shop', row 2: 'north'" in str(caught.value)
    assert "'price', row 1: 'x' is not a number" in str(caught.value)
    assert "'cut', row 2: 'awful'" in str(caught.value)
    with pytest.raises(TableError, match="the table of rows has 3 problems"):
        run.score({"cut": ["awful"], "shade": ["Z"], "shop": ["south"], "price": [1.0]})
    with pytest.raises(TableError, match=r"'awful' is not among .* nor are 'bad', 'ugly' of other"):
        run.score(
            {
                "cut": ["awful", "bad", "awful", "ugly"],
                "shade": ["D"] * 4,
                **{"shop": ["east"] * 4, "price": [11.5] * 4},
            }
        )


def test_a_run_is_loaded_reported_and_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = discrete_grad.load_run(str(run.folder))
    assert isinstance(loaded, Run)
    pd.testing.assert_frame_equal(loaded.generate(CONTEXTS), run.generate(CONTEXTS))
    reported: list[object] = []
    monkeypatch.setattr("discrete_grad.runs.run.write_report", reported.append)
    assert loaded.report() == run.folder / "report.html"
    assert reported == [loaded]
    shown = loaded._repr_html_()
    assert "score, maximised by rank" in shown
    assert "cut (3), shade (4)" in shown
    assert repr(loaded).startswith(f"<run: {run.folder}; score: score, maximised by rank; rows: ")
    assert len(repr(loaded)) < 500


def test_a_network_is_exported(run: Run, tmp_path: Path) -> None:
    contexts = run.table.context
    assert contexts is not None
    expected = run.generator(contexts)
    run.export(str(tmp_path / "generator.pt2"))
    kept = {"schema": ""}
    network = torch.export.load(tmp_path / "generator.pt2", extra_files=kept).module()
    assert torch.allclose(network(contexts), expected, atol=1e-6)
    assert kept["schema"] == run.table.schema.to_json()
    with pytest.raises(RunError, match=r"must end in \.pt2 or \.onnx"):
        run.export(tmp_path / "generator.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["generator.pt2"]


class Exporter:
    """Takes the place of torch's, and keeps what it is given."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[Any] = []
        self.kept: dict[str, str] = {}
        patch.setattr(torch.export, "export", self.export)
        patch.setattr(torch.export, "save", self.save)
        patch.setattr(torch.onnx, "export", self.onnx)
        for name in ("onnx", "onnxscript"):
            patch.setitem(sys.modules, name, SimpleNamespace())

    def export(self, module: Any, given: Any, **options: Any) -> str:
        self.asked.append((module, given, options))
        return "program"

    def save(self, program: str, file: Any, *, extra_files: dict[str, str]) -> None:
        self.kept = extra_files
        file.write(program.encode())

    def onnx(self, program: str, **options: Any) -> Any:
        self.asked.append((program, options))
        return SimpleNamespace(
            model=SimpleNamespace(metadata_props=self.kept),
            save=lambda path: path.write_text(f"{program} in {path.name}"),
        )


def test_a_network_is_written_with_its_schema(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, schema = Exporter(monkeypatch), run.table.schema.to_json()
    run.export(tmp_path / "net.pt2")
    ((module, (example,), options),) = exporter.asked
    assert module is run.generator
    assert torch.equal(example, torch.zeros(2, run.table.schema.context_spec.width))
    ((name, sizes),) = options.pop("dynamic_shapes").items()
    assert (name, [(k, v.__name__) for k, v in sizes.items()]) == ("context", [(0, "batch")])
    assert options == {"strict": False}
    assert (tmp_path / "net.pt2").read_text() == "program"
    assert exporter.kept == {"schema": schema}
    exporter.kept = {}
    run.export(tmp_path / "net.onnx")
    assert exporter.asked[-1] == ("program", {"dynamo": True, "verbose": False})
    assert exporter.kept == {"schema": schema}
    assert (tmp_path / "net.onnx").read_text() == "program in generator.onnx"
    bare = torch.nn.Linear(1, 1)
    bare.context_spec = None  # type: ignore[assignment]
    assert _export._program(bare) == "program"
    assert exporter.asked[-1] == (bare, (), {"strict": False})


def test_a_network_that_cannot_be_written_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Exporter(monkeypatch)
    for name in ("onnx", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(
                ImportError, match=r"^ONNX is missing: pip install onnx onnxscript$"
            ):
                run.export(tmp_path / "net.onnx")
    ruled = replace(run, rules=Rules(run.table.schema.space, [Fix("cut", "good")]))
    spelt = replace(run, generator=AutoregressiveGenerator(run.table.schema.space))
    for made, place, told in (
        (run, tmp_path / "net.zip", f"{tmp_path / 'net.zip'} must end in .pt2 or .onnx"),
        (run, tmp_path / "no" / "a.pt2", f"there is no folder {tmp_path / 'no'} to write a.pt2 to"),
        (ruled, tmp_path / "a.pt2", "the run has rules, and a network of logits alone does not"),
        (spelt, tmp_path / "a.onnx", "the generator writes step by step: there is no one network"),
    ):
        with pytest.raises(RunError, match=f"^{re.escape(told)}"):
            made.export(place)
    assert not list(tmp_path.iterdir())


# the exporter's own
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_network_is_exported_to_onnx(run: Run, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnx, onnxscript, onnxruntime")
    pytest.importorskip("onnxscript", reason="needs onnx, onnxscript, onnxruntime")
    contexts = run.table.context
    assert contexts is not None
    run.export(tmp_path / "generator.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "generator.onnx")
    kept = session.get_modelmeta().custom_metadata_map
    assert kept["schema"] == run.table.schema.to_json()
    (given,) = session.get_inputs()
    for count in (1, 2, 7):
        (found,) = session.run(None, {given.name: contexts[:count].numpy()})
        expected = run.generator(contexts[:count])
        assert torch.allclose(torch.from_numpy(found), expected, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["generator.onnx"]


def test_settings_are_given_in_every_form(table: Path, tmp_path: Path) -> None:
    told: list[dict[str, float]] = []
    made = fit(
        {"cut": [0, 1, 2] * 10, "price": [1.0, 2.0, 3.0] * 10},
        tmp_path / "run",
        {
            "generator.steps": 5,
            "reproduction": {"steps": 5},
            "estimator.steps": 5,
            "judge.steps": 5,
        },
        score="price",
        maximise="mean",
        seed=3,
        fix=["cut=0|1"],
        log=lambda metrics, step: told.append(metrics),
    )
    assert (made.config.seed, made.config.maximise, made.config.generator.steps) == (3, "mean", 5)
    assert made.rules is not None
    assert told
    with pytest.raises(RunError, match=r"estimator\.memebrs in config: did you mean"):
        fit(table, tmp_path / "new", {"estimator.memebrs": 3}, score="score")
    read = read_table(table, score="score")
    with pytest.raises(ValueError, match="a Table is read already: exclude"):
        fit(read, tmp_path / "new", FitConfig(), exclude=["cut"])
    assert not (tmp_path / "new").exists()


def test_categories_without_a_row_are_told(table: Path) -> None:
    features: dict[str, Any] = {"cut": list("abcdefghi"), "shade": [1, 2]}
    sheet = {"cut": ["a", "b"] * 10, "shade": [1, 2] * 10, "score": [1.0, 2.0] * 10}
    with pytest.warns(TableWarning) as heard:
        read_input(sheet, score="score", features=features)
    assert [str(one.message) for one in heard] == [
        "no row has 'c', 'd', 'e', 'f', 'g', 'h' and 1 more of feature 'cut': the estimator knows "
        "nothing of this, and --unseen drop leaves it out (in Python unseen='drop')"
    ]
    features["cut"] = list("abc")
    with pytest.warns(TableWarning, match=r"no row has 'c' of feature 'cut': "):
        read_input(sheet, score="score", features=features)


def test_columns_are_excluded(table: Path) -> None:
    read = read_table(table, score="score", exclude=["price", "shop"])
    assert [feature.name for feature in read.schema.features] == ["cut", "shade"]
    with pytest.raises(TableError, match=r"no excluded column 'prize'.*did you mean 'price'"):
        read_table(table, score="score", exclude="prize")


def test_the_front_door_is_opened_late() -> None:
    code = (
        "import sys, discrete_grad; "
        "assert not [m for m in sys.modules if m.startswith(('discrete_grad.runs', 'pyarrow'))]; "
        "assert {'fit', 'load_run', 'Run'} <= {*dir(discrete_grad)}; "
        "assert discrete_grad.load_run is discrete_grad.runs.load_run"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        discrete_grad.fitt  # type: ignore[attr-defined]  # noqa: B018


def test_rows_are_edited_as_frames(run: Run) -> None:
    edited = run.edit(run.generate(pd.DataFrame(CONTEXTS), rows=1), edits=1)
    assert type(edited).__module__.startswith("pandas")
    assert (edited["estimated_score"] >= edited["score_before"]).all()


def test_every_search_of_an_edit_is_by_its_seed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("discrete_grad.runs.edit_rows")
    search, asked = module.swaps_of_run, []

    def noted(*given: Any, **options: Any) -> Any:
        asked.append(options)
        return search(*given, **options)

    monkeypatch.setattr(module, "swaps_of_run", noted)
    run.edit(run.generate(pd.DataFrame(CONTEXTS), rows=1), edits=2, seed=7)
    width = run.table.schema.space.width
    usual = {"least": 2 * width, "restarts": 8, "seed": 7}
    assert asked == [{**usual, "edits": 1}, {**usual, "edits": 2}]


def test_the_command_line_ranks_rows_of_ones_own(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "own.csv"
    lines = [f"{c},{s},east,11.5,my note" for c in ("fair", "good", "ideal") for s in "DEFG"]
    rows.write_text("\n".join(["cut,shade,shop,price,note", *lines, *lines, ""]))
    out = tmp_path / "ranked.csv"
    assert main(["score", str(run.folder), str(rows), "--out", str(out)]) == 0
    assert capsys.readouterr() == ("", "")
    pd.testing.assert_frame_equal(pd.read_csv(out), run.score(rows))
    assert main(["score", str(run.folder), str(rows)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["cut", "shade", "shop", "price", "note", *SCORES, "rank"]
    ranks = [int(line.split()[-1]) for line in printed[1:21]]
    assert ranks == sorted(ranks)
    assert ranks[0] == 1
    assert printed[21:] == ["and 4 more: --out FILE writes all"]
    rows.write_text("cut,shade,shop,price\nfar,D,east,11.5\nfair,Z,east,11.5\n")
    assert main(["score", str(run.folder), str(rows)]) == 2
    told = capsys.readouterr().err
    assert "column 'cut', row 1: 'far' is not among" in told
    assert "column 'shade', row 2: 'Z' is not among" in told
    assert main(["score", str(run.folder), str(rows), "--out", "a.txt"]) == 2
    assert "must end in .csv or .parquet" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"discrete-grad {version('discrete_grad')}\n"


def test_the_report_begins_with_the_rows_that_generate_writes(run: Run) -> None:
    part = rows_to_try(run)
    assert part["columns"] == ["shop", "price", "cut", "shade", "estimated_score", "judge_score"]
    shown = pd.DataFrame(part["rows"], columns=part["columns"])
    assert (part["contexts"], part["of"], len(shown)) == (6, 10, 12)
    contexts = shown[["shop", "price"]].drop_duplicates()
    made = run.generate(contexts, rows=2)
    pd.testing.assert_frame_equal(shown, made[part["columns"]])
    assert part["new"]
