"""What became of the mutants of `benchmarks.mutants`: the records of each room, and the table."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.mutants_planting import Candidate, Mutant

EQUIVALENT = Path(__file__).with_name("mutants_equivalent.toml")
_ALIVE = ("survived", "no test")
Record = dict[str, Any]


class Records:
    """The records of a room, in the file of all rooms; each change is written at once.

    Args:
        out: Folder of `mutants.json`.
        room: Name of the room.
    """

    def __init__(self, out: Path, room: str) -> None:
        self._path, self._room = out / "mutants.json", room
        known = _read(self._path).get(room, {})
        self._mutants: int = known.get("mutants", 0)
        self._tried = {_key(record): record for record in known.get("tried", [])}

    def total(self, count: int) -> None:
        """Note how many mutants the room has."""
        self._mutants = count

    def seed_of(self, mutant: Mutant) -> int | None:
        """The seed of the sample that a mutant was tried in; None if it was not."""
        record = self._tried.get(_key(vars(mutant)))
        return None if record is None else int(record["seed"])

    def tell(self, mutant: Mutant, state: str, seed: int) -> None:
        """Note what became of a mutant; what became of it at first stays beside it."""
        if state == "not tried":
            return
        key = _key(vars(mutant))
        first = self._tried.get(key, {"seed": seed, "first": state})
        kept = {"seed": first["seed"], "first": first["first"], "state": state}
        self._tried[key] = {name: getattr(mutant, name) for name in _NAMES} | kept
        self._write()

    def alive(self, candidates: list[Candidate]) -> Iterator[Mutant]:
        """Mutants that lived and are not equivalent, of those that can still be planted."""
        lived = [(key, r) for key, r in self._tried.items() if r["state"] in _ALIVE]
        wanted = {key for key, record in lived if not is_equivalent(record)}
        functions = {key[:2] for key in wanted}
        near = [c for c in candidates if (c.file, c.function) in functions]
        found = {_key(vars(mutant)): mutant for mutant in (c.made() for c in near)}
        for key in wanted - found.keys():
            self._tried[key]["state"] = "gone"
        self._write()
        yield from (found[key] for key in sorted(wanted & found.keys()))

    def _write(self) -> None:
        told = _read(self._path)  # anew: another room may have been run since
        told[self._room] = {"mutants": self._mutants, "tried": list(self._tried.values())}
        text = json.dumps(dict(sorted(told.items())), indent=1, ensure_ascii=False)
        self._path.write_text(text + "\n")


_NAMES = ("file", "function", "was", "now")


def _key(record: Record) -> tuple[str, ...]:
    return tuple(record[name] for name in _NAMES)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def is_equivalent(record: Record) -> bool:
    """Whether `mutants_equivalent.toml` says that no test can tell it from the original."""
    known, sides = equivalents(), (record["was"], record["now"])
    one = {(e["file"], e["was"], e["now"]) for e in known.get("one", [])}
    patterns = [e["without"] for e in known.get("kind", [])]
    kept = ([re.sub(pattern, "", text) for text in sides] for pattern in patterns)
    return (record["file"], *sides) in one or any(was == now for was, now in kept)


@functools.cache
def equivalents() -> dict[str, list[dict[str, str]]]:
    """Single mutants under `one`, and under `kind` what makes no difference anywhere."""
    found: dict[str, list[dict[str, str]]] = tomllib.loads(EQUIVALENT.read_text())
    return found


def write_table(out: Path) -> None:
    """Write `mutants.md` from `mutants.json`: a line for each sample of a room, and who lived."""
    (out / "mutants.md").write_text(_page(_read(out / "mutants.json")))


def _page(told: dict[str, Any]) -> str:
    lines = [
        "# Mutants: small bugs that the tests notice",
        "",
        "Made by `python -m benchmarks.mutants`, which says which bugs are planted and which tests",
        "are asked. A sample is drawn from all mutants of a room. `killed at first` is the share",
        "of the sample that the tests killed before anybody looked at these mutants, with its",
        "exact binomial interval (95%, Clopper and Pearson). `killed now` is the share after tests",
        "were written for the survivors: it says nothing of other mutants. Both leave out the",
        "mutants that are known to be equivalent (`benchmarks/mutants_equivalent.toml` gives a",
        "reason for each) and those that ran into the time limit. Of two samples of a room, that",
        "of the higher seed was drawn after tests were written for the survivors of the other.",
        "",
        "| room | mutants | seed | sample | equivalent | time limit | killed at first "
        "| 95% interval | killed now | survive |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_line(*sample) for sample in _samples(told)]
    every = [record for room in told.values() for record in room["tried"]]
    lines += [_line("all", sum(room["mutants"] for room in told.values()), "", every)]
    return "\n".join([*lines, "", "## Survivors", "", *_survivors(every), ""])


def _samples(told: dict[str, Any]) -> Iterator[tuple[str, int, str, list[Record]]]:
    for name, room in told.items():
        for seed in sorted({record["seed"] for record in room["tried"]}):
            sample = [record for record in room["tried"] if record["seed"] == seed]
            yield name, room["mutants"], str(seed), sample


def _line(name: str, mutants: int, seed: str, sample: list[Record]) -> str:
    first = _counts(sample, "first")
    now = _counts(sample, "state")
    low, high = interval(first["killed"], first["killed"] + first["alive"])
    left_out = (now["same"], first["stopped"])
    shares = (_share(first), f"{low:.0%} to {high:.0%}", _share(now))
    cells = (name, mutants, seed, len(sample), *left_out, *shares, now["alive"])
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _counts(sample: Iterable[Record], when: str) -> Counter[str]:
    """Killed, alive, stopped, equivalent (`same`) and gone mutants."""
    return Counter(
        "same"
        if record[when] in _ALIVE and is_equivalent(record)
        else ("alive" if record[when] in _ALIVE else record[when])
        for record in sample
    )


def _share(counts: Counter[str]) -> str:
    whole = counts["killed"] + counts["alive"]
    return f"{counts['killed']} of {whole} ({counts['killed'] / max(whole, 1):.0%})"


def interval(killed: int, tried: int) -> tuple[float, float]:
    """The exact 95% interval of a share, by the quantiles of beta laws."""
    from scipy.special import betaincinv

    lived = tried - killed
    low = betaincinv(killed, lived + 1, 0.025) if killed else 0.0
    high = betaincinv(killed + 1, lived, 0.975) if lived else 1.0
    return float(low), float(high)


def _survivors(records: list[Record]) -> list[str]:
    return [
        f"- `{r['file']}`, `{r['function']}` ({r['state']}): `{_short(r['was'])}` became "
        f"`{_short(r['now'])}`"
        for r in records
        if r["state"] in _ALIVE and not is_equivalent(r)
    ] or ["None."]


def _short(text: str) -> str:
    return " ".join(text.split())
