"""Rows proposed and rows measured, kept in the folder of a run; a file each, never changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.runs._choosing import Measured
from discrete_grad.runs._content_checks import check_told
from discrete_grad.training.checkpoint import RunError, load_tensors, save_tensors, told_as_damage

__all__ = ["Ledger", "Line", "Told"]

Line = tuple[bytes, bytes, bytes, str]
"""Identity of a measurement: row, context, scores and the name that was given to it."""


@dataclass(frozen=True, eq=False)
class Told:
    """Lines of one file of measurements.

    Args:
        codes: `(N, F)`, int64.
        scores: `(N, S)`, float64, to be maximised; NaN in all of them for a row that failed.
        context: `(N, C)`, of width 0 without contexts.
        names: N names of measurements; a row that is measured again has another one.
    """

    codes: Tensor
    scores: Tensor
    context: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        """N."""
        return len(self.names)

    def lines(self) -> list[Line]:
        """Identity of each line."""
        parts = (self.codes, self.context, self.scores)
        rows = zip(*(part.contiguous().numpy() for part in parts), strict=True)
        # of numbers that are equal, as 0.0 and -0.0, the bytes are too
        cells = ((r.tobytes(), (c + 0).tobytes(), (s + 0).tobytes()) for r, c, s in rows)
        return [(*cell, name) for cell, name in zip(cells, self.names, strict=True)]

    def part(self, places: list[int]) -> Told:
        """The lines at some places."""
        index = torch.tensor(places, dtype=torch.long)
        names = tuple(self.names[place] for place in places)
        return Told(self.codes[index], self.scores[index], self.context[index], names)


class Ledger:
    """What was proposed and told in the rounds of a run.

    Each call of `propose` and each call of `tell` that brings something new leaves one file, which
    appears whole or not at all.

    Args:
        folder: of the run.
        schema: of its table.

    Example:
        >>> import tempfile
        >>> from discrete_grad.data import Vocabulary
        >>> schema = Schema((Vocabulary("cut", ("fair", "good")),), (), "score")
        >>> ledger = Ledger(Path(tempfile.mkdtemp()), schema)
        >>> scores = torch.tensor([[2.0]], dtype=torch.float64)
        >>> one = Told(torch.tensor([[1]]), scores, torch.empty(1, 0), ("",))
        >>> ledger.add(one), ledger.add(one), len(ledger.told())
        (1, 0, 1)
    """

    def __init__(self, folder: Path, schema: Schema) -> None:
        self.folder, self.schema = folder / "rounds", schema
        spec = schema.context_spec
        self.widths = (len(schema.features), 0 if spec is None else spec.width)

    def told(self) -> Told:
        """Every measurement, in the order in which they were told."""
        files = [self._read(path) for path in self._files("told")]
        names = tuple(name for _, metadata in files for name in metadata["names"])
        return Told(*self._joined([tensors for tensors, _ in files]), names)

    def add(self, given: Told) -> int:
        """Keep the lines that were not told before; returns how many those are.

        Of equal lines those are new that are more than were told before: a file that is told
        again, or grows and is told again, adds what it did not hold before.
        """
        before, places = Counter(self.told().lines()), list[int]()
        for place, line in enumerate(given.lines()):
            before[line] -= 1
            if before[line] < 0:
                places.append(place)
        if places:
            new = given.part(places)
            tensors = {"codes": new.codes, "scores": new.scores, "context": new.context}
            self._write("told", tensors, {"names": list(new.names)})
        return len(places)

    def proposed(self) -> Measured:
        """Every row that was proposed and handed out, the first first."""
        files = [self._read(path)[0] for path in self._files("proposed")]
        codes, scores, context = self._joined(files)
        return Measured(codes, scores[:, 0], context)

    def pending(self) -> Measured:
        """Rows that are out: proposed, and not measured in their context since."""
        told = self.told()
        return self.proposed().without(Measured(told.codes, told.scores[:, 0], told.context))

    def propose(self, rows: Measured) -> None:
        """Keep rows as proposed."""
        tensors = {"codes": rows.codes, "context": rows.context}
        self._write("proposed", tensors, {})

    @property
    def proposals(self) -> int:
        """Calls of `propose` so far."""
        return len(self._files("proposed"))

    def _files(self, kind: str) -> list[Path]:
        return sorted((self.folder / kind).glob("[0-9]*.safetensors"))

    def _write(self, kind: str, tensors: dict[str, Tensor], metadata: dict[str, object]) -> None:
        # after the last one: of those before it some may have been taken away
        numbers = [int(path.stem) for path in self._files(kind) if path.stem.isdecimal()]
        name = f"{max(numbers, default=0) + 1:06d}.safetensors"
        save_tensors(self.folder / kind / name, tensors, metadata)

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of a file, which are those of the schema.

        Raises:
            RunError: if they are not.
        """
        tensors, metadata = load_tensors(path)
        with told_as_damage(path):
            widths = tuple(tensors[name].shape[1] for name in ("codes", "context"))
            if widths != self.widths:
                raise RunError(f"{self.folder} holds rows of another table")
            check_told(tensors, metadata.get("names"), self.schema)
        return tensors, metadata

    def _joined(self, files: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        features, width = self.widths
        scores = 1 + len(self.schema.more_scores)
        codes = [torch.empty(0, features, dtype=torch.long)]
        numbers = [torch.empty(0, scores, dtype=torch.float64)]
        context = [torch.empty(0, width)]
        for tensors in files:
            unknown = torch.full((len(tensors["codes"]), scores), torch.nan, dtype=torch.float64)
            codes.append(tensors["codes"])
            numbers.append(tensors.get("scores", unknown))
            context.append(tensors["context"])
        return torch.cat(codes), torch.cat(numbers), torch.cat(context)
