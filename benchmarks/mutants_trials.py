"""The tests of a room in one process: what each costs and covers, and whether it notices a mutant.

Collected once. Each mutant is planted in a fork, which ends at the first test that fails; so a
mutant costs neither an import nor a collection, and no other mutant is touched by it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import resource
import signal
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from benchmarks.mutants_planting import ROOT, Mutant, plant, statement

SIGNATURES = "tests/test_public_api.py"
"""Compares the defaults of every public function with a file; asked about them in each room."""
_LIVED, _DIED, _BROKEN = 0, 1, 70
# seconds beyond which a test that took `s` is stopped: 5 + 10 s of its own, 60 + 40 s by the clock
_OWN, _CLOCK = (5.0, 10.0), (60.0, 40.0)


@dataclass
class Costs:
    """What the tests cost and cover, kept in a file as long as their texts are the same."""

    digests: dict[str, str] = field(default_factory=dict)
    """File of the room, or of tests -> digest of its text."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Test that passes -> CPU seconds, set-up among them."""
    covered: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """File -> line -> tests that run it."""

    def without(self, tests: set[str]) -> Costs:
        """The same, but for some tests."""
        seconds = {test: cost for test, cost in self.seconds.items() if test not in tests}
        covered = {
            file: {line: [t for t in ran if t not in tests] for line, ran in lines.items()}
            for file, lines in self.covered.items()
        }
        return Costs(dict(self.digests), seconds, covered)


class Trials:
    """A plugin of pytest that tries mutants in the place of running the tests once.

    Args:
        files: Files of the room, relative to the root.
        mutants: Those to try.
        kept: File of the costs.
        limit: CPU seconds of tests for one mutant; one that lives through them counts as alive.
        tell: Takes each mutant and what became of it.
    """

    def __init__(
        self,
        files: list[str],
        mutants: Iterable[Mutant],
        *,
        kept: Path,
        limit: float,
        tell: Callable[[Mutant, str], None],
    ) -> None:
        self.files, self.mutants, self.kept = files, mutants, kept
        self.limit, self.tell = limit, tell
        self._failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember that a test failed."""
        self._failed |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Measure what is not known of the tests, then try the mutants."""
        costs = self._known(session.items)
        for mutant in self.mutants:
            tests = chosen_tests(mutant, costs, session.items, self.limit)
            code = in_fork(partial(self._try, mutant, tests, costs)) if tests else None
            self.tell(mutant, "no test" if code is None else state_of(code))
        return True

    def _known(self, items: list[pytest.Item]) -> Costs:
        known = Costs(**json.loads(self.kept.read_text())) if self.kept.is_file() else Costs()
        changed = {f for f, d in digests_of(items, self.files).items() if known.digests.get(f) != d}
        lines = [tests for file in changed for tests in known.covered.get(file, {}).values()]
        ran = set(itertools.chain.from_iterable(lines))
        fresh = [i for i in items if _file(i) in changed or i.nodeid in ran]
        gone = known.seconds.keys() - {item.nodeid for item in items}
        known = known.without({item.nodeid for item in fresh} | gone)
        if fresh and in_fork(partial(self._measure, fresh, known)) == _LIVED:
            known = Costs(**json.loads(self.kept.read_text()))
        return known

    def _measure(self, items: list[pytest.Item], known: Costs) -> int:
        import coverage

        digests = digests_of(items, self.files)  # of what was collected, and not changed since
        watch = coverage.Coverage(
            data_file=None, include=[str(ROOT / f) for f in self.files], config_file=False
        )
        watch.start()
        failing = list[str]()
        for item, after in _with_next(items):
            watch.switch_context(item.nodeid)
            start = time.process_time()
            if self._passes(item, after):
                known.seconds[item.nodeid] = time.process_time() - start
            else:
                failing.append(item.nodeid)
        watch.stop()
        if failing:
            told = f"{len(failing)} tests fail without a bug and are not asked: {failing}"
            print(told, flush=True)
        for file in self.files:
            lines = known.covered.setdefault(file, {})
            for line, tests in watch.get_data().contexts_by_lineno(str(ROOT / file)).items():
                lines[str(line)] = sorted({*lines.get(str(line), []), *filter(None, tests)})
        known.digests |= digests
        self.kept.write_text(json.dumps(asdict(known)))
        return _LIVED

    def _try(self, mutant: Mutant, tests: list[pytest.Item], costs: Costs) -> int:
        plant(mutant)
        _forbid_processes()
        for item, after in _with_next(tests):
            allow(costs.seconds[item.nodeid])
            if not self._passes(item, after):
                return _DIED
        return _LIVED

    def _passes(self, item: pytest.Item, after: pytest.Item | None) -> bool:
        self._failed = False
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        return not self._failed


def _forbid_processes() -> None:
    """Skip what starts a process: the original runs there, and would differ from any mutant."""

    def skipped(*_: object, **__: object) -> None:
        pytest.skip("a process would run the original")

    BaseProcess.start = subprocess.Popen.__init__ = skipped  # type: ignore[method-assign]


def _with_next(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    return zip(items, [*items[1:], None], strict=True)


def _file(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


def digests_of(items: list[pytest.Item], files: list[str]) -> dict[str, str]:
    """File of the room, or of tests -> digest of its text."""
    paths = {_file(item): item.path for item in items} | {file: ROOT / file for file in files}
    return {file: hashlib.sha256(path.read_bytes()).hexdigest() for file, path in paths.items()}


def chosen_tests(
    mutant: Mutant, costs: Costs, items: list[pytest.Item], limit: float
) -> list[pytest.Item]:
    """Tests that run the mutant's statement, the cheapest file first, while the limit lasts."""
    covered, lines = costs.covered.get(mutant.file, {}), statement(mutant)
    names = {test for line in lines for test in covered.get(str(line), [])}
    if mutant.lines[-1] < lines[0]:  # among the arguments of a function
        names |= {item.nodeid for item in items if _file(item) == SIGNATURES}
    known = costs.seconds
    price = {i: known[i.nodeid] for i in items if i.nodeid in names & known.keys()}
    whole = Counter[str]()  # milliseconds
    for item, cost in price.items():
        whole[_file(item)] += round(1000 * cost)
    ordered = sorted(price, key=lambda item: (whole[_file(item)], _file(item), price[item]))
    taken: list[pytest.Item] = []
    spent = 0.0
    for item in ordered:
        spent += price[item]
        if not taken or spent <= limit:
            taken.append(item)
    return taken


def allow(seconds: float) -> None:
    """Let this process be stopped if the next test takes far longer than it did."""
    own = time.process_time() + _OWN[0] + _OWN[1] * seconds
    resource.setrlimit(resource.RLIMIT_CPU, (int(own) + 1, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_REAL, _CLOCK[0] + _CLOCK[1] * seconds)


def in_fork(work: Callable[[], int]) -> int:
    """What `work` returns in a child process; below 0 the signal that stopped it."""
    child = os.fork()
    if not child:
        os._exit(_in_child(work))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _in_child(work: Callable[[], int]) -> int:
    try:
        return work()
    except BaseException:
        traceback.print_exc()
        return _BROKEN


def state_of(code: int) -> str:
    """The word for an exit code of a trial."""
    if code < 0:
        return "stopped" if -code in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL) else "killed"
    return {_LIVED: "survived", _DIED: "killed"}.get(code, "not tried")
