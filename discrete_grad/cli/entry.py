"""Run of a command: words are read, it is executed, and what fails is told in one line."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from discrete_grad.cli.commands import Demo, Fit
from discrete_grad.cli.options import DemoRun, FitRun, Goal, Quality, option_names
from discrete_grad.cli.parsing import WrongWords, parsed
from discrete_grad.cli.terminal import first_process, say
from discrete_grad.data.errors import ManyFaults
from discrete_grad.runs.settings import settings

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for an error told in one line, 130 interrupted.

    Example:
        >>> main(["fit", "--print-config", "--seed", "-1"])  # tells the range on stderr
        2
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, as `head` does, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(words: Sequence[str]) -> int:
    if list(words) == ["--version"]:
        print(f"discrete-grad {version('discrete_grad')}")
        return 0
    if name := _setting_of_the_file(words):
        return _fail(
            f"{name} is no option but set in a file, --config FILE; --print-config writes one"
        )
    try:
        command = parsed(_one_score_a_flag(words))
    except WrongWords as error:
        return _fail(str(error))
    try:
        command.execute()
    except KeyboardInterrupt:
        goes_on = "; --resume goes on" if isinstance(command, (Fit, Demo)) else ""
        print(f"discrete-grad: interrupted{goes_on}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if command.run.debug:
            traceback.print_exc()
        told = isinstance(error, (ValueError, OSError, ImportError))
        text = str(error) or type(error).__name__
        # of many faults each has its line
        lines = text.splitlines() if isinstance(error, ManyFaults) else [text]
        return _fail(*lines, kind="" if told else "unexpected ")
    return 0


def _fail(*lines: str, kind: str = "") -> int:
    if first_process():
        told = "\n  ".join(" ".join(line.split()) for line in lines)
        say(f"discrete-grad: {kind}error: {told}", error=True)
    return 2


def _setting_of_the_file(words: Sequence[str]) -> str | None:
    """The first word that is a setting of a fit but no option of the command."""
    groups = {"fit": (FitRun(), Goal(), Quality()), "demo": (DemoRun(),)}.get(
        "".join(words[:1]), ()
    )
    for word in words[1:] if groups else ():
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        name = re.sub(r"(^|\.)no_", r"\1", name)  # a switch that is on by default
        if word.startswith("--") and name in settings() and name not in option_names(*groups):
            return name
    return None


def _one_score_a_flag(words: Sequence[str]) -> list[str]:
    """`--score a b` as `--score a --score b` after the table; before it, `b` may be the table."""
    spread, flag = [*words[:2]], ""
    table_first = spread[:1] == ["fit"] and not spread[-1].startswith("-")
    for word in words[2:]:
        flag = word if word.startswith("-") else flag
        further = flag == "--score" and flag not in (word, spread[-1])
        spread += ["--score", word] if table_first and further else [word]
    return spread
