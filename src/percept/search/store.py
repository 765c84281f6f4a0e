"""The file behind an index: one SQLite database, its tables, and errors a person understands."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from percept.core.errors import PerceptError

FILE = "index.sqlite"
APPLICATION = 0x50455243
"""Says `PERC` in the header of the database: this file is ours."""
VERSION = 1
"""Raised when the tables change."""

TABLES = f"""
PRAGMA page_size = 16384;           -- several vectors to a page, even long ones
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE stamp (json TEXT NOT NULL);
CREATE TABLE content (              -- one row per distinct picture
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,      -- BLAKE2b of the file's bytes
    width INTEGER NOT NULL,         -- pixels, upright
    height INTEGER NOT NULL,
    vector BLOB NOT NULL            -- float32, little-endian, unit length
);
CREATE TABLE file (                 -- one row per path
    path BLOB PRIMARY KEY,          -- absolute; bytes, because a file name need not be text
    hash TEXT NOT NULL REFERENCES content (hash),
    bytes INTEGER NOT NULL,
    modified INTEGER NOT NULL,      -- nanoseconds since 1970
    added TEXT NOT NULL             -- UTC, ISO 8601
) WITHOUT ROWID;
CREATE INDEX file_by_hash ON file (hash);
"""


def make_store(folder: Path, stamp: str) -> None:
    """Create an empty database in `folder`, whole or not at all.

    Raises:
        PerceptError: the folder holds an index or anything else already.
    """
    _check_free(folder)
    temporary = folder / f".{FILE}.{uuid4().hex}.part"
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _write_tables(temporary, stamp)
            _publish(temporary, folder)
        finally:
            temporary.unlink(missing_ok=True)


def _check_free(folder: Path) -> None:
    if (folder / FILE).exists():
        raise _there_already(folder)
    others = folder.exists() and (
        not folder.is_dir() or any(not one.name.startswith(f".{FILE}.") for one in folder.iterdir())
    )
    if others:
        raise PerceptError(f"{folder} is in use for something else; give a folder that is new or empty")


def _there_already(folder: Path) -> PerceptError:
    return PerceptError(f"{folder} is an index already; open it, or give another folder")


def _write_tables(file: Path, stamp: str) -> None:
    connection = sqlite3.connect(file)
    try:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO stamp VALUES (?)", (stamp,))
        connection.commit()
    finally:
        connection.close()


def _publish(temporary: Path, folder: Path) -> None:
    """Give the database its name, unless another process was first: replacing its index would lose what it stores."""
    try:
        os.link(temporary, folder / FILE)
    except FileExistsError:
        raise _there_already(folder) from None
    except OSError:  # a file system without hard links
        os.replace(temporary, folder / FILE)


def open_store(folder: Path) -> sqlite3.Connection:
    """Connect to the database in `folder`.

    Raises:
        PerceptError: there is none, it is not ours, it is damaged or of a newer version.
    """
    file = folder / FILE
    if not file.is_file():
        problem = "is not an index" if folder.exists() else "does not exist"
        raise PerceptError(f"the folder {folder} {problem}; make one with: percept index PICTURES --index {folder}")
    with explained(folder):
        # Waiting half a minute lets a second process finish its batch; isolation_level=None leaves BEGIN to us.
        connection = sqlite3.connect(file, timeout=30, isolation_level=None)
        try:
            _check_header(connection, folder)
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def _check_header(connection: sqlite3.Connection, folder: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise PerceptError(f"{folder / FILE} is a database of another program, not an index; give another folder")
    if version != VERSION:
        raise PerceptError(
            f"the index {folder} has format {version}, this percept reads format {VERSION}; "
            "use the percept that made it, or delete the folder and index again"
        )


def damaged(folder: Path, reason: str) -> PerceptError:
    """Build the error for an index whose content cannot be trusted."""
    return PerceptError(f"the index {folder} is damaged ({reason}); delete the folder and index again")


def changed(folder: Path) -> PerceptError:
    """Build the error for an index that is whole, but no longer what this process knew."""
    return PerceptError(f"the index {folder} was changed by another process meanwhile; run the command again")


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into a PerceptError that names the index."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise PerceptError(f"the index {folder} cannot be used now: {error}") from None
    except sqlite3.IntegrityError:  # a row refers to content that was there when this process looked
        raise changed(folder) from None
    except sqlite3.DatabaseError as error:
        raise damaged(folder, str(error)) from None
    except OSError as error:
        raise PerceptError(f"the index {folder} cannot be used: {error.strerror or error}") from None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Do everything in the block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def stored_path(path: Path) -> bytes:
    """Return an absolute path as the bytes the file system knows it by."""
    return os.fsencode(os.path.abspath(path))
