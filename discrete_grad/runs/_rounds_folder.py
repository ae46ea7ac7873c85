"""Place of the rounds in the folder of a run, and its newest fit."""

from __future__ import annotations

from pathlib import Path

from discrete_grad.training.checkpoint import write_atomically

__all__ = ["finish_fit", "fit_folder", "newest_fit", "root_of"]

_FITS = Path("rounds") / "fits"


def fit_folder(root: Path, measurements: int) -> Path:
    """Folder of the fit that knows so many measurements told since the first fit.

    Example:
        >>> fit_folder(Path("run"), 16).as_posix()
        'run/rounds/fits/000016'
    """
    return root / _FITS / f"{measurements:06d}" if measurements else root


def root_of(folder: Path) -> Path:
    """Folder of the first fit, of the folder of any.

    Example:
        >>> root_of(Path("run/rounds/fits/000016")).as_posix(), root_of(Path("run")).as_posix()
        ('run', 'run')
    """
    inner = folder.parent.parts[-2:] == _FITS.parts
    return folder.parents[2] if inner else folder


def newest_fit(folder: Path) -> Path:
    """Folder of the last fit that was finished after a tell; the folder itself without any."""
    finished = sorted((folder / _FITS).glob("[0-9]*.finished"))
    return finished[-1].with_suffix("") if finished else folder


def finish_fit(folder: Path) -> None:
    """Mark the fit in a folder as finished: from now on it is the run's."""
    write_atomically(folder.with_suffix(".finished"), b"")
