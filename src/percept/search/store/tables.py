"""The tables of an index, and the creation of an empty one."""

import json
import os
import sqlite3
from pathlib import Path
from uuid import uuid4

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.search.contracts import Stamp
from percept.search.store.database import APPLICATION, FILE, VERSION, explained, has_store

TABLES = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE version (number INTEGER NOT NULL);      -- raised by every transaction that writes
INSERT INTO version VALUES (1);
CREATE TABLE space (                                 -- the vectors of one model
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stamp TEXT NOT NULL,                             -- json of Stamp
    image TEXT NOT NULL,                             -- identity of its image vectors
    dim INTEGER NOT NULL,
    current INTEGER NOT NULL
);
CREATE TABLE segment (                               -- files segments/ID.vec and segments/ID.ids
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    space INTEGER NOT NULL REFERENCES space (id),
    rows INTEGER NOT NULL,                           -- later rows of the files do not count
    checksums BLOB NOT NULL,                         -- per block of rows: CRC-32 of vectors and of ids
    sealed INTEGER NOT NULL
);
CREATE TABLE content (                               -- one row per distinct image or video
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,                       -- BLAKE2b of the file's bytes
    kind TEXT NOT NULL,                              -- image or video
    width INTEGER NOT NULL,                          -- pixels, upright
    height INTEGER NOT NULL,
    seconds REAL,
    taken REAL                                       -- seconds since 1970
);
CREATE TABLE thumbnail (                             -- apart from `content`, which filters read as a whole
    content INTEGER PRIMARY KEY REFERENCES content (id),
    jpeg BLOB NOT NULL
);
CREATE TABLE piece (                                 -- what one vector stands for
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    content INTEGER NOT NULL REFERENCES content (id),
    start REAL,                                      -- seconds; NULL for an image
    stop REAL
);
CREATE INDEX piece_by_content ON piece (content);
CREATE TABLE dead (piece INTEGER PRIMARY KEY);       -- removed pieces whose vectors are still in a segment
CREATE TABLE file (                                  -- one row per path
    path BLOB NOT NULL UNIQUE,                       -- absolute; bytes, because a file name need not be text
    content INTEGER REFERENCES content (id),         -- NULL: has to be read again
    bytes INTEGER NOT NULL,
    modified INTEGER NOT NULL,                       -- nanoseconds since 1970
    added TEXT NOT NULL                              -- UTC, ISO 8601
);
CREATE INDEX file_by_content ON file (content);
CREATE TABLE bad (                                   -- files that could not be read
    path BLOB NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    reason TEXT NOT NULL,
    reader TEXT NOT NULL                             -- version of percept that tried
);
CREATE TABLE root (path BLOB NOT NULL UNIQUE, selection TEXT NOT NULL);  -- folders that were indexed
"""


def make_store(folder: Path, stamp: Stamp) -> None:
    """Create an empty database in `folder`, atomically; an empty file in its place is replaced.

    Raises:
        PerceptError: the folder already contains an index or anything else.
    """
    _check_free(folder)
    temporary = folder / f".{FILE}.{uuid4().hex}.part"
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_empty(folder)
        try:
            write_tables(temporary, stamp)
            _publish(temporary, folder)
        finally:
            temporary.unlink(missing_ok=True)


def stamp_json(stamp: Stamp) -> str:
    """Return the stamp as it is stored."""
    return json.dumps(to_dict(stamp))


def _check_free(folder: Path) -> None:
    if has_store(folder):
        raise _is_index_already(folder)
    if not folder.exists():
        return
    ours = (f".{FILE}.", FILE)
    if not folder.is_dir() or any(not file.name.startswith(ours) for file in folder.iterdir()):
        raise PerceptError(f"{folder} is in use for something else. Give a folder that is new or empty.")


def _is_index_already(folder: Path) -> PerceptError:
    return PerceptError(f"{folder} is already an index. Open it, or give a different folder.")


def _remove_empty(folder: Path) -> None:
    """Remove an empty database file; a database that another process writes in the meantime is restored."""
    moved = folder / f".{FILE}.{uuid4().hex}.part"
    try:
        os.rename(folder / FILE, moved)
    except FileNotFoundError:
        return
    try:
        if moved.stat().st_size:
            _publish(moved, folder)
            raise _is_index_already(folder)
    finally:
        moved.unlink(missing_ok=True)


def write_tables(file: Path, stamp: Stamp) -> None:
    """Write a new database of an index without files."""
    connection = sqlite3.connect(file)
    try:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO space VALUES (NULL, ?, ?, ?, 1)", (stamp_json(stamp), stamp.image, stamp.dim))
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")  # stays with the file: readers never wait for a writer
    finally:
        connection.close()


def _publish(temporary: Path, folder: Path) -> None:
    """Move the database to its final name, unless another process was first: its index must not be replaced."""
    try:
        os.link(temporary, folder / FILE)
    except FileExistsError:
        raise _is_index_already(folder) from None
    except OSError:  # a file system without hard links
        os.replace(temporary, folder / FILE)
