"""The SQLite database of an index: connections, transactions, and errors as PerceptError."""

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from urllib.parse import quote

from percept.core.errors import PerceptError

FILE = "index.sqlite"
APPLICATION = 0x50455243
"""Application id in the header of the database, `PERC` in ASCII."""
VERSION = 3
"""Version of the tables; raise it when they change."""
PATIENCE = 60.0
"""Seconds that a writer waits for another one."""
DAMAGE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Result codes of SQLite for a damaged database; all other errors may be temporary."""
UNWRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
"""Result codes of SQLite where it cannot make the files that several processes share."""


class Database:
    """An open database, usable from any thread: one connection reads, one writes; a reader does not wait for a writer.

    Raises:
        PerceptError: it does not exist, is empty, not an index, damaged, or of a different version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read_lock, self._write_lock = RLock(), RLock()
        self._reader = connect(folder)
        self._writer: sqlite3.Connection | None = None
        self._closed = False
        try:
            with explained(folder):
                check_version(self._reader, folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close both connections."""
        self._closed = True
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to one thread at a time; all queries of the block see the same state."""
        with self._read_lock, explained(self.folder):
            nested = self._reader.in_transaction
            if not nested:
                self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                if not nested and self._reader.in_transaction:
                    self._reader.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction that no other process writes beside, and raise the version."""
        with self._write_lock, explained(self.folder):
            if self._closed:
                raise sqlite3.ProgrammingError("closed")
            if self._writer is None:
                self._writer = connect(self.folder)
            with transaction(self._writer) as connection:
                yield connection
                connection.execute("UPDATE version SET number = number + 1")

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection that writes, outside a transaction: for statements that begin their own."""
        with self._write_lock, explained(self.folder):
            if self._writer is None:
                self._writer = connect(self.folder)
            yield self._writer


def has_store(folder: Path) -> bool:
    """True if the folder contains a database; an empty file, as after a power failure, does not count."""
    file = folder / FILE
    return file.exists() and file.stat().st_size > 0


def connect(folder: Path) -> sqlite3.Connection:
    """Connect to the database in `folder`, for reading only where the folder cannot be written.

    Raises:
        PerceptError: it does not exist, is empty, not an index, or damaged.
    """
    file = folder / FILE
    command = f"percept index IMAGES --index {shlex.quote(str(folder))}"
    if not file.is_file():
        problem = "is not an index" if folder.exists() else "does not exist"
        raise PerceptError(f"the folder {folder} {problem}; make one with: {command}")
    if not has_store(folder):
        raise PerceptError(f"the index {folder} is empty (0 bytes), it was never written; make it with: {command}")
    with explained(folder):
        try:
            return _connected(file)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in UNWRITABLE or _has_unread_log(file):
                raise
        return _connected(f"file:{quote(os.fsencode(os.path.abspath(file)))}?immutable=1")


def _has_unread_log(file: Path) -> bool:
    """True if an interrupted process left transactions that are not in the database yet."""
    log = file.with_name(f"{FILE}-wal")
    return log.exists() and log.stat().st_size > 0


def _connected(file: Path | str) -> sqlite3.Connection:
    # isolation_level=None disables implicit transactions.
    connection = sqlite3.connect(
        file, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=isinstance(file, str)
    )
    try:
        connection.text_factory = _decoded
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power failure may lose the last batches, and no more
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _decoded(data: bytes) -> str:
    """Decode text without errors."""
    return data.decode(errors="replace")


def version_of(folder: Path) -> int:
    """Return the version of the tables of the database in a folder.

    Raises:
        PerceptError: there is no index, or the database is of another program.
    """
    connection = connect(folder)
    try:
        with explained(folder):
            _check_application(connection, folder)
            return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


def check_version(connection: sqlite3.Connection, folder: Path) -> None:
    """Refuse a database of another program or of a different version.

    Raises:
        PerceptError: it is one of these.
    """
    _check_application(connection, folder)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise PerceptError(
            f"the index {folder} has format {version}, and this percept reads format {VERSION}. "
            "Delete the folder and index again, or use the percept that made it."
        )


def _check_application(connection: sqlite3.Connection, folder: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
        raise PerceptError(f"{folder / FILE} is a database of another program. Give a different folder.")


def damaged(folder: Path, reason: str) -> PerceptError:
    """Return the error for a damaged database."""
    return PerceptError(f"the index {folder} is damaged ({reason}). Delete the folder and index again.")


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Convert errors of SQLite and of the file system to a PerceptError that names the index."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise
        raise PerceptError(f"this index of {folder} is closed. Open it again.") from None
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
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite may have rolled back by itself, for example because the disk is full
            connection.execute("ROLLBACK")
        raise


def stored_path(path: Path | str) -> bytes:
    """Return the absolute path in the bytes of the file system."""
    return os.fsencode(os.path.abspath(path))
