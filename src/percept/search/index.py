"""The index: vectors of pictures by content, files by path, all stamped with the model that made them."""

import json
import os
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.search.contracts import Embeds, Stamp, stamp_of
from percept.search.store import FILE, changed, damaged, explained, make_store, open_store, stored_path, transaction


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """What is known of a file: enough to tell whether it changed without reading it."""

    hash: str
    """Of its content."""
    bytes: int
    modified: int
    """Nanoseconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """A distinct picture and its vector."""

    hash: str
    width: int
    """Pixels, upright."""
    height: int
    vector: Float[Tensor, " d"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A distinct picture and every path that holds it, in order."""

    width: int
    """Pixels, upright."""
    height: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """All vectors in memory, in the order they were added; row i belongs to the entry with number ids[i]."""

    vectors: Float[Tensor, "n d"]
    ids: list[int]


class Index:
    """An open index. Use it in a `with` block, or call `close`.

    Args:
        folder: where its database lies.
        encoder: the model it will be used with; another one than it was made with is refused.
    """

    def __init__(self, folder: Path | str, encoder: Embeds | None = None) -> None:
        self.folder = Path(folder)
        self._connection = open_store(self.folder)
        self.close = weakref.finalize(self, self._connection.close)
        """Close the database; done by itself when the index is forgotten."""
        try:
            if encoder is not None:
                self.check(encoder)
        except PerceptError:
            self.close()
            raise

    @classmethod
    def create(cls, folder: Path | str, encoder: Embeds, *, stamp: Stamp | None = None) -> "Index":
        """Make an empty index for the vectors of `encoder` in a new or empty folder.

        Args:
            folder: where its database will lie.
            encoder: the model it belongs to from now on.
            stamp: what `stamp_of` says of it and of what `percept.load` was given; its name alone unless said.

        Raises:
            PerceptError: the model gives no vectors, or the folder is in use.
        """
        make_store(Path(folder), _json(stamp or stamp_of(encoder)))
        return cls(folder)

    @classmethod
    def open(cls, folder: Path | str, encoder: Embeds | None = None) -> "Index":
        """Open the index in `folder`.

        Raises:
            PerceptError: the folder holds none, it is damaged, or was made with another model.
        """
        return cls(folder, encoder)

    @classmethod
    def open_or_create(cls, folder: Path | str, encoder: Embeds, *, stamp: Stamp | None = None) -> "Index":
        """Open the index in `folder` if there is one, else make it; refusals as for `open` and `create`.

        An index that holds no files is taken over by another model. A stamp that is given and agrees replaces the
        stored one: the model may lie in another place now.
        """
        given = stamp or stamp_of(encoder)
        try:
            return cls.create(folder, encoder, stamp=given)
        except PerceptError:
            if not (Path(folder) / FILE).exists():
                raise
        index = cls(folder)
        try:
            index._take(given, moved=stamp is not None)
            index.check(encoder)
        except PerceptError:
            index.close()
            raise
        return index

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def stamp(self) -> Stamp:
        """The model this index was made with."""
        with explained(self.folder):
            row = self._connection.execute("SELECT json FROM stamp").fetchone()
        try:
            return from_dict(Stamp, json.loads(row[0]))
        except (ValueError, TypeError):  # no row, no json, or not our fields
            raise damaged(self.folder, "it does not say which model made it") from None

    def check(self, encoder: Embeds) -> None:
        """Refuse a model whose vectors cannot be compared with those stored."""
        given = stamp_of(encoder)
        if not self.stamp.agrees(given):
            differences = self.stamp.differences(given)
            why = f" ({differences})" if differences else ""
            raise PerceptError(
                f"the index {self.folder} was made with {self.stamp}, the model given is {given}: their vectors cannot "
                f"be compared{why}; use {self.stamp.differs_by(given)}, or make another index with --index OTHER"
            )

    def _take(self, given: Stamp, *, moved: bool) -> None:
        """Put a stamp in place of the stored one, where no vector contradicts it."""
        agrees = given.agrees(self.stamp)
        if given == self.stamp or not (moved if agrees else len(self) == 0):
            return
        with explained(self.folder), transaction(self._connection) as connection:
            if not agrees:
                if len(self):  # another process was quicker
                    raise changed(self.folder)
                connection.execute("DELETE FROM content")
            connection.execute("UPDATE stamp SET json = ?", (_json(given),))
        del self.stamp
        self._forget_matrix()

    def __len__(self) -> int:
        """Return the number of files."""
        return self._one("SELECT count(*) FROM file")

    def files(self) -> dict[Path, FileRow]:
        """Return every file with what is known of it, by absolute path."""
        with explained(self.folder):
            rows = self._connection.execute("SELECT path, hash, bytes, modified FROM file ORDER BY path").fetchall()
        return {Path(os.fsdecode(path)): FileRow(hash=hash_, bytes=size, modified=at) for path, hash_, size, at in rows}

    def hashes(self) -> set[str]:
        """Return the hashes of all contents that have a vector."""
        with explained(self.folder):
            return {row[0] for row in self._connection.execute("SELECT hash FROM content")}

    def add(self, contents: Iterable[Content], files: dict[Path, FileRow]) -> None:
        """Store vectors and the files that hold them, all or nothing; what is known under a path is replaced."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        new = [(one.hash, one.width, one.height, _to_bytes(one.vector)) for one in contents]
        rows = [(stored_path(path), row.hash, row.bytes, row.modified, now) for path, row in files.items()]
        with explained(self.folder), transaction(self._connection) as connection:
            connection.executemany("INSERT OR IGNORE INTO content VALUES (NULL, ?, ?, ?, ?)", new)
            connection.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", rows)
        self._forget_matrix()

    def remove(self, paths: Sequence[Path]) -> None:
        """Forget files, and the vectors that no file holds any more."""
        with explained(self.folder), transaction(self._connection) as connection:
            connection.executemany("DELETE FROM file WHERE path = ?", [(stored_path(path),) for path in paths])
            connection.execute("DELETE FROM content WHERE hash NOT IN (SELECT hash FROM file)")
        self._forget_matrix()

    def matrix(self) -> Matrix:
        """Return all vectors as one matrix, read once and again only after the database changed."""
        version = self._one("PRAGMA data_version")  # counts the commits of other processes
        if self._matrix is None or self._matrix[0] != version:
            self._matrix = (version, self._read_matrix())
        return self._matrix[1]

    _matrix: tuple[int, Matrix] | None = None

    def _forget_matrix(self) -> None:
        self._matrix = None

    def _read_matrix(self) -> Matrix:
        with explained(self.folder):
            rows = self._connection.execute(
                "SELECT id, vector FROM content WHERE hash IN (SELECT hash FROM file) ORDER BY id"
            ).fetchall()
        if any(len(vector) != 4 * self.stamp.dim for _, vector in rows):
            raise damaged(self.folder, f"a vector is not of {self.stamp.dim} numbers")
        stored = bytearray().join(vector for _, vector in rows)
        return Matrix(vectors=_from_bytes(stored, len(rows), self.stamp.dim), ids=[id_ for id_, _ in rows])

    def entry(self, number: int) -> Entry:
        """Return what belongs to a row of the matrix, by its id."""
        query = "SELECT width, height, path FROM content JOIN file USING (hash) WHERE id = ? ORDER BY path"
        with explained(self.folder):
            rows = self._connection.execute(query, (number,)).fetchall()
        if not rows:
            raise changed(self.folder)
        return Entry(width=rows[0][0], height=rows[0][1], paths=tuple(Path(os.fsdecode(path)) for _, _, path in rows))

    def entries(self) -> list[Entry]:
        """Return what belongs to every row of the matrix, in its order."""
        return [self.entry(number) for number in self.matrix().ids]

    def _one(self, query: str) -> Any:
        with explained(self.folder):
            return self._connection.execute(query).fetchone()[0]


def _json(stamp: Stamp) -> str:
    return json.dumps(to_dict(stamp))


def _to_bytes(vector: Float[Tensor, " d"]) -> bytes:
    return vector.detach().cpu().numpy().astype("<f4").tobytes()


def _from_bytes(stored: bytearray, rows: int, dim: int) -> Float[Tensor, "n d"]:
    if not rows:
        return torch.zeros(0, dim)
    return torch.from_numpy(np.frombuffer(stored, "<f4").astype(np.float32, copy=False).reshape(rows, dim))
