"""An open index: what it reads, and how it is written and looked after."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

import percept.search.store.changing as changing
import percept.search.store.lookup as lookup
import percept.search.store.upkeep as upkeep
import percept.search.store.writes as writes
from percept.core import VERSION as PERCEPT
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.search.contracts import ImageEncoder, Stamp, stamp_of
from percept.search.store.database import has_store, stored_path
from percept.search.store.reader import Reader
from percept.search.store.records import BadState, FileState, NewContent, Repair, Root, Status
from percept.search.store.segments import remove_leftovers
from percept.search.store.tables import make_store, stamp_json


class Store(Reader):
    """An open index, usable from any thread. Use it in a `with` block, or call `close`.

    Several processes may use one index. A reader never waits; a writer waits until another one has stored its batch.

    Args:
        folder: folder of the index.
        encoder: the model to use it with; refused if the index was made with a different model.
    """

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
            changing.check_current(connection, self._checked or space.id)
            writes.add_contents(connection, self.folder, space, contents)
            return writes.add_files(connection, files)

    def switch(self, stamp: Stamp, data: bytes) -> None:
        """Make a different model the one of the index; vectors of the former model are searched through a bridge.

        Args:
            stamp: of the new model.
            data: the bridge, see `percept.search.bridge`.

        Raises:
            PerceptError: another process was faster.
        """
        space = self.space
        with self._database.writing() as connection:
            self._checked = changing.switch(connection, space, stamp, data)

    def move(self, contents: Sequence[NewContent]) -> int:
        """Replace the vectors of contents by those of the current model, in one transaction; return how many moved.

        The last one ends the change of the model. Contents that another process moved first are left alone.
        """
        for content in contents:
            self._check_vectors(content)
        space, old = self.space, self.old()
        if old is None:
            return 0
        with self._database.writing() as connection:
            changing.check_current(connection, self._checked or space.id)
            count = changing.move(connection, self.folder, space, old.last, contents)
            ended = changing.finish(connection, old)
        if ended:
            self._remove_leftovers()
        return count

    def finish(self) -> None:
        """End a change of the model if nothing is left to encode again, also where the last contents were removed."""
        if self.old() is not None:
            self.move([])

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
