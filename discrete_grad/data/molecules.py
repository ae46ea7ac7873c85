"""Molecules as rows: one categorical for each SELFIES token, and the drugs that come along.

rdkit and selfies are imported here alone, at their first use.
"""

from __future__ import annotations

import csv
import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

import torch
from torch import Tensor

from discrete_grad.data.errors import TableError, closest, shown
from discrete_grad.space import CategoricalSpace

__all__ = ["Drug", "MoleculeSpace", "drugs", "molecule_space"]

END = "[nop]"


class Drug(NamedTuple):
    """A drug by its international non-proprietary name, which nobody owns, and its structure.

    Example:
        >>> Drug("caffeine", "C8H10N4O2", "Cn1c(=O)c2c(ncn2C)n(C)c1=O").name
        'caffeine'
    """

    name: str
    formula: str
    """Hill notation, written down apart from the SMILES: rdkit's formula of that must agree."""
    smiles: str
    """rdkit's canonical one, without stereochemistry."""


@functools.cache
def drugs() -> tuple[Drug, ...]:
    """366 well-known small-molecule drugs, by name.

    Names, formulas and structures are facts of the pharmacopoeias, in the public domain, and were
    written down for this library.

    Example:
        >>> len(drugs()), drugs()[0]
        (366, Drug(name='acetazolamide', formula='C4H6N4O3S2', smiles='CC(=O)Nc1nnc(S(N)(=O)=O)s1'))
    """
    text = files("discrete_grad.data").joinpath("drugs.csv").read_text(encoding="utf-8")
    return tuple(Drug(**row) for row in csv.DictReader(text.splitlines()))


@dataclass(frozen=True, eq=False)
class MoleculeSpace:
    """Molecules of at most F SELFIES tokens, as rows of F features.

    Every feature has the same categories: `[nop]`, the end, and then the tokens. What comes after
    the first end is not read, so every row is some molecule, or none at all if it starts with it;
    `encode` ends every molecule with nothing but ends.

    Args:
        tokens: SELFIES tokens, `[nop]` first.
        length: tokens of the longest molecule.

    Raises:
        ValueError: for tokens that do not begin with `[nop]` or repeat, or no length.

    Reference:
        Krenn et al. (2020), arXiv 1905.13741.

    Example:
        >>> molecules = molecule_space(["CCO", "c1ccccc1"])
        >>> molecules.space.num_features, molecules.tokens
        (8, ('[nop]', '[=Branch1]', '[=C]', '[C]', '[O]', '[Ring1]'))
        >>> codes = molecules.encode(["OCC"])
        >>> codes
        tensor([[3, 3, 4, 0, 0, 0, 0, 0]])
        >>> molecules.decode(codes)
        ['CCO']
    """

    tokens: tuple[str, ...]
    length: int

    def __post_init__(self) -> None:
        if self.tokens[:1] != (END,) or len(set(self.tokens)) < len(self.tokens):
            raise ValueError(f"tokens must differ and begin with {END!r}, got {self.tokens}")
        if self.length < 1:
            raise ValueError(f"length must be at least 1, got {self.length}")

    @functools.cached_property
    def space(self) -> CategoricalSpace:
        """The features `token 1`, `token 2`, ..., all of the same categories."""
        return CategoricalSpace({f"token {i + 1}": list(self.tokens) for i in range(self.length)})

    def fits(self, smiles: str) -> bool:
        """Whether a molecule can be written as a row: readable, of these tokens, not too long."""
        try:
            self._codes(smiles)
        except TableError:
            return False
        return True

    def encode(self, smiles: Sequence[str]) -> Tensor:
        """Codes `(N, F)` of the molecules, the same for every SMILES of a molecule.

        Raises:
            TableError: for a SMILES that is none, a token not in the space, or too many tokens;
                with the row, counted from 1.
        """
        codes = each_row(self._codes, smiles)
        return torch.tensor(codes).reshape(-1, self.length)

    def decode(self, codes: Tensor) -> list[str]:
        """Canonical SMILES of each row of codes `(N, F)`; empty where a row holds no molecule.

        Raises:
            ValueError: for codes of another shape or out of range.
        """
        self.space.check_codes(codes)
        if codes.dim() != 2:
            raise ValueError(f"codes must be (N, {self.length}), got {tuple(codes.shape)}")
        return [self._smiles(tuple(row)) for row in codes.tolist()]

    def _codes(self, smiles: str) -> list[int]:
        tokens = selfies_tokens(smiles)
        if len(tokens) > self.length:
            raise TableError(f"{shown(smiles)} has {len(tokens)} tokens, at most {self.length} fit")
        for token in tokens:
            if token not in self.tokens:
                hint = closest(token, self.tokens)
                raise TableError(f"{shown(smiles)} has a token {token!r} not in the space{hint}")
        tokens += [END] * (self.length - len(tokens))
        return [self.tokens.index(token) for token in tokens]

    def _smiles(self, row: tuple[int, ...]) -> str:
        end = row.index(0) if 0 in row else len(row)
        text = "".join(self.tokens[code] for code in row[:end])
        molecule = parsed(package("selfies").decoder(text)) if text else None
        return "" if molecule is None else canonical(molecule)


def molecule_space(smiles: Sequence[str], *, length: int | None = None) -> MoleculeSpace:
    """The space of the molecules that are written with the same tokens as these.

    Args:
        smiles: molecules, at least one.
        length: tokens of the longest; None for that of the longest of these.

    Raises:
        TableError: for a SMILES that is none, or no molecule at all.

    Example:
        >>> molecule_space(["CCO", "CC=O"]).tokens
        ('[nop]', '[=O]', '[C]', '[O]')
    """
    rows = each_row(selfies_tokens, smiles)
    if not rows:
        raise TableError("a space of molecules needs at least one")
    found = sorted({token for row in rows for token in row})
    return MoleculeSpace((END, *found), length or max(len(row) for row in rows))


def selfies_tokens(smiles: str) -> list[str]:
    """SELFIES tokens of a molecule, whichever of its SMILES is given."""
    selfies = package("selfies")
    try:
        text = selfies.encoder(canonical(read(smiles)))
    except selfies.EncoderError as error:
        why = " ".join(str(error).split())[:200]
        raise TableError(f"{shown(smiles)} has no SELFIES: {why}") from error
    return list(selfies.split_selfies(text))


def read(smiles: str) -> Any:
    """The molecule of a SMILES; TableError if it is none, or empty."""
    molecule = parsed(smiles) if isinstance(smiles, str) else None
    if molecule is None or not molecule.GetNumAtoms():
        raise TableError(f"{shown(smiles)} is no molecule's SMILES")
    return molecule


def parsed(smiles: str) -> Any | None:
    """The molecule, all its valences right, or None; without rdkit's messages."""
    with package("rdkit.rdBase").BlockLogs():
        return package("rdkit.Chem").MolFromSmiles(smiles)


def canonical(molecule: Any) -> str:
    """The one SMILES of a molecule, as rdkit writes it."""
    return str(package("rdkit.Chem").MolToSmiles(molecule))


def each_row(function: Callable[[str], Any], smiles: Sequence[str]) -> list[Any]:
    """The function of each molecule; its TableErrors name the row, counted from 1."""
    if isinstance(smiles, str):
        raise TypeError(f"molecules come as a list of SMILES, got one: {shown(smiles)}")
    results = []
    for number, text in enumerate(smiles, 1):
        try:
            results.append(function(text))
        except TableError as error:
            raise TableError(f"row {number}: {error}") from error
    return results


@functools.cache
def package(name: str) -> Any:
    """A module of rdkit or selfies.

    Raises:
        ImportError: if it is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"molecules need {name.partition('.')[0]}, which is not installed: "
            "pip install 'discrete_grad[molecules]'"
        ) from error
