"""Options that do not go together."""

from __future__ import annotations

from discrete_grad.cli.options import Rows

__all__ = ["beside_edits"]


def beside_edits(wanted: Rows, processes: int) -> str:
    """Name of an option that is given and says nothing about edits; empty for none."""
    given = {
        "several processes": processes > 1,
        "--contexts: the file of --edit has them": wanted.contexts is not None,
        "--front: --tradeoff names one": wanted.front is not None,
        "--rows: --edits says how many there are of each given row": wanted.rows is not None,
        "--diversity: the rows of one given row differ in their number of changes": (
            wanted.diversity != 1
        ),
    }
    return next((name for name, there in given.items() if there), "")
