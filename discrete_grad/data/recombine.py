"""New molecules from the parts of known drugs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from discrete_grad.data.errors import TableError
from discrete_grad.data.molecules import canonical, drugs, package, parsed

__all__ = ["recombined_molecules"]

PARTS = (2, 5)  # fragments of a molecule
PATIENCE = 50  # attempts for each molecule asked for
# kind of an end -> element that closes it: acids, ketones and sulphonamides; else hydrogen
CAPS = {"1": 8, "6": 8, "7": 8, "12": 7}


def recombined_molecules(
    count: int, *, seed: int, atoms: tuple[int, int] = (8, 24)
) -> tuple[str, ...]:
    """Canonical SMILES of different molecules, made of 2 to 5 fragments of `drugs()` each.

    The drugs are cut where a chemist would (BRICS), and fragments are joined at random at ends that
    fit each other; an end left over is closed by hydrogen, or to an acid, ketone or sulphonamide.

    Args:
        count: molecules, from 0 on.
        seed: decides them; more molecules of the same seed begin with the same.
        atoms: the fewest and the most atoms other than hydrogen.

    Raises:
        ValueError: for a negative count, or bounds that are not ascending.
        TableError: where so many different molecules within the bounds cannot be found.
        ImportError: if rdkit is not installed; names the command that installs it.

    Reference:
        Degen et al. (2008), On the art of compiling and using "drug-like" chemical fragment spaces,
        ChemMedChem 3, 1503-1507.

    Example:
        >>> recombined_molecules(2, seed=0) == recombined_molecules(3, seed=0)[:2]
        True
    """
    if count < 0 or not 1 <= atoms[0] <= atoms[1]:
        raise ValueError(f"count and atoms must be from 0 on and ascending, got {count}, {atoms}")
    found: dict[str, None] = {}
    noise = np.random.default_rng(seed)
    for _ in range(PATIENCE * count):
        if len(found) == count:
            break
        smiles = _assembled(_fragments(), noise, atoms)
        if smiles is not None:
            found[smiles] = None
    if len(found) < count:
        raise TableError(f"only {len(found)} of {count} molecules of {atoms} atoms were found")
    return tuple(found)


@dataclass(frozen=True)
class _Fragment:
    molecule: Any
    ends: tuple[tuple[int, str], ...]
    """Each dummy atom and the kind of its bond."""


@dataclass(frozen=True)
class _Fragments:
    all: tuple[_Fragment, ...]
    partners: dict[str, tuple[tuple[int, int], ...]]
    """Kind of a bond -> (fragment, its end) of what may be there on the other side."""


@functools.cache
def _fragments() -> _Fragments:
    """The drugs' fragments, each as often as it occurs, so that common ones stay common."""
    chem, brics = package("rdkit.Chem"), package("rdkit.Chem.BRICS")
    texts = [
        text
        for drug in drugs()
        for text in sorted(brics.BRICSDecompose(chem.MolFromSmiles(drug.smiles)))
        if "*" in text
    ]
    found = tuple(_fragment(chem.MolFromSmiles(text)) for text in texts)
    fitting = {kind: _fitting(kind, found) for fragment in found for _, kind in fragment.ends}
    return _Fragments(found, fitting)


def _fragment(molecule: Any) -> _Fragment:
    dummies = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]
    return _Fragment(molecule, tuple((a.GetIdx(), str(a.GetIsotope())) for a in dummies))


def _fitting(kind: str, fragments: tuple[_Fragment, ...]) -> tuple[tuple[int, int], ...]:
    kinds = _partners()[kind]
    return tuple(
        (number, place)
        for number, fragment in enumerate(fragments)
        for place, (_, other) in enumerate(fragment.ends)
        if other in kinds
    )


@functools.cache
def _partners() -> dict[str, set[str]]:
    """The kinds of bonds that BRICS cuts between, both ways."""
    found: dict[str, set[str]] = {}
    for group in package("rdkit.Chem.BRICS").reactionDefs:
        for left, right, _ in group:
            left, right = left.rstrip("ab"), right.rstrip("ab")
            found.setdefault(left, set()).add(right)
            found.setdefault(right, set()).add(left)
    return found


def _assembled(
    fragments: _Fragments, noise: np.random.Generator, atoms: tuple[int, int]
) -> str | None:
    """One molecule; None if it has no right size or valences."""
    joined = _joined(fragments, noise, atoms[1])
    smiles = canonical(joined) if joined is not None else ""
    molecule = parsed(smiles)
    if molecule is None or not atoms[0] <= molecule.GetNumAtoms() <= atoms[1]:
        return None
    return canonical(molecule)


def _joined(fragments: _Fragments, noise: np.random.Generator, most: int) -> Any | None:
    chem = package("rdkit.Chem")
    first = fragments.all[noise.integers(len(fragments.all))]
    molecule, ends, spent = chem.RWMol(first.molecule), list(first.ends), list[int]()
    for _ in range(int(noise.integers(PARTS[0], PARTS[1] + 1)) - 1):
        if not ends or molecule.GetNumAtoms() - len(spent) - len(ends) > most:
            break
        here, kind = ends.pop(int(noise.integers(len(ends))))
        number, place = fragments.partners[kind][noise.integers(len(fragments.partners[kind]))]
        other, shift = fragments.all[number], molecule.GetNumAtoms()
        there = other.ends[place][0] + shift
        molecule.InsertMol(other.molecule)
        _bond(molecule, here, there)
        ends += [(i + shift, k) for i, k in other.ends if i + shift != there]
        spent += [here, there]
    return _closed(molecule, ends, spent)


def _bond(molecule: Any, here: int, there: int) -> None:
    """Join the neighbours of two dummy atoms as these are bound."""
    (one,), (two,) = (molecule.GetAtomWithIdx(i).GetNeighbors() for i in (here, there))
    kind = molecule.GetBondBetweenAtoms(here, one.GetIdx()).GetBondType()
    molecule.AddBond(one.GetIdx(), two.GetIdx(), kind)


def _closed(molecule: Any, ends: list[tuple[int, str]], spent: list[int]) -> Any | None:
    """The ends left over with their caps, and the dummies gone that were joined."""
    chem = package("rdkit.Chem")
    for index, kind in ends:
        atom = molecule.GetAtomWithIdx(index)
        atom.SetAtomicNum(CAPS.get(kind, 1))
        atom.SetIsotope(0)
        atom.SetNoImplicit(False)  # or rdkit would leave a radical
    for index in sorted(spent, reverse=True):
        molecule.RemoveAtom(index)
    try:
        chem.SanitizeMol(molecule)
    except chem.MolSanitizeException:
        return None
    return chem.RemoveHs(molecule)
