"""Reading an open index."""

import json
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Int64

import percept.search.store.lookup as lookup
import percept.search.store.writes as writes
from percept.core import VERSION as PERCEPT
from percept.core.config import from_dict
from percept.core.errors import PerceptError
from percept.search.contracts import ImageEncoder, Stamp, stamp_of
from percept.search.store.changing import Old, old_contents, read_old, remaining
from percept.search.store.database import Database, damaged, stored_path
from percept.search.store.migrate import migrate_old
from percept.search.store.records import BadState, FileState, Filter, Piece, Root, Space
from percept.search.store.segments import COPIED, Segment, read_segments

T = TypeVar("T")


class Reader:
    """What is read from an open index, from any thread.

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
        self._checked: int | None = None
        """The space to which a model that was checked belongs."""
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
        stamp, space = stamp_of(encoder), self.space
        if space.stamp.agrees(stamp):
            self._checked = space.id
        else:
            differences = self.stamp.differences(stamp)
            why = f" ({differences})" if differences else ""
            raise PerceptError(
                f"the index {self.folder} was made with {self.stamp}, the given model is {stamp}: their vectors cannot "
                f"be compared{why}; use {self.stamp.remedy(stamp)}, or make another index with --index OTHER"
            )

    # Reading

    def __len__(self) -> int:
        """Return the number of files whose content can be found."""
        return self._number("SELECT count(content) FROM file")

    def segments(self, space: int | None = None) -> list[Segment]:
        """Return the segments of a space, by default the current one, without reading rows; cached until a change.

        A space that no longer exists has none.
        """
        chosen = self.space if space is None else next((each for each in self.spaces() if each.id == space), None)
        if chosen is None:
            return []
        return self._at_version(f"segments {chosen.id}", lambda: self._read_segments(chosen))

    def old(self) -> Old | None:
        """Return the old space of an index whose model was changed, until all of its contents are encoded again."""

        def read() -> Old | None:
            with self._database.reading() as connection:
                return read_old(connection)

        return None if len(self.spaces()) < 2 else self._at_version("old", read)

    def remaining(self) -> int:
        """Return the number of images and videos that the current model has not encoded yet."""
        old = self.old()
        if old is None:
            return 0
        with self._database.reading() as connection:
            return remaining(connection, old.last)

    def old_contents(self, *, after: int = 0, count: int = lookup.AT_ONCE) -> list[int]:
        """Return numbers of contents, ascending, that the current model has not encoded yet."""
        old = self.old()
        if old is None:
            return []
        with self._database.reading() as connection:
            return old_contents(connection, old.last, after, count)

    def contents(self, kind: str) -> Int64[np.ndarray, " n"]:
        """Return the numbers of all contents of a kind, ascending."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT id FROM content WHERE kind = ? ORDER BY id", (kind,))
            return np.fromiter((row[0] for row in rows), np.int64)

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
            return lookup.read_pieces(connection, np.asarray(ids, np.int64).tolist())

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

    def kinds(self) -> dict[str, int]:
        """Return the numbers of distinct images and videos; cached until a change."""

        def read() -> dict[str, int]:
            with self._database.reading() as connection:
                return dict(connection.execute("SELECT kind, count(*) FROM content GROUP BY kind").fetchall())

        return self._at_version("kinds", read)

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

    def bad_paths(self) -> list[Path]:
        """Return the files that could not be read."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT path FROM bad ORDER BY path").fetchall()
        return [Path(os.fsdecode(path)) for (path,) in rows]

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

    def vectors(self) -> Iterator[tuple[Int64[np.ndarray, " n"], np.ndarray]]:
        """Yield ids and vectors of all pieces in the current space that can be found, in parts."""
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
