"""The space of rows: shapes, per-feature algebra, log-probabilities and enumeration."""

from discrete_grad.space.categorical import CategoricalSpace
from discrete_grad.space.context import ContextSpec
from discrete_grad.space.tensors import can_inspect as can_inspect
from discrete_grad.space.tensors import code_dtype as code_dtype
from discrete_grad.space.tensors import in_backward as in_backward
from discrete_grad.space.tensors import is_codes as is_codes
from discrete_grad.space.tensors import is_wrapped as is_wrapped
from discrete_grad.space.tensors import require_derivatives as require_derivatives

__all__ = ["CategoricalSpace", "ContextSpec"]
