"""Words of the command line as a command; what is wrong with them, in one line."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr

import tyro

from discrete_grad.cli.commands import COMMANDS, Command

__all__ = ["WrongWords", "parsed"]

_RULE = re.compile(r"\s*(─+|--+)\s*")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DEEP = 8  # spaces before the help text of an option, in a box


class WrongWords(ValueError):
    """Words that are no command.

    Example:
        >>> str(WrongWords("unrecognized options: --foo"))
        'unrecognized options: --foo'
    """


def parsed(words: Sequence[str]) -> Command:
    """The command with its options.

    Raises:
        WrongWords: for options that are unknown, missing or of a wrong kind.
        SystemExit: after `--help`.

    Example:
        >>> try:
        ...     parsed(["fit", "--foo"])
        ... except WrongWords as error:
        ...     print(error)
        Unrecognized options: --foo; see discrete-grad fit --help
    """
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            command: Command = tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="discrete-grad",
                description="Train a generator of categories through a frozen model that scores "
                "them. discrete-grad --version tells the version.",
                args=words,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as ended:
        if not ended.code:
            raise
        help_of = " ".join(["discrete-grad", *[w for w in words[:1] if w in COMMANDS]])
        raise WrongWords(f"{_line(told.getvalue())}; see {help_of} --help") from None
    print(told.getvalue(), end="", file=sys.stderr)  # what was no error
    return command


def _line(box: str) -> str:
    r"""What a box of the parser says, without what each option is for.

    Example:
        >>> _line("╭─ Required ─╮\n│ Missing from a: │\n│     RUN │\n│         A folder. │\n╰─╯")
        'Missing from a: RUN'
    """
    parts: list[list[str]] = [[]]
    for line in _inside(_COLOUR.sub("", box).splitlines()):
        if _RULE.fullmatch(line):
            parts.append([])
        elif line.strip() and not line.startswith(" " * _DEEP):
            parts[-1].append(line.strip())
    said = [part for part in parts if part and not part[0].startswith(("For full", "Argument"))]
    return "; ".join(" ".join(part).rstrip(".") for part in said) or "the options are wrong"


def _inside(lines: list[str]) -> list[str]:
    """Lines of a box without its title and its frame, which is not drawn without UTF-8."""
    framed = [line.strip()[2:-1] for line in lines if line.strip().startswith("│")]
    return framed or [line[2:] for line in lines[2:]]
