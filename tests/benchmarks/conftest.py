"""Makes the checkout's `benchmarks` importable, which are not part of the installed package."""

import sys
from pathlib import Path

# last, or the checkout's discrete_grad would stand in front of the installed one
sys.path.append(str(Path(__file__).parents[2]))
