"""Train a generator of categories through a frozen model that scores them."""

import discrete_grad.gradient as gradient
from discrete_grad.gradient import *
from discrete_grad.space import CategoricalSpace, ContextSpec

__all__ = ["CategoricalSpace", "ContextSpec"]
__all__ += gradient.__all__
