"""Any model of codes, made to take soft rows."""

from discrete_grad.nn.soften._soften import soften

__all__ = ["soften"]
