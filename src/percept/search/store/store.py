"""An open index: reading, writing and upkeep."""

import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Int64

import percept.search.store.lookup as lookup
import percept.search.store.upkeep as upkeep
import percept.search.store.writes as writes
from percept.core import VERSION as PERCEPT
from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.search.contracts import ImageEncoder, Stamp, stamp_of
from percept.search.store.database import Database, damaged, has_store, stored_path
from percept.search.store.migrate import migrate_old
from percept.search.store.records import BadState, FileState, Filter, NewContent, Piece, Repair, Root, Space, Status
from percept.search.store.segments import COPIED, Segment, read_segments, remove_leftovers
from percept.search.store.tables import make_store, stamp_json

T = TypeVar("T")


class Store:
    """An open index, usable from any thread. Use it in a `with` block, or call `close`.

    Several processes may use one index. A reader never waits; a writer waits until another one has stored its batch.

    Args:
        folder: folder of the index.
        encoder: the model to use it with; refused if the index was made with a different model.
    """

    def __init__(self, folder: Path | str, encoder: ImageEncoder | None = None) -> None:
        self.folder = Path(folder)
        migrate_old(self.folder)
        self._database = Database(self.folder)
        self._lock = RLock()
        self._kept: dict[str, tuple[int, Any]] = {}
        """Results with the version of the index at which they were read."""
        self._mapped: dict[int, dict[tuple[int, int, bool], Segment]] = {}
        """Segments that are mapped, by space and state."""
        self.close = weakref.finalize(self, self._database.close)
        """Close the index; called when it is garbage-collected."""
        try:
            if encoder is not None:
                self.check(encoder)
        except PerceptError:
            self.close()
            raise

    @classmethod
    def create(cls, folder: Path | str, encoder: ImageEncoder, *, stamp: Stamp | None = None) -> "Store":
        """Create an empty index for the vectors of `encoder` in a new or empty folder.

        Args:
            folder: folder of the index.
            encoder: the model it belongs to from now on.
            stamp: what `stamp_of` returns for the encoder and the arguments of `percept.load`; default: for its name.

        Raises:
            PerceptError: the model produces no vectors, or the folder is in use.
        """
        make_store(Path(folder), stamp or stamp_of(encoder))
        return cls(folder)

    @classmethod
    def open_or_create(cls, folder: Path | str, encoder: ImageEncoder, *, stamp: Stamp | None = None) -> "Store":
        """Open the index in `folder`, or create it if there is none.

        An index without files may change its model. A given stamp that agrees replaces the stored stamp, because the
        model may have been moved.

        Raises:
            PerceptError: the model produces no vectors, the folder is in use, or its index is of a different model.
        """
        current = stamp or stamp_of(encoder)
        try:
            return cls.create(folder, encoder, stamp=current)
        except PerceptError:
            if not has_store(Path(folder)):
                raise
        store = cls(folder)
        try:
            store._take(current, moved=stamp is not None)
            store.check(encoder)
        except PerceptError:
            store.close()
            raise
        return store

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What an index belongs to

    def version(self) -> int:
        """Return a number that every change of the index raises, also by another process."""
        return self._number("SELECT number FROM version")

    def spaces(self) -> list[Space]:
        """Return the spaces of vectors; queries use the current one."""
        return self._at_version("spaces", self._read_spaces)

    @property
    def space(self) -> Space:
        """The current space of vectors."""
        spaces = [space for space in self.spaces() if space.current]
        if len(spaces) != 1:
            raise damaged(self.folder, "it does not say which model made it")
        return spaces[0]

    @property
    def stamp(self) -> Stamp:
        """Stamp of the model with which the index was made."""
        return self.space.stamp

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

    # Reading

    def __len__(self) -> int:
        """Return the number of files whose content can be found."""
        return self._number("SELECT count(content) FROM file")

    def segments(self, space: int | None = None) -> list[Segment]:
        """Return the segments of a space, by default the current one, without reading rows; cached until a change."""
        chosen = self.space if space is None else next(each for each in self.spaces() if each.id == space)

        return self._at_version(f"segments {chosen.id}", lambda: self._read_segments(chosen))

    def dead(self) -> Int64[np.ndarray, " n"]:
        """Return the ids, ascending, of removed pieces whose vectors are still in segments."""

        def read() -> np.ndarray:
            with self._database.reading() as connection:
                rows = connection.execute("SELECT piece FROM dead ORDER BY piece")
                return np.fromiter((row[0] for row in rows), np.int64)

        return self._at_version("dead", read)

    def pieces(self, ids: Sequence[int] | Int64[np.ndarray, " n"]) -> list[Piece]:
        """Return pieces in the order of `ids`, without those that no longer exist."""
        with self._database.reading() as connection:
            return lookup.read_pieces(connection, [int(id_) for id_ in ids])

    def pieces_of(self, contents: Sequence[int]) -> list[Piece]:
        """Return all pieces of contents, by content and in the order of their spans."""
        with self._database.reading() as connection:
            ids = [id_ for part in lookup.chunks(list(contents)) for id_ in lookup.ids_of(connection, part)]
            return lookup.read_pieces(connection, ids)

    def where(self, condition: Filter) -> Int64[np.ndarray, " n"]:
        """Return the ids, ascending, of the pieces that pass a filter.

        Raises:
            PerceptError: an unknown kind, or an empty pattern.
        """
        with self._database.reading() as connection:
            return lookup.passing(connection, condition)

    def thumbnail(self, content: int) -> bytes | None:
        """Return the JPEG thumbnail of a content, or None if there is none."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT jpeg FROM thumbnail WHERE content = ?", (content,)).fetchone()
        return None if row is None else row[0]

    def knows(self, hash_: str) -> bool:
        """True if the content with this hash has its vectors."""
        with self._database.reading() as connection:
            return writes.content_id(connection, hash_) is not None

    def paths(self) -> Iterator[Path]:
        """Yield the path of every file, in order."""
        query, last = "SELECT path FROM file WHERE path > ? ORDER BY path LIMIT 10000", b""
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(query, (last,)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (Path(os.fsdecode(path)) for (path,) in rows)

    def pending(self) -> list[Path]:
        """Return the files that have to be read again, because their vectors were lost."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT path FROM file WHERE content IS NULL ORDER BY path").fetchall()
        return [Path(os.fsdecode(path)) for (path,) in rows]

    def known(self, paths: Sequence[Path]) -> dict[Path, FileState | BadState]:
        """Return the stored state of those paths that have one and need not be read again while they are unchanged."""
        found: dict[Path, FileState | BadState] = {}
        stored = {stored_path(path): path for path in paths}
        with self._database.reading() as connection:
            for part in lookup.chunks(list(stored)):
                places = lookup.marks(part)
                rows = f"SELECT path, bytes, modified FROM file WHERE content IS NOT NULL AND path IN ({places})"
                for path, size, modified in connection.execute(rows, part):
                    found[stored[path]] = FileState(path=stored[path], bytes=size, modified=modified)
                rows = f"SELECT path, bytes, modified, reason FROM bad WHERE reader = ? AND path IN ({places})"
                for path, size, modified, why in connection.execute(rows, (PERCEPT, *part)):
                    found[stored[path]] = BadState(path=stored[path], bytes=size, modified=modified, reason=why)
        return found

    def roots(self) -> list[Root]:
        """Return the folders that were indexed."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT path, selection FROM root ORDER BY path").fetchall()
        return [Root(path=Path(os.fsdecode(path)), **_selection(text)) for path, text in rows]

    # Writing

    def add(self, contents: Iterable[NewContent], files: Iterable[FileState]) -> list[Path]:
        """Store contents that are not known yet, and the files that hold them, in one transaction.

        Returns:
            Files that were not stored, because another process removed their content in the meantime.
        """
        contents = list(contents)
        for content in contents:
            self._check_vectors(content)
        space = self.space
        with self._database.writing() as connection:
            writes.add_contents(connection, self.folder, space, contents)
            return writes.add_files(connection, files)

    def mark_bad(self, files: Sequence[BadState]) -> None:
        """Remember files that could not be read; their earlier contents are forgotten."""
        if files:
            with self._database.writing() as connection:
                writes.forget_files(connection, [file.path for file in files])
                writes.add_bad(connection, files, PERCEPT)

    def forget(self, paths: Sequence[Path]) -> None:
        """Remove files, and contents that no other file holds."""
        if paths:
            with self._database.writing() as connection:
                writes.forget_files(connection, paths)

    def remove(self, paths: Sequence[Path]) -> list[Path]:
        """Remove files, and everything that is stored of folders; they are not indexed again unless named.

        Returns:
            The files that were removed.
        """
        with self._database.writing() as connection:
            removed = writes.files_below(connection, paths)
            writes.forget_files(connection, removed)
            for path in paths:
                for table in ("bad", "root"):
                    term = lookup.BELOW.replace("file.", "")
                    connection.execute(f"DELETE FROM {table} WHERE {term}", lookup.below_range(path))
        return removed

    def remember_roots(self, roots: Sequence[Root]) -> None:
        """Store folders and files that were indexed, so that the next run without folders knows them."""
        stored = set(self.roots())
        fresh = [root for root in roots if root not in stored]
        if not fresh:
            return
        rows = [
            (stored_path(root.path), json.dumps({key: to_dict(root)[key] for key in ("include", "exclude", "hidden")}))
            for root in fresh
        ]
        with self._database.writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO root VALUES (?, ?)", rows)

    # Upkeep

    def compact(self) -> int:
        """Rewrite segments without the vectors of removed pieces; return how many vectors were dropped.

        Raises:
            PerceptError: a segment is damaged.
        """
        with self._database.writing() as connection:
            dropped = upkeep.compact(connection, self.folder)
        self._remove_leftovers()
        return dropped

    def repair(self) -> Repair:
        """Check all vectors against their checksums and drop what is damaged, with everything that depended on it.

        Raises:
            PerceptError: the database itself is damaged beyond repair.
        """
        with self._database.exclusive() as connection:
            upkeep.check_database(connection, self.folder)
        with self._database.writing() as connection:
            result = upkeep.repair(connection, self.folder)
        result.leftovers = self._remove_leftovers()
        return result

    def _remove_leftovers(self) -> int:
        """Delete the files of segments that were rewritten, and those of interrupted writes."""
        with self._database.writing() as connection:
            return remove_leftovers(connection, self.folder)

    def status(self) -> Status:
        """Count what is stored, and check all vectors against their checksums."""
        roots = tuple(self.roots())
        with self._database.reading() as connection:
            return upkeep.status(connection, self.folder, roots)

    def vectors(self) -> Iterator[tuple[Int64[np.ndarray, " n"], np.ndarray]]:
        """Yield ids and vectors of all pieces that can be found, in parts."""
        dead = self.dead()
        for segment in self.segments():
            for first in range(0, segment.rows, COPIED):
                part = slice(first, first + COPIED)
                keep = ~np.isin(segment.ids[part], dead)
                yield segment.ids[part][keep], segment.vectors[part][keep]

    # Own

    def _read_segments(self, space: Space) -> list[Segment]:
        while True:
            version = self.version()
            with self._database.reading() as connection:
                found = read_segments(connection, self.folder, space.id, space.stamp.dim)
            mapped = self._mapped.get(space.id, {})
            try:
                segments = [mapped.get(segment.state) or segment.mapped() for segment in found]
            except PerceptError:
                if self.version() == version:
                    raise
                continue  # another process has rewritten them in the meantime
            self._mapped[space.id] = {segment.state: segment for segment in segments}
            return segments

    def _read_spaces(self) -> list[Space]:
        with self._database.reading() as connection:
            rows = connection.execute("SELECT id, stamp, current FROM space ORDER BY id").fetchall()
        try:
            return [
                Space(id=id_, stamp=from_dict(Stamp, json.loads(text)), current=bool(now)) for id_, text, now in rows
            ]
        except (ValueError, TypeError):  # not json, or different fields
            raise damaged(self.folder, "it does not say which model made it") from None

    def _take(self, stamp: Stamp, *, moved: bool) -> None:
        """Replace the stored stamp if the new stamp agrees with it or there are no files."""
        space = self.space
        agrees = stamp.agrees(space.stamp)
        if stamp == space.stamp or not (moved if agrees else len(self) == 0):
            return
        with self._database.writing() as connection:
            if not agrees:
                if connection.execute("SELECT count(*) FROM file").fetchone()[0]:  # another process was faster
                    raise PerceptError(
                        f"the index {self.folder} was changed by another process. Run the command again."
                    )
                upkeep.drop_vectors(connection)
            connection.execute(
                "UPDATE space SET stamp = ?, image = ?, dim = ? WHERE id = ?",
                (stamp_json(stamp), stamp.image, stamp.dim, space.id),
            )

    def _check_vectors(self, content: NewContent) -> None:
        expected = (len(content.spans), self.stamp.dim)
        if content.vectors.shape != expected or not np.isfinite(content.vectors).all():
            raise PerceptError(
                f"the vectors of a content have the shape {content.vectors.shape} instead of {expected}, or values that are "
                "not finite. Use the encoder that the index was made with."
            )

    def _at_version(self, name: str, read: Callable[[], T]) -> T:
        with self._lock:
            version = self.version()
            if name not in self._kept or self._kept[name][0] != version:
                self._kept[name] = version, read()
            return cast("T", self._kept[name][1])

    def _number(self, query: str) -> int:
        with self._database.reading() as connection:
            return connection.execute(query).fetchone()[0]


def _selection(text: str) -> dict[str, Any]:
    selection = json.loads(text)
    return {
        "include": tuple(selection["include"]),
        "exclude": tuple(selection["exclude"]),
        "hidden": selection["hidden"],
    }
