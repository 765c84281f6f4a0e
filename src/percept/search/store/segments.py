"""Segments: files of vectors that are mapped into memory, with a checksum per block of rows."""

import os
import shlex
import sqlite3
import zlib
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from percept.core.errors import PerceptError

FOLDER = "segments"
ROWS = 65536
"""Rows at which a segment is sealed and a new one begins."""
BLOCK = 256
"""Rows that share a checksum."""
COPIED = 16384
"""Rows that are copied at once when segments are rewritten."""


class Segment:
    """A file of vectors and a file of piece ids, mapped into memory when first used.

    Rows that were committed never change. Rows behind them, left by an interrupted write, are not part of the segment.
    """

    def __init__(self, *, folder: Path, id: int, rows: int, dim: int, sealed: bool, checksums: bytes) -> None:
        self.id, self.rows, self.dim, self.sealed = id, rows, dim, sealed
        self.vector_file, self.id_file = segment_files(folder, id)
        self._index = folder
        self._checksums = np.frombuffer(checksums, "<u4").reshape(-1, 2)

    def __repr__(self) -> str:
        return f"Segment({self.id}, {self.rows} rows of {self.dim} numbers)"

    @property
    def state(self) -> tuple[int, int, bool]:
        """Return what differs from an earlier state of the same segment."""
        return self.id, self.rows, self.sealed

    @cached_property
    def vectors(self) -> Float[np.ndarray, "n d"]:
        """All vectors, mapped read-only.

        Raises:
            PerceptError: the file is missing or shorter than it was.
        """
        return self._mapped(self.vector_file, "<f4", (self.rows, self.dim))

    @cached_property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """Piece id of each row, mapped read-only.

        Raises:
            PerceptError: the file is missing or shorter than it was.
        """
        return self._mapped(self.id_file, "<i8", (self.rows,))

    def mapped(self) -> "Segment":
        """Map the files now, so that they stay readable when another process rewrites the segment; return the segment.

        Raises:
            PerceptError: a file is missing or shorter than it was.
        """
        assert len(self.vectors) == len(self.ids)
        return self

    def _mapped(self, file: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        try:
            return np.memmap(file, dtype, mode="r", shape=shape)
        except (OSError, ValueError) as error:  # ValueError: a file that is shorter
            raise damaged_segment(self._index, self.id, str(error)) from None

    def damaged_rows(self, rows: Sequence[int] | None = None) -> Int64[np.ndarray, " n"]:
        """Return the rows in blocks that do not match their checksum; all of a segment whose files cannot be mapped.

        Args:
            rows: check only the blocks of these rows; default: all blocks.
        """
        blocks = range(len(self._checksums)) if rows is None else sorted({row // BLOCK for row in rows})
        try:
            bad = [block for block in blocks if not self._is_intact(block)]
        except PerceptError:
            return np.arange(self.rows)
        parts = [np.arange(block * BLOCK, min(self.rows, (block + 1) * BLOCK)) for block in bad]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _is_intact(self, block: int) -> bool:
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        return (zlib.crc32(self.vectors[part].tobytes()), zlib.crc32(self.ids[part].tobytes())) == tuple(
            self._checksums[block].tolist()
        )


def segment_files(folder: Path, id: int) -> tuple[Path, Path]:
    """Return the files of a segment: vectors and piece ids."""
    return folder / FOLDER / f"{id:06d}.vec", folder / FOLDER / f"{id:06d}.ids"


def damaged_segment(folder: Path, id: int, reason: str) -> PerceptError:
    """Return the error for vectors that cannot be used."""
    return PerceptError(
        f"segment {id} of the index {folder} is damaged ({reason}). Run percept index repair --index "
        f"{shlex.quote(str(folder))}"
    )


def read_segments(connection: sqlite3.Connection, folder: Path, space: int, dim: int) -> list[Segment]:
    """Return the segments of a space that hold rows."""
    rows = connection.execute(
        "SELECT id, rows, sealed, checksums FROM segment WHERE space = ? AND rows > 0 ORDER BY id", (space,)
    )
    return [
        Segment(folder=folder, id=id_, rows=count, dim=dim, sealed=bool(sealed), checksums=checksums)
        for id_, count, sealed, checksums in rows
    ]


def append(
    connection: sqlite3.Connection,
    folder: Path,
    space: int,
    ids: Int64[np.ndarray, " n"],
    vectors: Float[np.ndarray, "n d"],
) -> None:
    """Write rows behind the committed ones and count them; they exist once the transaction is committed."""
    done = 0
    while done < len(ids):
        segment, rows, checksums = _open_segment(connection, space)
        part = slice(done, done + ROWS - rows)
        files = segment_files(folder, segment)
        data = np.ascontiguousarray(vectors[part], "<f4").tobytes(), np.ascontiguousarray(ids[part], "<i8").tobytes()
        try:
            write_rows(files[0], rows * 4 * vectors.shape[1], data[0])
            write_rows(files[1], rows * 8, data[1])
        except EOFError as error:
            raise damaged_segment(folder, segment, str(error)) from None
        count = rows + len(ids[part])
        checksums = extended(checksums, rows, *data)
        connection.execute(
            "UPDATE segment SET rows = ?, checksums = ?, sealed = ? WHERE id = ?",
            (count, checksums, count == ROWS, segment),
        )
        done += len(ids[part])


def _open_segment(connection: sqlite3.Connection, space: int) -> tuple[int, int, bytes]:
    """Return id, rows and checksums of the segment to write to; a new one if all are sealed."""
    query = "SELECT id, rows, checksums FROM segment WHERE space = ? AND sealed = 0 ORDER BY id LIMIT 1"
    row = connection.execute(query, (space,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO segment VALUES (NULL, ?, 0, x'', 0)", (space,))
        row = connection.execute(query, (space,)).fetchone()
    return row


def write_rows(file: Path, at: int, data: bytes) -> None:
    """Write and sync data at a place of a file; whatever an interrupted write left there is dropped.

    Raises:
        EOFError: the file is shorter than `at`.
        OSError: it cannot be written.
    """
    file.parent.mkdir(exist_ok=True)
    with open(os.open(file, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        if size < at:
            raise EOFError(f"{file.name} has {size} bytes instead of {at}")
        stream.truncate(at)
        stream.seek(at)
        view = memoryview(data)
        while view:
            view = view[stream.write(view) :]
        os.fsync(stream.fileno())


def extended(checksums: bytes, rows: int, vectors: bytes, ids: bytes) -> bytes:
    """Return the checksums of blocks after rows were appended.

    >>> whole = extended(b"", 0, bytes(300 * 8), bytes(300 * 8))
    >>> whole == extended(extended(b"", 0, bytes(100 * 8), bytes(100 * 8)), 100, bytes(200 * 8), bytes(200 * 8))
    True
    """
    pairs = np.frombuffer(checksums, "<u4").reshape(-1, 2).tolist()
    count = len(ids) // 8
    width = len(vectors) // count
    done = 0
    while done < count:
        if (rows + done) % BLOCK == 0:
            pairs.append([0, 0])
        part = min(count - done, BLOCK - (rows + done) % BLOCK)
        pairs[-1] = [
            zlib.crc32(vectors[done * width : (done + part) * width], pairs[-1][0]),
            zlib.crc32(ids[done * 8 : (done + part) * 8], pairs[-1][1]),
        ]
        done += part
    return np.array(pairs, "<u4").tobytes()


def rewrite(
    connection: sqlite3.Connection,
    folder: Path,
    space: int,
    segments: Sequence[Segment],
    dropped: Collection[int] | np.ndarray,
) -> None:
    """Copy the intact rows of segments to new ones, without the pieces `dropped`, and forget the old segments.

    Their files remain until `remove_leftovers`, since the transaction may fail.
    """
    connection.executemany("UPDATE segment SET sealed = 1 WHERE id = ?", [(segment.id,) for segment in segments])
    for segment in segments:
        bad = segment.damaged_rows()
        if len(bad) == segment.rows:
            continue
        keep = ~np.isin(segment.ids, np.asarray(dropped, np.int64))
        keep[bad] = False
        places = np.flatnonzero(keep)
        for first in range(0, len(places), COPIED):
            rows = places[first : first + COPIED]
            append(connection, folder, space, segment.ids[rows], segment.vectors[rows])
    connection.executemany("DELETE FROM segment WHERE id = ?", [(segment.id,) for segment in segments])


def remove_leftovers(connection: sqlite3.Connection, folder: Path) -> int:
    """Delete the files of segments that do not exist, within a transaction; return their number."""
    known = {
        path.name for (id_,) in connection.execute("SELECT id FROM segment") for path in segment_files(folder, id_)
    }
    leftovers = [path for path in (folder / FOLDER).glob("*") if path.name not in known]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
