"""Which mutants are tried against which tests, and what the table says of them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import mutants, mutants_planting
from benchmarks.mutants import MutantsConfig, chosen, known_rooms, room_of
from benchmarks.mutants_planting import Candidate, Mutant, candidates_of, statement
from benchmarks.mutants_table import Records, interval, write_table

pytest.importorskip("mutmut")
pytest.importorskip("scipy")
_FILE = "discrete_grad/small.py"
_CODE = """\
def total(sides: list[int]) -> int:
    pairs = zip(sides, sides, strict=True)
    if not sides:
        raise ValueError("nothing")
    return sum(a + 2 * b for a, b in pairs)


class Base:
    def __init__(self, size: int = 3) -> None:
        self.size = size


class Square(Base):
    def __init__(self, size: int = 4) -> None:
        super().__init__(size)
        while self.size < 0:
            self.size += 1

    @staticmethod
    def unused() -> int:
        return 5

    @staticmethod
    def compared() -> int:
        return 7
"""
_TESTS = """\
import subprocess
import sys

from discrete_grad.small import Square, total


def test_total():
    assert total([1, 2]) == 9


def test_square():
    assert Square().size == 4
    assert Square(-1).size == 0


def test_a_process_says_the_same():
    code = "from discrete_grad.small import Square; print(Square.compared())"
    asked = [sys.executable, "-c", code]
    assert int(subprocess.run(asked, capture_output=True).stdout) == Square.compared()


def test_that_fails():
    assert total([]) == 0
"""
_SIGNATURES = """\
from discrete_grad.small import Base


def test_defaults():
    assert Base.__init__.__defaults__ == (3,)
"""
_SETTINGS = """\
[tool.mutmut]
source_paths = ["discrete_grad"]
do_not_mutate_patterns = ['^\\s*raise\\b']
[tool.pytest.ini_options]
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of one file, its tests and its settings."""
    folder = tmp_path_factory.mktemp("checkout")
    for place, text in {
        _FILE: _CODE,
        "discrete_grad/__init__.py": "",
        "tests/test_small.py": _TESTS,
        "tests/test_public_api.py": _SIGNATURES,
        "pyproject.toml": _SETTINGS,
    }.items():
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text(text)
    return folder


@pytest.fixture
def candidates(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Candidate]]:
    from mutmut import configuration

    monkeypatch.setattr(mutants_planting, "ROOT", checkout)
    configuration.reset_config()
    yield candidates_of(_FILE)
    configuration.reset_config()


def named(candidates: list[Candidate], now: str) -> Mutant:
    (found,) = (m for m in (c.made() for c in candidates) if m.now == now)
    return found


def test_a_mutant_says_what_it_changes(candidates: list[Candidate]) -> None:
    found = named(candidates, "return sum(a - 2 * b for a, b in pairs)")
    assert (found.function, found.lines) == ("total", range(5, 6))
    assert found.was == "return sum(a + 2 * b for a, b in pairs)"
    assert found.text == _CODE.replace("a + 2", "a - 2")
    made = [candidate.made() for candidate in candidates]
    assert not [m for m in made if "raise" in m.was]  # texts of errors are left as they are
    assert {m.function for m in made} > {"Square.__init__", "Square.unused"}


def test_the_statement_around_a_mutant(candidates: list[Candidate]) -> None:
    assert statement(named(candidates, "if sides:")) == range(3, 4)
    assert statement(named(candidates, "self.size = 1")) == range(17, 18)
    header = named(candidates, "def __init__(self, size: int = 5) -> None:")
    assert statement(header) == range(15, 18)


# what each trial of a mutant ends as, by the tests that run its statement
_ENDS = {
    "return sum(a - 2 * b for a, b in pairs)": "killed",
    "pairs = zip(sides, sides, strict=False)": "survived",
    "def __init__(self, size: int = 4) -> None:": "killed",  # by the test of signatures
    "def __init__(self, size: int = 5) -> None:": "killed",
    "super().__init__(None)": "killed",
    "self.size -= 1": "stopped",
    "return 6": "no test",
    "return 8": "survived",  # in the process of the test it is not planted
}


def test_each_is_tried_against_the_tests_that_run_it(checkout: Path) -> None:
    """In a process of its own, as `small` is not a file of this package."""
    script = f"""
import json, pytest
from pathlib import Path
from benchmarks import mutants_planting, mutants_trials
root = Path({str(checkout)!r})
mutants_planting.ROOT = mutants_trials.ROOT = root
mutants_trials._OWN = (0.0, 1.0)
wanted, ends = {list(_ENDS)!r}, dict()
made = [c.made() for c in mutants_planting.candidates_of({_FILE!r})]
trials = mutants_trials.Trials(
    [{_FILE!r}],
    [m for m in made if m.now in wanted],
    kept=root / "kept.json",
    limit=60.0,
    tell=lambda mutant, state: ends.__setitem__(mutant.now, state),
)
pytest.main(["-p", "no:terminal", "-p", "no:cacheprovider", "tests"], plugins=[trials])
print(json.dumps(ends))
"""
    paths = [str(checkout), str(Path(__file__).parents[2]), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=checkout,
        env={"PYTHONPATH": ":".join(paths)},
        capture_output=True,
        text=True,
    )
    told, found = done.stdout.splitlines()[-2:]
    assert json.loads(found) == _ENDS, done.stderr
    failing = (
        "1 tests fail without a bug and are not asked: ['tests/test_small.py::test_that_fails']"
    )
    assert told == failing
    kept = json.loads((checkout / "kept.json").read_text())
    tests = {
        f"tests/test_small.py::test_{n}" for n in ("total", "square", "a_process_says_the_same")
    }
    assert set(kept["seconds"]) == {*tests, "tests/test_public_api.py::test_defaults"}
    assert (checkout / _FILE).read_text() == _CODE


@pytest.fixture
def records(candidates: list[Candidate], tmp_path: Path) -> Records:
    """What is known after five of the mutants were tried, with seed 0."""
    found = Records(tmp_path, "small")
    found.total(len(candidates))
    for now, state in {
        "return sum(a - 2 * b for a, b in pairs)": "killed",
        "return sum(a + 2 / b for a, b in pairs)": "survived",
        "return sum(a + 3 * b for a, b in pairs)": "stopped",
        "pairs = zip(sides, sides, strict=False)": "survived",
        "if sides:": "no test",
    }.items():
        found.tell(named(candidates, now), state, 0)
    return found


def test_the_table_counts_each_mutant_once(
    candidates: list[Candidate], records: Records, tmp_path: Path
) -> None:
    write_table(tmp_path)
    low, high = interval(1, 3)
    line = f"| small | {len(candidates)} | 0 | 5 | 1 | 1 | 1 of 3 (33%) | {low:.0%} to {high:.0%} "
    page = (tmp_path / "mutants.md").read_text()
    assert f"{line}| 1 of 3 (33%) | 2 |" in page
    assert page.count("- `discrete_grad/small.py`, `total`") == 2
    records.tell(named(candidates, "if sides:"), "killed", 7)  # a test was written for it
    write_table(tmp_path)
    page = (tmp_path / "mutants.md").read_text()
    assert f"{line}| 2 of 3 (67%) | 1 |" in page
    assert page.count("- `discrete_grad/small.py`, `total`") == 1


def test_folders_of_a_run_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests with a folder of their own would fail without, and be dropped."""
    found = list[bool]()

    def run(room: object, config: MutantsConfig) -> int:
        found.append(config.folder.is_dir() and config.out.is_dir())
        return 0

    monkeypatch.chdir(tmp_path)  # and back, as a run goes to the root
    monkeypatch.setattr(mutants, "run", run)
    monkeypatch.setattr(mutants, "in_fork", lambda work: work())
    monkeypatch.setattr(mutants, "write_table", lambda out: None)
    kept = tmp_path / "kept"
    mutants.main(MutantsConfig(rooms=("hamming",), folder=kept / "costs", out=kept / "table"))
    assert found == [True]


def test_the_exact_interval_of_a_share() -> None:
    low, high = interval(0, 10)
    assert low == 0
    assert high == pytest.approx(1 - 0.025**0.1)  # (1 - high)^10 = 2.5%
    assert interval(0, 0) == (0, 1)


def test_a_run_goes_on_with_what_is_not_known(
    candidates: list[Candidate], records: Records
) -> None:
    tried = list(chosen(candidates, records, MutantsConfig()))
    every = {candidate.made() for candidate in candidates}  # zip(sides) of zip(sides, sides) twice
    assert len(tried) == len(set(tried)) == len(every) - 5
    again = list(chosen(candidates, records, MutantsConfig(survivors=True)))
    lived = {"return sum(a + 2 / b for a, b in pairs)", "if sides:"}
    assert {m.now for m in again} == lived  # the third is known to be equivalent


def test_survivors_whose_line_has_gone_are_no_survivors(
    candidates: list[Candidate], records: Records, tmp_path: Path
) -> None:
    assert not list(Records(tmp_path, "small").alive([]))
    (told,) = json.loads((tmp_path / "mutants.json").read_text()).values()
    states = [r["state"] for r in told["tried"]]
    assert states == ["killed", "gone", "stopped", "survived", "gone"]


def test_a_larger_sample_holds_the_smaller_one_and_the_seed_decides(
    candidates: list[Candidate], tmp_path: Path
) -> None:
    records = Records(tmp_path, "small")
    few, more = (list(chosen(candidates, records, MutantsConfig(sample=n))) for n in (4, 9))
    assert (len(few), len(more), more[:4]) == (4, 9, few)
    for mutant in more:
        records.tell(mutant, "killed", 0)
    assert not list(chosen(candidates, records, MutantsConfig(sample=9)))
    others = list(chosen(candidates, records, MutantsConfig(sample=9, seed=1)))
    assert len(others) == 9
    assert not set(others) & set(more)


def test_changed_lines_alone(
    candidates: list[Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "changed_lines", lambda since, file: {"if not sides:"})
    asked = MutantsConfig(changed="main")
    found = list(chosen(candidates, Records(tmp_path, "small"), asked))
    assert {m.was for m in found} == {"if not sides:"}


def test_a_room_is_tried_against_the_tests_of_its_name() -> None:
    hamming = room_of("hamming")
    assert hamming.files == ["discrete_grad/hamming.py"]
    assert hamming.tests == ["tests/test_hamming.py", "tests/test_hamming_index.py"]
    assert room_of("rules").tests == ["tests/rules"]
    rooms = known_rooms()
    assert {"hamming", "rules", "space", "weighting"} <= set(rooms)
    assert all(room_of(name).tests for name in rooms)
    with pytest.raises(SystemExit, match="no room 'rooms'"):
        room_of("rooms")
