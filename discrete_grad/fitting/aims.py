"""Parts of a fit of several aims: chances, trade-offs to train with, and generators at one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.config import GeneratorConfig
from discrete_grad.models.aimed import simplex_like, tradeoff_columns
from discrete_grad.policies import Generator
from discrete_grad.sampling import seeded
from discrete_grad.space import ContextSpec

__all__ = [
    "WithoutTradeoff",
    "at_tradeoff",
    "fit_chance",
    "simplex_draws",
    "traded_config",
    "with_tradeoffs",
]

_PRIOR = 1.0
_NEWTON = 50
_HALVINGS = 60
_TRADEOFFS = 4096
_MORE_ENTROPY = 2.5


def fit_chance(predicted: Tensor, met: Tensor, counts: Tensor | None = None) -> Tensor:
    """Slope and offset `(2,)` of the log-odds that best explain which rows met a threshold.

    Logistic regression with one success and one failure added at the mean prediction, so that it
    is finite where the two sides do not overlap. The slope is never below 0: a model that ranks
    rows the wrong way round tells nothing.

    Args:
        predicted: `(N,)`, of rows the model has not seen.
        met: `(N,)`, the share of a row's observations that did, in [0, 1].
        counts: `(N,)`, those observations; None for one each.

    Reference:
        Platt (1999), "Probabilistic outputs for support vector machines".

    Example:
        >>> predicted = torch.tensor([-1.0, -0.5, 0.5, 1.0]).repeat(50)
        >>> slope, offset = fit_chance(predicted, torch.tensor([0.0, 0.5, 0.5, 1.0]).repeat(50))
        >>> bool(slope > 1), bool(offset.abs() < 0.1)
        (True, True)
    """
    weight = torch.ones_like(met) if counts is None else counts
    mean = predicted.double().mean()
    # of a single row, 0
    spread = predicted.double().std(correction=min(1, len(predicted) - 1)).clamp_min(1e-6)
    x = torch.cat([(predicted.double() - mean) / spread, torch.zeros(2).double()])
    y = torch.cat([met.double(), torch.tensor([0.0, 1.0]).double()])
    w = torch.cat([weight.double(), torch.full((2,), _PRIOR).double()])
    design = torch.stack([x, torch.ones_like(x)], 1)
    line = torch.zeros(2, dtype=torch.float64)
    line[1] = torch.logit((w * y).sum() / w.sum())
    ridge = torch.diag(torch.tensor([0.1, 1e-9], dtype=torch.float64))

    def loss(line: Tensor) -> Tensor:
        odds = design @ line
        misfit: Tensor = (w * (functional.softplus(odds) - y * odds)).sum()
        return misfit + line @ ridge @ line / 2

    for _ in range(_NEWTON):
        p = torch.sigmoid(design @ line)
        slope = design.T @ (w * (y - p)) - ridge @ line
        curvature = design.T @ (design * (w * p * (1 - p)).unsqueeze(1)) + ridge
        step = torch.linalg.solve(curvature, slope)
        # a whole step overshoots where almost all is certain
        now, halved = loss(line), (line + step * 0.5**i for i in range(_HALVINGS))
        lower = next((near for near in halved if loss(near) < now), None)
        if lower is None:
            break
        line = lower
    if line[0] <= 0:
        return torch.stack([line.new_zeros(()), torch.logit((w * y).sum() / w.sum())]).float()
    return torch.stack([line[0] / spread, line[1] - line[0] * mean / spread]).float()


def simplex_draws(count: int, aims: int, *, seed: int) -> Tensor:
    """Weights `(count, aims)` of sum 1, uniform over the simplex.

    Example:
        >>> weights = simplex_draws(1000, 3, seed=0)
        >>> weights.sum(1).allclose(torch.ones(1000)), weights.mean(0).round(decimals=1)
        (True, tensor([0.3000, 0.3000, 0.3000]))
    """
    return simplex_like(torch.zeros(count, aims), generator=seeded(seed))


def with_tradeoffs(rows: ScoredRows, aims: int, *, seed: int) -> ScoredRows:
    """At least 4,096 rows, each of the given ones as often, with a trade-off beside its context.

    The contexts of such rows are what a generator is trained in: every step sees other trade-offs.

    Args:
        rows: N of them.
        aims: K, at least 2.
        seed: decides the draws.

    Returns:
        The rows with contexts `(N times, C + K)`.

    Example:
        >>> rows = ScoredRows(torch.zeros(3, 1).long(), torch.zeros(3))
        >>> with_tradeoffs(rows, 2, seed=0).context.shape
        torch.Size([4098, 2])
    """
    again = -(-_TRADEOFFS // len(rows))
    more = rows.part(torch.arange(len(rows), device=rows.codes.device).repeat(again))
    columns = tradeoff_columns(simplex_draws(len(more), aims, seed=seed)).to(rows.scores)
    context = columns if more.context is None else torch.cat([more.context, columns], 1)
    return replace(more, context=context)


def traded_config(config: GeneratorConfig) -> GeneratorConfig:
    """Settings under which a generator of several aims is trained: 2.5 times the entropy.

    The best rows of neighbouring trade-offs are worth almost the same, so that they are told apart
    late; with less entropy one of them has long been chosen for all.

    Example:
        >>> traded_config(GeneratorConfig(entropy=0.02)).entropy
        0.05
    """
    return replace(config, entropy=_MORE_ENTROPY * config.entropy)


def at_tradeoff(generator: Generator, spec: ContextSpec | None, weights: Tensor) -> Generator:
    """The generator of a table's own contexts that another one is at a trade-off.

    What the trade-off adds to the first layer is a constant, and becomes part of its bias.

    Args:
        generator: whose last K context columns are a trade-off.
        spec: the context columns before them; None for none.
        weights: `(K,)`.

    Example:
        >>> from discrete_grad.models.aimed import tradeoff_spec
        >>> from discrete_grad.space import CategoricalSpace
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> whole = Generator(space, tradeoff_spec(None, ["yield", "cost"]))
        >>> weights = torch.tensor([0.25, 0.75])
        >>> at_tradeoff(whole, None, weights)().allclose(whole(tradeoff_columns(weights)))
        True
    """
    device = next(generator.parameters()).device
    columns = tradeoff_columns(weights.to(device))
    layers = [layer for layer in generator.trunk if isinstance(layer, nn.Linear)]
    made = Generator(generator.space, spec, hidden=[layer.out_features for layer in layers])
    if spec is None:
        with torch.no_grad():
            made.free_logits.copy_(generator(columns).detach() / 10)
    else:
        state, first = generator.state_dict(), layers[0].weight.detach()
        before = first.shape[1] - len(columns)
        state["trunk.0.weight"] = first[:, :before]
        state["trunk.0.bias"] = state["trunk.0.bias"] + first[:, before:] @ columns
        made.load_state_dict(state)
    return made.to(device).requires_grad_(False).eval()


class WithoutTradeoff(nn.Module):
    """A model or a policy that is asked in contexts with a trade-off, which it does not read.

    Args:
        model: of rows, of pairs of rows, or a policy with `logits`.
        aims: K, the columns of the trade-off.
        bare: whether nothing is left of the context without it.

    Example:
        >>> from discrete_grad.space import CategoricalSpace
        >>> policy = WithoutTradeoff(Generator(CategoricalSpace.from_sizes((2, 3))), 2, bare=True)
        >>> policy.logits(torch.zeros(4, 2)).shape
        torch.Size([4, 5])
    """

    def __init__(self, model: nn.Module, aims: int, *, bare: bool) -> None:
        super().__init__()
        self.model, self.aims, self.bare = model, aims, bare

    @property
    def space(self) -> object:
        """The model's."""
        return self.model.space

    def forward(self, *rows: Tensor) -> Tensor:
        """The answer to rows, the last of the arguments being the context."""
        *given, context = rows
        answer: Tensor = self.model(*given, *self._context(context))
        return answer

    def logits(self, context: Tensor) -> Tensor:
        """The policy's logits `(..., D)`."""
        logits: Tensor = self.model.logits(*self._context(context))  # type: ignore[operator]
        return logits.expand(*context.shape[:-1], -1)

    def _context(self, context: Tensor) -> list[Tensor]:
        return [] if self.bare else [context[..., : -self.aims]]
