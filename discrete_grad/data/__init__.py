"""Tables and molecules to rows and back: vocabularies, contexts, the complete example tables."""

from discrete_grad.data.aims import Aim
from discrete_grad.data.chemistry import (
    MOLECULE_ATTRIBUTES,
    molecule_attributes,
    molecule_grid,
    tanimoto,
)
from discrete_grad.data.errors import TableError, TableWarning
from discrete_grad.data.examples import Example, load_example
from discrete_grad.data.molecules import Drug, MoleculeSpace, drugs, molecule_space
from discrete_grad.data.recombine import recombined_molecules
from discrete_grad.data.schema import NumericColumn, Schema
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.data.table import Table, read_contexts, read_table
from discrete_grad.data.vocabulary import Vocabulary
from discrete_grad.data.writing import output_format, write_rows

__all__ = [
    "MOLECULE_ATTRIBUTES",
    "Aim",
    "Drug",
    "Example",
    "MoleculeSpace",
    "NumericColumn",
    "Schema",
    "ScoredRows",
    "Table",
    "TableError",
    "TableWarning",
    "Vocabulary",
    "drugs",
    "load_example",
    "molecule_attributes",
    "molecule_grid",
    "molecule_space",
    "output_format",
    "read_contexts",
    "read_table",
    "recombined_molecules",
    "tanimoto",
    "write_rows",
]
