"""Snapshots of a model along its training, for the report on over-optimisation."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from discrete_grad.training.checkpoint import RunError, load_tensors, save_tensors

__all__ = ["Snapshots", "load_snapshots"]

_MOST = 64


def _kept_steps(steps: int, every: int, *, most: int = _MOST) -> tuple[int, ...]:
    """The steps after which a snapshot is kept: at most so many, 0 and the last among them.

    One half are looks at the held-out rows, all or evenly thinned. The other half lie ever further
    apart, for most of a generator's way may lie before the second look. All follow from the
    settings alone, so a fit that is resumed keeps the same ones.

    Args:
        steps: of the stage, at least 1.
        every: steps between two looks, at least 1.
        most: snapshots, at least 6.

    Example:
        >>> _kept_steps(100, 20, most=12)
        (0, 1, 2, 5, 10, 20, 22, 40, 46, 60, 80, 100)
    """
    looks = [*range(0, steps, every), steps]
    stride = -(-(len(looks) - 1) // (most // 2 - 1))
    apart = most - most // 2
    early = (round(steps ** (i / apart)) for i in range(apart))
    return tuple(sorted({*looks[:-1:stride], steps, *early}))


class Snapshots:
    """Keeps the weights of a model after some of its steps, a file each; see `_kept_steps`.

    Args:
        folder: where the files lie, `000120.safetensors` for step 120.
        steps: of the stage.
        every: steps between two looks.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> trail = Snapshots(folder, steps=100, every=20)
        >>> for step in (0, 20):
        ...     trail(nn.Linear(1, 1), step)
        >>> sorted(path.name for path in folder.iterdir())
        ['000000.safetensors', '000020.safetensors']
        >>> list(load_snapshots(folder))
        [0, 20]
    """

    def __init__(self, folder: Path, *, steps: int, every: int) -> None:
        self.folder = folder
        self.kept = frozenset(_kept_steps(steps, every))

    def __call__(self, model: nn.Module, step: int) -> None:
        """Write a snapshot, whole or not at all, if the step is one of those kept."""
        if step in self.kept:
            path = self.folder / f"{step:06d}.safetensors"
            save_tensors(path, model.state_dict(), {"step": step})


def load_snapshots(folder: Path) -> dict[int, dict[str, Tensor]]:
    """The weights by step, in its order; nothing where there is no trail.

    Raises:
        RunError: if a file is damaged.

    Example:
        >>> load_snapshots(Path("no/such/folder"))
        {}
    """
    loaded = [load_tensors(path) for path in folder.glob("*.safetensors")]
    if not all(tensor.isfinite().all() for tensors, _ in loaded for tensor in tensors.values()):
        raise RunError(f"{folder} is damaged: a snapshot holds NaN or infinity")
    try:
        snapshots = {int(metadata["step"]): tensors for tensors, metadata in loaded}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(f"{folder} holds a file that is no snapshot") from error
    return dict(sorted(snapshots.items()))
