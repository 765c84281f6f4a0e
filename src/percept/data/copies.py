"""Copies among files: equal content, or nearly equal vectors, and which file of a group is the one to keep."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from percept.core.errors import unknown_name
from percept.core.io import file_hash
from percept.core.report import track
from percept.data.check.similar import joined
from percept.data.files import BadFile, is_video, read_each
from percept.data.images import read_image, upright_size

BLOCK = 1024
"""Vectors that are compared at once with as many others."""
SHARP_SIDE = 256
"""Shorter side in pixels at which sharpness is measured, so that a larger copy is not sharper for its size alone."""


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What decides which of several copies is the best."""

    path: Path
    hash: str
    """Of the content."""
    bytes: int
    modified: int
    """Nanoseconds since 1970."""
    width: int = 0
    """Pixels; 0 for a video."""
    height: int = 0
    sharpness: float = 0.0
    """Variance of the Laplacian of the grey image; 0 where it was not measured."""

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height


KEEP: dict[str, Callable[[FileFacts], tuple[float, ...]]] = {
    "largest": lambda file: (-file.pixels, -file.bytes, file.modified),
    "sharpest": lambda file: (-file.sharpness, -file.pixels, -file.bytes),
    "oldest": lambda file: (file.modified, -file.pixels),
    "newest": lambda file: (-file.modified, -file.pixels),
    "first": lambda file: (),
}
"""Rules: the file of a group that comes first is kept; files that are equal by the rule keep the order given."""


def read_facts(paths: Sequence[Path], *, sharpness: bool = False) -> Iterator[FileFacts | BadFile]:
    """Yield the facts of each file, in order; a file that cannot be read yields its reason."""

    def read(path: Path) -> FileFacts:
        status = os.stat(path)
        width, height = (0, 0) if is_video(path) else upright_size(path)
        return FileFacts(
            path=path, hash=file_hash(path), bytes=status.st_size, modified=status.st_mtime_ns, width=width, height=height,
            sharpness=sharpness_of(path) if sharpness and width else 0.0,
        )  # fmt: skip

    yield from track(read_each(paths, read), "files", total=len(paths))


def sharpness_of(path: Path) -> float:
    """Return the variance of the Laplacian of a grey image whose shorter side has at most 256 pixels; more is sharper.

    Raises:
        PerceptError: the image cannot be read.
    """
    image = read_image(path, at_least=SHARP_SIDE).convert("L")
    scale = SHARP_SIDE / min(image.size)
    if scale < 1:
        image = image.resize((round(scale * image.width), round(scale * image.height)))
    pixels = np.asarray(image, dtype=np.float32)
    if min(pixels.shape) < 3:
        return 0.0
    middle = pixels[1:-1, 1:-1]
    laplacian = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:] - 4 * middle
    return float(laplacian.var())


def best_first(files: Sequence[FileFacts], rule: str) -> list[int]:
    """Return the numbers of the files, the one to keep before the others.

    Raises:
        PerceptError: there is no such rule.
    """
    if rule not in KEEP:
        raise unknown_name("rule", rule, KEEP)
    return sorted(range(len(files)), key=lambda number: KEEP[rule](files[number]))


def led(
    vectors: Float[np.ndarray, "n d"], least: float, *, block: int = BLOCK
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return for each unit vector its leader, and its cosine with it.

    Vectors are taken in order. One whose cosine with an earlier leader is at least `least` follows the nearest such leader; any other
    leads itself. So everything that follows is close to what leads, and no chain of similar vectors becomes one group. Compares blocks
    with blocks: no matrix of all pairs is held.
    """
    count = len(vectors)
    leader, cosine = np.arange(count), np.ones(count, dtype=np.float32)
    leads = np.zeros(count, dtype=bool)
    for start in range(0, count, block):
        rows = np.arange(start, min(start + block, count))
        best, value = _nearest(vectors[rows], vectors, np.flatnonzero(leads[:start]), block)
        inner = vectors[rows] @ vectors[rows].T
        for place, row in enumerate(rows):
            here = np.flatnonzero(leads[rows[:place]])
            if len(here) and (most := inner[place, here].max()) > value[place]:
                best[place], value[place] = rows[here[inner[place, here].argmax()]], most
            if value[place] >= least:
                leader[row], cosine[row] = best[place], value[place]
            else:
                leads[row] = True
    return leader, cosine


def _nearest(
    part: Float[np.ndarray, "m d"], vectors: Float[np.ndarray, "n d"], leaders: Int[np.ndarray, " k"], block: int
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    best, value = np.zeros(len(part), dtype=np.int64), np.full(len(part), -2.0, dtype=np.float32)
    for start in range(0, len(leaders), block):
        some = leaders[start : start + block]
        cosines = part @ vectors[some].T
        most = cosines.max(axis=1)
        best = np.where(most > value, some[cosines.argmax(axis=1)], best)
        value = np.maximum(value, most)
    return best, value


def near_pairs(
    vectors: Float[np.ndarray, "n d"], least: float, *, block: int = BLOCK
) -> Iterator[tuple[Int[np.ndarray, "k 2"], Float[np.ndarray, " k"]]]:
    """Yield the pairs of unit vectors whose cosine is at least `least`, the earlier first, and their cosines, block by block."""
    for start in range(0, len(vectors), block):
        for other in range(start, len(vectors), block):
            cosines = vectors[start : start + block] @ vectors[other : other + block].T
            first, second = np.nonzero(cosines >= least)
            pairs = np.stack([first + start, second + other], axis=1)
            later = pairs[:, 0] < pairs[:, 1]
            yield pairs[later], cosines[first, second][later]


def groups_of(pairs: Iterable[Int[np.ndarray, "_ 2"]], count: int) -> Int[np.ndarray, " n"]:
    """Return the number of each item's group: items that are joined by pairs, directly or through others."""
    found = [pair for pair in pairs if len(pair)]
    return joined(np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64), count)
