"""Molecules as rows: the drugs against rdkit, the rows against the molecules, the attributes."""

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rdkit import Chem, DataStructs
from rdkit.Chem import AllChem, Descriptors, rdMolDescriptors

from discrete_grad.data import (
    MOLECULE_ATTRIBUTES,
    MoleculeSpace,
    TableError,
    drugs,
    molecule_attributes,
    molecule_grid,
    molecule_space,
    molecules,
    recombine,
    recombined_molecules,
    tanimoto,
)

SMILES = [drug.smiles for drug in drugs()]
SPACE = molecule_space(SMILES)
SHORT = molecule_space(SMILES, length=30)
BITS = "[nop]", "[=Branch1]", "[=C]", "[C]", "[O]", "[Ring1]"


# --- the drugs ------------------------------------------------------------------------------------


def test_formula_of_each_drug_agrees_with_its_structure() -> None:
    found = {drug: Chem.MolFromSmiles(drug.smiles) for drug in drugs()}
    formulas = {drug.name: rdMolDescriptors.CalcMolFormula(m) for drug, m in found.items()}
    assert formulas == {drug.name: drug.formula for drug in drugs()}
    assert [Chem.MolToSmiles(molecule) for molecule in found.values()] == SMILES


def test_drugs_are_sorted_and_different() -> None:
    names = [drug.name for drug in drugs()]
    assert names == sorted(set(names))
    assert len(set(SMILES)) == len(SMILES) == 366


# --- rows -----------------------------------------------------------------------------------------


def test_every_drug_that_fits_comes_back() -> None:
    assert SPACE.decode(SPACE.encode(SMILES)) == SMILES
    fitting = [smiles for smiles in SMILES if SHORT.fits(smiles)]
    assert 100 < len(fitting) < len(SMILES)
    assert SHORT.decode(SHORT.encode(fitting)) == fitting


def test_a_row_does_not_depend_on_how_the_molecule_is_written() -> None:
    for smiles in SMILES[::10]:
        molecule = Chem.MolFromSmiles(smiles)
        others = [Chem.MolToSmiles(molecule, doRandom=True) for _ in range(3)]
        codes = SPACE.encode([smiles, *others])
        assert (codes == codes[0]).all()


def test_ends_are_last_and_what_follows_one_is_not_read() -> None:
    space = MoleculeSpace(BITS, 5)
    codes = space.encode(["CCO", "C"])
    assert codes.tolist() == [[3, 3, 4, 0, 0], [3, 0, 0, 0, 0]]
    assert space.decode(torch.tensor([[3, 3, 4, 0, 3], [3, 0, 4, 2, 5]])) == ["CCO", "C"]
    assert space.decode(torch.tensor([[0, 3, 3, 3, 3], [5, 5, 0, 0, 0]])) == ["", ""]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, len(SPACE.tokens) - 1), min_size=30, max_size=30))
def test_every_row_is_a_molecule_or_empty(codes: list[int]) -> None:
    (smiles,) = SHORT.decode(torch.tensor([codes]))
    molecule = Chem.MolFromSmiles(smiles)
    assert molecule is not None
    assert Chem.MolToSmiles(molecule) == smiles


def test_the_space_has_one_feature_a_token() -> None:
    assert SPACE.space.num_features == SPACE.length == SPACE.encode(SMILES).shape[1]
    assert set(SPACE.space.sizes) == {len(SPACE.tokens)}
    assert SPACE.tokens[0] == "[nop]"
    assert (SPACE.encode(SMILES) > 0).any(0).all()
    assert molecule_space(["CCO"], length=9).length == 9
    assert SPACE.encode([]).shape == (0, SPACE.length)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("C1CC", r"row 2: 'C1CC' is no molecule's SMILES"),
        ("C(C)(C)(C)(C)C", "row 2: .* is no molecule's SMILES"),
        ("", "row 2: '' is no molecule's SMILES"),
        (None, "row 2: None is no molecule's SMILES"),
        ("CN", r"row 2: 'CN' has a token '\[N\]' not in the space"),
        ("CCCCCC", "row 2: 'CCCCCC' has 6 tokens, at most 5 fit"),
        ("FS(F)(F)(F)(F)(F)F", "row 2: .* is no molecule's SMILES|row 2: .* has no SELFIES"),
    ],
)
def test_what_cannot_be_a_row_is_named(smiles: str, message: str) -> None:
    space = MoleculeSpace(BITS, 5)
    with pytest.raises(TableError, match=message):
        space.encode(["CCO", smiles])
    assert not space.fits(smiles)
    assert space.fits("CCO")


def test_errors_of_spaces_and_codes() -> None:
    with pytest.raises(ValueError, match=r"begin with '\[nop\]', got \('\[C\]',\)"):
        MoleculeSpace(("[C]",), 3)
    with pytest.raises(ValueError, match="must differ"):
        MoleculeSpace(("[nop]", "[C]", "[C]"), 3)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        MoleculeSpace(BITS, 0)
    assert MoleculeSpace(BITS, 1).space.num_features == 1
    with pytest.raises(TableError, match="at least one"):
        molecule_space([])
    with pytest.raises(TypeError, match="list of SMILES, got one: 'CCO'"):
        molecule_space("CCO")
    with pytest.raises(ValueError, match=r"codes must be \(N, 5\), got \(5,\)"):
        MoleculeSpace(BITS, 5).decode(torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match="token 2"):
        MoleculeSpace(BITS, 5).decode(torch.tensor([[0, 6, 0, 0, 0]]))


# --- recombined -----------------------------------------------------------------------------------


def test_recombined_molecules_are_valid_new_and_within_bounds() -> None:
    found = recombined_molecules(400, seed=0, atoms=(10, 20))
    assert len(set(found)) == 400
    assert len(set(found) & set(SMILES)) < 40
    for smiles in found:
        molecule = Chem.MolFromSmiles(smiles)
        assert Chem.MolToSmiles(molecule) == smiles
        assert 10 <= molecule.GetNumAtoms() <= 20
        assert "*" not in smiles
        assert "." not in smiles
        assert not Descriptors.NumRadicalElectrons(molecule)
        assert all(atom.GetIsotope() == 0 for atom in molecule.GetAtoms())


def test_a_molecule_is_recombined_from_two_to_five_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a part with two ends, so that there always is one left to go on from."""
    part = recombine._fragment(Chem.MolFromSmiles("[1*]CC[1*]"))
    parts = recombine._Fragments((part,), {"1": ((0, 0), (0, 1))})
    bonds, bond = list[int](), recombine._bond

    def counted(*given: Any) -> None:
        bonds[-1] += 1
        bond(*given)

    monkeypatch.setattr(recombine, "_bond", counted)
    for seed in range(60):
        bonds.append(0)
        recombine._joined(parts, np.random.default_rng(seed), most=100)
    assert set(bonds) == {1, 2, 3, 4}


def test_the_seed_decides() -> None:
    assert recombined_molecules(50, seed=3) == recombined_molecules(80, seed=3)[:50]
    assert set(recombined_molecules(50, seed=3)) != set(recombined_molecules(50, seed=4))
    assert recombined_molecules(0, seed=3) == ()


def test_recombined_molecules_have_selfies() -> None:
    found = recombined_molecules(300, seed=1)
    space = molecule_space(found)
    assert tuple(space.decode(space.encode(found))) == found


def test_errors_of_recombination() -> None:
    with pytest.raises(ValueError, match="ascending, got 3, \\(9, 8\\)"):
        recombined_molecules(3, seed=0, atoms=(9, 8))
    with pytest.raises(ValueError, match="from 0 on"):
        recombined_molecules(-1, seed=0)
    with pytest.raises(TableError, match="of 30 molecules of \\(1, 3\\) atoms"):
        recombined_molecules(30, seed=0, atoms=(1, 3))


# --- attributes -----------------------------------------------------------------------------------


def test_attributes_of_known_molecules() -> None:
    # by hand: paracetamol C8H9NO2, one benzene ring, OH and NH, 151.16 g/mol, and ethanol
    rows = molecule_attributes(["CC(=O)Nc1ccc(O)cc1", "CCO", "COC"])
    assert rows.shape == (3, len(MOLECULE_ATTRIBUTES))
    assert rows.dtype == torch.float64
    drug, ethanol, ether = (
        dict(zip(MOLECULE_ATTRIBUTES, row.tolist(), strict=True)) for row in rows
    )
    assert round(drug["weight"], 2) == 151.16  # 8 * 12.011 + 9 * 1.008 + 14.007 + 2 * 15.999
    assert (drug["rings"], drug["aromatic_rings"], drug["donors"]) == (1, 1, 2)
    assert drug["acceptors"] == 2
    assert drug["rotatable_bonds"] == 1
    assert round(drug["tpsa"], 2) == 49.33  # 20.23 of OH, 17.07 of C=O, 12.03 of NH
    assert round(drug["sp3_fraction"], 3) == 0.125
    assert 0 < drug["qed"] < 1
    assert (ether["donors"], ether["acceptors"]) == (0, 1)
    assert ethanol["tpsa"] == pytest.approx(20.23)
    assert ethanol["logp"] < drug["logp"]
    assert molecule_attributes([]).shape == (0, len(MOLECULE_ATTRIBUTES))
    with pytest.raises(TableError, match="row 2: 'C1' is no molecule's SMILES"):
        molecule_attributes(["C", "C1"])


def test_likeness_is_that_of_rdkit() -> None:
    some, others = SMILES[:12], SMILES[6:20]
    make = AllChem.GetMorganGenerator(radius=2, fpSize=2048)
    prints = {s: make.GetFingerprint(Chem.MolFromSmiles(s)) for s in some + others}
    wanted = [[DataStructs.TanimotoSimilarity(prints[a], prints[b]) for b in others] for a in some]
    assert torch.allclose(tanimoto(some, others), torch.tensor(wanted, dtype=torch.float64))
    assert torch.equal(tanimoto(some).diagonal(), torch.ones(12, dtype=torch.float64))
    assert tanimoto([]).shape == (0, 0)


def test_a_grid_is_a_png_of_its_size() -> None:
    picture = molecule_grid(SMILES[:5], columns=4)
    assert picture.startswith(b"\x89PNG")
    width, height = (int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (1000, 400)
    ink = np.asarray(Image.open(io.BytesIO(picture)).convert("L")) < 128
    drawn = ink.reshape(2, 200, 4, 250).any((1, 3))  # in each place, row by row
    assert drawn.flatten().tolist() == [True] * 5 + [False] * 3
    with pytest.raises(ValueError, match="got 1 molecules, 2 captions, 4 columns"):
        molecule_grid(["C"], ["a", "b"])
    with pytest.raises(ValueError, match="got 0 molecules"):
        molecule_grid([])


# --- without the extra ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rdkit.Chem", "selfies"])
def test_a_missing_package_names_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    molecules.package.cache_clear()
    monkeypatch.setitem(sys.modules, name, None)
    try:
        with pytest.raises(ImportError, match=r"pip install 'discrete_grad\[molecules\]'"):
            molecules.package(name)
    finally:
        molecules.package.cache_clear()


def test_the_room_is_imported_without_either() -> None:
    code = (
        "import sys; import discrete_grad.data as data; data.drugs(); "
        "assert not {'rdkit', 'selfies'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
