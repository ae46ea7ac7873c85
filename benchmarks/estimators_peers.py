"""Peers of the estimators by name: what a few lines of other libraries make of scored rows.

One that chooses among a few settings does so by held-out rows, or out of bag. A name that ends in
`ranks` is of a peer that sees the scores' ranks; the others see the scores as they are, and tuned
trees the better of both.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from benchmarks.estimators_common import Fit, ranked
from benchmarks.estimators_linear import additive, pairwise
from benchmarks.estimators_networks import convolutions, process, tabm_network
from benchmarks.estimators_trees import boosted, boosted_tuned, forest, xgboosted


@dataclass(frozen=True)
class Peer:
    """One method.

    Args:
        fit: codes, scores, space and seed to what predicts.
        package: that it needs, by import name.
        max_rows: that it is fitted to; more take too long.
        sequences: whether it is for features that are the places of a sequence alone.
    """

    fit: Fit
    package: str = "sklearn"
    max_rows: int = 10**9
    sequences: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package is."""
        return importlib.util.find_spec(self.package) is not None


PEERS: dict[str, Peer] = {
    "boosted trees": Peer(boosted),
    "boosted trees, tuned": Peer(boosted_tuned),
    "XGBoost": Peer(xgboosted, "xgboost"),
    "random forest, ranks": Peer(ranked(forest), max_rows=100_000),
    "ridge, ranks": Peer(ranked(additive)),
    "ridge on pairs, ranks": Peer(ranked(pairwise)),
    "TabM, ranks": Peer(ranked(tabm_network), "tabm", max_rows=10_000),
    "Gaussian process, ranks": Peer(ranked(process), "botorch", max_rows=2_000),
    "5 CNNs, ranks": Peer(ranked(convolutions), "torch", sequences=True),
}
