"""What models of the zoo share: their space, what follows the tables, and how they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften

SPACE = CategoricalSpace({"cut": 3, "colour": ["d", "e", "f", "g"], "shape": 2})
WIDTH = 9  # of the embedded row in every model here

Call = Callable[[nn.Module, Any, Tensor], Tensor]


def _of_row(model: nn.Module, row: Any, numbers: Tensor) -> Tensor:
    return model(row)


@dataclass(frozen=True)
class Style:
    """A model, how it is softened and called with a row and numbers `(N, 10)`, what is expected.

    `plain` calls the model on codes; `refused` is the pattern of the message of one that cannot be
    followed.
    """

    model: Callable[[nn.Module], nn.Module]
    options: Mapping[str, Any] = field(default_factory=dict)
    call: Call = _of_row
    plain: Call | None = None
    refused: str | None = None

    def soften(self, model: nn.Module) -> nn.Module:
        return soften(model, SPACE, **self.options)

    def on_codes(self, model: nn.Module, codes: Tensor, numbers: Tensor) -> Tensor:
        return (self.plain or self.call)(model, codes, numbers)

    def __str__(self) -> str:
        return getattr(self.model, "__name__", str(self.model))


STYLES: list[Style] = []


def works(**options: Any) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Add a model that can be followed; options as of `Style`, the others as of `soften`."""
    own = {name: options.pop(name) for name in ("call", "plain") if name in options}

    def add(model: type[nn.Module]) -> type[nn.Module]:
        STYLES.append(Style(model, options, **own))
        return model

    return add


def refused(message: str, **options: Any) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Add a model that cannot be followed, with the pattern of the message."""

    def add(model: type[nn.Module]) -> type[nn.Module]:
        STYLES.append(Style(model, options, refused=message))
        return model

    return add


# --- what follows the tables --------------------------------------------------------------------


def linear() -> nn.Module:
    return nn.Linear(WIDTH, 1)


def batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            update = F.dropout(F.gelu(layer(norm(hidden))), 0.3, training=self.training)
            hidden = hidden + update
        return self.head(hidden)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(3, 1, dim_feedforward=6, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.start = nn.Parameter(torch.randn(1, 1, 3))
        self.head = nn.Linear(3, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        tokens = hidden.unflatten(-1, (3, 3))
        tokens = torch.cat([self.start.expand(len(tokens), -1, -1), tokens], 1)
        return self.head(self.encoder(tokens)[:, 0])


BODIES = {"batch_norm": batch_norm, "residual": Residual, "transformer": Transformer}


# --- where the tables are ---------------------------------------------------------------------


class Tables(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        pairs = zip(SPACE.sizes, (3, 2, 4), strict=True)
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size, dim in pairs)
        self.body = body

    def score(self, parts: list[Tensor]) -> Tensor:
        return self.body(torch.cat(parts, -1)).squeeze(-1)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        """The model on flat rows, written by hand."""
        pairs = zip(SPACE.split(row), self.tables, strict=True)
        return self.score([block @ table.weight for block, table in pairs])


class OneTable(nn.Module):
    rows = SPACE.width

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.table = nn.Embedding(self.rows, 3)
        self.body = body
        self.register_buffer("offsets", torch.tensor(SPACE.offsets))
        self.register_buffer("hidden_offsets", torch.tensor(SPACE.offsets), persistent=False)
        self.constant = torch.tensor(SPACE.offsets)

    def score(self, embedded: Tensor) -> Tensor:
        return self.body(embedded.flatten(1)).squeeze(-1)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        """The model on flat rows, written by hand."""
        return self.score(self.embedded(row, SPACE.offsets))

    def embedded(self, row: Tensor, starts: Sequence[int]) -> Tensor:
        """`(N, 3, 3)`, of tables that start at these rows of the one."""
        blocks, weight = SPACE.split(row), self.table.weight
        parts = [b @ weight[s : s + b.shape[-1]] for b, s in zip(blocks, starts, strict=True)]
        return torch.stack(parts, 1)
