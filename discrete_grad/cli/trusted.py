"""Options that name the scorers of a run: their code is run only if they are named here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from discrete_grad.runs import Run, load_run

__all__ = ["NamedModels"]

_Reference = Annotated[
    str | None, tyro.conf.arg(metavar="PACKAGE.MODULE:NAME", help_behavior_hint="")
]


@dataclass(frozen=True, kw_only=True)
class NamedModels:
    """Models of one's own that the run was fitted by."""

    scorer: _Reference = None
    """Scorer of a run of fit --scorer. Its code is run, and the folder of a run may be anybody's:
    nothing is imported that is not named here."""
    judge: _Reference = None
    """Judge of a run that was given one of one's own, likewise."""

    def load(self, folder: Path, device: str = "cpu") -> Run:
        """The run of a folder, with these."""
        return load_run(folder, device=device, scorer=self.scorer, judge=self.judge)
