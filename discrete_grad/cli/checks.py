"""Options that do not go together."""

from __future__ import annotations

from discrete_grad.cli.options import Rows
from discrete_grad.training.checkpoint import RunError

__all__ = ["check_rows"]


def check_rows(wanted: Rows, processes: int) -> None:
    """Raise RunError for options of `generate` that do not go together.

    Args:
        wanted: which rows are asked for.
        processes: that share the work.
    """
    if wanted.rows is not None and wanted.rows < 1:
        raise RunError(f"--rows must be at least 1, got {wanted.rows}")
    if wanted.front is not None and wanted.rows is not None:
        raise RunError("--front does not go together with --rows: it says how many rows")
    if wanted.edit is not None and (other := _beside_edits(wanted, processes)):
        raise RunError(f"--edit does not go together with {other}")


def _beside_edits(wanted: Rows, processes: int) -> str:
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
