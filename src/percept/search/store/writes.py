"""Rows added and removed, each function within a transaction of its caller."""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from percept.search.store.database import stored_path
from percept.search.store.lookup import BELOW, below_range
from percept.search.store.records import BadState, FileState, NewContent, Space
from percept.search.store.segments import append


def add_contents(connection: sqlite3.Connection, folder: Path, space: Space, contents: Iterable[NewContent]) -> None:
    """Store contents that are not known yet, with their pieces and vectors."""
    ids: list[int] = []
    vectors: list[np.ndarray] = []
    for content in contents:
        if content_id(connection, content.hash) is None:
            ids += _add_content(connection, content)
            vectors.append(content.vectors)
    if ids:
        append(connection, folder, space.id, np.array(ids, np.int64), np.concatenate(vectors))


def content_id(connection: sqlite3.Connection, hash_: str) -> int | None:
    """Return the number of a content, or None if it is not known."""
    row = connection.execute("SELECT id FROM content WHERE hash = ?", (hash_,)).fetchone()
    return None if row is None else row[0]


def _add_content(connection: sqlite3.Connection, content: NewContent) -> list[int]:
    """Store a content and its pieces; return the ids of the pieces."""
    columns = content.hash, content.kind, content.width, content.height, content.seconds, content.taken
    number = connection.execute("INSERT INTO content VALUES (NULL, ?, ?, ?, ?, ?, ?)", columns).lastrowid
    if content.thumbnail is not None:
        connection.execute("INSERT INTO thumbnail VALUES (?, ?)", (number, content.thumbnail))
    ids = []
    for span in content.spans:
        start, stop = span or (None, None)
        row = connection.execute("INSERT INTO piece VALUES (NULL, ?, ?, ?)", (number, start, stop))
        ids.append(int(row.lastrowid or 0))
    return ids


def add_files(connection: sqlite3.Connection, files: Iterable[FileState]) -> list[Path]:
    """Store files with their contents; return those whose content is not known, because another process removed it."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before: set[int] = set()
    unknown = []
    for file in files:
        number, path = content_id(connection, file.hash), stored_path(file.path)
        if number is None:
            unknown.append(file.path)
            continue
        before.update(_contents_of(connection, path))
        connection.execute(
            "INSERT INTO file VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET "
            "content = excluded.content, bytes = excluded.bytes, modified = excluded.modified",
            (path, number, file.bytes, file.modified, now),
        )
        connection.execute("DELETE FROM bad WHERE path = ?", (path,))
    drop_unused(connection, before)
    return unknown


def _contents_of(connection: sqlite3.Connection, path: bytes) -> list[int]:
    rows = connection.execute("SELECT content FROM file WHERE path = ? AND content IS NOT NULL", (path,))
    return [row[0] for row in rows]


def add_bad(connection: sqlite3.Connection, files: Iterable[BadState], reader: str) -> None:
    """Remember files that could not be read."""
    rows = [(stored_path(file.path), file.bytes, file.modified, file.reason, reader) for file in files]
    connection.executemany("INSERT OR REPLACE INTO bad VALUES (?, ?, ?, ?, ?)", rows)


def forget_files(connection: sqlite3.Connection, paths: Iterable[Path]) -> None:
    """Remove files, and contents without any file."""
    contents: set[int] = set()
    for path in map(stored_path, paths):
        contents.update(_contents_of(connection, path))
        connection.execute("DELETE FROM file WHERE path = ?", (path,))
    drop_unused(connection, contents)


def files_below(connection: sqlite3.Connection, paths: Iterable[Path]) -> list[Path]:
    """Return the stored files that are, or are inside, any of the paths."""
    found: dict[bytes, None] = {}
    for path in paths:
        query = f"SELECT path FROM file WHERE {BELOW} ORDER BY path"
        found.update(dict.fromkeys(row[0] for row in connection.execute(query, below_range(path))))
    return [Path(os.fsdecode(path)) for path in found]


def drop_unused(connection: sqlite3.Connection, contents: Iterable[int]) -> None:
    """Remove those of the contents that no file holds."""
    for number in contents:
        if connection.execute("SELECT 1 FROM file WHERE content = ? LIMIT 1", (number,)).fetchone() is None:
            drop_content(connection, number)


def drop_content(connection: sqlite3.Connection, number: int) -> None:
    """Remove a content; the vectors of its pieces are dead from now on."""
    connection.execute("INSERT INTO dead SELECT id FROM piece WHERE content = ?", (number,))
    for table, column in (("piece", "content"), ("thumbnail", "content"), ("content", "id")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (number,))


def drop_pieces(connection: sqlite3.Connection, pieces: Sequence[int]) -> list[Path]:
    """Remove the contents of pieces whose vectors were lost; return their files, which have to be read again."""
    contents: set[int] = set()
    for piece in pieces:
        contents.update(row[0] for row in connection.execute("SELECT content FROM piece WHERE id = ?", (piece,)))
    files = []
    for number in sorted(contents):
        files += [row[0] for row in connection.execute("SELECT path FROM file WHERE content = ?", (number,))]
        connection.execute("UPDATE file SET content = NULL WHERE content = ?", (number,))
        drop_content(connection, number)
    return [Path(os.fsdecode(path)) for path in files]
