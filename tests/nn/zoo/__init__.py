"""Models as users write them: the ways in which they read codes, and what follows the tables."""

from tests.nn.zoo import bags as bags
from tests.nn.zoo import calls as calls
from tests.nn.zoo import columns as columns
from tests.nn.zoo import lookups as lookups
from tests.nn.zoo import moves as moves
from tests.nn.zoo import offsets as offsets
from tests.nn.zoo import one_hots as one_hots
from tests.nn.zoo import one_table as one_table
from tests.nn.zoo import refused as refused
from tests.nn.zoo.base import BODIES, SPACE, STYLES, Style, batch_norm, linear

WORKING = [style for style in STYLES if style.refused is None]
REFUSED = [style for style in STYLES if style.refused is not None]

__all__ = ["BODIES", "REFUSED", "SPACE", "STYLES", "WORKING", "Style", "batch_norm", "linear"]
