"""List groups of near-duplicate images in a folder, largest file first. Nothing is deleted.

python examples/near_duplicates.py examples/pictures --above 0.97
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import tyro

import percept
from percept.cli.show import bad_files
from percept.core.report import table
from percept.search.nearest import nearest

NEIGHBOURS = 20
"""Neighbours compared with each image."""


def main(
    folder: tyro.conf.Positional[Path], index: Path = Path("duplicates-index"), above: float = 0.97, model: str = "nano"
) -> None:
    """Index a folder and print its groups of near-duplicates.

    Args:
        folder: Folder of images.
        index: Folder of the index, which is made or brought up to date.
        above: Cosine from which two images are near-duplicates.
        model: The encoder.
    """
    with percept.Index.open_or_create(index, percept.load(model)) as opened:
        bad_files(opened.add(folder).bad)
        groups = near_duplicates(opened, above)
    rows = [(number, path, size) for number, group in enumerate(groups, start=1) for size, path in group]
    table(f"{len(groups)} groups of images with a cosine of {above} or more", ("group", "image", "bytes"), rows)


def near_duplicates(index: percept.Index, above: float) -> list[list[tuple[int, Path]]]:
    """Return groups of (bytes, path): images that are joined by a chain of near neighbours, or equal files."""
    leader: dict[int, int] = {}
    for ids, vectors in index.store.vectors():
        for id_, vector in zip(ids.tolist(), vectors, strict=True):
            found = nearest(index.store, np.ascontiguousarray(vector), NEIGHBOURS).found
            for other in found.ids[found.scores >= above].tolist():
                join(leader, id_, other)
    groups: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for piece in index.store.pieces(sorted(leader)):
        if piece.kind == "image":
            sizes = [(path.stat().st_size, path) for path in piece.paths if path.is_file()]
            groups[first_of(leader, piece.id)] += sizes
    return [sorted(group, reverse=True) for group in groups.values() if len(group) > 1]


def join(leader: dict[int, int], a: int, b: int) -> None:
    """Put two pieces into one group."""
    low, high = sorted((first_of(leader, a), first_of(leader, b)))
    leader[high] = low


def first_of(leader: dict[int, int], id_: int) -> int:
    """Return the piece that stands for the group of a piece."""
    while leader.setdefault(id_, id_) != id_:
        id_ = leader[id_]
    return id_


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except percept.PerceptError as error:
        sys.exit(f"near_duplicates: {error}")
