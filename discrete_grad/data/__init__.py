"""Tables to rows and back: vocabularies, contexts and the complete example tables."""

from discrete_grad.data.errors import TableError
from discrete_grad.data.examples import Example, load_example
from discrete_grad.data.schema import NumericColumn, Schema, Vocabulary
from discrete_grad.data.table import Table, read_contexts, read_table
from discrete_grad.data.writing import output_format, write_rows

__all__ = [
    "Example",
    "NumericColumn",
    "Schema",
    "Table",
    "TableError",
    "Vocabulary",
    "load_example",
    "output_format",
    "read_contexts",
    "read_table",
    "write_rows",
]
