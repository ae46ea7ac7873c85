"""What became of the mutants of `benchmarks.mutants`, from the files that mutmut leaves."""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EQUIVALENT = Path(__file__).with_name("mutants_equivalent.toml")
_STATES = {0: "survived", 1: "killed", 3: "killed", 5: "no test", 33: "no test"}
_UNKNOWN = (None, 2)  # not tried, or stopped by the user
_ALIVE = ("survived", "no test")


@dataclass(frozen=True)
class Mutant:
    """A bug that mutmut plants: the lines it changes, before and after."""

    name: str
    was: str
    now: str


def mutants_of(folder: Path, file: str) -> list[Mutant]:
    """Every mutant of a file of a room's copy, in mutmut's order."""
    from mutmut import configuration
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    with contextlib.chdir(folder):
        configuration.reset_config()
        mutated = mutate_file_contents(file, Path(file).read_text())
    lines = mutated.code.splitlines()
    spans = mutated.line_span_by_function_name
    texts = {name: lines[span.start - 1 : span.end] for name, span in spans.items()}
    return [
        Mutant(get_mutant_name(Path(file), name), *_change(texts[_original(name)], texts[name]))
        for name in mutated.mutant_names
    ]


def _original(name: str) -> str:
    return name.rpartition("__mutmut_")[0] + "__mutmut_orig"


def _change(before: list[str], after: list[str]) -> tuple[str, str]:
    """The lines that differ, without their indentation and the functions' own names."""
    told = [line for line in difflib.unified_diff(before, after, n=0, lineterm="")][2:]
    told = [line for line in told if "__mutmut_" not in line]
    sides = ["\n".join(line[1:].strip() for line in told if line[0] == sign) for sign in "-+"]
    return sides[0], sides[1]


def states(folder: Path, file: str) -> dict[str, str]:
    """Name of each mutant of a file -> what became of it."""
    path = folder / "mutants" / f"{file}.meta"
    codes = json.loads(path.read_text())["exit_code_by_key"] if path.is_file() else {}
    return {name: _state(code) for name, code in codes.items()}


def _state(code: int | None) -> str:
    return "not tried" if code in _UNKNOWN else _STATES.get(code, "stopped")


def write_table(folder: Path, out: Path) -> None:
    """Write `mutants.json` and `mutants.md`: the rooms that have been run, and who lived."""
    rooms = [room.parent for room in sorted(folder.glob("*/mutants"))]
    told = {room.name: list(_files(room)) for room in rooms}
    told = {name: files for name, files in told.items() if any(f["tried"] for f in files)}
    (out / "mutants.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    (out / "mutants.md").write_text(_page(told))


def _files(folder: Path) -> Iterator[dict[str, Any]]:
    for meta in sorted((folder / "mutants").rglob("*.py.meta")):
        file = str(meta.relative_to(folder / "mutants").with_suffix(""))
        found = states(folder, file)
        alive = {name for name, state in found.items() if state in _ALIVE}
        changes = [m for m in mutants_of(folder, file) if m.name in alive] if alive else []
        same = [m for m in changes if is_equivalent(file, m)]
        counts = Counter(found.values())
        yield {
            "file": file,
            "mutants": len(found),
            "tried": len(found) - counts["not tried"],
            "killed": counts["killed"] + counts["stopped"],
            "stopped": counts["stopped"],
            "equivalent": len(same),
            "survivors": [
                {"name": m.name, "state": found[m.name], "was": m.was, "now": m.now}
                for m in changes
                if m not in same
            ],
        }


def is_equivalent(file: str, mutant: Mutant) -> bool:
    """Whether `mutants_equivalent.toml` says that no test can tell it from the original."""
    known = equivalents()
    if any(
        (file, mutant.was, mutant.now) == (e["file"], e["was"], e["now"])
        for e in known.get("one", [])
    ):
        return True
    kept = [
        [re.sub(e["without"], "", text) for text in (mutant.was, mutant.now)]
        for e in known.get("kind", [])
    ]
    return any(was == now for was, now in kept)


@functools.cache
def equivalents() -> dict[str, list[dict[str, str]]]:
    """Single mutants under `one`, and under `kind` what makes no difference anywhere."""
    found: dict[str, list[dict[str, str]]] = tomllib.loads(EQUIVALENT.read_text())
    return found


def _page(told: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "# Mutants: small bugs that the tests notice",
        "",
        "Made by `python -m benchmarks.mutants`, which says which bugs are planted. A file's",
        "mutants are tried against the tests of its room alone. `killed` is the share of the tried",
        "mutants that are not known to be equivalent (`benchmarks/mutants_equivalent.toml` gives a",
        "reason for each) and did not run into the time limit: on a busy machine it says nothing.",
        "",
        "| room | mutants | tried | killed | left out: time limit | equivalent | survived |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_line(name, files) for name, files in told.items()]
    every = [file for files in told.values() for file in files]
    return "\n".join([*lines, _line("all", every), "", "## Survivors", "", *_survivors(every), ""])


def _line(name: str, files: list[dict[str, Any]]) -> str:
    total = {k: sum(f[k] for f in files) for k in ("mutants", "tried", "killed", "stopped")}
    same, alive = sum(f["equivalent"] for f in files), sum(len(f["survivors"]) for f in files)
    stopped = total["stopped"]
    share = (total["killed"] - stopped) / max(total["tried"] - same - stopped, 1)
    cells = (total["mutants"], total["tried"], f"{share:.1%}", stopped, same, alive)
    return f"| {name} | {' | '.join(str(cell) for cell in cells)} |"


def _survivors(files: list[dict[str, Any]]) -> list[str]:
    return [
        f"- `{s['name']}` ({s['state']}): `{_short(s['was'])}` became `{_short(s['now'])}`"
        for file in files
        for s in file["survivors"]
    ] or ["None."]


def _short(text: str) -> str:
    return " ".join(text.split())
