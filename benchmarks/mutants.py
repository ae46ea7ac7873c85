"""How many small bugs, planted one at a time by mutmut, the tests of a room notice.

    python -m benchmarks.mutants --rooms hamming rules --sample 20
    python -m benchmarks.mutants --rooms rules --sample 20 --seed 1    # others
    python -m benchmarks.mutants --survivors                           # those that lived, again
    python -m benchmarks.mutants --changed main                        # changed lines alone
    python -m benchmarks.mutants --table                               # what is known, and no run

A room is a folder or a file of the package. Its tests, and the examples in its docstrings, are
collected once; what each covers and costs is measured once and kept in `build/mutants`. A mutant is
planted in a fork of that process, in memory: no file changes. It is tried against the tests that
run its statement, the cheapest first, until one fails or 30 CPU seconds of tests are over. What is
known is written after each mutant; a run that was stopped goes on where it was. Rooms may be run
side by side, each with its own `--out`.

Not planted: bugs in decorated functions (but static and class methods), in constants of modules,
in annotations, and in the text of errors. Not asked: slow tests, tests of compiling and exporting
(seconds each), and tests of other rooms, but for `tests/test_public_api.py`, which compares the
defaults of public functions with a file. What a shared fixture runs counts as run by the first
test that asks for it. What runs while the tests are collected is the original. In a process that a
test starts it would be, too: such tests are skipped.

Needs mutmut: `pip install 'discrete_grad[dev]'`.
"""

from __future__ import annotations

import math
import os
import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import tyro

from benchmarks.mutants_planting import ROOT, Candidate, Mutant, candidates_of
from benchmarks.mutants_table import Records, write_table
from benchmarks.mutants_trials import SIGNATURES, Trials, in_fork

PACKAGE = "discrete_grad"
_LIMIT = 30.0  # CPU seconds of tests for one mutant
_KEPT = "not compile and not compiled and not export and not exports and not onnx"


@dataclass(frozen=True)
class MutantsConfig:
    """Settings of the run."""

    rooms: tuple[str, ...] = ()
    """Rooms to run; without, every room that has tests of its name."""
    sample: int = 0
    """Mutants of each room, drawn at random; 0 for all."""
    seed: int = 0
    """Decides which mutants are drawn; those of another seed are left out."""
    changed: str = ""
    """A git revision: only mutants of lines that changed since then."""
    survivors: bool = False
    """Try again those that survived, and no others; without a limit of seconds."""
    table: bool = False
    """Write the table of what is known, without a run."""
    folder: Path = Path("build/mutants")
    """What the tests of a room cost and cover."""
    out: Path = Path("benchmarks/results")
    """Where `mutants.json` and `mutants.md` are."""


@dataclass(frozen=True)
class Room:
    """A part of the package and the tests of its name, relative to the root."""

    name: str
    files: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)


def main(config: MutantsConfig) -> None:
    """Run the rooms one after the other, each in a process of its own, and write the table."""
    os.chdir(ROOT)
    for folder in (config.folder, config.out):  # pytest makes no parents of its own
        folder.mkdir(parents=True, exist_ok=True)
    for name in config.rooms or known_rooms():
        if not config.table and in_fork(partial(run, room_of(name), config)):
            print(f"{name}: the run ended early", flush=True)
        write_table(config.out)


def known_rooms() -> list[str]:
    """Rooms and single files of the package that have tests of their name."""
    places = [path for path in (ROOT / PACKAGE).iterdir() if path.suffix in ("", ".py")]
    names = sorted(path.stem for path in places if not path.name.startswith("_"))
    return [name for name in names if room_of(name).tests]


def room_of(name: str) -> Room:
    """The files and tests of a room."""
    place = ROOT / PACKAGE / name
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    folders = [ROOT / "tests" / name] if (ROOT / "tests" / name).is_dir() else []
    tests = [*folders, *sorted((ROOT / "tests").glob(f"test_{name}*.py"))]
    if not all(path.exists() for path in files):
        raise SystemExit(f"no room {name!r} in {PACKAGE}")
    return Room(name, *([str(p.relative_to(ROOT)) for p in e] for e in (files, tests)))


def run(room: Room, config: MutantsConfig) -> int:
    """Try the mutants of a room; what is known of each is written as soon as it is."""
    records = Records(config.out, room.name)
    candidates = [found for file in room.files for found in candidates_of(file)]
    records.total(len(candidates))
    mutants = list(chosen(candidates, records, config))
    print(f"{room.name}: {len(mutants)} of {len(candidates)} mutants to try", flush=True)
    trials = Trials(
        room.files,
        mutants,
        kept=config.folder / f"{room.name}.json",
        limit=math.inf if config.survivors else _LIMIT,
        tell=lambda mutant, state: records.tell(mutant, state, config.seed),
    )
    return int(pytest.main(_arguments(room, config), plugins=[trials])) if mutants else 0


def _arguments(room: Room, config: MutantsConfig) -> list[str]:
    quiet = ["-p", "no:terminal", "--hypothesis-profile=mutants"]
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # tyro has imported some
    asked = ["-m", "not slow", "-k", _KEPT, f"--basetemp={config.folder / room.name}"]
    return [*quiet, *asked, *room.tests, SIGNATURES, "--pyargs", f"{PACKAGE}.{room.name}"]


def chosen(
    candidates: list[Candidate], records: Records, config: MutantsConfig
) -> Iterator[Mutant]:
    """The mutants to try: drawn, of changed lines, or those that lived; no known ones."""
    if config.survivors:
        yield from records.alive(candidates)
    elif config.changed:
        yield from (m for m in _changed(candidates, config.changed) if records.seed_of(m) is None)
    else:
        yield from _drawn(candidates, records, config)


def _drawn(
    candidates: list[Candidate], records: Records, config: MutantsConfig
) -> Iterator[Mutant]:
    order = list(candidates)
    random.Random(f"{config.seed}").shuffle(order)  # a larger sample holds the smaller one
    seen: set[Mutant] = set()  # two candidates may be one mutant: f(a) of f(a, a)
    left = config.sample or len(order)
    for mutant in (candidate.made() for candidate in order):
        seed = records.seed_of(mutant)
        if mutant not in seen and seed is None:
            yield mutant
        left -= mutant not in seen and seed in (None, config.seed)
        seen.add(mutant)
        if not left:
            return


def _changed(candidates: list[Candidate], since: str) -> Iterator[Mutant]:
    files = {candidate.file for candidate in candidates}
    lines = {file: changed_lines(since, file) for file in files}
    for candidate in candidates:
        if lines[candidate.file]:
            mutant = candidate.made()
            if lines[candidate.file] & set(mutant.was.splitlines()):
                yield mutant


def changed_lines(since: str, file: str) -> set[str]:
    """Lines of a file that were not there, without their indentation."""
    asked = ["git", "diff", "--unified=0", since, "--", file]
    text = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {line[1:].strip() for line in text.splitlines() if re.match(r"\+(?!\+\+ )", line)}


if __name__ == "__main__":
    main(tyro.cli(MutantsConfig))
