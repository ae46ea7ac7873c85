"""The folder of a fit: laid out, gone on with and read back, each alone and without a fit."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_grad.data import NumericColumn, Schema, Table, Vocabulary
from discrete_grad.preferences import Preferences
from discrete_grad.rules import Fix, Rules
from discrete_grad.runs import FitConfig, _folder, load_run, read_rules
from discrete_grad.runs._digests import digest_of, pair_tensors, table_digest, table_tensors
from discrete_grad.runs._measurements import Told
from discrete_grad.runs._parts import METRICS, RunParts
from discrete_grad.runs._refit import RefitWarning
from discrete_grad.runs._stages import Work
from discrete_grad.runs.fit import _Runner
from discrete_grad.runs.scorers._given import Scorers
from discrete_grad.runs.scorers._kept import FACTS, kept_facts
from discrete_grad.training import RunError
from discrete_grad.training.checkpoint import save_tensors
from discrete_grad.training.logs import no_log
from tests.runs.small import small_config

CUT, SIZE = Vocabulary("cut", ("fair", "good", "größer")), Vocabulary("size", (1, 2))
PLAIN = Schema((CUT, SIZE), (), "score")
WHOLE = Schema(
    (CUT, SIZE),
    (NumericColumn("price", 1.0, 2.0),),
    "score",
    ("cost",),
    ("cost",),
    feasible="ok",
)
CODES = torch.tensor([[0, 0], [2, 1], [1, 0]], dtype=torch.uint8)
CONTEXT, SCORES = torch.tensor([[0.5], [1.0], [2.0]]), torch.tensor([1.0, 2.0, 4.0]).double()
TABLE = Table(PLAIN, CODES, SCORES, None)
RICH = Table(WHOLE, CODES, SCORES, CONTEXT, -SCORES.unsqueeze(1), CODES[:1] + 0, CONTEXT[1:2] + 0)
PAIRS = Preferences(
    CODES.long(), CODES.long().flip(0), torch.tensor([0, 1, 2]), annotators=("ann",)
)


def told(message: str) -> Any:
    return pytest.raises(RunError, match=f"^{re.escape(message)}")


def lay_out(folder: Path, table: Table = TABLE, **changes: Any) -> None:
    config = changes.pop("config", FitConfig())
    usual: dict[str, Any] = {"resume": False, "source": {"example": "small"}}
    _folder.open_folder(folder, table, config, **{**usual, **changes})


def rules(most: int = 100) -> Rules:
    return Rules(PLAIN.space, [Fix("cut", "größer")], max_states=most)


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- laid out, and gone on with -------------------------------------------------------------------


def test_what_was_laid_out_is_read_back(tmp_path: Path) -> None:
    lay_out(tmp_path / "a", preferences=PAIRS, rules=rules(), config=FitConfig(seed=3))
    settings = _folder.read_settings(tmp_path / "a")
    assert settings["config"] == FitConfig(seed=3)
    assert settings["source"] == {"example": "small"}
    assert settings["calibrated"] is True
    assert settings["scorers"] is None
    table = _folder.load_table(tmp_path / "a", settings)
    assert (table.schema, table.codes.dtype) == (PLAIN, torch.uint8)
    assert torch.equal(table.codes, CODES)
    kept = _folder.load_preferences(tmp_path / "a", settings, PLAIN)
    assert kept is not None
    assert kept.annotators == ("ann",)
    assert torch.equal(kept.outcome, PAIRS.outcome)
    read = _folder.load_rules(tmp_path / "a", settings, table)
    assert read is not None
    assert ([rule.words() for rule in read.rules], read.max_states) == (["cut is größer"], 100)
    lay_out(tmp_path / "b", RICH)
    settings = _folder.read_settings(tmp_path / "b")
    table = _folder.load_table(tmp_path / "b", settings)
    assert table_digest(table) == table_digest(RICH) == settings["table"]
    assert table.failed_codes is not None
    assert table.failed_codes.dtype == torch.uint8
    assert _folder.load_preferences(tmp_path / "b", settings, WHOLE) is None
    assert _folder.load_rules(tmp_path / "b", settings, table) is None
    names = ["config.json", "rows.safetensors", "schema.json"]
    assert [*written(tmp_path / "b")] == names


def test_a_folder_is_gone_on_with_where_that_is_asked_for_and_nothing_differs(
    tmp_path: Path,
) -> None:
    given: dict[str, Any] = {"preferences": PAIRS, "rules": rules()}
    lay_out(tmp_path, **given)
    before = written(tmp_path)
    with told(f"{tmp_path} holds a fit; use --resume or another folder"):
        lay_out(tmp_path, **given)
    lay_out(tmp_path, resume=True, **given)
    lay_out(tmp_path, resume=True, config=FitConfig(tensorboard=True), **given)
    assert written(tmp_path) == before
    other = replace(TABLE, scores=SCORES + 1)
    for table, changes, message in (
        (other, {}, f"{tmp_path} is a fit of another table"),
        (TABLE, {"preferences": None}, f"{tmp_path} is a fit of other preferences, or of none"),
        (TABLE, {"config": FitConfig(seed=4)}, f"{tmp_path} was begun with seed = 0, not 4; "),
    ):
        with told(message):
            lay_out(tmp_path, table, resume=True, **given | changes)
        assert written(tmp_path) == before


def test_other_rules_or_settings_of_the_generator_are_written_at_last(tmp_path: Path) -> None:
    lay_out(tmp_path, rules=rules())
    config = FitConfig(polish=True)
    with pytest.warns(RefitWarning, match="the generator is fitted anew"):
        lay_out(tmp_path, rules=rules(), config=config, resume=True, source={"other": 1})
    settings = _folder.read_settings(tmp_path)
    assert (settings["config"], settings["source"]) == (config, {"example": "small"})
    with pytest.warns(RefitWarning):
        lay_out(tmp_path, rules=rules(7), config=config, resume=True)
    assert _folder.read_settings(tmp_path)["rules"]["max_states"] == 7
    with pytest.warns(RefitWarning):
        lay_out(tmp_path, rules=Rules(PLAIN.space, [Fix("size", "1")]), config=config, resume=True)
    assert 'feature = "size"' in (tmp_path / "rules.toml").read_text()
    with pytest.warns(RefitWarning):
        lay_out(tmp_path, config=config, resume=True)
    assert _folder.read_settings(tmp_path)["rules"] is None
    fits = tmp_path / "rounds" / "fits"
    (fits / "000002").mkdir(parents=True)
    lay_out(tmp_path, config=config, resume=True)
    (fits / "000002.finished").touch()
    before = (tmp_path / "config.json").read_bytes()
    with told(f"{tmp_path} holds rounds, whose fits have the settings of the first one; "):
        lay_out(tmp_path, resume=True)
    assert (tmp_path / "config.json").read_bytes() == before


def test_each_stage_is_logged_from_where_the_one_before_it_ended(tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}

    def trained(name: str) -> Any:
        def train(model: nn.Module, *, log: Any, **given: Any) -> None:
            seen[name] = (tmp_path / METRICS).read_text().splitlines()
            log({name: 1.0}, 5)

        return train

    def stage(name: str) -> Any:
        made: Any = SimpleNamespace(name=name, model=lambda work: nn.Linear(1, 1))
        made.trainer = lambda work: trained(name)
        return made

    lay_out(tmp_path)
    (tmp_path / METRICS).touch()
    (tmp_path / "state").mkdir(exist_ok=True)
    work = Work(tmp_path, FitConfig(), TABLE, {}, None, torch.device("cpu"), None)
    _Runner(work, no_log).finish(stage("judge"))
    first = (tmp_path / METRICS).read_text()
    # a second stage that was killed: lines without a state are written anew
    (tmp_path / METRICS).write_text(first + '{"step": 1, "estimator": 2.0}\n')
    again = _Runner(work, no_log)
    for name in ("judge", "estimator"):
        again.finish(stage(name))
    assert seen == {"judge": [], "estimator": first.splitlines()}
    both = (tmp_path / METRICS).read_text()
    assert both == first + '{"step": 5, "estimator": 1.0}\n'
    # a third with a state, which knows itself where its lines end
    state = work.folder / "state" / work.weights("generator").name
    state.touch()
    (tmp_path / METRICS).write_text(both + "more\n")
    again.finish(stage("generator"))
    assert seen["generator"] == [*both.splitlines(), "more"]
    assert not state.exists()


def test_a_folder_with_anything_else_is_taken(tmp_path: Path) -> None:
    for name in ("rows.safetensors", "rules.toml", ".rows.safetensors.x1.part", "tensorboard"):
        (tmp_path / name).touch()  # as a fit that was killed leaves them
    lay_out(tmp_path)
    for name in ("notes.txt", "my.rules.toml", "rules.toml.bak", "a.part"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).touch()
        (folder / "zzz").touch()
        with told(f"{folder} is not empty, it holds {name!r}; use another folder"):
            lay_out(folder)
        assert [*written(folder)] == [name, "zzz"]


def test_what_a_person_may_open_has_a_line_for_each_entry(tmp_path: Path) -> None:
    lay_out(tmp_path)
    given: Any = SimpleNamespace(facts={"scorer": "mine"}, scorer=SimpleNamespace(calls=Counter()))
    Scorers.save_facts(given, tmp_path)
    for name in ("config.json", FACTS):
        text = (tmp_path / name).read_text()
        assert text.count("\n") > len(json.loads(text))


# --- read back ------------------------------------------------------------------------------------


def of_table(folder: Path, tensors: dict[str, Tensor], schema: Schema = PLAIN) -> dict[str, Any]:
    """Settings of a folder with these rows; of its digest are those that a table may have."""
    save_tensors(folder / "rows.safetensors", tensors, {})
    (folder / "schema.json").write_text(schema.to_json())
    names = ("codes", "scores", "context", "more_scores", "failed_codes", "failed_context")
    rows = {name: tensors[name] for name in names if name in tensors}
    return {"table": digest_of(rows, schema.to_json())}


def test_rows_that_are_not_those_of_the_fit_are_refused(tmp_path: Path) -> None:
    tensors = {"codes": CODES, "scores": SCORES}
    settings = of_table(tmp_path, tensors)
    for kind in (torch.uint8, torch.int16, torch.int64):  # as versions wrote them
        assert of_table(tmp_path, {"codes": CODES.to(kind), "scores": SCORES}) == settings
        table = _folder.load_table(tmp_path, settings)
        assert (table.codes.tolist(), table.codes.dtype) == (CODES.tolist(), torch.uint8)
    changed = f"{tmp_path / 'rows.safetensors'} or schema.json was changed after the fit"
    for some in (
        tensors | {"scores": SCORES + 1},
        tensors | {"codes": CODES.flip(0)},
        tensors | {"other": SCORES + 1},
    ):
        save_tensors(tmp_path / "rows.safetensors", some, {})
        with told(changed):
            _folder.load_table(tmp_path, settings)
    with told(changed):  # though its own rows are those of the fit
        _folder.load_table(tmp_path, of_table(tmp_path, tensors | {"other": SCORES + 1}))
    settings = of_table(tmp_path, tensors)
    (tmp_path / "schema.json").write_text(replace(PLAIN, score="price").to_json())
    with told(changed):
        _folder.load_table(tmp_path, settings)
    (tmp_path / "schema.json").write_text("{")
    with told(f"{tmp_path / 'schema.json'} is missing or damaged: "):
        _folder.load_table(tmp_path, settings)
    with told(f"{tmp_path / 'rows.safetensors'} is damaged, or of another version: ValueError sc"):
        _folder.load_table(tmp_path, of_table(tmp_path, tensors | {"scores": SCORES[:2]}))


def test_preferences_and_rules_that_are_not_those_of_the_fit_are_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, preferences=PAIRS, rules=rules())
    settings = _folder.read_settings(tmp_path)
    path = tmp_path / "preferences.safetensors"
    for tensors, names in (
        (pair_tensors(PAIRS), ["bob"]),
        (pair_tensors(PAIRS) | {"outcome": PAIRS.outcome.flip(0)}, ["ann"]),
    ):
        save_tensors(path, tensors, {"annotators": names})
        with told(f"{path} was changed after the fit, or is of another one"):
            _folder.load_preferences(tmp_path, settings, PLAIN)
    save_tensors(path, pair_tensors(PAIRS) | {"first": PAIRS.first + 2}, {"annotators": ["ann"]})
    with told(f"{path} is damaged, or of another version: ValueError first row, feature 'cut'"):
        _folder.load_preferences(tmp_path, settings, PLAIN)
    save_tensors(path, pair_tensors(PAIRS), {"annotators": ["ann"]})
    with told(f"{path} is damaged, or of another version: ValueError preferences with contexts"):
        _folder.load_preferences(tmp_path, settings, WHOLE)
    path = tmp_path / "rules.toml"
    path.write_text(path.read_text().replace("größer", "good"))
    with told(f"{path} was changed after the fit; further rules are an option of generate"):
        _folder.load_rules(tmp_path, settings, TABLE)
    path.unlink()
    with told(f"{path} is missing or damaged: "):
        _folder.load_rules(tmp_path, settings, TABLE)


def test_settings_that_are_none_are_damage(tmp_path: Path) -> None:
    with told(f"{tmp_path} holds no fit: config.json is missing"):
        _folder.read_settings(tmp_path)
    lay_out(tmp_path, source={})
    path = tmp_path / "config.json"
    fine = json.loads(path.read_text())
    assert _folder.read_settings(tmp_path)["source"] == {}
    config = fine["config"]
    damage = f"{path} is damaged, or of another version: "
    for changes, message in (
        ({"source": "small"}, "source must be a table, got 'small'"),
        ({"source": {"example": 3}}, "the example must be text, got 3"),
        ({"rules": {"digest": 3}}, "the digest of rules must be text, got 3"),
        ({"config": config | {"seed": "3"}}, "seed must be a whole number, got '3'"),
        ({"config": config | {"polish": 1}}, "polish must be true or false, got 1"),
        ({"config": config | {"judge_share": 2.0}}, "judge_share must lie between 0 and 1"),
        ({"config": config | {"maximise": None}}, "maximise must be one of rank, mean, median, "),
    ):
        path.write_text(json.dumps(fine | changes))
        with told(damage + message):
            _folder.read_settings(tmp_path)
    for name in ("source", "table"):
        path.write_text(json.dumps({key: value for key, value in fine.items() if key != name}))
        with told(f"{damage}{name!r}"):
            _folder.read_settings(tmp_path)
    tau = config | {"generator": config["generator"] | {"tau": None}}
    early = {key: value for key, value in tau.items() if key != "maximise"}
    path.write_text(json.dumps(fine | {"config": early | {"score_scale": "standard"}}))
    settings = _folder.read_settings(tmp_path)
    assert (settings["calibrated"], settings["config"].maximise) == (False, "mean")


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ('"members": 3', '"members": "three"', "estimator.members must be a whole number, got 'th"),
        ('"members": 3', '"members": 3.5', "estimator.members must be a whole number, got 3.5"),
        ('"members": 3', '"members": null', "estimator.members must be a whole number, got None"),
        ('"members": 3', '"members": -3', "estimator.members must be at least 1, got -3"),
        ('"maximise": "rank"', '"maximise": "best"', "maximise must be one of rank, mean, median"),
        ('"hidden": [', '"hidden": ["a", ', "estimator.hidden must be a list of whole numbers"),
        ('"source": {}', '"source": 3', "source must be a table, got 3"),
        ('"config": {', '"config": [], "other": {', "'seed'"),
        ('"judge_share": 0.2', '"judge_share": 2', "judge_share must lie between 0 and 1, got 2"),
    ],
)
def test_a_setting_damaged_by_hand_is_named(
    before: str, after: str, fault: str, tmp_path: Path
) -> None:
    lay_out(tmp_path / "run", source={}, config=small_config())
    path = tmp_path / "run" / "config.json"
    content = " ".join(path.read_text().split())
    assert before in content
    path.write_text(content.replace(before, after, 1))
    with pytest.raises(RunError, match=r"config\.json is damaged, or of another version: ") as told:
        load_run(tmp_path / "run")
    assert fault in str(told.value)


def test_weights_that_are_of_another_model_are_refused(tmp_path: Path) -> None:
    path, fine = tmp_path / "a.safetensors", nn.Linear(2, 1).state_dict()
    save_tensors(path, fine, {"metrics": 7})
    model = nn.Linear(2, 1)
    assert _folder.load_weights(model, path) == {"metrics": 7}
    assert torch.equal(model.weight, fine["weight"])
    for changes, message in (
        ({"bias": fine["bias"].double()}, "does not fit the run's settings: bias must be torch.fl"),
        ({"bias": fine["bias"] + torch.nan}, "is damaged: bias holds NaN or infinity"),
        ({"bias": fine["bias"] + torch.inf}, "is damaged: bias holds NaN or infinity"),
        ({"bias": fine["bias"].repeat(2)}, "does not fit the run's settings"),
        ({"other": fine["bias"] + 1}, "does not fit the run's settings"),
    ):
        save_tensors(path, fine | changes, {})
        with told(f"{path} {message}"):
            _folder.load_weights(nn.Linear(2, 1), path)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose own encoding is not UTF-8."""
    read = Path.read_text

    def read_text(self: Path, encoding: str | None = None, *more: Any, **named: Any) -> str:
        return read(self, encoding or "ascii", *more, **named)

    monkeypatch.setattr(Path, "read_text", read_text)


@pytest.mark.usefixtures("elsewhere")
def test_every_text_is_read_as_utf_8_wherever_it_was_written(tmp_path: Path) -> None:
    def in_letters(name: str, **more: Any) -> None:
        path = tmp_path / name
        found = json.loads(path.read_bytes()) if path.exists() else {}
        path.write_bytes(json.dumps(found | more, ensure_ascii=False).encode())

    lay_out(tmp_path, rules=rules(), source={"example": "größer"})
    in_letters("config.json")
    settings = _folder.read_settings(tmp_path)
    assert settings["source"] == {"example": "größer"}
    assert _folder.load_rules(tmp_path, settings, TABLE) is not None
    in_letters("schema.json")
    text = (tmp_path / "schema.json").read_bytes().decode()
    kept = {"table": digest_of(table_tensors(TABLE), text)}
    assert _folder.load_table(tmp_path, kept).schema == PLAIN
    in_letters(FACTS, calls={"größer": 3})
    assert kept_facts(tmp_path) == {"calls": {"größer": 3}}
    in_letters(METRICS, step=1, größer=2.0)
    run = object.__new__(RunParts)
    object.__setattr__(run, "folder", tmp_path)
    assert run.metrics() == [{"step": 1, "größer": 2.0}]
    in_letters("guidance.json", pessimism=0.5, reward_unit=2, größer=1)
    work = Work(tmp_path, FitConfig(), TABLE, {}, None, torch.device("cpu"))
    assert work.guidance == {"pessimism": 0.5, "reward_unit": 2.0}


# --- measurements, and rules of one's own ---------------------------------------------------------


def test_equal_numbers_are_one_measurement_whatever_their_sign() -> None:
    one, other = (
        Told(CODES[:1].long(), torch.tensor([[z, 1.0]]).double(), torch.tensor([[z]]), ("a",))
        for z in (0.0, -0.0)
    )
    assert one.lines() == other.lines()


def test_a_file_of_rules_that_is_none_is_told_how(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "is a directory, not a file"), (tmp_path / "a", "does not exist")):
        with told(f"the file of rules {path} {why}"):
            read_rules(path, TABLE)
