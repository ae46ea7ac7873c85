"""df/dx, and training by the variance, shared by gradient estimators with control variates."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.gradient._numbers import as_number
from discrete_grad.gradient.base import Function, evaluate, widened
from discrete_grad.gradient.black_box import NoDerivativeError
from discrete_grad.space import CategoricalSpace, can_inspect

__all__ = [
    "check_weight",
    "differentiate",
    "learned_number",
    "score",
    "squared_norm",
    "take_scalars",
    "weighted",
    "with_gradient",
]


def differentiate(f: Function, rows: Tensor, *, again: bool = False) -> tuple[Tensor, Tensor]:
    """Values `(samples, *batch)` of f and df/dx `(samples, *batch, D)`, one backward pass.

    Args:
        f: differentiable in the row.
        rows: `(samples, *batch, D)`.
        again: whether df/dx is to be differentiated in turn; f may then change no buffer.

    Returns:
        The values, which keep their dependence on f's own parameters but none on the rows, and
        df/dx.

    Raises:
        ValueError: if the values do not depend on the rows through a derivative.

    Example:
        >>> values, slope = differentiate(lambda rows: (rows**2).sum(-1), torch.ones(4, 3))
        >>> values[0], slope[0]
        (tensor(3.), tensor([2., 2., 2.]))
    """
    compiling = torch.compiler.is_compiling()
    # torch.func nests and compiles, where a leaf's requires_grad_() is refused, and it works under
    # torch.inference_mode(), which knows no leaf
    special = compiling or torch.is_inference_mode_enabled()
    if again or special or torch._C._functorch.peek_interpreter_stack() is not None:
        values, pullback = torch.func.vjp(lambda x: evaluate(f, x), rows)[:2]
        return values, pullback(torch.ones_like(values))[0]
    with torch.enable_grad():
        # df/dx is part of the estimate, so it is needed under torch.no_grad(), too
        leaf = rows.detach().requires_grad_()
        values = evaluate(f, leaf)
        if not rows.numel():
            return values, torch.zeros_like(rows)
        slope = None
        if values.requires_grad:
            total = values.sum()
            # the graph stays for the user's backward() through f's own parameters; an f that leaves
            # the row out gets the message below instead of autograd's
            (slope,) = torch.autograd.grad(total, leaf, retain_graph=True, allow_unused=True)
    if slope is None:
        raise NoDerivativeError("f", values)
    # without this the user's backward() would pass through a frozen f once more, for nothing
    return values if _depends_on_more_than(values, leaf) else values.detach(), slope


def _depends_on_more_than(values: Tensor, leaf: Tensor) -> bool:
    """Whether a gradient of the values would reach a tensor other than `leaf`."""
    nodes, seen = [values.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        # only the graph's leaves (AccumulateGrad) have a variable
        if getattr(node, "variable", leaf) is not leaf:
            return True
        nodes += [parent for parent, _ in node.next_functions]
    return False


def score(space: CategoricalSpace, logits: Tensor, hard: Tensor) -> Tensor:
    """`hard - softmax(logits)`, the gradient of the log-probability `(..., D)`, at least float32.

    Example:
        >>> space = CategoricalSpace.from_sizes((2,))
        >>> score(space, torch.zeros(2), torch.tensor([1.0, 0.0]))
        tensor([ 0.5000, -0.5000])
    """
    return hard - space.softmax(widened(logits))


def squared_norm(gradient: Tensor) -> Tensor:
    """`|gradient|^2` `(*batch)`; for an unbiased gradient it is the variance but for a constant.

    Example:
        >>> squared_norm(torch.tensor([3.0, 4.0]))
        tensor(25.)
    """
    return (gradient * gradient).sum(-1)


def check_weight(name: str, weight: float, *, learn: bool) -> float | nn.Parameter:
    """The weight of a control variate: a finite number, or a parameter that starts there.

    Example:
        >>> check_weight("alpha", 1, learn=False)
        1.0
    """
    number = as_number(weight)
    if number is None or not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {weight!r}")
    return learned_number(number) if learn else number


def learned_number(start: float) -> nn.Parameter:
    """A parameter `(1,)` that starts at a number; FSDP2 shards none without dimensions.

    Example:
        >>> learned_number(0.5).shape
        torch.Size([1])
    """
    return nn.Parameter(torch.tensor([start]))


def take_scalars(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Hook before a state is loaded: learned numbers of versions before had no dimensions."""
    for name, parameter in module.named_parameters(recurse=False):
        saved = state.get(prefix + name)
        if parameter.shape == (1,) and isinstance(saved, Tensor) and saved.dim() == 0:
            state[prefix + name] = saved.unsqueeze(0)


def weighted(
    base: Tensor, correction: Tensor, weight: float | Tensor
) -> tuple[Tensor, Tensor | None]:
    """`base + weight * correction` `(*batch, D)`, and the variance as far as the weight decides it.

    The second result `(*batch)` has the slope of the squared norm in the weight; None where the
    weight is a number.

    Example:
        >>> weighted(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0]), 0.5)
        (tensor([1.5000, 1.0000]), None)
    """
    if not isinstance(weight, Tensor):
        return base + weight * correction, None
    gradient = base + weight.detach().to(base.dtype) * correction
    # d |base + w c|^2 / dw = 2 (base + w c) . c, as the coefficient of a function linear in w
    slope = 2 * (gradient * correction).sum(-1)
    return gradient, weight.to(base.dtype).reshape(()) * slope


def with_gradient(
    value: Tensor, logits: Tensor, gradient: Tensor, variance: Tensor | None = None
) -> Tensor:
    """The value, whose `backward()` gives the logits this gradient.

    Args:
        value: `(*batch)`, with its own dependence on f's parameters.
        logits: `(*batch, D)`.
        gradient: `(*batch, D)`, finite and 0 where a category is masked.
        variance: `(*batch)`, to be lowered by the parameters it depends on. If the loss has the
            slope s in the value, the gradient's variance is s^2 times this, and so are the
            parameters' gradients: they descend whatever the sign of the loss.

    Example:
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> value = with_gradient(torch.tensor(5.0), logits, torch.tensor([1.0, -1.0]))
        >>> value.backward()
        >>> value.detach(), logits.grad
        (tensor(5.), tensor([ 1., -1.]))
    """
    if not can_inspect(logits):  # then nobody has refused NaN, and a row was drawn all the same
        value = value.masked_fill(logits.detach().isnan().any(-1), math.nan)
    attached: Tensor = _Attach.apply(value, logits, gradient.detach(), variance)
    return attached


class _Attach(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, logits: Tensor, gradient: Tensor, variance: Tensor | None) -> Tensor:
        # an input handed back as it is would become a view of itself
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, logits, gradient, variance = inputs
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        ctx.wide = None if variance is None else variance.dtype

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        to_logits = (slope.unsqueeze(-1) * gradient).to(ctx.dtype)
        to_variance = None if ctx.wide is None else slope.to(ctx.wide) ** 2
        return slope, to_logits, None, to_variance
