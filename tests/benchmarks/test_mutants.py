"""Which mutants are tried, and what the table says of them."""

import json
from pathlib import Path

import pytest

from benchmarks import mutants
from benchmarks.mutants import MutantsConfig, Room, chosen, known_rooms, room_of
from benchmarks.mutants_table import mutants_of, states, write_table

pytest.importorskip("mutmut")
_FILE = "discrete_grad/small.py"
_CODE = """\
import torch


def total(sides: list[int]) -> int:
    pairs = zip(sides, sides, strict=True)
    if not sides:
        raise ValueError("nothing")
    return sum(a + 2 * b for a, b in pairs)
"""


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """A copy as `lay_out` makes it, with the results of a run."""
    folder = tmp_path / "small"
    (folder / "mutants" / "discrete_grad").mkdir(parents=True)
    (folder / "discrete_grad").mkdir()
    (folder / _FILE).write_text(_CODE)
    settings = mutants._CONFIG.format(
        package="discrete_grad", files="[]", tests="[]", kept="a", order="a"
    )
    (folder / "pyproject.toml").write_text(settings)
    found = Room("small", folder, [_FILE], [])
    names = {mutant.now: mutant.name for mutant in mutants_of(folder, _FILE)}
    codes = dict.fromkeys(names.values())
    codes[names["return sum(a - 2 * b for a, b in pairs)"]] = 1
    codes[names["return sum(a + 2 / b for a, b in pairs)"]] = 0
    codes[names["return sum(a + 3 * b for a, b in pairs)"]] = 36
    codes[names["pairs = zip(sides, sides, strict=False)"]] = 0
    codes[names["if sides:"]] = 33
    (folder / "mutants" / f"{_FILE}.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    return found


def test_the_table_counts_each_mutant_once(room: Room, tmp_path: Path) -> None:
    write_table(tmp_path, tmp_path)
    (told,) = json.loads((tmp_path / "mutants.json").read_text())["small"]
    counts = {key: told[key] for key in ("tried", "killed", "stopped", "equivalent")}
    assert counts == {"tried": 5, "killed": 2, "stopped": 1, "equivalent": 1}
    lived = {(s["state"], s["now"]) for s in told["survivors"]}
    wanted = {("survived", "return sum(a + 2 / b for a, b in pairs)"), ("no test", "if sides:")}
    assert lived == wanted
    assert f"| small | {told['mutants']} | 5 | 33.3% | 1 | 1 | 2 |" in (
        (tmp_path / "mutants.md").read_text()
    )


def test_texts_of_errors_are_left_as_they_are(room: Room) -> None:
    assert not [mutant for mutant in mutants_of(room.folder, _FILE) if "raise" in mutant.was]


def test_a_run_goes_on_with_what_is_not_known(room: Room) -> None:
    known = {n for n, state in states(room.folder, _FILE).items() if state != "not tried"}
    every = {mutant.name for mutant in mutants_of(room.folder, _FILE)}
    assert set(chosen(room, MutantsConfig())) == every - known
    assert len(chosen(room, MutantsConfig(survivors=True))) == 3


def test_a_larger_sample_holds_the_smaller_one_and_the_seed_decides(room: Room) -> None:
    (room.folder / "mutants" / f"{_FILE}.meta").unlink()
    few, more = (chosen(room, MutantsConfig(sample=n)) for n in (4, 9))
    assert (len(few), more[:4]) == (4, few)
    assert chosen(room, MutantsConfig(sample=9, seed=1)) != more


def test_changed_lines_alone(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    (room.folder / "mutants" / f"{_FILE}.meta").unlink()
    monkeypatch.setattr(mutants, "changed_lines", lambda since, file: {"if not sides:"})
    names = set(chosen(room, MutantsConfig(changed="main")))
    assert {m.was for m in mutants_of(room.folder, _FILE) if m.name in names} == {"if not sides:"}


def test_a_room_is_tried_against_the_tests_of_its_name() -> None:
    hamming = room_of("hamming", Path("build"))
    assert hamming.files == ["discrete_grad/hamming.py"]
    assert hamming.tests == ["tests/test_hamming.py", "tests/test_hamming_index.py"]
    assert room_of("rules", Path("build")).tests == ["tests/rules"]
    rooms = known_rooms()
    assert {"hamming", "rules", "space", "weighting"} <= set(rooms)
    assert all(room_of(name, Path("build")).tests for name in rooms)
    with pytest.raises(SystemExit, match="no room 'rooms'"):
        room_of("rooms", Path("build"))
