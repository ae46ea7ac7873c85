"""Any model of codes, made to take soft rows."""

from discrete_grad.nn.soften import _lookups as _lookups  # these three say what is followed
from discrete_grad.nn.soften import _moves as _moves
from discrete_grad.nn.soften import _numbers as _numbers
from discrete_grad.nn.soften._soften import soften

__all__ = ["soften"]
