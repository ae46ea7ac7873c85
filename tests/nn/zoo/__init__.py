"""Models as users write them: the ways in which they read codes, and what follows the tables."""

from tests.nn.zoo import calls, columns, lookups, moves, one_hots, one_table, refused
from tests.nn.zoo.base import BODIES, SPACE, STYLES, Style, batch_norm, linear

assert calls and columns and lookups and moves and one_hots and one_table and refused

WORKING = [style for style in STYLES if style.refused is None]
REFUSED = [style for style in STYLES if style.refused is not None]

__all__ = ["BODIES", "REFUSED", "SPACE", "STYLES", "WORKING", "Style", "batch_norm", "linear"]
