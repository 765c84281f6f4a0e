"""The index: vectors of images by content, files by path, stamped with the model that made them."""

import json
import os
import shlex
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import RLock
from types import TracebackType

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.search.contracts import ImageEncoder, Stamp, stamp_of
from percept.search.rows import Content, Entry, FileRow, Matrix, content_row, is_intact, to_matrix
from percept.search.store import (
    changed,
    damaged,
    explained,
    has_store,
    make_store,
    open_store,
    stored_path,
    transaction,
)

WHOLE = "typeof(path) = 'blob' AND typeof(file.hash) = 'text' AND typeof(bytes) = 'integer' AND typeof(modified) = 'integer'"
"""SQL condition: all columns of a row of `file` have the type with which they were written."""

ADD_CONTENT = """
INSERT INTO content VALUES (NULL, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO UPDATE SET
hash = excluded.hash, width = excluded.width, height = excluded.height, vector = excluded.vector, checksum = excluded.checksum
"""


class Index:
    """An open index, usable from any thread. Use it in a `with` block, or call `close`.

    Args:
        folder: folder of its database.
        encoder: the model to use it with; refused if the index was made with a different model.
    """

    def __init__(self, folder: Path | str, encoder: ImageEncoder | None = None) -> None:
        self.folder = Path(folder)
        self._lock = RLock()
        self._connection = open_store(self.folder)
        self.close = weakref.finalize(self, self._connection.close)
        """Close the database; called when the index is garbage-collected."""
        try:
            self._read_version()
            if encoder is not None:
                self.check(encoder)
        except PerceptError:
            self.close()
            raise

    @classmethod
    def create(cls, folder: Path | str, encoder: ImageEncoder, *, stamp: Stamp | None = None) -> "Index":
        """Create an empty index for the vectors of `encoder` in a new or empty folder.

        Args:
            folder: folder of its database.
            encoder: the model it belongs to from now on.
            stamp: what `stamp_of` returns for the encoder and the arguments of `percept.load`; default: for its name.

        Raises:
            PerceptError: the model produces no vectors, or the folder is in use.
        """
        make_store(Path(folder), _json(stamp or stamp_of(encoder)))
        return cls(folder)

    @classmethod
    def open(cls, folder: Path | str, encoder: ImageEncoder | None = None) -> "Index":
        """Open the index in `folder`.

        Raises:
            PerceptError: there is no index in the folder, it is damaged, or it was made with a different model.
        """
        return cls(folder, encoder)

    @classmethod
    def open_or_create(cls, folder: Path | str, encoder: ImageEncoder, *, stamp: Stamp | None = None) -> "Index":
        """Open the index in `folder`, or create it if there is none; raises the errors of `open` and `create`.

        An index without files may change its model. A given stamp that agrees replaces the stored stamp, because the
        model may have been moved.
        """
        current = stamp or stamp_of(encoder)
        try:
            return cls.create(folder, encoder, stamp=current)
        except PerceptError:
            if not has_store(Path(folder)):
                raise
        index = cls(folder)
        try:
            index._take(current, moved=stamp is not None)
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
        """Stamp of the model with which the index was made."""
        with self._using() as connection:
            row = connection.execute("SELECT json FROM stamp").fetchone()
        try:
            return from_dict(Stamp, json.loads(row[0]))
        except (ValueError, TypeError):  # no row, not json, or different fields
            raise damaged(self.folder, "it does not say which model made it") from None

    def check(self, encoder: ImageEncoder) -> None:
        """Refuse a model whose vectors cannot be compared with the stored vectors.

        Raises:
            PerceptError: the model, or its preprocessing, is different.
        """
        stamp = stamp_of(encoder)
        if not self.stamp.agrees(stamp):
            differences = self.stamp.differences(stamp)
            why = f" ({differences})" if differences else ""
            raise PerceptError(
                f"the index {self.folder} was made with {self.stamp}, the given model is {stamp}: their vectors cannot "
                f"be compared{why}; use {self.stamp.differs_by(stamp)}, or make another index with --index OTHER"
            )

    def _take(self, stamp: Stamp, *, moved: bool) -> None:
        """Replace the stored stamp if the new stamp agrees with it or there are no files."""
        agrees = stamp.agrees(self.stamp)
        if stamp == self.stamp or not (moved if agrees else len(self) == 0):
            return
        with self._using() as connection, transaction(connection):
            if not agrees:
                if len(self):  # another process was faster
                    raise changed(self.folder)
                connection.execute("DELETE FROM content")
            connection.execute("UPDATE stamp SET json = ?", (_json(stamp),))
        del self.stamp
        self._matrix = None

    def __len__(self) -> int:
        """Return the number of files."""
        return self._number(f"SELECT count(*) FROM file WHERE {WHOLE}")

    def files(self) -> dict[Path, FileRow]:
        """Return the row of every file, by absolute path."""
        self._read_version()
        with self._using() as connection:
            rows = connection.execute(
                f"SELECT path, hash, bytes, modified FROM file WHERE {WHOLE} ORDER BY path"
            ).fetchall()
        return {Path(os.fsdecode(path)): FileRow(hash=hash_, bytes=size, modified=at) for path, hash_, size, at in rows}

    def hashes(self) -> set[str]:
        """Return the hashes of all contents whose vector is intact."""
        self._read_version()
        with self._using() as connection:
            rows = connection.execute("SELECT hash, width, height, vector, checksum FROM content")
            return {row[0] for row in rows if is_intact(row, self.stamp.dim)}

    def add(self, contents: Iterable[Content], files: dict[Path, FileRow]) -> None:
        """Store vectors and their files in one transaction; existing rows of the same path or content are replaced.

        Raises:
            PerceptError: another process removed a content that a file refers to, or the index is damaged.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = [(stored_path(path), row.hash, row.bytes, row.modified, now) for path, row in files.items()]
        with self._using() as connection:
            try:
                with transaction(connection):
                    connection.executemany(ADD_CONTENT, map(content_row, contents))
                    connection.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", rows)
            except sqlite3.IntegrityError as error:
                raise self._contradiction(str(error)) from None
        self._matrix = None

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove files, and vectors without any file."""
        with self._using() as connection, transaction(connection):
            connection.executemany("DELETE FROM file WHERE path = ?", [(stored_path(path),) for path in paths])
            connection.execute(f"DELETE FROM file WHERE NOT ({WHOLE})")
            connection.execute("DELETE FROM content WHERE hash NOT IN (SELECT hash FROM file)")
        self._matrix = None

    _matrix: tuple[int, Matrix] | None = None
    """Version of the database with the matrix of that version."""
    _version = 0
    """Version of the database when it was last read; it changes when a different connection commits."""

    def matrix(self) -> Matrix:
        """Return all intact vectors as one matrix. It is cached until the database changes.

        Damaged rows are omitted, with a notice.
        """
        with self._lock:
            version = self._read_version()
            if self._matrix is None or self._matrix[0] != version:
                self._matrix = version, self._read_matrix()
            return self._matrix[1]

    def _read_matrix(self) -> Matrix:
        holders: dict[str, list[bytes]] = {}
        vectors, sizes, paths, left_out = [], [], [], 0
        with self._using() as connection:
            # Scans the tables without a join, because the database index of `file` by hash may be damaged.
            for path, hash_, _, whole in connection.execute(
                f"SELECT path, hash, added, {WHOLE} FROM file ORDER BY path"
            ):
                if whole:
                    holders.setdefault(hash_, []).append(path)
                else:
                    left_out += 1
            for row in connection.execute("SELECT hash, width, height, vector, checksum FROM content ORDER BY id"):
                if row[0] in holders and is_intact(row, self.stamp.dim):
                    vectors.append(row[3])
                    sizes.append((row[1], row[2]))
                    paths.append(holders.pop(row[0]))
        self._report_damage(left_out + sum(map(len, holders.values())))
        return Matrix(vectors=to_matrix(vectors, self.stamp.dim), sizes=sizes, paths=paths)

    def _report_damage(self, left_out: int) -> None:
        if left_out:
            files = "1 file is" if left_out == 1 else f"{left_out} files are"
            notice(
                f"{files} left out: damaged rows in the index {self.folder}. Read them again with: "
                f"percept index IMAGES --index {shlex.quote(str(self.folder))}"
            )

    def repair(self) -> None:
        """Rebuild the database indexes if they do not match the rows. Rows have checksums of their own.

        Raises:
            PerceptError: the index is damaged beyond that.
        """
        with self._using() as connection:
            if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                try:
                    connection.execute("REINDEX")
                except sqlite3.IntegrityError as error:
                    raise damaged(self.folder, str(error)) from None

    def entries(self) -> list[Entry]:
        """Return the image of every row of the matrix, in order."""
        matrix = self.matrix()
        return [matrix.entry(row) for row in range(len(matrix))]

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection to one thread at a time; its errors become a PerceptError."""
        with self._lock, explained(self.folder):
            yield self._connection

    def _number(self, query: str) -> int:
        with self._using() as connection:
            return connection.execute(query).fetchone()[0]

    def _read_version(self) -> int:
        self._version = self._number("PRAGMA data_version")
        return self._version

    def _contradiction(self, reason: str) -> PerceptError:
        """Return the error for inconsistent rows: another process changed the index, or it is damaged."""
        before = self._version
        return damaged(self.folder, reason) if self._read_version() == before else changed(self.folder)


def _json(stamp: Stamp) -> str:
    return json.dumps(to_dict(stamp))
