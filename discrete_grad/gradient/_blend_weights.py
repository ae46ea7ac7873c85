"""Weights of gradients that add up to 1 and have the least mean squared error together."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.gradient._blend_parts import NAMES, UNBIASED

__all__ = ["best_weights", "common_weights"]

COUNT = len(NAMES)
# bias of each component where f is quadratic, in units of that of straight-through; half of the
# difference between straight-through and DARN has that unit for its mean
QUADRATIC = [{"straight_through": 1.0, "darn": -1.0, "mean_field": 1.0}.get(n, 0.0) for n in NAMES]
UNIT = [{"straight_through": 0.5, "darn": -0.5}.get(n, 0.0) for n in NAMES]
# standard errors from which on a bias counts; below, chance may have made it. A squared bias has
# noise with heavy tails; where an average leaves the bias alone, a small one must be seen, too
SIGNIFICANT, LEAST_SIGNIFICANT = 5.0, 2.0
POOLED = 16.0  # elements of the batch that the weights common to all features are worth
APART = 4.0  # degrees of freedom that components without covariance are worth
RIDGE = 1e-3  # of the smallest mean squared error, against components that are nearly the same
FLOOR = 1e-10  # of a usual one, against components without any error
SMALL = 1e-6  # of a variance: a direction with less is taken to have this much
SURE = 1e-12  # of a squared bias, likewise


def best_weights(
    covariance: Tensor, bias: Tensor, elements: Tensor, samples: int, averaged: int
) -> Tensor:
    """Weights `(F, 7)` that minimise the mean squared error of each feature's gradient.

    With M the mean squared errors and their products, `w = M^-1 1 / (1' M^-1 1)`. The M of a
    feature is drawn a little towards that of all features together, whose noise is less.

    Args:
        covariance: `(F, 7, 7)`, of the components.
        bias: `(F, 7, 7)`, products of the components' biases, each less that of the double
            control variate, as measured: noisy, so that a square of one may be below 0.
        elements: `()`, elements of the batches that both are an average over.
        samples: N, rows of each element.
        averaged: elements whose gradients are averaged in the end, which leaves their biases and
            divides their covariance.
    """
    covariance = _shrunk(covariance, elements, samples)
    pairs = [torch.cat([part, part.sum(0, keepdim=True)]) for part in (covariance, bias)]
    errors = _errors(pairs[0], pairs[1], elements, averaged)
    own, all_of_them = errors[:-1], errors[-1]
    scale = _usual(own) / _usual(all_of_them).clamp_min(torch.finfo(own.dtype).tiny)
    share = POOLED / (POOLED + elements)
    return _least(own.lerp(all_of_them * scale[..., None, None], share))


def common_weights(
    covariance: Tensor, bias: Tensor, elements: Tensor, samples: int, averaged: int
) -> Tensor:
    """Weights `(F, 7)`, the same for all features, for logits whose parameters the batch shares.

    There the gradients of all features and elements meet: their noise averages out and their biases
    add up. So a second-order bias counts, too, if it is just too small to be seen in the noise.
    Weights of each feature apart would follow the noise of their measurements.

    Args:
        covariance: as for `best_weights`, and so are the others.
        bias: likewise.
        elements: likewise.
        samples: likewise.
        averaged: likewise.
    """
    features = len(covariance)
    covariance, bias = covariance.sum(0, keepdim=True), bias.sum(0, keepdim=True)
    covariance = _shrunk(covariance, elements, samples)
    errors = _errors(covariance, bias, elements, averaged)
    quadratic, unit = torch.tensor([QUADRATIC, UNIT]).to(errors).unbind()
    hidden = _limit(elements, averaged) * (covariance @ unit @ unit)
    errors = errors + hidden[..., None, None] * torch.outer(quadratic, quadratic)
    return _least(errors).expand(features, -1)


def _shrunk(covariance: Tensor, elements: Tensor, samples: int) -> Tensor:
    """The covariance with smaller products of different components, the fewer were measured."""
    known = elements * (samples - 1)
    alone = torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))
    return covariance.lerp(alone, APART / (APART + known))


def _limit(elements: Tensor, averaged: int) -> Tensor:
    """Largest squared bias, relative to the variance, that chance may have made, `()`."""
    deviations = max(LEAST_SIGNIFICANT, SIGNIFICANT / averaged**0.5)
    limit: Tensor = deviations * (2 / elements).sqrt()
    return limit


def _least(errors: Tensor) -> Tensor:
    """Weights `(..., K)` of the least `w' M w` for M `(..., K, K)`."""
    usual = _usual(errors)[..., None]
    ridge = RIDGE * errors.diagonal(dim1=-2, dim2=-1).amin(-1, keepdim=True) + FLOOR * usual
    # an M of 0 is a gradient of 0, whatever the weights
    ridge = ridge + (usual == 0)
    matrix = errors + torch.diag_embed(ridge.expand(errors.shape[:-1]))
    ones = torch.ones_like(errors[..., :1])
    weights: Tensor = torch.linalg.solve_ex(matrix, ones)[0].squeeze(-1)
    return weights / weights.sum(-1, keepdim=True)


def _usual(errors: Tensor) -> Tensor:
    """Mean `(...)` of the unbiased components' errors."""
    return errors.diagonal(dim1=-2, dim2=-1)[..., :UNBIASED].mean(-1)


def _errors(covariance: Tensor, bias: Tensor, elements: Tensor, averaged: int) -> Tensor:
    """Covariance of the average plus what is sure of the bias, `(..., K, K)`."""
    # biases are told against the best unbiased combination rather than one component
    against = torch.eye(COUNT, dtype=bias.dtype, device=bias.device).expand_as(bias).clone()
    against[..., :UNBIASED] -= _least(covariance[..., :UNBIASED, :UNBIASED]).unsqueeze(-2)
    against = against[..., UNBIASED:, :]
    noise = against @ covariance @ against.mT
    found = _sure(against @ bias @ against.mT, noise, _limit(elements, averaged))
    return covariance / averaged + torch.nn.functional.pad(found, (UNBIASED, 0, UNBIASED, 0))


def _sure(bias: Tensor, noise: Tensor, limit: Tensor) -> Tensor:
    """Positive semi-definite part of the bias that stands out of its noise.

    In coordinates in which the components' differences have the covariance 1 in each direction, a
    measured square of a bias has the standard error sqrt(2 / elements): each eigenvalue is shrunk
    by the non-negative garrotte, to 0 at the limit `()`. So a difference between two components
    that are nearly without noise is seen even where the one from the unbiased ones is not.
    """
    size, axes = torch.linalg.eigh(noise)
    # where the rows drawn were all alike there is no noise, and every difference is sure
    largest = bias.diagonal(dim1=-2, dim2=-1).abs().amax(-1, keepdim=True)
    floor = SMALL * size[..., -1:] + SURE * largest + torch.finfo(size.dtype).tiny
    root = size.clamp_min(floor).sqrt()
    whitened = axes.mT @ bias @ axes / (root.unsqueeze(-1) * root.unsqueeze(-2))
    seen, turn = torch.linalg.eigh((whitened + whitened.mT) / 2)
    kept = (seen - limit**2 / seen.clamp_min(limit)).clamp_min(0)
    back = axes @ (root.unsqueeze(-1) * turn)
    found: Tensor = (back * kept.unsqueeze(-2)) @ back.mT
    return found
