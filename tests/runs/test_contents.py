"""Content of a run's files: each check alone, at its bounds, with its message."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad.data import NumericColumn, Schema, Table, Vocabulary
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.score_scale import KNOTS, ScoreScale
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.runs import FitConfig, _calibrate, _folder, _parts, _room
from discrete_grad.runs._content_checks import check_rows, check_scale, check_table, check_told
from discrete_grad.runs._digests import (
    digest_of,
    pair_tensors,
    table_digest,
    table_tensors,
    text_digest,
)
from discrete_grad.runs._prepared import load_prepared
from discrete_grad.runs.aim_words import read_tradeoff
from discrete_grad.runs.scorers import _kept
from discrete_grad.training import RunError
from discrete_grad.training.checkpoint import save_tensors

CUT, SIZE = Vocabulary("cut", ("fair", "good", "ideal")), Vocabulary("size", (1, 2))
PLAIN = Schema((CUT, SIZE), (), "score")
WITH_CONTEXT = Schema((CUT, SIZE), (NumericColumn("price", 1.0, 2.0),), "score", ("cost",))
CODES = torch.tensor([[0, 0], [2, 1], [1, 0]])
CONTEXT = torch.tensor([[0.5], [1.0], [2.0]])
SCORES = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)


def refused(message: str) -> Any:
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


# --- scales ---------------------------------------------------------------------------------------


def scale(**changes: Any) -> ScoreScale:
    parts = {"kind": "rank", "unit": 2.0, "keys": torch.tensor([3, 5]), "spec": None}
    parts["grid"] = torch.zeros(3, KNOTS, dtype=torch.float64)
    parts["ends"] = torch.zeros(3, 2, dtype=torch.float64)
    return ScoreScale(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "evil"}, "scale must be one of rank, standard, raw, got 'evil'"),
        (
            {"keys": torch.tensor([3, 5], dtype=torch.int32)},
            "scale/keys must be (2,) of torch.int64, got (2,) of torch.int32",
        ),
        ({"keys": torch.tensor([5, 5])}, "scale/keys must increase"),
        (
            {"grid": torch.zeros(2, KNOTS, dtype=torch.float64)},
            f"scale/grid must be (3, {KNOTS}) of torch.float64, got (2, {KNOTS}) of torch.float64",
        ),
        (
            {"ends": torch.zeros(3, 2)},
            "scale/ends must be (3, 2) of torch.float64, got (3, 2) of torch.float32",
        ),
        (
            {"ends": torch.full((3, 2), math.nan, dtype=torch.float64)},
            "scale/ends holds NaN or infinity",
        ),
        ({"unit": 0.0}, "the unit of scale must be above 0 and finite, got 0.0"),
        ({"unit": math.inf}, "the unit of scale must be above 0 and finite, got inf"),
    ],
)
def test_a_scale_of_a_wrong_form_is_refused(changes: dict[str, Any], message: str) -> None:
    with refused(message):
        check_scale("scale", scale(**changes))


@pytest.mark.parametrize("kind", ["rank", "standard", "raw"])
def test_a_scale_of_each_kind_is_taken(kind: str) -> None:
    check_scale("scale", scale(kind=kind, unit=1e-9))


# --- rows -----------------------------------------------------------------------------------------


def scored(**changes: Any) -> ScoredRows:
    rows = ScoredRows(
        CODES,
        SCORES.float(),
        CONTEXT,
        behaviour=torch.zeros(3, 2),
        counts=torch.ones(3),
        spread=torch.zeros(3),
    )
    return replace(rows, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"codes": CODES[:, :1]},
            "rows/codes must be (3, 2) of torch.int64, got (3, 1) of torch.int64",
        ),
        ({"codes": CODES.float()}, "rows/codes must be whole numbers, got torch.float32"),
        ({"codes": CODES.bool()}, "rows/codes must be whole numbers, got torch.bool"),
        ({"codes": CODES - 1}, "rows/codes are beyond the categories of the table"),
        (
            {"codes": CODES.flip(1)},
            "rows/codes are beyond the categories of the table",
        ),
        (
            {"scores": SCORES},
            "rows/scores must be (3,) of torch.float32, got (3,) of torch.float64",
        ),
        ({"scores": SCORES.float() / 0}, "rows/scores holds NaN or infinity"),
        ({"context": None}, "rows/context must be there if, and only if, the table has contexts"),
        (
            {"context": CONTEXT[:2]},
            "rows/context must be (3, 1) of torch.float32, got (2, 1) of torch.float32",
        ),
        (
            {"behaviour": torch.zeros(2, 2)},
            "rows/behaviour must be (3, 2) of torch.float32, got (2, 2) of torch.float32",
        ),
        ({"behaviour": torch.full((3, 2), math.inf)}, "rows/behaviour holds NaN or infinity"),
        ({"counts": torch.tensor([1, 2, 0])}, "rows/counts must be at least 1"),
        (
            {"counts": torch.ones(2)},
            "rows/counts must be (3,) of torch.float32, got (2,) of torch.float32",
        ),
        ({"spread": torch.tensor([0.0, 0.0, -1e-9])}, "rows/spread must be at least 0"),
        ({"spread": torch.tensor([0.0, 0.0, math.nan])}, "rows/spread holds NaN or infinity"),
    ],
)
def test_rows_that_no_table_of_the_schema_has_are_refused(
    changes: dict[str, Tensor | None], message: str
) -> None:
    with refused(message):
        check_rows("rows", scored(**changes), WITH_CONTEXT)


def test_rows_at_the_bounds_are_taken() -> None:
    check_rows("rows", scored(codes=CODES.to(torch.uint8)), WITH_CONTEXT)
    few = scored(context=None, behaviour=None, counts=None, spread=None)
    check_rows("rows", few, PLAIN)
    check_rows("rows", few.part(torch.tensor([], dtype=torch.long)), PLAIN)
    with refused("rows/context must be there if, and only if, the table has contexts"):
        check_rows("rows", scored(), PLAIN)


# --- tables, rows of a round ----------------------------------------------------------------------


def of_table(**changes: Tensor | None) -> dict[str, Tensor]:
    tensors = {
        "codes": CODES,
        "scores": SCORES,
        "context": CONTEXT,
        "more_scores": SCORES.unsqueeze(1),
        "failed_codes": CODES[:1],
        "failed_context": CONTEXT[:1],
    }
    return {name: t for name, t in (tensors | changes).items() if t is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": CODES[:0]}, "the table has no row"),
        ({"codes": CODES + 1}, "codes are beyond the categories of the table"),
        (
            {"scores": SCORES.float()},
            "scores must be (3,) of torch.float64, got (3,) of torch.float32",
        ),
        ({"scores": SCORES / 0}, "scores holds NaN or infinity"),
        ({"context": None}, "context must be there if, and only if, the table has contexts"),
        (
            {"more_scores": None},
            "more_scores must be there for further scores, and only for these",
        ),
        (
            {"more_scores": SCORES.repeat(2, 1).T},
            "more_scores must be (3, 1) of torch.float64, got (3, 2) of torch.float64",
        ),
        (
            {"more_scores": SCORES.unsqueeze(1).float()},
            "more_scores must be (3, 1) of torch.float64, got (3, 1) of torch.float32",
        ),
        ({"failed_codes": CODES[:1] + 2}, "failed_codes are beyond the categories of the table"),
        (
            {"failed_context": CONTEXT},
            "failed_context must be (1, 1) of torch.float32, got (3, 1) of torch.float32",
        ),
        (
            {"failed_context": None},
            "failed_context must be there if, and only if, the table has contexts",
        ),
    ],
)
def test_tensors_that_the_schema_does_not_describe_are_refused(
    changes: dict[str, Tensor | None], message: str
) -> None:
    with refused(message):
        check_table(of_table(**changes), WITH_CONTEXT)


def test_tables_of_each_kind_are_taken() -> None:
    check_table(of_table(), WITH_CONTEXT)
    check_table(of_table(failed_codes=None), WITH_CONTEXT)
    check_table({"codes": CODES, "scores": SCORES}, PLAIN)
    unscored = {"codes": CODES, "scores": torch.full_like(SCORES, math.nan)}
    check_table(unscored, replace(PLAIN, score=""))
    with refused("scores holds NaN or infinity"):
        check_table(unscored, PLAIN)
    with refused("more_scores must be there for further scores, and only for these"):
        check_table({"codes": CODES, "scores": SCORES, "more_scores": SCORES[:, None]}, PLAIN)
    odd = replace(CUT, name=3)  # type: ignore[arg-type]
    with refused("the name of a column must be text, got 3"):
        check_table(of_table(), replace(WITH_CONTEXT, context=(odd,)))


def of_round(**changes: Tensor) -> dict[str, Tensor]:
    two = torch.stack([SCORES, torch.full_like(SCORES, math.nan)], 1)
    return {"codes": CODES, "context": CONTEXT, "scores": two} | changes


NAMES = "each row needs a name, and scores that are finite or NaN"


@pytest.mark.parametrize(
    ("changes", "names", "message"),
    [
        ({"codes": CODES + 1}, ["a"] * 3, "codes are beyond the categories of the table"),
        (
            {"context": CONTEXT[:, :0]},
            ["a"] * 3,
            "context must be (3, 1) of torch.float32, got (3, 0) of torch.float32",
        ),
        (
            {"scores": SCORES[:, None]},
            ["a"] * 3,
            "scores must be (3, 2) of torch.float64, got (3, 1) of torch.float64",
        ),
        ({}, ["a"] * 2, NAMES),
        ({}, ["a", "b", 3], NAMES),
        ({}, "abc", NAMES),
        ({}, None, NAMES),
        ({"scores": SCORES[:, None] / torch.tensor([1.0, 0.0])}, ["a"] * 3, NAMES),
    ],
)
def test_rows_of_a_round_that_do_not_fit_are_refused(
    changes: dict[str, Tensor], names: object, message: str
) -> None:
    with refused(message):
        check_told(of_round(**changes), names, WITH_CONTEXT)


def test_rows_of_a_round_are_taken_with_scores_and_without() -> None:
    check_told(of_round(), ["a", "b", ""], WITH_CONTEXT)
    proposed = {"codes": CODES, "context": CONTEXT}
    check_told(proposed, None, WITH_CONTEXT)
    check_told({"codes": CODES, "context": CONTEXT[:, :0]}, None, PLAIN)
    with refused("context must be (3, 0) of torch.float32, got (3, 1) of torch.float32"):
        check_told(proposed, None, PLAIN)


# --- digests --------------------------------------------------------------------------------------


def test_digests_are_those_of_earlier_versions() -> None:
    assert text_digest("ä").startswith("33e6d73fee82904c")
    numbers = {"codes": CODES.to(torch.uint8), "scores": SCORES}
    assert digest_of(numbers, "text").startswith("b79fcae38efb337e")
    assert digest_of({**numbers, "codes": CODES}, "text") == digest_of(numbers, "text")
    assert digest_of(numbers, 3) == digest_of(numbers, "3") != digest_of(numbers, "text")


def test_a_digest_is_of_all_rows_however_many() -> None:
    many = torch.arange(2**17 + 5)
    assert digest_of({"x": many}, "") == digest_of({"a": many[:70_000], "b": many[70_000:]}, "")
    assert digest_of({"x": many}, "") != digest_of({"x": many[:-1]}, "")


def test_tables_and_preferences_are_digested_whole() -> None:
    table = Table(WITH_CONTEXT, CODES, SCORES, CONTEXT, SCORES[:, None], CODES[:1], CONTEXT[:1])
    names = ["codes", "scores", "context", "more_scores", "failed_codes", "failed_context"]
    assert list(table_tensors(table)) == names
    assert list(table_tensors(Table(PLAIN, CODES, SCORES, None))) == ["codes", "scores"]
    assert table_digest(table).startswith("71166829a80ff2d6")
    assert table_digest(table) == digest_of(table_tensors(table), WITH_CONTEXT.to_json())
    pairs = Preferences(CODES, CODES.flip(0), torch.tensor([1.0, 0.0, 0.5]))
    assert list(pair_tensors(pairs)) == ["first", "second", "outcome"]


# --- trade-offs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yield", "a trade-off is written yield=.7,cost=.3: 'yield' is no part of one"),
        ("yield=.7,", "a trade-off is written yield=.7,cost=.3: '' is no part of one"),
        ("=.7", "a trade-off is written yield=.7,cost=.3: '=.7' is no part of one"),
        ("a=x", "a trade-off is written yield=.7,cost=.3: 'a=x' is no part of one"),
        ("a=1, a=2", "the trade-off names 'a' twice"),
    ],
)
def test_a_trade_off_that_is_none_is_told(text: str, message: str) -> None:
    with pytest.raises(RunError, match=f"^{re.escape(message)}$"):
        read_tradeoff(text)


def test_a_name_may_hold_an_equals_sign() -> None:
    assert read_tradeoff(" a=b = .5 ,c=1e-1") == {"a=b": 0.5, "c": 0.1}


# --- settings, facts and logs, as `json` reads them -----------------------------------------------

SAID = {"reference": None, "name": "mine", "takes": "frame"}


def of_settings(**changes: Any) -> dict[str, Any]:
    usual = {"rules": {"digest": "x", "max_states": 5}, "scorers": {"scorer": SAID, "judge": SAID}}
    return usual | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": {"digest": 3}}, "the digest of rules must be text, got 3"),
        (
            {"rules": {"digest": "x", "max_states": 0}},
            "max_states must be 1 to 10,000,000, got 0",
        ),
        (
            {"rules": {"digest": "x", "max_states": 10_000_001}},
            "max_states must be 1 to 10,000,000, got 10000001",
        ),
        (
            {"rules": {"digest": "x", "max_states": True}},
            "max_states must be 1 to 10,000,000, got True",
        ),
        ({"scorers": []}, "scorers must be a table of ['scorer', 'judge'], got []"),
        (
            {"scorers": {"estimator": SAID}},
            f"scorers must be a table of ['scorer', 'judge'], got { ({'estimator': SAID})!r}",
        ),
        (
            {"scorers": {"judge": SAID | {"name": 3}}},
            f"a scorer of an unknown form: {(SAID | {'name': 3})!r}",
        ),
        (
            {"scorers": {"judge": SAID | {"takes": "rows"}}},
            f"a scorer of an unknown form: {(SAID | {'takes': 'rows'})!r}",
        ),
        (
            {"scorers": {"scorer": SAID | {"reference": "a b"}}},
            "the scorer must be written package.module:name, got 'a b'",
        ),
    ],
)
def test_what_is_said_of_rules_and_scorers_in_a_wrong_form(
    changes: dict[str, Any], message: str
) -> None:
    with refused(message):
        _folder._check_inputs(of_settings(**changes))


def test_what_may_be_said_of_rules_and_scorers() -> None:
    for states in (1, 10**7, None):
        _folder._check_inputs(of_settings(rules={"digest": "x", "max_states": states}))
    for takes in ("codes", "channels", "frame", "text-categories"):
        scorer = SAID | {"takes": takes, "reference": "my.scorers:best"}
        _folder._check_inputs(of_settings(rules=None, scorers={"scorer": scorer}))
    _folder._check_inputs(of_settings(rules=None, scorers=None))


def test_which_other_fit_a_folder_holds() -> None:
    config = FitConfig()
    begun: dict[str, Any] = {"table": "t", "preferences": None, "rules": None, "scorers": None}
    now = dict(begun)
    other = replace(config, seed=4)
    _folder._compare(Path("run"), begun | {"config": config}, now, config)
    for name, told in {
        "table": "run is a fit of another table",
        "preferences": "run is a fit of other preferences, or of none",
        "rules": "run is a fit under other rules, or under none",
        "scorers": "run is a fit by another scorer or judge, or by none",
    }.items():
        with refused(told):
            _folder._compare(Path("run"), begun | {"config": config}, now | {name: "x"}, config)
    end = "; resume with the same settings{}, or fit in another folder"
    for scorers, but in (
        (None, ", but for those of the generator"),
        ({"scorer": SAID}, " (of a fit by a scorer of one's own, the generator's too)"),
    ):
        kept = begun | {"scorers": scorers, "config": config}
        with refused(f"run was begun with seed = 0, not 4{end.format(but)}"):
            _folder._compare(Path("run"), kept, now | {"scorers": scorers}, other)


FINE = {"distilled": {"mean": 1.0, "error": 0.1, "rows": 9}, "chosen": "direct"}
FINE["direct"] = FINE["distilled"]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ([], "it must be a table of calls and comparison, got []"),
        ({"call": {}}, "it must be a table of calls and comparison, got {'call': {}}"),
        ({"calls": {"other": 1.0}}, "calls must be whole numbers, got {'other': 1.0}"),
        ({"calls": {"other": True}}, "calls must be whole numbers, got {'other': True}"),
        ({"comparison": FINE | {"chosen": "best"}}, "a comparison of a wrong form: "),
        ({"comparison": FINE | {"direct": {"mean": math.nan, "error": 0.1, "rows": 9}}}, "a comp"),
        ({"comparison": FINE | {"distilled": {"mean": 1, "error": math.inf, "rows": 9}}}, "a comp"),
        ({"comparison": FINE | {"direct": {"mean": 1, "error": 1, "rows": math.inf}}}, "a compar"),
    ],
)
def test_facts_on_a_scorer_in_a_wrong_form(facts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        _kept._checked(facts)
    assert _kept._checked({"calls": {"other": 3}, "comparison": FINE})["comparison"] is FINE
    assert _kept._checked({}) == {}


LINE, NAN = torch.arange(6, dtype=torch.float64).view(2, 3), math.nan


def curves(path: Path, measures: Any, **changes: Tensor | None) -> Path:
    usual = {f"{name}/{side}": LINE for name in ("estimator", "judge") for side in "xy"}
    given = usual | {name.replace("_", "/"): tensor for name, tensor in changes.items()}
    save_tensors(path, {n: t.clone() for n, t in given.items() if t is not None}, measures)
    return path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        *(({name: LINE[0]}, "does not fit the run's table") for name in ("judge_x", "judge_y")),
        ({"judge_x": LINE[:, :2]}, "does not fit the run's table"),
        ({"judge_x": LINE[:, :0], "judge_y": LINE[:, :0]}, "does not fit the run's table"),
        ({"judge_x": LINE[:1], "judge_y": LINE[:1]}, "does not fit the run's table"),
        ({"judge_x": LINE.float()}, "is damaged: a curve of judge must be finite float64"),
        ({"judge_y": LINE.float()}, "is damaged: a curve of judge must be finite float64"),
        ({"estimator_x": LINE / 0}, "is damaged: a curve of estimator must be finite float64"),
        ({"estimator_y": LINE * NAN}, "is damaged: a curve of estimator must be finite float64"),
    ],
)
def test_a_calibration_of_another_form_is_refused(
    tmp_path: Path, changes: dict[str, Tensor], told: str
) -> None:
    path = curves(tmp_path / "a.safetensors", {}, **changes)
    with refused(f"{path} {told}"):
        _calibrate._load_calibration(path, 2)


@pytest.mark.parametrize("rank", [1.5, -1.01, 1, True, "0.5", [0.5], NAN])
@pytest.mark.parametrize("name", ["spearman", "baseline"])
def test_measures_that_are_no_rank_correlations_are_refused(
    tmp_path: Path, name: str, rank: object
) -> None:
    path = curves(tmp_path / "a.safetensors", {name: rank, "rows": 7})
    with pytest.raises(
        RunError, match=r"a.safetensors is damaged: \[.*\] are no rank correlations"
    ):
        _calibrate._load_calibration(path, 2)


def test_a_calibration_is_read_as_far_as_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for measures in ({}, {"spearman": None, "baseline": -1.0}, {"spearman": 1.0, "rows": 7}):
        found, told = _calibrate._load_calibration(curves(path, measures), 2)
        assert told == measures
        assert [name for name, curve in found.items() if curve is not None] == [
            "estimator",
            "judge",
        ]
    for half in ("judge_x", "judge_y"):
        found, _ = _calibrate._load_calibration(curves(path, {}, **{half: None}), 2)
        assert found["judge"] is None
        assert found["estimator"] is not None
        assert torch.equal(found["estimator"].y, LINE)
    with pytest.raises(RunError, match="are no rank correlations"):
        _calibrate._load_calibration(curves(path, [3]), 2)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"loss": 1.0}', 'a line without a step: {"loss": 1.0}'),
        ("[1, 2]", "a line without a step: [1, 2]"),
        (
            '{"step": 1, "loss": "low"}',
            'a line with other than numbers: {"step": 1, "loss": "low"}',
        ),
        ('{"step": 1, "loss": null}', 'a line with other than numbers: {"step": 1, "loss": null}'),
        ('{"step": true}', 'a line with other than numbers: {"step": true}'),
    ],
)
def test_a_line_of_the_log_that_is_none(line: str, told: str) -> None:
    with refused(told):
        _parts._logged(line)
    assert _parts._logged('{"step": 1, "loss": 0.5}') == {"step": 1, "loss": 0.5}


def test_room_is_counted_by_the_sizes_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_room, "_SPARE", 50_000)
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(100))
    with _room.RoomFor(path) as room:
        assert room.left == 16 * 100 + 50_000
        torch.zeros(5, 3)
        torch.zeros(())
        torch.ones(3).add(1)
        left = 51_600 - 4096 * 3 - 4 * (15 + 1 + 3)
        assert room.left == left
        torch.zeros((left - 4096) // 4)
        assert 0 <= room.left < 4
        told = r"a.safetensors does not fit the run's settings, which make a far larger model$"
        with pytest.raises(RunError, match=told):
            torch.zeros(1)


def test_why_prepared_rows_do_not_fit_is_told_in_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "prepared.safetensors"
    save_tensors(path, {f"a\n{'x' * 400}/codes": CODES}, {})
    with pytest.raises(RunError) as caught:
        load_prepared(path, PLAIN)
    reason = "'a\\n" + "x" * 296
    assert str(caught.value) == f"{path} does not fit the run's table: {reason}"
