"""Train a generator of categories through a frozen model that scores them."""

from discrete_grad import gradient as gradient
from discrete_grad.gradient import *
from discrete_grad.models import edit
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["CategoricalSpace", "ContextSpec", "edit"]
__all__ += gradient.__all__
