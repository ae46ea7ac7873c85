"""How many small bugs, planted one at a time by mutmut, the tests of a room notice.

    python -m benchmarks.mutants --rooms hamming rules --sample 20
    python -m benchmarks.mutants --survivors                 # those that lived, again
    python -m benchmarks.mutants --changed main              # changed lines alone
    python -m benchmarks.mutants --table                     # what is known, and no run

A room is a folder or a file of the package. Each is copied to a folder of its own, where mutmut
plants the bugs; the checkout is never changed. A file's mutants are tried against the tests of
its room alone, the fastest first, until one fails or the time limit is over (ten times what the
tests take). A run that was stopped goes on where it was; a changed function is tried afresh.

Not planted: bugs in decorated functions (but static and class methods), in constants of modules,
in annotations, and in the text of errors. Tests of compiling and exporting are left out, as they
see through what mutmut wraps around a function.

Needs mutmut: `pip install 'discrete_grad[dev]'`.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from benchmarks.mutants_table import mutants_of, states, write_table

ROOT = Path(__file__).parent.parent
PACKAGE = "discrete_grad"
COPIED = (PACKAGE, "tests", "pyproject.toml", "setup.cfg")
_ORDER = "mutants_order"
_CONFIG = """
[tool.mutmut]
source_paths = ["{package}"]
only_mutate = {files}
also_copy = ["{order}.py"]
pytest_add_cli_args = ["-p", "{order}", "--hypothesis-profile=mutants", "-k", "{kept}"]
pytest_add_cli_args_test_selection = {tests}
process_isolation = "forkserver"
timeout_multiplier = 10.0
timeout_constant = 5.0
do_not_mutate_patterns = ["^\\\\s*(raise|warnings.warn)\\\\b", "Error\\\\($"]
"""
_KEPT = "not compile and not compiled and not export and not exports and not onnx and not docs"


@dataclass(frozen=True)
class MutantsConfig:
    """Settings of the run."""

    rooms: tuple[str, ...] = ()
    """Rooms to run; without, every room that has tests of its name."""
    sample: int = 0
    """Mutants of each file, drawn at random; 0 for all."""
    seed: int = 0
    """Decides which mutants are drawn."""
    changed: str = ""
    """A git revision: only mutants of lines that changed since then."""
    survivors: bool = False
    """Try again those that survived, and no others."""
    table: bool = False
    """Write the table of what is known, without a run."""
    processes: int = 1
    """Mutants tried side by side."""
    folder: Path = Path("build/mutants")
    """The copies and what is known of their mutants."""
    out: Path = Path("benchmarks/results")
    """Where `mutants.json` and `mutants.md` go."""


@dataclass(frozen=True)
class Room:
    """A part of the package, the tests of its name, and the copy they are tried in."""

    name: str
    folder: Path
    files: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)


def main(config: MutantsConfig) -> None:
    """Run the rooms one after the other and write the table after each."""
    rooms = [room_of(name, config.folder) for name in config.rooms or known_rooms()]
    for room in rooms:
        if not config.table:
            lay_out(room)
            run(room, chosen(room, config), config.processes)
        write_table(config.folder, config.out)


def known_rooms() -> list[str]:
    """Rooms and single files of the package that have tests of their name."""
    places = [path for path in (ROOT / PACKAGE).iterdir() if path.suffix in ("", ".py")]
    names = sorted(path.stem for path in places if not path.name.startswith("_"))
    return [name for name in names if room_of(name, Path()).tests]


def room_of(name: str, folder: Path) -> Room:
    """The files and tests of a room, relative to the root."""
    place = ROOT / PACKAGE / name
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    folders = [ROOT / "tests" / name] if (ROOT / "tests" / name).is_dir() else []
    tests = [*folders, *sorted((ROOT / "tests").glob(f"test_{name}*.py"))]
    if not all(path.exists() for path in files):
        raise SystemExit(f"no room {name!r} in {PACKAGE}")
    return Room(
        name, folder / name, *([str(p.relative_to(ROOT)) for p in e] for e in (files, tests))
    )


def lay_out(room: Room) -> None:
    """Copy what has changed, so that what is known of the rest stays, and write the settings."""
    for path in _tracked(*COPIED):
        _copy(ROOT / path, room.folder / path)
    _copy(Path(__file__).with_name(f"{_ORDER}.py"), room.folder / f"{_ORDER}.py")
    files, tests = json.dumps(room.files), json.dumps(room.tests)
    text = _CONFIG.format(package=PACKAGE, files=files, tests=tests, kept=_KEPT, order=_ORDER)
    (room.folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + text)


def _tracked(*names: str) -> list[str]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *names]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in found.stdout.splitlines() if (ROOT / path).is_file()]


def _copy(source: Path, target: Path) -> None:
    if not target.is_file() or source.read_bytes() != target.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def chosen(room: Room, config: MutantsConfig) -> list[str]:
    """Names of the mutants to try: drawn, of changed lines, or those that lived; no known ones."""
    known = {
        name: state for file in room.files for name, state in states(room.folder, file).items()
    }
    if config.survivors:
        return [name for name, state in known.items() if state in ("survived", "no test")]
    drawn = [name for file in room.files for name in _drawn(room, file, config)]
    return [name for name in drawn if known.get(name, "not tried") == "not tried"]


def _drawn(room: Room, file: str, config: MutantsConfig) -> list[str]:
    lines = changed_lines(config.changed, file) if config.changed else None
    planted = mutants_of(room.folder, file) if lines != set() else []
    if lines is not None:
        planted = [mutant for mutant in planted if lines & set(mutant.was.splitlines())]
    random.Random(f"{config.seed} {file}").shuffle(planted)  # a larger sample holds the smaller
    return [mutant.name for mutant in planted[: config.sample or len(planted)]]


def changed_lines(since: str, file: str) -> set[str]:
    """Lines of a file that were not there, without their indentation."""
    asked = ["git", "diff", "--unified=0", since, "--", file]
    text = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {line[1:].strip() for line in text.splitlines() if re.match(r"\+(?!\+\+ )", line)}


def run(room: Room, names: list[str], processes: int) -> None:
    """Try the mutants; what is known of each is written as soon as it is."""
    print(f"{room.name}: {len(names)} mutants to try", flush=True)
    if not names:
        return
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), *names]
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    elsewhere = os.pathsep.join(place for place in places if place and Path(place) != ROOT)
    env = os.environ | {"PYTHONPATH": elsewhere, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=room.folder, env=env, capture_output=True, text=True)
    (room.folder / "mutmut.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        print(f"mutmut failed: read {room.folder / 'mutmut.log'}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(MutantsConfig))
