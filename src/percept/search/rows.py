"""Rows of an index: data stored for files and images, with the checksum of a vector."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """A file, with the data that shows a change without reading it."""

    hash: str
    """Hash of its content."""
    bytes: int
    modified: int
    """Nanoseconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """A distinct image and its vector."""

    hash: str
    width: int
    """Pixels, upright."""
    height: int
    vector: Float[Tensor, " d"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A distinct image and every path that holds it, in order."""

    width: int
    """Pixels, upright."""
    height: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """All intact vectors in the order in which they were added, with the size and paths of each image."""

    vectors: Float[Tensor, "n d"]
    sizes: list[tuple[int, int]]
    """Width and height of each image in pixels."""
    paths: list[list[bytes]]
    """Files that hold each image."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.sizes)

    def entry(self, row: int) -> Entry:
        """Return the image of a row."""
        width, height = self.sizes[row]
        return Entry(width=width, height=height, paths=tuple(Path(os.fsdecode(path)) for path in self.paths[row]))


def content_row(content: Content) -> tuple[str, int, int, bytes, int]:
    """Return the columns of a content: hash, width, height, vector, checksum."""
    vector = content.vector.detach().cpu().numpy().astype("<f4").tobytes()
    columns = content.hash, content.width, content.height, vector
    return (*columns, checksum(*columns))


def checksum(hash_: Any, width: Any, height: Any, vector: bytes) -> int:
    """Return the CRC-32 of a content row.

    >>> checksum("ab", 640, 480, bytes(16)) == checksum("ab", 640, 481, bytes(16))
    False
    """
    return zlib.crc32(vector, zlib.crc32(f"{hash_} {width} {height}".encode()))


def is_intact(row: tuple[Any, ...], dim: int) -> bool:
    """True if a content row (hash, width, height, vector, checksum) matches its checksum."""
    hash_, width, height, vector, stored = row
    whole = isinstance(vector, bytes) and len(vector) == 4 * dim
    return whole and checksum(hash_, width, height, vector) == stored


def to_matrix(vectors: list[bytes], dim: int) -> Float[Tensor, "n d"]:
    """Return stored vectors as one tensor."""
    if not vectors:
        return torch.zeros(0, dim)
    stored = np.frombuffer(bytearray().join(vectors), "<f4")
    return torch.from_numpy(stored.astype(np.float32, copy=False).reshape(len(vectors), dim))
