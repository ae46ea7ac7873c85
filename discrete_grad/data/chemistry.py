"""Attributes, similarity and picture of a molecule, from its structure."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from discrete_grad.data.molecules import each_row, package, read

__all__ = ["MOLECULE_ATTRIBUTES", "molecule_attributes", "molecule_grid", "tanimoto"]

MOLECULE_ATTRIBUTES = (
    "logp",
    "qed",
    "tpsa",
    "weight",
    "rings",
    "aromatic_rings",
    "donors",
    "acceptors",
    "rotatable_bonds",
    "sp3_fraction",
)
"""Columns of `molecule_attributes`."""

_BITS = 2048
_RADIUS = 2  # bonds around an atom that a bit of the fingerprint sees


def molecule_attributes(smiles: Sequence[str]) -> Tensor:
    """Attributes `(N, 10)`, float64, in the order of `MOLECULE_ATTRIBUTES`.

    By rdkit: Crippen's logarithm of the partition coefficient between octanol and water; the
    quantitative estimate of drug-likeness, in [0, 1]; the topological polar surface area in square
    angstroms; the weight in g/mol; rings, and the aromatic ones; donors and acceptors of hydrogen
    bonds; rotatable bonds; the share of carbons that are sp3, in [0, 1].

    Raises:
        TableError: for a SMILES that is none, with the row, counted from 1.
        ImportError: if rdkit is not installed; names the command that installs it.

    Reference:
        Wildman and Crippen (1999); Bickerton et al. (2012); Ertl, Rohde and Selzer (2000).

    Example:
        >>> benzene = dict(zip(MOLECULE_ATTRIBUTES, molecule_attributes(["c1ccccc1"])[0].tolist()))
        >>> benzene["rings"], benzene["tpsa"], round(benzene["weight"], 2)
        (1.0, 0.0, 78.11)
    """
    rows = each_row(_attributes, smiles)
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(MOLECULE_ATTRIBUTES))


@functools.lru_cache(maxsize=1 << 17)
def _attributes(smiles: str) -> tuple[float, ...]:
    molecule = read(smiles)
    return tuple(float(function(molecule)) for function in _functions())


@functools.cache
def _functions() -> tuple[Any, ...]:
    descriptors, about = package("rdkit.Chem.rdMolDescriptors"), package("rdkit.Chem.Descriptors")
    return (
        package("rdkit.Chem.Crippen").MolLogP,
        package("rdkit.Chem.QED").qed,
        descriptors.CalcTPSA,
        about.MolWt,
        descriptors.CalcNumRings,
        descriptors.CalcNumAromaticRings,
        descriptors.CalcNumHBD,
        descriptors.CalcNumHBA,
        descriptors.CalcNumRotatableBonds,
        descriptors.CalcFractionCSP3,
    )


def tanimoto(smiles: Sequence[str], others: Sequence[str] | None = None) -> Tensor:
    """Likeness `(N, M)`, in [0, 1], float64, of molecules to others, or to each other.

    The share that two molecules have in common of the parts, an atom and what lies within two bonds
    of it, that either has: Morgan fingerprints of 2048 bits. Two molecules without any are alike.

    Args:
        smiles: N molecules.
        others: M molecules; None for the same.

    Raises:
        TableError: for a SMILES that is none, with the row, counted from 1.
        ImportError: if rdkit is not installed; names the command that installs it.

    Reference:
        Rogers and Hahn (2010), Extended-connectivity fingerprints.

    Example:
        >>> tanimoto(["CCO", "c1ccccc1"])
        tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    ours = _fingerprints(smiles)
    theirs = ours if others is None else _fingerprints(others)
    common = ours @ theirs.T
    either = ours.sum(-1, keepdim=True) + theirs.sum(-1) - common
    return torch.where(either > 0, common / either.clamp_min(1), 1.0)


def _fingerprints(smiles: Sequence[str]) -> Tensor:
    """Zeros and ones `(N, 2048)`, in float64: sums of so many are exact."""
    make = package("rdkit.Chem.rdFingerprintGenerator").GetMorganGenerator
    generator = make(radius=_RADIUS, fpSize=_BITS)
    rows = each_row(lambda text: generator.GetFingerprintAsNumPy(read(text)), smiles)
    bits = [torch.from_numpy(row).double() for row in rows]
    return torch.stack(bits) if bits else torch.zeros(0, _BITS, dtype=torch.float64)


def molecule_grid(
    smiles: Sequence[str], captions: Sequence[str] | None = None, *, columns: int = 4
) -> bytes:
    """A PNG of the molecules' structural formulas, row by row, each 250 by 200 pixels.

    Args:
        smiles: molecules, at least one.
        captions: what stands below each; None for nothing.
        columns: pictures in a row.

    Raises:
        TableError: for a SMILES that is none, with the row, counted from 1.
        ValueError: for no molecules, or another number of captions.
        ImportError: if rdkit is not installed; names the command that installs it.

    Example:
        >>> molecule_grid(["CCO", "c1ccccc1"], ["ethanol", "benzene"])[1:4]
        b'PNG'
    """
    texts = [""] * len(smiles) if captions is None else list(captions)
    if not smiles or len(texts) != len(smiles) or columns < 1:
        raise ValueError(f"got {len(smiles)} molecules, {len(texts)} captions, {columns} columns")
    drawing = package("rdkit.Chem.Draw.rdMolDraw2D")
    rows = -(-len(smiles) // columns)
    canvas = drawing.MolDraw2DCairo(columns * 250, rows * 200, 250, 200)
    canvas.drawOptions().legendFontSize = 16
    canvas.DrawMolecules(each_row(read, smiles), legends=texts)
    canvas.FinishDrawing()
    return bytes(canvas.GetDrawingText())
