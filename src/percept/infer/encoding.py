"""Vectors of many files, written as they are computed, so that a run that was killed continues where it stopped.

A folder next to the result holds what is done: facts.json (the model, its preprocessing, the sampling), rows.jsonl (path, size and time
of each file) and vectors.f32 (float32, little-endian, one row of numbers per line). A vector is written before its line, and the surplus
of either is cut off when the run continues. Files that changed since, and files that could not be read, are read again.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError
from percept.core.io import locked, read_object, write_json
from percept.data.files import BadFile

if TYPE_CHECKING:
    from percept.infer.clips import Sampling
    from percept.infer.encoder import Encoder

FACTS, ROWS, VECTORS, LOCK = "facts.json", "rows.jsonl", "vectors.f32", "lock"


@dataclass(kw_only=True)
class Partial:
    """The vectors of an unfinished run, in a folder; see `opened`."""

    folder: Path
    dim: int
    _rows: IO[bytes]
    _vectors: IO[bytes]
    known: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Path: row, bytes and nanoseconds of the file; of a file that was written twice the last row counts."""
    count: int = 0
    """Rows."""

    def has(self, path: Path) -> bool:
        """True if the vector of a file is there, and the file is as it was."""
        if (known := self.known.get(str(path))) is None:
            return False
        try:
            status = os.stat(path)
        except OSError:
            return False
        return known[1:] == (status.st_size, status.st_mtime_ns)

    def add(self, path: Path, vector: Float[np.ndarray, " d"]) -> None:
        """Write the vector of a file."""
        try:
            status = os.stat(path)
            size, modified = status.st_size, status.st_mtime_ns
        except OSError:  # it has vanished since it was read, or is a pipe
            size, modified = -1, -1
        self._vectors.write(vector.astype("<f4").tobytes())
        self._vectors.flush()
        line = {"path": str(path), "bytes": size, "modified": modified}
        self._rows.write(json.dumps(line).encode() + b"\n")
        self._rows.flush()
        self.known[str(path)] = self.count, size, modified
        self.count += 1

    def vectors(self) -> Float[np.ndarray, "n d"]:
        """Return all rows as a memory map."""
        self._vectors.flush()
        if not self.count:
            return np.zeros((0, self.dim), dtype=np.float32)
        return np.memmap(self.folder / VECTORS, dtype="<f4", mode="r", shape=(self.count, self.dim))

    def row(self, path: Path) -> int:
        """Return the row of a file."""
        return self.known[str(path)][0]


@contextmanager
def opened(folder: Path, facts: Mapping[str, Any], dim: int) -> Iterator[Partial]:
    """Open the folder of an unfinished run, or begin one.

    Args:
        folder: made if it does not exist.
        facts: what decides the vectors; plain data.
        dim: length of the vectors.

    Raises:
        PerceptError: the folder is of a different run, in use, or holds something else.
    """
    if folder.exists() and not (folder / FACTS).is_file() and any(folder.iterdir()):
        raise PerceptError(f"{folder} holds something else. Move it away, or write to a different file.")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(locked(folder / LOCK, f"{folder} is in use by another process. Wait until it is done."))
        if not (folder / FACTS).is_file():
            write_json(folder / FACTS, facts)
        elif read_object(folder / FACTS) != json.loads(json.dumps(facts)):
            raise PerceptError(
                f"{folder} holds the vectors of an unfinished run with a different model or options. Give the same ones, or remove it."
            )
        lines = _complete(folder, dim)
        rows = stack.enter_context((folder / ROWS).open("ab"))
        vectors = stack.enter_context((folder / VECTORS).open("ab"))
        known = {line["path"]: (number, line["bytes"], line["modified"]) for number, line in enumerate(lines)}
        partial = Partial(folder=folder, dim=dim, _rows=rows, _vectors=vectors, known=known, count=len(lines))
        try:
            yield partial
        finally:
            if not partial.count:  # nothing to continue from
                shutil.rmtree(folder, ignore_errors=True)


def _complete(folder: Path, dim: int) -> list[dict[str, Any]]:
    """Cut both files to the rows that both have, and return the lines."""
    for name in (ROWS, VECTORS):
        (folder / name).touch()
    lines = (folder / ROWS).read_bytes().splitlines(keepends=True)
    count = min(sum(line.endswith(b"\n") for line in lines), (folder / VECTORS).stat().st_size // max(1, 4 * dim))
    os.truncate(folder / ROWS, sum(map(len, lines[:count])))
    os.truncate(folder / VECTORS, 4 * dim * count)
    return [json.loads(line) for line in lines[:count]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """Files that were read, with the rows of their vectors."""

    paths: list[Path]
    rows: list[int]
    all_vectors: Float[np.ndarray, "m d"]
    bad: list[BadFile]
    continued: int
    """Files whose vectors were there already."""

    def vectors(self) -> Float[np.ndarray, "n d"]:
        """Return the vectors in the order of the paths."""
        return np.asarray(self.all_vectors[self.rows], dtype=np.float32)


def encode_files(
    encoder: "Encoder", files: Sequence[Path], partial: Partial, *, sampling: "Sampling | None" = None
) -> Encoded:
    """Compute the vectors of files that `partial` lacks, and write each as it is computed.

    Args:
        encoder: computes the vectors.
        files: image and video files.
        partial: what is done already.
        sampling: which frames stand for a video.
    """
    missing = [path for path in files if not partial.has(path)]
    bad = []
    for result in encoder.each_file(missing, sampling=sampling, total=len(missing)):
        if isinstance(result, BadFile):
            bad.append(result)
        else:
            partial.add(result.path, result.vector.numpy())
    wrong = {file.path for file in bad}
    paths = [path for path in files if path not in wrong]
    return Encoded(
        paths=paths, rows=[partial.row(path) for path in paths], all_vectors=partial.vectors(), bad=bad,
        continued=len(files) - len(missing),
    )  # fmt: skip
