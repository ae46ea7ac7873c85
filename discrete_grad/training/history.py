"""Course of one training, which every trainer returns."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["History"]


@dataclass(frozen=True, kw_only=True)
class History:
    """Losses at every validation, and the step whose weights the model ends with.

    A training that was resumed from a checkpoint has those since then; the log has all of them.

    Example:
        >>> History(steps=(20, 40), losses=(1.5, 1.0), held_out_losses=(1.6, 1.7), kept_step=20)
        History(steps=(20, 40), losses=(1.5, 1.0), held_out_losses=(1.6, 1.7), kept_step=20)
    """

    steps: tuple[int, ...] = ()
    """Steps after which the losses were taken, ascending from 1."""
    losses: tuple[float, ...] = ()
    """Loss of the batch of each of these steps."""
    held_out_losses: tuple[float, ...] = ()
    """Held-out loss after each of them; empty where nothing is held out."""
    kept_step: int = 0
    """Step whose weights are kept: the best by the held-out loss, or the last without patience. Of
    an ensemble, whose members stop apart, the last at which one of them was best."""
