"""Indexes of format 2, which kept vectors in the database: their vectors are carried over without encoding."""

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.config import from_dict
from percept.core.errors import PerceptError
from percept.core.io import locked
from percept.core.report import notice
from percept.search.contracts import Stamp
from percept.search.store.database import FILE, connect, damaged, explained, has_store, transaction, version_of
from percept.search.store.records import NewContent, Space
from percept.search.store.tables import write_tables
from percept.search.store.writes import add_contents

OLD = 2
LOCK = ".migrate.lock"
AT_ONCE = 4096
"""Vectors that are carried over together."""


def migrate_old(folder: Path) -> None:
    """Replace an index of format 2 by one of the current format; the old file is kept until the new one is complete.

    Raises:
        PerceptError: it is damaged, its folder cannot be written, or another process is doing the same.
    """
    if not has_store(folder) or version_of(folder) != OLD:
        return
    message = f"the index {folder} is brought to the current format by another process. Try again in a minute."
    with explained(folder), locked(folder / LOCK, message):
        if version_of(folder) == OLD:
            notice(f"the index {folder} is brought to the current format; nothing is encoded again")
            _migrate(folder)
    (folder / LOCK).unlink(missing_ok=True)


def _migrate(folder: Path) -> None:
    new = folder / f".{FILE}.{os.getpid()}.part"
    old = connect(folder)
    try:
        old.execute("BEGIN IMMEDIATE")  # no older percept writes meanwhile
        stamp = _stamp(old, folder)
        new.unlink(missing_ok=True)
        write_tables(new, stamp)
        target = sqlite3.connect(new, isolation_level=None)
        try:
            with transaction(target):
                _carry_over(old, target, folder, stamp)
        finally:
            target.close()
        old.execute("ROLLBACK")
    finally:
        old.close()
    os.replace(new, folder / FILE)


def _stamp(old: sqlite3.Connection, folder: Path) -> Stamp:
    try:
        return from_dict(Stamp, json.loads(old.execute("SELECT json FROM stamp").fetchone()[0]))
    except (ValueError, TypeError, PerceptError):
        raise damaged(folder, "it does not say which model made it") from None


def _carry_over(old: sqlite3.Connection, target: sqlite3.Connection, folder: Path, stamp: Stamp) -> None:
    space = Space(id=1, stamp=stamp, current=True)
    for contents in _contents(old, stamp.dim):
        add_contents(target, folder, space, contents)
    files = old.execute("SELECT path, hash, bytes, modified, added FROM file WHERE typeof(path) = 'blob' ORDER BY path")
    target.executemany(
        "INSERT INTO file SELECT ?1, (SELECT id FROM content WHERE hash = ?2), ?3, ?4, ?5", files
    )  # a file without an intact vector is read again


def _contents(old: sqlite3.Connection, dim: int) -> Iterator[list[NewContent]]:
    rows = old.execute("SELECT hash, width, height, vector, checksum FROM content ORDER BY id")
    while part := rows.fetchmany(AT_ONCE):
        yield [_content(row) for row in part if _is_intact(row, dim)]


def _content(row: tuple[Any, ...]) -> NewContent:
    hash_, width, height, vector, _ = row
    return NewContent(
        hash=hash_, kind="image", width=width, height=height, vectors=np.frombuffer(vector, "<f4").reshape(1, -1)
    )


def _is_intact(row: tuple[Any, ...], dim: int) -> bool:
    """True if a row of format 2 matches its checksum."""
    hash_, width, height, vector, stored = row
    whole = isinstance(vector, bytes) and len(vector) == 4 * dim
    return whole and zlib.crc32(vector, zlib.crc32(f"{hash_} {width} {height}".encode())) == stored
