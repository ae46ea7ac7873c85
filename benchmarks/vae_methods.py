"""The methods of the autoencoder benchmark: who takes part at which shape, with which rows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_grad import CategoricalSpace, Enumerate, GradientEstimator, Relaxation
from discrete_grad.gradient import catalogue

SHAPES = ((8, 4), (4, 24), (8, 16), (16, 12), (64, 8), (10, 30))  # categories, latents
EXACT = (8, 4)
PEERS = ("F.gumbel_softmax", "reinmax")
SLOW = ("GumbelRao", "IndeCateR", "LocalExpectation", "ReinMaxRao", "Rodeo", "UnorderedSet")
SLOW_SEEDS = 3
MOST_WIDTH = 200  # categories of all latents together, for the slow ones
MOST_ROWS = 128
NOT_TUNED = ("Enumerate", "IndeCateR", "LocalExpectation", "UnorderedSet")
TEMPERATURES = ("tau", (0.5, 1.0, 1.5))
GRID: dict[str, tuple[str, tuple[float, ...]]] = {
    "AdaptiveIMLE": ("density", (0.5, 1.0, 2.0)),
    "Carms": ("independent", (0.25, 0.5, 1.0)),
    "DecoupledStraightThrough": ("tau_b", (0.7, 1.0, 1.5)),
    "DoubleControlVariate": ("alpha", (0.5, 1.0)),
    "Entmax": ("alpha", (1.25, 1.5, 2.0)),
    "F.gumbel_softmax": TEMPERATURES,
    "GappedStraightThrough": TEMPERATURES,
    "GumbelRao": ("tau", (0.1, 0.5, 1.0)),
    "GumbelSoftmax": TEMPERATURES,
    "IMLE": ("step", (1.0, 10.0, 100.0)),
    "Rebar": ("tau", (0.1, 0.5, 1.0)),
    "ReinMax": ("tau", (1.0, 1.2, 1.5)),
    "ReinMaxRao": ("tau", (0.5, 1.0, 1.5)),
    "Reinforce": ("decay", (0.9, 0.99)),
    "Relax": ("tau", (0.1, 0.5, 1.0)),
    "Softmax": TEMPERATURES,
    "reinmax": ("tau", (1.0, 1.2, 1.5)),
}


class Peer(Relaxation):
    """torch's or the reinmax package's layer, one feature after another, as a relaxation here."""

    def __init__(self, name: str, space: CategoricalSpace, *, samples: int, tau: float) -> None:
        super().__init__(space, samples=samples)
        self.name, self.tau = name, tau

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Hard row `(..., D)`; both draw from the global source of noise."""
        blocks = logits.reshape(-1, self.space_of(logits).sizes[0])
        return _peer_row(self.name, blocks, self.tau).reshape(logits.shape)


def _peer_row(name: str, logits: Tensor, tau: float) -> Tensor:
    if name == "reinmax":
        from reinmax import reinmax

        row: Tensor = reinmax(logits, tau)[0]
    else:
        row = F.gumbel_softmax(logits, tau=tau, hard=True)
    return row


def make(name: str, space: CategoricalSpace, rows: int, **own: float) -> GradientEstimator:
    """A method with as many samples as the rows allow, at least its fewest."""
    if name in PEERS:
        return Peer(name, space, samples=rows, **({"tau": 1.0} | own))
    cls = catalogue()[name]
    if cls.facts.forward in ("soft", "argmax", "all rows"):
        return cls(space, samples=1, **own)
    samples = rows
    while samples > cls.min_samples and rows_of(cls(space, samples=samples)) > rows:
        samples -= 1
    return cls(space, samples=max(samples, cls.min_samples), **own)


def rows_of(method: GradientEstimator) -> int:
    """Rows decoded for an image and step."""
    if isinstance(method, Peer) or method.space is None:
        return method.samples
    return method.cost(method.space).evaluations


def names(shape: tuple[int, int], rows: int) -> list[str]:
    """The methods that can apply to a shape, at a price that can be paid."""
    space, found = space_of(shape), list(PEERS)
    for name, cls in catalogue().items():
        if cls.facts.binary_only:
            continue
        method = make(name, space, rows)
        listed = getattr(method, "max_rows", math.inf)  # of a method that looks at every row
        cheap = rows_of(method) <= max(MOST_ROWS, rows) or cls is Enumerate
        narrow = name not in SLOW or space.width <= MOST_WIDTH
        if cheap and narrow and space.num_rows <= listed:
            found.append(name)
    return sorted(found, key=str.casefold)


def space_of(shape: tuple[int, int]) -> CategoricalSpace:
    """The space of `(categories, latents)`."""
    categories, latents = shape
    return CategoricalSpace.from_sizes((categories,) * latents)


def shown(shape: tuple[int, int]) -> str:
    """A shape as text, such as `8x4`."""
    return f"{shape[0]}x{shape[1]}"
