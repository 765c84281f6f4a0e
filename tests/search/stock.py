"""Indexes made directly in the store, without reading files through the indexer."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from percept.core.io import content_hash
from percept.search.contracts import ImageEncoder
from percept.search.store import FileState, NewContent, Store


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def pictures_in(store: Store, encoder: ImageEncoder, files: Sequence[Path], *, taken: float | None = None) -> None:
    """Add images; equal files share a content."""
    contents, states = {}, []
    for file in files:
        data, status = file.read_bytes(), file.stat()
        hash_ = content_hash(data)
        states.append(FileState(path=file, bytes=status.st_size, modified=status.st_mtime_ns, hash=hash_))
        from PIL import Image

        with Image.open(file) as image:
            width, height = image.size
        contents[hash_] = NewContent(
            hash=hash_, kind="image", width=width, height=height, vectors=encoder.image([file]).numpy(), taken=taken
        )
    store.add(list(contents.values()), states)


def video_in(store: Store, file: Path, vectors: np.ndarray, spans: Sequence[tuple[float, float]]) -> None:
    """Add a video with a vector per span; the file need not exist."""
    modified = file.stat().st_mtime_ns if file.exists() else 0
    hash_ = content_hash(os.fsencode(file))
    content = NewContent(
        hash=hash_, kind="video", width=160, height=48, vectors=unit(vectors), spans=tuple(spans), seconds=spans[-1][1]
    )
    store.add([content], [FileState(path=file, bytes=1, modified=modified, hash=hash_)])


def vectors_in(store: Store, vectors: np.ndarray, *, first: int = 0, folder: str = "/nowhere") -> None:
    """Add an image per vector, named by its number."""
    names = [f"{number:06d}" for number in range(first, first + len(vectors))]
    contents = [
        NewContent(hash=name, kind="image", width=10, height=10, vectors=vector[None])
        for name, vector in zip(names, vectors, strict=True)
    ]
    store.add(contents, [FileState(path=Path(folder, f"{name}.png"), bytes=1, modified=0, hash=name) for name in names])
