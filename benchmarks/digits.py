"""Binary images of digits: scikit-learn's 8x8 ones, or a local file of MNIST."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PARTS = 6
_IDX_IMAGES = bytes((0, 0, 8, 3))  # unsigned bytes, three dimensions
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"


@dataclass(frozen=True)
class Digits:
    """Images `(N, pixels)` of 0 and 1, float32, in three parts."""

    train: Tensor
    validation: Tensor
    test: Tensor


def load(mnist: Path | None = None) -> np.ndarray:
    """Pixels `(N, pixels)` of 0 and 1, bytes: 1 from half of the full intensity on.

    Args:
        mnist: IDX file of images, gzipped or not, or an .npz with the array `x_train`, or with one
            array of images alone; None means scikit-learn's 1,797 digits of 8x8 pixels.

    Raises:
        ValueError: for a file that is missing or holds something else.
    """
    if mnist is None:
        from sklearn.datasets import load_digits

        images, half = load_digits().images, 8
    else:
        images, half = read_images(mnist), 128
    binary: np.ndarray = (images.reshape(len(images), -1) >= half).astype(np.uint8)
    return binary


def split(pixels: np.ndarray) -> Digits:
    """By index alone: every sixth image is for testing, the one after it for validation."""
    images = torch.from_numpy(pixels).float()
    part = torch.arange(len(images)) % PARTS
    return Digits(images[part > 1], images[part == 1], images[part == 0])


def read_images(path: Path) -> np.ndarray:
    """Images `(N, height, width)` of bytes, of an IDX file or an .npz.

    Raises:
        ValueError: says what was expected and what the file holds.
    """
    try:
        data = path.read_bytes()
        if data[:2] == _GZIP:
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    images = _from_npz(path) if data[:4] == _ZIP else _from_idx(path, data)
    if len(images) < PARTS or not images[0].size:
        raise ValueError(f"{path} must hold {PARTS} images or more, got shape {images.shape}")
    return images


def _from_idx(path: Path, data: bytes) -> np.ndarray:
    if data[:4] != _IDX_IMAGES:
        raise ValueError(
            f"{path} must be an .npz or an IDX file of images, which begins with "
            f"{_IDX_IMAGES.hex(' ')}; it begins with {data[:4].hex(' ') or 'nothing'}"
        )
    if len(data) < 16:
        raise ValueError(f"{path} ends within the 16 bytes of an IDX header: {len(data)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", 3, 4))
    if len(data) - 16 != math.prod(shape):
        raise ValueError(
            f"{path} announces {shape[0]} images of {shape[1]}x{shape[2]}, {math.prod(shape)} "
            f"bytes, and holds {len(data) - 16}"
        )
    return np.frombuffer(data, np.uint8, offset=16).reshape(shape)


def _from_npz(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            name = "x_train" if "x_train" in arrays.files else ", ".join(arrays.files)
            if name not in arrays.files:
                raise ValueError(f"expected the array x_train, or one alone; it holds {name}")
            images: np.ndarray = arrays[name]
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no .npz of images: {error}") from error
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"{name} of {path} must be bytes (images, height, width), "
            f"got {images.dtype} {images.shape}"
        )
    return images
