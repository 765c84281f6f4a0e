"""The SQLite database of an index: its tables, and its errors as PerceptError."""

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from percept.core.errors import PerceptError

FILE = "index.sqlite"
APPLICATION = 0x50455243
"""Application id in the header of the database, `PERC` in ASCII."""
VERSION = 2
"""Version of the tables; raise it when they change."""
DAMAGE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Result codes of SQLite for a damaged database; all other errors may be temporary."""

TABLES = f"""
PRAGMA page_size = 16384;           -- several vectors to a page, even long ones
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE stamp (json TEXT NOT NULL);
CREATE TABLE content (              -- one row per distinct image
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,      -- BLAKE2b of the file's bytes
    width INTEGER NOT NULL,         -- pixels, upright
    height INTEGER NOT NULL,
    vector BLOB NOT NULL,           -- float32, little-endian, unit length
    checksum INTEGER NOT NULL       -- CRC-32 of the four columns before
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
            _write_tables(temporary, stamp)
            _publish(temporary, folder)
        finally:
            temporary.unlink(missing_ok=True)


def has_store(folder: Path) -> bool:
    """True if the folder contains a database; an empty file, as after a power failure, does not count."""
    file = folder / FILE
    return file.exists() and file.stat().st_size > 0


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


def _write_tables(file: Path, stamp: str) -> None:
    connection = sqlite3.connect(file)
    try:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO stamp VALUES (?)", (stamp,))
        connection.commit()
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


def open_store(folder: Path) -> sqlite3.Connection:
    """Connect to the database in `folder`. Any thread may use the connection, one at a time.

    Raises:
        PerceptError: it does not exist, is empty, not an index, damaged, or of a different version.
    """
    file = folder / FILE
    command = f"percept index IMAGES --index {shlex.quote(str(folder))}"
    if not file.is_file():
        problem = "is not an index" if folder.exists() else "does not exist"
        raise PerceptError(f"the folder {folder} {problem}; make one with: {command}")
    if not has_store(folder):
        raise PerceptError(f"the index {folder} is empty (0 bytes), it was never written; make it with: {command}")
    with explained(folder):
        # The timeout lets a second process finish its batch; isolation_level=None disables implicit transactions.
        connection = sqlite3.connect(file, timeout=30, isolation_level=None, check_same_thread=False)
        connection.text_factory = _decoded
        try:
            _check_header(connection, folder)
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def _decoded(data: bytes) -> str:
    """Decode text without errors; the checksum detects damage."""
    return data.decode(errors="replace")


def _check_header(connection: sqlite3.Connection, folder: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise PerceptError(f"{folder / FILE} is a database of another program. Give a different folder.")
    if version != VERSION:
        raise PerceptError(
            f"the index {folder} has format {version}, and this percept reads format {VERSION}. "
            "Delete the folder and index again, or use the percept that made it."
        )


def damaged(folder: Path, reason: str) -> PerceptError:
    """Return the error for a damaged index."""
    return PerceptError(f"the index {folder} is damaged ({reason}). Delete the folder and index again.")


def changed(folder: Path) -> PerceptError:
    """Return the error for an index that another process changed after it was read."""
    return PerceptError(f"the index {folder} was changed by another process. Run the command again.")


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Convert errors of SQLite and of the file system to a PerceptError that names the index."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise
        raise PerceptError(f"this Index of {folder} is closed. Open it again.") from None
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in DAMAGE:
            raise damaged(folder, str(error)) from None
        raise PerceptError(
            f"the index {folder} cannot be used now: {error}. Check that its disk has room and can be written, and that no "
            "other process holds it."
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise PerceptError(f"the index {folder} cannot be used: {reason}. Check the folder and its disk.") from None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run a block as one transaction: commit at its end, roll back on any exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def stored_path(path: Path) -> bytes:
    """Return the absolute path in the bytes of the file system."""
    return os.fsencode(os.path.abspath(path))
