"""Whatever is wrong with the folder of a run, it is told in one line, and no code of it runs.

More cases: `python -m tests.runs.test_damaged FIRST LAST [FOLDER ...]`.
"""

from __future__ import annotations

import math
import random
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import pytest

from discrete_grad.runs import Run, load_run
from discrete_grad.runs.report import _trail
from tests.runs.damage import damage

WHOLE = Path(__file__).parent / "fixtures" / "run_0_2_0"
KEPT = WHOLE / "rounds" / "fits" / "000001"  # a run by itself
REPORTED = 50  # of so many cases one
RUNNING = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
_ran: list[str] = []


def note(event: str, arguments: object) -> None:
    if event in RUNNING:
        _ran.append(f"{event}: {arguments!r:.200}")


def use(run: Run, case: int, done: str) -> None:
    """What is done with a run, where it could be loaded: all that reads the damaged file."""
    table, schema = run.table, run.table.schema
    known = {"shop": ["east"], "price": [0.5], "dose": [0.1]}
    contexts = {c.name: known.get(c.name, ["x"]) for c in schema.context}
    given = {**schema.decode_features(table.codes[:1].long()), **contexts}
    made = [run.score(given), run.generate(contexts or None, rows=2, new_only=False)]
    told = [frame[n] for frame in made for n in frame if n.startswith(("estimated_", "judge_"))]
    numbers = [number for column in told for number in column]
    assert all(map(math.isfinite, numbers)), numbers
    if run.folder.parent.name == "fits" and "fits" not in done:  # of a run with rounds
        run.propose(contexts or None, rows=1)
    run.metrics()  # this and the trail are read by the report alone, which takes seconds
    _trail(run)
    if case % REPORTED == 1:
        run.report()


def told(folder: Path, case: int, done: str) -> str:
    """What a damaged folder says, in one line; nothing if it works."""
    loaded = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            loaded.append(load_run(folder))
            use(loaded[0], case, done)
    except (ValueError, OSError, ImportError) as error:
        text = str(error)
    else:
        return ""
    assert 0 < len(text) < 1000, text
    assert "\n" not in text, text
    assert loaded or str(folder) in text, text
    return text


def check(kept: Path, place: Path, case: int) -> tuple[str, str]:
    """One damaged copy; what was done to it, and what it says."""
    folder = place / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)
    done = damage(folder, random.Random(case))
    before = len(_ran)
    try:
        said = told(folder, case, done)
    except BaseException as error:
        error.add_note(f"case {case}: {done}")
        raise
    assert _ran[before:] == [], done
    return done, said


@pytest.fixture(scope="module", autouse=True)
def _watched() -> None:
    sys.addaudithook(note)


@pytest.mark.parametrize("start", range(0, 40, 10))
def test_damage_is_told_in_one_line_and_no_code_runs(tmp_path: Path, start: int) -> None:
    said = [check(KEPT, tmp_path, case)[1] for case in range(start, start + 10)]
    assert any(said)


def main() -> None:
    """Try many cases; print those that fail."""
    first, last, *folders = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, resource.RLIM_INFINITY))
    sys.addaudithook(note)
    failed = 0
    for case in range(int(first), int(last)):
        kept = Path(folders[case % len(folders)]) if folders else KEPT
        with tempfile.TemporaryDirectory() as place:
            try:
                done, said = check(kept, Path(place), case)
                print(f"{case}: {done} -> {said}", flush=True)
            except Exception as error:
                failed += 1
                print(
                    f"FAILED {case} {kept}\n{''.join(traceback.format_exception(error))}",
                    flush=True,
                )
    print(f"{failed} failed")


if __name__ == "__main__":
    main()
